"""Seconds from the moment a broker's port accepts again to the first PUBLISH that it receives.

Two brokers that share nothing go down together for a while, then one of them comes back, the other one when every
client is back or after a minute. All clients suffer the same outages at the same time, and each publishes fifty times a
second. The brokers run in a process of their own, which notes when it opened the port and when each client's first
PUBLISH came. Beside ours: MQTT.js with ``servers`` and its defaults, and the loop that people write round paho-mqtt
(a broker at random, ``sleep(min(2**attempt, 30))`` on failure). A peer that is not installed is left out and said.
"""

import argparse
import asyncio
import contextlib
import json
import queue
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from switchgear.testing.broker import Broker, Published
from switchgear.testing.processes import free_port

HERE = Path(__file__).resolve().parent
OUTAGES = {0.5: 10, 2.0: 10, 10.0: 10, 30.0: 10}
"""Seconds down, and how often."""

QUICK = {0.5: 2, 2.0: 2}
PATIENCE = 60.0
"""Seconds after which a client counts as not back."""

FLEET = {"median": 0.060, "worst": 0.200}
"""Seconds that are needed with ``fleet(clients=1, connects_per_second=50)``."""


def needed_of_default(outage: float) -> float:
    """Seconds that are needed with the default policy, at worst."""
    return 0.1 + outage / 5


# The brokers' process: one command a line, one answer a line.


class Firsts:
    """When the first PUBLISH of each topic came to a broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.read = 0
        self.at: dict[str, float] = {}

    def look(self, topics: Sequence[str]) -> bool:
        """Read on; whether all *topics* have come."""
        entries = self.broker.ledger.entries
        for entry in entries[self.read :]:
            if isinstance(entry, Published):
                self.at.setdefault(entry.topic, entry.at)
        self.read = len(entries)
        return all(topic in self.at for topic in topics)

    async def of(self, topics: Sequence[str], timeout: float) -> dict[str, float]:
        """The times of *topics*, as far as they came within *timeout* seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.broker.ledger.until(lambda: self.look(topics)), timeout)
        return self.at


async def serve(ports: list[int]) -> None:
    """Run the brokers until standard input ends."""
    loop = asyncio.get_running_loop()
    brokers = []
    for port in ports:
        broker = Broker(name=str(port))
        await broker.start(port=port)
        brokers.append(broker)
    print(json.dumps("ready"), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, *rest = json.loads(line)
        answer: object = None
        if command == "kill":
            for broker in brokers:
                await broker.kill()
                broker.ledger.clear()
        elif command == "open":
            answer = loop.time()
            await brokers[rest[0]].restart()
        elif command == "firsts":
            answer = await Firsts(brokers[rest[0]]).of(rest[1], rest[2])
        print(json.dumps(answer), flush=True)


class Brokers:
    """Two brokers in a process of their own."""

    def __init__(self) -> None:
        self.ports = [free_port(), free_port()]
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, "--serve", *map(str, self.ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def ask(self, *command: object) -> Any:
        """What the brokers' process answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        with self._process as process:
            process.kill()


# The clients, each a process of its own.


class Client:
    """A process that publishes until it is closed; its lines of output arrive in `lines`."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.lines: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE / "peers")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.put(line.strip())

    def wait_ready(self) -> None:
        """Return when it has connected for the first time."""
        self.lines.get(timeout=PATIENCE)

    def close(self) -> None:
        """End it."""
        with self._process as process:
            process.kill()
        self._thread.join()


def commands(ports: Sequence[int]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """How each client is started, and why others are not."""
    numbers = [str(port) for port in ports]
    uris = [f"mqtt://127.0.0.1:{port}" for port in ports]
    ours = [sys.executable, "-I", str(HERE / "peers" / "switchgear_client.py")]
    found = {
        "fleet(1 client, 50/s)": [*ours, "fleet", topic("fleet(1 client, 50/s)"), *uris],
        "default": [*ours, "default", topic("default"), *uris],
        "loop min(2**n, 30)": [
            sys.executable,
            "-I",
            str(HERE / "peers" / "paho_loop.py"),
            topic("loop min(2**n, 30)"),
            *numbers,
        ],
    }
    missing = {}
    node = shutil.which("node")
    if node is None:
        missing["MQTT.js"] = "node is not on this machine; install the Debian package `nodejs`"
    elif not (HERE / "node_modules" / "mqtt").exists():
        missing["MQTT.js"] = "not installed: run `npm install --no-save mqtt` in tests/bench"
    else:
        found["MQTT.js"] = [node, "mqttjs.mjs", topic("MQTT.js"), *numbers]
    return found, missing


def topic(name: str) -> str:
    """Where the client *name* publishes."""
    return "bench/" + "".join(letter if letter.isalnum() else "-" for letter in name)


@contextmanager
def running(starts: dict[str, list[str]]) -> Iterator[None]:
    """All clients, connected."""
    clients: list[Client] = []
    try:
        for name, command in starts.items():
            clients.append(Client(name, command))
        for client in clients:
            client.wait_ready()
        yield
    finally:
        for client in clients:
            client.close()


# The measurement.


def measure(*, quick: bool = False, seed: int = 1) -> list[dict[str, Any]]:
    """One row for each client and outage: median and worst in seconds, and whether they are as good as needed."""
    rng = random.Random(seed)
    brokers = Brokers()
    found: dict[tuple[float, str], list[float | None]] = {}
    try:
        starts, missing = commands(brokers.ports)
        with running(starts):
            for outage, count in (QUICK if quick else OUTAGES).items():
                for number in range(count):
                    for name, seconds in switch(brokers, outage, list(starts), rng).items():
                        found.setdefault((outage, name), []).append(seconds)
                    print(f"time_back: {outage:g} s, {number + 1} of {count}", file=sys.stderr, flush=True)
    finally:
        brokers.close()
    rows = [row(name, outage, times) for (outage, name), times in found.items()]
    return rows + [{"client": name, "why": why, "is_met": True} for name, why in missing.items()]


def switch(brokers: Brokers, outage: float, names: list[str], rng: random.Random) -> dict[str, float | None]:
    """One outage: seconds from the open port to the first PUBLISH, for each client."""
    topics = {topic(name): name for name in names}
    time.sleep(rng.uniform(0.5, 1.0))
    brokers.ask("kill")
    time.sleep(outage * rng.uniform(1.0, 1.1))
    back = rng.choice([0, 1])
    opened = brokers.ask("open", back)
    at = brokers.ask("firsts", back, list(topics), PATIENCE)
    brokers.ask("open", 1 - back)
    late = [each for each in topics if each not in at]
    if late:  # they find the other one, or this one, some time
        deadline = time.monotonic() + PATIENCE
        while late and time.monotonic() < deadline:
            seen = {**brokers.ask("firsts", 0, late, 0.2), **brokers.ask("firsts", 1, late, 0.2)}
            late = [each for each in late if each not in seen]
    return {name: at[each] - opened if each in at else None for each, name in topics.items()}


def row(name: str, outage: float, times: list[float | None]) -> dict[str, Any]:
    """What became of one client."""
    known = [PATIENCE if each is None else each for each in times]
    median, worst = statistics.median(known), max(known)
    needed, is_met = "", True
    if name == "default":
        needed, is_met = f"worst {needed_of_default(outage):.1f}", worst <= needed_of_default(outage)
    elif name.startswith("fleet"):
        needed = f"median {FLEET['median']:.3f}, worst {FLEET['worst']:.3f}"
        is_met = median <= FLEET["median"] and worst <= FLEET["worst"]
    return {
        "client": name,
        "outage": outage,
        "switches": len(times),
        "not_back": times.count(None),
        "median": median,
        "worst": worst,
        "needed": needed,
        "is_met": is_met,
    }


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """One table, a line for each client and outage."""
    head = ["client", "down, s", "switches", "median, s", "worst, s", f"not within {PATIENCE:g} s", "needed"]
    lines = [
        [
            row["client"],
            f"{row['outage']:g}",
            str(row["switches"]),
            seconds(row["median"]),
            seconds(row["worst"]),
            str(row["not_back"]),
            (row["needed"] or "-") + ("" if row["is_met"] else " MISSED"),
        ]
        for row in sorted((row for row in rows if "why" not in row), key=lambda row: row["outage"])
    ]
    lines += [[row["client"], "-", "-", "-", "-", "-", row["why"]] for row in rows if "why" in row]
    return [("From the open port to the first PUBLISH", head, lines)]


def seconds(value: float) -> str:
    """Three decimals, or that it took longer than we waited."""
    return f"> {PATIENCE:g}" if value >= PATIENCE else f"{value:.3f}"


def what(row: dict[str, Any]) -> str:
    """Which row it is."""
    return f"{row['client']} after {row['outage']:g} s: median {row['median']:.3f}, worst {row['worst']:.3f}"


def main() -> None:
    """The brokers' process; `run.py --only time_back` measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", nargs=2, type=int, metavar="PORT", required=True)
    asyncio.run(serve(parser.parse_args().serve))


if __name__ == "__main__":
    main()
