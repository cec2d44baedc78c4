"""What the application wants to receive: the desired set of filters, and which subscription a topic belongs to. Pure.

The desired set is kept apart from what the present session holds; a reconnect sends the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from attrs import define, evolve, field

from switchgear.filter_tree import FilterTree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from switchgear.drivers.base import Filter

BATCH: Final = 8
"""Filters in one SUBSCRIBE or UNSUBSCRIBE. AWS IoT takes at most 8 and closes the connection on more."""

MATCHES: Final = 4096
"""Topics whose subscriptions are remembered; then the memory starts afresh."""


class Wanted(Protocol):
    """One subscription: a filter and somebody who takes its messages."""

    @property
    def filter(self) -> Filter:
        """What was subscribed to."""
        ...


W = TypeVar("W", bound=Wanted)
F = TypeVar("F")


def bare_filter(topic_filter: str) -> str:
    """*topic_filter* without ``$share/NAME/``."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter


@define(eq=False)
class Subscriptions(Generic[W]):
    """The subscriptions of one transport."""

    _wanted: dict[str, list[W]] = field(factory=dict)
    _tree: FilterTree = field(factory=FilterTree)  # the names of `_wanted`
    held: dict[str, int] = field(factory=dict)
    """Filters that the present session holds, with the QoS that the broker granted."""
    obsolete: set[str] = field(factory=set)
    """Filters that the session may still hold and nobody wants."""
    _matches: dict[str, tuple[W, ...]] = field(factory=dict)

    def add(self, wanted: W) -> None:
        """Somebody wants *wanted*."""
        name = wanted.filter.topic_filter
        if name not in self._wanted:
            self._tree.add(name, bare_filter(name))
        self._wanted.setdefault(name, []).append(wanted)
        self.obsolete.discard(name)
        self._matches.clear()

    def remove(self, wanted: W) -> bool:
        """*wanted* is not wanted any more; whether its filter is now obsolete."""
        name = wanted.filter.topic_filter
        others = self._wanted.get(name, [])
        if wanted not in others:
            return False
        others.remove(wanted)
        self._matches.clear()
        if others:
            return False
        del self._wanted[name]
        self._tree.remove(name, bare_filter(name))
        self.held.pop(name, None)
        self.obsolete.add(name)
        return True

    def named(self, topic_filter: str) -> list[W]:
        """The subscriptions to exactly *topic_filter*."""
        return list(self._wanted.get(topic_filter, ()))

    def all(self) -> list[W]:
        """Every subscription."""
        return [wanted for group in self._wanted.values() for wanted in group]

    def lose_session(self) -> None:
        """The broker says that it holds nothing of ours.

        What is obsolete stays so: ActiveMQ says this at every connection, and keeps durable subscriptions all the same
        (seen with 5.17.2). An UNSUBSCRIBE of what is not there does no harm.
        """
        self.held.clear()

    def missing(self) -> list[Filter]:
        """What the session does not hold yet: one filter each, with the highest QoS that somebody wants."""
        result = []
        for name, group in self._wanted.items():
            qos = max(wanted.filter.qos for wanted in group)
            if name not in self.held or self.held[name] < 0:
                result.append(evolve(group[0].filter, qos=qos))
        return result

    def matching(self, topic: str) -> tuple[W, ...]:
        """The subscriptions that *topic* belongs to."""
        found = self._matches.get(topic)
        if found is None:
            found = tuple(wanted for name in self._tree.matching(topic) for wanted in self._wanted[name])
            if len(self._matches) >= MATCHES:
                self._matches.clear()
            self._matches[topic] = found
        return found


def batches(filters: Iterable[F], size: int = BATCH) -> list[list[F]]:
    """The *filters*, or their names, in lists of at most *size*."""
    listed = list(filters)
    return [listed[i : i + size] for i in range(0, len(listed), size)]
