"""Seconds from a DNS switch and a forced disconnect to the first message in the new region.

Two mosquittos with mutual TLS and a name server in a private namespace (Linux, root): the name is switched, and every
client is disconnected by the old region, which lives on and takes it back when it comes. One that is still there is
disconnected again every four seconds. Every client was connected for 35 seconds before; in half of the switches it was
disconnected once more and came back a moment before the switch, so that it has just looked the name up. All clients suffer the same switches at the same time and publish twenty times a
second. Beside ours, on each driver: awscrt's MQTT 5 client and paho-mqtt's threaded client, with their own reconnecting
and their defaults. A peer that is not installed is left out and said.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import switchgear
from switchgear import TLS
from switchgear.plugins import registry
from switchgear.testing.processes import BrokerMissing, TlsFiles
from switchgear.testing.processes.regions import (
    HOSTS,
    NAMES,
    OPEN_PORT,
    PORT,
    Regions,
    enter,
    in_namespace,
    why_no_namespace,
)

NAME: Final = NAMES[0]
PATIENCE: Final = 150.0
"""Seconds after which a client counts as not over."""

AGAIN: Final = 4.0
"""Seconds between two disconnects of a client that is still in the old region."""

HOLD: Final = 35.0
"""Seconds in the new region before the next switch: awscrt remembers an address, and its back-off, for 30."""

MODES: Final = {"35 s after": "the last look-up 35 s ago", "1 s after": "the last look-up 1 s ago"}
"""How long before the switch the name was looked up."""

FLIPS: Final = 20
FLIPS_QUICK: Final = 4

NEEDED: Final = 1.5
"""Seconds that Switchgear may take, each time."""


class Client(Protocol):
    """One client, which keeps its connection by its own means."""

    name: str

    def publish(self, topic: str) -> None:
        """Send a message at QoS 1 if there is a connection."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Ours:
    """Switchgear with the plugin."""

    def __init__(self, driver: str, files: TlsFiles) -> None:
        self.name = f"switchgear-{driver}"
        self.losses: list[str] = []
        """Why its connections ended."""
        tls = TLS(ca_file=files.ca_file, cert_file=files.client_cert_file, key_file=files.client_key_file)
        self._transport = switchgear.connect(
            f"iot+dns://{NAME}",
            client_id=self.name,
            driver=driver,
            protocol="5",
            tls=tls,
            stable_after=1,
            on_event=self._hear,
        )

    def _hear(self, event: switchgear.Event) -> None:
        if event.name == "connection_lost":
            self.losses.append(str(event.facts["failure"]))

    def publish(self, topic: str) -> None:
        if self._transport.is_connected:
            self._transport.publish(topic, b"x", qos=1)

    def close(self) -> None:
        self._transport.close()


class BarePaho:
    """paho-mqtt with its own thread and its own reconnecting."""

    name = "bare-paho"

    def __init__(self, files: TlsFiles) -> None:
        from paho.mqtt.client import Client as Paho
        from paho.mqtt.client import MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        self._client = Paho(CallbackAPIVersion.VERSION2, client_id=self.name, protocol=MQTTv5)
        self._client.tls_set(str(files.ca_file), str(files.client_cert_file), str(files.client_key_file))
        self._client.connect_async(NAME, PORT)
        self._client.loop_start()

    def publish(self, topic: str) -> None:
        if self._client.is_connected():
            self._client.publish(topic, b"x", qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class BareAwscrt:
    """awscrt's MQTT 5 client with its own reconnecting."""

    name = "bare-awscrt"

    def __init__(self, files: TlsFiles) -> None:
        from awscrt import io, mqtt5  # type: ignore[import-untyped]  # it has no types

        self._mqtt5 = mqtt5
        options = io.TlsContextOptions.create_client_with_mtls_from_path(
            str(files.client_cert_file), str(files.client_key_file)
        )
        options.override_default_trust_store_from_path(None, str(files.ca_file))
        self._is_connected = threading.Event()
        self._client = mqtt5.Client(
            mqtt5.ClientOptions(
                host_name=NAME,
                port=PORT,
                tls_ctx=io.ClientTlsContext(options),
                connect_options=mqtt5.ConnectPacket(client_id=self.name, keep_alive_interval_sec=60),
                on_lifecycle_event_connection_success_fn=lambda _: self._is_connected.set(),
                on_lifecycle_event_disconnection_fn=lambda _: self._is_connected.clear(),
                disable_metrics=True,
            )
        )
        self._client.start()

    def publish(self, topic: str) -> None:
        if self._is_connected.is_set():
            self._client.publish(
                self._mqtt5.PublishPacket(topic=topic, payload=b"x", qos=self._mqtt5.QoS.AT_LEAST_ONCE)
            )

    def close(self) -> None:
        self._client.stop()


def make_clients(files: TlsFiles) -> tuple[list[Client], list[str]]:
    """Every client that is installed, and the names of those that are not."""
    clients: list[Client] = []
    missing = []
    for driver in ("paho", "awscrt"):
        if driver in registry().known_drivers():
            clients.append(Ours(driver, files))
        else:
            missing.append(f"switchgear-{driver}")
    for kind in (BarePaho, BareAwscrt):
        try:
            clients.append(kind(files))
        except ImportError as error:
            missing.append(f"{kind.name} ({error})")
    return clients, missing


class Observer:
    """Says which clients' messages arrive at a region."""

    def __init__(self, region: str) -> None:
        self.first: dict[str, float] = {}
        self._transport = switchgear.connect(
            f"mqtt://{HOSTS[region]}:{OPEN_PORT}", client_id="observer", session="clean"
        )
        self._transport.subscribe("from/+", self._see, qos=0).wait_ready(20)

    def _see(self, message: switchgear.Message) -> None:
        self.first.setdefault(message.topic.removeprefix("from/"), time.monotonic())

    def close(self) -> None:
        self._transport.close()


def play(folder: Path, flips: int) -> dict[str, Any]:
    """Seconds of each client, by name and mode, for each switch; None: it did not come over."""
    with Regions(folder) as regions:
        clients, missing = make_clients(regions.files)
        observers = {region: Observer(region) for region in HOSTS}
        ends = threading.Event()

        def publish() -> None:
            while not ends.wait(0.05):
                for client in clients:
                    client.publish(f"from/{client.name}")

        publisher = threading.Thread(target=publish, daemon=True)
        publisher.start()
        names = [client.name for client in clients]
        wait_for(observers["east"], names, PATIENCE)
        times: dict[str, dict[str, list[float | None]]] = {name: {mode: [] for mode in MODES} for name in names}
        losses = {name: {mode: list[str]() for mode in MODES} for name in names}
        for number in range(flips):
            time.sleep(HOLD)
            mode = tuple(MODES)[number // 2 % 2]
            old, new = ("east", "west")[number % 2], ("west", "east")[number % 2]
            if mode == "1 s after":
                send_away(regions, old, names)
                observers[old].first.clear()
                wait_for(observers[old], names, PATIENCE)
                time.sleep(1)
            observers[new].first.clear()
            began = time.monotonic()
            regions.flip(NAME, new)
            while time.monotonic() < began + PATIENCE and (left := set(names) - set(observers[new].first)):
                send_away(regions, old, left)
                wait_for(observers[new], names, AGAIN)
            for name in names:
                at = observers[new].first.get(name)
                times[name][mode].append(None if at is None else at - began)
            for client in clients:
                if isinstance(client, Ours):
                    losses[client.name][mode].append("; ".join(client.losses[-2:]))
                    client.losses.clear()
            if sys.stderr.isatty():
                sys.stderr.write(f"switch {number + 1} of {flips}: {time.monotonic() - began:.1f} s\n")
        ends.set()
        publisher.join()
        for client in clients:
            client.close()
        for observer in observers.values():
            observer.close()
    return {"times": times, "losses": losses, "missing": missing}


def send_away(regions: Regions, region: str, names: Iterable[str]) -> None:
    """Have *region* end the connections of these clients."""
    for name in names:
        regions.kick(region, name)


def wait_for(observer: Observer, names: list[str], timeout: float) -> None:
    """Return when messages of all *names* were seen, or after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and set(names) - set(observer.first):
        time.sleep(0.002)


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """A row for each client: the seconds of each switch, None where it was given up, and whether that is met."""
    why = why_no_namespace()
    if why is not None:
        raise BrokerMissing(why)
    flips = FLIPS_QUICK if quick else FLIPS
    with tempfile.TemporaryDirectory() as folder:
        ended = in_namespace(
            Path(__file__), folder, str(flips), timeout=flips * (PATIENCE + HOLD) + 60, passes_errors=True
        )
    ended.check_returncode()
    seen = json.loads(ended.stdout.splitlines()[-1])
    rows = [
        {
            "client": name,
            "mode": mode,
            "seconds": seconds,
            "losses": seen["losses"][name][mode],
            "is_met": name.startswith("bare") or is_met(seconds),
        }
        for name, modes in seen["times"].items()
        for mode, seconds in modes.items()
    ]
    return rows + [{"client": name, "mode": "", "seconds": [], "is_met": True} for name in seen["missing"]]


def is_met(seconds: list[float | None]) -> bool:
    """Whether each switch was made in time."""
    return all(each is not None and each <= NEEDED for each in seconds)


def what(row: dict[str, Any]) -> str:
    """What a row is about, in a few words."""
    return f"{row['client']} within {NEEDED} s, {row['mode']} a look-up"


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Quickest, median and worst of each client, and how many times as long as ours on the same library."""
    head = ["Client", "Switches", "Quickest", "Median", "Worst", "Worst, as a multiple of ours"]
    made = []
    for mode, words in MODES.items():
        seconds = {r["client"]: [each or PATIENCE for each in r["seconds"]] for r in rows if r["mode"] == mode}
        shown = []
        for name, values in seconds.items():
            ours = seconds.get(f"switchgear-{name.removeprefix('bare-')}") if name.startswith("bare-") else None
            ratio = f"{max(values) / max(ours):.1f}" if ours else ""
            times = [f"{value:.2f} s" for value in (min(values), statistics.median(values), max(values))]
            shown.append([name, str(len(values)), *times, ratio])
        shown += [[r["client"], "not installed", *[""] * 4] for r in rows if not r["seconds"]]
        made.append((f"Switch and disconnect to the first message in the new region, {words}", head, shown))
    return made


def main() -> None:
    """What `measure` runs in the namespace."""
    folder = Path(sys.argv[1])
    enter(folder)
    sys.stdout.write(json.dumps(play(folder, int(sys.argv[2]))) + "\n")


if __name__ == "__main__":
    main()
