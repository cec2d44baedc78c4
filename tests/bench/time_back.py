"""Seconds from the moment a broker's port accepts again to the first PUBLISH that it receives.

Two brokers that share nothing go down together for a while, then one of them comes back. They run in a process of
their own, which notes when it opened the port and when a PUBLISH came, on the clock that all processes share.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import switchgear
from switchgear.testing.broker import Broker
from switchgear.testing.processes import free_port

RATE = 500
"""Messages a second; the time between two of them is the resolution of what is measured."""

OUTAGES = {0.5: 10, 2.0: 10, 10.0: 5}
"""Seconds down, and how often."""

FLEET = {"median": 0.060, "worst": 0.200}
"""Seconds that are needed with ``fleet(clients=1, connects_per_second=50)``."""

POLICIES = {
    "fleet(1 client, 50/s)": switchgear.fleet(clients=1, connects_per_second=50),
    "default": switchgear.exponential(),
}


def needed_of_default(outage: float) -> float:
    """Seconds that are needed with the default policy, at worst."""
    return 0.1 + outage / 5


# The brokers' process: one command a line, one answer a line.


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
        command, _, argument = line.strip().partition(" ")
        answer: object = None
        if command == "kill":
            for broker in brokers:
                await broker.kill()
                broker.ledger.clear()
        elif command == "open":
            broker = brokers[int(argument)]
            answer = loop.time()
            await broker.restart()
        elif command == "first":
            ledger = brokers[int(argument)].ledger
            await ledger.until(lambda ledger=ledger: bool(ledger.published()))  # type: ignore[misc]  # mypy does not infer defaults
            answer = ledger.published()[0].at
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

    def ask(self, command: str) -> Any:
        """What the brokers' process answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        with self._process as process:
            process.kill()


@contextmanager
def publishing(transport: switchgear.Transport) -> Iterator[None]:
    """Publish at `RATE` from a thread."""
    over = threading.Event()

    def work() -> None:
        started, count = time.monotonic(), 0
        while not over.wait(max(0.0, started + count / RATE - time.monotonic())):
            transport.publish("bench/time-back", b"x")
            count += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def switches(policy: Any, outage: float, count: int, rng: random.Random) -> list[float]:
    """Seconds from an open port to its first PUBLISH, *count* times, after *outage* seconds without a broker."""
    brokers = Brokers()
    found = []
    places = [f"mqtt://127.0.0.1:{port}" for port in brokers.ports]
    try:
        with switchgear.connect(places, client_id="press-7", backoff=policy) as transport:
            transport.wait_connected(20)
            with publishing(transport):
                for _ in range(count):
                    time.sleep(rng.uniform(0.2, 0.4))
                    brokers.ask("kill")
                    time.sleep(outage + rng.uniform(0, 0.05))
                    back = rng.choice([0, 1])
                    opened = brokers.ask(f"open {back}")
                    found.append(brokers.ask(f"first {back}") - opened)
                    brokers.ask(f"open {1 - back}")
            transport.drain(30)
    finally:
        brokers.close()
    return found


def measure(*, quick: bool = False, seed: int = 1) -> list[dict[str, Any]]:
    """One row for each policy and outage: median and worst in seconds, and whether they are as good as needed."""
    logging.getLogger("switchgear").addHandler(logging.NullHandler())  # else each loss is a line between ours
    rng = random.Random(seed)
    rows = []
    for name, policy in POLICIES.items():
        for outage, count in OUTAGES.items():
            if quick and outage > 2:
                continue
            found = switches(policy, outage, count, rng)
            median, worst = statistics.median(found), max(found)
            if name == "default":
                needed, is_met = f"worst {needed_of_default(outage):.3f}", worst <= needed_of_default(outage)
            else:
                needed = f"median {FLEET['median']:.3f}, worst {FLEET['worst']:.3f}"
                is_met = median <= FLEET["median"] and worst <= FLEET["worst"]
            rows.append(
                {
                    "policy": name,
                    "outage": outage,
                    "switches": count,
                    "median": round(median, 4),
                    "worst": round(worst, 4),
                    "needed": needed,
                    "is_met": is_met,
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows, for people."""
    lines = [f"{'port open to first PUBLISH, s':30}{'down':>6}{'times':>7}{'median':>9}{'worst':>9}  needed"]
    for row in rows:
        missed = "" if row["is_met"] else "  MISSED"
        lines.append(
            f"{row['policy']:30}{row['outage']:>6g}{row['switches']:>7}{row['median']:>9.3f}{row['worst']:>9.3f}"
            f"  {row['needed']}{missed}"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure and print; 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="leave out the outages of 10 s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return 0
    rows = measure(quick=options.quick, seed=options.seed)
    print(json.dumps(rows, indent=2) if options.json else table(rows))
    return 0 if all(row["is_met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
