from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.backoff import GiveUpAfter, Listed, Outage
from switchgear.endpoint import Endpoint, Group, SessionKind
from switchgear.errors import InvalidOption, InvalidURI
from switchgear.secrets import Secret
from switchgear_activemq import Plan, check_topic, plan, read
from switchgear_activemq.component import IGNORED as IGNORED_OF_COMPONENTS
from switchgear_activemq.component import SCHEMES
from switchgear_activemq.failover import DELAYS, IGNORED
from switchgear_activemq.options import OPTIONS


def planned(query: str, components: str = "ssl://a:1,ssl://b:2") -> Plan:
    return plan(read(f"failover:({components})?{query}"))


def parts(made: Plan) -> list[str]:
    return [note.part for note in made.notes]


def test_group() -> None:
    """A list without options is one shared group, shuffled, MQTT 3.1.1, with the transport's own policy and limits."""
    made = plan(read("failover:(ssl://b-1.example.com:8883,ssl://b-2.example.com:8883)"))
    assert made.group == Group(
        [Endpoint("mqtts", "b-1.example.com", 8883), Endpoint("mqtts", "b-2.example.com", 8883)],
        SessionKind.SHARED,
        randomize=True,
        backoff=None,
        give_up_after=None,
        startup_give_up_after=None,
        protocol="3.1.1",
    )
    assert made.group.check_topic is check_topic
    assert made.notes == ()


def test_topics_unchecked() -> None:
    """Without the check of topics the group has none."""
    assert plan(read("failover:(tcp://a:1)"), checks_topics=False).group.check_topic is None


@pytest.mark.parametrize(("scheme", "ours"), SCHEMES.items())
def test_schemes(scheme: str, ours: str) -> None:
    """Each of ActiveMQ's transports that carry MQTT is one of ours, in either case."""
    for written in (scheme, scheme.upper()):
        (endpoint,) = plan(read(f"failover:({written}://a:99)")).group.endpoints
        assert (ours, "a", 99) == (endpoint.scheme, endpoint.host, endpoint.port)


@pytest.mark.parametrize("component", ["amqp://a:1", "vm://a", "auto+ssl://a:1", "discovery:(a)", "a:1", "tcp:a:1"])
def test_other_schemes(component: str) -> None:
    """A transport that carries no MQTT is refused with the list of those that do."""
    with pytest.raises(InvalidURI, match=r"tcp, nio, mqtt, .*wss"):
        plan(read(f"failover:({component})"))


@pytest.mark.parametrize("uri", ["tcp://a:1", "", "failover", "static:(tcp://a:1)"])
def test_not_failover(uri: str) -> None:
    """What does not start with failover: is read but makes no group."""
    with pytest.raises(InvalidURI, match="does not start with failover:"):
        plan(read(uri))


@pytest.mark.parametrize("uri", ["failover:()", "failover:(,)", "failover:(failover:())"])
def test_no_endpoint(uri: str) -> None:
    """A list of no endpoint is refused."""
    with pytest.raises(InvalidURI, match="lists no endpoint"):
        plan(read(uri))


def test_empty_place() -> None:
    """An empty place in the list is passed over and noted."""
    made = plan(read("failover:(,tcp://a:1)"))
    assert len(made.group.endpoints) == 1
    assert parts(made) == ["component"]


def test_repeated() -> None:
    """Of endpoints with one host and port the first stays, however the host is spelt, and the others are noted."""
    made = planned("", "tcp://A:1,ssl://a:1,tcp://[::1]:1,tcp://[0:0:0:0:0:0:0:1]:1,tcp://a:2")
    assert [e.authority for e in made.group.endpoints] == ["a:1", "[::1]:1", "a:2"]
    assert parts(made) == ["component", "component"]


@pytest.mark.parametrize(
    ("components", "kept"),
    [
        (
            "tcp://b-1.example.com:1883,wss://b-1.example.com:1883?priority=1",
            1,
        ),  # vectors 38, 110, 113 and 174 in short
        ("ws://[2001:db8::2]:61616,mqtt://10.0.0.7,ssl://[2001:db8::2]:61616", 2),
        ("nio://b-1.example.com:8883,nio://b-1.example.com:8883?tcpNoDelay=true", 1),
        ("tcp://10.0.0.7:1,ws://10.0.0.7:1?trace=true", 1),
        ("nio://broker_x,wss://localhost", 2),  # Java reads no host in the first, takes it for localhost and drops one
    ],
)
def test_repeated_as_activemq(components: str, kept: int) -> None:
    """Where ActiveMQ drops a component, so do we, but for hosts that Java cannot read and takes for localhost."""
    assert len(planned("", components).group.endpoints) == kept


def test_credentials() -> None:
    """User and password of a component are decoded and belong to its endpoint."""
    (endpoint,) = planned("", "ssl://user:p%40ss@a:1").group.endpoints
    assert endpoint.username == "user"
    assert endpoint.password is not None
    assert isinstance(endpoint.password, Secret)
    assert endpoint.password.reveal() == b"p@ss"


def test_component_options() -> None:
    """The options of a component that mean something here reach its endpoint, milliseconds as seconds."""
    (endpoint,) = planned("", "ssl://a:1?connectionTimeout=2500&priority=3&address=10.0.0.1").group.endpoints
    assert (endpoint.connect_timeout, endpoint.priority, endpoint.address) == (2.5, 3, "10.0.0.1")


def test_connect_timeout() -> None:
    """Our own connect_timeout, in seconds, wins over ActiveMQ's connectionTimeout."""
    (endpoint,) = planned("", "ssl://a:1?connectionTimeout=2500&connect_timeout=7").group.endpoints
    assert endpoint.connect_timeout == 7.0


@pytest.mark.parametrize("value", ["0", "-1"])
def test_no_connection_timeout(value: str) -> None:
    """A connectionTimeout that means no limit to Java leaves the transport's, with a note."""
    made = planned("", f"ssl://a:1?connectionTimeout={value}")
    assert made.group.endpoints[0].connect_timeout is None
    assert parts(made) == ["connectionTimeout"]


@pytest.mark.parametrize(
    "option", ["connectionTimeout=x", "connectionTimeout=3600001", "connectionTimeout", "priority=x", "priority"]
)
def test_bad_component_values(option: str) -> None:
    """A component's option that has no value, or an impossible one, is refused by name."""
    with pytest.raises(InvalidOption) as caught:
        planned("", f"ssl://a:1?{option}")
    assert caught.value.name == option.partition("=")[0]


@pytest.mark.parametrize(
    "name", [*IGNORED_OF_COMPONENTS, "KeepAlive", "wireFormat.host", "transport.trace", "socket.keepAlive"]
)
def test_ignored_component_options(name: str) -> None:
    """What ActiveMQ's client knows and MQTT has no use for is taken with a note, from nested.* too."""
    assert parts(planned("", f"ssl://a:1?{name}=1")) == [name]
    assert parts(planned(f"nested.{name}=1", "ssl://a:1")) == [name]


def test_unknown_component_option() -> None:
    """Another option of a component is refused with the list of those that exist."""
    with pytest.raises(InvalidOption) as caught:
        planned("nested.bogus=1")
    assert caught.value.name == "bogus"
    assert {"priority", "connectionTimeout", "keepAlive", "socket.*"} <= set(caught.value.valid)


@pytest.mark.parametrize(
    "uri", ["failover:tcp://a:1,tcp://b:2?Randomize=false", "failover:(tcp://a:1?nested.trace=true)"]
)
def test_an_option_of_the_list_at_a_component(uri: str) -> None:
    """Who forgets the parentheses, or writes a list's option inside, is told where it belongs."""
    with pytest.raises(InvalidOption, match=re.escape("failover:(URI,URI)?NAME=VALUE")):
        plan(read(uri))


@pytest.mark.parametrize(
    "component", ["tcp://a:0", "tcp://a:65536", "tcp://a:1/x", "tcp://", "tcp://a b", "tcp://a:1#f", "tcp://a:x"]
)
def test_bad_components(component: str) -> None:
    """A component that names no place to connect to is refused."""
    with pytest.raises(InvalidURI):
        planned("", component)


@pytest.mark.parametrize(
    ("component", "shown"),
    [
        ("amqp://user:pw@a:1", "'amqp://user:***@a:1'"),
        ("user:pw@a:1", "'***@a:1'"),
        ("ssl://user:p/w@a:1", "'ssl://***@a:1'"),
        ("ssl://user:pw", "'ssl://user:***'"),
        ("a:1", "'a:1'"),
        ("localhost", "'localhost'"),
    ],
)
def test_refused_components_are_shown(component: str, shown: str) -> None:
    """An error shows the component as far as it can hold no part of a password."""
    with pytest.raises(InvalidURI) as caught:
        planned("", component)
    assert shown in str(caught.value)


def test_openwire_port() -> None:
    """A port where ActiveMQ usually speaks OpenWire is noted, for such lists are copied from JMS programs."""
    made = plan(read("failover:(ssl://a:61617)"))
    assert "OpenWire" in made.notes[0].why


def test_inner_list_takes_its_place() -> None:
    """The endpoints of a list within the list stand where it stood."""
    made = plan(read("failover:(tcp://a:1,failover:(tcp://b:2,tcp://c:3)?randomize=false,tcp://d:4)"))
    assert [e.host for e in made.group.endpoints] == ["a", "b", "c", "d"]
    assert made.group.randomize
    assert parts(made) == ["randomize"]


def test_randomize() -> None:
    """Only randomize=true shuffles."""
    assert planned("randomize=true").group.randomize
    assert not planned("randomize=false").group.randomize
    assert not planned("randomize=1").group.randomize


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("randomize=true", None),
        ("initialReconnectDelay=10", Listed(0.01, 30.0, 2.0)),
        ("initialReconnectDelay=250&maxReconnectDelay=5000", Listed(0.25, 5.0, 2.0)),
        ("maxReconnectDelay=100", Listed(0.01, 0.1, 2.0)),
        ("reconnectDelayExponent=1.5", Listed(0.01, 30.0, 1.5)),
        ("backOffMultiplier=1.5", Listed(0.01, 30.0, 1.5)),
        ("reconnectDelay=40", Listed(0.04, 30.0, 2.0)),
        ("reconnectDelay=40&initialReconnectDelay=20", Listed(0.02, 30.0, 2.0)),
        ("useExponentialBackOff=false", Listed(0.01, 0.01, 1.0)),
        ("useExponentialBackOff=false&initialReconnectDelay=60000", Listed(60.0, 60.0, 1.0)),
        ("useExponentialBackOff=true", Listed(0.01, 30.0, 2.0)),
        ("initialReconnectDelay=0", Listed(0.01, 30.0, 2.0)),
        ("initialReconnectDelay=-5&maxReconnectDelay=0", Listed(0.01, 0.01, 2.0)),
        ("maxReconnectDelay=9223372036854775807", Listed(0.01, 1e12, 2.0)),
    ],
)
def test_delays(query: str, expected: Listed | None) -> None:
    """The delays replace the policy, in seconds, exactly where one of them is written."""
    assert expected == planned(query).group.backoff


@pytest.mark.parametrize("name", DELAYS)
def test_each_delay_replaces_the_policy(name: str) -> None:
    """Each of the delay options, written with its default, is enough to replace the policy by ActiveMQ's."""
    value = str(OPTIONS[name].default).lower()
    assert planned(f"{name}={value}").group.backoff == Listed()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("initialReconnectDelay=100&maxReconnectDelay=400", "delays grow from 0.1 s by 2 to 0.4 s"),
        ("initialReconnectDelay=100&maxReconnectDelay=50", "each delay is 0.025 to 0.05 s"),
        ("initialReconnectDelay=100&useExponentialBackOff=false", "each delay is 0.05 to 0.1 s"),
    ],
)
def test_delays_in_words(query: str, told: str) -> None:
    """The words about the delays are true also where the longest delay is below the first."""
    (decision,) = (d for d in planned(query).decisions if d.option == "initialReconnectDelay")
    assert decision.what.startswith(told)


@pytest.mark.parametrize("value", ["0.5", "0", "-2", "NaN", "Infinity"])
def test_shrinking_delays(value: str) -> None:
    """A multiplier that makes delays shrink, or no number of them, is refused."""
    with pytest.raises(InvalidOption, match="1 or more"):
        planned(f"reconnectDelayExponent={value}")


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(1, 1e300),
    st.integers(0, 10**12),
    st.booleans(),
)
def test_delays_are_bounded(initial: int, cap: int, multiplier: float, sweeps: int, grows: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever the URI writes, a sweep starts within the bounds, and never at once after a loss."""
    query = f"initialReconnectDelay={initial}&maxReconnectDelay={cap}&reconnectDelayExponent={multiplier!r}"
    backoff = planned(f"{query.replace('+', '%2B')}&useExponentialBackOff={str(grows).lower()}").group.backoff
    assert isinstance(backoff, Listed)
    at = backoff.next_sweep(Outage(0.0, 0.5, sweeps=sweeps), 0.0, random.Random(1))
    assert 0.005 <= at <= 1e12


NEVER = GiveUpAfter()


@pytest.mark.parametrize(
    ("query", "after_loss", "at_start"),
    [
        ("randomize=true", None, None),
        ("maxReconnectAttempts=-1", NEVER, NEVER),
        ("maxReconnectAttempts=0", GiveUpAfter(sweeps=0), GiveUpAfter(sweeps=1)),
        ("maxReconnectAttempts=20", GiveUpAfter(sweeps=20), GiveUpAfter(sweeps=20)),
        ("maxReconnectAttempts=-7", GiveUpAfter(sweeps=1), GiveUpAfter(sweeps=1)),
        ("startupMaxReconnectAttempts=-1", None, None),
        ("startupMaxReconnectAttempts=0", None, GiveUpAfter(sweeps=1)),
        ("startupMaxReconnectAttempts=3", None, GiveUpAfter(sweeps=3)),
        ("startupMaxReconnectAttempts=-1&maxReconnectAttempts=5", GiveUpAfter(sweeps=5), GiveUpAfter(sweeps=5)),
        ("startupMaxReconnectAttempts=3&maxReconnectAttempts=-1", NEVER, GiveUpAfter(sweeps=3)),
        ("startupMaxReconnectAttempts=3&maxReconnectAttempts=0", GiveUpAfter(sweeps=0), GiveUpAfter(sweeps=3)),
    ],
)
def test_limits(query: str, after_loss: GiveUpAfter | None, at_start: GiveUpAfter | None) -> None:
    """The limits count sweeps as ActiveMQ does, and stand only where they are written."""
    group = planned(query).group
    assert after_loss == group.give_up_after
    assert at_start == group.startup_give_up_after


def test_no_sweep_after_a_loss() -> None:
    """The limit 0 is reached at a loss, before the first sweep."""
    limit = planned("maxReconnectAttempts=0").group.give_up_after
    assert limit is not None
    assert limit.reached(attempts=0, sweeps=0, seconds=0.0)


@pytest.mark.parametrize("name", [n for n in IGNORED if n != "nestedExtraQueryOptions"])
def test_ignored_options(name: str) -> None:
    """An option that changes nothing is taken at its default in silence, and else with a note that says why."""
    default = OPTIONS[name].default
    assert parts(planned(f"{name}={str(default).lower()}")) == []
    other = str(not default).lower() if isinstance(default, bool) else "7"
    (note,) = planned(f"{name}={other}").notes
    assert (note.part, note.why) == (name, IGNORED[name])


def test_backup_keeps_a_spare() -> None:
    """With backup=true a warm connection to the next endpoint is kept, without it none."""
    assert planned("backup=true").group.spare
    assert not planned("backup=false").group.spare


def test_a_list_elsewhere_is_dynamic() -> None:
    """With updateURIsURL the list is asked for again before each sweep, without it not."""
    assert planned("updateURIsURL=/etc/brokers").group.dynamic
    assert not planned("updateURIsURL").group.dynamic


def test_priority_backup() -> None:
    """With priorityBackup the first endpoint is preferred and gone back to."""
    made = planned("priorityBackup=true")
    assert [e.priority for e in made.group.endpoints] == [0, 1]
    assert made.group.failback is not None
    assert parts(made) == []


def test_priority_uris() -> None:
    """With priorityURIs these are preferred, by host and port, and one that is not in the list is noted."""
    made = planned("priorityBackup=true&priorityURIs=tcp://B:2%3Fx=1,ssl://c:3")
    assert [e.priority for e in made.group.endpoints] == [1, 0]
    assert parts(made) == ["priorityURIs"]


def test_priority_is_kept() -> None:
    """A priority that a component writes stays."""
    made = planned("priorityBackup=true", "ssl://a:1,ssl://b:2?priority=5,ssl://c:3")
    assert [e.priority for e in made.group.endpoints] == [0, 5, 1]


def test_priority_uris_alone() -> None:
    """Without priorityBackup=true, priorityURIs changes nothing, as in ActiveMQ, and is noted."""
    made = planned("priorityURIs=ssl://b:2")
    assert [e.priority for e in made.group.endpoints] == [0, 0]
    assert parts(made) == ["priorityURIs"]


def test_every_option_is_decided() -> None:
    """The plan says of every option of ActiveMQ what becomes of it, and whether the URI writes it."""
    made = planned("timeout=3000")
    assert [d.option for d in made.decisions] == list(OPTIONS)
    assert all(d.what for d in made.decisions)
    assert [d.option for d in made.decisions if d.is_written] == ["timeout"]
