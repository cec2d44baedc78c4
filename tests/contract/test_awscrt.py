"""The awscrt driver under the contract, over TCP, TLS and WebSocket, in MQTT 5."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from switchgear import TLS
from switchgear.testing.driver_contract import HOST, DriverContract
from switchgear.testing.driver_features import compare
from switchgear_awscrt.driver import CrtDriver
from switchgear_awscrt.options import Options
from switchgear_certs import Authority

if TYPE_CHECKING:
    from switchgear.drivers.base import Driver, DriverFeatures, DriverSettings

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


class Crt(DriverContract):
    """What all of them share."""

    protocol = "5"

    def make_driver(self, settings: DriverSettings) -> Driver:
        """Part of `DriverContract`."""
        return CrtDriver(settings, Options())

    def saw(self, name: str, features: DriverFeatures) -> None:
        """Part of `DriverContract`: the reference shows what was seen."""
        compare(SEEN, name, features)

    @pytest.fixture(autouse=True)
    def _no_doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No probe of a handshake that takes long on a busy machine: the puppets would take it for the connection."""
        monkeypatch.setattr("switchgear_awscrt.driver.DOUBT", 60.0)

    @pytest.fixture(autouse=True)
    def _trust(self, certificates: tuple[ssl.SSLContext, TLS]) -> None:
        """Have the server show its certificate, and the client trust it."""
        self.server_tls, self.client_tls = certificates


class TestTCP(Crt):
    """Over TCP."""


class TestTLS(Crt):
    """Over TLS."""

    scheme = "mqtts"


class TestWebSocket(Crt):
    """Over WebSocket."""

    scheme = "ws"


class TestSecureWebSocket(Crt):
    """Over WebSocket and TLS."""

    scheme = "wss"
