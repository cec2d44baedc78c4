from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from awscrt import exceptions  # type: ignore[import-untyped]  # AWS's SDK has no types
from switchgear.cause import Cause
from switchgear.drivers.base import AttemptFailed
from switchgear.testing.broker import Broker
from switchgear_awscrt.causes import TABLE, failure_of

# What was measured of the SDK (facts/aws.md, C.4), code by code; the rest of aws-c-io and aws-c-mqtt by their headers.
EXPECTED = {
    46: Cause.CONNECTION_LOST,
    1029: Cause.TLS_FAILED,
    1030: Cause.TLS_FAILED,
    1031: Cause.TLS_FAILED,
    1032: Cause.TLS_FAILED,
    1033: Cause.CREDENTIALS_UNAVAILABLE,
    1047: Cause.PORT_REFUSED,
    1048: Cause.CONNECT_TIMEOUT,
    1049: Cause.UNREACHABLE,
    1050: Cause.UNREACHABLE,
    1051: Cause.CLOSED_BY_BROKER,
    1052: Cause.CONNECTION_LOST,
    1057: Cause.CONNECTION_LOST,
    1058: Cause.NAME_NOT_RESOLVED,
    1059: Cause.NAME_NOT_RESOLVED,
    1060: Cause.NAME_NOT_RESOLVED,
    1061: Cause.NAME_NOT_RESOLVED,
    1067: Cause.TLS_TIMEOUT,
    1068: Cause.TLS_FAILED,
    1173: Cause.CREDENTIALS_UNAVAILABLE,
    1178: Cause.TLS_FAILED,
    1181: Cause.CERTIFICATE_INVALID,
    1182: Cause.CERTIFICATE_INVALID,
    1183: Cause.CERTIFICATE_EXPIRED,
    1184: Cause.CERTIFICATE_EXPIRED,
    1185: Cause.CERTIFICATE_INVALID,
    1186: Cause.CLIENT_CERTIFICATE_REFUSED,
    1187: Cause.CLIENT_CERTIFICATE_REFUSED,
    1188: Cause.CLIENT_CERTIFICATE_REFUSED,
    1189: Cause.CLIENT_CERTIFICATE_REFUSED,
    1191: Cause.CLOSED_BY_BROKER,
    1192: Cause.CONNECTION_LOST,
    1193: Cause.CERTIFICATE_INVALID,
    1194: Cause.CERTIFICATE_NAME,
    1195: Cause.NAME_NOT_RESOLVED,
    2058: Cause.CLOSED_BY_BROKER,
    2060: Cause.WEBSOCKET_REFUSED,
    2065: Cause.WEBSOCKET_REFUSED,
    2066: Cause.CLOSED_BY_BROKER,
    2070: Cause.CLOSED_BY_BROKER,
    2071: Cause.UNREACHABLE,
    2074: Cause.WEBSOCKET_REFUSED,
    2084: Cause.WEBSOCKET_REFUSED,
    2089: Cause.PROTOCOL_ERROR,
    2092: Cause.WEBSOCKET_REFUSED,
    5120: Cause.PROTOCOL_ERROR,
    5122: Cause.PROTOCOL_ERROR,
    5127: Cause.PROTOCOL_ERROR,
    5129: Cause.KEEPALIVE_TIMEOUT,
    5130: Cause.PROTOCOL_ERROR,
    5134: Cause.CLOSED_BY_BROKER,
    5149: Cause.PROTOCOL_ERROR,
    5150: Cause.CLOSED_BY_BROKER,
    5151: Cause.CONNACK_TIMEOUT,
    5152: Cause.KEEPALIVE_TIMEOUT,
    5153: Cause.REQUESTED,
    5154: Cause.CLOSED_BY_BROKER,
    5155: Cause.REQUESTED,
    5156: Cause.REQUESTED,
    5159: Cause.PROTOCOL_ERROR,
    6146: Cause.CREDENTIALS_UNAVAILABLE,
    6153: Cause.CREDENTIALS_UNAVAILABLE,
}


@pytest.mark.parametrize(("code", "cause"), EXPECTED.items())
def test_code(code: int, cause: Cause) -> None:
    """Each code of the SDK is the cause that was measured for it, and shows its name."""
    error = exceptions.from_code(code)
    failure = failure_of(error)
    assert (failure.cause, failure.code) == (cause, None)
    assert error.name in failure.detail


def test_every_row_is_a_code_of_the_sdk() -> None:
    """The table names no code that the SDK does not have, and none that the test above leaves out."""
    names = {exceptions.from_code(code).name for code in EXPECTED}
    assert set(TABLE) <= names


def test_unknown_code() -> None:
    """A code that is in no table is a failed driver, which shows its name and its words."""
    failure = failure_of(exceptions.from_code(5157))
    assert failure.cause is Cause.DRIVER_FAILED
    assert re.search(r"AWS_ERROR_MQTT5_ENCODE_SIZE_UNSUPPORTED_PACKET_TYPE: \w+", failure.detail)


def test_foreign_errors() -> None:
    """What the SDK says with Python's own exceptions is judged as everywhere else."""
    assert failure_of(exceptions.from_code(1044)).cause is Cause.CONNECTION_LOST  # a broken pipe
    assert failure_of(exceptions.from_code(34)).cause is Cause.DRIVER_FAILED


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (133, Cause.CLIENT_ID_REFUSED),
        (135, Cause.NOT_AUTHORIZED),
        (139, Cause.SHUTTING_DOWN),
        (142, Cause.SESSION_TAKEN_OVER),
        (151, Cause.QUOTA_EXCEEDED),
        (152, Cause.ADMINISTRATIVE),
    ],
)
def test_reason_codes(code: int, cause: Cause) -> None:
    """The reason code of a CONNACK or DISCONNECT says more than the SDK's, and its words and reference are kept."""
    packet = SimpleNamespace(reason_code=code, reason_string="why", server_reference="other:8883")
    failure = failure_of(exceptions.from_code(5154), packet)
    assert (failure.cause, failure.code) == (cause, code)
    assert (failure.detail, failure.server_reference) == ("why", "other:8883")


@pytest.mark.parametrize("reason", [None, "why"])
def test_reason_code_that_the_sdk_does_not_know(reason: str | None) -> None:
    """A packet whose reason the SDK does not know is the broker's answer, with its words: neither silence nor a reset."""
    packet = SimpleNamespace(reason_code=None, reason_string=reason, server_reference=None)
    failure = failure_of(exceptions.from_code(5154), packet)
    assert (failure.cause, failure.code) == (Cause.CLOSED_BY_BROKER, 0x80)
    assert failure.detail.startswith("AWS's SDK does not know the reason code that it gives")
    assert failure.detail.endswith("says 'why'") is (reason is not None)


async def test_refusal_that_the_sdk_does_not_know(crt: Any) -> None:
    """A CONNACK that refuses with a reason of DISCONNECT's is not taken for a connection that was closed without one."""
    async with Broker() as broker:
        broker.faults.refuse(0x8B)
        with pytest.raises(AttemptFailed) as caught:
            await crt.connect(crt.driver(), crt.endpoint("mqtt", await broker.start()))
    assert "does not know the reason code" in caught.value.failure.detail
