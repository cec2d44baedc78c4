"""The durable outbox beside the one in memory: acknowledged a second, what is stored a second, and a large backlog.

``python tests/bench/outbox.py [--json] [--rounds N] [--backlog N]``. Only ratios within one run mean something.
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

COUNT = 30_000


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


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", default=None, help="where the files are written; the system's own for temporary files"
    )
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--drain", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        print(json.dumps(asyncio.run(fill(Path(options.fill[0]), int(options.fill[1])))))
        return
    if options.drain:
        path, port, count = options.drain
        print(json.dumps(asyncio.run(drain(Path(path), int(port), int(count)))))
        return
    found: dict[str, Any] = {}
    with broker() as port, tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        rates: dict[str, list[float]] = {"memory": [], "normal": [], "full": []}
        writes: dict[str, list[float]] = {"normal": [], "full": []}
        asyncio.run(acknowledged(port, None, "full", 3000))  # warm
        for number in range(options.rounds):
            for kind, values in rates.items():
                path = None if kind == "memory" else folder / f"{kind}-{number}"
                values.append(asyncio.run(acknowledged(port, path, kind, COUNT)))
            for kind, values in writes.items():
                values.append(asyncio.run(stored(folder / f"stored-{kind}-{number}", kind, COUNT)))
        base = statistics.median(rates["memory"])
        for kind, values in rates.items():
            found[f"acknowledged/s, {kind}"] = round(statistics.median(values))
            found[f"ratio to memory, {kind}"] = round(statistics.median(values) / base, 2)
        for kind, values in writes.items():
            found[f"stored/s, {kind}"] = round(statistics.median(values))
        found["one fsync each/s"] = round(one_fsync_each(folder))
        if options.backlog:
            backlog = folder / "backlog"
            found["fill"] = apart("--fill", str(backlog), str(options.backlog))
            found["file MB"] = round(backlog.stat().st_size / 2**20)
            found["drain"] = apart("--drain", str(backlog), str(port), str(options.backlog))
            found["file MB after"] = round(backlog.stat().st_size / 2**20, 1)
    if options.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:28} {value}")


if __name__ == "__main__":
    main()
