"""A client made of packets: connected to a broker in memory, it sends and receives exactly what a test says.

No sockets, no threads; it needs a running loop, whose time may be virtual.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from switchgear.testing.broker.codec import Decoder, encode
from switchgear.testing.broker.packets import Connack, Connect, Packet

if TYPE_CHECKING:
    from switchgear.testing.broker.broker import Broker

_TURNS = 4  # of the loop: one to handle, one to write, one to close, one to spare


class MemoryTransport(asyncio.Transport):
    """The broker's transport: what it writes is kept, and closing it is noted."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_aborted = False
        self.is_half_closed = False
        self._is_closing = False
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what the broker writes; each call is one item of `written`."""
        if self.is_half_closed:
            raise RuntimeError("write() after write_eof()")
        if not self._is_closing:
            self.written.append(bytes(data))

    def close(self) -> None:
        """End the connection; the protocol hears of it in the next turn of the loop."""
        self.lose(None)

    def abort(self) -> None:
        """End the connection without a farewell."""
        self.is_aborted = True
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """End the connection as the network does: with an error, or with none for an orderly end."""
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._is_closing

    def can_write_eof(self) -> bool:
        """Yes, like TCP."""
        return True

    def write_eof(self) -> None:
        """Note the half-close."""
        self.is_half_closed = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing: there is no socket."""
        del name
        return default


class Peer:
    """A client of *broker* that does only what it is told: no acknowledgements, no pings of its own."""

    def __init__(self, broker: Broker, *, version: int = 5) -> None:
        self.version = version
        self._protocol = broker.protocol_factory()
        self.transport = MemoryTransport(self._protocol)
        self._decoder = Decoder(version=version)
        self._protocol.connection_made(self.transport)

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended, from either side."""
        return self.transport.is_closing()

    def send(self, *packets: Packet) -> None:
        """Send packets, in one piece."""
        self.send_bytes(b"".join(encode(packet, version=self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes; after the end of the connection nothing happens."""
        if not self.is_closed:
            self._protocol.data_received(data)

    async def received(self) -> list[Packet]:
        """What the broker has sent since the last call, once the loop has come to rest."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        data = b"".join(self.transport.written)
        self.transport.written.clear()
        return list(self._decoder.feed(data))

    async def ask(self, *packets: Packet) -> list[Packet]:
        """Send packets and return what the broker sends back."""
        self.send(*packets)
        return await self.received()

    async def connect(self, packet: Connect) -> Connack:
        """Send a CONNECT and return the CONNACK; what else comes is for the next call of `received`.

        Raises:
            ConnectionError: the broker did not answer with a CONNACK.
        """
        self.send(packet)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        data = b"".join(self.transport.written)
        self.transport.written.clear()
        for answer in Decoder(version=self.version).feed(data):
            if not isinstance(answer, Connack):
                break
            self.transport.written.append(data[len(encode(answer, version=self.version)) :])
            return answer
        raise ConnectionError(f"no CONNACK for {packet.client_id!r}")

    async def lose(self, error: Exception | None = None) -> None:
        """Vanish without a DISCONNECT."""
        self.transport.lose(error)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
