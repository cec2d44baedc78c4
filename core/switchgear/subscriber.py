"""Subscriber: keeps what the broker holds for us in line with what is wanted, and hands arrivals over. Runs on the loop.

It talks to the broker through the present connection, which it is told of; it waits for nothing but its answers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field

from switchgear.arrival import Ack, AckQueue, Arrival
from switchgear.errors import InvalidOption, SubscriptionRefused
from switchgear.message import topic_matches
from switchgear.subscriptions import Subscriptions, bare_filter, batches
from switchgear.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from switchgear.drivers.base import Connection, Filter
    from switchgear.envelope import Envelope
    from switchgear.message import Message
    from switchgear.subscription import Subscription

log = logging.getLogger("switchgear.receiver")

REFUSED_AGAIN: Final = (0.5, 30.0)
"""Seconds until a refused filter is asked for again, and the longest such wait. ActiveMQ refuses a subscriber without
rights to create a topic until a publisher has made it (seen)."""

UNCLAIMED: Final = 10.0
"""Seconds from the first connection on for which messages of a session that an earlier transport left are kept for a
subscription that has not been made yet. Longer, and a filter that nobody makes again blocks the session for longer."""

UNCLAIMED_QOS_0: Final = 32_768
"""How many messages may be kept so before more of QoS 0 are dropped."""


@define(eq=False)
class Subscriber:
    """What one transport receives.

    Attributes:
        answers_within: Seconds in which the broker must answer on a usable connection.
        on_unanswered: Told of the connection on which it has not.
    """

    loop: asyncio.AbstractEventLoop
    emit: Callable[..., None]
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    answers_within: float
    on_unanswered: Callable[[Connection], None]
    envelope: Envelope | None = None
    window: Window | None = None
    carries_ids: bool = False
    wanted: Subscriptions[Subscription] = field(factory=Subscriptions, init=False)
    received: int = field(default=0, init=False)
    _connection: Connection | None = field(default=None, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _retry_delay: float = field(default=REFUSED_AGAIN[0], init=False)
    _unclaimed: list[Arrival] | None = field(factory=list, init=False)  # None: it is too late to claim
    _ended: set[str] = field(factory=set, init=False)  # filters whose messages may still come, and wait for nobody
    _unclaimed_timer: asyncio.TimerHandle | None = field(default=None, init=False)

    # What is wanted. ---------------------------------------------------------------------------------------------

    def window_for(self, topic_filter: str, deduplicate: Window | bool | None) -> Window | None:  # noqa: FBT001 - an option
        """The window that a new subscription asks for; raises `InvalidOption` where it cannot work."""
        if deduplicate is not None and not isinstance(deduplicate, bool | Window):
            why = f"a {type(deduplicate).__name__} is none of a Window, True, False, None"
            raise InvalidOption("deduplicate", why)
        if deduplicate and not self.carries_ids:
            raise InvalidOption("deduplicate", "MQTT 3.1.1 carries no ids; set protocol='5', or an envelope")
        if isinstance(deduplicate, bool):
            return Window() if deduplicate else None
        window = self.window if deduplicate is None else deduplicate
        if window is not None and any(other._inbox.window is window for other in self.wanted.named(topic_filter)):
            why = f"another subscription to {topic_filter!r} uses this window, and each would miss what the other has"
            raise InvalidOption("deduplicate", f"{why}; give one of them a Window of its own")
        return window

    def add(self, subscription: Subscription) -> None:
        """Somebody wants *subscription*."""
        wanted = subscription.filter
        others = self.wanted.named(wanted.topic_filter)
        self.wanted.add(subscription)
        self._ended.discard(wanted.topic_filter)
        if self._unclaimed:
            self._claim()
        if wanted.topic_filter in self.wanted.held and all(other.filter.qos >= wanted.qos for other in others):
            subscription._answered(None)
        else:
            self.wanted.held.pop(wanted.topic_filter, None)
            self._reconcile_soon()

    def remove(self, subscription: Subscription) -> None:
        """Nobody wants *subscription* any more; what waits in it is dropped, and acknowledged."""
        subscription._close()
        subscription._inbox.discard()
        if self.wanted.remove(subscription):
            if self._unclaimed is not None:
                self._ended.add(subscription.topic_filter)
            self._reconcile_soon()

    def close(self) -> None:
        """The transport ends: nobody takes messages any more, the broker keeps what was not acknowledged."""
        for timer in (self._timer, self._unclaimed_timer):
            if timer is not None:
                timer.cancel()
        for subscription in self.wanted.all():
            subscription._close()
            subscription._inbox.abandon()

    # What the broker holds. --------------------------------------------------------------------------------------

    async def restore(self, connection: Connection, *, session_present: bool) -> None:
        """Bring the subscriptions back on a new *connection*; raises ``ConnectionError`` when it is gone."""
        if not session_present:
            self.wanted.lose_session()
        await self._reconcile(connection)

    def open(self, connection: Connection) -> None:
        """*connection* is usable."""
        self._connection = connection
        if self._unclaimed_timer is None:
            self._unclaimed_timer = self.loop.call_later(UNCLAIMED, self._end_claims)
        if self.wanted.missing() and self._timer is None:
            self._reconcile_soon()  # asked for while the others were being restored

    def shut(self) -> None:
        """The connection is gone, or about to be."""
        self._connection = None

    def _reconcile_soon(self) -> None:
        """Bring the broker's view up to date on the next turn of the loop; several calls make one packet."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(0, self._reconcile_now)

    def _reconcile_now(self) -> None:
        self._timer = None
        if self._connection is not None:
            self.spawn(self._try_to_reconcile(self._connection))

    async def _try_to_reconcile(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self.answers_within):
                await self._reconcile(connection)
        except ConnectionError:
            return  # the next connection brings them back
        except TimeoutError:
            self.on_unanswered(connection)

    async def _reconcile(self, connection: Connection) -> None:
        """Subscribe to what is wanted and not held, unsubscribe from what is held and not wanted."""
        missing = batches(self.wanted.missing())
        answers = await asyncio.gather(*(connection.subscribe(batch) for batch in missing))
        obsolete = sorted(self.wanted.obsolete)  # as of now: one may be wanted again since
        if obsolete:
            await asyncio.gather(*(connection.unsubscribe(batch) for batch in batches(obsolete)))
            self.wanted.obsolete.difference_update(obsolete)
        refused = False
        for batch, codes in zip(missing, answers, strict=True):
            for asked, code in zip(batch, codes, strict=False):
                refused |= not self._granted(asked, code)
        if refused:
            if self._timer is None:
                self._timer = self.loop.call_later(self._retry_delay, self._reconcile_now)
            self._retry_delay = min(REFUSED_AGAIN[1], self._retry_delay * 2)
        else:
            self._retry_delay = REFUSED_AGAIN[0]

    def _granted(self, asked: Filter, code: int) -> bool:
        """Note the broker's answer for one filter; whether it was granted."""
        name = asked.topic_filter
        refusal = None
        if code >= 0x80:
            why = {0x87: "not authorised", 0x8F: "invalid filter", 0x97: "quota exceeded"}.get(code, "no reason given")
            refusal = SubscriptionRefused(name, code, why)
        subscriptions = self.wanted.named(name)
        if refusal is not None and any(s.refusal is None for s in subscriptions):
            self.emit("subscription_refused", filter=name, reason=f"0x{code:02X}")
        if refusal is None and subscriptions:
            self.wanted.held[name] = code
        for subscription in subscriptions:
            subscription._answered(refusal)
        return refusal is None

    # What arrives. -----------------------------------------------------------------------------------------------

    def arrived(self, message: Message, token: object, acks: AckQueue) -> None:
        """Hand *message* to every subscription that its topic belongs to."""
        self.received += 1
        if self.envelope is not None:
            message = _unwrapped(message, self.envelope)
        wanted = self.wanted.matching(message.topic)
        ack = None
        if token is not None:
            ack = Ack(token, acks, len(wanted), message.qos)
            acks.add(ack)
        if not wanted:
            self._unwanted(Arrival(message, ack))
        for subscription in wanted:
            subscription._inbox.push(Arrival(message, ack))

    def _unwanted(self, arrival: Arrival) -> None:
        """Keep what may still be claimed; acknowledge what nobody wants any more."""
        ack, kept = arrival.ack, self._unclaimed
        has_room = kept is not None and (ack is not None or len(kept) < UNCLAIMED_QOS_0)  # the broker bounds the others
        if kept is not None and has_room and not self._has_ended(arrival.message.topic):
            if ack is not None:
                ack.left = 1
            kept.append(arrival)
        elif ack is not None:
            ack.queue.settle()

    def _has_ended(self, topic: str) -> bool:
        return any(topic_matches(bare_filter(name), topic) for name in self._ended)

    def _claim(self) -> None:
        """Hand over what came before it was subscribed to: a resumed session delivers at once."""
        arrivals, self._unclaimed = self._unclaimed or [], []
        for arrival in arrivals:
            wanted = self.wanted.matching(arrival.message.topic)
            if not wanted:
                self._unclaimed.append(arrival)
                continue
            if arrival.ack is not None:
                arrival.ack.left = len(wanted)
            for subscription in wanted:
                subscription._inbox.push(Arrival(arrival.message, arrival.ack))

    def _end_claims(self) -> None:
        """Nobody has subscribed to these in time: acknowledge them, or they would block the session for ever."""
        arrivals, self._unclaimed = self._unclaimed or [], None
        self._ended.clear()
        for arrival in arrivals:
            if arrival.ack is not None:
                arrival.ack.left = 0
                arrival.ack.queue.settle()
        if arrivals:
            why = f"nobody subscribed to {arrivals[0].message.topic!r} within {UNCLAIMED:g} s of resuming the session"
            self.emit("message_dropped", count=len(arrivals), why=why)


def _unwrapped(message: Message, envelope: Envelope) -> Message:
    """*message* without its envelope; as it is, when it has none or the envelope's code fails."""
    try:
        message_id, payload = envelope.unwrap(message.payload)
        if message_id is None:
            return message
        _check_unwrapped(message_id, payload)
    except (Exception, SystemExit):  # the application's: what it cannot read is handled as it came
        log.exception("switchgear.envelope_failed", extra={"topic": message.topic})
        return message
    return evolve(message, payload=payload, id=message_id)


def _check_unwrapped(message_id: object, payload: object) -> None:
    if not isinstance(message_id, str) or not isinstance(payload, bytes):
        kinds = f"({type(message_id).__name__}, {type(payload).__name__})"
        raise TypeError(f"unwrap returned {kinds}; it returns (str, bytes), or None and the payload")
