import time
from collections.abc import Callable
from pathlib import Path

import pytest
import switchgear
from switchgear import TLS, Cause
from switchgear.testing.processes import DEFAULT_USERS, ActiveMQPair, LoggedDelivery, Relay, TlsFiles

MakeRelay = Callable[[int], Relay]
PUBLISHER = {"username": "publisher", "password": DEFAULT_USERS["publisher"]}
SUBSCRIBER = {"username": "subscriber", "password": DEFAULT_USERS["subscriber"]}

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


class Events(list[switchgear.Event]):
    """What a transport said; give its `append` as ``on_event``."""

    def named(self, name: str) -> list[switchgear.Event]:
        return [event for event in self if event.name == name]

    def endings(self) -> str:
        """All endings of attempts and connections, in words."""
        return "\n".join(str(event) for event in self if event.name in {"attempt_failed", "connection_lost"})


def wait_until(is_met: Callable[[], bool], why: Callable[[], str], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not is_met():
        assert time.monotonic() < deadline, why()
        time.sleep(0.005)


def failover(relays: list[Relay]) -> str:
    """Both brokers, through relays, in ActiveMQ's own notation."""
    return f"failover:({','.join(relay.uri.replace('mqtt:', 'tcp:') for relay in relays)})"


SMALL = """<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
  http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
<bean class="org.springframework.beans.factory.config.PropertyPlaceholderConfigurer"/>
<broker xmlns="http://activemq.apache.org/schema/core" useJmx="false" dataDirectory="${switchgear.data}">
 <persistenceAdapter>
  <kahaDB directory="${switchgear.store}" journalMaxFileLength="64kb" cleanupInterval="300" checkpointInterval="200"/>
 </persistenceAdapter>
 <systemUsage><systemUsage><storeUsage><storeUsage limit="1 mb"/></storeUsage></systemUsage></systemUsage>
 <transportConnectors><transportConnector uri="mqtt://127.0.0.1:${switchgear.port}"/></transportConnectors>
</broker></beans>"""
"""A pair whose store takes one megabyte; then it stops reading."""


def test_a_full_store_loses_nothing(require_brokers: Callable[[str], None], tmp_path: Path) -> None:
    """While the store is full messages wait in the outbox; when a subscriber has made room all of them arrive."""
    require_brokers("activemq")
    events = Events()
    heard: set[str] = set()
    patience = {"ack_timeout": 1.0, "connect_timeout": 1.0}
    with ActiveMQPair(tmp_path, configuration=SMALL) as pair:
        with switchgear.connect(pair.failover_uri, client_id="reader-full") as reader:
            reader.subscribe("full/a", lambda message: heard.add(message.text[:3])).wait_ready(60)
        with switchgear.connect(
            pair.failover_uri, client_id="press-full", on_event=events.append, **patience
        ) as writer:
            deliveries = [writer.publish("full/a", f"{n:03}" + 10_000 * "x") for n in range(300)]
            wait_until(lambda: Cause.KEEPALIVE_TIMEOUT.value in events.endings(), writer.explain)
            assert writer.depth > 100
            with switchgear.connect(pair.failover_uri, client_id="reader-full") as reader:
                reader.subscribe("full/a", lambda message: heard.add(message.text[:3]))
                writer.drain(60)
                wait_until(lambda: len(heard) == 300, reader.explain)
        assert all(delivery.state is switchgear.DeliveryState.ACKNOWLEDGED for delivery in deliveries)


@pytest.mark.parametrize("first", ["publisher", "subscriber"])
def test_whoever_is_first_at_the_standby(activemq_pair: ActiveMQPair, relay: MakeRelay, first: str) -> None:
    """Through 4 take-overs, whichever side comes first, the subscriber hears everything, also what it was away for."""
    pair = activemq_pair
    relays = {role: [relay(port) for port in pair.ports] for role in ("publisher", "subscriber")}
    heard: list[str] = []
    wanted: list[str] = []
    topic = f"first/{first}"
    with (
        switchgear.connect(failover(relays["publisher"]), client_id=f"press-{first}", **PUBLISHER) as writer,
        switchgear.connect(failover(relays["subscriber"]), client_id=f"reader-{first}", **SUBSCRIBER) as reader,
    ):
        # The topic exists before the take-over: ActiveMQ 5.17.2 keeps nothing of a topic that is made after it for a
        # durable subscription with wildcards that is not there (seen).
        writer.publish(topic, b"makes it").wait(60)
        reader.subscribe(topic, lambda message: heard.append(message.text)).wait_ready(60)
        roles = {"publisher": writer, "subscriber": reader}
        order = sorted(roles, key=lambda role: role != first)
        for turn in range(4):
            for ways in relays.values():
                for way in ways:
                    way.down()
            killed = pair.kill_active()
            before = {role: transport.stats.connections for role, transport in roles.items()}
            pair.wait_active(60)
            pair.start_broker(killed)
            for role in order:
                for way in relays[role]:
                    way.up()
                transport = roles[role]
                wait_until(lambda t=transport, n=before[role]: t.stats.connections > n, transport.explain)  # type: ignore[misc]  # mypy does not infer defaults
                # Before the other one is there: the outbox keeps it, or the store for the durable subscription.
                wanted.append(f"{turn} {role}")
                writer.publish(topic, wanted[-1])
            wait_until(lambda: set(heard) == set(wanted), reader.explain)
            pair.wait_standby(60)
        writer.drain(60)
    assert list(dict.fromkeys(heard)) == wanted


def test_unsubscribed_during_an_outage(activemq_pair: ActiveMQPair, relay: MakeRelay) -> None:
    """The durable subscription is gone then: the pair neither stores nor delivers for a filter that nobody wants."""
    pair = activemq_pair
    ways = [relay(port) for port in pair.ports]
    heard: list[str] = []
    with (
        switchgear.connect(pair.failover_uri, client_id="press-gone", **PUBLISHER) as writer,
        switchgear.connect(failover(ways), client_id="reader-gone", **SUBSCRIBER) as reader,
    ):
        for topic in ("gone/a", "gone/b"):
            writer.publish(topic, b"makes it").wait(60)
        unwanted = reader.subscribe("gone/a")
        unwanted.wait_ready(60)
        reader.subscribe("gone/b", lambda message: heard.append(message.text)).wait_ready(60)
        for way in ways:
            way.down()
        wait_until(lambda: not reader.is_connected, reader.explain)
        unwanted.unsubscribe()
        for way in ways:
            way.up()
        reader.wait_connected(60)
        writer.publish("gone/a", b"for nobody").wait(60)
        writer.publish("gone/b", b"for the reader").wait(60)
        wait_until(lambda: heard == ["for the reader"], reader.explain)
    delivered = [e.topic for e in pair.entries() if isinstance(e, LoggedDelivery) and e.client_id == "reader-gone"]
    assert delivered == ["gone/b"]


def test_a_refused_subscription_is_asked_for_again(require_brokers: Callable[[str], None], tmp_path: Path) -> None:
    """A SUBSCRIBE that is refused because the topic does not exist yet is granted once a publisher has made it."""
    require_brokers("activemq")
    heard: list[bytes] = []
    events = Events()
    with (
        ActiveMQPair(tmp_path, subscribers_create=False) as pair,
        switchgear.connect(pair.failover_uri, client_id="press-new", **PUBLISHER) as writer,
        switchgear.connect(pair.failover_uri, client_id="reader-new", on_event=events.append, **SUBSCRIBER) as reader,
    ):
        subscription = reader.subscribe("brand/new", lambda message: heard.append(message.payload))
        with pytest.raises(switchgear.SubscriptionRefused, match="brand/new"):
            subscription.wait_ready(60)
        assert reader.is_connected
        writer.publish("brand/new", b"makes it").wait(60)
        wait_until(lambda: subscription.refusal is None, reader.explain)
        writer.publish("brand/new", b"after").wait(60)
        wait_until(lambda: b"after" in heard, reader.explain)
        assert events.named("subscription_refused")[0].facts["reason"] == "0x80"
        assert len(events.named("connected")) == 1


def test_a_refusal_right_after_a_take_over_is_no_quarantine(
    require_brokers: Callable[[str], None], tmp_path: Path, relay: MakeRelay
) -> None:
    """A subscriber that the new active broker refuses with CONNACK 5 is let in as soon as a publisher has come."""
    require_brokers("activemq")
    events = Events()
    with ActiveMQPair(tmp_path, subscribers_create=False, advisory_entry=False) as pair:
        pair.wait_standby(60)
        ways = [relay(port) for port in pair.ports]
        with (
            switchgear.connect(failover(ways), client_id="press-over", **PUBLISHER) as writer,
            switchgear.connect(
                pair.failover_uri, client_id="reader-over", on_event=events.append, **SUBSCRIBER
            ) as reader,
        ):
            writer.wait_connected(60)
            reader.wait_connected(60)
            wait_until(lambda: events.named("connected") != [], reader.explain)  # told on another thread
            for way in ways:
                way.down()
            events.clear()
            pair.kill_active()
            wait_until(lambda: Cause.NOT_AUTHORIZED.value in events.endings(), reader.explain)
            for way in ways:
                way.up()
            writer.wait_connected(60)
            reader.wait_connected(60)
            wait_until(lambda: events.named("connected") != [], reader.explain)
            assert events.named("quarantined") == []
            assert len(events.named("connected")) == 1


def test_over_tls(activemq_pair: ActiveMQPair, tls_files: TlsFiles) -> None:
    """Over TLS, with the name checked, messages go both ways before and after a take-over."""
    pair = activemq_pair
    where = f"failover:({','.join(uri.replace('mqtts:', 'ssl:') for uri in pair.tls_uris)})"
    tls = TLS(ca_file=tls_files.ca_file)
    heard: list[str] = []
    with (
        switchgear.connect(where, client_id="press-tls", tls=tls, **PUBLISHER) as writer,
        switchgear.connect(where, client_id="reader-tls", tls=tls, **SUBSCRIBER) as reader,
    ):
        reader.subscribe("sealed/#", lambda message: heard.append(message.topic)).wait_ready(60)
        for turn in range(2):
            writer.publish(f"sealed/{turn}", bytes(range(256)) * 400).wait(60)
            wait_until(lambda turn=turn: f"sealed/{turn}" in heard, reader.explain)  # type: ignore[misc]  # mypy does not infer defaults
            if turn == 0:
                pair.start_broker(pair.kill_active())
        assert reader.endpoint is not None
        assert reader.endpoint.scheme == "mqtts"
        assert writer.stats.connections >= 2


def test_a_certificate_that_is_not_trusted(activemq_pair: ActiveMQPair) -> None:
    """A pair whose authority is unknown is refused, with the way out."""
    pair = activemq_pair
    where = f"failover:({','.join(uri.replace('mqtts:', 'ssl:') for uri in pair.tls_uris)})"
    with switchgear.connect(where, client_id="press-distrust", **PUBLISHER) as transport:
        with pytest.raises(TimeoutError):
            transport.wait_connected(1)
        wait_until(lambda: "check ca_file" in transport.explain(), transport.explain)
        assert Cause.CERTIFICATE_INVALID.value in transport.explain()
