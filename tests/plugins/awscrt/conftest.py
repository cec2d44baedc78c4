"""What several tests of the driver need: certificates, and a way to connect it."""

from __future__ import annotations

import asyncio
import contextlib
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
    from collections.abc import AsyncIterator, Callable
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
        values = {"client_id": "c", "protocol": "5", "keepalive": 60, "connect_timeout": 30.0}
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
        values = {"clean_start": True, "keeps_session": False, "timeout": 30.0, **request}
        asked = ConnectRequest(endpoint=endpoint, **values)
        return await driver.connect(link, asked, listener or DeafListener())


@pytest.fixture
def crt() -> Crt:
    """As above."""
    return Crt()


class ProxyServer:
    """An HTTP proxy that connects to the loopback address, whatever the name; *answer* refuses instead."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.port = 0
        self._ends: list[asyncio.Transport] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ProxyServer]:
        """It listens."""
        server = await asyncio.get_running_loop().create_server(lambda: _Client(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for end in self._ends:
                end.abort()
            await asyncio.sleep(0.01)  # asyncio closes sockets on later turns


class _End(asyncio.Protocol):
    """One side of a connection through the proxy."""

    other: asyncio.Transport | None = None

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.write(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


class _Client(_End):
    """The side of the client, which first says where it wants to go."""

    def __init__(self, server: ProxyServer) -> None:
        self._server = server
        self._head = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server._ends.append(transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)
            return
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._server.heads.append(self._head.decode())
            if self._server.answer is not None:
                self._transport.write(self._server.answer)
            else:
                self._task = asyncio.ensure_future(self._connect(int(self._head.split()[1].rpartition(b":")[2])))

    async def _connect(self, port: int) -> None:
        upstream = _End()
        upstream.other = self._transport
        self.other, _ = await asyncio.get_running_loop().create_connection(lambda: upstream, "127.0.0.1", port)
        self._server._ends.append(self.other)
        self._transport.write(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")


@pytest.fixture
def proxies() -> type[ProxyServer]:
    """As above; it cannot be imported from here."""
    return ProxyServer


@pytest.fixture
def count_descriptors() -> Callable[[], int]:
    """How many descriptors this process has open; skipped where the system does not say."""
    from pathlib import Path as Folder

    folder = Folder("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this system does not list descriptors in /proc")
    return lambda: sum(1 for _ in folder.iterdir())
