"""`switchgear dr apply` disconnects 1 000 clients, once in one go and once killed (SIGKILL) halfway and run again.

The old region takes 50 DeleteConnection in any second and throttles what is beyond; the target's CONNECT quota is 100, of
which the plan file lets returning clients have half. Both are counted where they arrive, at a fake of AWS on loopback.
The ideal time is 1 000 / 50 = 20 s. Time is that from the first DeleteConnection to the last, with the canaries' return
in it; after the kill it has the start of the second process in it too.
"""

import argparse
import functools
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from switchgear.testing import ThreadedBroker
from switchgear.testing.dns import ThreadedDnsServer
from switchgear_certs import Authority
from switchgear_iot_dns.dr.testing import Bench, FakeAws, ListedFleet
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TWO, WEST, environment

LIMIT = 50.0
QUOTA = 100.0
WITHIN = 1.3


class Timed(ListedFleet):
    """Keeps when each client was disconnected."""

    def __init__(self, *client_ids: str, **options: Any) -> None:
        super().__init__(*client_ids, **options)
        self.ends: list[float] = []

    def end(self, client_id: str) -> bool:
        """See `Fleet.end`."""
        was = super().end(client_id)
        if was:
            self.ends.append(time.time())
        return was


def most_in_a_second(times: list[float]) -> int:
    """The most of *times* in any second."""
    return max((sum(start <= at < start + 1 for at in times) for start in times), default=0)


def one(*, clients: int, killed_after: int | None) -> dict[str, Any]:
    """One switch; with *killed_after* the process dies after so many disconnects, and is run again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="switchgear-bench-")))
        authority = Authority.create()
        (folder / "ca.pem").write_bytes(authority.ca_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.server(ONE, TWO).configure(context)
        broker = stack.enter_context(ThreadedBroker(ssl=context))
        aws, dns = stack.enter_context(FakeAws()), stack.enter_context(ThreadedDnsServer())
        bench = Bench(aws=aws, dns=dns, folder=folder, tls_port=broker.port)
        bench.clients = {ONE: [f"press-{number}" for number in range(clients)], TWO: []}
        since = time.time() - 3600
        west = ListedFleet()
        east = Timed(*bench.clients[ONE], home=lambda _: west, since=since)
        aws.fleets.update({EAST: east, WEST: west})
        aws.disconnects_per_second = LIMIT
        aws.quotas[WEST] = {"Connect requests per second per account": QUOTA}
        bench.more[f'domains."{TWO}".clients'] = ""
        path = bench.write(
            pace=f"disconnects_per_second = {LIMIT}\nconnect_share = {LIMIT / QUOTA}\ncanary_share = 0.01",
            waits="resolvers = 0\ncanary = 30\nverify = 60",
        )
        command = [sys.executable, "-Im", "switchgear", "dr", "apply", "west", "--yes", "--json", "--file", str(path)]
        run = functools.partial(
            subprocess.Popen, command, stdout=subprocess.PIPE, env={**os.environ, **environment(aws, folder)}
        )
        if killed_after is not None:
            first = run()
            while len(east.ends) < killed_after and first.poll() is None:
                time.sleep(0.005)
            first.send_signal(signal.SIGKILL)
            first.communicate()
        last = run()
        out, _ = last.communicate()
        took = max(east.ends) - min(east.ends)
        ideal = clients / LIMIT
        twice = sum(count > 1 for count in east.ended.values())
        missed = len(set(bench.clients[ONE]) - set(west.clients))
        most = most_in_a_second(west.connects)
        throttled = aws.count("iotdata", "DELETE") - len(east.ends)
        return {
            "clients": clients,
            "killed_after": killed_after,
            "exit_code": last.returncode,
            "arrived": json.loads(out)["clients"]["arrived"],
            "missed": missed,
            "twice": twice,
            "took_s": round(took, 2),
            "of_ideal": round(took / ideal, 3),
            "connects_in_a_second": most,
            "requests_beyond": throttled,
            "is_met": last.returncode == 0
            and not missed
            and not twice
            and most <= LIMIT
            and (killed_after is not None or took <= WITHIN * ideal),
        }


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """One row in one go, one with a kill."""
    clients = 200 if quick else 1000
    return [one(clients=clients, killed_after=None), one(clients=clients, killed_after=clients // 2)]


def what(row: dict[str, Any]) -> str:
    """The subject of a row."""
    return "in one go" if row["killed_after"] is None else f"killed after {row['killed_after']}"


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The rows as a table."""
    head = ["run", "clients", "missed", "twice", "s", "of ideal", "CONNECTs in a second, most", "other requests"]
    body = [
        [
            what(row),
            str(row["clients"]),
            str(row["missed"]),
            str(row["twice"]),
            f"{row['took_s']:.1f}",
            f"{row['of_ideal']:.2f}",
            f"{row['connects_in_a_second']} of {LIMIT:g}",
            str(row["requests_beyond"]),
        ]
        for row in rows
    ]
    return [(f"Disconnecting a fleet at {LIMIT:g} a second", head, body)]


def main() -> int:
    """Print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 clients instead of 1 000")
    rows = measure(quick=parser.parse_args().quick)
    print(json.dumps(rows, indent=2))
    return 0 if all(row["is_met"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
