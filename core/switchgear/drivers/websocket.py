"""MQTT in WebSocket frames (MQTT 5, section 6): a link over a link, through the sans-IO protocol of `websockets`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri as parse_ws_uri

from switchgear.cause import Cause, Failure, from_exception
from switchgear.drivers.base import AttemptFailed
from switchgear.drivers.link_base import LayeredLink

if TYPE_CHECKING:
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint


class WebSocketLink(LayeredLink):
    """Speaks WebSocket on a `ByteLink` and is one."""

    def __init__(self, stream: ByteLink, endpoint: Endpoint) -> None:
        super().__init__(stream)
        uri = parse_ws_uri(f"{endpoint.scheme}://{endpoint.authority}{endpoint.path}")
        # No limit of frames: one may hold several packets (MQTT-6.0.0-2), each of which is measured by itself.
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")], max_size=None)
        self._upgraded: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        stream.attach(self)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    async def upgraded(self, timeout: float) -> None:
        """Wait for the answer to the upgrade, *timeout* seconds at most.

        Raises:
            AttemptFailed: refused, or no answer.
        """
        assert self._upgraded is not None
        try:
            async with asyncio.timeout(timeout):
                await self._upgraded
        except TimeoutError as error:
            detail = f"no answer to the WebSocket upgrade in {timeout:g} s"
            raise AttemptFailed(Failure(Cause.WEBSOCKET_REFUSED, detail)) from error
        except InvalidHandshake as error:
            raise AttemptFailed(Failure(Cause.WEBSOCKET_REFUSED, str(error))) from error
        except OSError as error:
            failure = from_exception(error)
            if failure.cause is Cause.CONNECTION_LOST:
                why = "the connection was closed during the upgrade; check that this port speaks WebSocket"
                failure = Failure(Cause.WEBSOCKET_REFUSED, why)
            raise AttemptFailed(failure) from error
        finally:
            self._upgraded = None

    def write(self, data: bytes) -> None:
        """Send *data* as one binary frame."""
        if not self._is_over:
            self._protocol.send_binary(data)
            self._flush()

    def _say_goodbye(self) -> None:
        """A close frame (RFC 6455, 5.5.1)."""
        self._protocol.send_close(1000)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._below.write(data)

    # What the link below calls.

    def data_received(self, data: bytes) -> None:
        """Part of `Sink`."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._answered()
            elif isinstance(event, Frame) and event.opcode in {Opcode.BINARY, Opcode.CONT, Opcode.TEXT}:
                self._deliver(bytes(event.data))
        self._flush()
        error = self._protocol.handshake_exc or self._protocol.parser_exc
        if self._upgraded is not None:
            if error is not None:
                self._answered()
        elif error is not None:
            self._end(AttemptFailed(Failure(Cause.PROTOCOL_ERROR, f"WebSocket: {error}")))
        elif self._protocol.close_rcvd is not None:
            self._end(None)

    def _answered(self) -> None:
        if self._upgraded is not None and not self._upgraded.done():
            if self._protocol.handshake_exc is None:
                self._upgraded.set_result(None)
            else:
                self._upgraded.set_exception(self._protocol.handshake_exc)

    def link_lost(self, error: BaseException | None) -> None:
        """Part of `Sink`."""
        if self._upgraded is not None and not self._upgraded.done():
            self._upgraded.set_exception(error or ConnectionResetError("closed during the WebSocket upgrade"))
        self._end(error)
