"""What several tests of the driver need: certificates, and a way to connect it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen
from switchgear import TLS
from switchgear.drivers.base import ConnectRequest, DeafListener, DriverSettings
from switchgear.endpoint import Endpoint, parse_uri
from switchgear_awscrt.driver import CrtDriver
from switchgear_awscrt.options import Options
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from switchgear.drivers.base import Listener
    from switchgear_awscrt.connection import CrtConnection


@frozen
class Party:
    """A CA, a server context with a certificate of its for ``localhost``, and the file of the CA."""

    authority: Authority
    ca_file: Path

    @property
    def tls(self) -> TLS:
        """Settings that trust it."""
        return TLS(ca_file=self.ca_file)

    def server(self, name: str = "localhost") -> ssl.SSLContext:
        """A server with a certificate for *name*."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.server(name).configure(context)
        return context


@pytest.fixture(scope="session")
def party(tmp_path_factory: pytest.TempPathFactory) -> Party:
    """One party, made once."""
    authority = Authority.create()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.ca_pem)
    return Party(authority, path)


@frozen
class Crt:
    """Makes drivers and connections."""

    def settings(self, **changes: Any) -> DriverSettings:
        """Settings of a transport, with *changes*."""
        values = {"client_id": "c", "protocol": "5", "keepalive": 60, "connect_timeout": 5.0}
        return DriverSettings(**{**values, **changes})

    def driver(self, options: Options | None = None, **changes: Any) -> CrtDriver:
        """A driver."""
        return CrtDriver(self.settings(**changes), options or Options())

    def endpoint(self, scheme: str, port: int, host: str = "localhost") -> Endpoint:
        """Where a server of these tests is."""
        return parse_uri(f"{scheme}://{host}:{port}?address=127.0.0.1")

    async def connect(
        self, driver: CrtDriver, endpoint: Endpoint, listener: Listener | None = None, **request: Any
    ) -> CrtConnection:
        """Dial and CONNECT."""
        link = await driver.dial(endpoint)
        values = {"clean_start": True, "keeps_session": False, "timeout": 5.0, **request}
        asked = ConnectRequest(endpoint=endpoint, **values)
        return await driver.connect(link, asked, listener or DeafListener())


@pytest.fixture
def crt() -> Crt:
    """As above."""
    return Crt()


@pytest.fixture
def count_descriptors() -> Callable[[], int]:
    """How many descriptors this process has open; skipped where the system does not say."""
    from pathlib import Path as Folder

    folder = Folder("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this system does not list descriptors in /proc")
    return lambda: sum(1 for _ in folder.iterdir())
