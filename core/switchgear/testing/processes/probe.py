"""Ask a broker whether it is ready: ready means that it answers CONNECT, not that it listens."""

import itertools
import os
import socket
import ssl

from switchgear.testing.processes.ports import HOST

PROBE_PREFIX = "switchgear-probe-"
"""Client ids of probes begin with this; the ledgers leave them out."""

TLS_ANSWERED = -1
"""The broker spoke TLS and refused the probe, as one with an expired client certificate is refused."""

_numbers = itertools.count(1)


def connect_answer(
    port: int,
    *,
    host: str = HOST,
    user: tuple[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    websocket: bool = False,
    timeout: float = 1.0,
) -> int | None:
    """The return code of the CONNACK that an MQTT 3.1.1 CONNECT gets on *port*; `None` where there is no answer.

    0 is accepted, 4 and 5 are refused credentials (MQTT 3.1.1 section 3.2.2.3). *timeout* is in seconds and holds for
    each step. `TLS_ANSWERED` stands for a TLS alert.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout) as plain:
            if plain.getsockname() == plain.getpeername():
                return None
            if context is None:
                return _ask(plain, user, websocket=websocket)
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                return _ask(secured, user, websocket=websocket)
    except ssl.SSLEOFError:
        return None
    except ssl.SSLError:
        return TLS_ANSWERED
    except OSError:
        return None


def probe_context(cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """A TLS context that accepts any broker: a probe finds out whether the broker runs, not whether it is the right one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context


def _ask(connection: socket.socket, user: tuple[str, str] | None, *, websocket: bool) -> int | None:
    packet = _connect_packet(user)
    if websocket:
        connection.sendall(
            f"GET /mqtt HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: c3dpdGNoZ2Vhci1wcm9iZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\n\r\n".encode("ascii")
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return None
            head += byte
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            return None
        packet = bytes([0x82, 0x80 | len(packet), 0, 0, 0, 0]) + packet  # one binary frame, masked with zeros
    connection.sendall(packet)
    if websocket and _read(connection, 2) != b"\x82\x04":
        return None
    answer = _read(connection, 4)
    if len(answer) < 4 or answer[:2] != b"\x20\x02":
        return None
    disconnect = b"\xe0\x00"
    connection.sendall(b"\x82\x82\0\0\0\0" + disconnect if websocket else disconnect)
    return answer[3]


def _read(connection: socket.socket, count: int) -> bytes:
    """*count* bytes, or fewer where the broker hung up."""
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            break
        data += more
    return data


def _connect_packet(user: tuple[str, str] | None) -> bytes:
    """CONNECT with a clean session, MQTT 3.1.1 section 3.1; short enough for one length byte and one WebSocket frame.

    Raises:
        ValueError: user name and password are too long for that.
    """
    flags = 0x02
    fields = [f"{PROBE_PREFIX}{os.getpid()}-{next(_numbers)}"]
    if user is not None:
        flags |= 0xC0
        fields += user
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x0a"
    for field in fields:
        data = field.encode()
        body += len(data).to_bytes(2, "big") + data
    if len(body) > 120:
        raise ValueError("the probe's user name and password take more than 70 bytes; use shorter ones in tests")
    return bytes([0x10, len(body)]) + body
