"""The scenarios of the two-region lab; ``test_two_regions.py`` runs each in a namespace of its own.

    region_lab.py FOLDER SCENARIO [key=value ...]

The last line of the output is what was seen, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import switchgear
from attrs import evolve
from switchgear import TLS, State
from switchgear.testing.processes import make_tls_files
from switchgear.testing.processes.regions import HOSTS, NAMES, OPEN_PORT, PORT, TARGETS, Regions, enter
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 60.0
OTHER: Final = {"east": "west", "west": "east"}


class Connections(threading.Thread):
    """Samples how many TLS connections this process has to the regions at the same time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._ends = threading.Event()

    def run(self) -> None:
        while not self._ends.wait(0.002):
            self.most = max(self.most, len(self.sockets()))

    def sockets(self) -> set[str]:
        """Inodes of the sockets that are connected to port 8883 and still belong to somebody.

        A set, for the kernel may list a socket twice when others come and go while it is read (seen).
        """
        rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        return {row[9] for row in rows if row[2].endswith(f":{PORT:04X}") and row[3] == "01"} - {"0"}

    def stop(self) -> int:
        self._ends.set()
        self.join()
        return self.most


class Device:
    """A device that publishes fifty numbered messages a second, and an observer at each region."""

    def __init__(self, regions: Regions, driver: str, options: str = "", **more: Any) -> None:
        self.regions = regions
        self.name = NAMES[0]
        self.events: list[switchgear.Event] = []
        self.seen: dict[str, list[tuple[float, str]]] = {"east": [], "west": []}
        files = regions.files
        self.observers: dict[str, switchgear.Transport] = {}
        self.transport = switchgear.connect(
            f"iot+dns://{self.name}?{options}",
            client_id="mqtt1",
            driver=driver,
            protocol="5",
            tls=TLS(ca_file=files.ca_file, cert_file=files.client_cert_file, key_file=files.client_key_file),
            stable_after=1,
            connect_timeout=2,
            on_event=self.events.append,
            **more,
        )
        self.sent = 0
        self._ends = threading.Event()
        self._publisher = threading.Thread(target=self._publish, daemon=True)

    def observe(self, region: str) -> None:
        """See what arrives at *region* from now on."""
        if region in self.observers:
            self.observers.pop(region).close()
        seen = self.seen[region]
        observer = switchgear.connect(f"mqtt://{HOSTS[region]}:{OPEN_PORT}", client_id="observer", session="clean")
        observer.subscribe("t/#", lambda message: seen.append((time.monotonic(), message.topic)), qos=0).wait_ready(20)
        self.observers[region] = observer

    def begin(self) -> None:
        self.transport.wait_connected(20)
        self._publisher.start()

    def _publish(self) -> None:
        while not self._ends.wait(0.02):
            self.transport.publish(f"t/{self.sent}", b"x", qos=1)
            self.sent += 1

    def told(self, name: str) -> list[str]:
        return [
            str(event.facts.get("why") or event.facts.get("failure")) for event in self.events if event.name == name
        ]

    def place(self) -> str:
        """The target that it is connected to; empty: it is not."""
        endpoint = self.transport.endpoint
        return str(endpoint.address) if self.transport.is_connected and endpoint is not None else ""

    def settled_at(self, region: str, since: float) -> float:
        """When it was decided that the name leads to *region*."""
        words = f"leads to {TARGETS[region]} now"
        return next(
            e.at
            for e in self.events
            if e.at >= since and e.name in {"reconnect_scheduled", "move_scheduled"} and words in str(e.facts["why"])
        )

    def waited(self, since: float) -> float:
        """Seconds that it itself let pass from *since* to its next connection: what others need is not in them."""
        wait_until(lambda: any(e.at >= since and e.name == "connected" for e in self.events))
        until = next(e.at for e in self.events if e.at >= since and e.name == "connected")
        scheduled = {"reconnect_scheduled", "recheck_scheduled", "move_scheduled"}
        return sum(float(str(e.facts["delay"])) for e in self.events if since <= e.at <= until and e.name in scheduled)

    def dialled(self, since: float) -> set[str]:
        """Where it has dialled since then."""
        chosen = [str(e.facts["why"]) for e in self.events if e.at >= since and e.name == "endpoint_selected"]
        return {why.rpartition("dialled at ")[2] for why in chosen}

    def end(self) -> list[str]:
        """Stop; the topics that no region has."""
        self._ends.set()
        self._publisher.join()
        self.transport.drain(30)
        self.transport.close()
        for observer in self.observers.values():
            observer.close()
        return sorted({f"t/{number}" for number in range(self.sent)} - self.regions.topics())


def wait_until(is_met: Callable[[], object], timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not is_met():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.002)


def go_over(device: Device, region: str, how: str) -> dict[str, object]:
    """Switch the name from the other region to *region*, in one of the three ways; what the device made of it."""
    regions, old = device.regions, OTHER[region]
    device.observe(region)
    since = time.monotonic()
    seen = device.seen[region]
    seen.clear()
    if how == "alive":
        regions.flip(device.name, region)
        regions.kick(old, "mqtt1")
    elif how == "dead":
        regions.brokers[old].kill()
        time.sleep(0.5)
        regions.flip(device.name, region)
    elif how == "refusing":
        regions.restart(old, refuses=True)
        time.sleep(0.5)
        regions.flip(device.name, region)
    wait_until(lambda: seen)
    settled = device.settled_at(region, since)
    waited, dialled = device.waited(settled), device.dialled(settled)
    if how != "alive":
        regions.restart(old)
    time.sleep(1.5)  # it is stable then
    return {"waited": waited, "elsewhere": sorted(dialled - {TARGETS[region]}), "first_message": seen[0][0] - settled}


def switch(folder: Path, driver: str, how: str, flips: int) -> dict[str, object]:
    """The regions are switched to and fro."""
    before = os.getpid()
    with Regions(folder) as regions:
        device = Device(regions, driver)
        device.begin()
        connections = Connections()
        connections.start()
        time.sleep(1.5)
        rounds = [go_over(device, ("west", "east")[number % 2], how) for number in range(flips)]
        most = connections.stop()
        lost = device.end()
    return {"rounds": rounds, "most": most, "lost": lost, "sent": device.sent, "same_process": os.getpid() == before}


def watch(folder: Path, driver: str) -> dict[str, object]:
    """Nobody is disconnected: the device sees the switch itself."""
    with Regions(folder) as regions:
        device = Device(regions, driver, "watch=4&window=1&poll=0.5&drain=2")
        device.begin()
        connections = Connections()
        connections.start()
        device.observe("west")
        time.sleep(1)
        flipped = time.monotonic()
        regions.flip(device.name, "west")
        wait_until(lambda: device.seen["west"])
        waited = device.waited(flipped)
        most = connections.stop()
        lost = device.end()
    return {"waited": waited, "most": most, "lost": lost, "sent": device.sent, "losses": device.told("connection_lost")}


def unfit(folder: Path, driver: str, what: str) -> dict[str, object]:
    """West's certificate is unfit, or it does not know ours: the device says why, and is back when the name is."""
    authority = Authority.create()
    files = make_tls_files(folder / "files", names=NAMES, authority=authority)
    if what == "other domain":
        other = make_tls_files(folder / "other", names=["other.example.test"], authority=authority)
        west = evolve(files, cert_file=other.cert_file, key_file=other.key_file)
    elif what == "no serverAuth":
        west = evolve(files, cert_file=files.client_cert_file, key_file=files.client_key_file)
    else:
        assert what == "unknown client"
        west = evolve(files, ca_file=make_tls_files(folder / "strangers").ca_file)
    with Regions(folder, files=files, west=west) as regions:
        device = Device(regions, driver)
        device.begin()
        regions.flip(device.name, "west")
        regions.kick("east", "mqtt1")
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: device.told("quarantined"), 40)
        failures = sorted(set(device.told("attempt_failed")))
        regions.flip(device.name, "east")
        flipped = time.monotonic()
        wait_until(lambda: device.transport.state is State.CONNECTED)
        back = time.monotonic() - flipped
        lost = device.end()
    return {"failures": failures, "quarantined": bool(device.told("quarantined")), "back": back, "lost": lost}


def bad_names(folder: Path, driver: str) -> dict[str, object]:
    """The name fails in every way, for a device that was sent away and for one that starts; then it is well again."""
    seen: dict[str, object] = {}
    options = "poll=0.2&wait=1&bound=2"
    with Regions(folder) as regions:
        for how in ("nxdomain", "servfail", "silent", "loop"):
            device = Device(regions, driver, options)
            device.begin()
            time.sleep(0.5)
            break_name(regions, how)
            regions.kick("east", "mqtt1")
            back_at = until_back(device)
            told = device.told("reconnect_scheduled")[0]
            lost = device.end()
            device = Device(regions, driver, options, backoff=switchgear.exponential(cap=0.5))
            with contextlib.suppress(TimeoutError, switchgear.ConnectionFailed):
                device.transport.wait_connected(5)
            error = device.transport.last_error
            cause, why = ("none", "") if error is None else (error.failure.cause.name, str(error))
            regions.dns.fail(NAMES[0], None)
            regions.flip(NAMES[0], "east")
            device.begin()
            device.end()
            seen[how] = {"told": told, "back_at": back_at, "lost": lost, "cause": cause, "why": why}
    return seen


def until_back(device: Device) -> str:
    """Where *device* is connected again, after a loss that has happened or is about to."""
    wait_until(lambda: device.told("connection_lost"))
    wait_until(lambda: device.place() != "")
    return device.place()


def break_name(regions: Regions, how: str) -> None:
    """Have the custom domain fail: a loop of CNAME records, or a fault of the name server."""
    if how == "loop":
        regions.dns.set_cname(NAMES[0], NAMES[1])
        regions.dns.set_cname(NAMES[1], NAMES[0])
    else:
        regions.dns.fail(NAMES[0], how)  # type: ignore[arg-type]  # one of its faults


def unsteady_names(folder: Path, driver: str) -> dict[str, object]:
    """A resolver that is stale, and a name that flaps between the regions, each with a kick."""
    name = NAMES[0]
    with Regions(folder) as regions:
        device = Device(regions, driver, "poll=0.2&wait=1&bound=3")
        device.begin()
        time.sleep(0.5)
        regions.dns.freeze(name)
        regions.flip(name, "west")
        regions.kick("east", "mqtt1")
        stale, said = until_back(device), device.told("reconnect_scheduled")[-1]
        regions.dns.thaw(name)
        regions.kick("east", "mqtt1")
        wait_until(lambda: device.place() == TARGETS["west"])
        ends = threading.Event()

        def flap() -> None:
            while not ends.wait(0.15):
                regions.flip(name, "east")
                ends.wait(0.15)
                regions.flip(name, "west")

        flapping = threading.Thread(target=flap)
        flapping.start()
        count, since = device.transport.stats.connections, time.monotonic()
        regions.brokers["west"].kill()
        regions.restart("west")
        wait_until(lambda: device.transport.stats.connections > count)
        took = time.monotonic() - since
        ends.set()
        flapping.join()
        lost = device.end()
    return {"stale": stale, "said": said, "took": took, "lost": lost}


def look_ups(folder: Path) -> dict[str, object]:
    """What the system's resolver makes of names that fail, one after another."""
    from switchgear.testing.dns import ThreadedDnsServer
    from switchgear_iot_dns import look

    name = NAMES[0]
    answers: dict[str, object] = {}

    def ask() -> str:
        return str(look(name, "os", 4.0))

    with ThreadedDnsServer(port=53) as dns:
        for region, host in HOSTS.items():
            dns.set_a(TARGETS[region], host)
        dns.set_cname(name, TARGETS["east"])
        answers["east"] = ask()
        dns.set_cname(name, TARGETS["west"])
        answers["west"] = ask()
        dns.freeze(name)
        dns.set_cname(name, TARGETS["east"])
        answers["stale"] = ask()
        dns.thaw(name)
        for fault in ("servfail", "refused", "silent", "nxdomain"):
            dns.fail(name, fault)
            answers[fault] = ask()
        dns.fail(name, None)
        dns.set_cname(name, "other.example.test")
        dns.set_cname("other.example.test", name)
        answers["loop"] = ask()
        dns.remove(name)
        answers["missing"] = ask()
    return answers


SCENARIOS: Final[dict[str, Callable[..., dict[str, object]]]] = {
    "switch": switch,
    "watch": watch,
    "unfit": unfit,
    "bad_names": bad_names,
    "unsteady_names": unsteady_names,
    "look_ups": look_ups,
}


def main() -> None:
    folder, scenario, *pairs = sys.argv[1:]
    options: dict[str, Any] = dict(pair.split("=", 1) for pair in pairs)
    if "flips" in options:
        options["flips"] = int(options["flips"])
    enter(Path(folder))
    sys.stdout.write(json.dumps(SCENARIOS[scenario](Path(folder), **options)) + "\n")


if __name__ == "__main__":
    main()
