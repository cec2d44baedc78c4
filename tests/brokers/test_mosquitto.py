import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import switchgear
from switchgear import TLS, Cause, DeliveryState, Message, Properties
from switchgear.testing.processes import Mosquitto, TlsFiles, free_port, make_tls_files

Start = Callable[..., Mosquitto]
Options = dict[str, Any]

PROTOCOLS = ("3.1.1", "5")

pytestmark = [pytest.mark.broker]


class Events(list[switchgear.Event]):
    """What a transport said; give its `append` as ``on_event``."""

    def named(self, name: str) -> list[switchgear.Event]:
        return [event for event in self if event.name == name]

    def endings(self) -> str:
        """All endings of attempts and connections, in words."""
        return "\n".join(str(event) for event in self if event.name in {"attempt_failed", "connection_lost"})


def wait_until(is_met: Callable[[], bool], why: Callable[[], str] = lambda: "", timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not is_met():
        assert time.monotonic() < deadline, why()
        time.sleep(0.005)


# Every way to connect


def ways(files: TlsFiles) -> dict[str, tuple[Options, Options]]:
    """Arguments of `Mosquitto` and of `connect`, by name."""
    trust = TLS(ca_file=files.ca_file)
    mutual = TLS(ca_file=files.ca_file, cert_file=files.client_cert_file, key_file=files.client_key_file)
    return {
        "plain": ({}, {}),
        "tls": ({"tls": files}, {"tls": trust}),
        "mutual": ({"tls": files, "require_client_certificate": True}, {"tls": mutual}),
        "ws": ({"websocket": True}, {}),
        "wss": ({"websocket": True, "tls": files}, {"tls": trust}),
        "users": ({"users": {"me": "mine"}}, {"username": "me", "password": "mine"}),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("way", ["plain", "tls", "mutual", "ws", "wss", "users"])
def test_messages_go_both_ways(mosquitto: Start, tls_files: TlsFiles, way: str, protocol: str) -> None:
    """Over every kind of connection, messages of each QoS arrive whole, in order, once, and at the QoS they were sent."""
    broker_options, options = ways(tls_files)[way]
    broker = mosquitto(**broker_options)
    # Over WebSockets mosquitto 2.0 reads 4 KB every tenth of a second (seen).
    payloads = [b"", b"small", bytes(range(256)) * (12 if "ws" in way else 1200)]
    with switchgear.connect(broker.uri, client_id="both", protocol=protocol, **options) as transport:
        messages = transport.subscribe("both/#", qos=2)
        messages.wait_ready(60)
        for qos in (0, 1, 2):
            for payload in payloads:
                transport.publish(f"both/{qos}", payload, qos=qos)
        arrived = [messages.get(60) for _ in range(9)]
        transport.drain(60)
        assert [(m.topic, m.payload, m.qos) for m in arrived if m is not None] == [
            (f"both/{qos}", payload, qos) for qos in (0, 1, 2) for payload in payloads
        ]
        assert not any(m.retain or m.duplicate for m in arrived if m is not None)
        assert transport.stats.received == transport.stats.acknowledged == 9
        with pytest.raises(TimeoutError):
            messages.get(0.1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_retained_messages(mosquitto: Start, protocol: str) -> None:
    """A retained message reaches a later subscriber, marked as such, and an empty one removes it."""
    broker = mosquitto()
    with switchgear.connect(broker.uri, protocol=protocol) as transport:
        transport.publish("kept/a", b"1", retain=True).wait(60)
        transport.publish("kept/b", b"2", retain=True).wait(60)
        transport.publish("kept/b", b"", retain=True).wait(60)
        messages = transport.subscribe("kept/#")
        messages.wait_ready(60)
        transport.publish("kept/end").wait(60)
        first, last = messages.get(60), messages.get(60)
        assert first is not None
        assert last is not None
        assert (first.topic, first.payload, first.retain) == ("kept/a", b"1", True)
        assert (last.topic, last.retain) == ("kept/end", False)


_DOOMED = """
import sys, time, switchgear
transport = switchgear.connect(
    sys.argv[1], client_id="doomed", protocol=sys.argv[2],
    will=switchgear.Will(topic="will/" + sys.argv[3], payload="gone", qos=1),
)
transport.wait_connected(60)
if sys.argv[3] == "closed":
    transport.close()
elif sys.argv[3] == "killed":
    print("ready", flush=True)
    time.sleep(60)
# "ended": the interpreter exits with the transport open
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_will_is_for_those_who_vanish(mosquitto: Start, protocol: str) -> None:
    """The will is published when our process is killed, and neither after `close` nor after an ordinary exit."""
    broker = mosquitto()
    with switchgear.connect(broker.uri, protocol=protocol) as heir:
        messages = heir.subscribe("will/#")
        messages.wait_ready(60)
        for end in ("closed", "ended", "killed"):
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _DOOMED, broker.uri, protocol, end], stdout=subprocess.PIPE, text=True
            )
            with process:
                if end == "killed":
                    assert process.stdout is not None
                    assert process.stdout.readline() == "ready\n"
                    process.send_signal(signal.SIGKILL)
                process.wait(60)
        message = messages.get(60)
        assert message is not None
        assert (message.topic, message.payload) == ("will/killed", b"gone")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_session_is_resumed(mosquitto: Start, protocol: str) -> None:
    """A new transport with the same client id finds its session, and what was queued while it was away, in order."""
    broker = mosquitto()
    with (
        switchgear.connect(broker.uri, client_id="writer", protocol=protocol) as writer,
        switchgear.connect(broker.uri, client_id="reader", protocol=protocol) as reader,
    ):
        reader.subscribe("away/#", qos=2).wait_ready(60)
        reader.close()
        for number in range(100):
            writer.publish(f"away/{number}", qos=1 + number % 2)
        writer.drain(60)
        events = Events()
        with switchgear.connect(broker.uri, client_id="reader", protocol=protocol, on_event=events.append) as again:
            messages = again.subscribe("away/#", qos=2)
            arrived = [messages.get(60) for _ in range(100)]
            numbers = [int(m.topic.rpartition("/")[2]) for m in arrived if m is not None]
            # mosquitto queues each QoS for itself.
            assert [n for n in numbers if n % 2 == 0] == list(range(0, 100, 2))
            assert [n for n in numbers if n % 2 == 1] == list(range(1, 100, 2))
            wait_until(lambda: bool(events.named("connected")))
            assert events.named("connected")[0].facts["session_present"] is True
            with pytest.raises(TimeoutError):
                messages.get(0.1)


@pytest.mark.parametrize("qos", [1, 2])
def test_what_comes_before_its_subscription_is_kept(mosquitto: Start, qos: int) -> None:
    """What a resumed session delivers before the application has subscribed again waits for it, unacknowledged."""
    broker = mosquitto()
    with (
        switchgear.connect(broker.uri, client_id="writer") as writer,
        switchgear.connect(broker.uri, client_id="reader") as reader,
    ):
        reader.subscribe("early/#", qos=qos).wait_ready(60)
        reader.close()
        for number in range(50):
            writer.publish(f"early/{number}", qos=qos).wait(60)
        with switchgear.connect(broker.uri, client_id="reader") as again:
            wait_until(lambda: again.stats.received == 50, again.explain)
        # It closed without having subscribed: the broker still has them.
        with switchgear.connect(broker.uri, client_id="reader") as again:
            wait_until(lambda: again.stats.received == 50, again.explain)
            messages = again.subscribe("early/#", qos=qos)
            topics = [messages.get(60).topic for _ in range(50)]  # type: ignore[union-attr]  # None only after closing
            assert topics == [f"early/{number}" for number in range(50)]


def test_what_nobody_subscribes_to_is_reported(mosquitto: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of a resumed session that nobody claims are reported and acknowledged, so that they block nothing."""
    monkeypatch.setattr("switchgear.subscriber.UNCLAIMED", 0.2)
    broker = mosquitto(extra="max_inflight_messages 1")
    events = Events()
    with (
        switchgear.connect(broker.uri, client_id="writer") as writer,
        switchgear.connect(broker.uri, client_id="reader") as reader,
    ):
        reader.subscribe("old/#").wait_ready(60)
        reader.close()
        writer.publish("old/1").wait(60)
        writer.publish("old/2").wait(60)
        with switchgear.connect(broker.uri, client_id="reader", on_event=events.append) as again:
            messages = again.subscribe("new/#")
            messages.wait_ready(60)
            writer.publish("new/1").wait(60)
            message = messages.get(60)
            assert message is not None
            assert message.topic == "new/1"
    assert "nobody subscribed to 'old/1'" in str(events.named("message_dropped")[0])


def test_a_session_outlives_its_broker(mosquitto: Start) -> None:
    """A mosquitto that was stopped and started again still has the session, and nothing is subscribed to again."""
    broker = mosquitto(persistence=True)
    events = Events()
    with switchgear.connect(broker.uri, client_id="stays", on_event=events.append) as transport:
        messages = transport.subscribe("stays/#", qos=1)
        messages.wait_ready(60)
        broker.stop()
        broker.start()
        transport.publish("stays/on").wait(60)
        message = messages.get(60)
        assert message is not None
        assert message.topic == "stays/on"
        wait_until(lambda: len(events.named("connected")) == 2)
        assert [e.facts["session_present"] for e in events.named("connected")] == [False, True]
    assert broker.log_file.read_text(encoding="utf-8").count("Received SUBSCRIBE from stays") == 1


def test_mqtt_5_properties_arrive(mosquitto: Start) -> None:
    """Every MQTT 5 property of a message arrives as it was given; the message id is added after the user's own."""
    broker = mosquitto()
    given = Properties(
        content_type="text/plain; charset=utf-8",
        response_topic="answers/7",
        correlation_data=b"\0\xff",
        payload_is_text=True,
        message_expiry=3600,
        user=(("a", "1"), ("a", "2"), ("ü", "€")),
    )
    with switchgear.connect(broker.uri, protocol="5", message_id=True) as transport:
        messages = transport.subscribe("properties", qos=2)
        messages.wait_ready(60)
        for qos in (0, 1, 2):
            began = time.monotonic()
            transport.publish("properties", "text", qos=qos, properties=given)
            message = messages.get(60)
            left = 3600 - int(time.monotonic() - began) - 1
            assert message is not None
            got = message.properties
            assert got is not None
            assert got.user[:-1] == given.user
            assert got.user[-1][0] == "message-id"
            assert got.message_expiry in range(left, 3601)
            assert (got.content_type, got.response_topic, got.correlation_data, got.payload_is_text) == (
                given.content_type,
                given.response_topic,
                given.correlation_data,
                True,
            )


def test_expiry_at_the_broker_and_here(mosquitto: Start) -> None:
    """What a subscriber was too late for never reaches it, and what the broker was too late for ends as `Expired`."""
    broker = mosquitto()
    with (
        switchgear.connect(broker.uri, client_id="writer", protocol="5") as writer,
        switchgear.connect(broker.uri, client_id="late", protocol="5") as late,
    ):
        late.subscribe("late/#").wait_ready(60)
        late.close()
        writer.wait_connected(60)
        writer.publish("late/expires", expires_after=2).wait(60)
        writer.publish("late/keeps", expires_after=600).wait(60)
        time.sleep(3.1)  # brokers count in whole seconds
        with switchgear.connect(broker.uri, client_id="late", protocol="5") as again:
            message = again.subscribe("late/#").get(60)
            assert message is not None
            assert message.topic == "late/keeps"
            assert message.properties is not None
            assert message.properties.message_expiry is not None
            assert message.properties.message_expiry < 600
        broker.stop()
        delivery = writer.publish("late/unsent", expires_after=0.2)
        with pytest.raises(switchgear.Expired, match="late/unsent"):
            delivery.wait(60)
        assert delivery.state is DeliveryState.EXPIRED
        assert writer.depth == 0


# What does not work, and how to get out of it


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TlsFiles]:
    """Good and bad certificates, each with an authority of its own."""
    folder = tmp_path_factory.mktemp("certificates")
    return {
        "good": make_tls_files(folder / "good"),
        "stranger": make_tls_files(folder / "stranger"),
        "other name": make_tls_files(folder / "name", names=["other.example"]),
        "expired": make_tls_files(folder / "expired", expired=True),
    }


def both(folder: Path, *files: TlsFiles) -> Path:
    """A CA file with the authorities of all *files*."""
    path = folder / "authorities.pem"
    path.write_bytes(b"".join(each.ca_file.read_bytes() for each in files))
    return path


FATAL = {
    "other name": (Cause.CERTIFICATE_NAME, "connect to a name that the certificate holds"),
    "expired": (Cause.CERTIFICATE_EXPIRED, "renew the broker's certificate"),
    "unknown CA": (Cause.CERTIFICATE_INVALID, "check ca_file"),
    "no client certificate": (Cause.CLIENT_CERTIFICATE_REFUSED, "check cert_file and key_file"),
    "foreign client certificate": (Cause.CLIENT_CERTIFICATE_REFUSED, "that the broker trusts their CA"),
    "wrong password": (Cause.NOT_AUTHORIZED, "check username and password"),
    "no password": (Cause.NOT_AUTHORIZED, "check username and password"),
}
CLOSED = {Cause.CONNECTION_LOST, Cause.CLOSED_BY_BROKER}  # which of them is up to the order of RST and FIN
WRONG_PORT = {
    "TLS to a plain port": ({Cause.TLS_FAILED}, "check that this port speaks TLS"),
    "plain to a TLS port": (CLOSED, "whether it wants TLS"),
    "WebSocket to a plain port": ({Cause.WEBSOCKET_REFUSED}, "check that this port speaks WebSocket"),
    "plain to a WebSocket port": ({*CLOSED, Cause.PROTOCOL_ERROR}, "check that this port speaks MQTT"),
}


def scene(what: str, folder: Path, known: dict[str, TlsFiles]) -> tuple[Options, Options, Options, str]:
    """For *what* goes wrong: the wrong and the right arguments of `Mosquitto`, those of `connect`, and the scheme."""
    good, stranger = known["good"], known["stranger"]
    trust = TLS(ca_file=good.ca_file)
    if what in {"other name", "expired"}:
        bad = known[what]
        return {"tls": bad}, {"tls": good}, {"tls": TLS(ca_file=both(folder, bad, good))}, "mqtts"
    if what == "unknown CA":
        return {"tls": stranger}, {"tls": good}, {"tls": trust}, "mqtts"
    if what == "no client certificate":
        return {"tls": good, "require_client_certificate": True}, {"tls": good}, {"tls": trust}, "mqtts"
    if what == "foreign client certificate":
        foreign = TLS(ca_file=good.ca_file, cert_file=stranger.client_cert_file, key_file=stranger.client_key_file)
        return {"tls": good, "require_client_certificate": True}, {"tls": good}, {"tls": foreign}, "mqtts"
    if what == "wrong password":
        login = {"username": "me", "password": "mine"}
        return {"users": {"me": "other"}}, {"users": {"me": "mine"}}, login, "mqtt"
    if what == "no password":
        return {"users": {"me": "mine"}}, {}, {}, "mqtt"
    if what == "TLS to a plain port":
        return {}, {"tls": good}, {"tls": trust}, "mqtts"
    if what == "plain to a TLS port":
        return {"tls": good}, {}, {}, "mqtt"
    if what == "WebSocket to a plain port":
        return {}, {"websocket": True}, {}, "ws"
    return {"websocket": True}, {}, {}, "mqtt"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", FATAL)
def test_what_time_does_not_mend_is_given_up(  # noqa: PLR0917 - fixtures and parameters
    mosquitto: Start,
    certificates: dict[str, TlsFiles],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    protocol: str,
) -> None:
    """After two strikes the transport gives up with the right cause and the way out; mended, it delivers what it had."""
    monkeypatch.setattr("switchgear.health.STRIKE_GAP", 0.2)
    cause, advice = FATAL[what]
    wrong, right, options, scheme = scene(what, tmp_path, certificates)
    broker = mosquitto(**wrong)
    uri = f"{scheme}://localhost:{broker.port}"
    with switchgear.connect(uri, client_id="sure", protocol=protocol, give_up_on_fatal=True, **options) as transport:
        delivery = transport.publish("sure/1", b"payload")
        with pytest.raises(switchgear.GaveUp) as caught:
            transport.wait_connected(60)
        assert caught.value.cause is cause
        assert advice in str(caught.value)
        assert caught.value.endpoint == uri
        assert transport.state is switchgear.State.GAVE_UP
        assert transport.last_error is not None
        assert transport.last_error.cause is cause
        attempts = transport.stats.attempts
        with pytest.raises(switchgear.GaveUp):
            delivery.wait(60)
        broker.stop()
        mosquitto(port=broker.port, **right)
        assert transport.stats.attempts == attempts  # it has not gone on by itself
        assert delivery.state is DeliveryState.STORED
        transport.reconnect("the broker was mended")
        delivery.wait(60)
        transport.publish("sure/2", b"payload").wait(60)


@pytest.mark.parametrize("what", FATAL)
def test_what_time_does_not_mend_is_quarantined(
    mosquitto: Start,
    certificates: dict[str, TlsFiles],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """Without giving up, the endpoint is left alone for a minute, waiting calls are told why, and a mended one is used."""
    monkeypatch.setattr("switchgear.health.STRIKE_GAP", 0.2)
    cause, advice = FATAL[what]
    wrong, right, options, scheme = scene(what, tmp_path, certificates)
    broker = mosquitto(**wrong)
    events = Events()
    with switchgear.connect(
        f"{scheme}://localhost:{broker.port}", client_id="sure", on_event=events.append, **options
    ) as transport:
        delivery = transport.publish("sure/1", b"payload")
        with pytest.raises(switchgear.ConnectionFailed, match=advice) as caught:
            transport.wait_connected(60)
        assert caught.value.cause is cause
        assert not isinstance(caught.value, switchgear.GaveUp)
        wait_until(lambda: bool(events.named("all_quarantined")))
        attempts = transport.stats.attempts
        broker.stop()
        mosquitto(port=broker.port, **right)
        assert transport.stats.attempts == attempts
        assert events.named("all_quarantined")[0].facts["delay"] > 30  # type: ignore[operator]  # seconds
        transport.reconnect("the broker was mended")
        delivery.wait(60)


@pytest.mark.parametrize("what", WRONG_PORT)
def test_the_wrong_kind_of_port_is_said(
    mosquitto: Start, certificates: dict[str, TlsFiles], tmp_path: Path, what: str
) -> None:
    """A port that speaks something else is tried again with growing delays, with advice, until it speaks what it should."""
    causes, advice = WRONG_PORT[what]
    wrong, right, options, scheme = scene(what, tmp_path, certificates)
    broker = mosquitto(**wrong)
    uri = f"{scheme}://localhost:{broker.port}{'/mqtt' if scheme == 'ws' else ''}"
    events = Events()
    with switchgear.connect(uri, client_id="sure", on_event=events.append, **options) as transport:
        delivery = transport.publish("sure/1", b"payload")
        wait_until(lambda: transport.last_error is not None, transport.explain)
        with pytest.raises(TimeoutError, match=advice):
            transport.wait_connected(1)
        error = transport.last_error
        assert error is not None
        assert error.cause in causes
        assert transport.stats.attempts < 30
        broker.stop()
        mosquitto(port=broker.port, **right)
        delivery.wait(60)
    assert any(cause.value in events.endings() for cause in causes)


def test_a_secret_is_never_shown(mosquitto: Start) -> None:
    """A refused password stands in no error, event, repr or explanation."""
    broker = mosquitto(users={"me": "right"})
    events = Events()
    uri = f"mqtt://me:hunter2@127.0.0.1:{broker.port}"
    with switchgear.connect(uri, client_id="sure", on_event=events.append) as transport:
        wait_until(lambda: transport.last_error is not None, transport.explain)
        with pytest.raises(TimeoutError) as caught:
            transport.wait_connected(0.5)
        shown = "".join(
            [str(caught.value), repr(transport), repr(transport.profile), transport.explain(), repr(events)]
        )
        assert Cause.NOT_AUTHORIZED.value in shown
        assert "hunter2" not in shown


# Brokers that stay silent


def test_a_frozen_broker_is_passed_over(mosquitto: Start) -> None:
    """A broker that stops answering is found by our own PINGREQ, keepalive being off, and its messages go to the next."""
    pair = [mosquitto(), mosquitto()]
    by_port = {broker.port: broker for broker in pair}
    events = Events()
    with switchgear.connect(
        [broker.uri for broker in pair],
        client_id="press-7",
        keepalive=0,
        ack_timeout=0.5,
        connect_timeout=3,
        on_event=events.append,
    ) as transport:
        transport.wait_connected(60)
        assert transport.endpoint is not None
        frozen = by_port[transport.endpoint.port]
        frozen.freeze()
        delivery = transport.publish("frozen/1", b"payload")
        delivery.wait(60)
        assert transport.endpoint.port != frozen.port
        wait_until(lambda: len(events.named("connected")) == 2, transport.explain)  # told on another thread
        lost = events.named("connection_lost")
        assert len(lost) == 1
        assert Cause.KEEPALIVE_TIMEOUT.value in str(lost[0])
        other = next(broker for broker in pair if broker is not frozen)
        assert [entry.topic for entry in other.publishes()] == ["frozen/1"]
        frozen.thaw()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port whose connections are accepted and never answered."""
    with socket.create_server(("127.0.0.1", free_port()), backlog=64) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no SYN: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", free_port()), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        else:
            pytest.skip("this kernel's backlog cannot be filled")
        yield port


def test_a_silent_port_costs_its_deadline(mosquitto: Start) -> None:
    """A port that accepts and never answers CONNECT costs its own deadline, and the next one is dialled meanwhile."""
    broker = mosquitto()
    events = Events()
    with silent_port() as silent:
        places = [f"mqtt://127.0.0.1:{silent}?priority=0&connect_timeout=2", f"{broker.uri}?priority=1"]
        with switchgear.connect(
            places, client_id="press-7", connect_timeout=60, dial_ahead_after=0.1, on_event=events.append
        ) as transport:
            transport.publish("silent/1").wait(60)
    names = [e.name for e in events if e.name in {"attempt_started", "dial_ahead", "attempt_failed", "connected"}]
    assert names == ["attempt_started", "dial_ahead", "attempt_started", "attempt_failed", "connected"]
    assert Cause.CONNACK_TIMEOUT.value in events.endings()


@pytest.mark.parametrize("kind", ["black hole", "silent TLS", "silent WebSocket"])
def test_a_dial_that_hangs_is_overtaken(mosquitto: Start, kind: str) -> None:
    """Where TCP, TLS or the WebSocket upgrade hangs, the next endpoint is dialled beside it and used at once."""
    broker = mosquitto()
    events = Events()
    scheme = {"black hole": "mqtt", "silent TLS": "mqtts", "silent WebSocket": "ws"}[kind]
    with black_hole() if kind == "black hole" else silent_port() as port:
        places = [f"{scheme}://127.0.0.1:{port}?priority=0", f"{broker.uri}?priority=1"]
        with switchgear.connect(
            places, client_id="press-7", connect_timeout=60, dial_ahead_after=0.1, on_event=events.append
        ) as transport:
            transport.publish("hangs/1").wait(60)  # a third of the first one's deadline
    assert len(events.named("dial_ahead")) == 1
    assert Cause.CONNECT_TIMEOUT.value not in events.endings()
    assert len(events.named("connected")) == 1


def test_no_thread_and_no_connection_is_left(mosquitto: Start) -> None:
    """After `close`, the loop's thread and every socket are gone."""
    broker = mosquitto()

    def sockets() -> set[str]:
        found = set()
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the folder itself was one of them
                found.add(str(entry.readlink()))
        return {name for name in found if name.startswith("socket:")}

    before = sockets()
    for _ in range(3):
        with switchgear.connect(broker.uri, client_id="short") as transport:
            transport.publish("short/1").wait(60)
    assert "switchgear-loop" not in {thread.name for thread in threading.enumerate()}
    assert sockets() <= before


def test_a_failing_handler_blocks_nothing(mosquitto: Start) -> None:
    """A handler that raises is called again and then the dead-letter handler is, and the message is acknowledged."""
    broker = mosquitto(extra="max_inflight_messages 1")
    tried: list[bytes] = []
    dead: list[Message] = []

    def handle(message: Message) -> None:
        tried.append(message.payload)
        if message.payload == b"bad":
            raise ValueError("no")

    with switchgear.connect(broker.uri, client_id="hands", handler_retries=1, dead_letter=dead.append) as transport:
        transport.subscribe("hands", handle, qos=1).wait_ready(60)
        transport.publish("hands", b"bad").wait(60)
        transport.publish("hands", b"good").wait(60)
        wait_until(lambda: tried[-1:] == [b"good"])
        assert tried == [b"bad", b"bad", b"good"]
        assert [message.payload for message in dead] == [b"bad"]
        assert transport.stats.handler_errors == 2
