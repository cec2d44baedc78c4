"""Topic names and filters: which are valid, and which match. Pure.

Source: MQTT 5.0, sections 4.7 (wildcards, topics that begin with $) and 4.8.2 (shared subscriptions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from switchgear.testing.broker.packets import Subscription

_MEMORY = 8192  # topics whose subscribers are remembered; a test that uses more pays for a look-up each time


def is_filter(text: str) -> bool:
    """Whether *text* is a valid topic filter, shared or not."""
    if text.startswith("$share/"):
        shared = split_share(text)
        if shared is None:
            return False
        text = shared[1]
    levels = text.split("/")
    return (
        bool(text)
        and all(level in ("+", "#") or ("+" not in level and "#" not in level) for level in levels)
        and "#" not in levels[:-1]
    )


def split_share(text: str) -> tuple[str, str] | None:
    """The group and the filter of a shared subscription, or `None` when *text* is no valid one."""
    head, _, rest = text.partition("/")
    group, slash, name = rest.partition("/")
    if head != "$share" or not group or not slash or not name or "+" in group or "#" in group:
        return None
    return group, name


def matches(name: str, topic: str) -> bool:
    """Whether the filter *name* matches *topic*; a wildcard in front never matches a topic that begins with $."""
    if topic.startswith("$") and name[:1] in ("+", "#"):
        return False
    levels, wanted = topic.split("/"), name.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


@frozen
class Entry:
    """One subscription of one client, as the index keeps it; `group` is "" when it is not shared."""

    client_id: str
    subscription: Subscription
    group: str = ""
    identifier: int | None = None


@frozen
class Subscribers:
    """Who gets a message: the entries of each client, and those of each shared subscription."""

    plain: dict[str, list[Entry]]
    shared: dict[tuple[str, str], list[Entry]]


@define
class _Node:
    below: dict[str, _Node] = field(factory=dict)
    entries: dict[tuple[str, str], Entry] = field(factory=dict)


class Index:
    """All subscriptions of a store, found by topic; it remembers what it found until a subscription changes."""

    def __init__(self) -> None:
        self._root = _Node()
        self._found: dict[str, Subscribers] = {}

    def add(self, entry: Entry) -> None:
        """Enter a subscription; one of the same client and filter is replaced."""
        node = self._root
        for level in _levels(entry.subscription.filter):
            node = node.below.setdefault(level, _Node())
        node.entries[entry.client_id, entry.group] = entry
        self._found.clear()

    def remove(self, client_id: str, name: str) -> None:
        """Forget a subscription; one that is not there is no error."""
        path = [(self._root, "")]
        for level in _levels(name):
            node = path[-1][0].below.get(level)
            if node is None:
                return
            path.append((node, level))
        shared = split_share(name)
        path[-1][0].entries.pop((client_id, shared[0] if shared else ""), None)
        while len(path) > 1 and not path[-1][0].entries and not path[-1][0].below:
            _, level = path.pop()
            del path[-1][0].below[level]
        self._found.clear()

    def find(self, topic: str) -> Subscribers:
        """The subscriptions that match *topic*."""
        found = self._found.get(topic)
        if found is None:
            if len(self._found) >= _MEMORY:
                self._found.clear()
            found = self._found[topic] = self._search(topic)
        return found

    def _search(self, topic: str) -> Subscribers:
        found = Subscribers({}, {})
        nodes = [self._root]
        for depth, level in enumerate(topic.split("/")):
            is_hidden = depth == 0 and level.startswith("$")
            after = []
            for node in nodes:
                if not is_hidden:
                    _collect(node.below.get("#"), found)
                    after.append(node.below.get("+"))
                after.append(node.below.get(level))
            nodes = [node for node in after if node is not None]
        for node in nodes:
            _collect(node.below.get("#"), found)
            _collect(node, found)
        return found


def _levels(name: str) -> list[str]:
    shared = split_share(name)
    return (shared[1] if shared else name).split("/")


def _collect(node: _Node | None, found: Subscribers) -> None:
    for entry in node.entries.values() if node else ():
        if entry.group:
            found.shared.setdefault((entry.group, _plain_name(entry)), []).append(entry)
        else:
            found.plain.setdefault(entry.client_id, []).append(entry)


def _plain_name(entry: Entry) -> str:
    return entry.subscription.filter.partition("/")[2].partition("/")[2]
