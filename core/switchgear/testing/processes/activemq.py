"""A real ActiveMQ Classic active-standby pair, two processes on one KahaDB store, as in Amazon MQ."""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from switchgear.testing.processes.activemq_files import BrokerFiles, write_files
from switchgear.testing.processes.child import BrokerMissing, Child
from switchgear.testing.processes.ledger import (
    Entry,
    LoggedConnect,
    LoggedPublish,
    number,
    read_activemq,
    topic_matches,
)
from switchgear.testing.processes.ports import HOST, free_port
from switchgear.testing.processes.probe import connect_answer
from switchgear.testing.processes.tls_files import TlsFiles

DEFAULT_USERS = {"admin": "admin-secret", "publisher": "publisher-secret", "subscriber": "subscriber-secret"}
"""User names and passwords of a pair that is given none."""

_HOME = Path("/usr/share/activemq")
_MQTT_JAR = Path("/usr/share/java/mqtt-client.jar")
_WAITING = b"waiting a lock to be acquired"  # what a broker logs when the other one has the store
_OWN_FAULT = b"java.util.ConcurrentModificationException\n"
"""What ActiveMQ 5.17.2 now and then ends of when it becomes active: a client comes while it starts its connectors (seen)."""


def find_activemq() -> str:
    """The path of the Java that is to run ActiveMQ.

    Raises:
        BrokerMissing: Java, ActiveMQ or its MQTT codec is not on this machine. Without the codec the MQTT port
            accepts and never answers.
    """
    java = shutil.which("java", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/bin")))
    missing = [
        package
        for package, is_there in (
            ("default-jre-headless", java is not None),
            ("activemq", (_HOME / "bin" / "activemq.jar").exists()),
            ("libmqtt-client-java", _MQTT_JAR.exists()),
        )
        if not is_there
    ]
    if java is None or missing:
        raise BrokerMissing(f"ActiveMQ cannot run on this machine; install the Debian packages {', '.join(missing)}")
    return java


class ActiveMQPair:
    """Two ActiveMQ brokers on one store in *folder*: one is active, the other waits for the store's lock.

    The standby's ports refuse until it has the lock; it looks for it every *lock_interval_ms* milliseconds. A frozen
    broker keeps the lock. The users `admin`, `publisher` and `subscriber` may do what their names say, any other may
    publish and subscribe. Without *subscribers_create* a subscription to a topic that does not exist is refused (0x80);
    without *advisory_entry* too, whoever may not create topics is refused (CONNACK 5) after each start until somebody
    who may has come. With *tls* each broker has a second port, which speaks TLS. MQTT 3.1.1 only, and an empty
    client id is refused. As a context manager it starts on entry, unless it runs already, and stops on exit.

    A *configuration* is both brokers' XML instead of the pair's own; ``${switchgear.port}``, ``${switchgear.store}`` and
    ``${switchgear.data}`` in it stand for a broker's MQTT port, the folder of the common store and the broker's own. Give
    the *users* that it has. There is no ledger then, and no *tls*.

    Attributes:
        revived: How many brokers were started again because they had ended of a fault of ActiveMQ's own.

    Raises:
        BrokerMissing: one of the programs is not on this machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str] | None = None,
        lock_interval_ms: int = 500,
        tls: TlsFiles | None = None,
        subscribers_create: bool = True,
        advisory_entry: bool = True,
        configuration: str | None = None,
    ) -> None:
        if configuration is not None and tls is not None:
            raise ValueError("a configuration of one's own says itself what speaks TLS; leave out `tls`")
        self._configuration = configuration
        self._java = find_activemq()
        self._users = dict(DEFAULT_USERS if users is None else users)
        if not self._users:
            raise ValueError("a pair without users lets nobody in; leave `users` out for the stock ones")
        self._lock_interval_ms = lock_interval_ms
        self._tls = tls
        self._subscribers_create = subscribers_create
        self._advisory_entry = advisory_entry
        folder = folder.resolve()
        self._files = tuple(
            BrokerFiles(
                folder=folder / f"broker-{index}",
                shared=folder / "shared",
                port=free_port(),
                tls_port=free_port() if tls is not None else None,
            )
            for index in (0, 1)
        )
        self._children = (Child("activemq-0"), Child("activemq-1"))
        self._logged_before = [0, 0]
        self._is_wanted = [False, False]
        self.revived = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ActiveMQPair {self.failover_uri}>"

    @property
    def users(self) -> dict[str, str]:
        """User names and their passwords."""
        return dict(self._users)

    @property
    def ports(self) -> tuple[int, int]:
        """The MQTT ports, by index."""
        return self._files[0].port, self._files[1].port

    @property
    def tls_ports(self) -> tuple[int, int]:
        """The ports that speak MQTT over TLS, by index.

        Raises:
            ValueError: the pair was made without *tls*.
        """
        first, second = self._files[0].tls_port, self._files[1].tls_port
        if first is None or second is None:
            raise ValueError("this pair was made without `tls`")
        return first, second

    @property
    def uris(self) -> tuple[str, str]:
        """Where to connect, by index."""
        return f"mqtt://{HOST}:{self.ports[0]}", f"mqtt://{HOST}:{self.ports[1]}"

    @property
    def tls_uris(self) -> tuple[str, str]:
        """Where to connect with TLS, by index; raises as `tls_ports` does."""
        return f"mqtts://localhost:{self.tls_ports[0]}", f"mqtts://localhost:{self.tls_ports[1]}"

    @property
    def failover_uri(self) -> str:
        """Both brokers in ActiveMQ's own notation."""
        return f"failover:(tcp://{HOST}:{self.ports[0]},tcp://{HOST}:{self.ports[1]})"

    @property
    def pids(self) -> tuple[int | None, int | None]:
        """The processes' ids, by index, while they run."""
        return self._children[0].pid, self._children[1].pid

    @property
    def log_files(self) -> tuple[Path, Path]:
        """The brokers' logs, by index, which grow across restarts."""
        return self._files[0].log, self._files[1].log

    @property
    def active(self) -> int | None:
        """The index of the broker that accepts a CONNECT at this moment; it is asked, which can take 2 seconds."""
        return next((index for index in (0, 1) if self._accepts(index, 1.0)), None)

    def is_running(self, index: int) -> bool:
        """Whether this broker's process exists; a frozen one does."""
        return self._children[index].is_running

    def start(self, timeout: float = 60) -> None:
        """Start the brokers that do not run, and return when one accepts a CONNECT; *timeout* is in seconds.

        The other one may still be starting: see `wait_standby`.

        Raises:
            RuntimeError: one ended instead; the message holds what it said.
            TimeoutError: none accepted in time. No broker is left running in either case.
        """
        try:
            for index in (0, 1):
                if not self.is_running(index):
                    self.start_broker(index)
            self.wait_active(timeout)
        except BaseException:
            self._kill_both()
            raise

    def start_broker(self, index: int) -> None:
        """Start this broker, unless it runs, and return at once; it becomes active if the store's lock is free."""
        if self.is_running(index):
            return
        self._is_wanted[index] = True
        files = self._files[index]
        write_files(
            files,
            users=self._users,
            lock_interval_ms=self._lock_interval_ms,
            tls=self._tls,
            mqtt_jar=_MQTT_JAR,
            subscribers_create=self._subscribers_create,
            advisory_entry=self._advisory_entry,
        )
        if self._configuration is not None:
            files.xml.write_text(self._configuration, encoding="utf-8")
        self._logged_before[index] = files.log.stat().st_size if files.log.exists() else 0
        self._children[index].start(
            [
                self._java,
                "-Xmx256m",
                "-XX:+UseSerialGC",  # two cores carry two brokers and the tests
                "-XX:TieredStopAtLevel=1",  # starts in half the time
                "-XX:-UsePerfData",
                "-Duser.timezone=UTC",  # the ledger's times
                "-Djava.net.preferIPv4Stack=true",
                f"-Dlog4j.configuration={files.log4j.as_uri()}",
                f"-Dactivemq.home={_HOME}",
                f"-Dactivemq.base={files.folder}",
                f"-Dactivemq.conf={files.folder}",
                f"-Dactivemq.data={files.folder / 'data'}",
                f"-Dswitchgear.port={files.port}",
                f"-Dswitchgear.store={files.shared}",
                f"-Dswitchgear.data={files.folder / 'data'}",
                "-jar",
                str(_HOME / "bin" / "activemq.jar"),
                "start",
                f"xbean:{files.xml.as_uri()}",
            ],
            folder=files.folder,
            output=files.output,
        )

    def wait_active(self, timeout: float) -> int:
        """The index of the broker that accepts a CONNECT, as soon as one does; *timeout* is in seconds.

        Raises:
            RuntimeError: neither broker runs.
            TimeoutError: none accepted in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            for index in (0, 1):
                if self._accepts(index, max(0.1, min(1.0, deadline - time.monotonic()))):
                    return index
            self._revive()
            if not self.is_running(0) and not self.is_running(1):
                raise RuntimeError(f"neither broker runs; they said: {self._said(0)}\n---\n{self._said(1)}")
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"no broker accepted within {timeout} s; they said: {self._said(0)}\n---\n{self._said(1)}"
                )
            time.sleep(0.01)

    def wait_standby(self, timeout: float) -> int:
        """The index of the broker that waits for the store's lock, as soon as one does; *timeout* is in seconds.

        Raises:
            TimeoutError: none was waiting in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._revive()
            for index in (0, 1):  # each probe is several lines in the log, so the log is looked at first
                if self.is_running(index) and _WAITING in self._logged(index) and self.active != index:
                    return index
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"no standby within {timeout} s; the brokers said: {self._said(0)}\n---\n{self._said(1)}"
                )
            time.sleep(0.02)

    def kill_active(self) -> int:
        """End the active broker with SIGKILL and return its index when it is gone.

        Raises:
            RuntimeError: no broker is active.
        """
        active = self.active
        if active is None:
            raise RuntimeError("no broker is active; `wait_active` waits for one")
        self.kill(active)
        return active

    def kill(self, index: int) -> None:
        """End this broker with SIGKILL and return when it is gone."""
        self._is_wanted[index] = False
        self._children[index].kill()

    def freeze(self, index: int) -> None:
        """Stop this broker with SIGSTOP: it keeps the lock, the kernel still accepts for it, nothing is answered."""
        self._children[index].freeze()

    def thaw(self, index: int) -> None:
        """Let this broker go on after `freeze`."""
        self._children[index].thaw()

    def stop(self) -> None:
        """End both brokers with SIGTERM and return when they are gone."""
        self._is_wanted = [False, False]
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.stop()

    def ledger(self, topic_filter: str = "#") -> list[LoggedPublish]:
        """Every PUBLISH packet that either broker accepted, also before restarts, in order.

        What the authorization map forbids is not in it, although ActiveMQ acknowledges that.
        """
        return [
            entry
            for entry in self.entries()
            if isinstance(entry, LoggedPublish) and topic_matches(topic_filter, entry.topic)
        ]

    def publishes(self) -> list[LoggedPublish]:
        """The whole ledger, under the name it has in `Mosquitto`."""
        return self.ledger()

    def connects(self) -> list[LoggedConnect]:
        """Every client that either broker let in, also before restarts, in order."""
        return [entry for entry in self.entries() if isinstance(entry, LoggedConnect)]

    def entries(self) -> list[Entry]:
        """The whole ledger: connects, PUBLISH packets that were accepted and deliveries, also before restarts, in order."""
        # A connection's entries come in order and sorting is stable, so it only interleaves connections and brokers.
        entries = [entry for index in (0, 1) for entry in read_activemq(self._files[index].log, broker=index)]
        return number(sorted(entries, key=lambda entry: entry.time))

    def _accepts(self, index: int, timeout: float) -> bool:
        child = self._children[index]
        if not child.is_running or child.is_frozen:
            return False
        name = "admin" if "admin" in self._users else next(iter(self._users))
        user = (name, self._users[name])
        return connect_answer(self._files[index].port, user=user, timeout=timeout) == 0

    def _logged(self, index: int) -> bytes:
        """What this broker logged since its last start."""
        try:
            with self._files[index].log.open("rb") as log:
                log.seek(self._logged_before[index])
                return log.read()
        except FileNotFoundError:
            return b""

    def _said(self, index: int) -> str:
        output = self._files[index].output
        printed = output.read_bytes() if output.exists() else b""
        return (printed[-500:] + self._logged(index)[-1500:]).decode(errors="replace").strip() or "nothing"

    def _kill_both(self) -> None:
        for index in (0, 1):
            self.kill(index)

    def _revive(self) -> None:
        """Start a broker again that has ended of ActiveMQ's own fault, as whoever looks after it would."""
        for index in (0, 1):
            if self._is_wanted[index] and not self.is_running(index) and _OWN_FAULT in self._logged(index):
                self.start_broker(index)
                self.revived += 1
