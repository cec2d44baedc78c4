"""MQTT over WebSockets: a layer between the TCP or TLS transport and a `Connection`. Does no I/O of its own.

Source: MQTT 5.0, section 6; the framing is that of the sans-IO part of `websockets`.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol


class WebSocket(asyncio.Protocol):
    """Speaks WebSocket with the client and hands *inner* what comes in binary frames."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._frames = ServerProtocol(subprotocols=[Subprotocol("mqtt")], max_size=None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the inner protocol know at once, so that it can be closed before the handshake is done."""
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(_Framed(self._transport, self._frames))

    def data_received(self, data: bytes) -> None:
        """Take frames apart; what is no WebSocket, or no binary frame, ends the connection."""
        frames = self._frames
        frames.receive_data(bytes(data))
        for event in frames.events_received():
            if isinstance(event, Request):
                frames.send_response(frames.accept(event))
            elif isinstance(event, Frame):
                if event.opcode is Opcode.TEXT:
                    frames.fail(1003, "MQTT is binary")
                elif event.opcode in (Opcode.BINARY, Opcode.CONT):
                    self._inner.data_received(bytes(event.data))
        _write_out(frames, self._transport)
        if frames.state is not State.OPEN and (frames.handshake_exc is not None or frames.close_expected()):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._inner.connection_lost(exc)


class _Framed(asyncio.Transport):
    """The transport that the inner protocol writes to."""

    def __init__(self, transport: asyncio.Transport, frames: ServerProtocol) -> None:
        super().__init__()
        self._transport = transport
        self._frames = frames

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._frames.state is State.OPEN:
            self._frames.send_binary(bytes(data))
            _write_out(self._frames, self._transport)

    def close(self) -> None:
        if self._frames.state is State.OPEN:
            self._frames.send_close(1000)
            _write_out(self._frames, self._transport)
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        self._transport.write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


def _write_out(frames: ServerProtocol, transport: asyncio.Transport) -> None:
    data = b"".join(frames.data_to_send())
    if data and not transport.is_closing():
        transport.write(data)
