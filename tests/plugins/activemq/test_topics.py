from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.errors import InvalidTopic
from switchgear_activemq import check_topic


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("a.b/c", "'.' as '/'"),
        ("a/b*", r"'\*' as '\+'"),
        (">/a", "'>' as '#'"),
        ("a,b", "comma"),
        ("a?b", "question mark"),
        (" a", "white space"),
        ("a/b\n", "white space"),
        ("$share/group/a", "shared"),
        ("+/a.b/#", "'.' as '/'"),
    ],
)
def test_changed(topic: str, why: str) -> None:
    """A topic or filter that ActiveMQ would change is refused, with the reason and the way to send it all the same."""
    with pytest.raises(InvalidTopic, match=why) as caught:
        check_topic(topic)
    assert 'topics = "any"' in str(caught.value)


@pytest.mark.parametrize(
    "topic",
    [
        "a",
        "a/b",
        "/a",
        "a/",
        "a//b",
        "/",
        "a b/c",
        "é/中",
        "$SYS/x",
        "VirtualTopic/a",
        "ActiveMQ/Advisory/x",
        "+/a/#",
        "#",
        "a-b_c:d",
    ],
)
def test_unchanged(topic: str) -> None:
    """What ActiveMQ gives back as it was is let through."""
    assert check_topic(topic) is None  # type: ignore[func-returns-value]  # that it returns is what is tested


TO_ACTIVEMQ = str.maketrans("/+#.*>", ".*>/+#")


def activemq_name(topic: str) -> str:
    """The destination's name on the broker, by `MQTTProtocolSupport` and `ActiveMQDestination.setPhysicalName`."""
    name = topic.translate(TO_ACTIVEMQ).strip("".join(map(chr, range(33))))
    return name.partition("?")[0]


@given(st.text(alphabet=st.one_of(st.sampled_from("/.+#*>,? a\t"), st.characters(exclude_characters="\0")), min_size=1))
def test_any_topic(topic: str) -> None:
    """A topic passes exactly when its name on the broker is its own levels joined by dots, and one destination."""
    levels = topic.replace("/", ".").replace("+", "*").replace("#", ">")
    is_kept = activemq_name(topic) == levels and "," not in topic and not topic.startswith("$share/")
    if is_kept:
        check_topic(topic)
    else:
        with pytest.raises(InvalidTopic):
            check_topic(topic)


@given(st.lists(st.text(alphabet="abc /+#$", min_size=1), min_size=2, max_size=2, unique=True))
def test_no_collision(topics: list[str]) -> None:
    """Two topics that pass never have one name on the broker."""
    passed = []
    for topic in topics:
        try:
            check_topic(topic)
        except InvalidTopic:
            continue
        passed.append(topic)
    assert len(passed) == len({activemq_name(topic) for topic in passed})
