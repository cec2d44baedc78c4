"""Messages a second: publish and receive at QoS 0, 1 and 2, 128 bytes and 4 KB, TCP and TLS, beside the Python peers.

Ours are the driver paho and, marked so, the driver awscrt, which stands beside AWS's SDK, bare, as well.

One connection each, one mosquitto without logging and without limits of its own; paho-mqtt is bare, on its own thread,
with no limit of messages in flight (the fastest it can be had; with its stock 20 it is slower). Subjects take turns in
every round, each for about a third of a second; shown are medians of rounds and, in brackets, the median ratios to paho and, for the driver awscrt, to the SDK.
Publishing ends when the broker has acknowledged everything (at QoS 0: one QoS 1 message after the last). Receiving is
from a queue that the broker kept for the session, so no publisher runs beside it; from the connect to the last message.
Ours get room for all that waits (``inbox_limit``): stock, they drop QoS 0 messages that a handler is too slow for.
aiomqtt publishes from 100 tasks at once; awaiting each message in turn, as its examples do, it is slower. The SDK is
published to from an event loop that runs after every 256 messages; from a thread that does not stop it is slower.
"""

import asyncio
import functools
import importlib
import itertools
import logging
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import switchgear
from attrs import define, field, frozen
from awscrt import io, mqtt5  # type: ignore[import-untyped]  # AWS's SDK has no types
from paho.mqtt.enums import CallbackAPIVersion
from switchgear.testing.processes import TlsFiles, find_mosquitto, free_port, make_tls_files, wait_port

SECONDS = 0.35
"""What one run of a subject should take."""

MOST, FEWEST = 60_000, 300
"""Messages in one run."""

LIMIT = 60.0
BASE, SDK = "paho-mqtt", "awscrt"
ASYNC_SDK, SYNC_SDK = "AsyncTransport (awscrt)", "Transport (awscrt)"
NEEDED = {
    "AsyncTransport": {BASE: 1.8},
    "Transport": {BASE: 1.3},
    ASYNC_SDK: {BASE: 1.8, SDK: 0.6},
    SYNC_SDK: {BASE: 1.8, SDK: 0.6},
}
"""Times what each of these does in the same run, publishing 128 bytes at QoS 1 over TCP."""

WITHOUT_2 = {SDK, ASYNC_SDK, SYNC_SDK}
"""Subjects that carry no QoS 2."""

TASKS = 100


@frozen
class Case:
    """What is measured."""

    way: str
    qos: int
    size: int
    link: str

    def __str__(self) -> str:
        return f"{self.way} QoS {self.qos}, {self.size} bytes, {self.link}"


CASES = [
    Case(way, qos, size, link)
    for link, way, qos, size in itertools.product(("TCP", "TLS"), ("publish", "receive"), (0, 1, 2), (128, 4096))
]


@frozen
class Place:
    """Where a subject connects."""

    port: int
    files: TlsFiles | None

    @property
    def host(self) -> str:
        """The name that the certificate has."""
        return "127.0.0.1" if self.files is None else "localhost"

    @property
    def uri(self) -> str:
        """The same for our own."""
        return f"{'mqtt' if self.files is None else 'mqtts'}://{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """A context that trusts the broker."""
        return None if self.files is None else ssl.create_default_context(cafile=str(self.files.ca_file))

    def tls(self) -> switchgear.TLS | None:
        """The same for our own."""
        return None if self.files is None else switchgear.TLS(ca_file=self.files.ca_file)


@contextmanager
def broker() -> Iterator[dict[str, Place]]:
    """A mosquitto that writes no log, with a port for each kind of link."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_tls_files(folder / "tls")
        places = {"TCP": Place(free_port(), None), "TLS": Place(free_port(), files)}
        config = folder / "mosquitto.conf"
        lines = [
            f"listener {places['TCP'].port} 127.0.0.1",
            f"listener {places['TLS'].port} 127.0.0.1",
            f"cafile {files.ca_file}",
            f"certfile {files.cert_file}",
            f"keyfile {files.key_file}",
            "allow_anonymous true",
            "log_type none",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "queue_qos0_messages true",
            *(["user root"] if os.geteuid() == 0 else []),
        ]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        process = subprocess.Popen([find_mosquitto(), "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            for place in places.values():
                wait_port(place.port, 10)
            yield places
        finally:
            process.kill()
            process.wait()


# Publishing. Each takes a place, QoS, payload and count, and returns the seconds.

Publish = Callable[[Place, int, bytes, int], float]
TOPIC = "bench/throughput"


def subscriber(place: Place, session: str, qos: int) -> paho.Client:
    """A paho client that keeps *session* and subscribes when it is connected."""

    def subscribe(client: paho.Client, *_: object) -> None:
        client.subscribe("bench/queue", qos)

    client = paho_client(place, session, clean=False)
    client.on_connect = subscribe
    return client


def paho_client(place: Place, name: str, *, clean: bool = True) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=clean)
    context = place.context()
    if context is not None:
        client.tls_set_context(context)
    client.max_inflight_messages_set(0)
    client.max_queued_messages_set(0)
    return client


def paho_publish(place: Place, qos: int, payload: bytes, count: int) -> float:
    """On its own thread, published from the main thread."""
    connected, done = threading.Event(), threading.Event()
    acknowledged = itertools.count(1)
    wanted = count + 1

    def on_publish(*_: object) -> None:
        if next(acknowledged) == wanted:
            done.set()

    client = paho_client(place, "paho")
    client.on_publish = on_publish
    client.on_connect = lambda *_: connected.set()
    client.connect(place.host, place.port)
    client.loop_start()
    try:
        assert connected.wait(10)
        started = time.perf_counter()
        for _ in range(count):
            client.publish(TOPIC, payload, qos)
        client.publish(TOPIC, b"", 1)  # its acknowledgement says that the broker has had the others
        assert done.wait(LIMIT)
        return time.perf_counter() - started
    finally:
        client.disconnect()
        client.loop_stop()


def async_publish(place: Place, qos: int, payload: bytes, count: int, **options: Any) -> float:
    """`AsyncTransport`, letting the loop run after every 256."""

    async def work() -> float:
        async with switchgear.aio.connect(place.uri, client_id="async", tls=place.tls(), **options) as transport:
            await transport.wait_connected(10)
            started = time.perf_counter()
            for number in range(count):
                transport.publish(TOPIC, payload, qos=qos)
                if number % 256 == 255:
                    await asyncio.sleep(0)
            transport.publish(TOPIC, b"", qos=1)
            await transport.drain(LIMIT)
            return time.perf_counter() - started

    return asyncio.run(work())


def sync_publish(place: Place, qos: int, payload: bytes, count: int, **options: Any) -> float:
    """`Transport`, published from the main thread."""
    with switchgear.connect(place.uri, client_id="sync", tls=place.tls(), **options) as transport:
        transport.wait_connected(10)
        started = time.perf_counter()
        for _ in range(count):
            transport.publish(TOPIC, payload, qos=qos)
        transport.publish(TOPIC, b"", qos=1)
        transport.drain(LIMIT)
        return time.perf_counter() - started


def sdk_client(place: Place, name: str, **options: Any) -> Any:
    """A client of AWS's SDK, with the few settings that a bare one needs, on an event loop of the SDK's of its own."""
    group = io.EventLoopGroup(1)
    sockets = io.SocketOptions()
    sockets.domain = io.SocketDomain.IPv4
    context = None
    if place.files is not None:
        trust = io.TlsContextOptions()
        trust.override_default_trust_store(place.files.ca_file.read_bytes())
        context = io.ClientTlsContext(trust)
    return mqtt5.Client(
        mqtt5.ClientOptions(
            host_name=place.host,
            port=place.port,
            bootstrap=io.ClientBootstrap(group, io.DefaultHostResolver(group)),
            socket_options=sockets,
            tls_ctx=context,
            connect_options=mqtt5.ConnectPacket(
                client_id=name, keep_alive_interval_sec=600, session_expiry_interval_sec=3600
            ),
            session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,
            disable_metrics=True,
            **options,
        )
    )


def sdk_publish(place: Place, qos: int, payload: bytes, count: int) -> float:
    """AWS's SDK, bare."""

    async def work() -> float:
        loop = asyncio.get_running_loop()
        connected, done, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        wanted = count + 1
        over = itertools.count(1)

        def tell(event: asyncio.Event) -> Callable[[object], object]:
            return lambda _data: loop.call_soon_threadsafe(event.set)

        def on_over(_future: object) -> None:
            if next(over) == wanted:
                loop.call_soon_threadsafe(done.set)

        def publish(data: bytes, level: int) -> None:
            packet = mqtt5.PublishPacket(data, mqtt5.QoS(level), topic=TOPIC)
            client.publish(packet).add_done_callback(on_over)

        client = sdk_client(
            place,
            "sdk",
            on_lifecycle_event_connection_success_fn=tell(connected),
            on_lifecycle_event_stopped_fn=tell(stopped),
        )
        client.start()
        async with asyncio.timeout(LIMIT):
            await connected.wait()
            started = time.perf_counter()
            for number in range(count):
                publish(payload, qos)
                if number % 256 == 255:
                    await asyncio.sleep(0)
            publish(b"", 1)
            await done.wait()
            seconds = time.perf_counter() - started
            client.stop()
            await stopped.wait()
        return seconds

    return asyncio.run(work())


def aiomqtt_publish(place: Place, qos: int, payload: bytes, count: int) -> float:
    """aiomqtt, from `TASKS` tasks."""
    aiomqtt = importlib.import_module("aiomqtt")

    async def work() -> float:
        options = {"tls_context": place.context(), "max_concurrent_outgoing_calls": TASKS, "max_inflight_messages": 0}
        async with aiomqtt.Client(place.host, place.port, identifier="aiomqtt", **options) as client:
            left = iter(range(count))

            async def some() -> None:
                for _ in left:
                    await client.publish(TOPIC, payload, qos=qos)

            started = time.perf_counter()
            async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
                for _ in range(TASKS):
                    tasks.create_task(some())
            await client.publish(TOPIC, b"", qos=1)
            return time.perf_counter() - started

    return asyncio.run(work())


def gmqtt_publish(place: Place, qos: int, payload: bytes, count: int) -> float:
    """gmqtt, letting the loop run after every 256."""
    gmqtt = importlib.import_module("gmqtt")

    async def work() -> float:
        client = gmqtt.Client("gmqtt", clean_session=True)
        await client.connect(place.host, place.port, ssl=place.context() or False, version=4)
        started = time.perf_counter()
        for number in range(count):
            client.publish(TOPIC, payload, qos=qos)
            if number % 256 == 255:
                await asyncio.sleep(0)
        client.publish(TOPIC, b"", qos=1)
        async with asyncio.timeout(LIMIT):
            await client._persistent_storage.wait_empty()  # it has no public way to wait for acknowledgements
        seconds = time.perf_counter() - started
        await client.disconnect()
        return seconds

    return asyncio.run(work())


# Receiving. Each takes a place, a session name, QoS, and the number of messages that wait there.

Receive = Callable[[Place, str, int, int], float]


@define
class Stopwatch:
    """From now to the last message."""

    count: int
    started: float = field(factory=time.perf_counter)
    seen: int = 0
    seconds: float = 0.0
    done: threading.Event = field(factory=threading.Event)
    over: Callable[[], object] = lambda: None

    def hear(self, *_: object) -> None:
        """One message."""
        self.seen += 1
        if self.seen == self.count:
            self.seconds = time.perf_counter() - self.started
            self.done.set()
            self.over()


def queue_up(place: Place, session: str, qos: int, payload: bytes, count: int) -> None:
    """Let the broker keep *count* messages for *session*."""
    subscribed = threading.Event()
    client = subscriber(place, session, qos)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(place.host, place.port)
    client.loop_start()
    assert subscribed.wait(10)
    client.disconnect()
    client.loop_stop()
    with switchgear.connect(place.uri, client_id="source", tls=place.tls()) as source:
        for _ in range(count):
            source.publish("bench/queue", payload, qos=qos)
        source.publish("bench/last", b"", qos=1)
        source.drain(LIMIT)


def forget(place: Place, session: str) -> None:
    """End *session* at the broker."""
    ended = threading.Event()

    def leave(client: paho.Client, *_: object) -> None:
        client.disconnect()

    client = paho_client(place, session)
    client.on_connect = leave
    client.on_disconnect = lambda *_: ended.set()
    client.connect(place.host, place.port)
    client.loop_start()
    ended.wait(10)
    client.loop_stop()


def paho_receive(place: Place, session: str, qos: int, count: int) -> float:
    """On its own thread."""
    watch = Stopwatch(count)
    client = subscriber(place, session, qos)
    client.on_message = watch.hear
    client.connect(place.host, place.port)
    client.loop_start()
    assert watch.done.wait(LIMIT)
    client.disconnect()
    client.loop_stop()
    return watch.seconds


def async_receive(place: Place, session: str, qos: int, count: int, **options: Any) -> float:
    """`AsyncTransport`, with a coroutine as the handler."""

    async def work() -> float:
        over = asyncio.Event()
        watch = Stopwatch(count, over=over.set)

        async def handle(_message: switchgear.Message) -> None:
            watch.hear()

        options_ = {"client_id": session, "tls": place.tls(), "inbox_limit": MOST, **options}
        transport = switchgear.aio.connect(place.uri, **options_)
        transport.subscribe("bench/queue", handle, qos=qos)
        async with transport, asyncio.timeout(LIMIT):
            await over.wait()
        return watch.seconds

    return asyncio.run(work())


def sync_receive(place: Place, session: str, qos: int, count: int, **options: Any) -> float:
    """`Transport`, with a function as the handler, on its worker thread."""
    watch = Stopwatch(count)
    options_ = {"client_id": session, "tls": place.tls(), "inbox_limit": MOST, **options}
    with switchgear.connect(place.uri, **options_) as transport:
        transport.subscribe("bench/queue", watch.hear, qos=qos)
        assert watch.done.wait(LIMIT)
    return watch.seconds


def sdk_receive(place: Place, session: str, _qos: int, count: int) -> float:
    """AWS's SDK, bare, on its own thread; it acknowledges by itself. The session has its subscription already."""
    stopped = threading.Event()
    watch = Stopwatch(count)
    client = sdk_client(
        place,
        session,
        on_publish_callback_fn=watch.hear,
        on_lifecycle_event_stopped_fn=lambda _data: stopped.set(),
    )
    client.start()
    assert watch.done.wait(LIMIT)
    client.stop()
    assert stopped.wait(LIMIT)
    return watch.seconds


def aiomqtt_receive(place: Place, session: str, qos: int, count: int) -> float:
    """aiomqtt, iterating."""
    aiomqtt = importlib.import_module("aiomqtt")

    async def work() -> float:
        watch = Stopwatch(count)
        options = {"tls_context": place.context(), "clean_session": False}
        async with asyncio.timeout(LIMIT):
            async with aiomqtt.Client(place.host, place.port, identifier=session, **options) as client:
                await client.subscribe("bench/queue", qos=qos)
                async for _ in client.messages:
                    watch.hear()
                    if watch.done.is_set():
                        break
        return watch.seconds

    return asyncio.run(work())


def gmqtt_receive(place: Place, session: str, qos: int, count: int) -> float:
    """gmqtt, with a function as the handler."""
    gmqtt = importlib.import_module("gmqtt")

    async def work() -> float:
        over = asyncio.Event()
        watch = Stopwatch(count, over=over.set)

        def hear(*_: object) -> int:
            watch.hear()
            return 0  # the reason code of the acknowledgement

        client = gmqtt.Client(session, clean_session=False)
        client.on_message = hear
        await client.connect(place.host, place.port, ssl=place.context() or False, version=4)
        client.subscribe("bench/queue", qos=qos)
        async with asyncio.timeout(LIMIT):
            await over.wait()
        with suppress(OSError):  # its last acknowledgements are still on their way: TLS complains
            await client.disconnect()
        return watch.seconds

    return asyncio.run(work())


PUBLISHERS: dict[str, Publish] = {
    BASE: paho_publish,
    "AsyncTransport": async_publish,
    "Transport": sync_publish,
    SDK: sdk_publish,
    ASYNC_SDK: functools.partial(async_publish, driver="awscrt", protocol="5"),
    SYNC_SDK: functools.partial(sync_publish, driver="awscrt", protocol="5"),
    "aiomqtt": aiomqtt_publish,
    "gmqtt": gmqtt_publish,
}
RECEIVERS: dict[str, Receive] = {
    BASE: paho_receive,
    "AsyncTransport": async_receive,
    "Transport": sync_receive,
    SDK: sdk_receive,
    ASYNC_SDK: functools.partial(async_receive, driver="awscrt", protocol="5"),
    SYNC_SDK: functools.partial(sync_receive, driver="awscrt", protocol="5"),
    "aiomqtt": aiomqtt_receive,
    "gmqtt": gmqtt_receive,
}


# The measurement.


def rate(case: Case, name: str, place: Place, count: int) -> float:
    """Messages a second of the subject *name*."""
    payload = bytes(case.size)
    if case.way == "publish":
        return count / PUBLISHERS[name](place, case.qos, payload, count)
    session = "session"
    queue_up(place, session, case.qos, payload, count)
    try:
        return count / RECEIVERS[name](place, session, case.qos, count)
    finally:
        forget(place, session)


def measure(*, quick: bool = False, rounds: int = 5) -> list[dict[str, Any]]:
    """One row for each case and subject; a subject that is missing or fails is a row that says why."""
    logging.disable()  # aiomqtt and gmqtt write thousands of lines here, which would count as their work
    rows: list[dict[str, Any]] = []
    cases = [case for case in CASES if not quick or (case.size == 128 and case.link == "TCP")]
    try:
        with broker() as places:
            for case in cases:
                rows += of_case(case, places[case.link], 2 if quick else rounds)
                print(f"throughput: {case}", file=sys.stderr, flush=True)
    finally:
        logging.disable(logging.NOTSET)
    return rows


def of_case(case: Case, place: Place, rounds: int) -> list[dict[str, Any]]:
    """The rows of *case*."""
    counts: dict[str, int] = {}
    rates: dict[str, list[float]] = {}
    problems: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name in PUBLISHERS:
            if name in problems or (case.qos == 2 and name in WITHOUT_2):
                continue
            try:
                found = rate(case, name, place, counts.get(name, FEWEST))
            except Exception as error:  # a peer's failure is a result, and is told
                problems[name] = f"{type(error).__name__}: {error}"[:80]
                print(f"throughput: {case}: {name}: {problems[name]}", file=sys.stderr)
                continue
            if turn == 0:  # it warms up and says how many messages a run should have
                counts[name] = int(min(MOST, max(FEWEST, found * SECONDS)))
            else:
                rates.setdefault(name, []).append(found)
    rows = []
    for name in PUBLISHERS:
        row: dict[str, Any] = {"way": case.way, "qos": case.qos, "size": case.size, "link": case.link, "subject": name}
        if name in problems:
            rows.append({**row, "why": problems[name], "is_met": name not in NEEDED})
            continue
        if name not in rates:
            continue
        ratios = {
            base: statistics.median(mine / theirs for mine, theirs in zip(rates[name], rates[base], strict=True))
            for base in (BASE, SDK)
            if base in rates and (base == BASE or name in WITHOUT_2)
        }
        needed = NEEDED.get(name, {}) if case == Case("publish", 1, 128, "TCP") else {}
        rows.append(
            {
                **row,
                "median": round(statistics.median(rates[name])),
                "lowest": round(min(rates[name])),
                "highest": round(max(rates[name])),
                "ratios": ratios,
                "needed": needed,
                "is_met": all(ratios.get(base, 0) >= least for base, least in needed.items()),
            }
        )
    return rows


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """A table for publishing and one for receiving."""
    names = list(dict.fromkeys(row["subject"] for row in rows))
    found = []
    for way in ("publish", "receive"):
        by_case: dict[tuple[str, int, int], dict[str, str]] = {}
        for row in rows:
            if row["way"] == way:
                by_case.setdefault((row["link"], row["qos"], row["size"]), {})[row["subject"]] = cell(row)
        lines = [
            [link, str(qos), str(size), *(cells.get(n, "no") for n in names)]
            for (link, qos, size), cells in by_case.items()
        ]
        wanted = ", ".join(
            f"{name} {least:g} of {base}" for name, bases in NEEDED.items() for base, least in bases.items()
        )
        needed = f" (needed over TCP at QoS 1 with 128 bytes: {wanted})" if way == "publish" else ""
        found.append((f"{way.capitalize()}, messages a second{needed}", ["link", "QoS", "bytes", *names], lines))
    why = [[row["subject"], f"{row['way']} QoS {row['qos']} {row['link']}", row["why"]] for row in rows if "why" in row]
    return [*found, ("Left out", ["subject", "case", "why"], why)] if why else found


def cell(row: dict[str, Any]) -> str:
    """The rate, and the ratios: to paho, and where there is a second one to the SDK."""
    if "why" in row:
        return "failed"
    figure = f"{row['median']:,}".replace(",", " ")
    shown = [f"{ratio:.2f}" for base, ratio in row["ratios"].items() if base != row["subject"]]
    return f"{figure} ({', '.join(shown)})" if shown else figure


def what(row: dict[str, Any]) -> str:
    """Which row it is."""
    got = row.get("ratios") or row.get("why")
    return f"{row['subject']} {row['way']} QoS {row['qos']}: {got}, needed {row.get('needed')}"
