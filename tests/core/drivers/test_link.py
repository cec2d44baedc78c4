from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from switchgear import TLS
from switchgear.cause import Cause
from switchgear.drivers.base import AttemptFailed, DriverSettings
from switchgear.drivers.link import open_link
from switchgear.endpoint import parse_uri
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a function of the user's waits for; opened in the end."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_key_that_does_not_come(gate: threading.Event) -> None:
    """A function that hangs where it should give the key is not taken for an MQTT library that hangs."""
    mine = Authority.create().client("press-7")

    def ask() -> bytes:
        gate.wait()
        return mine.key_pem

    tls = TLS(cert_pem=mine.certificate_pem, key_pem=ask)
    settings = DriverSettings(client_id="c", protocol="5", keepalive=60, connect_timeout=0.01, tls=tls)
    with pytest.raises(AttemptFailed, match=r"certificates and key could not be read in 0\.01 s") as caught:
        await open_link(parse_uri("mqtts://localhost:1"), settings)
    assert caught.value.failure.cause is Cause.CREDENTIALS_UNAVAILABLE
