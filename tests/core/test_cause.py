from __future__ import annotations

import errno
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear import Cause, Failure, Policy
from switchgear.cause import TABLE, from_exception, from_reason_code, from_return_code

FATAL = {
    "CERTIFICATE_INVALID",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_NAME",
    "CLIENT_CERTIFICATE_REFUSED",
    "PROTOCOL_VERSION",
    "CLIENT_ID_REFUSED",
    "BAD_CREDENTIALS",
    "NOT_AUTHORIZED",
    "BANNED",
    "WILL_REFUSED",
}
ELSEWHERE = {
    "BROKER_UNAVAILABLE",
    "BROKER_BUSY",
    "QUOTA_EXCEEDED",
    "CONNECTION_RATE",
    "USE_ANOTHER_SERVER",
    "SERVER_MOVED",
    "SHUTTING_DOWN",
}


def test_table() -> None:
    """Every cause has a row with a policy and advice, and no row is of anything else."""
    assert set(Cause) == set(TABLE)
    assert all(advice for _, advice in TABLE.values())
    assert len({cause.value for cause in Cause}) == len(Cause)
    assert {c.name for c, (policy, _) in TABLE.items() if policy is Policy.FATAL} == FATAL
    assert {c.name for c, (policy, _) in TABLE.items() if policy is Policy.ELSEWHERE} == ELSEWHERE


@pytest.mark.parametrize("cause", Cause)
def test_failure(cause: Cause) -> None:
    """A failure says cause, code, detail and advice in one line, each once."""
    failure = Failure(cause, "what was said", 0x87)
    assert str(failure) == f"{cause.value} (reason 0x87): what was said; {TABLE[cause][1]}"
    assert str(Failure(cause)) == f"{cause.value}; {TABLE[cause][1]}"
    assert (failure.policy, failure.advice) == TABLE[cause]


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (1, Cause.PROTOCOL_VERSION),
        (2, Cause.CLIENT_ID_REFUSED),
        (3, Cause.BROKER_UNAVAILABLE),
        (4, Cause.BAD_CREDENTIALS),
        (5, Cause.NOT_AUTHORIZED),
        (6, Cause.PROTOCOL_ERROR),
        (255, Cause.PROTOCOL_ERROR),
    ],
)
def test_return_codes(code: int, cause: Cause) -> None:
    """Each return code of MQTT 3.1.1 has its cause; reserved ones are protocol errors."""
    assert from_return_code(code, "text") == Failure(cause, "text", code)


# MQTT 5, 3.2.2.2, table 3-1, and 3.14.2.1, table 3-10.
REASONS = {
    0x80: Cause.CLOSED_BY_BROKER,
    0x81: Cause.PROTOCOL_ERROR,
    0x82: Cause.PROTOCOL_ERROR,
    0x83: Cause.CLOSED_BY_BROKER,
    0x84: Cause.PROTOCOL_VERSION,
    0x85: Cause.CLIENT_ID_REFUSED,
    0x86: Cause.BAD_CREDENTIALS,
    0x87: Cause.NOT_AUTHORIZED,
    0x88: Cause.BROKER_UNAVAILABLE,
    0x89: Cause.BROKER_BUSY,
    0x8A: Cause.BANNED,
    0x8B: Cause.SHUTTING_DOWN,
    0x8C: Cause.BAD_CREDENTIALS,
    0x8D: Cause.KEEPALIVE_TIMEOUT,
    0x8E: Cause.SESSION_TAKEN_OVER,
    0x8F: Cause.PROTOCOL_ERROR,
    0x90: Cause.PROTOCOL_ERROR,
    0x93: Cause.PROTOCOL_ERROR,
    0x94: Cause.PROTOCOL_ERROR,
    0x95: Cause.PACKET_TOO_LARGE,
    0x96: Cause.MESSAGE_RATE,
    0x97: Cause.QUOTA_EXCEEDED,
    0x98: Cause.ADMINISTRATIVE,
    0x99: Cause.PROTOCOL_ERROR,
    0x9A: Cause.WILL_REFUSED,
    0x9B: Cause.WILL_REFUSED,
    0x9C: Cause.USE_ANOTHER_SERVER,
    0x9D: Cause.SERVER_MOVED,
    0x9E: Cause.PROTOCOL_ERROR,
    0x9F: Cause.CONNECTION_RATE,
    0xA0: Cause.QUOTA_EXCEEDED,
    0xA1: Cause.PROTOCOL_ERROR,
    0xA2: Cause.PROTOCOL_ERROR,
}


@pytest.mark.parametrize("code", range(256))
def test_reason_codes(code: int) -> None:
    """Each reason code of CONNACK and DISCONNECT has its cause; those that MQTT does not define are protocol errors."""
    expected = Cause.CLOSED_BY_BROKER if code == 0 else REASONS.get(code, Cause.PROTOCOL_ERROR)
    failure = from_reason_code(code, "text", server_reference="other")
    assert failure == Failure(expected, "text", code, server_reference="other")


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "the reason"
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (certificate_error(10), Cause.CERTIFICATE_EXPIRED),
        (certificate_error(9), Cause.CERTIFICATE_EXPIRED),
        (certificate_error(62), Cause.CERTIFICATE_NAME),
        (certificate_error(64), Cause.CERTIFICATE_NAME),
        (certificate_error(18), Cause.CERTIFICATE_INVALID),
        (certificate_error(20), Cause.CERTIFICATE_INVALID),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca"), Cause.CLIENT_CERTIFICATE_REFUSED),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x"), Cause.CLIENT_CERTIFICATE_REFUSED),
        (ssl.SSLError(1, "[SSL: SSLV3_ALERT_BAD_CERTIFICATE] x"), Cause.CLIENT_CERTIFICATE_REFUSED),
        (ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] x"), Cause.CLIENT_CERTIFICATE_REFUSED),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), Cause.TLS_FAILED),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] x"), Cause.TLS_FAILED),
        (socket.gaierror(-2, "Name or service not known"), Cause.NAME_NOT_RESOLVED),
        (UnicodeError("label too long"), Cause.NAME_NOT_RESOLVED),
        (ConnectionRefusedError(111, "x"), Cause.PORT_REFUSED),
        (TimeoutError(), Cause.CONNECT_TIMEOUT),
        (OSError(errno.ENETUNREACH, "x"), Cause.UNREACHABLE),
        (OSError(errno.EHOSTUNREACH, "x"), Cause.UNREACHABLE),
        (ConnectionResetError(104, "x"), Cause.CONNECTION_LOST),
        (BrokenPipeError(32, "x"), Cause.CONNECTION_LOST),
        (OSError(errno.EMFILE, "x"), Cause.CONNECTION_LOST),
        (RuntimeError("x"), Cause.DRIVER_FAILED),
        (ValueError(), Cause.DRIVER_FAILED),
    ],
)
def test_exceptions(error: BaseException, cause: Cause) -> None:
    """Each kind of exception has its cause."""
    assert from_exception(error).cause is cause


def test_no_descriptor_is_left() -> None:
    """A process without descriptors is told so: the advice of a lost connection would send it to the network."""
    assert "ulimit -n" in str(from_exception(OSError(errno.EMFILE, "Too many open files")))


@given(st.integers(-1, 300), st.text())
def test_any_code(code: int, text: str) -> None:
    """No code and no text makes a failure that cannot be shown."""
    for failure in (from_return_code(code, text), from_reason_code(code, text), from_exception(OSError(code, text))):
        assert str(failure).endswith(failure.advice)
