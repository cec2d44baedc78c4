"""The paho driver under the contract, over TCP, TLS and WebSocket, in MQTT 3.1.1 and 5."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from switchgear import TLS
from switchgear.drivers.paho import PahoDriver
from switchgear.testing.driver_contract import HOST, DriverContract
from switchgear.testing.driver_features import compare
from switchgear_certs import Authority

if TYPE_CHECKING:
    from switchgear.drivers.base import Connection, Driver, DriverFeatures, DriverSettings

SEEN = Path(__file__).parents[2] / "docs" / "reference" / "drivers.json"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, TLS]:
    """A server with a certificate, and a client that trusts it."""
    authority = Authority.create()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.server(HOST).configure(server)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.ca_pem)
    return server, TLS(ca_file=path)


class Paho(DriverContract):
    """What all of them share."""

    def make_driver(self, settings: DriverSettings) -> Driver:
        """Part of `DriverContract`."""
        return PahoDriver(settings)

    def advance_packet_ids(self, driver: Driver, connection: Connection, to: int) -> bool:
        """Part of `DriverContract`."""
        assert isinstance(driver, PahoDriver)
        driver._session._last = to
        return True

    def saw(self, name: str, features: DriverFeatures) -> None:
        """Part of `DriverContract`: the reference shows what was seen."""
        compare(SEEN, name, features)

    @pytest.fixture(autouse=True)
    def _trust(self, certificates: tuple[ssl.SSLContext, TLS]) -> None:
        """Have the server show its certificate, and the client trust it."""
        self.server_tls, self.client_tls = certificates


class TestTCP3(Paho):
    """MQTT 3.1.1 over TCP."""


class TestTCP5(Paho):
    """MQTT 5 over TCP."""

    protocol = "5"


class TestTLS3(Paho):
    """MQTT 3.1.1 over TLS."""

    scheme = "mqtts"


class TestTLS5(Paho):
    """MQTT 5 over TLS."""

    scheme, protocol = "mqtts", "5"


class TestWebSocket3(Paho):
    """MQTT 3.1.1 over WebSocket and TLS."""

    scheme = "wss"


class TestWebSocket5(Paho):
    """MQTT 5 over WebSocket."""

    scheme, protocol = "ws", "5"
