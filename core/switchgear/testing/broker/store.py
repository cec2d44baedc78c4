"""What outlives a broker: sessions, queued and retained messages. In memory only, no I/O, no clock.

Two brokers on one `Store` are an active-standby pair: whatever one of them put here before it acknowledged,
the other delivers. Times are those of the event loop, so both brokers have to run on the same one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define, evolve, field, frozen

from switchgear.testing.broker.properties import NO_PROPERTIES, Properties
from switchgear.testing.broker.topics import Entry, Index, split_share

if TYPE_CHECKING:
    from switchgear.testing.broker.packets import Subscription

FOREVER: Final = 0xFFFF_FFFF  # a session expiry interval that never ends: MQTT 5.0, 3.1.2.11.2


@frozen
class Message:
    """An accepted message; `publisher` is the client id it came from, `expires_at` a loop time in seconds."""

    topic: str
    payload: bytes
    qos: int = 0
    is_retained: bool = False
    properties: Properties = NO_PROPERTIES
    publisher: str = ""
    expires_at: float | None = None

    def has_expired(self, now: float) -> bool:
        """Whether its message expiry interval has passed."""
        return self.expires_at is not None and now >= self.expires_at

    def properties_at(self, now: float) -> Properties:
        """Its properties, with what is left of the message expiry interval, in whole seconds and at least 1."""
        if self.expires_at is None:
            return self.properties
        return evolve(self.properties, message_expiry_interval=max(1, round(self.expires_at - now)))


@define
class Outgoing:
    """A message on its way to one session; `is_released` once its PUBREC has come."""

    message: Message
    qos: int
    is_retained: bool = False
    identifiers: tuple[int, ...] = ()
    is_released: bool = False


class Link(Protocol):
    """The live connection of a session, whichever broker holds it."""

    def pump(self) -> None:
        """Send what the session has queued, as far as the client's receive maximum allows."""

    def send_now(self, outgoing: Outgoing) -> None:
        """Send a message of QoS 0."""

    def supersede(self) -> None:
        """Close: another connection has the client id now."""


@define(eq=False)
class Session:
    """What the broker remembers of one client id.

    `expiry` is the session expiry interval in seconds (0: it ends with its connection); `expires_at` is set while
    no connection holds it. `inflight` keeps the order of sending; `inbound` holds the packet ids of QoS 2
    messages that were passed on and not yet released, which is what makes them arrive exactly once.
    """

    client_id: str
    expiry: int = 0
    expires_at: float | None = None
    link: Link | None = None
    subscriptions: dict[str, Entry] = field(factory=dict)
    queue: deque[Outgoing] = field(factory=deque)
    inflight: dict[int, Outgoing] = field(factory=dict)
    inbound: set[int] = field(factory=set)
    _last_id: int = 0

    def has_expired(self, now: float) -> bool:
        """Whether its session expiry interval has passed."""
        return self.link is None and self.expires_at is not None and now >= self.expires_at

    def next_packet_id(self) -> int:
        """A packet id that no message in flight uses; the caller sees to it that there is one."""
        packet_id = self._last_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self.inflight:
                self._last_id = packet_id
                return packet_id


class Store:
    """Sessions, retained messages and queued messages, shared by the brokers that are given it."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, Message] = {}
        self.index = Index()
        self._turns: dict[tuple[str, str], int] = {}

    def session(self, client_id: str, *, now: float) -> Session | None:
        """The session of *client_id*, unless it has none or it has expired."""
        session = self.sessions.get(client_id)
        if session is not None and session.has_expired(now):
            self.forget(session)
            return None
        return session

    def create(self, client_id: str) -> Session:
        """A new session; one that the client id already had is forgotten."""
        old = self.sessions.get(client_id)
        if old is not None:
            self.forget(old)
        session = self.sessions[client_id] = Session(client_id)
        return session

    def forget(self, session: Session) -> None:
        """End a session: its subscriptions and its messages are gone."""
        for name in session.subscriptions:
            self.index.remove(session.client_id, name)
        session.subscriptions.clear()
        session.queue.clear()
        session.inflight.clear()
        session.inbound.clear()
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]

    def subscribe(self, session: Session, subscription: Subscription, *, identifier: int | None = None) -> bool:
        """Enter a subscription, and tell whether the session did not have one with this filter before."""
        shared = split_share(subscription.filter)
        entry = Entry(session.client_id, subscription, shared[0] if shared else "", identifier)
        is_new = subscription.filter not in session.subscriptions
        session.subscriptions[subscription.filter] = entry
        self.index.add(entry)
        return is_new

    def unsubscribe(self, session: Session, name: str) -> bool:
        """Remove a subscription, and tell whether there was one."""
        if session.subscriptions.pop(name, None) is None:
            return False
        self.index.remove(session.client_id, name)
        return True

    def retain(self, message: Message) -> None:
        """Keep the last retained message of a topic; an empty payload removes it."""
        if message.payload:
            self.retained[message.topic] = message
        else:
            self.retained.pop(message.topic, None)

    def turn(self, key: tuple[str, str]) -> int:
        """Count the messages of one shared subscription, so that its members take turns."""
        turn = self._turns.get(key, -1) + 1
        self._turns[key] = turn
        return turn
