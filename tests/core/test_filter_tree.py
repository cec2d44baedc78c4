from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from switchgear import Filter
from switchgear.filter_tree import FilterTree
from switchgear.message import topic_matches
from switchgear.subscriptions import Subscriptions

LEVELS = st.sampled_from(["", "a", "b", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, ending: "/".join([*levels, *ending]),
    st.lists(LEVELS | st.just("+"), max_size=4),
    st.sampled_from([["#"], ["a"], ["+"]]),
)


@given(st.lists(FILTERS, unique=True, max_size=12), st.data(), st.lists(TOPICS, min_size=1))
def test_it_finds_what_the_rule_finds(filters: list[str], data: st.DataObject, topics: list[str]) -> None:
    """After any additions and removals exactly the filters that match are found, in the order of adding."""
    tree = FilterTree()
    for topic_filter in filters:
        tree.add(f"name of {topic_filter}", topic_filter)
    removed = data.draw(st.sets(st.sampled_from(filters))) if filters else set()
    for topic_filter in removed:
        tree.remove(f"name of {topic_filter}", topic_filter)
    kept = [topic_filter for topic_filter in filters if topic_filter not in removed]
    for topic in topics:
        assert [f"name of {f}" for f in kept if topic_matches(f, topic)] == tree.matching(topic)


def test_nothing_is_left_of_what_was_removed() -> None:
    """A program that subscribes and unsubscribes for years keeps no branch of what it no longer wants."""
    tree = FilterTree()
    tree.add("kept", "a/b")
    for n in range(100):
        tree.add("gone", f"a/{n}/+/#")
        tree.remove("gone", f"a/{n}/+/#")
    tree.remove("kept", "a/b")
    assert tree._root.children == {}


def test_two_names_of_one_filter() -> None:
    """Two names for one filter, as of a shared subscription and a plain one, are told apart."""
    tree = FilterTree()
    tree.add("$share/g/a/+", "a/+")
    tree.add("a/+", "a/+")
    assert tree.matching("a/b") == ["$share/g/a/+", "a/+"]
    tree.remove("$share/g/a/+", "a/+")
    assert tree.matching("a/b") == ["a/+"]


@frozen(eq=False)
class Want:
    """The least that can be subscribed."""

    filter: Filter


def steps(subscriptions: Subscriptions[Want], topic: str) -> int:
    """How many lines of Python run to find who wants *topic*."""
    lines: Counter[str] = Counter()

    def trace(_frame: Any, event: str, _argument: object) -> Any:
        lines[event] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        subscriptions.matching(topic)
    finally:
        sys.settrace(before)
    return lines["line"]


def test_a_topic_costs_the_same_among_thousands() -> None:
    """A message takes no longer to place among 5 000 filters than among ten, or it would hold up every transport."""
    few: Subscriptions[Want] = Subscriptions()
    many: Subscriptions[Want] = Subscriptions()
    for subscriptions, count in ((few, 10), (many, 5_000)):
        for n in range(count):
            subscriptions.add(Want(Filter(f"devices/{n}/+/state")))
    assert steps(few, "devices/7/x/state") == steps(many, "devices/7/x/state")


def test_wildcards_in_a_topic_of_a_wrong_broker() -> None:
    """A broker that sends a topic with wildcards in it, which MQTT forbids, does not make the look-up explode."""
    tree = FilterTree()
    tree.add("plus", "/".join("+" * 40))
    assert tree.matching("/".join("+" * 40)) == ["plus"]
