"""Two regions behind one custom domain, for tests on Linux: two mosquittos, a name server, a namespace of their own.

A region is a mosquitto with mutual TLS on the port and with the name that AWS IoT would have; the name is a CNAME with
TTL 0, and which region it leads to is switched. The system's resolver is the one that is asked, so all this happens in a
private mount and network namespace, where ``/etc/resolv.conf`` is ours and the loopback is nobody else's.
Touches processes, sockets, threads, files and, in the namespace only, mounts.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from switchgear.testing.dns import ThreadedDnsServer
from switchgear.testing.processes.mosquitto import Mosquitto
from switchgear.testing.processes.tls_files import make_tls_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.testing.processes.tls_files import TlsFiles

NAMES: Final = ("mqtt1.example.test", "mqtt2.example.test")
"""The custom domains."""

TARGETS: Final = {"east": "a1-ats.iot.east.aws.test", "west": "a1-ats.iot.west.aws.test"}
"""What the domains are aliases of: each region's own name."""

HOSTS: Final = {"east": "127.0.0.2", "west": "127.0.0.3"}
PORT: Final = 8883
OPEN_PORT: Final = 1883
"""Without TLS, for observers and for whoever plays the operator."""


class Regions:
    """East and west, both running, and every name of *NAMES* leading to east. Only in a namespace: see `in_namespace`.

    *files* are the certificates of both regions and of devices, else new ones; *west* those of the west where they differ.
    As a context manager it ends everything.

    Attributes:
        files: The common certificates.
        brokers: The mosquittos, by the region's name.
        dns: The name server that the system asks.
    """

    def __init__(self, folder: Path, *, files: TlsFiles | None = None, west: TlsFiles | None = None) -> None:
        self._folder = folder
        self.files = files or make_tls_files(folder / "tls", names=NAMES)
        self._tls = {"east": self.files, "west": west or self.files}
        self.dns = ThreadedDnsServer(port=53)
        self.brokers: dict[str, Mosquitto] = {}
        try:
            for region, host in HOSTS.items():
                self.dns.set_a(TARGETS[region], host)
                self.restart(region)
            for name in NAMES:
                self.flip(name, "east")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def flip(self, name: str, region: str) -> None:
        """Make *name* lead to *region* from now on."""
        self.dns.set_cname(name, TARGETS[region], ttl=0)

    def restart(self, region: str, *, refuses: bool = False) -> None:
        """Kill the broker of *region* if it runs, and start it; *refuses*: it lets nobody in."""
        if region in self.brokers:
            self.brokers[region].kill()
        files = self._tls[region]
        tls = [
            f"listener {PORT} {HOSTS[region]}",
            f"cafile {files.ca_file.resolve()}",
            f"certfile {files.cert_file.resolve()}",
            f"keyfile {files.key_file.resolve()}",
            "require_certificate true",
        ]
        self.brokers[region] = Mosquitto(
            self._folder / region,
            host=HOSTS[region],
            port=OPEN_PORT,  # where the probe asks whether it runs: it is no connection of a device
            users={"nobody": "knows"} if refuses else None,
            extra="\n".join(tls),
        )
        self.brokers[region].start()

    def kick(self, region: str, client_id: str) -> None:
        """End the connection of *client_id* at *region*: somebody else connects with that id for a moment (reason 0x8E)."""
        identity = client_id.encode()
        body = b"\x00\x04MQTT\x05\x02\x00\x0a\x00" + struct.pack("!H", len(identity)) + identity
        with socket.create_connection((HOSTS[region], OPEN_PORT), timeout=5) as connection:
            connection.sendall(bytes([0x10, len(body)]) + body)
            connection.recv(100)
            connection.sendall(b"\xe0\x00")

    def topics(self) -> set[str]:
        """Topics of all messages that reached a region."""
        return {entry.topic for broker in self.brokers.values() for entry in broker.publishes()}

    def close(self) -> None:
        """End everything. Again: nothing."""
        for broker in self.brokers.values():
            broker.stop()
        self.dns.close()


def why_no_namespace() -> str | None:
    """Why this process cannot have a namespace of its own; None: it can."""
    if sys.platform != "linux":
        return "private namespaces need Linux"
    program = shutil.which("unshare")
    if program is None:
        return "unshare (util-linux) is not on this machine"
    if os.geteuid() != 0:
        return "a private network and /etc/resolv.conf need root"
    tried = subprocess.run([program, "-mn", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"unshare -mn does not work here: {tried.stderr.strip()}"


def in_namespace(
    script: Path, *arguments: str, timeout: float, passes_errors: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run the Python program *script* in a namespace of its own; it calls `enter` first. *timeout* is in seconds.

    Its output is in the answer; with *passes_errors* its standard error is ours.
    """
    command = ["unshare", "-mn", "--kill-child", "--fork", sys.executable, "-I", str(script), *arguments]
    errors = None if passes_errors else subprocess.PIPE
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, timeout=timeout)


def enter(folder: Path) -> None:
    """Set up the namespace that this process runs in: the loopback, and the files that the system's resolver reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        import fcntl

        get_flags, set_flags, is_up = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
        flags = struct.unpack("16sh", fcntl.ioctl(any_socket, get_flags, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh", b"lo", flags | is_up))
    _replace(folder, "/etc/resolv.conf", ["nameserver 127.0.0.1", "options timeout:1 attempts:1"])
    _replace(folder, "/etc/nsswitch.conf", ["hosts: files dns", "passwd: files", "group: files"])
    _replace(folder, "/etc/hosts", ["127.0.0.1 localhost"])


def _replace(folder: Path, path: str, lines: Sequence[str]) -> None:
    """Have *path* show *lines*, in this mount namespace."""
    if not Path(path).exists():
        return
    ours = folder / Path(path).name
    ours.write_text("\n".join([*lines, ""]), encoding="ascii")
    subprocess.run(["mount", "--bind", str(ours), str(Path(path).resolve())], check=True)
