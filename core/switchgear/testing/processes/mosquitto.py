"""A real mosquitto, one process."""

import base64
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from switchgear.testing.processes.child import BrokerMissing, Child
from switchgear.testing.processes.ledger import Entry, LoggedConnect, LoggedPublish, number, read_mosquitto
from switchgear.testing.processes.ports import HOST, free_port
from switchgear.testing.processes.probe import connect_answer, probe_context
from switchgear.testing.processes.tls_files import TlsFiles


def find_mosquitto() -> str:
    """The path of the mosquitto program.

    Raises:
        BrokerMissing: it is not on this machine.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise BrokerMissing("mosquitto is not on this machine; install the Debian package `mosquitto`")
    return program


_SECOND_LISTENER = "mosquitto.sock"  # relative to the folder: the path of a UNIX socket must be short


class Mosquitto:
    """One mosquitto on a loopback port, with its configuration, its log and its store in *folder*.

    It speaks MQTT 3.1, 3.1.1 and 5 and takes any number of messages. Without *users* it lets everybody in. *host* is a
    loopback address; *port* 0 chooses a free one, which then stays the same across restarts. With *persistence*
    sessions survive `kill`, but for the last moment: mosquitto acknowledges first and saves in its next turn (seen: less
    than 50 ms later). Without, sessions end with the process. *extra* is added to the configuration as it is. As a
    context manager it starts on entry, unless it runs already, and stops on exit.

    Raises:
        BrokerMissing: the program is not on this machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = HOST,
        port: int = 0,
        tls: TlsFiles | None = None,
        require_client_certificate: bool = False,
        websocket: bool = False,
        users: Mapping[str, str] | None = None,
        persistence: bool = False,
        extra: str = "",
    ) -> None:
        if require_client_certificate and tls is None:
            raise ValueError("require_client_certificate needs tls")
        self._program = find_mosquitto()
        self._folder = folder.resolve()
        self._host = host
        self._port = port or free_port()
        self._tls = tls
        self._require_client_certificate = require_client_certificate
        self._websocket = websocket
        self._users = dict(users or {})
        self._persistence = persistence
        self._extra = extra
        self._child = Child("mosquitto")
        self._folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Mosquitto {self.uri} {'running' if self.is_running else 'not running'}>"

    @property
    def log_file(self) -> Path:
        """The broker's log, which grows across restarts."""
        return self._folder / "mosquitto.log"

    @property
    def port(self) -> int:
        """The loopback port, the same for this object's whole life."""
        return self._port

    @property
    def uri(self) -> str:
        """Where to connect: `mqtt`, `mqtts`, `ws` or `wss`; the host is `localhost` with TLS, else its address."""
        scheme = "ws" if self._websocket else "mqtt"
        host = self._host
        if self._tls is not None:
            scheme, host = scheme + "s", "localhost"
        return f"{scheme}://{host}:{self._port}{'/mqtt' if self._websocket else ''}"

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._child.is_running

    def start(self, timeout: float = 10) -> None:
        """Start it, unless it runs, and return when it answers a CONNECT; *timeout* is in seconds.

        Any CONNACK will do, and with TLS an alert that refuses the probe.

        Raises:
            RuntimeError: it ended instead; the message holds what it said.
            TimeoutError: it did not answer in time. It is not left running.
        """
        if self.is_running:
            return
        config = self._folder / "mosquitto.conf"
        config.write_text(self._config(), encoding="utf-8")
        (self._folder / _SECOND_LISTENER).unlink(missing_ok=True)  # left by a killed one, it cannot be bound again
        said_before = self.log_file.stat().st_size if self.log_file.exists() else 0
        try:
            self._child.start(
                [self._program, "-c", str(config)], folder=self._folder, output=self._folder / "mosquitto.out"
            )
            self._wait_ready(timeout, said_before)
        except BaseException:
            self._child.kill()
            raise

    def kill(self) -> None:
        """End it with SIGKILL and return when it is gone."""
        self._child.kill()

    def stop(self) -> None:
        """End it with SIGTERM and return when it is gone."""
        self._child.stop()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: connections stay open, the kernel still accepts new ones, nothing is answered."""
        self._child.freeze()

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._child.thaw()

    def save(self, timeout: float = 10) -> None:
        """Have it write its store now (SIGUSR1), and return when that is on disk; *timeout* is in seconds.

        It acknowledges before it saves. What it acknowledged before this call survives `kill`; without *persistence*
        it stores nothing, and this waits in vain.

        Raises:
            RuntimeError: it does not run.
            TimeoutError: it was not saved in time, as when it is frozen.
        """
        pid, store = self.pid, self._folder / "mosquitto.db"
        if pid is None:
            raise RuntimeError("mosquitto does not run; start it first")
        before = _identity(store)
        os.kill(pid, signal.SIGUSR1)
        deadline = time.monotonic() + timeout
        while _identity(store) == before:  # it writes a new file and renames it
            if time.monotonic() >= deadline or self.pid is None:
                raise TimeoutError(f"mosquitto did not save {store} within {timeout} s")
            time.sleep(0.002)

    def entries(self) -> list[Entry]:
        """Its whole ledger: connects, PUBLISH packets that arrived and deliveries, also before restarts, in order."""
        return number(read_mosquitto(self.log_file))

    def publishes(self) -> list[LoggedPublish]:
        """Every PUBLISH packet that arrived, also before restarts, in order; refused ones are not in it."""
        return [entry for entry in self.entries() if isinstance(entry, LoggedPublish)]

    def connects(self) -> list[LoggedConnect]:
        """Every client that was let in, also before restarts, in order."""
        return [entry for entry in self.entries() if isinstance(entry, LoggedConnect)]

    def _wait_ready(self, timeout: float, said_before: int) -> None:
        deadline = time.monotonic() + timeout
        while not self._is_ready(said_before):
            if not self.is_running:
                raise RuntimeError(f"mosquitto ended while starting: {self._said(said_before)}")
            if time.monotonic() >= deadline:
                raise TimeoutError(f"mosquitto was not ready within {timeout} s: {self._said(said_before)}")
            time.sleep(0.005)

    def _is_ready(self, said_before: int) -> bool:
        # Another broker on our port would answer too, before ours has ended because of it: our own log decides.
        if b" running\n" not in self._logged(said_before):
            return False
        context = None
        if self._tls is not None:
            client = (str(self._tls.client_cert_file), str(self._tls.client_key_file))
            context = probe_context(*client) if self._require_client_certificate else probe_context(None, None)
        user = next(iter(self._users.items()), None)
        answer = connect_answer(self._port, host=self._host, user=user, context=context, websocket=self._websocket)
        return answer is not None and self.is_running

    def _logged(self, start: int) -> bytes:
        if not self.log_file.exists():
            return b""
        with self.log_file.open("rb") as log:
            log.seek(start)
            return log.read()

    def _said(self, start: int) -> str:
        printed = (self._folder / "mosquitto.out").read_bytes()
        return (self._logged(start)[-1000:] + printed[-1000:]).decode(errors="replace").strip() or "nothing"

    def _config(self) -> str:
        # Up to 2.0 it refuses to start with WebSocket listeners only (eclipse-mosquitto/mosquitto, issue 2284).
        second_listener = [f"listener 0 {_SECOND_LISTENER}"] if self._websocket else []
        lines = [
            *second_listener,
            f"listener {self._port} {self._host}",
            "socket_domain ipv4",  # without it a WebSocket listener binds to every address
            f"protocol {'websockets' if self._websocket else 'mqtt'}",
            f"log_dest file {self.log_file}",
            "log_type all",
            "log_timestamp true",
            "max_inflight_messages 0",
            "max_queued_messages 0",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # it would become `mosquitto`, who may not write here
        if self._tls is not None:
            lines += [
                f"cafile {self._tls.ca_file.resolve()}",
                f"certfile {self._tls.cert_file.resolve()}",
                f"keyfile {self._tls.key_file.resolve()}",
                f"require_certificate {'true' if self._require_client_certificate else 'false'}",
            ]
        if self._users:
            passwords = self._folder / "passwords"
            passwords.write_text(
                "".join(f"{name}:{_hash(password)}\n" for name, password in self._users.items()), encoding="utf-8"
            )
            passwords.chmod(0o600)
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        else:
            lines.append("allow_anonymous true")
        if self._persistence:
            lines += [
                "persistence true",
                f"persistence_location {self._folder}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        return "\n".join([*lines, self._extra, ""])


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file lies there, and since when; None: none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _hash(password: str) -> str:
    """*password* as `mosquitto_passwd` writes it: PBKDF2 with SHA-512 (format 7, mosquitto 2.0)."""
    salt, rounds = os.urandom(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
