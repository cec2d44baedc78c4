"""Messages handled a second at QoS 1, acknowledged after the handler, alone and with what was handled written down.

One connection over MQTT 5 from one mosquitto, 128 bytes with a message id each, from a queue that the broker kept for the
session, from the connect to the last message. Bare paho-mqtt calls its handler, and acknowledges, on its own thread.
Ours have a plain function on a worker thread (Transport) or a coroutine on the loop (AsyncTransport); Window remembers
ids in memory, FileWindow has each on disk before its message is acknowledged. Subjects take turns in every round, each
for about half a second; shown are medians of rounds and, in brackets, the median ratio to paho.
"""

import asyncio
import itertools
import logging
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import switchgear
from attrs import define, field
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from switchgear.testing.processes import Mosquitto

SECONDS = 0.5
"""What one run of a subject should take."""

MOST, FEWEST = 40_000, 1000
"""Messages in one run."""

LIMIT = 60.0
TOPIC = "bench/receive"
BASE = "paho-mqtt"
NEEDED = 1.0
"""Times what bare paho does in the same run, of each of ours, those that write down what was handled included."""


@define
class Stopwatch:
    """From now to the last message."""

    count: int
    started: float = field(factory=time.perf_counter)
    seen: Iterator[int] = field(factory=lambda: itertools.count(1))
    seconds: float = 0.0
    done: threading.Event = field(factory=threading.Event)
    over: Callable[[], object] = lambda: None

    def hear(self, *_: object) -> None:
        """One message."""
        if next(self.seen) == self.count:
            self.seconds = time.perf_counter() - self.started
            self.done.set()
            self.over()


@contextmanager
def paho_session(broker: Mosquitto, on_message: Callable[..., None], expiry: int = 3600) -> Iterator[None]:
    """A paho client that has subscribed, on its own thread."""
    subscribed = threading.Event()

    def subscribe(client: paho.Client, *_: object) -> None:
        client.subscribe(TOPIC, 1)

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="session", protocol=paho.MQTTv5)
    client.on_message = on_message
    client.on_connect = subscribe
    client.on_subscribe = lambda *_: subscribed.set()
    lasting: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's has no types
    lasting.SessionExpiryInterval = expiry
    client.connect("127.0.0.1", broker.port, clean_start=expiry == 0, properties=lasting)
    client.loop_start()
    try:
        assert subscribed.wait(LIMIT)
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def queue_up(broker: Mosquitto, count: int) -> None:
    """Let the broker keep *count* messages for the session."""
    with paho_session(broker, lambda *_: None):
        pass
    with switchgear.connect(broker.uri, client_id="source", protocol="5", message_id=True) as source:
        for _ in range(count):
            source.publish(TOPIC, bytes(128))
        source.drain(LIMIT)


def by_paho(broker: Mosquitto, count: int) -> float:
    """Bare paho-mqtt."""
    watch = Stopwatch(count)
    with paho_session(broker, watch.hear):
        assert watch.done.wait(LIMIT)
    return watch.seconds


def by_transport(broker: Mosquitto, count: int, window: switchgear.Window | None = None) -> float:
    """`Transport`, with a function as the handler."""
    watch = Stopwatch(count)
    with switchgear.connect(broker.uri, client_id="session", protocol="5") as transport:
        transport.subscribe(TOPIC, watch.hear, deduplicate=window)
        assert watch.done.wait(LIMIT)
    return watch.seconds


def by_async_transport(broker: Mosquitto, count: int, window: switchgear.Window | None = None) -> float:
    """`AsyncTransport`, with a coroutine function as the handler."""

    async def work() -> float:
        over = asyncio.Event()
        watch = Stopwatch(count, over=over.set)

        async def handle(_message: switchgear.Message) -> None:
            watch.hear()

        async with switchgear.aio.connect(broker.uri, client_id="session", protocol="5") as transport:
            transport.subscribe(TOPIC, handle, deduplicate=window)
            async with asyncio.timeout(LIMIT):
                await over.wait()
        return watch.seconds

    return asyncio.run(work())


def with_window(run: Callable[..., float]) -> Callable[..., float]:
    """*run* with the ids in memory."""
    return lambda broker, count: run(broker, count, switchgear.Window())


def with_file(run: Callable[..., float]) -> Callable[..., float]:
    """*run* with the ids in a file."""

    def run_with_file(broker: Mosquitto, count: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            window = switchgear.FileWindow(Path(folder, "window"))
            try:
                return run(broker, count, window)
            finally:
                window.close()

    return run_with_file


SUBJECTS: dict[str, Callable[..., float]] = {
    BASE: by_paho,
    "Transport": by_transport,
    "Transport, Window": with_window(by_transport),
    "Transport, FileWindow": with_file(by_transport),
    "AsyncTransport": by_async_transport,
    "AsyncTransport, Window": with_window(by_async_transport),
    "AsyncTransport, FileWindow": with_file(by_async_transport),
}


def rate(run: Callable[..., float], broker: Mosquitto, count: int) -> float:
    """Messages a second."""
    queue_up(broker, count)
    try:
        return count / run(broker, count)
    finally:
        with paho_session(broker, lambda *_: None, expiry=0):
            pass


def measure(*, quick: bool = False, rounds: int = 7) -> list[dict[str, Any]]:
    """One row for each subject."""
    counts = dict.fromkeys(SUBJECTS, FEWEST)
    rates: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    logging.disable()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Mosquitto(Path(folder), extra="max_inflight_messages 0\n") as broker,
        ):
            for turn in range((3 if quick else rounds) + 1):
                for name, run in SUBJECTS.items():
                    found = rate(run, broker, counts[name])
                    if turn == 0:  # it warms up and says how many messages a run should have
                        counts[name] = int(min(MOST, max(FEWEST, found * SECONDS)))
                    else:
                        rates[name].append(found)
    finally:
        logging.disable(logging.NOTSET)
    rows = []
    for name, found_rates in rates.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(found_rates, rates[BASE], strict=True))
        rows.append(
            {
                "subject": name,
                "median": round(statistics.median(found_rates)),
                "lowest": round(min(found_rates)),
                "highest": round(max(found_rates)),
                "ratio": round(ratio, 2),
                "is_met": ratio >= NEEDED,
            }
        )
    return rows


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """One table."""
    head = ["subject", "messages a second", "lowest", "highest", "of paho"]
    lines = [
        [row["subject"], str(row["median"]), str(row["lowest"]), str(row["highest"]), f"{row['ratio']:.2f}"]
        for row in rows
    ]
    return [(f"Handled at QoS 1, messages a second (needed: {NEEDED:g} of {BASE})", head, lines)]


def what(row: dict[str, Any]) -> str:
    """Which row it is."""
    return f"{row['subject']}: {row['ratio']} of {BASE}, needed {NEEDED:g}"
