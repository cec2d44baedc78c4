"""One client's connection: bytes in and out, its timers, and how it ends. Touches its transport and the loop.

What packets mean is decided in `handshake`, `incoming` and `outgoing`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from attrs import evolve

from switchgear.testing.broker import faults, handshake, incoming, reasons
from switchgear.testing.broker.codec import Decoder, MalformedPacket, encode
from switchgear.testing.broker.ledger import Closed, Origin
from switchgear.testing.broker.packets import Connack, Connect, Disconnect, Packet, Pingresp, Will
from switchgear.testing.broker.properties import NO_PROPERTIES, Properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.testing.broker.context import Context
    from switchgear.testing.broker.outgoing import Sender
    from switchgear.testing.broker.store import Session

_LOGGER: Final = logging.getLogger("switchgear.testing")
_PINGRESP: Final = encode(Pingresp(), version=4)
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)  # closing sends a reset and drops what was not sent


class Connection(asyncio.Protocol):
    """The broker's end of one connection.

    `session` and `sender` are set from the successful CONNECT to the end; `open_in` counts the PUBLISHes with a
    QoS above 0 that the client is still owed an answer to, as the client may see it.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.session: Session | None = None
        self.sender: Sender | None = None
        self.user: str | None = None
        self.will: Will | None = None
        self.version = 4
        self.is_silent = False
        self.has_ended = False
        self.open_in = 0
        self.withheld: list[Packet] = []
        self.origin = Origin(context.name, context.next_number(), "")
        self._life = context.life
        self._decoder = Decoder(maximum_packet_size=context.maximum_packet_size)
        self._out: list[bytes] = []
        self._answered = 0
        self._later: deque[bytes] = deque()
        self._last_due = 0.0
        self._is_flush_due = False
        self._is_half_closed = False
        self._closes_when_written = False
        self._waiting: asyncio.TimerHandle | None = None
        self._backlog: list[Packet] = []
        self._watch: asyncio.TimerHandle | None = None
        self._last_seen = 0.0
        self._has_connect = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve the client, unless the broker is down or was when the client came."""
        self._transport = cast("asyncio.Transport", transport)  # one in memory need not be a subclass
        self._loop = asyncio.get_running_loop()
        if not self.context.is_up or self.context.life != self._life:
            self.has_ended = True
            self._transport.abort()
            return
        self.context.connections[self.origin.number] = self

    def data_received(self, data: bytes) -> None:
        """Handle every packet that is complete; what breaks the protocol closes the connection."""
        if self.has_ended:
            return
        self._last_seen = self._loop.time()
        self._run(self._take, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone; without a DISCONNECT before, the will is due."""
        self._end("lost" if exc is None else "broken", None)
        self.context.remove(self)

    # What the rest of the broker calls

    @property
    def client_id(self) -> str:
        """The client id, "" before CONNECT."""
        return self.origin.client_id

    @property
    def now(self) -> float:
        """The loop time, in seconds."""
        return self._loop.time()

    def rename(self, client_id: str) -> None:
        """Take note of the client id."""
        self.origin = evolve(self.origin, client_id=client_id)

    def send(self, packet: Packet) -> None:
        """Write a packet with everything else that is written in this turn of the loop."""
        self.write(encode(packet, version=self.version))

    def answer(self, packet: Packet) -> None:
        """Send what lets the client send one more PUBLISH."""
        self._answered += 1
        self.send(packet)

    def write(self, data: bytes) -> None:
        """Write bytes at the end of this turn of the loop."""
        self._out.append(data)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def hold(self, seconds: float, then: Callable[[], None]) -> None:
        """Handle no packet for *seconds*, then call *then*, then handle what has come meanwhile."""

        def resume() -> None:
            self._waiting = None
            then()
            backlog, self._backlog = self._backlog, []
            for packet in backlog:
                if not self.has_ended:
                    self._handle(packet)

        self._waiting = self._loop.call_later(seconds, self._run, resume)

    def watch(self, keepalive: int) -> None:
        """End the connection when nothing comes for one and a half times *keepalive* seconds; 0 is never."""
        if keepalive and self.context.enforces_keepalive:
            limit = keepalive * 1.5
            self._watch = self._loop.call_at(self._last_seen + limit, self._check, limit)

    def fail(self, code: int, why: str = "") -> None:
        """End the connection because the client broke the protocol; *code* says how."""
        if self.session is None and code == reasons.UNSUPPORTED_VERSION:
            self.send(Connack(reasons.connack_code(code, version=4)))
        self.close("protocol error", say=code, why=why)

    def close(self, how: str, *, say: int | None = None, heard: int | None = None, why: str = "") -> None:
        """End the connection: a client of MQTT 5 is told *say*, and what was written before is still sent."""
        if self.has_ended:
            return
        if say is not None and self.session is not None and self.version == 5:
            about = Properties(reason_string=why) if why and self._tells_why() else NO_PROPERTIES
            self.send(Disconnect(say, about))
        self._end(how, heard if say is None else say)
        self._flush()
        if self._later:
            self._closes_when_written = True
        else:
            self._transport.close()

    def abort(self, how: str) -> None:
        """End the connection at once; what was not yet sent is lost."""
        self._end(how, None)
        self._out.clear()
        self._later.clear()
        self._transport.abort()

    def reset(self) -> None:
        """End the connection at once with a TCP reset, as the fault of that name does."""
        self.drop("reset")

    def drop(self, how: str) -> None:
        """End the connection at once with a TCP reset; *how* is for the ledger."""
        raw = self._transport.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.abort(how)

    def half_close(self) -> None:
        """Send what is written, then no more; go on reading."""
        if self.has_ended or self._is_half_closed:
            return
        self._flush()
        self._is_half_closed = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif (raw := self._transport.get_extra_info("socket")) is not None:
            raw.shutdown(socket.SHUT_WR)  # TLS has no half-close of its own

    def release_acks(self) -> None:
        """Send the acknowledgements that were withheld."""
        held, self.withheld = self.withheld, []
        for packet in held:
            incoming.acknowledge(self, packet)

    # Inside

    def _run(self, handle: Callable[..., None], *arguments: bytes) -> None:
        """Handle what has come, and end the connection where that fails; nothing is raised."""
        try:
            handle(*arguments)
        except MalformedPacket as error:
            self.fail(error.reason_code, str(error))
        except Exception:
            # A predicate of the test failed, or this broker has a bug. Neither may take down the other connections.
            _LOGGER.exception("switchgear.testing.broker_failed", extra={"broker": self.context.name})
            self.close("internal error", say=reasons.UNSPECIFIED_ERROR)

    def _take(self, data: bytes) -> None:
        for packet in self._decoder.feed(data):
            if self._waiting is not None:
                self._backlog.append(packet)
            else:
                self._handle(packet)
            if self.has_ended:
                return

    def _handle(self, packet: Packet) -> None:
        if self.is_silent:
            return
        if not self._has_connect:
            if not isinstance(packet, Connect):
                self.close("protocol error")  # MQTT 5.0, 3.1: nobody to talk to yet
                return
            self._has_connect = True
            handshake.connect(self, packet)
            return
        handle = incoming.HANDLERS.get(type(packet))
        if handle is None:
            self.fail(reasons.PROTOCOL_ERROR, f"a client may not send {type(packet).__name__.upper()} here")
        else:
            handle(self, packet)

    def ping(self) -> None:
        """Answer a PINGREQ."""
        if not self.context.faults.take(faults.SWALLOW_PINGS):
            self.write(_PINGRESP)

    def _tells_why(self) -> bool:
        return self.sender is not None and self.sender.tells_why

    def _flush(self) -> None:
        self._is_flush_due = False
        self.open_in = max(0, self.open_in - self._answered)  # an answer may be to an earlier connection's PUBLISH
        self._answered = 0
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        delay = self.context.faults.write_delay
        if delay or self._later:
            self._last_due = max(self._last_due, self._loop.time() + delay)
            self._later.append(data)
            self._loop.call_at(self._last_due, self._write_later)
        else:
            self._write(data)

    def _write_later(self) -> None:
        if not self._later:
            return
        self._write(self._later.popleft())
        if self._closes_when_written and not self._later:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if not self._is_half_closed and not self._transport.is_closing():
            self._transport.write(data)

    def _check(self, limit: float) -> None:
        due = self._last_seen + limit
        if self._loop.time() >= due:
            self.close("keepalive", say=reasons.KEEP_ALIVE_TIMEOUT)
        else:
            self._watch = self._loop.call_at(due, self._check, limit)

    def _end(self, how: str, code: int | None) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        for timer in (self._waiting, self._watch):
            if timer is not None:
                timer.cancel()
        ledger = self.context.ledger
        ledger.record(Closed(at=self._loop.time(), origin=self.origin, how=how, code=code))
        if self.session is not None:
            handshake.detach(self, self.session, is_killed=how == "killed")
