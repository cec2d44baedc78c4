import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import pytest
import switchgear
from switchgear.testing.processes import DEFAULT_USERS, ActiveMQPair, LoggedPublish, Mosquitto, Relay, TlsFiles

Start = Callable[..., Mosquitto]
MakeRelay = Callable[[int], Relay]

RATE = 200
"""Messages a second."""

BURST = 4
"""Messages that are handed over together."""

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


class Ledger(Protocol):
    """What `Mosquitto` and `ActiveMQPair` have in common."""

    def publishes(self) -> list[LoggedPublish]: ...


class Publisher:
    """Publishes numbered messages from a thread of its own, at `RATE`, until it is told to stop."""

    def __init__(self, transport: switchgear.Transport, prefix: str, *, qos: int = 1) -> None:
        self.prefix = prefix
        self.accepted: list[switchgear.Delivery] = []
        self._transport = transport
        self._qos = qos
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher")

    def _run(self) -> None:
        started = time.monotonic()
        while not self._over.wait(max(0.0, started + len(self.accepted) / RATE - time.monotonic())):
            for _ in range(BURST):
                topic = f"{self.prefix}/{len(self.accepted)}"
                self.accepted.append(self._transport.publish(topic, b"payload", qos=self._qos))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def on_their_way(self) -> int:
        """How many messages were sent and are not yet acknowledged."""
        return sum(delivery.state is switchgear.DeliveryState.SENT for delivery in self.accepted[-500:])

    def wait_on_their_way(self) -> None:
        """Return when a frozen broker has some that it will not read, or the connection was lost before."""
        wait_until(
            lambda: self.on_their_way >= BURST or not self._transport.is_connected, lambda: "nothing is on its way"
        )

    def arrived(self, *ledgers: Ledger) -> list[tuple[int, int, int]]:
        """Number of the ledger, of the connection and of the message, for each of ours that a broker wrote down."""
        return [
            (index * 2 + entry.broker, entry.connection, int(entry.topic.rpartition("/")[2]))
            for index, ledger in enumerate(ledgers)
            for entry in ledger.publishes()
            if entry.topic.startswith(f"{self.prefix}/")
        ]


def check(publisher: Publisher, transport: switchgear.Transport, *ledgers: Ledger) -> None:
    """All that was accepted arrived, in order within each connection, and nothing waits any more."""
    transport.drain(60)
    arrived = publisher.arrived(*ledgers)
    by_connection: dict[tuple[int, int], list[int]] = {}
    for broker, connection, number in arrived:
        by_connection.setdefault((broker, connection), []).append(number)
    assert {number for _, _, number in arrived} == set(range(len(publisher.accepted)))
    assert all(numbers == sorted(set(numbers)) for numbers in by_connection.values())
    assert all(delivery.state is switchgear.DeliveryState.ACKNOWLEDGED for delivery in publisher.accepted)
    assert transport.depth == 0
    assert transport.stats.accepted == transport.stats.acknowledged == len(publisher.accepted)


def wait_until(is_met: Callable[[], bool], why: Callable[[], str], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not is_met():
        assert time.monotonic() < deadline, why()
        time.sleep(0.005)


@contextmanager
def switch(transport: switchgear.Transport) -> Iterator[None]:
    """What happens inside ends the connection; leave when there is a new one."""
    before = transport.stats.connections
    yield
    wait_until(lambda: transport.stats.connections > before, transport.explain)


def test_twenty_kills_of_brokers_that_share_nothing(mosquitto: Start) -> None:
    """In 20 SIGKILLs of two mosquitto brokers, with both down for up to a second, no accepted message is lost."""
    rng = random.Random(20)
    pair = [mosquitto(), mosquitto()]
    by_port = {broker.port: broker for broker in pair}
    unanswered = 0
    with switchgear.connect([broker.uri for broker in pair], client_id="press-7") as transport:
        transport.wait_connected(30)
        with Publisher(transport, "hunt") as publisher:
            for turn in range(20):
                time.sleep(rng.uniform(0.1, 0.5))
                with switch(transport):
                    assert transport.endpoint is not None
                    victim = by_port[transport.endpoint.port]
                    if turn % 2:  # so that some messages die with it, sent and never read
                        victim.freeze()
                        time.sleep(rng.uniform(0.02, 0.1))
                        publisher.wait_on_their_way()
                    unanswered += publisher.on_their_way
                    victim.kill()
                    if rng.random() < 0.5:
                        for broker in pair:
                            broker.kill()
                        time.sleep(rng.random())
                        rng.choice(pair).start()
                for broker in pair:
                    broker.start()
        check(publisher, transport, *pair)
        assert transport.stats.connections == 21
        assert unanswered > 20  # else nothing was tested


def on_the_sdk(files: TlsFiles) -> dict[str, Any]:
    """Options of a transport on the driver awscrt, with mutual TLS."""
    tls = switchgear.TLS(ca_file=files.ca_file, cert_file=files.client_cert_file, key_file=files.client_key_file)
    return {"driver": "awscrt", "protocol": "5", "tls": tls}


def test_ten_kills_of_brokers_with_mutual_tls_on_awscrt(mosquitto: Start, tls_files: TlsFiles) -> None:
    """On AWS's SDK, with mutual TLS, 10 SIGKILLs lose no accepted message, and a subscriber goes on after each."""
    rng = random.Random(5)
    pair = [mosquitto(tls=tls_files, require_client_certificate=True) for _ in range(2)]
    by_port = {broker.port: broker for broker in pair}
    uris = [broker.uri for broker in pair]
    heard: set[str] = set()
    unanswered = 0
    with (
        switchgear.connect(uris, client_id="press-5", **on_the_sdk(tls_files)) as transport,
        switchgear.connect(uris, client_id="reader-5", **on_the_sdk(tls_files)) as reader,
    ):
        reader.subscribe("signs/#", lambda message: heard.add(message.topic)).wait_ready(30)
        transport.wait_connected(30)
        with Publisher(transport, "sdk") as publisher:
            for turn in range(10):
                time.sleep(rng.uniform(0.1, 0.5))
                with switch(transport):
                    assert transport.endpoint is not None
                    victim = by_port[transport.endpoint.port]
                    if turn % 2:
                        victim.freeze()
                        time.sleep(rng.uniform(0.02, 0.1))
                        publisher.wait_on_their_way()
                    unanswered += publisher.on_their_way
                    victim.kill()
                victim.start()
        check(publisher, transport, *pair)
        assert unanswered > 10
        for broker in pair:  # both are to be where the other one is
            broker.kill()
        wait_until(lambda: not (transport.is_connected or reader.is_connected), reader.explain)
        pair[0].start()
        reader.wait_connected(60)
        transport.publish("signs/last", b"payload").wait(30)
        wait_until(lambda: "signs/last" in heard, reader.explain)


def test_at_least_once_through_cuts_on_awscrt(mosquitto: Start, relay: MakeRelay, tls_files: TlsFiles) -> None:
    """On AWS's SDK, through 20 cut connections of both sides, QoS 1 brings each message to its subscriber."""
    rng = random.Random(3)
    broker = mosquitto(tls=tls_files, require_client_certificate=True)
    relays = [relay(broker.port), relay(broker.port)]
    uris = [f"mqtts://localhost:{way.port}?address=127.0.0.1" for way in relays]
    received: set[str] = set()

    def handle(message: switchgear.Message) -> None:
        time.sleep(rng.choice([0, 0, 0, 0.02]))  # so that some are being handled when the connection ends
        received.add(message.topic)

    with (
        switchgear.connect(uris[0], client_id="press-6", **on_the_sdk(tls_files)) as writer,
        switchgear.connect(uris[1], client_id="reader-6", **on_the_sdk(tls_files)) as reader,
    ):
        reader.subscribe("once/#", handle, qos=1).wait_ready(30)
        writer.wait_connected(30)
        with Publisher(writer, "once") as publisher:
            for _ in range(20):
                time.sleep(rng.uniform(0.05, 0.3))
                cut = rng.choice([0, 1])
                with switch([writer, reader][cut]):
                    relays[cut].cut()
        writer.drain(60)
        wanted = {f"once/{number}" for number in range(len(publisher.accepted))}
        wait_until(lambda: received >= wanted, lambda: f"{len(received)} of {len(wanted)}")
        assert received == wanted


def test_ten_kills_of_an_active_standby_pair(activemq_pair: ActiveMQPair) -> None:
    """In 10 SIGKILLs of the active broker of an ActiveMQ pair, no accepted message is lost."""
    pair = activemq_pair
    rng = random.Random(10)
    unanswered, revived = 0, pair.revived
    with switchgear.connect(
        pair.failover_uri, client_id="press-7", username="publisher", password=DEFAULT_USERS["publisher"]
    ) as transport:
        transport.wait_connected(30)
        with Publisher(transport, "kills") as publisher:
            for turn in range(10):
                with switch(transport):
                    victim = pair.wait_active(60)
                    if turn % 2:
                        pair.freeze(victim)
                        time.sleep(rng.uniform(0.02, 0.1))
                        publisher.wait_on_their_way()
                    unanswered += publisher.on_their_way
                    pair.kill(victim)
                    pair.start_broker(victim)
                pair.wait_standby(60)
        check(publisher, transport, pair)
        assert 11 <= transport.stats.connections <= 11 + pair.revived - revived
        assert unanswered > 10


def test_exactly_once_while_the_session_lives(mosquitto: Start, relay: MakeRelay) -> None:
    """Through 20 cut connections of both sides, QoS 2 brings each message to its subscriber exactly once.

    The broker is not restarted: mosquitto 2.0.11 then sends again what it had released (seen: PUBREC received, PUBREL
    sent, PUBLISH with DUP after an orderly restart).
    """
    rng = random.Random(2)
    broker = mosquitto(persistence=True)
    relays = [relay(broker.port), relay(broker.port)]
    received: list[str] = []

    def handle(message: switchgear.Message) -> None:
        time.sleep(rng.choice([0, 0, 0, 0.02]))  # so that some are being handled when the connection ends
        received.append(message.topic)

    with (
        switchgear.connect(relays[0].uri, client_id="press-7") as writer,
        switchgear.connect(relays[1].uri, client_id="reader-7") as reader,
    ):
        reader.subscribe("twice/#", handle, qos=2).wait_ready(30)
        writer.wait_connected(30)
        with Publisher(writer, "twice", qos=2) as publisher:
            for _ in range(20):
                time.sleep(rng.uniform(0.05, 0.3))
                cut = rng.choice([0, 1])
                with switch([writer, reader][cut]):
                    relays[cut].cut()
        writer.drain(60)
        wanted = {f"twice/{number}" for number in range(len(publisher.accepted))}
        wait_until(lambda: len(received) >= len(wanted), lambda: f"{len(received)} of {len(wanted)}")
        assert [topic for topic, count in Counter(received).items() if count > 1] == []
        assert set(received) == wanted
        assert writer.stats.acknowledged == len(wanted)


def test_what_is_handled_during_a_loss_is_released_later(mosquitto: Start, relay: MakeRelay) -> None:
    """A QoS 2 message whose handler outlasts its connection is handled once, and does not block the next message."""
    broker = mosquitto(extra="max_inflight_messages 1")
    way = relay(broker.port)
    started, may_end = threading.Event(), threading.Event()
    handled: list[str] = []

    def handle(message: switchgear.Message) -> None:
        started.set()
        may_end.wait(30)
        handled.append(message.topic)

    with (
        switchgear.connect(broker.uri, client_id="press-7") as writer,
        switchgear.connect(way.uri, client_id="reader-7") as reader,
    ):
        reader.subscribe("slow/#", handle, qos=2).wait_ready(30)
        for number in (1, 2):
            writer.publish(f"slow/{number}", b"payload", qos=2).wait(30)
        assert started.wait(30)
        with switch(reader):
            way.cut()
        reader.subscribe("other").wait_ready(30)  # what the broker sent again has come before this answer
        may_end.set()
        wait_until(lambda: len(handled) > 1, reader.explain)
        assert handled == ["slow/1", "slow/2"]


@pytest.mark.parametrize("first", ["publisher", "subscriber"])
def test_a_subscriber_goes_on_after_each_switch(mosquitto: Start, relay: MakeRelay, first: str) -> None:
    """Whichever of the two is first at the next broker, the subscriber hears what is published once it is there."""
    pair = [mosquitto(), mosquitto()]
    relays = {role: [relay(broker.port) for broker in pair] for role in ("publisher", "subscriber")}
    heard: set[str] = set()
    with (
        switchgear.connect([w.uri for w in relays["publisher"]], client_id="press-7") as writer,
        switchgear.connect([w.uri for w in relays["subscriber"]], client_id="reader-7") as reader,
    ):
        reader.subscribe("goes/on/#", lambda message: heard.add(message.topic)).wait_ready(30)
        writer.wait_connected(30)
        roles = {"publisher": writer, "subscriber": reader}
        order = sorted(roles, key=lambda role: role != first)
        for turn in range(6):
            for broker in pair:
                broker.kill()
            for ways in relays.values():
                for way in ways:
                    way.down()
            here = turn % 2
            pair[here].start()
            for role in order:  # the second one finds its way only when the first one is there
                with switch(roles[role]):
                    relays[role][here].up()
            writer.publish(f"goes/on/{turn}", b"payload").wait(30)
            wait_until(lambda: len(heard) > turn, reader.explain)  # noqa: B023 - called in this turn
        assert heard == {f"goes/on/{turn}" for turn in range(6)}
