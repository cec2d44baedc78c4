"""The durable outbox beside the one in memory, through mosquitto at QoS 1.

Bursts of messages of 128 bytes, in memory and in a file, by turns; what reaches the disk without a broker, beside one fsync
for each message; and a large backlog, which is drained beside an empty durable outbox.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import switchgear
from switchgear.testing.processes import find_mosquitto, free_port, wait_port

PAYLOAD = bytes(128)
TOPIC = "bench/outbox"

COUNTS = (30_000, 90_000)
"""Messages in a burst. The first is what the bound is on; the second takes longer than one commit."""

LEAST = 0.7
"""Of the rate in memory, at ``durability="normal"``."""

DRAIN = 0.6
"""Of the rate of an empty durable outbox, for a backlog."""


@contextmanager
def broker() -> Iterator[int]:
    """The port of a mosquitto that writes no log and has no limits of its own."""
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "log_type none"]
    lines += ["max_inflight_messages 0", "max_queued_messages 0", *(["user root"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        process = subprocess.Popen([find_mosquitto(), "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            wait_port(port, 10)
            yield port
        finally:
            process.kill()
            process.wait()


async def acknowledged(port: int, outbox: Path | None, durability: str, count: int) -> float:
    """Messages acknowledged a second through `AsyncTransport`."""
    options: dict[str, Any] = {} if outbox is None else {"outbox": outbox, "durability": durability}
    async with switchgear.aio.connect(f"mqtt://127.0.0.1:{port}", client_id="bench-outbox", **options) as transport:
        await transport.wait_connected(10)
        started = time.perf_counter()
        for number in range(count):
            transport.publish(TOPIC, PAYLOAD)
            if number % 256 == 255:
                await asyncio.sleep(0)  # an application does something else too
        await transport.drain(120)
        return count / (time.perf_counter() - started)


async def stored(outbox: Path, durability: str, count: int) -> float:
    """Messages stored a second with no broker there: every one of them is written."""
    async with switchgear.aio.connect("mqtt://127.0.0.1:1", outbox=outbox, durability=durability) as transport:
        started = time.perf_counter()
        for number in range(count):
            last = transport.publish(TOPIC, PAYLOAD)
            if number % 256 == 255:
                await asyncio.sleep(0)
        await last.stored(60)
        rate = count / (time.perf_counter() - started)
        await transport.close()  # leaving the block would wait for a broker
        return rate


def one_fsync_each(folder: Path, count: int = 300) -> float:
    """Times a second that 128 bytes can be appended to a file and synced here."""
    with (folder / "fsync").open("wb", buffering=0) as file:
        started = time.perf_counter()
        for _ in range(count):
            file.write(PAYLOAD)
            os.fsync(file.fileno())
        return count / (time.perf_counter() - started)


def memory() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident() -> float:
    """MB that this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20


async def fill(outbox: Path, count: int) -> dict[str, Any]:
    """Publish *count* messages with no broker there; time and memory."""
    limits = switchgear.OutboxLimits(max_messages=count, max_bytes=2**32)
    options: dict[str, Any] = {"outbox": outbox, "durability": "normal", "outbox_limits": limits}
    before = memory()
    async with switchgear.aio.connect("mqtt://127.0.0.1:1", **options) as transport:
        started = time.perf_counter()
        for number in range(count):
            transport.publish(TOPIC, PAYLOAD)
            if number % 256 == 255:
                await asyncio.sleep(0)
        seconds = time.perf_counter() - started
        started = time.perf_counter()
    return {"publish/s": round(count / seconds), "MB": round(memory()), "MB before": round(before)}


async def drain(outbox: Path, port: int, count: int) -> dict[str, Any]:
    """Open the backlog and send it; times and memory."""
    limits = switchgear.OutboxLimits(max_messages=2 * count, max_bytes=2**32)
    options: dict[str, Any] = {"outbox": outbox, "durability": "normal", "outbox_limits": limits}
    started = time.perf_counter()
    transport = switchgear.aio.connect(f"mqtt://127.0.0.1:{port}", client_id="bench-drain", **options)
    opened = time.perf_counter() - started
    async with transport:
        await transport.wait_connected(10)
        waiting = transport.depth
        started = time.perf_counter()
        await transport.drain(600)
        seconds = time.perf_counter() - started
    return {
        "opened in s": round(opened, 2),
        "waiting": waiting,
        "drained/s": round(waiting / seconds),
        "MB at most": round(memory()),
        "MB when drained": round(resident()),
    }


def apart(*arguments: str) -> dict[str, Any]:
    """What a process of its own finds, for its memory is measured."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rates(port: int, folder: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Rows on what is acknowledged a second, all kinds by turns; the ratios are those of the medians."""
    for count in COUNTS:
        found: dict[str, list[float]] = {"memory": [], "normal": [], "full": []}
        for number in range(rounds):
            for kind, values in found.items():
                path = None if kind == "memory" else folder / f"{kind}-{count}-{number}"
                values.append(asyncio.run(acknowledged(port, path, kind, count)))
        base = statistics.median(found["memory"])
        for kind, values in found.items():
            rate = statistics.median(values)
            least = LEAST if kind == "normal" and count == COUNTS[0] else None
            yield {
                "subject": f"acknowledged a second, {kind}, {count} messages",
                "rate": rate,
                "ratio": rate / base,
                "least": least,
                "is_met": least is None or rate / base >= least,
            }


def writes(folder: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Rows on what is stored a second with no broker there."""
    fsync = one_fsync_each(folder)
    for kind in ("normal", "full"):
        rate = statistics.median(
            asyncio.run(stored(folder / f"stored-{kind}-{n}", kind, COUNTS[0])) for n in range(rounds)
        )
        least = min(5000.0, 10 * fsync) / fsync
        yield {
            "subject": f"stored a second, {kind}",
            "rate": rate,
            "ratio": rate / fsync,
            "least": least if kind == "full" else None,
            "is_met": kind == "normal" or rate / fsync >= least,
        }
    yield {"subject": "one fsync each", "rate": fsync, "ratio": 1.0, "least": None, "is_met": True}


def backlogs(port: int, folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """The row on a large backlog: filled, opened and drained, each in a process of its own."""
    path = folder / "backlog"
    filled = apart("--fill", str(path), str(count))
    size = path.stat().st_size / 2**20
    empty = statistics.median(
        asyncio.run(acknowledged(port, folder / f"empty-{n}", "normal", COUNTS[0])) for n in range(3)
    )
    drained = apart("--drain", str(path), str(port), str(count))
    ratio = drained["drained/s"] / empty
    yield {
        "subject": f"a backlog of {count} messages of {len(PAYLOAD)} bytes",
        "filled_mb": filled["MB"],
        "file_mb": size,
        "opened_s": drained["opened in s"],
        "drained_mb": drained["MB at most"],
        "rate": drained["drained/s"],
        "ratio": ratio,
        "file_after_mb": path.stat().st_size / 2**20,
        "is_met": ratio >= DRAIN and drained["opened in s"] < 2 and max(filled["MB"], drained["MB at most"]) < 150,
    }


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """The rows of a run."""
    rounds = 3 if quick else 7
    with broker() as port, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(acknowledged(port, None, "full", 3000))  # warm
        return [
            *rates(port, folder, rounds),
            *writes(folder, rounds),
            *backlogs(port, folder, 200_000 if quick else 1_000_000),
        ]


def what(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return str(row["subject"])


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The rows as tables."""
    rated = [
        [what(row), f"{row['rate']:,.0f}", f"{row['ratio']:.2f}", "" if row["least"] is None else f"{row['least']:.2g}"]
        for row in rows
        if "least" in row
    ]
    backlog = [
        [
            what(row),
            f"{row['filled_mb']:.0f} MB",
            f"{row['file_mb']:.0f} MB, then {row['file_after_mb']:.1f}",
            f"{row['opened_s']:.2f} s",
            f"{row['drained_mb']:.0f} MB",
            f"{row['rate']:,.0f}",
            f"{row['ratio']:.2f}",
        ]
        for row in rows
        if "file_mb" in row
    ]
    return [
        (
            "Acknowledged beside the outbox in memory, stored beside one fsync for each message",
            ["what", "a second", "ratio", "at least"],
            rated,
        ),
        (
            "A backlog; the ratio is to an empty durable outbox (at least 0.6)",
            ["what", "memory, filling", "file", "opened in", "memory, draining", "drained a second", "ratio"],
            backlog,
        ),
    ]


def main() -> int:
    """Print the tables; 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a smaller backlog")
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--drain", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        print(json.dumps(asyncio.run(fill(Path(options.fill[0]), int(options.fill[1])))))
        return 0
    if options.drain:
        path, port, count = options.drain
        print(json.dumps(asyncio.run(drain(Path(path), int(port), int(count)))))
        return 0
    rows = measure(quick=options.quick)
    for title, head, body in tables(rows):
        print(title)
        for line in (head, *body):
            print("  ".join(line))
    return int(not all(row["is_met"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
