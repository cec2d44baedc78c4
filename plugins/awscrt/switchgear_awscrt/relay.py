"""The way between the SDK and a dialled connection: a socket that only this process can reach, and a pump. Does I/O.

The SDK cannot be handed a connection, nor told to dial an address and check a name (measured: a host that is an
address is checked as one). So we dial, and the SDK connects to us: over TLS it asks, as it would ask an HTTP proxy, to
be connected to the name, and checks that name; without TLS there is nothing to check. Nothing of a look-up is left to
the SDK, whose cache would lead us back to where we came from for up to 30 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.drivers.link_base import ByteLink

HAS_UNIX: Final = hasattr(socket, "AF_UNIX")
"""Whether the system has Unix sockets."""

LONGEST_REQUEST: Final = 8192
"""Bytes of the SDK's request to be connected; its own is about 200."""

READ: Final = 65536
"""Bytes read of the SDK at once; it writes 16 KB at most (aws-c-io)."""

_shared: Final = threading.local()

_ALERT: Final = 21
_APPLICATION_DATA: Final = 23
_RECORD_HEAD: Final = 5


class Door:
    """Where the SDK connects to: one listening socket for one connection. Use it in a ``with`` block.

    A Unix socket in a folder that only this user may enter; where the system has none, a port of the loopback address.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        if HAS_UNIX:
            self._folder = Path(tempfile.mkdtemp(prefix="switchgear-"))
            self._socket = socket.socket(socket.AF_UNIX)
        else:
            self._socket = socket.socket(socket.AF_INET)
        try:
            self._socket.setblocking(False)
            self._socket.bind(("127.0.0.1", 0) if self._folder is None else str(self._folder / "sdk"))
            self._socket.listen(1)
        except BaseException:
            self.close()
            raise

    @property
    def is_local(self) -> bool:
        """Whether it is a Unix socket."""
        return self._folder is not None

    @property
    def host(self) -> str:
        """What the SDK takes for the host: a path, or an address."""
        return "127.0.0.1" if self._folder is None else str(self._folder / "sdk")

    @property
    def port(self) -> int:
        """The port; a Unix socket has none, and the SDK insists on one."""
        return 1 if self._folder is not None else int(self._socket.getsockname()[1])

    async def accept(self) -> socket.socket:
        """The connection of this process; others are turned away."""
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._socket)
            if _is_ours(sock):
                return sock
            sock.close()

    def close(self) -> None:
        """Leave nothing behind."""
        self._socket.close()
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / "sdk").unlink()
            with contextlib.suppress(FileNotFoundError):
                self._folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_ours(sock: socket.socket) -> bool:
    """Whether this process is at the other end, where the system can say so (Linux)."""
    if sock.family != getattr(socket, "AF_UNIX", None) or not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0]) == os.getpid()


class Relay(asyncio.BufferedProtocol):
    """Carries bytes between the SDK and *link*: the SDK's side has this protocol, the broker's side has it as its `Sink`.

    Attributes:
        secured: Done when the SDK has sent its first bytes under the keys of TLS; at once without TLS.
        holding: Done when something is held: with *holds*, what the SDK sends from `secured` on, up to `release`. That is
            CONNECT, over TLS 1.3 behind the end of the handshake.
        has_objected: Whether the SDK has broken off the handshake with an alert; the broker then closes the connection.
        is_over: Whether the broker's side has ended.
        error: How it ended; None: in order.
        heard_at: When bytes last came from the broker, on the loop's clock.
        waiting: Bytes that were handed to the SDK and have not come out of it; a little more than there are, at times.
    """

    def __init__(self, link: ByteLink, *, target: str | None, is_tls: bool, holds: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._target = target
        self._request = b""
        self._local: asyncio.Transport | None = None
        self._local_ended: asyncio.Future[None] | None = None
        self._record_left = 0
        self._record_head = b""
        self.secured: asyncio.Future[None] = self._loop.create_future()
        if not is_tls:
            self.secured.set_result(None)
        self._held: bytes | None = b"" if holds else None
        self.holding: asyncio.Future[None] = self._loop.create_future()
        self.has_objected = False
        self.is_over = False
        self.error: BaseException | None = None
        self.heard_at = self._loop.time()
        self.has_heard = False
        self.waiting = 0
        self.on_room: Callable[[], None] = _nothing
        self.on_end: Callable[[], None] = _nothing

    @property
    def is_writable(self) -> bool:
        """Whether the connection takes more."""
        return self._link.is_writable

    def progress(self) -> tuple[int, int]:
        """As `switchgear.drivers.link_base.ByteLink.progress`, of the way to the broker."""
        return self._link.progress()

    async def open(self, door: Door) -> None:
        """Let the SDK in, and begin to carry."""
        sock = await door.accept()
        try:
            await self._loop.connect_accepted_socket(lambda: self, sock)
        except BaseException:
            sock.close()
            raise
        if self._target is None:
            self._link.attach(self)

    def release(self) -> None:
        """Let through what is held, and all that comes."""
        held, self._held = self._held, None
        if held:
            self._link.write(held)
            self.link_writable()

    def abort(self) -> None:
        """Drop both sides at once."""
        self._link.abort()
        if self._local is not None:
            self._local.abort()

    async def flushed(self) -> None:
        """Once the SDK has ended its side, and all that it sent has come through: close the broker's side in order."""
        if self._local is not None:
            self._local_ended = self._loop.create_future()
            await self._local_ended
        await self._link.close()

    # The SDK's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.BufferedProtocol`."""
        self._local = cast("asyncio.Transport", transport)  # uvloop's looks like one, and is none

    def get_buffer(self, _sizehint: int) -> bytearray:
        """Part of `asyncio.BufferedProtocol`: one buffer for all relays of a loop, for it is emptied at once."""
        if not hasattr(_shared, "buffer"):
            _shared.buffer = bytearray(READ)
        buffer: bytearray = _shared.buffer
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Part of `asyncio.BufferedProtocol`: bytes for the broker."""
        self.sdk_sent(bytes(memoryview(_shared.buffer)[:nbytes]))

    def sdk_sent(self, data: bytes) -> None:
        """Bytes for the broker."""
        if self._target is not None:
            self._ask(data)
            return
        if not self.secured.done():
            self._follow(data)
        if self._held is not None and self.secured.done():
            self._held += data
            if not self.holding.done():
                self.holding.set_result(None)
            if self._local is not None:
                self._local.pause_reading()
            return
        self._link.write(data)
        if self.waiting:
            self.waiting = max(0, self.waiting - len(data))
        if self._link.is_writable:
            self.on_room()
        elif self._local is not None:
            self._local.pause_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Part of `asyncio.BufferedProtocol`: the SDK has closed its side."""
        self._local = None
        if self._local_ended is not None and not self._local_ended.done():
            self._local_ended.set_result(None)
        self.on_end()

    def _ask(self, data: bytes) -> None:
        """The SDK's request to be connected (RFC 9110, 9.3.6): only the dialled name is granted, and it is there."""
        self._request += data
        head, end, rest = self._request.partition(b"\r\n\r\n")
        if not end and len(self._request) <= LONGEST_REQUEST:
            return
        assert self._local is not None
        wanted = f"CONNECT {self._target} HTTP/1.1"
        if head.partition(b"\r\n")[0].decode("latin-1") != wanted:
            self._local.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            self._local.close()
            return
        self._target, self._request = None, b""
        self._local.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self._link.attach(self)
        if rest:
            self.sdk_sent(rest)

    def _follow(self, data: bytes) -> None:
        """Look at the heads of the SDK's TLS records until it sends data (RFC 8446, 5.1).

        Over TLS 1.3 the end of the handshake looks like data too: it is sent once the broker's certificate was
        accepted, which is what counts here.
        """
        position = 0
        while position < len(data):
            skipped = min(self._record_left, len(data) - position)
            self._record_left -= skipped
            position += skipped
            if self._record_left or position >= len(data):
                return
            wanted = _RECORD_HEAD - len(self._record_head)
            self._record_head += data[position : position + wanted]
            position += wanted
            if len(self._record_head) < _RECORD_HEAD:
                return
            if self._record_head[0] == _APPLICATION_DATA:
                self.secured.set_result(None)
                return
            self.has_objected |= self._record_head[0] == _ALERT
            self._record_left = int.from_bytes(self._record_head[3:5], "big")
            self._record_head = b""

    # The broker's side: `switchgear.drivers.link_base.Sink`.

    def data_received(self, data: bytes) -> None:
        """Bytes for the SDK."""
        self.heard_at = self._loop.time()
        self.has_heard = True
        if self._local is not None:
            self._local.write(data)

    def link_lost(self, error: BaseException | None) -> None:
        """The broker's side is over: the SDK reads what came before, then the end."""
        self.is_over = True
        self.error = error
        if self._local is not None:
            self._local.close()
        self.on_end()

    def link_writable(self) -> None:
        """The write buffer has room again."""
        if self._local is not None and not self._local.is_closing():
            self._local.resume_reading()
        self.on_room()


def _nothing() -> None:
    """Nobody wants to know."""
