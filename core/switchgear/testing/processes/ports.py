"""TCP ports on the loopback address."""

import random
import socket
import time
from pathlib import Path

HOST = "127.0.0.1"
_LOWEST = 15_000
_DEFAULT_EPHEMERAL = 32_768  # Linux's stock start of the range for outgoing connections
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nothing listens on, and that this process has not been given before.

    It lies below the range of the kernel's outgoing connections. A port inside that range can be taken by a client's
    own socket while the broker is down: the broker then cannot come back, and a client that retries can even connect
    to itself.

    Raises:
        OSError: no free port was found in 1000 tries.
    """
    highest = _ephemeral_start() - 1
    for _ in range(1000):
        port = random.randint(_LOWEST, highest)
        if port in _given:
            continue
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError(f"no free port between {_LOWEST} and {highest} in 1000 tries")


def _ephemeral_start() -> int:
    """The first port of the kernel's range for outgoing connections, or the stock value where that cannot be read."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _DEFAULT_EPHEMERAL
    return first if first > _LOWEST + 1000 else _DEFAULT_EPHEMERAL


def port_accepts(port: int) -> bool:
    """Whether a TCP connection to the loopback *port* is accepted within a second."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            return bool(connection.getsockname() != connection.getpeername())  # equal: connected to itself
    except OSError:
        return False


def wait_port(port: int, timeout: float) -> None:
    """Return once the loopback *port* accepts; *timeout* is in seconds.

    Raises:
        TimeoutError: it did not within *timeout*.
    """
    deadline = time.monotonic() + timeout
    while not port_accepts(port):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"port {port} did not accept within {timeout} s")
        time.sleep(0.01)
