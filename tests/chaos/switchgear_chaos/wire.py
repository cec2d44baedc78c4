"""The few MQTT packets of those who are not under test: a client that steals a session, a broker that refuses. Sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"

_CONNACK_5 = {3: 0x88, 5: 0x87}  # 3.1.1 return codes in the words of MQTT 5: unavailable, not authorised


@frozen
class Taken:
    """What somebody found in the session of another: whether there was one, and what waits in it for an answer."""

    session_present: bool
    waiting: int


def connect_packet(client_id: str, user: tuple[str, str] | None) -> bytes:
    """CONNECT of MQTT 3.1.1 that takes the session as it is (section 3.1)."""
    body = b"\x00\x04MQTT\x04" + bytes([0xC0 if user else 0]) + b"\x00\x3c"
    for text in (client_id, *(user or ())):
        body += len(text).to_bytes(2, "big") + text.encode()
    return b"\x10" + bytes([len(body)]) + body


async def take_over(port: int, client_id: str, user: tuple[str, str] | None, seconds: float) -> Taken:
    """Be *client_id* for *seconds*, acknowledge nothing; what was found: PUBLISH of QoS 1 and 2, and PUBREL.

    Raises:
        OSError: the broker cannot be reached, or did not let us in.
    """
    reader, writer = await asyncio.open_connection(HOST, port)
    session_present: bool | None = None
    waiting = 0
    try:
        writer.write(connect_packet(client_id, user))
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(seconds):
                async for kind, body in _packets(reader):
                    if kind == 0x20 and body[1] == 0:
                        session_present = body[0] == 1
                    waiting += (kind >> 4 == 3 and kind & 6 != 0) or kind >> 4 == 6
    finally:
        writer.close()
    if session_present is None:
        raise ConnectionRefusedError(f"port {port} did not let {client_id} in within {seconds:g} s")
    return Taken(session_present, waiting)


async def _packets(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """The first byte of each packet, and what follows its length."""
    while True:
        first = (await reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield first, await reader.readexactly(length)


@contextlib.asynccontextmanager
async def refuser(code: int = 0, *, after_connect: bool = True) -> AsyncIterator[str]:
    """The address of something that takes connections and refuses CONNECT with *code*; 0: hangs up without a word.

    Without *after_connect* it hangs up before it has read one.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if after_connect or code:
                head = await reader.readexactly(9)  # the protocol level stands at 8 while the length has one byte
                if code:
                    is_5 = head[8] == 5
                    writer.write(bytes([0x20, 3, 0, _CONNACK_5[code], 0]) if is_5 else bytes([0x20, 2, 0, code]))
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
