from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from switchgear.errors import ConfigurationError, InternalError, InvalidTopic
from switchgear_activemq import check_topic
from switchgear_activemq.amazon_mq import broker_xml, permitted
from switchgear_activemq.amazon_mq.permissions import EXAMPLE, Permissions
from switchgear_activemq.amazon_mq.permissions_file import example, parse
from switchgear_activemq.topics import to_activemq

CORE = "{http://activemq.apache.org/schema/core}"


def made(text: str) -> Permissions:
    return parse(text, Path("p.toml"))


def test_the_map_of_the_example() -> None:
    """The example's map says who may read, write and administer what, in ActiveMQ's names and words."""
    assert broker_xml.entries(example()) == [
        {
            "queue": ">",
            "read": "activemq-webconsole,admins",
            "write": "activemq-webconsole,admins",
            "admin": "activemq-webconsole,admins",
        },
        {
            "topic": ">",
            "read": "activemq-webconsole,admins",
            "write": "activemq-webconsole,admins",
            "admin": "activemq-webconsole,admins",
        },
        {
            "topic": "ActiveMQ.Advisory.>",
            "admin": "activemq-webconsole,admins,publishers,subscribers",
        },
        {"topic": "orders.>", "read": "subscribers", "write": "publishers", "admin": "publishers"},
        {"topic": "state.*", "read": "subscribers"},
        {"topic": "state.publisher", "write": "publishers", "admin": "publishers"},
    ]


def test_the_configuration_of_the_example() -> None:
    """What Amazon MQ gets is a broker with policies and the map, and no users, connectors or store."""
    root = ET.fromstring(broker_xml.amazon(example()))  # noqa: S314 - our own text
    assert root.tag == f"{CORE}broker"
    assert root.attrib == {"schedulePeriodForDestinationPurge": "60000"}
    assert [child.tag.removeprefix(CORE) for child in root] == ["destinationPolicy", "plugins"]
    assert [entry.attrib for entry in root.iter(f"{CORE}policyEntry")] == [
        {"queue": ">", "gcInactiveDestinations": "true", "inactiveTimoutBeforeGC": "600000"},
        {"topic": ">", "gcInactiveDestinations": "true", "inactiveTimoutBeforeGC": "600000"},
        {"topic": "state.>", "gcInactiveDestinations": "false"},
    ]
    assert len(list(root.iter(f"{CORE}authorizationEntry"))) == 6


def test_purge_and_topics() -> None:
    """Topics made at the start are kept, offline sessions are counted in milliseconds, and 0 purges nothing."""
    text = EXAMPLE.replace("inactive_s = 600", "every_s = 7\noffline_session_s = 3600") + 'topics = ["x"]'
    text = 'topics = ["b/1", "a"]\n' + text.replace('topics = ["x"]', "")
    root = ET.fromstring(broker_xml.amazon(made(text)))  # noqa: S314 - our own text
    assert root.attrib == {
        "schedulePeriodForDestinationPurge": "7000",
        "offlineDurableSubscriberTimeout": "3600000",
        "offlineDurableSubscriberTaskSchedule": "7000",
    }
    assert [topic.attrib for topic in root.iter(f"{CORE}topic")] == [{"physicalName": "a"}, {"physicalName": "b.1"}]
    kept = [e.get("topic") for e in root.iter(f"{CORE}policyEntry") if e.get("gcInactiveDestinations") == "false"]
    assert kept == ["a", "b.1", "state.>"]
    never = ET.fromstring(broker_xml.amazon(made(EXAMPLE.replace("600", "0"))))  # noqa: S314 - our own text
    assert never.attrib == {}
    assert {e.get("gcInactiveDestinations") for e in never.iter(f"{CORE}policyEntry")} == {"false"}


def test_the_order_of_the_file_does_not_matter() -> None:
    """The same permissions in another order give the same text, so that a change of the file is what a diff shows."""
    again = EXAMPLE.replace('["orders/#", "state/publisher"]', '["state/publisher", "orders/#"]')
    parts = re.split(r"\n(?=\[)", again)
    shuffled = "\n".join([parts[0], *reversed(parts[1:])])
    assert shuffled != EXAMPLE
    assert broker_xml.amazon(made(shuffled)) == broker_xml.amazon(example())


def test_what_xml_gives_a_meaning_is_escaped() -> None:
    """Topics and passwords with <, &, quotes and letters beyond ASCII come through."""
    topic, password = "a<b>/c&\"'é".replace(">", ""), "<correct>&'horse'\"é"
    text = EXAMPLE.replace('["admins"]', '["admins"]\npassword = {env = "PW"}').replace(
        "state/+", topic.replace('"', '\\"')
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PW", password)
        text = re.sub(r'(groups = \["(?:pub|sub)\w+"\])', r'\1\npassword = {env = "PW"}', text)
        root = ET.fromstring(broker_xml.local(made(text)))  # noqa: S314 - our own text
    assert {user.get("password") for user in root.iter(f"{CORE}authenticationUser")} == {password}
    assert topic.replace("/", ".") in {entry.get("topic") for entry in root.iter(f"{CORE}authorizationEntry")}


def test_local() -> None:
    """A local broker gets the same map and policies, and users with the console's group, a connector and a store."""
    text = re.sub(r"(\[users.*\])", r'\1\npassword = "correct-horse-battery"', EXAMPLE)
    root = ET.fromstring(broker_xml.local(made(text)))  # noqa: S314 - our own text
    broker = root.find(f"{CORE}broker")
    assert broker is not None
    users = {user.get("username"): user.get("groups") for user in broker.iter(f"{CORE}authenticationUser")}
    assert users == {
        "admin": "admins,activemq-webconsole",
        "publisher": "publishers",
        "subscriber": "subscribers",
    }
    cloud = ET.fromstring(broker_xml.amazon(example()))  # noqa: S314 - our own text
    for tag in ("policyEntry", "authorizationEntry"):
        assert [e.attrib for e in broker.iter(CORE + tag)] == [e.attrib for e in cloud.iter(CORE + tag)]
    (connector,) = broker.iter(f"{CORE}transportConnector")
    assert connector.get("uri") == "mqtt://127.0.0.1:${switchgear.port:1883}"
    (store,) = broker.iter(f"{CORE}kahaDB")
    assert store.get("directory") == "${switchgear.store:store}"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        (None, "a local broker needs it"),
        ("short", "it has 5 characters"),
        ("correct-${horse}-battery", r"takes no \$\{"),
        ("correct-#{horse}-battery", "takes no"),
        ("correct-\x07horse-battery", "control characters"),
        ("correct, horse", "a comma"),
    ],
)
def test_passwords_of_a_local_broker(password: str | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a password, or with one that Amazon MQ or Spring would not take, is one line without the password."""
    text = EXAMPLE if password is None else EXAMPLE.replace("[users.admin]", '[users.admin]\npassword = {env = "PW"}')
    monkeypatch.setenv("PW", password or "")
    with pytest.raises(ConfigurationError, match=why) as caught:
        broker_xml.local(made(text))
    assert "users.admin.password" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert password is None or password not in str(caught.value)


def test_a_password_file_that_is_no_text(tmp_path: Path) -> None:
    """A password file with bytes that are no UTF-8 is one line."""
    (tmp_path / "pw").write_bytes(b"\xff" * 20)
    text = EXAMPLE.replace("[users.admin]", '[users.admin]\npassword = {file = "pw"}')
    with pytest.raises(ConfigurationError, match="not UTF-8 text"):
        broker_xml.local(parse(text, tmp_path / "p.toml"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<beans/>", "<beans> and no <broker>"),
        ("<broker brokerName='x'/>", "the attribute brokerName of <broker>"),
        ("<broker><transportConnectors/></broker>", "<transportConnectors> in <broker>"),
        ("<broker><plugins><simpleAuthenticationPlugin/></plugins></broker>", "<simpleAuthenticationPlugin> in <plugins>"),
        ("<broker><destinations><topic physicalName='${x}'/></destinations></broker>", "an expression in physicalName"),
        ("<broker><destinations><topic physicalName='#{x}'/></destinations></broker>", "an expression in physicalName"),
    ],
)  # fmt: skip
def test_what_amazon_would_remove(text: str, what: str) -> None:
    """An element, attribute or expression that Amazon MQ removes is a bug that is told, and not a silent hole in the map."""
    with pytest.raises(InternalError, match=re.escape(what)):
        permitted.check(ET.fromstring(text))  # noqa: S314 - our own text


def test_names() -> None:
    """A topic that `check_topic` takes has a name in ActiveMQ from which the topic can be told again."""
    for topic, name in (("a/b", "a.b"), ("a/+/#", "a.*.>"), ("#", ">"), ("VirtualTopic/x", "VirtualTopic.x")):
        assert to_activemq(topic) == name
        check_topic(topic)
    with pytest.raises(InvalidTopic, match='topics = "any"'):
        check_topic("a.b")
