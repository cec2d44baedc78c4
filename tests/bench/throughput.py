"""QoS 1 messages acknowledged a second: bare paho-mqtt, `AsyncTransport` and `Transport`, one after the other, in rounds.

One connection each, 128 bytes, one mosquitto without logging and without its own limits. Only medians and ratios to
paho in the same run mean something: the machine is shared.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import switchgear
from paho.mqtt.enums import CallbackAPIVersion
from switchgear.testing.processes import find_mosquitto, free_port, wait_port

PAYLOAD = bytes(128)
TOPIC = "bench/throughput"
NEEDED = {"AsyncTransport": 1.8, "Transport": 1.3}
"""Times what paho without its limit does in the same run."""


@contextmanager
def broker() -> Iterator[int]:
    """The port of a mosquitto that writes no log."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        lines = [
            f"listener {port} 127.0.0.1",
            "allow_anonymous true",
            "log_type none",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            *(["user root"] if os.geteuid() == 0 else []),
        ]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        process = subprocess.Popen([find_mosquitto(), "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            wait_port(port, 10)
            yield port
        finally:
            process.kill()
            process.wait()


def bare_paho(port: int, count: int, *, limit: int = 0) -> float:
    """Messages a second through paho-mqtt on its own thread; *limit* is how many may be on their way, 0 any number."""
    done = threading.Event()
    connected = threading.Event()
    acknowledged = 0

    def on_publish(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1
        if acknowledged == count:
            done.set()

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bench-paho")
    client.max_inflight_messages_set(limit)
    client.max_queued_messages_set(0)
    client.on_publish = on_publish
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(10)
    started = time.perf_counter()
    for _ in range(count):
        client.publish(TOPIC, PAYLOAD, 1)
    assert done.wait(120)
    seconds = time.perf_counter() - started
    client.disconnect()
    client.loop_stop()
    return count / seconds


def with_async(port: int, count: int) -> float:
    """Messages a second through `AsyncTransport`."""

    async def work() -> float:
        async with switchgear.aio.connect(f"mqtt://127.0.0.1:{port}", client_id="bench-async") as transport:
            await transport.wait_connected(10)
            started = time.perf_counter()
            for number in range(count):
                transport.publish(TOPIC, PAYLOAD)
                if number % 256 == 255:
                    await asyncio.sleep(0)  # an application does something else too
            await transport.drain(120)
            return count / (time.perf_counter() - started)

    return asyncio.run(work())


def with_sync(port: int, count: int) -> float:
    """Messages a second through `Transport`, published from the main thread."""
    with switchgear.connect(f"mqtt://127.0.0.1:{port}", client_id="bench-sync") as transport:
        transport.wait_connected(10)
        started = time.perf_counter()
        for _ in range(count):
            transport.publish(TOPIC, PAYLOAD)
        transport.drain(120)
        return count / (time.perf_counter() - started)


BASE = "paho-mqtt, no limit"  # the fastest it can be had: 20 000 in flight as a limit is 10 times slower
SUBJECTS: dict[str, Callable[[int, int], float]] = {
    "paho-mqtt, as it comes": lambda port, count: bare_paho(port, count, limit=20),
    BASE: bare_paho,
    "AsyncTransport": with_async,
    "Transport": with_sync,
}


def measure(*, rounds: int = 7, count: int = 20_000) -> list[dict[str, Any]]:
    """One row for each subject: its name, median and extremes a second, ratio to paho, and what is needed."""
    rates: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    with broker() as port:
        for run in SUBJECTS.values():
            run(port, 2000)  # warm
        for _ in range(rounds):
            for name, run in SUBJECTS.items():
                rates[name].append(run(port, count))
    rows = []
    for name, values in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(values, rates[BASE], strict=True)]
        ratio, needed = statistics.median(ratios), NEEDED.get(name)
        rows.append(
            {
                "subject": name,
                "median": round(statistics.median(values)),
                "lowest": round(min(values)),
                "highest": round(max(values)),
                "ratio": round(ratio, 2),
                "needed": needed,
                "is_met": needed is None or ratio >= needed,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows, for people."""
    lines = [f"{'QoS 1 acknowledged a second':30}{'median':>9}{'lowest':>9}{'highest':>9}{'ratio':>8}{'needed':>8}"]
    for row in rows:
        needed = f"{row['needed']:>8.2f}" if row["needed"] else f"{'-':>8}"
        missed = "" if row["is_met"] else "  MISSED"
        lines.append(
            f"{row['subject']:30}{row['median']:>9}{row['lowest']:>9}{row['highest']:>9}{row['ratio']:>8.2f}{needed}{missed}"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure and print; 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="at least 5")
    parser.add_argument("--count", type=int, default=20_000, help="messages in each round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(rounds=max(5, options.rounds), count=options.count)
    print(json.dumps(rows, indent=2) if options.json else table(rows))
    return 0 if all(row["is_met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
