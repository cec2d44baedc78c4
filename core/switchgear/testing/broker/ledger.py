"""What the brokers saw, in order. Pure: the entries are handed in with their times."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from switchgear.testing.broker.properties import NO_PROPERTIES, Properties
from switchgear.testing.broker.topics import matches

if TYPE_CHECKING:
    from collections.abc import Callable


@frozen
class Origin:
    """Where an entry comes from: broker name, number of the connection (from 1, per broker), client id ("" before CONNECT)."""

    broker: str
    number: int
    client_id: str


@frozen(kw_only=True)
class _Entry:
    """`at` is the loop time in seconds."""

    at: float
    origin: Origin

    @property
    def broker(self) -> str:
        """The name of the broker."""
        return self.origin.broker

    @property
    def number(self) -> int:
        """The number of the connection, from 1, per broker."""
        return self.origin.number

    @property
    def client_id(self) -> str:
        """The client id, "" while none is known."""
        return self.origin.client_id


@frozen(kw_only=True)
class Connected(_Entry):
    """A CONNECT and its answer; `code` is the CONNACK's, in the client's version, `None` when there was no answer.

    `clean` is the flag of the CONNECT, `keepalive` is in seconds.
    """

    version: int
    clean: bool
    keepalive: int
    username: str | None
    session_present: bool
    code: int | None


@frozen(kw_only=True)
class Closed(_Entry):
    """The end of a connection, and how.

    `how` is "disconnect" (the client's), "lost" (the client closed without one), "broken" (the network failed),
    "takeover", "kicked", "killed", "stopped", "refused", "keepalive", "protocol error", "internal error", or the
    name of the fault that did it. `code` is the reason code of the DISCONNECT that ended it, from either side.
    """

    how: str
    code: int | None = None


@frozen(kw_only=True)
class Published(_Entry):
    """A PUBLISH that the broker accepted from a client."""

    topic: str
    payload: bytes
    qos: int
    dup: bool
    is_retained: bool
    packet_id: int
    properties: Properties = NO_PROPERTIES


@frozen(kw_only=True)
class Repeated(_Entry):
    """A PUBLISH of QoS 2 with a packet id that the session holds: answered, and not passed on again."""

    topic: str
    payload: bytes
    packet_id: int
    dup: bool


@frozen(kw_only=True)
class Delivered(_Entry):
    """A PUBLISH that the broker sent to a client."""

    topic: str
    payload: bytes
    qos: int
    dup: bool
    is_retained: bool
    packet_id: int


@frozen(kw_only=True)
class Subscribed(_Entry):
    """One filter of a SUBSCRIBE; `code` is what SUBACK said."""

    filter: str
    qos: int
    code: int


@frozen(kw_only=True)
class Unsubscribed(_Entry):
    """One filter of an UNSUBSCRIBE."""

    filter: str
    existed: bool


@frozen(kw_only=True)
class Acked(_Entry):
    """PUBACK, PUBREC, PUBREL or PUBCOMP, sent by the broker or received by it."""

    packet: str
    packet_id: int
    code: int
    is_sent: bool


Entry: TypeAlias = Connected | Closed | Published | Repeated | Delivered | Subscribed | Unsubscribed | Acked


@frozen(eq=False)
class Ledger:
    """Everything that one broker, or several, saw.

    With `keep` false it counts and keeps no entries, for benchmarks and demos that run for long: `entries` and
    every helper that reads it stay empty.
    """

    keep: bool = True
    entries: list[Entry] = field(factory=list, init=False)
    counts: Counter[type[Entry]] = field(factory=Counter, init=False)
    _waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = field(factory=list, init=False)

    def record(self, entry: Entry) -> None:
        """Keep and count one entry."""
        if self.keep:
            self.entries.append(entry)
        self.count(type(entry))

    def count(self, kind: type[Entry]) -> None:
        """Count an entry without keeping it; the cheap way when `keep` is false."""
        self.counts[kind] += 1
        if self._waiting:
            self._wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as *condition* holds; it is asked now and after each entry. No time limit of its own."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (condition, future)
        self._waiting.append(waiting)
        try:
            await future
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def published(self, topic_filter: str = "#") -> list[Published]:
        """What clients published and the broker accepted, in order.

        The filter matches as in MQTT, but "#" alone is everything, topics that begin with $ included.
        """
        return [e for e in self.entries if isinstance(e, Published) and _selects(topic_filter, e.topic)]

    def delivered(self, topic_filter: str = "#", *, client_id: str | None = None) -> list[Delivered]:
        """What the broker sent to one client, or to all, in order."""
        return [
            e
            for e in self.entries
            if isinstance(e, Delivered)
            and _selects(topic_filter, e.topic)
            and (client_id is None or e.client_id == client_id)
        ]

    def payloads(self, topic_filter: str = "#") -> list[bytes]:
        """The payloads of `published`, in order, those that came twice included."""
        return [e.payload for e in self.published(topic_filter)]

    def duplicates(self, topic_filter: str = "#") -> list[Published]:
        """The accepted messages that the same client had published before: same topic, same payload."""
        seen: set[tuple[str, str, bytes]] = set()
        again = []
        for entry in self.published(topic_filter):
            key = (entry.client_id, entry.topic, entry.payload)
            if key in seen:
                again.append(entry)
            seen.add(key)
        return again

    def connects(self, client_id: str | None = None) -> list[Connected]:
        """The CONNECTs of one client id, or of all, in order."""
        return [e for e in self.entries if isinstance(e, Connected) and client_id in (None, e.client_id)]

    def ends(self, client_id: str | None = None) -> list[Closed]:
        """How the connections of one client id, or of all, ended, in order."""
        return [e for e in self.entries if isinstance(e, Closed) and client_id in (None, e.client_id)]

    def subscribes(self, client_id: str | None = None) -> list[Subscribed]:
        """The filters that one client id, or all, subscribed to, in order."""
        return [e for e in self.entries if isinstance(e, Subscribed) and client_id in (None, e.client_id)]

    def clear(self) -> None:
        """Forget all entries and counts."""
        self.entries.clear()
        self.counts.clear()

    def _wake(self) -> None:
        for waiting in list(self._waiting):
            condition, future = waiting
            if future.done():
                continue
            try:
                if condition():
                    future.set_result(None)
            except Exception as error:  # the caller's own condition failed: it hears of it, the broker goes on
                future.set_exception(error)


def _selects(topic_filter: str, topic: str) -> bool:
    return topic_filter == "#" or matches(topic_filter, topic)
