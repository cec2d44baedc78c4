"""Open TCP and TLS connections with asyncio: the address may be pinned, the name is what TLS checks. Does I/O.

Each step has the attempt's deadline; look-ups of one host are shared by all transports of the loop; several addresses
of one name are tried side by side, a quarter of a second apart (RFC 8305).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import frozen

from switchgear.cause import Cause, Failure, from_exception
from switchgear.drivers.base import AttemptFailed
from switchgear.drivers.link_base import LinkBase
from switchgear.drivers.tls_link import TlsLink
from switchgear.tls import TLS
from switchgear.workers import LOOKUPS, LOST_AFTER

if sys.platform.startswith("linux"):
    import fcntl
    import termios

if TYPE_CHECKING:
    import ssl

    from switchgear.drivers.base import DriverSettings
    from switchgear.endpoint import Endpoint

ADDRESS_DELAY: Final = 0.25
"""Seconds between the first tries of two addresses of one name. Source: RFC 8305, section 5."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class StreamLink(LinkBase, asyncio.Protocol):
    """A TCP connection, as asyncio sees it and as a `ByteLink`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_writable = True
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] | None = None
        self._socket: socket.socket | None = None
        self._quick: socket.socket | None = None  # the same, where TCP_QUICKACK exists (Linux)
        self._written = 0

    def write(self, data: bytes) -> None:
        """Part of `ByteLink`."""
        if self._transport is not None and not self._is_over:
            self._written += len(data)
            self._transport.write(data)

    def progress(self) -> tuple[int, int]:
        """Part of `ByteLink`. What lies in the kernel counts as on its way where the kernel tells (Linux)."""
        left = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._written, self._written - left - _unacknowledged(self._socket)

    def abort(self) -> None:
        """Part of `ByteLink`."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    def abandon(self) -> None:
        """Part of `ByteLink`."""
        self._sink = None
        if self._transport is not None:
            self._transport.close()

    async def close(self) -> None:
        """Part of `ByteLink`."""
        self._sink = None
        if self._transport is None or self._is_over:
            return
        self._closed = asyncio.get_running_loop().create_future()
        self._transport.close()
        await self._closed

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's looks like one, and is none
        self._socket = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_QUICKACK"):
            self._quick = self._socket

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        self._deliver(data)
        if self._quick is not None:
            # A broker without TCP_NODELAY (mosquitto's default) keeps its next small packet, say the last PUBACKs of a
            # burst, until we acknowledge this one, and the kernel would wait 40 ms with that. It forgets the option.
            self._quick.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        self._socket = self._quick = None
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._end(exc)

    def pause_writing(self) -> None:
        """Part of `asyncio.Protocol`."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """Part of `asyncio.Protocol`."""
        self.is_writable = True
        if self._sink is not None:
            self._sink.link_writable()


def _unacknowledged(sock: socket.socket | None) -> int:
    """Bytes that the kernel has of us and the peer's has not acknowledged; 0 where it does not tell."""
    if sock is None or not sys.platform.startswith("linux"):
        return 0
    left = bytearray(4)
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, left)  # tcp(7): SIOCOUTQ
    except OSError:
        return 0
    return int.from_bytes(left, sys.byteorder)


async def open_link(endpoint: Endpoint, settings: DriverSettings) -> StreamLink | TlsLink:
    """A TCP or TLS connection to *endpoint*.

    Raises:
        AttemptFailed: with what went wrong, and where: look-up, TCP, TLS, or our own certificate files.
    """
    timeout = endpoint.connect_timeout or settings.connect_timeout
    context = await _context(settings.tls, timeout) if endpoint.is_tls else None
    sock = await _connect(endpoint, timeout)
    _watch(sock, settings)
    _, stream = await asyncio.get_running_loop().create_connection(StreamLink, sock=sock)
    if context is None:
        return stream
    link = TlsLink(stream, context, endpoint.host)
    try:
        await link.secured(timeout, endpoint.authority)
    except BaseException:
        link.abort()
        raise
    return link


def _watch(sock: socket.socket, settings: DriverSettings) -> None:
    """Have the kernel end the connection when what was sent stays unacknowledged for as long as we wait for answers.

    Linux only (RFC 5482); elsewhere our own PINGREQ does it alone. It also finds the peer that a NAT has forgotten.
    """
    if settings.ack_timeout is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        seconds = settings.ack_timeout + settings.connect_timeout
        with contextlib.suppress(OSError):  # a socket of another family: then the ping is enough
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


async def _context(tls: TLS | None, timeout: float) -> ssl.SSLContext:
    settings = tls or TLS()
    try:
        async with asyncio.timeout(timeout):
            return await settings.workers.run(settings.context)
    except TimeoutError as error:  # a file on a network, or a function of the user's that gives the key
        detail = f"certificates and key could not be read in {timeout:g} s"
        raise AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, detail)) from error
    except Exception as error:
        raise AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, str(error))) from error


async def _connect(endpoint: Endpoint, timeout: float) -> socket.socket:
    try:
        async with asyncio.timeout(timeout):
            return await _first_of(await _lookup(endpoint.address or endpoint.host, endpoint.port))
    except TimeoutError as error:
        detail = f"no TCP connection to {endpoint.authority} in {timeout:g} s"
        raise AttemptFailed(Failure(Cause.CONNECT_TIMEOUT, detail)) from error
    except (OSError, UnicodeError) as error:
        raise AttemptFailed(from_exception(error)) from error


@frozen(eq=False)
class _Lookup:
    """A look-up under way, for all who ask at the same time on the same loop; lost after *patience* seconds."""

    task: asyncio.Future[Any]
    began: float
    patience: float


_lookups: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, int], _Lookup]]] = (
    weakref.WeakKeyDictionary()
)


async def _lookup(host: str, port: int) -> list[Address]:
    """The addresses of *host*; a look-up that runs already is joined, unless it is lost, and none is remembered."""
    with contextlib.suppress(OSError):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.inet_pton(family, host)
        return [(family, (host, port))]
    loop = asyncio.get_running_loop()
    running, now = _lookups.setdefault(loop, {}), loop.time()
    key = host, port
    lookup = running.get(key)
    if lookup is None or now - lookup.began > lookup.patience:
        if lookup is not None:
            LOOKUPS.grow()
        task = asyncio.ensure_future(LOOKUPS.run(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        lookup = running[key] = _Lookup(task, now, LOST_AFTER if lookup is None else 2 * lookup.patience)
        task.add_done_callback(functools.partial(_forget, running, key))
    found = await asyncio.shield(lookup.task)
    return [(family, address) for family, _, _, _, address in found]


def _forget(running: dict[tuple[str, int], _Lookup], key: tuple[str, int], task: asyncio.Future[Any]) -> None:
    lookup = running.get(key)
    if lookup is not None and lookup.task is task:  # else another was begun in its place
        del running[key]
    if not task.cancelled():
        task.exception()  # nobody may be there to hear it


async def _first_of(addresses: list[Address]) -> socket.socket:
    """The first connection that one of *addresses* accepts, each tried a little after the one before."""
    if len(addresses) == 1:
        return await _open(*addresses[0])
    pending: set[asyncio.Task[socket.socket]] = set()
    last_error: OSError | None = None
    waiting = list(addresses)
    try:
        while waiting or pending:
            if waiting:
                pending.add(asyncio.ensure_future(_open(*waiting.pop(0))))
            delay = ADDRESS_DELAY if waiting else None
            done, pending = await asyncio.wait(pending, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                last_error = error
    finally:
        for task in pending:
            task.add_done_callback(_close_late)
            task.cancel()
    raise last_error or OSError("the name has no address")


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _open(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # said, or asyncio sets no TCP_NODELAY
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
