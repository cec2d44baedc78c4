"""What was written down in one stage: by publishers, brokers, the consumer, and by those who broke things. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict

from attrs import define, field, frozen

Key = tuple[int, int]
"""A message: publisher and number."""


@frozen(kw_only=True)
class Arrival:
    """A PUBLISH that reached a broker, in the order of its log; *session* counts those of the publisher there.

    *packet_id* is the one that it had on its way. Its connection was usable from *begun* on, where that is known for sure:
    mosquitto's log has whole seconds, and a repetition may come in the second of the acknowledgement.
    """

    key: Key
    broker: int
    connection: int
    session: int
    time: float
    packet_id: int = 0
    begun: float = 0.0


@frozen(kw_only=True)
class Delivered:
    """A PUBLISH that a broker sent to the consumer, in the order of its log; *released*: a PUBREL followed (QoS 2)."""

    key: Key
    broker: int
    connection: int
    time: float
    released: bool = False


@frozen(kw_only=True)
class Handled:
    """A message that the consumer's handler was done with, in the order of its journal."""

    key: Key
    broker: int
    time: float


@frozen(kw_only=True)
class Strike:
    """A fault that happened; times in seconds since 1970. *touched* names the publishers, or ``consumer``.

    *felt*: it struck something that was there and at work. One that was not explains as much, and counts for nothing.
    """

    kind: str
    target: str
    began: float
    ended: float
    touched: frozenset[str]
    felt: bool = True


@define(kw_only=True)
class Evidence:
    """Everything that was written down in one stage.

    Attributes:
        stored: When each message was reported to be stored.
        ended: Messages that their delivery reported as ended otherwise: when, and how.
        acked: When the publisher heard that a message was acknowledged; in each of its lives that sent it.
        kills: When each publisher was killed.
        lives: When each life of the consumer began.
        steady_from: When the last publishing without any fault began; from then on nothing is excused. None: there is none.
        losses: Connections that ended: of whom, and when.
        effects: How many effects each message had, in the database of the consumer's handler.
        exactly_once: Publishers whose messages carry an id, with which that handler notes them beside the effect.
        one_store: Whether the brokers are one for their clients, as a pair on one store.
    """

    stored: dict[Key, float] = field(factory=dict)
    ended: dict[Key, tuple[float, str]] = field(factory=dict)
    acked: defaultdict[Key, list[float]] = field(factory=lambda: defaultdict(list))
    kills: defaultdict[int, list[float]] = field(factory=lambda: defaultdict(list))
    lives: list[float] = field(factory=list)
    steady_from: float | None = None
    losses: list[tuple[str, float]] = field(factory=list)
    arrivals: list[Arrival] = field(factory=list)
    delivered: list[Delivered] = field(factory=list)
    handled: list[Handled] = field(factory=list)
    strikes: list[Strike] = field(factory=list)
    effects: Counter[Key] = field(factory=Counter)
    exactly_once: frozenset[int] = frozenset()
    one_store: bool = False
