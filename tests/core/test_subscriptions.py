from __future__ import annotations

import re

import pytest
from attrs import frozen
from hypothesis import assume, given
from hypothesis import strategies as st
from switchgear import Filter, InvalidOption, InvalidTopic, topic_matches
from switchgear.message import check_filter, check_qos, check_topic
from switchgear.subscriptions import BATCH, MATCHES, Subscriptions, bare_filter, batches


@frozen(eq=False)
class Want:
    """The least that can be subscribed."""

    filter: Filter


# MQTT 5, 4.7.1.2, 4.7.1.3, 4.7.2, 4.7.3: the examples of the specification.
@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "anything/at/all", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player2", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("+", "finance", True),
        ("+/tennis/#", "sport/tennis", True),
        ("#", "$SYS/x", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("ACCOUNTS", "Accounts", False),
        ("a", "a/", False),
        ("/a", "a", False),
        ("a//b", "a//b", True),
        ("a/+/b", "a//b", True),
    ],
)
def test_specification(topic_filter: str, topic: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """The examples of the MQTT specification match, or do not, as it says."""
    check_filter(topic_filter)
    check_topic(topic)
    assert topic_matches(topic_filter, topic) is expected


def oracle(topic_filter: str, topic: str) -> bool:
    """The rule once more, as a regular expression."""
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    pattern = re.escape(topic_filter).replace(r"\+", "[^/]*").replace(r"/\#", "(/.*)?").replace(r"\#", ".*")
    return re.fullmatch(pattern, topic, re.DOTALL) is not None


LEVEL = st.sampled_from(["", "a", "b", "$x", "\n"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVEL | st.just("+"), max_size=4),
    st.sampled_from([[], ["#"]]),
)


@given(FILTERS, TOPICS)
def test_oracle(topic_filter: str, topic: str) -> None:
    """Matching agrees with a regular expression that is made from the filter."""
    assume(topic and topic_filter)
    assert topic_matches(topic_filter, topic) is oracle(topic_filter, topic)


@pytest.mark.parametrize("topic", ["a", "/", " ", "\u00e4/\U0001f600", "$SYS/x", "x" * 65535])
def test_topics(topic: str) -> None:
    """What MQTT allows in a topic is taken."""
    check_topic(topic)
    check_filter(topic)


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("", "empty"),
        ("a\0b", "U[+]0000"),
        ("\ud800", "surrogate"),
        ("x" * 65536, "at most 65535"),
        ("\u00e4" * 32768, "65536 bytes"),
        (None, "must be a str"),
        (b"a", "must be a str"),
        (7, "must be a str"),
    ],
)
def test_bad_texts(topic: object, why: str) -> None:
    """What is no text for MQTT is refused as a topic and as a filter, with the reason."""
    for check in (check_topic, check_filter):
        with pytest.raises(InvalidTopic, match=why):
            check(topic)  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.parametrize("topic", ["+", "a/#", "a+b", "a/b#"])
def test_wildcards_in_topics(topic: str) -> None:
    """A message cannot be published to a wildcard."""
    with pytest.raises(InvalidTopic, match="wildcard"):
        check_topic(topic)


@pytest.mark.parametrize(
    "topic_filter",
    ["a#", "#/a", "a/#/b", "a+", "+a/b", "##", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a"],
)
def test_bad_filters(topic_filter: str) -> None:
    """A wildcard that is no whole level, # before the end, and a broken shared filter are refused."""
    with pytest.raises(InvalidTopic):
        check_filter(topic_filter)


def test_shared() -> None:
    """A shared filter is taken, and matches as what stands behind the name of its group."""
    check_filter("$share/g/a/+/#")
    assert [bare_filter(f) for f in ("$share/g/a/+/#", "a/b", "$shared/g/a")] == ["a/+/#", "a/b", "$shared/g/a"]


@pytest.mark.parametrize("qos", [3, -1, True, "1", None, 1.5])
def test_bad_qos(qos: object) -> None:
    """Anything but the numbers 0, 1 and 2 is no QoS."""
    with pytest.raises(InvalidOption, match="none of 0, 1, 2"):
        check_qos(qos)


def test_batches() -> None:
    """Filters go out in batches of eight, in order."""
    filters = [Filter(f"f/{n}") for n in range(2 * BATCH + 1)]
    assert [len(batch) for batch in batches(filters)] == [8, 8, 1]
    assert [f for batch in batches(filters) for f in batch] == filters
    assert batches([]) == []


def test_missing_and_held() -> None:
    """What is wanted and not held is missing, once for each filter, with the highest QoS and the first's options."""
    subscriptions: Subscriptions[Want] = Subscriptions()
    for wanted in (Filter("a", 0, no_local=True), Filter("b", 1), Filter("a", 2)):
        subscriptions.add(Want(wanted))
    assert subscriptions.missing() == [Filter("a", 2, no_local=True), Filter("b", 1)]
    subscriptions.held["a"] = 2
    assert subscriptions.missing() == [Filter("b", 1)]
    subscriptions.lose_session()
    assert [f.topic_filter for f in subscriptions.missing()] == ["a", "b"]


def test_obsolete() -> None:
    """A filter is obsolete when the last who wanted it has left, until it is wanted again; a lost session may still have it."""
    subscriptions: Subscriptions[Want] = Subscriptions()
    one, two = Want(Filter("a")), Want(Filter("a"))
    subscriptions.add(one)
    subscriptions.add(two)
    subscriptions.held["a"] = 0
    assert not subscriptions.remove(one)
    assert not subscriptions.remove(one)
    assert subscriptions.obsolete == set()
    assert subscriptions.remove(two)
    assert (subscriptions.obsolete, subscriptions.held, subscriptions.missing()) == ({"a"}, {}, [])
    subscriptions.add(one)
    assert (subscriptions.obsolete, len(subscriptions.missing())) == (set(), 1)
    subscriptions.remove(one)
    subscriptions.lose_session()
    assert subscriptions.obsolete == {"a"}


def test_matching() -> None:
    """A topic belongs to each subscription whose filter matches, also after changes and more topics than are remembered."""
    subscriptions: Subscriptions[Want] = Subscriptions()
    exact, wild, shared = Want(Filter("a/b")), Want(Filter("a/+")), Want(Filter("$share/g/#"))
    for wanted in (exact, wild, shared):
        subscriptions.add(wanted)
    assert subscriptions.matching("a/b") == (exact, wild, shared)
    subscriptions.remove(wild)
    assert subscriptions.matching("a/b") == (exact, shared)
    for n in range(MATCHES + 1):
        assert subscriptions.matching(f"x/{n}") == (shared,)
    assert len(subscriptions._matches) <= MATCHES
    assert subscriptions.matching("a/b") == (exact, shared)
    assert subscriptions.all() == [exact, shared]
    assert subscriptions.named("a/b") == [exact]
