"""The outbox's way to the broker: what may be sent is sent, in order, in one FIFO. Runs on the loop.

While no connection is usable the gate is shut and messages only wait. What was sent and not acknowledged goes first
on the next connection, in its order; with the session resumed under its packet ids, else as new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.errors import MessageTooLarge, Refused
from switchgear.message import DeliveryState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from switchgear.delivery import Delivery
    from switchgear.drivers.base import Connection
    from switchgear.outbox import Outbox

SUSPECT: Final = 2
"""Losses with a message in flight, each got over at once, after which it is suspected, and sent alone. When it is answered
the next two follow, then four: most suspects have done nothing but be in flight. One lost with others is alone from then on."""

MOST_ON_TRIAL: Final = 32
"""Suspects that are sent together at most: what a loss among them leaves to be sent one by one."""

SHORTEST: Final = 0.001
"""Seconds that a drain rate waits at least: a rest of 1e-17 tokens is a time that no clock can show, and would spin."""

_STORED: Final = DeliveryState.STORED  # globals: an enum member looked up by its class costs more than a comparison
_SENT: Final = DeliveryState.SENT


@define(eq=False)
class Sender:
    """Sends the outbox over whatever connection is usable."""

    outbox: Outbox
    loop: asyncio.AbstractEventLoop
    max_in_flight: int
    drain_rate: float | None
    emit: Callable[..., None]
    drain_bytes: float | None = None
    is_held: bool = field(default=False, init=False)
    acknowledged: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    expired: int = field(default=0, init=False)
    dropped: int = field(default=0, init=False)
    on_progress: Callable[[], None] | None = field(default=None, init=False)
    """Called on the loop after messages have ended, when somebody drains."""
    _connection: Connection | None = field(default=None, init=False)
    _window: int = field(default=0, init=False)
    _lost: list[Delivery] = field(factory=list, init=False)
    _on_trial: int = field(default=0, init=False)  # suspects sent together, and nothing else with them
    _trial: int = field(default=1, init=False)  # how many this trial may have
    _next_trial: int = field(default=1, init=False)
    _backlog: int = field(default=0, init=False)  # messages that the drain rate applies to
    _tokens: float = field(default=0.0, init=False)
    _byte_tokens: float = field(default=0.0, init=False)
    _is_limited: bool = field(default=False, init=False)
    _filled_at: float = field(default=0.0, init=False)
    _rate_timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _expiry_timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _is_due: bool = field(default=False, init=False)

    # The gate. ---------------------------------------------------------------------------------------------------

    def resume(self, *, session_present: bool, was_quick: bool) -> None:
        """A new connection is being restored: *session_present* says whether packet ids still mean something.

        *was_quick*: the broker was there all the time; then what was in flight at the loss may be what caused it.
        """
        lost = [
            d for d in self._lost if d.phase < 2 and not d.done()
        ]  # the broker has the others; some may have expired
        if was_quick:
            for delivery in lost:
                delivery.losses += 1
            if self._on_trial and len(lost) == 1 and lost[0].losses > SUSPECT:
                self._convict(lost[0])
        self._lost = []
        self._on_trial = 0
        if not session_present:
            self.outbox.forget_session()

    def _convict(self, delivery: Delivery) -> None:
        """End *delivery*, with which the connection was lost alone; the others are acquitted, but for a second one."""
        why = f"{delivery.losses} connections in a row were lost while it was being sent"
        usual = f"its size ({len(delivery.payload)} bytes) or a forbidden topic are usual reasons"
        self._refuse(delivery, f"{why}; see the broker's log: {usual}")
        for other in list(self.outbox.pending):
            other.losses = min(other.losses, SUSPECT - 1)

    def open(self, connection: Connection) -> None:
        """*connection* is usable: send."""
        self.is_held = False
        self._connection = connection
        self._next_trial = 1
        self._window = min(self.max_in_flight, connection.limits.receive_maximum)
        self._is_limited = self.drain_rate is not None or self.drain_bytes is not None
        self._backlog = len(self.outbox)
        self._filled_at = self.loop.time()
        self._tokens = self._byte_tokens = 1.0
        self.pump()

    def shut(self, *, blames: bool = True) -> None:
        """The connection is gone; *blames*: what was in flight may be what ended it."""
        self._connection = None
        self.is_held = False
        in_flight = self.outbox.requeue()
        self._lost = in_flight if blames else []
        self.watch_expiry()
        if self._rate_timer is not None:
            self._rate_timer.cancel()
            self._rate_timer = None

    def schedule(self) -> None:
        """`pump` on the next turn of the loop."""
        if not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._scheduled)

    def _scheduled(self) -> None:
        self._is_due = False
        self.pump()

    def wake(self) -> None:
        """A message was accepted by another thread."""
        self._is_due = False
        self.pump()

    def wake_expiring(self) -> None:
        """The same of one that expires."""
        self.wake()
        self.watch_expiry()

    # Sending. ----------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what may be sent now."""
        outbox = self.outbox
        if outbox.unreported_drops:
            self._report_drops()
        connection = self._connection
        if connection is None or self.is_held:
            return
        pending, sent, window = outbox.pending, outbox.sent, self._window
        while pending and self._connection is connection:  # it may be lost while it is written to
            if connection.in_flight >= window or not connection.is_writable:
                return
            try:
                delivery = pending.popleft()
            except IndexError:  # a publisher's thread has dropped it
                return
            if delivery._state is not _STORED:
                continue
            suspicion = delivery.losses if delivery.phase < 2 else 0
            if not self._may_go(connection, suspicion) or (
                self._is_limited and self._backlog and not self._may_drain(len(delivery.payload) + len(delivery.topic))
            ):
                pending.appendleft(delivery)
                return
            self._send(connection, delivery, sent)
            if suspicion >= SUSPECT and delivery.sequence in sent:
                self._on_trial += 1

    def _may_go(self, connection: Connection, suspicion: int) -> bool:
        """Suspects go with each other only, and at the start of a trial with nothing else in flight."""
        if self._on_trial:
            return suspicion == SUSPECT and self._on_trial < self._trial
        if suspicion < SUSPECT:
            return True
        self._trial = self._next_trial if suspicion == SUSPECT else 1
        return connection.in_flight == 0

    def _send(self, connection: Connection, delivery: Delivery, sent: dict[int, Delivery]) -> None:
        limits = connection.limits
        if delivery.qos > limits.maximum_qos or (delivery.retain and not limits.retain_available):
            what = "a retained message" if delivery.qos <= limits.maximum_qos else f"QoS {delivery.qos}"
            self._refuse(delivery, f"this broker does not take {what}")
            return
        if delivery.qos:  # before it is sent: a connection that is lost by that gives back all that it was given
            delivery._state = _SENT
            sent[delivery.sequence] = delivery
        try:
            connection.send(delivery)
        except MessageTooLarge as error:
            sent.pop(delivery.sequence, None)
            self.refused += 1
            self.outbox.end(delivery, DeliveryState.REFUSED, error)
            self.emit("message_refused", topic=delivery.topic, why=str(error))
            self._progress()
            return
        except Exception as error:  # a driver that cannot: this message ends, which is reported, and the others go on
            if delivery.qos and self._connection is not connection:  # lost by it: the message waits for the next one
                return
            sent.pop(delivery.sequence, None)
            self._refuse(delivery, f"the driver cannot send it ({type(error).__name__}: {error})")
            return
        if not delivery.qos:
            self.acknowledged += 1
            self.outbox.end(delivery, DeliveryState.ACKNOWLEDGED)
            self._progress()

    def acknowledge(self, delivery: Delivery, code: int) -> None:
        """The broker answered for *delivery*."""
        outbox = self.outbox
        outbox.sent.pop(delivery.sequence, None)
        if self._on_trial and not outbox.sent:
            self._on_trial = 0
            self._next_trial = min(MOST_ON_TRIAL, 2 * self._next_trial)
        if delivery.done():
            return
        if code >= 0x80:
            self._refuse(delivery, "the broker says no", code)
            return
        self.acknowledged += 1
        outbox.end(delivery, DeliveryState.ACKNOWLEDGED)

    def batch_end(self) -> None:
        """A batch of answers was handled: send more."""
        if self.on_progress is not None:
            self.on_progress()
        self.pump()

    def _refuse(self, delivery: Delivery, why: str, code: int | None = None) -> None:
        self.refused += 1
        reason = f"{why} (reason 0x{code:02X})" if code is not None else why
        self.outbox.end(delivery, DeliveryState.REFUSED, Refused(delivery.topic, reason, reason_code=code))
        self.emit("message_refused", topic=delivery.topic, why=reason)
        self._progress()

    def _progress(self) -> None:
        if self.on_progress is not None:
            self.loop.call_soon(self.on_progress)

    def _report_drops(self) -> None:
        count, self.outbox.unreported_drops = self.outbox.unreported_drops, 0
        self.dropped += count
        self.emit("message_dropped", count=count, why="the outbox was full")

    # Rates and times. --------------------------------------------------------------------------------------------

    def _may_drain(self, size: int) -> bool:
        """Whether the drain rates allow one more message of the backlog, of *size* bytes; else a timer pumps again.

        A message may be sent when both buckets hold more than nothing; one that is larger than the bucket of bytes
        leaves a debt, so that the rate holds over time.
        """
        now = self.loop.time()
        passed, self._filled_at = now - self._filled_at, now
        delay = 0.0
        rate, byte_rate = self.drain_rate, self.drain_bytes
        if rate is not None:
            self._tokens = min(max(1.0, rate / 10), self._tokens + passed * rate)
            delay = max(delay, (1 - self._tokens) / rate)
        if byte_rate is not None:
            self._byte_tokens = min(max(1.0, byte_rate / 10), self._byte_tokens + passed * byte_rate)
            delay = max(delay, (1 - self._byte_tokens) / byte_rate)
        if delay <= 0:
            self._tokens -= 1
            self._byte_tokens -= size
            self._backlog -= 1
            return True
        if self._rate_timer is None:
            self._rate_timer = self.loop.call_later(max(delay, SHORTEST), self._rate_over)
        return False

    def _rate_over(self) -> None:
        self._rate_timer = None
        self.pump()

    def watch_expiry(self) -> None:
        """End messages when their time is over, connected or not."""
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        count, following = self.outbox.expire(self.loop.time())
        if count:
            self.expired += count
            self.emit("message_expired", count=count)
            self._progress()
        if following is not None:
            self._expiry_timer = self.loop.call_at(following, self.watch_expiry)

    def close(self) -> None:
        """No timer is left."""
        for timer in (self._rate_timer, self._expiry_timer):
            if timer is not None:
                timer.cancel()
        self._rate_timer = self._expiry_timer = None
