"""Seconds from the moment a port of an ActiveMQ pair accepts to the first acknowledged message, beside its own client.

Two ActiveMQ 5.17 brokers on one store, as in Amazon MQ. Either the active one is killed and its standby takes over, or
both are killed, stay away for a while, and one is started again (which takes it about another second). ActiveMQ's
own Java client with its failover transport and its defaults speaks OpenWire, ours speak MQTT; each is timed from its own
port's opening. All suffer the same outages at the same time, and send a message every 20 ms. An open port of ActiveMQ
does not answer yet; how soon it does is most of what is seen here.
"""

import contextlib
import queue
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from switchgear.testing.processes import BrokerMissing, find_activemq, free_port

HERE = Path(__file__).resolve().parent
HOME = Path("/usr/share/activemq")
MQTT_JAR = Path("/usr/share/java/mqtt-client.jar")
TAKEOVER = 0.0
OUTAGES = {TAKEOVER: 10, 0.5: 10, 2.0: 10, 10.0: 10, 30.0: 10}
"""Seconds between the death of both and the start of one, and how often; `TAKEOVER`: the standby is there."""

QUICK = {TAKEOVER: 2, 0.5: 1}
PATIENCE = 60.0

XML = """<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
  http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
<broker xmlns="http://activemq.apache.org/schema/core" brokerName="pair" useJmx="false" dataDirectory="{folder}/data">
 <persistenceAdapter><kahaDB directory="{shared}" lockKeepAlivePeriod="500">
  <locker><shared-file-locker lockAcquireSleepInterval="500"/></locker></kahaDB></persistenceAdapter>
 <transportConnectors>
  <transportConnector name="openwire" uri="tcp://127.0.0.1:{openwire}"/>
  <transportConnector name="mqtt" uri="mqtt://127.0.0.1:{mqtt}"/>
 </transportConnectors>
</broker>
</beans>
"""

LOG4J = """log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%m%n
"""


class OneOfTwo:
    """One broker of the pair; unlike `ActiveMQPair` with an OpenWire port, without users, and without a ledger."""

    def __init__(self, folder: Path, shared: Path) -> None:
        self.folder, self.openwire, self.mqtt = folder, free_port(), free_port()
        (folder / "lib").mkdir(parents=True)
        (folder / "lib" / MQTT_JAR.name).symlink_to(MQTT_JAR.resolve())
        xml = XML.format(folder=folder, shared=shared, openwire=self.openwire, mqtt=self.mqtt)
        (folder / "broker.xml").write_text(xml, encoding="utf-8")
        (folder / "log4j.properties").write_text(LOG4J, encoding="ascii")
        self._log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it becomes active when the store is free."""
        folder = self.folder
        command = [
            find_activemq(),
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j.configuration={(folder / 'log4j.properties').as_uri()}",
            f"-Dactivemq.home={HOME}",
            f"-Dactivemq.base={folder}",
            f"-Dactivemq.conf={folder}",
            f"-Dactivemq.data={folder / 'data'}",
            "-jar",
            str(HOME / "bin" / "activemq.jar"),
            "start",
            f"xbean:{(folder / 'broker.xml').as_uri()}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """End it with SIGKILL, unless it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait_standby(self) -> None:
        """Return when it waits for the store.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + PATIENCE
        while b"waiting a lock to be acquired" not in self._log.read_bytes():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no standby; it said: {self._log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)


class Opening(threading.Thread):
    """Finds out when *port* accepts, to a few milliseconds."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.at: float | None = None
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.at is None and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as trial:
                    if trial.getsockname() != trial.getpeername():
                        self.at = time.monotonic()
            except OSError:
                time.sleep(0.002)


class Client:
    """A process that sends until it is closed, and writes the time of each acknowledgement that follows a pause."""

    def __init__(self, name: str, command: Sequence[str], *, speaks_mqtt: bool) -> None:
        self.name, self.speaks_mqtt = name, speaks_mqtt
        self.times: queue.Queue[float] = queue.Queue()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # Java's libraries print what they like
                self.times.put(float(line))

    def forget(self) -> None:
        """Drop what has been told so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.times.get_nowait()

    def next(self, after: float, until: float) -> float | None:
        """The first acknowledgement after *after*, when it comes before *until*."""
        while True:
            try:
                found = self.times.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if found >= after:
                return found

    def close(self) -> None:
        """End it."""
        with self._process as process:
            process.kill()
        self._thread.join()


def compile_java(folder: Path) -> list[str]:
    """The command that runs ActiveMQ's own client, without its ports.

    Raises:
        BrokerMissing: there is no compiler.
    """
    compiler = shutil.which("javac")
    if compiler is None:
        raise BrokerMissing("javac is not on this machine; install the Debian package `openjdk-17-jdk-headless`")
    path = f"{HOME / 'lib'}/*"
    source = HERE / "peers" / "Failover.java"
    subprocess.run([compiler, "-cp", path, "-d", str(folder), str(source)], check=True, timeout=120)
    return [find_activemq(), "-Xmx64m", "-XX:+UseSerialGC", "-cp", f"{folder}:{path}", "Failover"]


@contextmanager
def running(pair: Sequence[OneOfTwo], java: list[str]) -> Iterator[list[Client]]:
    """All clients, connected."""
    ours = [sys.executable, "-I", str(HERE / "peers" / "switchgear_client.py")]
    where = f"failover:({','.join(f'tcp://127.0.0.1:{broker.mqtt}' for broker in pair)})"
    clients: list[Client] = []
    try:
        for policy, name in (("fleet", "fleet(1 client, 50/s)"), ("default", "default")):
            clients.append(Client(name, [*ours, policy, f"bench/{policy}", where], speaks_mqtt=True))
        ports = [str(broker.openwire) for broker in pair]
        clients.append(Client("ActiveMQ failover (Java)", [*java, *ports], speaks_mqtt=False))
        for client in clients:
            if client.next(0.0, time.monotonic() + PATIENCE) is None:
                raise TimeoutError(f"{client.name} did not connect")
        yield clients
    finally:
        for client in clients:
            client.close()


def measure(*, quick: bool = False, seed: int = 1) -> list[dict[str, Any]]:
    """One row for each client and outage."""
    rng = random.Random(seed)
    found: dict[tuple[float, str], list[float]] = {}
    away: dict[float, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "java").mkdir()
        java = compile_java(folder / "java")
        shared = folder / "shared"
        shared.mkdir()
        pair = [OneOfTwo(folder / "a", shared), OneOfTwo(folder / "b", shared)]
        try:
            pair[0].start()
            Opening(pair[0].mqtt).join()
            with running(pair, java) as clients:
                active = 0
                for outage, count in (QUICK if quick else OUTAGES).items():
                    for number in range(count):
                        active, gone, times = switch(pair, active, outage, clients, rng)
                        away.setdefault(outage, []).append(gone)
                        for name, taken in times.items():
                            found.setdefault((outage, name), []).append(taken)
                        print(f"time_back_activemq: {outage:g} s, {number + 1} of {count}", file=sys.stderr, flush=True)
        finally:
            for broker in pair:
                broker.kill()
    return [
        {
            "client": name,
            "outage": outage,
            "away": statistics.median(away[outage]),
            "switches": len(times),
            "median": statistics.median(times),
            "worst": max(times),
            "is_met": True,
        }
        for (outage, name), times in found.items()
    ]


def switch(
    pair: Sequence[OneOfTwo], active: int, outage: float, clients: Sequence[Client], rng: random.Random
) -> tuple[int, float, dict[str, float]]:
    """One outage: who is active then, how long no MQTT port was open, and the seconds of each client."""
    if outage == TAKEOVER:
        pair[1 - active].start()
        pair[1 - active].wait_standby()
    time.sleep(rng.uniform(0.5, 1.5))
    for client in clients:
        client.forget()
    killed = time.monotonic()
    if outage == TAKEOVER:
        pair[active].kill()
        back = 1 - active
    else:
        for broker in pair:
            broker.kill()
        time.sleep(outage)
        back = rng.choice([0, 1])
        pair[back].start()
    openings = {True: Opening(pair[back].mqtt), False: Opening(pair[back].openwire)}
    times = {}
    for opening in openings.values():
        opening.join()
    mqtt_at, openwire_at = openings[True].at, openings[False].at
    if mqtt_at is None or openwire_at is None:
        raise TimeoutError("the broker did not come back")
    for client in clients:
        opened = mqtt_at if client.speaks_mqtt else openwire_at
        at = client.next(killed + 0.1, opened + PATIENCE)
        times[client.name] = PATIENCE if at is None else at - opened
    return back, mqtt_at - killed, times


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """One table."""
    head = ["client", "both down, s", "no open port, s", "switches", "median, s", "worst, s"]
    lines = [
        [
            row["client"],
            "takeover" if row["outage"] == TAKEOVER else f"{row['outage']:g}",
            f"{row['away']:.1f}",
            str(row["switches"]),
            seconds(row["median"]),
            seconds(row["worst"]),
        ]
        for row in rows
    ]
    return [("From the open port to the first acknowledged message", head, lines)]


def seconds(value: float) -> str:
    """Three decimals, or that it took longer than we waited."""
    return f"> {PATIENCE:g}" if value >= PATIENCE else f"{value:.3f}"
