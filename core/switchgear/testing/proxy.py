"""FaultProxy: a TCP proxy between a client and a broker, real or embedded, that goes wrong on demand. Touches sockets.

It looks at nothing that it passes on, so TLS and WebSockets go through it as well. On virtual time there are no
sockets: there `switchgear.testing.MemoryNetwork` has the same faults under the same names. For synchronous tests
`switchgear.testing.ThreadedProxy` is a proxy with a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from attrs import define, evolve

from switchgear.endpoint import Endpoint, parse_uri
from switchgear.testing.broker.listener import Listener

if TYPE_CHECKING:
    from types import TracebackType

Way: TypeAlias = Literal["broker", "client"]
"""Where something goes: to the broker or to the client."""

CAPACITY: Final = 65536
"""Bytes on their way in one direction of a slow link before the proxy stops reading what comes after them."""

PIECE: Final = 0.05
"""Seconds of a slow link's rate that are passed on at once; less would be a timer for every few bytes."""

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)  # closing sends a reset and drops what was not sent


@define
class Counts:
    """What a proxy has done.

    Attributes:
        accepted: Connections taken, silent ones included.
        undialled: Of these, those for which the target could not be reached; they were reset.
        cut: Connections that the proxy reset.
        to_broker: Bytes passed on to the broker.
        to_client: Bytes passed on to the client.
    """

    accepted: int = 0
    undialled: int = 0
    cut: int = 0
    to_broker: int = 0
    to_client: int = 0


class FaultProxy:
    """Takes connections at a loopback port of its own, the same for its whole life, and passes them on to *target*.

    *target* is a URI, ``host:port``, or an `Endpoint`; setting the attribute leads new connections elsewhere. With
    *port* 0 the system chooses one. As an asynchronous context manager it takes connections from entry and has ended
    them all at exit. Everything is to be called from the loop's thread.

    Faults last until `restore`, but for those that happen at once (`cut`, `close_all`, `half_close`, `forget`).
    Since: 0.1.
    """

    def __init__(self, target: str | Endpoint, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self.counts = Counts()
        self.delay = 0.0
        self.rate: float | None = None
        self.is_blackhole = False
        self._silent: int | None = 0  # connections still to be taken and left alone; None: all
        self._cut_at: dict[Way, list[int]] = {}  # bytes left until a cut, bytes for the one after it
        self._pipes: list[_Pipe] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = Listener(lambda: _Pipe(self).client, host=host, port=port, ssl=None, scheme="tcp")

    def __repr__(self) -> str:
        state = "listening" if self._listener.is_open else "refusing"
        return f"<FaultProxy {self.authority} to {self._place().authority} {state} open={self.open}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.stop()

    # Where it is

    @property
    def port(self) -> int:
        """Where it listens; 0 before `start`."""
        return self._listener.port

    @property
    def authority(self) -> str:
        """``host:port`` where it listens."""
        return f"{self._listener.host}:{self.port}"

    @property
    def uri(self) -> str:
        """What a client of Switchgear connects to in place of the target's URI.

        Where TLS has a host name to check, the URI keeps that name and pins the address (``?address=``); for other
        clients take `authority`.
        """
        place, host = self._place(), self._listener.host
        if place.scheme in {"mqtts", "wss"} and not _is_address(place.host):
            return f"{place.scheme}://{place.host}:{self.port}{place.path}?address={host}"
        return str(evolve(place, host=host, port=self.port))

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._pipes)

    async def start(self) -> None:
        """Take connections from now on.

        Raises:
            OSError: the address cannot be had.
        """
        await self._listener.open()

    async def stop(self) -> None:
        """Reset every connection and give the port back."""
        self._listener.release()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.sleep(0)  # asyncio closes aborted sockets in the next turn

    # What a test does to it

    def refuse(self) -> None:
        """Refuse new connections; open ones stay."""
        self._listener.reserve()

    def silence(self, *, times: int | None = None) -> None:
        """Take new connections, read what they send, answer nothing, and never go to the broker; open ones stay.

        *times* is how many are treated so; None: all until `restore`.
        """
        self._silent = times

    def blackhole(self) -> None:
        """Let nothing pass, in both directions, and end nothing: a pulled cable. `restore` passes on what waited.

        New connections are accepted, as the kernel does that, and nothing passes on them either.
        """
        self.is_blackhole = True
        for pipe in self._pipes:
            pipe.hold()

    def forget(self) -> int:
        """Let nothing pass on the connections that are open now, ever again; how many there were.

        They stay open on both sides, until somebody closes theirs: a NAT or a firewall that forgot them. New
        connections are not affected.
        """
        for pipe in self._pipes:
            pipe.is_forgotten = True
            pipe.hold()
        return len(self._pipes)

    def slow(self, delay: float = 0.0, *, rate: float | None = None) -> None:
        """Pass everything on *delay* seconds later, and at most *rate* bytes a second in each direction.

        For open connections too; their order is kept. Without arguments the link is quick again.
        """
        if delay < 0 or (rate is not None and rate <= 0):
            raise ValueError(f"slow(): a delay of {delay!r} s or a rate of {rate!r} bytes a second is impossible")
        self.delay, self.rate = delay, rate

    def cut(self) -> int:
        """Reset every open connection on both sides, and with it what it was carrying; how many there were."""
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cut()
        return len(pipes)

    def cut_after(self, count: int, to: Way = "broker", *, times: int | None = 1) -> None:
        """Reset the connection on which the *count*-th byte *to* the broker, or to the client, is passed on.

        The bytes are counted from 1, over all connections, from this call and again after each cut; none after the
        last one passes. *times* is how often it happens; None: until `restore`.
        """
        if count < 1 or (times is not None and times < 1):
            raise ValueError("cut_after(): bytes and times are counted from 1")
        self._cut_at[to] = [count, count, -1 if times is None else times]

    def half_close(self, to: Way = "client") -> int:
        """Tell the client, or the broker, that no more will come; how many connections there were.

        What is sent that way from now on is lost; the other direction goes on.
        """
        for pipe in self._pipes:
            pipe.flow(to).end()
        return len(self._pipes)

    def close_all(self) -> int:
        """Close every open connection in order (FIN) on both sides; how many there were."""
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.close()
        return len(pipes)

    async def restore(self) -> None:
        """End `refuse`, `silence`, `blackhole`, `slow` and `cut_after`. What was forgotten or closed stays so."""
        self._silent = 0
        self._cut_at.clear()
        self.slow()
        self.is_blackhole = False
        for pipe in list(self._pipes):
            pipe.release()
        await self._listener.open()

    # Inside

    def _place(self) -> Endpoint:
        if isinstance(self.target, Endpoint):
            return self.target
        return parse_uri(self.target if "://" in self.target else f"mqtt://{self.target}")

    def _takes_silently(self) -> bool:
        if self._silent == 0:
            return False
        if self._silent is not None:
            self._silent -= 1
        return True

    def _spawn(self, pipe: _Pipe) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(pipe))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, pipe: _Pipe) -> None:
        place = self._place()
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: pipe.broker, place.address or place.host, place.port
            )
        except OSError:
            self.counts.undialled += 1
            pipe.cut(is_fault=False)
        else:
            if pipe.is_over:
                pipe.close()
            else:
                pipe.client.go("the broker is being dialled")

    def _allowed(self, way: Way, size: int) -> tuple[int, bool]:
        """How many of *size* bytes may pass that way, and whether the connection is cut behind them."""
        armed = self._cut_at.get(way)
        if armed is None or size < armed[0]:
            if armed is not None:
                armed[0] -= size
            return size, False
        left, again, times = armed
        if times == 1:
            del self._cut_at[way]
        else:
            self._cut_at[way] = [again, again, times - 1 if times > 0 else times]
        return left, True


class _Side(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(self, pipe: _Pipe) -> None:
        self.pipe = pipe
        self.transport: Any = None  # asyncio.Transport; None until it is connected, and after its end
        self.flow: _Flow  # what comes from this socket
        self._stopped: set[str] = set()  # why it is not read

    def stop(self, why: str) -> None:
        """Do not read from it, for one more reason."""
        self._stopped.add(why)
        if self.transport is not None:
            self.transport.pause_reading()

    def go(self, why: str) -> None:
        """Read from it, as far as this reason is concerned."""
        self._stopped.discard(why)
        if self.transport is not None and not self._stopped:
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self._stopped:
            self.transport.pause_reading()
        self.pipe.made(self)

    def data_received(self, data: bytes) -> None:
        self.flow.feed(data)

    def eof_received(self) -> bool:
        self.flow.feed(None)
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        self.pipe.other(self).stop("its peer does not read")

    def resume_writing(self) -> None:
        if self.pipe.is_doomed:
            self.pipe.cut()
        self.pipe.other(self).go("its peer does not read")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if exc is not None:
            self.pipe.cut(is_fault=False)
        self.pipe.close()


class _Flow:
    """What goes one way through one connection."""

    def __init__(self, source: _Side, sink: _Side, way: Way) -> None:
        self.has_ended = False
        self._source = source
        self._sink = sink
        self._way = way
        self._proxy = source.pipe.proxy
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._size = 0  # bytes in it
        self._free_at = 0.0  # when a slow link has sent all of it
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, data: bytes | None) -> None:
        """Pass *data* on, now or later; None is the end."""
        proxy, pipe = self._proxy, self._source.pipe
        if pipe.is_silent and data is None:
            pipe.close()
        if pipe.is_silent or self.has_ended:
            return
        if not (self._queue or proxy.delay or proxy.rate or pipe.is_held):
            self._pass(data)
            return
        now = asyncio.get_running_loop().time()
        if data is None or proxy.rate is None:
            self._free_at = max(now, self._free_at)
            self._queue.append((self._free_at + proxy.delay, data))
        else:
            step = max(1, int(proxy.rate * PIECE))
            for start in range(0, len(data), step):
                piece = data[start : start + step]
                self._free_at = max(now, self._free_at) + len(piece) / proxy.rate
                self._queue.append((self._free_at + proxy.delay, piece))
        self._size += len(data or b"")
        if self._size > CAPACITY:
            self._source.stop("the link is full")
        self.pump()

    def pump(self) -> None:
        """Pass on what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._queue and not self._source.pipe.is_held:
            due, data = self._queue[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.pump)
                break
            self._queue.popleft()
            self._size -= len(data or b"")
            self._pass(data)
        if self._size <= CAPACITY // 4:
            self._source.go("the link is full")

    def end(self) -> None:
        """Tell the sink that no more will come; drop what does."""
        if not self.has_ended:
            self.has_ended = True
            self.drop()
            if self._sink.transport is not None:
                self._sink.transport.write_eof()

    def drop(self) -> None:
        """Forget what is on its way."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self, data: bytes | None) -> None:
        pipe = self._source.pipe
        if data is None:
            self.end()
            pipe.check()
            return
        if self.has_ended or self._sink.transport is None or pipe.is_doomed:
            return
        allowed, is_last = self._proxy._allowed(self._way, len(data))
        counts = self._proxy.counts
        if self._way == "broker":
            counts.to_broker += allowed
        else:
            counts.to_client += allowed
        self._sink.transport.write(data[:allowed])
        if is_last:
            pipe.is_doomed = True
            if self._sink.transport.get_write_buffer_size() == 0:
                pipe.cut()
            else:
                self._sink.transport.set_write_buffer_limits(0)


class _Pipe:
    """One connection: its two sockets and its two directions."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.is_silent = proxy._takes_silently()
        self.is_forgotten = False
        self.is_doomed = False  # it is cut as soon as what was written is sent
        self.is_over = False
        self.client, self.broker = _Side(self), _Side(self)
        self.client.flow = _Flow(self.client, self.broker, "broker")
        self.broker.flow = _Flow(self.broker, self.client, "client")

    @property
    def is_held(self) -> bool:
        return self.is_forgotten or self.proxy.is_blackhole

    def other(self, side: _Side) -> _Side:
        return self.broker if side is self.client else self.client

    def flow(self, way: Way) -> _Flow:
        return self.client.flow if way == "broker" else self.broker.flow

    def made(self, side: _Side) -> None:
        if self.is_held:
            side.stop("nothing passes")
        if side is self.client:
            self.proxy._pipes.append(self)
            self.proxy.counts.accepted += 1
            if not self.is_silent:
                side.stop("the broker is being dialled")
                self.proxy._spawn(self)
        elif self.client.flow.has_ended:
            side.transport.write_eof()

    def hold(self) -> None:
        for side in (self.client, self.broker):
            side.stop("nothing passes")

    def release(self) -> None:
        if self.is_held:
            return
        for side in (self.client, self.broker):
            side.flow.pump()
            side.go("nothing passes")

    def cut(self, *, is_fault: bool = True) -> None:
        if not self.is_over and is_fault:
            self.proxy.counts.cut += 1
        self._end()
        for side in (self.client, self.broker):
            if side.transport is not None:
                raw = side.transport.get_extra_info("socket")
                with contextlib.suppress(OSError):  # it is closed already
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
                side.transport.abort()

    def close(self) -> None:
        self._end()
        for side in (self.client, self.broker):
            if side.transport is not None:
                side.transport.close()

    def check(self) -> None:
        """Close it when nothing can come any more."""
        if self.client.flow.has_ended and self.broker.flow.has_ended:
            self.close()

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.client.flow.drop()
            self.broker.flow.drop()
            self.proxy._pipes.remove(self)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
