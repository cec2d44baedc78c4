"""The outbox in memory: accepted messages in order, bounded. Touches locks only.

Publishers append from any thread; everything else is called on the loop's thread. One lock among the publishers
guards the bounds; the loop takes it only for messages that expire and to wake publishers that wait for room.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, field

from switchgear.delivery import Delivery
from switchgear.errors import Cancelled, Dropped, Expired, MessageTooLarge, OutboxFull, TransportClosed
from switchgear.message import DeliveryState
from switchgear.outbox.newest import NewestFirst

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from switchgear.message import Properties
    from switchgear.outbox.port import Queue
    from switchgear.profile import OutboxLimits
    from switchgear.waits import Waits

_WAITING = frozenset({DeliveryState.ACCEPTED, DeliveryState.STORED})


@define(eq=False)
class MemoryOutbox:
    """Messages that no broker has acknowledged; see `switchgear.profile.OutboxLimits` for its bounds."""

    limits: OutboxLimits
    waits: Waits
    pending: Queue = field(factory=deque[Delivery], init=False)
    """In order; not handed to the present connection. Entries that have ended are skipped by the sender."""
    sent: dict[int, Delivery] = field(factory=dict, init=False)
    """By sequence: handed to the present connection, not acknowledged."""
    unreported_drops: int = field(default=0, init=False)
    lock: threading.RLock = field(default=Factory(lambda self: self.waits.lock, takes_self=True), init=False)
    room: threading.Condition = field(
        default=Factory(lambda self: threading.Condition(self.lock), takes_self=True), init=False
    )
    _is_mine: Callable[[], bool] = field(
        default=Factory(lambda self: self.lock._is_owned, takes_self=True), init=False
    )  # bound once: each message asks it
    on_room: Callable[[], None] | None = field(default=None, init=False)
    """Called on the loop when messages have left and somebody waits for room."""
    wants_room: bool = field(default=False, init=False)
    is_held: bool = field(default=False, init=False)  # written under the lock
    _is_closed: bool = field(default=False, init=False)  # the same; then it is held, too
    _sequence: int = field(default=0, init=False)
    _in_count: int = field(default=0, init=False)  # written under the lock
    _in_bytes: int = field(default=0, init=False)
    _out_count: int = field(default=0, init=False)  # written on the loop
    _out_bytes: int = field(default=0, init=False)
    _expiring: list[tuple[float, int, Delivery]] = field(factory=list, init=False)
    _most_expiring: int = field(default=1024, init=False)

    def __len__(self) -> int:
        """Messages accepted and not ended."""
        return max(0, self._in_count - self._out_count)

    @property
    def accepted(self) -> int:
        """Messages accepted so far."""
        return self._sequence

    @property
    def starts_clean(self) -> bool:
        """Never: the process that sent something is the one that has it."""
        return False

    def order(self, drain_order: str) -> None:
        """Send the ``"oldest"`` or the ``"newest"`` first; called while it is empty."""
        if drain_order == "newest":
            self.pending = NewestFirst()

    def start(
        self, loop: asyncio.AbstractEventLoop, *, emit: Callable[..., None], on_change: Callable[[], None]
    ) -> None:
        """Part of `switchgear.outbox.port.Outbox`."""

    def session_began(self) -> None:
        """Part of `switchgear.outbox.port.Outbox`."""

    @property
    def size(self) -> int:
        """Bytes of their payloads and topics."""
        return max(0, self._in_bytes - self._out_bytes)

    def accept(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        *,
        retain: bool = False,
        properties: Properties | None = None,
        expires_at: float | None = None,
    ) -> Delivery | None:
        """The delivery of one more message, or None when there is no room and the policy is to wait.

        Raises:
            OutboxFull: there is no room and the policy is to say so.
            MessageTooLarge: it would not fit into an empty outbox.
            WouldDeadlock: called in a signal handler that interrupted it.
        """
        if self._is_mine():
            self.waits.check_signal("publish()")
        limits = self.limits
        size = len(payload) + len(topic)
        victims: list[Delivery] = []
        try:
            with self.lock:
                if self.is_held:
                    self.wants_room = True
                    return None
                count, total = self._in_count + 1, self._in_bytes + size
                if (
                    count - self._out_count > limits.max_messages or total - self._out_bytes > limits.max_bytes
                ) and not self._make_room(topic, size, victims):
                    return self._turned_away(topic, payload, qos, retain=retain, properties=properties)
                delivery = Delivery(self.waits, 0, topic, payload, qos, retain, properties, expires_at)
                if self._is_closed:  # by a signal handler, in between
                    return None
                # Nothing is called up to `try`, so no signal handler comes in between: one that raises, as Ctrl-C does,
                # leaves the message counted and waiting, or neither.
                self._in_count += 1
                self._in_bytes += size
                delivery.sequence = self._sequence = self._sequence + 1
                try:
                    self._place(delivery)
                except BaseException:
                    self._place_again(delivery)
                    raise
                return delivery
        finally:
            for victim in victims:
                victim._wake()  # without the lock: its callbacks are the user's

    def _place(self, delivery: Any) -> None:
        """Have it wait for its turn. Called under the lock."""
        if delivery.expires_at is not None:
            self._watch_expiry(delivery)
        self.pending.append(delivery)

    def _place_again(self, delivery: Any) -> None:
        """`_place`, where a signal handler that raised may have cut it short. Called under the lock."""
        is_there = delivery.sequence in self.sent or any(other is delivery for other in list(self.pending))
        if delivery.state in _WAITING and not is_there:
            self._place(delivery)

    def _watch_expiry(self, delivery: Delivery) -> None:
        """Have *delivery* ended when its time is over, if it has one. Called under the lock."""
        if delivery.expires_at is None:
            return
        if (
            len(self._expiring) >= self._most_expiring
        ):  # most may have ended: forget them, or they would stay for their time
            self._expiring = [entry for entry in self._expiring if self._is_waiting(entry[2])]
            heapq.heapify(self._expiring)
            self._most_expiring = max(1024, 2 * len(self._expiring))
        heapq.heappush(self._expiring, (delivery.expires_at, delivery.sequence, delivery))

    def _is_waiting(self, delivery: Delivery) -> bool:
        """Whether it is for us to end *delivery* when its time is over."""
        return not delivery.done()

    def full(self, size: int = 0) -> OutboxFull:
        """The error that says which bound is reached."""
        limits = self.limits
        if self.is_held:
            return OutboxFull("messages while this process is about to be replaced", len(self))
        if len(self) + 1 > limits.max_messages:
            return OutboxFull("messages", limits.max_messages)
        return OutboxFull(f"bytes, {size} more do not fit", limits.max_bytes)

    def has_room(self) -> bool:
        """Whether one more small message would be accepted."""
        return len(self) < self.limits.max_messages and self.size < self.limits.max_bytes and not self.is_held

    def _make_room(self, topic: str, size: int, victims: list[Delivery]) -> bool:
        """With ``drop_oldest``: end the oldest unsent messages until *size* fits. Called under the lock.

        Raises:
            MessageTooLarge: it never will.
        """
        limits = self.limits
        if size > limits.max_bytes:
            raise MessageTooLarge(topic, size, limits.max_bytes, whose="the outbox")
        if limits.when_full != "drop_oldest":
            return False
        while len(self) + 1 > limits.max_messages or self.size + size > limits.max_bytes:
            try:
                victim = self._oldest()
            except IndexError:
                return False  # all that is left is on its way
            if victim.state in _WAITING:
                self._in_count -= 1
                self._in_bytes -= len(victim.payload) + len(victim.topic)
                self._drop(victim)
                victims.append(victim)
        return True

    def _turned_away(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, properties: Properties | None
    ) -> Delivery | None:
        """What `accept` answers where no room can be made. Called under the lock.

        Raises:
            OutboxFull: the policy is to say so.
        """
        policy = self.limits.when_full
        if policy == "block" or self.is_held:
            self.wants_room = True
            return None
        if policy != "drop_newest":
            raise self.full(len(payload) + len(topic))
        dropped = Delivery(self.waits, 0, topic, payload, qos, retain, properties)
        self._drop(dropped)
        return dropped

    def _oldest(self) -> Delivery:
        """The next to be dropped. Raises ``IndexError`` when there is none. Called under the lock."""
        pending = self.pending
        return pending.oldest() if isinstance(pending, NewestFirst) else pending.popleft()

    def _drop(self, delivery: Delivery) -> None:
        """End *delivery* as dropped; whoever waits for it is woken later. Called under the lock."""
        self.unreported_drops += 1
        error = Dropped(f"the outbox was full and its policy is {self.limits.when_full!r}")
        self._decide(delivery, DeliveryState.DROPPED, error)

    # On the loop. ------------------------------------------------------------------------------------------------

    def end(self, delivery: Delivery, state: DeliveryState, error: BaseException | None = None) -> None:
        """*delivery* leaves, as *state*."""
        self._out_count += 1
        self._out_bytes += len(delivery.payload) + len(delivery.topic)
        delivery._set(state, error)
        if self.wants_room and self.on_room is not None:
            self.on_room()

    def give_room(self) -> None:
        """Wake the publishers that wait for room."""
        self.wants_room = False
        with self.lock:
            self.room.notify_all()

    def requeue(self) -> list[Delivery]:
        """The connection is gone: what was sent and not acknowledged waits again, before all else; in order."""
        unanswered = list(self.sent.values())
        self.sent.clear()
        for delivery in unanswered:
            delivery._set(DeliveryState.STORED)
        self.pending.extendleft(reversed(unanswered))
        with self.lock:
            for delivery in unanswered:
                self._watch_expiry(delivery)  # it may have passed its time while it was on its way
        return unanswered

    def forget_session(self) -> None:
        """The broker has no session of ours: packet ids mean nothing any more."""
        for delivery in list(self.pending):
            if delivery.packet_id == 0 and delivery.phase == 0:
                break  # what was sent once stands before all that was not
            delivery.packet_id = delivery.phase = 0

    def cancel(self, delivery: Delivery) -> bool:
        """Take *delivery* back when it was never sent; whether that was possible."""
        error = Cancelled(f"message for {delivery.topic!r} was taken back")
        with self.lock:
            if delivery.state not in _WAITING or delivery.packet_id:
                return False
            self._decide(delivery, DeliveryState.CANCELLED, error)
        self.end(delivery, DeliveryState.CANCELLED, error)
        return True

    @staticmethod
    def _decide(delivery: Delivery, state: DeliveryState, error: BaseException) -> None:
        """From now on no other thread ends *delivery*. Called under the lock."""
        delivery._error = error  # first: whoever sees the state looks for the error
        delivery._state = state

    def expire(self, now: float) -> tuple[int, float | None]:
        """End what is past its time; how many that were, and when the next may be."""
        due: list[Delivery] = []
        with self.lock:
            while self._expiring and (self._expiring[0][0] <= now or self._expiring[0][2].done()):
                delivery = heapq.heappop(self._expiring)[2]
                if delivery.state in _WAITING and delivery.phase < 2:
                    error = Expired(f"message for {delivery.topic!r} expired unsent")
                    self._decide(delivery, DeliveryState.EXPIRED, error)
                    due.append(delivery)
            following = self._expiring[0][0] if self._expiring else None
        for delivery in due:
            self.end(delivery, DeliveryState.EXPIRED, delivery.error)
        return len(due), following

    # For the end of the process. ---------------------------------------------------------------------------------

    def hold(self) -> None:
        """Part of `switchgear.outbox.port.Outbox`."""
        with self.lock:
            self.is_held = True

    def flush(self, timeout: float) -> int:  # noqa: ARG002 - there is no place to write to
        """All that is left would end with this process."""
        return len(self)

    def release(self) -> None:
        """Part of `switchgear.outbox.port.Outbox`."""
        with self.lock:
            self.is_held = self._is_closed
        self.give_room()

    async def close(self) -> int:
        """Every message that is left ends; how many that were."""
        return self._abandon()

    def close_now(self) -> None:
        """The same."""
        self._abandon()

    def closed(self) -> TransportClosed:
        """The error for those who still wait."""
        return TransportClosed("waiting")

    def _shut(self) -> None:
        """Nothing is accepted from now on, not even what is being published in this moment."""
        with self.lock:
            self._is_closed = self.is_held = True

    def _abandon(self) -> int:
        self._shut()
        left = list(self.living())
        self.sent.clear()
        self.pending.clear()
        for delivery in left:
            why = f"the transport was closed before a broker had the message for {delivery.topic!r}"
            self.end(delivery, DeliveryState.CANCELLED, Cancelled(why))
        self.give_room()
        return len(left)

    def living(self) -> Iterable[Delivery]:
        """All that is not ended, in order."""
        yield from list(self.sent.values())
        yield from (d for d in list(self.pending) if not d.done())
