import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
import switchgear
from paho.mqtt.enums import CallbackAPIVersion
from switchgear.testing.processes import (
    DEFAULT_USERS,
    ActiveMQPair,
    BrokerMissing,
    LoggedConnect,
    LoggedDelivery,
    LoggedRelease,
    Mosquitto,
    TlsFiles,
    find_activemq,
    find_mosquitto,
    free_port,
    make_tls_files,
    port_accepts,
    wait_port,
)
from switchgear.testing.processes.ledger import number, read_activemq, read_mosquitto, topic_matches

Start = Callable[..., Mosquitto]

AMPLE = 60.0
"""Seconds for what is to come about: a JVM beside other programs takes tens of them."""


@contextmanager
def client(
    uri: str,
    client_id: str,
    *,
    user: tuple[str, str] | None = None,
    ca_file: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
    clean: bool = True,
    on_message: Callable[[str], None] | None = None,
) -> Iterator[paho.Client]:
    """A paho client that is connected."""
    parts = urlsplit(uri)
    connected = threading.Event()
    mqtt = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=clean,
        transport="websockets" if parts.scheme in {"ws", "wss"} else "tcp",
    )
    if user is not None:
        mqtt.username_pw_set(*user)
    if ca_file is not None:
        context = ssl.create_default_context(cafile=str(ca_file))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        mqtt.tls_set_context(context)

    def note(_client: object, _data: object, _flags: object, reason: object, _properties: object) -> None:
        if str(reason) == "Success":
            connected.set()

    mqtt.on_connect = note
    if on_message is not None:
        mqtt.on_message = lambda _client, _data, message: on_message(message.topic)
    assert parts.hostname is not None
    assert parts.port is not None
    mqtt.connect(parts.hostname, parts.port)
    mqtt.loop_start()
    try:
        assert connected.wait(AMPLE)
        yield mqtt
    finally:
        mqtt.disconnect()
        mqtt.loop_stop()


def publish(mqtt: paho.Client, *topics: str, qos: int = 1) -> None:
    for topic in topics:
        mqtt.publish(topic, b"payload", qos).wait_for_publish(AMPLE)


def process_exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(is_met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + AMPLE
    while not is_met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Ports


def test_free_ports_differ_and_refuse() -> None:
    """A free port is given once, refuses connections and lies below the kernel's own range."""
    ports = {free_port() for _ in range(50)}
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert len(ports) == 50
    assert not any(port_accepts(port) for port in ports)
    assert max(ports) < lowest


def test_waiting_for_a_silent_port_ends() -> None:
    """Waiting for a port that nobody opens raises `TimeoutError`."""
    with pytest.raises(TimeoutError):
        wait_port(free_port(), 0.05)


# Missing programs


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a program is missing, the error names the Debian packages to install."""
    monkeypatch.setattr("shutil.which", lambda *_args, **_options: None)
    monkeypatch.setattr("switchgear.testing.processes.activemq._HOME", tmp_path)
    monkeypatch.setattr("switchgear.testing.processes.activemq._MQTT_JAR", tmp_path / "mqtt-client.jar")
    with pytest.raises(BrokerMissing, match="`mosquitto`"):
        find_mosquitto()
    with pytest.raises(BrokerMissing, match="default-jre-headless, activemq, libmqtt-client-java"):
        find_activemq()


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_missing_brokers_skip_unless_required(
    monkeypatch: pytest.MonkeyPatch,
    require_brokers: Callable[[str], None],
    required: str,
    outcome: type[BaseException],
) -> None:
    """A missing broker skips the test, and fails it where SWITCHGEAR_REQUIRE_BROKERS is 1."""
    monkeypatch.setattr("shutil.which", lambda *_args, **_options: None)
    monkeypatch.setenv("SWITCHGEAR_REQUIRE_BROKERS", required)
    with pytest.raises(outcome):
        require_brokers("mosquitto")


# Ledger, from lines as the brokers write them


def test_unusual_mosquitto_lines_are_read(tmp_path: Path) -> None:
    """Quotes, commas and brackets in client ids and topics, and a half-written last line, do not confuse the ledger."""
    log = tmp_path / "log"
    log.write_text(
        "1795325798: New client connected from 127.0.0.1:52061 as a (p2, c1 (p2, c1, k60, u'me').\n"
        "1795325798: Received PUBLISH from a (p2, c1 (d1, q2, r1, m65535, 't', ... /x', ... (3 bytes))\n"
        "1795325798: Denied PUBLISH from a (p2, c1 (d0, q1, r0, m3, 'u', ... (3 bytes))\n"
        "1795325798: Received PUBLISH from a (p2, c1 (d0, q1, r0, m4, 'half",
        encoding="utf-8",
    )
    connect, publish = read_mosquitto(log)
    assert connect.client_id == publish.client_id == "a (p2, c1"
    assert (publish.topic, publish.qos, publish.dup, publish.packet_id) == ("t', ... /x", 2, True, 65535)  # type: ignore[union-attr]  # the second line is a PUBLISH


def test_deliveries_and_kept_sessions_are_read(tmp_path: Path) -> None:
    """A PUBLISH to a subscriber is a delivery on its connection, a PUBREL releases it, a CONNACK says what was kept."""
    log = tmp_path / "log"
    log.write_text(
        "1: New client connected from 127.0.0.1:1 as r (p2, c0, k60).\n"
        "1: Will message specified (1 bytes) (r0, q1).\n"
        "1: \tgone\n"
        "1: Sending CONNACK to r (0, 0)\n"
        "2: Sending PUBLISH to r (d0, q2, r0, m7, 't', ... (3 bytes))\n"
        "2: Sending PUBREL to r (m7)\n"
        "2: Sending PUBREC to r (m8, rc0)\n"
        "3: New client connected from 127.0.0.1:2 as r (p2, c0, k60).\n"
        "3: No will message specified.\n"
        "3: Sending CONNACK to r (1, 0)\n"
        "3: Sending PUBLISH to r (d1, q2, r0, m7, 't', ... (3 bytes))\n",
        encoding="utf-8",
    )
    first, once, release, second, again = number(read_mosquitto(log))
    assert [first, second] == [
        LoggedConnect(client_id="r", time=1, connection=1, session_present=False),
        LoggedConnect(client_id="r", time=3, connection=2, session_present=True),
    ]
    assert [once, again] == [
        LoggedDelivery(client_id="r", topic="t", qos=2, dup=False, time=2, packet_id=7, connection=1),
        LoggedDelivery(client_id="r", topic="t", qos=2, dup=True, time=3, packet_id=7, connection=2),
    ]
    assert release == LoggedRelease(client_id="r", packet_id=7, time=2, connection=1)


def test_activemq_lines_of_two_threads_are_kept_apart(tmp_path: Path) -> None:
    """PUBLISH packets whose lines alternate with another connection's keep their own topics, and unsent ones are left out."""
    log = tmp_path / "log"
    received = (
        f"[{thread}] MQTTIO Received: PUBLISH{{dup=false, qos=AT_LEAST_ONCE, retain=false, messageId=-1, "
        f"topicName=t/{thread}, payload=ascii: x}}"
        for thread in "123"
    )
    converted = (
        f"[{thread}] MQTTProtocolConverter MQTT-->ActiveMQ: MQTT_MSGID:-1 client:c{thread} connection:k{thread} "
        f"ActiveMQ_MSGID:ID:{thread}"
        for thread in "213"
    )
    sent = (
        f"[{thread}] LoggingBrokerPlugin Sending message: ActiveMQBytesMessage {{commandId = 4, "
        f"messageId = ID:{thread}, originalDestination = null}}"
        for thread in "12"
    )
    lines = [*received, *converted, *sent]
    log.write_text("".join(f"2026-11-22T05:49:53.410Z {line}\n" for line in lines), encoding="utf-8")
    found = [(entry.client_id, entry.topic, entry.packet_id) for entry in read_activemq(log, broker=0)]  # type: ignore[union-attr]  # no connects here
    assert found == [("c1", "t/1", 65535), ("c2", "t/2", 65535)]


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("#", "a/b", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/b", "a", False),
        ("a", "a/b", False),
    ],
)
def test_topic_filters(topic_filter: str, topic: str, matches: bool) -> None:  # noqa: FBT001  # a parameter of the table
    """Topic filters select as MQTT 3.1.1 section 4.7 says."""
    assert topic_matches(topic_filter, topic) is matches


# Mosquitto


@pytest.mark.broker
def test_mosquitto_ledger_spans_a_kill(mosquitto: Start) -> None:
    """Everything acknowledged before and after SIGKILL stands in the ledger once and in order, by connection."""
    broker = mosquitto()
    first = [f"t/{number}" for number in range(100)]
    with client(broker.uri, "me") as mqtt:
        publish(mqtt, *first)
        pid = broker.pid
        broker.kill()
    assert not broker.is_running
    assert broker.pid is None
    assert not port_accepts(broker.port)
    broker.start()
    assert broker.pid != pid
    with client(broker.uri, "me") as mqtt:
        publish(mqtt, "t/again", qos=2)
        publish(mqtt, "t/once", qos=0)
        publish(mqtt, "t/last")
    ledger = broker.publishes()
    assert [entry.topic for entry in ledger] == [*first, "t/again", "t/once", "t/last"]
    assert [entry.qos for entry in ledger[-3:]] == [2, 0, 1]
    assert [entry.connection for entry in ledger] == [1] * 100 + [2] * 3
    assert {entry.client_id for entry in ledger} == {"me"}
    assert abs(ledger[-1].time - time.time()) < 60
    assert [entry.connection for entry in broker.connects()] == [1, 2]


@pytest.mark.broker
def test_mosquitto_keeps_sessions_when_told(mosquitto: Start) -> None:
    """With persistence, a message for an absent subscriber is soon written down, unasked, and then outlives a SIGKILL."""
    broker = mosquitto(persistence=True)
    got: list[str] = []
    arrived = threading.Event()

    def keep(topic: str) -> None:
        got.append(topic)
        arrived.set()

    with client(broker.uri, "reader", clean=False) as reader:
        subscribed = threading.Event()
        reader.on_subscribe = lambda *_: subscribed.set()
        reader.subscribe("kept", 1)
        assert subscribed.wait(AMPLE)
    with client(broker.uri, "writer") as writer:
        publish(writer, "kept")
    store = broker.log_file.with_name("mosquitto.db")
    wait_until(lambda: store.exists() and b"payload" in store.read_bytes())
    broker.kill()
    broker.start()
    with client(broker.uri, "reader", clean=False, on_message=keep):
        assert arrived.wait(AMPLE)
    assert got == ["kept"]


@pytest.mark.broker
def test_mosquitto_saves_when_told(mosquitto: Start) -> None:
    """What it acknowledged before `save` outlives a SIGKILL at once, and a broker that is gone cannot save."""
    broker = mosquitto(persistence=True, extra="autosave_on_changes false\nautosave_interval 0")
    with client(broker.uri, "reader", clean=False) as reader:
        subscribed = threading.Event()
        reader.on_subscribe = lambda *_: subscribed.set()
        reader.subscribe("kept", 1)
        assert subscribed.wait(AMPLE)
    with client(broker.uri, "writer") as writer:
        publish(writer, "kept")
        broker.save()
        broker.kill()
    with pytest.raises(RuntimeError, match="does not run"):
        broker.save()
    broker.start()
    arrived = threading.Event()
    with client(broker.uri, "reader", clean=False, on_message=lambda _: arrived.set()):
        assert arrived.wait(AMPLE)
    assert [entry.topic for entry in broker.entries() if isinstance(entry, LoggedDelivery)] == ["kept"]


@pytest.mark.broker
def test_frozen_mosquitto_is_silent(mosquitto: Start) -> None:
    """A frozen broker accepts connections, acknowledges nothing, and goes on where it was."""
    broker = mosquitto()
    with client(broker.uri, "me") as mqtt:
        broker.freeze()
        pending = mqtt.publish("frozen", b"", 1)
        pending.wait_for_publish(0.2)
        assert not pending.is_published()
        assert port_accepts(broker.port)
        assert broker.is_running
        broker.thaw()
        pending.wait_for_publish(AMPLE)
        assert pending.is_published()
    broker.freeze()
    broker.stop()
    assert not broker.is_running


@pytest.mark.broker
def test_mosquitto_checks_users(mosquitto: Start) -> None:
    """With users, the right password is let in and a wrong one is not."""
    broker = mosquitto(users={"me": "secret", "you": "other"})
    for user in (("me", "secret"), ("you", "other")):
        with client(broker.uri, user[0], user=user) as mqtt:
            publish(mqtt, "t")
    answers: list[str] = []
    answered = threading.Event()
    stranger = paho.Client(CallbackAPIVersion.VERSION2, client_id="stranger")
    stranger.username_pw_set("me", "wrong")

    def note(_client: object, _data: object, _flags: object, reason: object, _properties: object) -> None:
        answers.append(str(reason))
        answered.set()

    stranger.on_connect = note
    stranger.connect("127.0.0.1", broker.port)
    stranger.loop_start()
    assert answered.wait(AMPLE)
    stranger.loop_stop()
    assert answers[0] == "Not authorized"
    assert [entry.client_id for entry in broker.connects()] == ["me", "you"]


@pytest.mark.broker
def test_mosquitto_speaks_tls(mosquitto: Start, tls_files: TlsFiles) -> None:
    """With TLS, a client that checks name and authority gets through."""
    broker = mosquitto(tls=tls_files)
    assert broker.uri == f"mqtts://localhost:{broker.port}"
    with client(broker.uri, "me", ca_file=tls_files.ca_file) as mqtt:
        publish(mqtt, "t")
    assert [entry.topic for entry in broker.publishes()] == ["t"]


@pytest.mark.broker
def test_mosquitto_wants_client_certificates(mosquitto: Start, tls_files: TlsFiles, tmp_path: Path) -> None:
    """With mutual TLS, this authority's client is let in; none and another authority's are not."""
    broker = mosquitto(tls=tls_files, require_client_certificate=True)
    mine = (tls_files.client_cert_file, tls_files.client_key_file)
    with client(broker.uri, "me", ca_file=tls_files.ca_file, certificate=mine) as mqtt:
        publish(mqtt, "t")
    others = make_tls_files(tmp_path)
    for certificate in (None, (others.client_cert_file, others.client_key_file)):
        context = ssl.create_default_context(cafile=str(tls_files.ca_file))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shake_hands(broker.port, context)
    assert [entry.client_id for entry in broker.connects()] == ["me"]


def shake_hands(port: int, context: ssl.SSLContext) -> None:
    """Finish a TLS handshake; with TLS 1.3 the broker's refusal comes with the first read."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=AMPLE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.settimeout(AMPLE)
        try:
            secured.recv(1)
        except TimeoutError:
            return


@pytest.mark.broker
def test_bad_certificates_are_bad(mosquitto: Start, tmp_path: Path) -> None:
    """Expired, misnamed and unknown broker certificates are refused by a client for that reason."""
    expired = make_tls_files(tmp_path / "expired", expired=True)
    misnamed = make_tls_files(tmp_path / "misnamed", names=["other.example"])
    cases = [
        (expired, expired.ca_file, "certificate has expired"),
        (misnamed, misnamed.ca_file, "Hostname mismatch"),
        (misnamed, expired.ca_file, "certificate verify failed"),
    ]
    for files, ca_file, reason in cases:
        broker = mosquitto(tls=files)
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            shake_hands(broker.port, ssl.create_default_context(cafile=str(ca_file)))


@pytest.mark.broker
@pytest.mark.parametrize("secured", [False, True])
def test_mosquitto_speaks_websockets(mosquitto: Start, tls_files: TlsFiles, secured: bool) -> None:  # noqa: FBT001  # a parameter of the table
    """A WebSocket listener carries MQTT, with and without TLS, also after SIGKILL."""
    broker = mosquitto(websocket=True, tls=tls_files if secured else None)
    for topic in ("first", "second"):
        with client(broker.uri, "me", ca_file=tls_files.ca_file if secured else None) as mqtt:
            publish(mqtt, topic)
        broker.kill()
        broker.start()
    assert [entry.topic for entry in broker.publishes()] == ["first", "second"]


@pytest.mark.broker
def test_mosquitto_listens_on_loopback_only(mosquitto: Start) -> None:
    """No listener is bound to every address, WebSockets included."""
    ports = {mosquitto().port, mosquitto(websocket=True).port}
    bound = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(port, 16) in ports:
                bound[int(port, 16)] = address
    assert bound == dict.fromkeys(ports, "0100007F")


@pytest.mark.broker
def test_failed_start_leaves_nothing(mosquitto: Start, tmp_path: Path) -> None:
    """A broker whose port is taken, or whose configuration is wrong, raises with its own words and does not run."""
    taken = mosquitto()
    for broker, words in (
        (Mosquitto(tmp_path / "a", port=taken.port), "in use"),
        (Mosquitto(tmp_path / "b", extra="nonsense true"), "nonsense"),
    ):
        with pytest.raises(RuntimeError, match=words):
            broker.start()
        assert not broker.is_running
    assert taken.is_running


@pytest.mark.broker
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, None])
def test_brokers_end_with_their_process(
    tmp_path: Path, require_brokers: Callable[[str], None], ending: signal.Signals | None
) -> None:
    """A broker is gone soon after the process that started it, however that ended, also while it is frozen."""
    require_brokers("mosquitto")
    root = Path(switchgear.__file__).parents[1]
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from pathlib import Path\n"
        "from switchgear.testing.processes import Mosquitto\n"
        f"broker = Mosquitto(Path({str(tmp_path)!r}))\n"
        "broker.start(); broker.freeze(); print(broker.pid, flush=True); sys.stdin.read(1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert process_exists(pid)
        if ending is None:
            owner.stdin.close()
        else:
            os.kill(owner.pid, ending)
        owner.wait(AMPLE)
    wait_until(lambda: not process_exists(pid))


# The ActiveMQ pair


def as_user(name: str) -> tuple[str, str]:
    return name, DEFAULT_USERS[name]


@pytest.mark.broker
def test_only_one_of_the_pair_accepts(activemq_pair: ActiveMQPair) -> None:
    """The active broker accepts connections and the standby's port refuses."""
    active = activemq_pair.active
    assert active is not None
    assert port_accepts(activemq_pair.ports[active])
    assert not port_accepts(activemq_pair.ports[1 - active])
    assert activemq_pair.wait_standby(AMPLE) == 1 - active


@pytest.mark.broker
def test_pair_fails_over(activemq_pair: ActiveMQPair) -> None:
    """After SIGKILL of the active broker the standby takes over, and back, and the ledger has it all."""
    topics = []
    for turn in range(2):
        active = activemq_pair.wait_active(AMPLE)
        topics.append(f"failover/{turn}")
        with client(activemq_pair.uris[active], "failover", user=as_user("publisher")) as mqtt:
            publish(mqtt, topics[-1])
            assert activemq_pair.kill_active() == active
            killed = time.monotonic()
            assert activemq_pair.wait_active(AMPLE) == 1 - active
            print(f"accepted a CONNECT {time.monotonic() - killed:.2f} s after SIGKILL")
        assert not activemq_pair.is_running(active)
        activemq_pair.start_broker(active)
        assert activemq_pair.wait_standby(AMPLE) == active
    ledger = activemq_pair.ledger("failover/#")
    assert [entry.topic for entry in ledger] == topics
    assert [entry.connection for entry in ledger] == [1, 2]
    assert ledger[0].broker != ledger[1].broker
    assert len([entry for entry in activemq_pair.connects() if entry.client_id == "failover"]) == 2


@pytest.mark.broker
def test_pair_ledger_tells_the_packets(activemq_pair: ActiveMQPair) -> None:
    """The ledger has each accepted packet's client, QoS and retain flag, in order, under the topic as it was sent."""
    topics = [f"ledger.a/{number} b/'" for number in range(200)]
    active = activemq_pair.wait_active(AMPLE)
    admin = as_user("admin")
    with (
        client(activemq_pair.uris[active], "ledger", user=admin) as mqtt,
        client(activemq_pair.uris[active], "hears", user=admin) as hears,
    ):
        heard_all = threading.Event()
        hears.on_message = lambda _client, _data, message: heard_all.set() if message.topic == topics[-1] else None
        subscribed = threading.Event()
        hears.on_subscribe = lambda *_: subscribed.set()
        hears.subscribe("ledger.a/#", 1)
        assert subscribed.wait(AMPLE)
        for topic in topics:
            mqtt.publish(topic, b"x\n", 1)
        mqtt.publish("ledger.a/end", b"\xff", 2, retain=True).wait_for_publish(AMPLE)
        publish(mqtt, "ledger.a/zero", qos=0)
        publish(mqtt, "ledger.a/done")
        assert heard_all.wait(AMPLE)
    heard = [entry for entry in activemq_pair.entries() if isinstance(entry, LoggedDelivery)]
    assert [
        (entry.client_id, entry.topic, entry.qos, entry.connection) for entry in heard if entry.topic in topics
    ] == [("hears", topic, 1, 1) for topic in topics]
    ledger = activemq_pair.ledger("ledger.a/#")
    assert [entry.topic for entry in ledger] == [*topics, "ledger.a/end", "ledger.a/zero", "ledger.a/done"]
    assert [(entry.qos, entry.retain, entry.dup) for entry in ledger[-3:]] == [
        (2, True, False),
        (0, False, False),
        (1, False, False),
    ]
    assert {entry.client_id for entry in ledger} == {"ledger"}
    assert ledger[-1].broker == active
    assert abs(ledger[-1].time - time.time()) < 60


@pytest.mark.broker
def test_pair_drops_what_is_forbidden(activemq_pair: ActiveMQPair) -> None:
    """A publish that the authorization map forbids is acknowledged and not in the ledger."""
    active = activemq_pair.wait_active(AMPLE)
    with client(activemq_pair.uris[active], "forbidden", user=as_user("subscriber")) as mqtt:
        publish(mqtt, "forbidden/t")
    assert activemq_pair.ledger("forbidden/#") == []


@pytest.mark.broker
def test_pair_speaks_tls(activemq_pair: ActiveMQPair, tls_files: TlsFiles) -> None:
    """The second port of the active broker speaks TLS with the given certificate, and its packets are in the ledger."""
    uri = activemq_pair.tls_uris[activemq_pair.wait_active(AMPLE)]
    topics = [f"secured/{number}" for number in range(50)]
    with client(uri, "secured", user=as_user("publisher"), ca_file=tls_files.ca_file) as mqtt:
        publish(mqtt, *topics)
    assert [entry.topic for entry in activemq_pair.ledger("secured/+")] == topics


@pytest.mark.broker
def test_a_broker_that_ended_of_its_own_fault_is_started_again(activemq_pair: ActiveMQPair) -> None:
    """A standby that has ended, and says in its log that it was ActiveMQ's own fault, is there again; a killed one is not."""
    standby = 1 - activemq_pair.wait_active(AMPLE)
    before, pid = activemq_pair.revived, activemq_pair.pids[standby]
    assert pid is not None
    with activemq_pair.log_files[standby].open("a", encoding="utf-8") as log:
        log.write("Caused by: java.util.ConcurrentModificationException\n")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not activemq_pair.is_running(standby))
    assert activemq_pair.wait_standby(AMPLE) == standby
    assert activemq_pair.revived == before + 1
    with activemq_pair.log_files[standby].open("a", encoding="utf-8") as log:
        log.write("Caused by: java.util.ConcurrentModificationException\n")
    activemq_pair.kill(standby)
    with pytest.raises(TimeoutError):
        activemq_pair.wait_standby(0.5)
    assert activemq_pair.revived == before + 1


@pytest.mark.broker
def test_frozen_active_keeps_the_lock(activemq_pair: ActiveMQPair) -> None:
    """While the active broker is frozen nobody takes over; thawed, it is active again."""
    active = activemq_pair.wait_active(AMPLE)
    activemq_pair.freeze(active)
    with pytest.raises(TimeoutError):
        activemq_pair.wait_active(1.5)
    activemq_pair.thaw(active)
    assert activemq_pair.wait_active(AMPLE) == active


@pytest.mark.broker
def test_pair_starts_and_stops(tmp_path: Path, require_brokers: Callable[[str], None]) -> None:
    """A pair with users of its own accepts a CONNECT when `start` returns, and is gone after `stop`."""
    require_brokers("activemq")
    pair = ActiveMQPair(tmp_path, users={"someone": "<&\"'${x}>"}, lock_interval_ms=100)
    began = time.monotonic()
    with pair:
        print(f"accepted a CONNECT {time.monotonic() - began:.2f} s after the start")
        active = pair.active
        assert active is not None
        with client(pair.uris[active], "me", user=("someone", "<&\"'${x}>")) as mqtt:
            publish(mqtt, "t")
        assert [entry.topic for entry in pair.publishes()] == ["t"]
        assert pair.failover_uri == f"failover:(tcp://127.0.0.1:{pair.ports[0]},tcp://127.0.0.1:{pair.ports[1]})"
        pids = [pid for pid in pair.pids if pid is not None]
        assert len(pids) == 2
    assert not any(process_exists(pid) for pid in pids)
    assert pair.pids == (None, None)


@pytest.mark.broker
def test_failed_pair_leaves_nothing(tmp_path: Path, require_brokers: Callable[[str], None]) -> None:
    """A pair that is not ready in time raises and does not run."""
    require_brokers("activemq")
    pair = ActiveMQPair(tmp_path)
    with pytest.raises(TimeoutError):
        pair.start(timeout=0.1)
    assert pair.pids == (None, None)
