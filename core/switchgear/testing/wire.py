"""A connection in memory: two asyncio transports, back to back, with latency, back-pressure, and rude ends.

Modelled on TCP: each direction holds what the other side has not taken; up to `CAPACITY` bytes count as the system's
buffers, what is beyond as asyncio's own, with its `pause_writing`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from attrs import define

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY: Final = 65536
"""Bytes on their way in one direction before the writer is paused; it is resumed at a quarter of it."""

_EOF: Final = object()
_RESET: Final = object()


class End(asyncio.Transport):
    """One end of a wire: the transport of one protocol."""

    def __init__(self, protocol: asyncio.Protocol, latency: float) -> None:
        super().__init__()
        self.latency = latency
        self.is_held = False
        self._protocol = protocol
        self._peer: End = self  # until it is joined
        self._loop = asyncio.get_running_loop()
        self._incoming: deque[tuple[float, bytes | object]] = deque()
        self._size = 0  # bytes in _incoming
        self._pump_timer: asyncio.Handle | None = None
        self._is_reading = True
        self._is_writer_paused = False
        self._has_sent_eof = False
        self._is_closing = False
        self._is_over = False

    def join(self, peer: End) -> None:
        """Be the other end of *peer*'s wire."""
        self._peer = peer

    @property
    def is_over(self) -> bool:
        """Whether the protocol was told that the connection is lost."""
        return self._is_over

    # What protocols call

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*; lost after the end."""
        if self._has_sent_eof and not self._is_closing:
            raise RuntimeError("write() after write_eof()")
        if self._is_closing or not data:
            return
        self._peer._arrive(bytes(data))
        if self._peer._size > CAPACITY and not self._is_writer_paused:
            self._is_writer_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        """Send all of them in one piece."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Yes, like TCP."""
        return True

    def write_eof(self) -> None:
        """Send no more, and go on reading."""
        if not self._has_sent_eof and not self._is_closing:
            self._has_sent_eof = True
            self._peer._arrive(_EOF)

    def close(self) -> None:
        """Flush, then end the connection in order."""
        if self._is_closing:
            return
        self.write_eof()
        self._is_closing = True
        self._forget_incoming()
        if not self._is_writer_paused:
            self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        """Reset the connection; what the other end has not taken is lost."""
        self._is_closing = True
        self._forget_incoming()
        if not self._is_over:
            self._peer._forget_incoming()
            self._peer._arrive(_RESET)
            self._loop.call_soon(self._end, None)

    def is_closing(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._is_closing

    def pause_reading(self) -> None:
        """Take nothing for now."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Take what has arrived."""
        self._is_reading = True
        self._schedule()

    def is_reading(self) -> bool:
        """Whether it takes what arrives."""
        return self._is_reading and not self._is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - there is nothing to know
        """Nothing: there is no socket."""
        return default

    def get_write_buffer_size(self) -> int:
        """Bytes that would be in asyncio's own buffer."""
        return max(0, self._peer._size - CAPACITY)

    # What the wire does

    def hold(self) -> None:
        """Let nothing arrive here."""
        self.is_held = True

    def release(self) -> None:
        """Let what was held arrive."""
        self.is_held = False
        self._schedule()

    def fail(self) -> None:
        """The network reports a broken connection to this end."""
        if not self._is_over:
            self._is_closing = True
            self._forget_incoming()
            self._loop.call_soon(self._end, ConnectionResetError("connection reset in memory"))

    def _arrive(self, item: bytes | object) -> None:
        """Something was sent to this end."""
        self._incoming.append((self._loop.time() + self.latency, item))
        if isinstance(item, bytes):
            self._size += len(item)
        self._schedule()

    def _schedule(self) -> None:
        if self._pump_timer is None and self._incoming and not self.is_held:
            due = self._incoming[0][0]
            if due <= self._loop.time():
                self._pump_timer = self._loop.call_soon(self._pump)
            else:
                self._pump_timer = self._loop.call_at(due, self._pump)

    def _pump(self) -> None:
        """Hand over what is due."""
        self._pump_timer = None
        while self._incoming and not self.is_held and (self._is_reading or self._is_closing):
            due, item = self._incoming[0]
            if due > self._loop.time() + 1e-9:
                break
            self._incoming.popleft()
            self._take(item)
        if self._is_reading or self._is_closing:
            self._schedule()

    def _take(self, item: bytes | object) -> None:
        if isinstance(item, bytes):
            self._size -= len(item)
            if self._is_over:
                self._peer._arrive(_RESET)
            elif not self._is_closing:
                self._protocol.data_received(item)
            self._peer._drained(self._size)
        elif item is _EOF and not self._is_closing:
            if not self._protocol.eof_received():
                self.close()
        elif item is _RESET:
            self.fail()

    def _drained(self, left: int) -> None:
        """The other end has taken something; *left* bytes are on their way to it."""
        if self._is_writer_paused and left <= CAPACITY // 4:
            self._is_writer_paused = False
            if self._is_closing:
                self._loop.call_soon(self._end, None)
            else:
                self._protocol.resume_writing()

    def _forget_incoming(self) -> None:
        """Drop what has not been taken; ends and resets still count."""
        kept = [(due, item) for due, item in self._incoming if not isinstance(item, bytes)]
        self._incoming = deque(kept)
        self._size = 0
        self._peer._drained(0)

    def _end(self, error: Exception | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._is_closing = True
            self._protocol.connection_lost(error)


@define(eq=False)
class Wire:
    """A connection: the end that dialled, and the far one."""

    near: End
    far: End

    @property
    def is_over(self) -> bool:
        """Whether both ends have heard of the end."""
        return self.near.is_over and self.far.is_over

    def hold(self) -> None:
        """Let nothing pass in either direction; what is sent waits for `release`."""
        self._both(End.hold)

    def release(self) -> None:
        """Let it pass again."""
        self._both(End.release)

    def cut(self) -> None:
        """Break it: both ends see a reset."""
        self._both(End.fail)

    def set_latency(self, seconds: float) -> None:
        """What is sent from now on takes *seconds* one way; nothing overtakes."""
        self.near.latency = self.far.latency = seconds

    def _both(self, action: Callable[[End], None]) -> None:
        action(self.near)
        action(self.far)


def connect_wire(near: asyncio.Protocol, far: asyncio.Protocol, *, latency: float = 0.0) -> Wire:
    """Join two protocols by a wire on the running loop, and tell both; *latency* is in seconds, one way."""
    here, there = End(near, latency), End(far, latency)
    here.join(there)
    there.join(here)
    far.connection_made(there)
    near.connection_made(here)
    return Wire(here, there)
