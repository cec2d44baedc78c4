"""Watches the peer of one connection: PINGREQ when it is quiet, the end when no PINGRESP comes. Touches timers only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.cause import Cause, Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.drivers.base import DriverSettings

PING_ANSWER: Final = 5.0
"""Seconds within which PINGRESP must come, unless the connect timeout is shorter."""

SLOWEST: Final = 20_000
"""Bytes a second that a link is taken to carry at least. What the peer's system has taken may still lie in the buffers of a
proxy, before PINGREQ. With more, a large message would be sent anew for ever there; with less, a dead peer is noticed later."""


def allowance(settings: DriverSettings, largest: int, keepalive: int) -> float:
    """Seconds for the answer to a ping behind a message of *largest* bytes: more, up to what MQTT grants a peer (3.1.2.10)."""
    return min(PING_ANSWER, settings.connect_timeout) + min(largest / SLOWEST, 1.5 * keepalive)


@define(eq=False, kw_only=True)
class Heartbeat:
    """Keepalive, and our own PINGREQ for an overdue acknowledgement; from `beat` until `stop`.

    Attributes:
        settings: Its timeouts are in seconds.
        owed: Messages that the peer has not acknowledged.
        largest: Bytes of the largest of them.
        send: Sends a packet.
        progress: Bytes written so far, and how many of them the peer's system has taken.
        on_silent: Told when no PINGRESP came in time.
        on_progress: Told when none came because PINGREQ waits behind what is still on its way, and moves.
        keepalive: Seconds, as the broker wants it; 0: none.
        sent: When something was sent last, of the loop's time.
        received: When something came last.
    """

    settings: DriverSettings
    owed: Callable[[], int]
    largest: Callable[[], int]
    send: Callable[[bytes], None]
    progress: Callable[[], tuple[int, int]]
    on_silent: Callable[[Failure], None]
    on_progress: Callable[[], None]
    keepalive: int = field(init=False)
    sent: float = field(init=False)
    received: float = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _pinged: float | None = field(default=None, init=False)
    _allowed: float = field(default=0.0, init=False)  # seconds for the answer
    _ahead: int = field(default=0, init=False)  # bytes written before PINGREQ
    _taken: int = field(default=0, init=False)  # how many of them had been taken at the last look
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _is_over: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.keepalive = self.settings.keepalive
        self.sent = self.received = self._loop.time()

    def ping(self) -> None:
        """PINGREQ, unless one is under way."""
        if self._pinged is None:
            self._pinged = self._loop.time()
            self._allowed = allowance(self.settings, self.largest(), self.keepalive)
            self._ahead, self._taken = self.progress()
            self.send(b"\xc0\x00")
            self._beat_in(self._allowed)

    def answered(self) -> None:
        """PINGRESP came."""
        if self._pinged is not None:
            self._pinged = None
            self.beat()  # a short keepalive is due again before the deadline that the timer is set to

    def stop(self) -> None:
        """The connection is over."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def _moves(self) -> bool:
        """Whether PINGREQ was waiting behind other bytes at the last look, and the peer has taken of these since."""
        before, (_, self._taken) = self._taken, self.progress()
        return before < self._ahead and before < self._taken

    def _beat_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._is_over else self._loop.call_later(seconds, self.beat)

    def beat(self) -> None:
        """Look at the peer now, and again when that may be due."""
        now = self._loop.time()
        keepalive = self.keepalive
        patience = self.settings.ack_timeout
        if self._pinged is not None:
            # What comes meanwhile shows that the peer lives: PINGRESP may stand behind a large message too.
            left = max(self._pinged, self.received) + self._allowed - now
            if left <= 1e-6:
                if self._moves():  # a large message on a slow link: PINGREQ has not arrived either
                    self._pinged = now
                    self._beat_in(self._allowed)
                    self.on_progress()
                    return
                self.on_silent(Failure(Cause.KEEPALIVE_TIMEOUT, f"no PINGRESP in {self._allowed:g} s"))
                return
            self._beat_in(left)
            return
        quiet = now - self.received
        # 1e-3: a timer may fire a little early.
        if patience is not None and self.owed() and quiet >= patience - 1e-3:
            self.ping()
            return
        if keepalive and (now - self.sent >= keepalive * 0.75 - 1e-3 or quiet >= keepalive * 1.5):
            self.ping()
            return
        waits = [keepalive * 0.75 - (now - self.sent)] if keepalive else []
        if patience is not None:
            waits.append(max(patience - quiet, patience / 2) if self.owed() else patience / 2)
        if waits:
            self._beat_in(max(0.05, min(waits)))
