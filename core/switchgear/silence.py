"""Notices a driver that reports nothing although it owes an answer: the library behind it is wedged. Touches timers only.

A driver keeps deadlines of its own and tells what became of each attempt, of each message and of each PINGREQ. One whose
library has died reports nothing at all, and would hold its transport for ever. Nothing is expected of an idle
connection, nor of one that carries QoS 0 only: there silence proves nothing. Nor does it where our own loop stood still,
for the process was stopped (SIGSTOP, a debugger, a virtual machine) or somebody blocked it: a driver reports on that loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, field

from switchgear.cause import Cause, Failure
from switchgear.drivers.base import AttemptFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from switchgear.drivers.base import Connection

T = TypeVar("T")

log = logging.getLogger("switchgear.manager")

PATIENCE: Final = 5
"""Connect timeouts that a driver may take for what has one: resolving, TCP, TLS, WebSocket, CONNACK."""

KEEPALIVES: Final = 2
"""Keepalives within which a driver must have found out that a peer is dead: MQTT's own factor is 1.5 (MQTT 5, 3.1.2.10).
Below that a dead network would be taken for a dead library."""

LATE: Final = 0.5
"""How late a timer may fire, as a part of its time, before it shows that the loop stood still."""


def answers_within(connect_timeout: float) -> float:
    """Seconds in which a broker must answer what is subscribed to and unsubscribed from at one time.

    Twice the connect timeout: it is more work than CONNECT, and may be for many filters.
    """
    return 2 * connect_timeout


def bound_of(*, connect_timeout: float, keepalive: float) -> float:
    """Seconds after our PINGREQ in which something must be reported of a connection on which something is due."""
    return max(PATIENCE * connect_timeout, KEEPALIVES * keepalive)


@define(eq=False)
class _Spans:
    """Ends *bound* after `PATIENCE` spans of *seconds*; one at whose end the loop did not run does not count."""

    loop: asyncio.AbstractEventLoop
    bound: asyncio.Timeout
    seconds: float
    left: int = PATIENCE
    timer: asyncio.TimerHandle = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next()

    def _next(self) -> None:
        due = self.loop.time() + self.seconds
        self.timer = self.loop.call_at(due, self._over, due)

    def _over(self, due: float) -> None:
        self.left -= self.loop.time() - due <= LATE * self.seconds
        if self.left:
            self._next()
        else:
            self.bound.reschedule(self.loop.time())


async def answered(work: Coroutine[Any, Any, T], *, connect_timeout: float, driver: str) -> T:
    """What *work* of the driver called *driver* answers, within `PATIENCE` times *connect_timeout* seconds.

    Each of them counts only if the loop ran when it was over.

    Raises:
        AttemptFailed: nothing came, not even an error: `Cause.DRIVER_SILENT`.
    """
    seconds = PATIENCE * connect_timeout
    bound = asyncio.timeout(None)
    spans = _Spans(asyncio.get_running_loop(), bound, connect_timeout)
    try:
        async with bound:
            return await work
    except TimeoutError:
        if not bound.expired():
            raise
        detail = f"{driver!r} kept no deadline of its own in {seconds:g} s"
        raise AttemptFailed(Failure(Cause.DRIVER_SILENT, detail)) from None
    finally:
        spans.timer.cancel()


@define(eq=False, kw_only=True)
class Watch:
    """Watches one usable connection, until `stop`.

    Attributes:
        reports: A number that grows with everything that the driver reports of the connection.
        patience: Seconds without a report, while acknowledgements are due, until it is asked to ping; the profile's
            ``ack_timeout``.
        bound: Seconds more until it counts as silent.
        on_silent: Told in words how it was, once.
    """

    loop: asyncio.AbstractEventLoop
    connection: Connection
    reports: Callable[[], int]
    patience: float
    bound: float
    on_silent: Callable[[str], None]
    _heard: int = field(default=-1, init=False)
    _quiet_since: float = field(default=0.0, init=False)
    _due: float = field(default=math.inf, init=False)  # when it looks next
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._look()

    def stop(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now, heard, due = self.loop.time(), self.reports(), self.connection.in_flight
        is_late = now - self._due > LATE * min(self.patience, self.bound)
        if heard != self._heard or not due or is_late:
            self._heard, self._quiet_since = heard, now
        quiet = now - self._quiet_since
        end = self.patience + self.bound
        if quiet >= end - 1e-3:  # a timer may fire a little early
            self.on_silent(f"{due} acknowledgements are due, and {quiet:.3g} s after PINGREQ nothing was reported")
            return
        if quiet >= self.patience - 1e-3:
            try:
                self.connection.ping()
            except Exception:  # it counts as no report, which ends the connection in time
                log.debug("switchgear.ping_failed", exc_info=True)
        self._due = now + min(self.patience, max(0.01, end - quiet))
        self._timer = self.loop.call_at(self._due, self._look)
