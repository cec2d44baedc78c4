from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.testing.broker import packets as p
from switchgear.testing.broker.topics import Entry, Index, is_filter, matches, split_share


@pytest.mark.parametrize(
    ("name", "topic", "is_match"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("+", "/a", False),
        ("+/+", "/a", True),
        ("#", "$SYS/a", False),
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("a/+/c", "a/b/c", True),
        ("A", "a", False),
    ],
)
def test_matches(name: str, topic: str, is_match: bool) -> None:  # noqa: FBT001 (a table of cases)
    """Filters match as section 4.7 of the specification says."""
    assert matches(name, topic) is is_match


@pytest.mark.parametrize(
    "name", ["", "a#", "#/a", "a+/b", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/g/a#"]
)
def test_invalid_filter(name: str) -> None:
    """A filter that breaks the rules is not valid."""
    assert not is_filter(name)


LEVELS = st.lists(st.sampled_from(["a", "b", "", "$s", "+", "#"]), min_size=1, max_size=4)


@given(
    st.lists(LEVELS.map("/".join).filter(is_filter), max_size=12),
    st.lists(st.sampled_from(["a", "b", "", "$s"]), min_size=1, max_size=5).map("/".join),
    st.data(),
)
def test_index(names: list[str], topic: str, data: st.DataObject) -> None:
    """The index finds, with entries added and removed, the very filters that `matches` accepts."""
    index = Index()
    for name in names:
        index.add(Entry("c", p.Subscription(name)))
    index.find(topic)
    gone = data.draw(st.sets(st.sampled_from(names))) if names else set()
    for name in gone:
        index.remove("c", name)
    found = {entry.subscription.filter for entry in index.find(topic).plain.get("c", [])}
    assert found == {name for name in names if name not in gone and matches(name, topic)}


def test_split_share() -> None:
    """A shared subscription names a group and a filter."""
    assert split_share("$share/g/a/+") == ("g", "a/+")
    assert split_share("a/$share/g") is None
