from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from switchgear.testing.broker import Broker
from switchgear_awscrt import relay as module
from switchgear_awscrt.relay import Door, Relay

if TYPE_CHECKING:
    from switchgear.drivers.link_base import Sink

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


class FakeLink:
    """A link that keeps what it is given."""

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.written = b""
        self.is_open = self.is_writable = True
        self.is_aborted = False

    def progress(self) -> tuple[int, int]:
        """Part of `ByteLink`."""
        return 0, 0

    def attach(self, sink: Sink) -> None:
        self.sink = sink

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True

    abandon = abort

    async def close(self) -> None:
        self.is_open = False


async def connected(door: Door) -> socket.socket:
    """A client of *door*."""
    sock = socket.socket(socket.AF_UNIX if door.is_local else socket.AF_INET)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, door.host if door.is_local else (door.host, door.port))
    return sock


async def opened(link: FakeLink, **values: Any) -> tuple[Relay, socket.socket]:
    """A relay and the socket of its client."""
    relay = Relay(link, **{"target": None, "is_tls": False, **values})
    with Door() as door:
        sock = await connected(door)
        await relay.open(door)
    return relay, sock


@needs_unix
async def test_door_is_private() -> None:
    """Only this user may enter the folder of the socket, and nothing is left of either."""
    with Door() as door:
        folder = Path(door.host).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


@needs_unix
@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not say who connects")
async def test_other_processes_are_turned_away() -> None:
    """A process other than this one, though of the same user, is not taken for the SDK."""
    program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
    with Door() as door:
        accepting = asyncio.ensure_future(door.accept())
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program, door.host], capture_output=True, text=True, check=True
        )
        assert done.stdout == "b''\n"
        sock = await connected(door)
        (await accepting).close()
        sock.close()


async def test_without_unix_sockets(monkeypatch: pytest.MonkeyPatch, crt: Any, party: Any) -> None:
    """Where the system has no Unix sockets, a port of the loopback address does the same."""
    monkeypatch.setattr(module, "HAS_UNIX", False)
    with Door() as door:
        assert (door.is_local, door.host) == (False, "127.0.0.1")
    for scheme, tls in (("mqtt", None), ("mqtts", party.tls)):
        async with Broker() as broker:
            port = await broker.start(ssl=party.server() if tls else None)
            await (await crt.connect(crt.driver(tls=tls), crt.endpoint(scheme, port))).disconnect()
            assert [entry.code for entry in broker.ledger.connects()] == [0]


async def test_only_the_target_is_granted() -> None:
    """A request to be connected anywhere but to what was dialled is refused, and nothing goes out."""
    loop = asyncio.get_running_loop()
    for request in (b"CONNECT evil:1 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 10_000):
        link = FakeLink()
        _, sock = await opened(link, target="good:8883")
        await loop.sock_sendall(sock, request)
        assert (await loop.sock_recv(sock, 100)).startswith(b"HTTP/1.1 403")
        assert await loop.sock_recv(sock, 100) == b""
        assert (link.written, link.sink) == (b"", None)
        sock.close()


async def test_request_in_pieces() -> None:
    """A request that comes in pieces, with data behind it, is granted, and the data passed on."""
    loop = asyncio.get_running_loop()
    link = FakeLink()
    relay, sock = await opened(link, target="good:8883")
    for piece in (b"CONNECT good:8883 HT", b"TP/1.1\r\nHost: good:8883\r\n", b"\r\nhello"):
        await loop.sock_sendall(sock, piece)
        await asyncio.sleep(0.01)
    assert await loop.sock_recv(sock, 100) == b"HTTP/1.1 200 OK\r\n\r\n"
    assert link.written == b"hello"
    relay.abort()
    assert link.is_aborted
    sock.close()


def record(kind: int, size: int) -> bytes:
    """A TLS record."""
    return bytes((kind, 3, 3)) + size.to_bytes(2, "big") + b"\x17" * size


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
async def test_end_of_the_handshake(step: int) -> None:
    """The handshake is over with the first record of data, however the records are cut up."""
    relay = Relay(FakeLink(), target=None, is_tls=True)
    handshake = record(22, 300) + record(20, 1) + record(22, 40)
    for at in range(0, len(handshake), step):
        relay.sdk_sent(handshake[at : at + step])
    assert not relay.secured.done()
    relay.sdk_sent(record(23, 50))
    assert relay.secured.done()


async def test_back_pressure() -> None:
    """The SDK is not read from while the broker's side takes no more, and again when it does."""
    loop = asyncio.get_running_loop()
    link = FakeLink()
    rooms = 0

    def count() -> None:
        nonlocal rooms
        rooms += 1

    relay, sock = await opened(link)
    relay.on_room = count
    link.is_writable = False
    await loop.sock_sendall(sock, b"one")
    await asyncio.sleep(0.01)
    assert (link.written, rooms) == (b"one", 0)
    await loop.sock_sendall(sock, b"two")
    await asyncio.sleep(0.01)
    assert link.written == b"one"
    link.is_writable = True
    relay.link_writable()
    await asyncio.sleep(0.01)
    assert link.written == b"onetwo"
    assert rooms > 0
    relay.abort()
    sock.close()


async def test_end_of_the_broker() -> None:
    """What the broker sent last is read by the SDK before it sees the end, and why it ended is known."""
    loop = asyncio.get_running_loop()
    relay, sock = await opened(FakeLink())
    relay.data_received(b"last words")
    relay.link_lost(ConnectionResetError("gone"))
    assert relay.is_over
    assert isinstance(relay.error, ConnectionResetError)
    assert await loop.sock_recv(sock, 100) == b"last words"
    assert await loop.sock_recv(sock, 100) == b""
    sock.close()


def test_temporary_folder_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a folder for temporary files fails with the folder's name, and leaves nothing open."""
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="none"):
        Door()
