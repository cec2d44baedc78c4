from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import (
    TLS,
    AsyncTransport,
    Cancelled,
    Cause,
    ConnectionFailed,
    Delivery,
    DeliveryState,
    Dropped,
    Endpoint,
    Expired,
    GaveUp,
    GiveUpAfter,
    Group,
    InvalidOption,
    InvalidTopic,
    InvalidURI,
    Message,
    MessageTooLarge,
    OutboxFull,
    OutboxLimits,
    Policy,
    Profile,
    Properties,
    Refused,
    SessionKind,
    State,
    SubscriptionRefused,
    SwitchgearError,
    TransportClosed,
    UnknownDriver,
    UnknownPlugin,
    UnreadableFile,
    Will,
    WouldDeadlock,
    exponential,
    hookimpl,
    parse_uri,
)
from switchgear.drivers.flow import PahoConnection
from switchgear.plan import make_plan
from switchgear.plugins import Registry
from switchgear.testing import InlineRunner, MemoryNetwork, run_virtual
from switchgear.testing.broker import Acked, Broker, Connected, Ledger, Published, Repeated, Store, Subscribed
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

QUICK: dict[str, Any] = {"backoff": exponential(cap=0.05), "connect_timeout": 20.0}


@contextlib.asynccontextmanager
async def broker(**options: Any) -> AsyncIterator[Broker]:
    """A broker that listens."""
    async with Broker(**options) as one:
        await one.start()
        yield one


def open_to(one: Broker | str, **options: Any) -> AsyncTransport:
    """A transport to *one* with quick settings, and *options*."""
    where = one if isinstance(one, str) else one.uri
    return switchgear.aio.connect(where, **{"client_id": "c", **QUICK, **options})


async def until(condition: Callable[[], object]) -> None:
    """Return when *condition* holds; asked every few milliseconds."""
    while not condition():  # noqa: ASYNC110 - what is asked for has no event
        await asyncio.sleep(0.002)


def dead_uri() -> str:
    """Where nobody listens."""
    return "mqtt://127.0.0.1:1"


# What a user meets.


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_round_trip(protocol: str) -> None:
    """What is published arrives at a handler, at each QoS, in order, and each delivery ends as acknowledged."""
    got: asyncio.Queue[Message] = asyncio.Queue()
    async with broker() as one, open_to(one, protocol=protocol) as transport:
        await transport.wait_connected(30)
        assert transport.is_connected
        assert (transport.state, transport.last_error) == (State.CONNECTED, None)
        assert str(transport.endpoint) == one.uri
        subscription = transport.subscribe("orders/#", got.put, qos=2)
        await subscription.ready(30)
        deliveries = [transport.publish(f"orders/{qos}", f"n{qos}", qos=qos) for qos in (0, 1, 2)]
        for delivery in deliveries:
            await delivery
        assert [d.state for d in deliveries] == [DeliveryState.ACKNOWLEDGED] * 3
        messages = [await got.get() for _ in range(3)]
        assert [(m.topic, m.text, m.qos) for m in messages] == [(f"orders/{q}", f"n{q}", q) for q in (0, 1, 2)]
        stats = transport.stats
        assert (stats.accepted, stats.acknowledged, stats.waiting, stats.received) == (3, 3, 0, 3)
        assert (stats.connections, stats.outage) == (1, 0.0)
        assert "connected to" in transport.explain()
    assert transport.state is State.STOPPED


async def test_tls_with_a_name(tmp_path: Path) -> None:
    """TLS checks the host's name, and the same broker under another name is refused with the reason and the advice."""
    authority = Authority.create()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.server("localhost").configure(server)
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.ca_pem)
    async with Broker() as one:
        port = await one.start(ssl=server)
        async with open_to(f"mqtts://localhost:{port}?address=127.0.0.1", tls=TLS(ca_file=path)) as transport:
            await transport.wait_connected(30)
        for where, tls, cause in (
            (f"mqtts://other.invalid:{port}?address=127.0.0.1", TLS(ca_file=path), Cause.CERTIFICATE_NAME),
            (f"mqtts://localhost:{port}?address=127.0.0.1", None, Cause.CERTIFICATE_INVALID),
            (f"mqtt://localhost:{port}?address=127.0.0.1", None, None),
        ):
            async with open_to(where, tls=tls) as transport:
                await until(lambda transport=transport: transport.last_error is not None)  # type: ignore[misc] # bound
                error = transport.last_error
                assert error is not None
                if cause is not None:
                    assert error.cause is cause
                    assert error.failure.policy is Policy.FATAL
                assert str(port) in str(error)


async def test_client_certificate(tmp_path: Path) -> None:
    """A broker that wants a client certificate gets it, and without one there is no connection."""
    authority = Authority.create()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.server("localhost").configure(server)
    authority.configure(server)
    server.verify_mode = ssl.CERT_REQUIRED
    (tmp_path / "ca.pem").write_bytes(authority.ca_pem)
    client = authority.client("client")
    (tmp_path / "client.pem").write_bytes(client.key_pem + client.certificate_pem)
    async with Broker() as one:
        where = f"mqtts://localhost:{await one.start(ssl=server)}?address=127.0.0.1"
        tls = TLS(ca_file=tmp_path / "ca.pem", cert_file=tmp_path / "client.pem")
        async with open_to(where, tls=tls) as transport:
            await transport.wait_connected(30)
        async with open_to(where, tls=TLS(ca_file=tmp_path / "ca.pem")) as transport:
            await until(lambda: transport.last_error is not None)
            assert transport.stats.connections == 0


async def test_will() -> None:
    """The will is published when the transport vanishes, and not when it is closed."""
    async with broker() as one, open_to(one, client_id="watcher") as watcher:
        got: asyncio.Queue[Message] = asyncio.Queue()
        await watcher.subscribe("wills/#", got.put).ready(30)
        for ending in ("closed", "lost"):
            will = Will(topic=f"wills/{ending}", payload=ending)
            async with open_to(one, will=will) as transport:
                await transport.wait_connected(30)
                if ending == "lost":
                    one.faults.reset("c")
                    await until(lambda: not got.empty())
        assert (await got.get()).text == "lost"
        assert got.empty()


async def test_async_iteration() -> None:
    """Iterating a subscription gives its messages, each acknowledged when the next is asked for; unsubscribing ends it."""
    async with broker() as one, open_to(one) as transport:
        subscription = transport.subscribe("t/#")
        await subscription.ready(30)
        for n in range(3):
            transport.publish(f"t/{n}", str(n))
        got = []
        async for message in subscription:
            got.append(message.text)
            if len(got) == 3:
                subscription.unsubscribe()
        assert got == ["0", "1", "2"]
        assert await subscription.get() is None
        await until(lambda: any(type(e).__name__ == "Unsubscribed" for e in one.ledger.entries))
        await transport.publish("t/9", "9")
        assert transport.stats.received == 3


async def test_close_ends_iteration() -> None:
    """Closing the transport ends an iteration that waits."""
    async with broker() as one:
        transport = open_to(one)
        subscription = transport.subscribe("t")
        task = asyncio.ensure_future(subscription.get())
        await subscription.ready(30)
        await transport.close()
        assert await task is None


async def test_message_properties() -> None:
    """Properties travel with a message of MQTT 5."""
    async with broker() as one, open_to(one, protocol="5") as transport:
        subscription = transport.subscribe("t")
        await subscription.ready(30)
        about = Properties(content_type="a/b", user={"k": "v"})
        transport.publish("t", b"", properties=about)
        message = await subscription.get()
        assert message is not None
        assert message.properties == about


async def test_message_id() -> None:
    """With message_id each message of MQTT 5 carries an id of its own, the same when it is sent again."""
    async with broker() as one, open_to(one, protocol="5", message_id=True) as transport:
        await transport.wait_connected(30)
        one.faults.drop_after_publish()
        await transport.publish("t", b"1")
        await transport.publish("t", b"2")
        ids = [entry.properties.user_properties for entry in one.ledger.published()]
        assert len(ids) == 3
        assert ids[0] == ids[1] != ids[2]


async def test_message_id_of_ones_own() -> None:
    """An id that the application gave is kept: its own repetition after a crash is a repetition for consumers too."""
    async with broker() as one, open_to(one, protocol="5", message_id=True) as transport:
        await transport.publish("t", properties=Properties(user={"message-id": "order-7"}))
        assert one.ledger.published()[0].properties.user_properties == (("message-id", "order-7"),)


@pytest.mark.parametrize("options", [{"protocol": "5"}, {"protocol": "3.1.1", "envelope": "line"}])
async def test_deduplicate_across_brokers(tmp_path: Path, options: dict[str, Any]) -> None:
    """What one broker delivered and another delivers again is handled once, by either protocol, and counted."""
    handled: list[bytes] = []
    done = asyncio.Event()

    async def handle(message: Message) -> None:
        handled.append(message.payload)
        if message.payload == b"last":
            done.set()

    async with broker() as one, broker() as two:
        for each in (one, two):
            done.clear()
            async with (
                open_to(each, client_id="s", deduplicate=tmp_path / "handled", **options) as receiver,
                open_to(each, client_id="p", message_id=True, **options) as sender,
            ):
                await receiver.subscribe("t/#", handle).ready(30)
                mine = Properties(user={"message-id": "same"})
                await sender.publish("t/1", b"first", properties=mine)
                await sender.publish("t/2", b"last")
                await done.wait()
                await until(lambda receiver=receiver: not len(receiver._gate.ears.acks))  # type: ignore[misc] # bound; marks come first
                assert receiver.stats.duplicates == (each is two)
    assert handled == [b"first", b"last", b"last"]


async def test_envelope_that_fails() -> None:
    """A message that the application's envelope cannot read is handled as it came."""

    class Fragile:
        def wrap(self, message_id: str, payload: bytes) -> bytes:
            return payload

        def unwrap(self, payload: bytes) -> tuple[str | None, bytes]:
            raise ValueError(payload)

    async with broker() as one, open_to(one, envelope=Fragile(), message_id=True) as transport:
        subscription = transport.subscribe("t")
        transport.publish("t", b"as it is")
        message = await subscription.get()
        assert message is not None
        assert (message.payload, message.id) == (b"as it is", None)


async def test_ids_that_nothing_carries() -> None:
    """On MQTT 3.1.1 without an envelope, ids are refused where they are asked for, not silently left out."""
    for option in ("message_id", "deduplicate"):
        with pytest.raises(InvalidOption, match=f"{option}.*protocol='5', or an envelope"):
            AsyncTransport(Profile.of(dead_uri(), **{option: True}))
    async with broker() as one, open_to(one) as transport:
        with pytest.raises(InvalidOption, match="deduplicate"):
            transport.subscribe("t", deduplicate=True)


async def test_window_is_not_shared_by_mistake() -> None:
    """Two subscriptions to one filter with one window would each miss what the other has: refused."""
    async with broker() as one, open_to(one, protocol="5", deduplicate=True) as transport:
        transport.subscribe("t")
        with pytest.raises(InvalidOption, match="Window of its own"):
            transport.subscribe("t")
        transport.subscribe("t", deduplicate=switchgear.Window())
        transport.subscribe("t", deduplicate=False)
        transport.subscribe("t/#")


@pytest.mark.parametrize(("option", "value"), [("deduplicate", "file"), ("deduplicate", 3), ("ordered", 1)])
async def test_wrong_subscribe_option(option: str, value: Any) -> None:
    """A value of the wrong kind is refused with its option's name."""
    async with broker() as one, open_to(one) as transport:
        with pytest.raises(InvalidOption, match=option):
            transport.subscribe("t", **{option: value})


def yielding(_message: Message) -> Iterator[None]:
    """A generator function, as one writes by mistake."""
    yield


async def yielding_too(_message: Message) -> AsyncIterator[None]:
    """The same, with ``async``."""
    yield


class Yielding:
    """A callable object of the same kind."""

    def __call__(self, _message: Message) -> Iterator[None]:
        yield


@pytest.mark.parametrize("handler", [yielding, yielding_too, Yielding(), functools.partial(yielding)])
async def test_handler_that_yields(handler: Any) -> None:
    """A generator function as handler is refused: each message would be acknowledged, and no line of it be run."""
    async with open_to(dead_uri()) as transport:
        with pytest.raises(InvalidOption, match="runs nothing"):
            transport.subscribe("t", handler)


async def test_events() -> None:
    """The on_event callback hears every decision in order, on a worker thread; one that raises harms nobody."""
    heard: list[tuple[str, str]] = []

    def hear(event: switchgear.Event) -> None:
        heard.append((event.name, threading.current_thread().name))
        if event.name == "attempt_started":
            raise ValueError("mine")

    async with broker() as one:
        async with open_to(one, on_event=hear) as transport:
            await transport.wait_connected(30)
            await until(lambda: "connected" in [name for name, _ in heard])
        names = [name for name, _ in heard]
        assert names.index("attempt_started") < names.index("connected")
        assert all(thread.startswith("switchgear-hook") for _, thread in heard)
        assert sum(transport.stats.plugin_problems.values()) == 1


# Bad input: what is refused before anything starts.


@pytest.mark.parametrize(
    ("where", "options", "error", "text"),
    [
        ("h:1883", {}, InvalidURI, "h:1883"),
        ("http://h", {}, InvalidURI, "http"),
        ("mqtt://h:0", {}, InvalidURI, "port 0"),
        ("mqtt://u:pw@h:x", {}, InvalidURI, "mqtt://u:***@h:x"),
        ("", {}, InvalidOption, "empty"),
        ([], {}, InvalidOption, "empty"),
        (7, {}, InvalidOption, "where"),
        (None, {}, InvalidOption, "where"),
        ("mqtt://h", {"nonsense": 1}, InvalidOption, "'nonsense'"),
        ("mqtt://h", {"driver": "carrier-pigeon"}, UnknownDriver, "paho"),
        ("mqtt://h", {"plugins": ["nobody"]}, UnknownPlugin, "'nobody'"),
        ("mqtt://h", {"plugins": 7}, InvalidOption, "plugins"),
        ("mqtt://h", {"client_id": 7}, InvalidOption, "client_id"),
        ("mqtt://h", {"client_id": ""}, InvalidOption, "client_id"),
        ("mqtt://h", {"keepalive": -1}, InvalidOption, "keepalive"),
        ("mqtt://h", {"keepalive": 65536}, InvalidOption, "keepalive"),
        ("mqtt://h", {"keepalive": "30"}, InvalidOption, "keepalive"),
        ("mqtt://h", {"connect_timeout": 0}, InvalidOption, "connect_timeout"),
        ("mqtt://h", {"connect_timeout": float("nan")}, InvalidOption, "connect_timeout"),
        ("mqtt://h", {"protocol": "4"}, InvalidOption, "protocol"),
        ("mqtt://h", {"session": "sticky"}, InvalidOption, "session"),
        ("mqtt://h", {"tls": {"ca_file": "x"}}, InvalidOption, "tls"),
        ("mqtts://h", {"tls": TLS(ca_file="/nowhere/ca.pem")}, UnreadableFile, "/nowhere/ca.pem"),
        ("mqtts://h", {"tls": TLS(cert_file=__file__)}, UnreadableFile, "PEM"),
        ("mqtt://h", {"backoff": 5}, InvalidOption, "backoff"),
        ("mqtt://h", {"password": 5}, InvalidOption, "password"),
        ("mqtt://h", {"on_event": 5}, InvalidOption, "on_event"),
        ("mqtt://h", {"will": "gone"}, InvalidOption, "will"),
        ("mqtt://h", {"outbox_limits": 5}, InvalidOption, "outbox_limits"),
    ],
)
async def test_refused_configuration(where: Any, options: dict[str, Any], error: type, text: str) -> None:
    """What cannot work is refused at once with an error of our tree that names it, and nothing is left behind."""
    before = len(asyncio.all_tasks())
    with pytest.raises(error) as caught:
        switchgear.aio.connect(where, **options)
    assert isinstance(caught.value, SwitchgearError)
    assert text in str(caught.value)
    assert "pw" not in str(caught.value)
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"topic": "a/+"}, InvalidTopic, "wildcard"),
        ({"topic": "#"}, InvalidTopic, "wildcard"),
        ({"topic": ""}, InvalidTopic, "empty"),
        ({"topic": "a\0"}, InvalidTopic, "U+0000"),
        ({"topic": 7}, InvalidTopic, "must be a str"),
        ({"topic": ["t"]}, InvalidTopic, "must be a str"),
        ({"topic": "t" * 65536}, InvalidTopic, "65535"),
        ({"topic": "t", "payload": 7}, InvalidOption, "int"),
        ({"topic": "t", "payload": {"a": 1}}, InvalidOption, "encode it first"),
        ({"topic": "t", "payload": "\ud800"}, InvalidOption, "payload"),
        ({"topic": "t", "qos": 3}, InvalidOption, "qos"),
        ({"topic": "t", "qos": True}, InvalidOption, "qos"),
        ({"topic": "t", "qos": "1"}, InvalidOption, "qos"),
        ({"topic": "t", "qos": [1]}, InvalidOption, "qos"),
        ({"topic": "t", "expires_after": 0}, InvalidOption, "expires_after"),
        ({"topic": "t", "expires_after": float("nan")}, InvalidOption, "expires_after"),
        ({"topic": "t", "expires_after": float("inf")}, InvalidOption, "expires_after"),
        ({"topic": "t", "expires_after": "1"}, InvalidOption, "expires_after"),
        ({"topic": "t", "properties": {"a": "b"}}, InvalidOption, "properties"),
    ],
)
async def test_refused_message(arguments: dict[str, Any], error: type, text: str) -> None:
    """A message that cannot be sent is refused at the call, with the value, and takes no room."""
    async with open_to(dead_uri()) as transport:
        with pytest.raises(error) as caught:
            transport.publish(**arguments)
        assert isinstance(caught.value, SwitchgearError)
        assert text in str(caught.value)
        assert transport.depth == 0


@pytest.mark.parametrize(
    "properties",
    [
        Properties(content_type="x" * 70_000),
        Properties(message_expiry=-1),
        Properties(message_expiry=2**32),
        Properties(response_topic=7),  # type: ignore[arg-type] # wrong on purpose
        Properties(correlation_data="text"),  # type: ignore[arg-type] # wrong on purpose
        Properties(user={"a": "\ud800"}),
    ],
)
async def test_impossible_properties(properties: Properties) -> None:
    """A message whose properties cannot be written is refused at the call."""
    async with open_to(dead_uri(), protocol="5") as transport:
        with pytest.raises(InvalidOption, match="properties"):
            transport.publish("t", b"bad", properties=properties)


async def test_driver_that_cannot_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message at which the driver raises ends as refused with what was raised, and the next one is sent."""
    send = PahoConnection.send

    def fail(self: PahoConnection, delivery: Delivery) -> None:
        if delivery.payload == b"bad":
            raise KeyError("a bug")
        send(self, delivery)

    monkeypatch.setattr(PahoConnection, "send", fail)
    async with broker() as one, open_to(one) as transport:
        bad = transport.publish("t", b"bad")
        await transport.publish("t", b"good")
        with pytest.raises(Refused, match="KeyError: 'a bug'"):
            await bad
        assert one.ledger.payloads() == [b"good"]
        assert transport.stats.connections == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"topic_filter": ""}, InvalidTopic),
        ({"topic_filter": "a/#/b"}, InvalidTopic),
        ({"topic_filter": None}, InvalidTopic),
        ({"topic_filter": "$share/g"}, InvalidTopic),
        ({"topic_filter": "t", "qos": 3}, InvalidOption),
        ({"topic_filter": "t", "handler": 7}, InvalidOption),
        ({"topic_filter": "t", "ack": "never"}, InvalidOption),
        ({"topic_filter": "t", "concurrency": 0}, InvalidOption),
        ({"topic_filter": "t", "retain_handling": 3}, InvalidOption),
    ],
)
async def test_refused_subscription(arguments: dict[str, Any], error: type) -> None:
    """A subscription that cannot be is refused at the call."""
    async with open_to(dead_uri()) as transport:
        with pytest.raises(error):
            transport.subscribe(**arguments)


async def test_wrong_credentials() -> None:
    """Wrong credentials are named with the broker's code, twice is enough, and the password is shown nowhere."""
    async with broker(users={"u": "right"}) as one:
        async with open_to(one, username="u", password="hunter2", give_up_on_fatal=False) as transport:
            await until(lambda: transport.last_error is not None)
            error = transport.last_error
            assert error is not None
            assert error.cause is Cause.BAD_CREDENTIALS
            assert error.reason_code == 4
            assert "check username and password" in str(error)
            shown = f"{error!r} {error} {transport!r} {transport.explain()} {transport.profile!r}"
            assert "hunter2" not in shown
        async with open_to(one, username="u", password=lambda: "right") as transport:
            await transport.wait_connected(30)


@pytest.mark.parametrize("kind", ["text", "function"])
async def test_password_that_no_packet_holds(kind: str) -> None:
    """A password that is too long is named as such, and is no bug of the driver's."""
    password = "x" * 65536
    async with broker() as one:
        given = password if kind == "text" else lambda: password
        async with open_to(one, username="u", password=given) as transport:
            await until(lambda: transport.last_error is not None)
            assert transport.last_error is not None
            assert transport.last_error.cause is Cause.CREDENTIALS_UNAVAILABLE
            assert "it has 65536 bytes; MQTT takes at most 65535" in str(transport.last_error)


async def test_password_that_raises() -> None:
    """A password that cannot be had is a failed attempt with a cause, and the next try asks again."""
    answers: list[str] = []

    def ask() -> str:
        if not answers:
            answers.append("right")
            raise OSError("secret store says hunter2")
        return answers[0]

    async with broker(users={"u": "right"}) as one, open_to(one, username="u", password=ask) as transport:
        await transport.wait_connected(30)
        assert "could not be read" in transport.explain()
        assert "hunter2" not in transport.explain()


# Sizes and rooms.


async def test_too_large_for_the_broker() -> None:
    """A message above the broker's maximum packet size ends as too large; everything else flows."""
    async with broker(maximum_packet_size=100) as one, open_to(one, protocol="5") as transport:
        deliveries = [transport.publish("t", b"x" * size) for size in (10, 200, 10)]
        await transport.drain(30)
        assert [d.state.value for d in deliveries] == ["acknowledged", "refused", "acknowledged"]
        with pytest.raises(MessageTooLarge, match="the broker takes at most 100"):
            await deliveries[1]
        assert transport.stats.refused == 1
        assert transport.stats.connections == 1


async def test_too_large_for_mqtt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that MQTT cannot carry is refused at the call."""
    monkeypatch.setattr("switchgear.acceptance.LARGEST_PAYLOAD", 9)
    async with open_to(dead_uri()) as transport:
        with pytest.raises(MessageTooLarge, match="MQTT takes at most"):
            transport.publish("t", b"0123456789")
        transport.publish("t", b"012345678")
        await transport.close()


@pytest.mark.parametrize("when_full", ["block", "raise", "drop_oldest", "drop_newest"])
async def test_full_outbox(when_full: str) -> None:
    """A full outbox does what its policy says, and tells it."""
    limits = OutboxLimits(max_messages=2, when_full=when_full)  # type: ignore[arg-type] # one of the four
    async with broker() as one:
        await one.kill()
        async with open_to(one, outbox_limits=limits) as transport:
            deliveries = [transport.publish("t", str(n)) for n in range(2)]
            if when_full in {"block", "raise"}:
                with pytest.raises(OutboxFull, match="2 messages"):
                    transport.publish("t", "2")
                with pytest.raises(TimeoutError):
                    await transport.ready(0.01)
                waiting = asyncio.ensure_future(transport.ready(30))
                await one.restart()
                await waiting
                transport.publish("t", "2")
                expected = ["0", "1", "2"]
            else:
                deliveries.append(transport.publish("t", "2"))
                dropped = deliveries[0 if when_full == "drop_oldest" else 2]
                with pytest.raises(Dropped):
                    await dropped
                await one.restart()
                expected = ["1", "2"] if when_full == "drop_oldest" else ["0", "1"]
            await transport.drain(30)
            assert [p.decode() for p in one.ledger.payloads()] == expected
            assert transport.stats.dropped == (1 if "drop" in when_full else 0)


async def test_expiry() -> None:
    """A message that no broker has in time ends as expired, connected or not; one that is acknowledged does not."""
    async with broker() as one:
        async with open_to(one) as transport:
            await transport.publish("t", b"x", expires_after=30)
        await one.kill()
        async with open_to(one) as transport:
            delivery = transport.publish("t", b"x", expires_after=0.02)
            with pytest.raises(Expired):
                await delivery
            assert (transport.depth, transport.stats.expired) == (0, 1)


async def test_cancel() -> None:
    """What was never sent can be taken back, what was sent cannot."""
    async with broker() as one:
        one.faults.withhold_acks()
        async with open_to(one) as transport:
            sent = transport.publish("t", b"1")
            await one.ledger.until(lambda: one.ledger.payloads() == [b"1"])
            assert not transport.cancel(sent)
            one.faults.lift("withhold_acks")
            await transport.drain(30)
        await one.kill()
        async with open_to(one) as transport:
            waiting = transport.publish("t", b"2")
            assert transport.cancel(waiting)
            with pytest.raises(Cancelled):
                await waiting
            await transport.drain(30)


# Handlers and hooks that misbehave.


async def test_handler_that_raises() -> None:
    """A message whose handler keeps raising goes to the dead letters and is acknowledged; the next is handled."""
    dead: list[str] = []
    good: list[str] = []

    async def handle(message: Message) -> None:
        if message.text == "bad":
            raise ValueError("no")
        good.append(message.text)

    options: dict[str, Any] = {"handler_retries": 1, "dead_letter": lambda message: dead.append(message.text)}
    async with broker() as one, open_to(one, **options) as transport:
        await transport.subscribe("t", handle).ready(30)
        for text in ("bad", "good"):
            transport.publish("t", text)
        await until(lambda: good and dead)
        assert (dead, good, transport.stats.handler_errors) == (["bad"], ["good"], 2)
        await one.ledger.until(lambda: sum(isinstance(e, Acked) and not e.is_sent for e in one.ledger.entries) == 2)
        assert "raised ValueError: no" in transport.explain()


class Bad:
    """A plugin whose hooks raise or hang."""

    def __init__(self, gate: threading.Event | None) -> None:
        self.gate = gate
        self.calls = 0

    def misbehave(self) -> None:
        """Hang, or raise."""
        self.calls += 1
        if self.gate is not None:
            self.gate.wait(30)
        else:
            raise ValueError("mine")

    @hookimpl
    def select_endpoint(self) -> None:
        """One of ours."""
        self.misbehave()

    @hookimpl
    def on_connected(self) -> None:
        """One of ours."""
        self.misbehave()

    @hookimpl
    def before_reconnect(self) -> None:
        """One of ours."""
        self.misbehave()


@pytest.mark.parametrize("hangs", [False, True])
async def test_bad_hooks(hangs: bool) -> None:  # noqa: FBT001 - a parameter
    """Hooks that raise or hang are counted, named, and stop nothing."""
    gate = threading.Event() if hangs else None
    plugin = Bad(gate)
    try:
        async with broker() as one, open_to(one, plugins=[plugin], hook_timeout=0.05) as transport:
            await transport.publish("t", b"1")
            one.faults.reset()
            await transport.publish("t", b"2")
            await until(lambda: transport.stats.connections == 2)
            assert plugin.calls >= 1
            assert sum(transport.stats.plugin_problems.values()) >= 1
            if gate is not None:
                gate.set()
    finally:
        if gate is not None:
            gate.set()


async def test_callback_that_raises_value_error() -> None:
    """A done-callback that raises harms neither the connection nor other deliveries."""
    async with broker() as one, open_to(one) as transport:
        await transport.wait_connected(30)

        def fail(_: Delivery) -> None:
            raise ValueError("mine")

        transport.publish("t", b"1").add_done_callback(fail)
        await transport.publish("t", b"2")
        assert transport.stats.connections == 1
        assert one.ledger.ends() == []


# The end.


async def test_after_close() -> None:
    """After close each call raises TransportClosed, close and unsubscribing do nothing, and looking is allowed."""
    async with broker() as one:
        transport = open_to(one)
        subscription = transport.subscribe("t")
        await transport.wait_connected(30)
        await transport.close()
        await transport.close()
        calls: list[Callable[[], object]] = [
            lambda: transport.publish("t"),
            lambda: transport.subscribe("t"),
            lambda: transport.unsubscribe("t"),
            transport.reconnect,
        ]
        for call in calls:
            with pytest.raises(TransportClosed, match="make a new one"):
                call()
        for work in (transport.wait_connected(30), transport.drain(30), transport.ready(30)):
            with pytest.raises(TransportClosed):
                await work
        await subscription.ready(30)  # it was granted while there was time
        subscription.unsubscribe()
        assert transport.state is State.STOPPED
        assert transport.depth == transport.stats.waiting == 0
        assert transport.explain().endswith("stopped")
        assert transport.last_error is None or transport.last_error.cause is Cause.STOPPED


async def test_close_ends_waits() -> None:
    """Closing ends every wait, and messages that no broker has end as cancelled."""
    async with broker() as one:
        await one.kill()
        transport = open_to(one)
        delivery = transport.publish("t", b"x")
        subscription = transport.subscribe("t")
        work = [delivery, transport.wait_connected(), subscription.ready(), transport.drain()]
        tasks = [asyncio.ensure_future(_outcome(item)) for item in work]
        await asyncio.sleep(0.01)
        await transport.close()
        kinds = [type(await task) for task in tasks]
        assert kinds == [Cancelled, TransportClosed, TransportClosed, type(None)]


async def _outcome(work: Any) -> BaseException | None:
    try:
        await work
    except Exception as error:  # compared by the test
        return error
    return None


async def test_close_drains() -> None:
    """Leaving the block waits for what was published; an exception in the block does not."""
    async with broker() as one:
        async with open_to(one) as transport:
            for n in range(100):
                transport.publish("t", str(n))
        assert len(one.ledger.published()) == 100
        deliveries: list[Delivery] = []
        with pytest.raises(ZeroDivisionError):
            await fail(deliveries)
        assert [d.state for d in deliveries] == [DeliveryState.CANCELLED]


async def fail(deliveries: list[Delivery]) -> None:
    async with open_to(dead_uri()) as transport:
        deliveries.append(transport.publish("t"))
        raise ZeroDivisionError


async def test_drain_bound() -> None:
    """A drain that runs out says how many messages are left; close(drain=) then closes all the same."""
    async with broker() as one:
        one.faults.withhold_acks()
        transport = open_to(one)
        for _ in range(3):
            transport.publish("t")
        with pytest.raises(TimeoutError, match="3 messages"):
            await transport.drain(0.05)
        await transport.close(drain=0.05)
        assert transport.state is State.STOPPED


async def test_would_deadlock() -> None:
    """A blocking wait on the loop is refused at once."""
    async with open_to(dead_uri()) as transport:
        with pytest.raises(WouldDeadlock):
            transport.publish("t").wait(30)
        await transport.close()


async def test_never_started() -> None:
    """A transport made outside of a loop starts when it is entered."""
    async with broker() as one:
        transport = await asyncio.to_thread(open_to, one)
        assert transport.state is State.STOPPED
        async with transport:
            await transport.wait_connected(30)
        transport = await asyncio.to_thread(open_to, one)
        await transport.close()
        with pytest.raises(TransportClosed):
            transport.publish("t")


# Losing and coming back.


async def test_order_after_a_reconnect() -> None:
    """After a reconnect come the subscriptions, then what was not acknowledged in its order, then the rest."""
    async with broker() as one:
        one.faults.withhold_acks()
        async with open_to(one, session="hunt") as transport:
            for n in range(9):
                transport.subscribe(f"f/{n}", lambda _: None)
            await transport.wait_connected(30)
            for n in range(5):
                transport.publish("t", str(n))
            await one.ledger.until(lambda: len(one.ledger.published()) == 5)
            await one.kill()
            one.store.sessions.clear()
            one.faults.clear()
            for n in range(5, 9):
                transport.publish("t", str(n))
            seen = len(one.ledger.entries)
            await one.restart()
            await transport.drain(30)
            later = [e for e in one.ledger.entries[seen:] if isinstance(e, Connected | Subscribed | Published)]
            kinds = [type(entry).__name__ for entry in later]
            assert kinds == ["Connected"] + ["Subscribed"] * 9 + ["Published"] * 9
            payloads = [entry.payload.decode() for entry in later if isinstance(entry, Published)]
            assert payloads == [str(n) for n in range(9)]


async def test_batches_of_filters() -> None:
    """Subscriptions that are asked for together go out in packets of at most eight filters."""
    async with broker() as one, open_to(one) as transport:
        subscriptions = [transport.subscribe(f"f/{n}") for n in range(20)]
        for subscription in subscriptions:
            await subscription.ready(30)
        assert [entry.filter for entry in one.ledger.subscribes()] == [f"f/{n}" for n in range(20)]


@pytest.mark.parametrize("qos", [1, 2])
async def test_resumed_session(qos: int) -> None:
    """On a resumed session what was sent goes out again with its packet id and DUP; QoS 2 is accepted once."""
    async with broker() as one, open_to(one) as transport:
        await transport.wait_connected(30)
        one.faults.drop_after_publish()
        await transport.publish("t", b"x", qos=qos)
        first = one.ledger.published()[0]
        again = [e for e in one.ledger.entries if isinstance(e, Repeated)] or one.ledger.published()[1:]
        assert [(e.packet_id, e.dup) for e in again] == [(first.packet_id, True)]
        assert one.ledger.connects()[-1].session_present
        assert len(one.ledger.subscribes()) == 0


async def test_shared_without_a_session() -> None:
    """A shared session that the broker has lost is made anew: subscribed again, sent again."""
    async with broker() as one, open_to(one) as transport:
        await transport.subscribe("f", lambda _: None).ready(30)
        one.faults.withhold_acks()
        delivery = transport.publish("t", b"x")
        await one.ledger.until(lambda: bool(one.ledger.published()))
        await one.kill()
        one.store.sessions.clear()
        one.faults.clear()
        await one.restart()
        await delivery
        connects = one.ledger.connects()
        assert [entry.clean for entry in connects] == [False, False]
        assert not connects[-1].session_present
        assert [entry.filter for entry in one.ledger.subscribes()] == ["f", "f"]
        assert [entry.dup for entry in one.ledger.published()] == [False, False]


async def test_subscriptions_are_held() -> None:
    """On a resumed session the filters that it holds are not sent again, but new and ended ones are."""
    async with broker() as one, open_to(one) as transport:
        kept, ended = transport.subscribe("kept"), transport.subscribe("ended")
        await kept.ready(30)
        await ended.ready(30)
        await one.kill()
        ended.unsubscribe()
        new = transport.subscribe("new")
        seen = len(one.ledger.entries)
        await one.restart()
        await new.ready(30)
        await until(lambda: transport.is_connected)
        names = [getattr(e, "filter", "") for e in one.ledger.entries[seen:] if type(e).__name__.endswith("ubscribed")]
        assert sorted(names) == ["ended", "new"]


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (SessionKind.SHARED, [False, False, False]),
        (SessionKind.HUNT, [False, True, False]),
        (SessionKind.CLEAN, [True, True, True]),
    ],
)
async def test_clean_flags(session: SessionKind, expected: list[bool]) -> None:
    """Shared resumes wherever it is, hunt starts clean at another endpoint only, clean always does."""
    store, ledger = Store(), Ledger()
    async with Broker(name="a", store=store, ledger=ledger) as a, Broker(name="b", ledger=ledger) as b:
        await a.start()
        await b.start()
        await b.kill()
        group = Group([parse_uri(a.uri), parse_uri(b.uri)], session, randomize=False)
        async with switchgear.aio.connect(group, client_id="c", protocol="5", **QUICK) as transport:
            await transport.wait_connected(30)
            await a.kill()
            await b.restart()
            await until(lambda: transport.stats.connections == 2)
            b.faults.reset()
            await until(lambda: transport.stats.connections == 3)
        assert [entry.broker for entry in ledger.connects()] == ["a", "b", "b"]
        assert [entry.clean for entry in ledger.connects()] == expected


async def test_default_sessions() -> None:
    """With a client id the first connection resumes what an earlier process may have left; without one it is clean."""
    async with broker() as one:
        for where, options, clean in (
            (one.uri, {"client_id": "c"}, False),
            (one.uri, {}, True),
            ([one.uri, dead_uri()], {"client_id": "d"}, False),
        ):
            one.ledger.clear()
            async with switchgear.aio.connect(where, protocol="5", **QUICK, **options) as transport:
                await transport.wait_connected(30)
            assert [entry.clean for entry in one.ledger.connects()] == [clean]


def test_session_of_a_plugin() -> None:
    """A plugin whose SESSION is "hunt" makes one URI with a client id hunt, unless the profile says otherwise."""

    class Regional:
        SESSION = "hunt"

        @hookimpl
        def on_connected(self) -> None: ...

    def session(**options: Any) -> SessionKind:
        profile = Profile("mqtt://b", plugins=[Regional()], **options)
        return make_plan(profile, Registry.load(entry_points=[])).groups[0].session

    assert session(client_id="c") is SessionKind.HUNT
    assert session(client_id="c", session="shared") is SessionKind.SHARED
    assert session() is SessionKind.CLEAN


async def test_refused_filter() -> None:
    """A refused filter is reported with the code and asked for again until it is granted."""
    async with broker() as one:
        one.faults.refuse_subscribe("no", times=1)
        async with open_to(one, protocol="5") as transport:
            subscription, other = transport.subscribe("no"), transport.subscribe("yes")
            await other.ready(30)
            with pytest.raises(SubscriptionRefused, match="0x87"):
                await subscription.ready(30)
            assert subscription.refusal is not None
            await until(lambda: subscription.refusal is None)
            await subscription.ready(30)
            await transport.publish("no", b"x")
            message = await subscription.get()
            assert message is not None
            assert "refused the filter no (reason 0x87)" in transport.explain()


async def test_wanted_again_while_subscribing() -> None:
    """A filter that is ended and wanted again while a SUBSCRIBE is under way is subscribed in the end."""
    async with broker() as one, open_to(one) as transport:
        first = transport.subscribe("a")
        await first.ready(30)
        one.faults.slow(0.02)
        other = transport.subscribe("b")
        first.unsubscribe()
        await until(lambda: len(one.ledger.subscribes()) == 2)
        again = transport.subscribe("a")
        await other.ready(30)
        await again.ready(30)
        await asyncio.sleep(0.1)
        one.faults.clear()
        await transport.publish("a", b"x")
        message = await again.get()
        assert message is not None


async def test_two_transports_with_one_client_id() -> None:
    """Two transports that steal each other's connection lose no message of either."""
    async with broker() as one:
        async with open_to(one, protocol="5") as first, open_to(one, protocol="5") as second:
            for n in range(10):
                first.publish("first", str(n))
                second.publish("second", str(n))
                await asyncio.sleep(0.01)
            await second.drain(30)
            await second.close()
            await first.drain(30)
        for topic in ("first", "second"):
            assert {p.decode() for p in one.ledger.payloads(topic)} == {str(n) for n in range(10)}


async def test_give_up() -> None:
    """Giving up ends each wait with the last cause; reconnect() starts again and delivers what was waiting."""
    async with broker() as one:
        await one.kill()
        async with open_to(one, give_up_after=GiveUpAfter(attempts=2)) as transport:
            delivery = transport.publish("t", b"x")
            subscription = transport.subscribe("t")
            work = [delivery, transport.wait_connected(), subscription.ready(), transport.drain()]
            outcomes = [await _outcome(item) for item in work]
            assert [type(outcome) for outcome in outcomes] == [GaveUp] * 4
            assert transport.state is State.GAVE_UP
            error = outcomes[0]
            assert isinstance(error, GaveUp)
            assert error.cause is Cause.PORT_REFUSED
            assert "2 attempts" in str(error)
            with pytest.raises(GaveUp):
                transport.publish("t", b"y")
            transport._outbox.hold()  # no room
            with pytest.raises(GaveUp):
                await transport.ready(30)
            transport._outbox.release()
            assert not delivery.done()
            await one.restart()
            transport.reconnect("the operator said so")
            await delivery
            await subscription.ready(30)
            assert one.ledger.payloads() == [b"x"]


async def test_wait_connected_says_why() -> None:
    """A wait for a connection that runs out says how the last attempt ended."""
    async with open_to(dead_uri()) as transport:
        await until(lambda: transport.last_error)
        with pytest.raises(TimeoutError, match="connection refused"):
            await transport.wait_connected(0.1)
        error = transport.last_error
        assert isinstance(error, ConnectionFailed)
        assert error.endpoint == dead_uri()


async def test_reconnect() -> None:
    """A reconnect that was asked for makes a new connection, gracefully, and loses nothing."""
    async with broker() as one, open_to(one, protocol="5") as transport:
        await transport.publish("t", b"1")
        transport.reconnect("maintenance")
        await transport.publish("t", b"2")
        assert transport.stats.connections == 2
        assert [entry.how for entry in one.ledger.ends()] == ["disconnect"]
        assert one.ledger.payloads() == [b"1", b"2"]


async def test_poison() -> None:
    """A message whose sending ends the connection again and again ends as refused, and the others are delivered."""
    async with broker() as one:
        one.faults.poison(lambda topic: topic == "poison")
        async with open_to(one, client_id="c") as transport:
            deliveries = [transport.publish(topic, b"x") for topic in ("a", "poison", "b")]
            await transport.drain(30)
            assert [d.state.value for d in deliveries] == ["acknowledged", "refused", "acknowledged"]
            with pytest.raises(Refused, match="in a row"):
                await deliveries[1]


def test_drain_rate() -> None:
    """A drain rate slows what has waited, not what comes later."""

    async def main() -> tuple[float, float]:
        one = Broker()
        network = MemoryNetwork({"b:1883": one})
        await one.kill()
        profile = Profile.of("mqtt://b:1883", client_id="c", drain_rate=100)
        async with AsyncTransport(profile, make_driver=network.make_driver, runner=InlineRunner()) as transport:
            for n in range(20):
                transport.publish("t", str(n))
            await one.restart()
            await transport.drain(60)
            entries = one.ledger.published()
            began = asyncio.get_running_loop().time()
            for n in range(50):
                transport.publish("t", str(n))
            await transport.drain(60)
            return entries[-1].at - entries[0].at, asyncio.get_running_loop().time() - began

    slowed, later = run_virtual(main())
    assert slowed == pytest.approx(0.19, abs=0.1)  # a tenth of a second may be saved up
    assert later < 0.01


async def test_failover() -> None:
    """Everything that was accepted through a fail-over of a pair is delivered, QoS 2 exactly once."""
    store, ledger = Store(), Ledger()
    a = Broker(name="a", store=store, ledger=ledger)
    b = Broker(name="b", store=store, ledger=ledger, standby=True)
    async with a, b:
        await a.start()
        await b.start()
        where = Group([parse_uri(a.uri), parse_uri(b.uri)], SessionKind.SHARED)
        async with switchgear.aio.connect(where, client_id="c", **QUICK) as transport:
            for n in range(200):
                transport.publish("t", str(n), qos=2)
                if n == 100:
                    await ledger.until(lambda: len(ledger.published()) > 20)
                    await a.kill()
                    await b.promote()
            await transport.drain(30)
        assert [payload.decode() for payload in ledger.payloads()] == [str(n) for n in range(200)]


async def test_profile_and_endpoints() -> None:
    """A profile, an endpoint and a group are taken as well as a URI, and options replace those of a profile."""
    async with broker() as one:
        endpoint: Endpoint = parse_uri(one.uri)
        places: list[Any] = [Profile(one.uri, client_id="p"), endpoint, Group([endpoint]), [endpoint, one.uri]]
        for where in places:
            async with switchgear.aio.connect(where, client_id="q", **QUICK) as transport:
                await transport.wait_connected(30)
        assert {entry.client_id for entry in one.ledger.connects()} == {"q"}
