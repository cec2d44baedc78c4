"""The driver on paho-mqtt, fed by asyncio: no thread and no socket of paho's own.

paho encodes and decodes CONNECT, SUBSCRIBE, UNSUBSCRIBE and DISCONNECT with their answers; it reads and writes an
in-memory socket. The packets of messages, which are nearly all packets, are handled in `switchgear.drivers.flow`.
A paho ``Client`` lives as long as an MQTT session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import paho.mqtt.client as mqtt
from attrs import evolve
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes

from switchgear.cause import Cause, Failure, from_exception
from switchgear.drivers.base import (
    AttemptFailed,
    ConnectRequest,
    DeafListener,
    Driver,
    DriverFeatures,
    DriverSettings,
    Link,
    Listener,
)
from switchgear.drivers.flow import PahoConnection
from switchgear.drivers.link import open_link
from switchgear.drivers.packets import properties_of
from switchgear.drivers.session import Session
from switchgear.drivers.websocket import WebSocketLink
from switchgear.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint

DRIVERS: Final = ("paho",)


class MemorySocket:
    """What paho takes for its socket: what it writes is handed on, what arrived is read."""

    def __init__(self) -> None:
        self.write: Callable[[bytes], None] = _discard
        self._arrived = bytearray()

    def feed(self, data: bytes) -> None:
        """*data* arrived."""
        self._arrived += data

    def send(self, data: bytes) -> int:
        """As a socket's."""
        self.write(bytes(data))
        return len(data)

    def recv(self, size: int) -> bytes:
        """As a non-blocking socket's."""
        if not self._arrived:
            raise BlockingIOError
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        return data

    def setblocking(self, _flag: bool) -> None:  # noqa: FBT001 - the signature is the socket's
        """It never blocks."""

    def fileno(self) -> int:
        """There is none."""
        return -1

    def close(self) -> None:
        """Nothing is held."""
        self.write = _discard


def _discard(_data: bytes) -> None:
    """Where bytes go that nobody waits for."""


class Codec(mqtt.Client):
    """paho's client over a `MemorySocket`. Two private names of paho's are overridden; a test watches them."""

    def __init__(self, settings: DriverSettings, session: Session, *, clean: bool) -> None:
        self.pipe = MemorySocket()
        self.first_write: Callable[[bytes], None] = _discard
        self.packet_ids = session
        is_v5 = settings.protocol == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if is_v5 else clean,
            protocol=mqtt.MQTTv5 if is_v5 else mqtt.MQTTv311,
            reconnect_on_failure=False,  # it would reconnect, and block, inside a callback
            manual_ack=True,
        )

    def _create_socket(self) -> Any:
        self.pipe = MemorySocket()
        self.pipe.write = self.first_write
        return self.pipe

    def _mid_generate(self) -> int:
        identifier = self.packet_ids.next_id()  # paho's own counter does not skip ids that are in use
        self.packet_ids.requests.add(identifier)
        return identifier


class PahoDriver:
    """paho-mqtt behind the driver port."""

    name = "paho"
    features = DriverFeatures()

    def __init__(
        self,
        settings: DriverSettings,
        *,
        opener: Callable[[Endpoint, DriverSettings], Awaitable[ByteLink]] = open_link,
    ) -> None:
        self._settings = settings
        self._opener = opener
        self._session = Session()
        self._codec: Codec | None = None

    async def dial(self, endpoint: Endpoint) -> Link:
        """Open TCP, TLS and WebSocket. Raises `AttemptFailed`."""
        stream = await self._opener(endpoint, self._settings)
        if not endpoint.is_websocket:
            return stream
        link = WebSocketLink(stream, endpoint)
        try:
            await link.upgraded(endpoint.connect_timeout or self._settings.connect_timeout)
        except BaseException:
            link.abort()
            raise
        return link

    async def connect(self, link: Link, request: ConnectRequest, listener: Listener) -> PahoConnection:
        """Send CONNECT and wait for CONNACK. Raises `AttemptFailed`."""
        if not request.clean_start or not request.keeps_session or self._settings.protocol == "5":
            return await self._connect(link, request, listener)
        # MQTT 3.1.1 cannot ask for a session that is both new and lasting (3.1.2.4). Ask for a lasting one; when the
        # broker had an old one, have it wiped by a connection that keeps none, and ask again.
        connection = await self._connect(link, request, DeafListener())
        if connection.session_present:
            await connection.disconnect()
            await (await self._again(evolve(request, keeps_session=False))).disconnect()
            connection = await self._again(request)
        connection.listen(listener)
        return connection

    async def _again(self, request: ConnectRequest) -> PahoConnection:
        """One more CONNECT, which the budget of a fleet counts too."""
        link = await self.dial(request.endpoint)
        if request.turn is not None:
            try:
                await request.turn()
            except BaseException:
                link.abort()
                raise
        return await self._connect(link, request, DeafListener())

    async def _connect(self, link: Link, request: ConnectRequest, listener: Listener) -> PahoConnection:
        """One CONNECT and its CONNACK."""
        session, codec = self._session_for(request)
        connection = PahoConnection(cast("ByteLink", link), codec, session, self._settings, listener)
        try:
            codec.username_pw_set(request.username, request.password)  # type: ignore[arg-type]  # paho takes bytes too
            self._set_will(codec)
            connection.open(self._connect_packet(codec, request))
            async with asyncio.timeout(request.timeout):
                await connection.acknowledged
        except TimeoutError as error:
            connection.abort()
            detail = f"no CONNACK from {request.endpoint.authority} in {request.timeout:g} s"
            raise AttemptFailed(Failure(Cause.CONNACK_TIMEOUT, detail)) from error
        except BaseException as error:
            connection.abort()
            if isinstance(error, AttemptFailed | asyncio.CancelledError):
                raise
            raise AttemptFailed(from_exception(error)) from error
        if not connection.session_present:
            session = connection.begin_session()
            codec.packet_ids = session
        self._session, self._codec = session, codec  # only now: a refused clean start leaves the old session as it was
        return connection

    def close(self) -> None:
        """Nothing is held but memory."""
        self._codec = None

    def _session_for(self, request: ConnectRequest) -> tuple[Session, Codec]:
        """The session and its client; new ones for a clean start."""
        is_new = request.clean_start or not request.keeps_session
        if not is_new and self._codec is not None:
            return self._session, self._codec
        session = Session()
        return session, Codec(self._settings, session, clean=not request.keeps_session)

    def _set_will(self, codec: Codec) -> None:
        will = self._settings.will
        if will is None:
            return
        properties = None
        if self._settings.protocol == "5":
            properties = properties_of(PacketTypes.WILLMESSAGE)
            if will.delay:
                properties.WillDelayInterval = will.delay
        codec.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    def _connect_packet(self, codec: Codec, request: ConnectRequest) -> bytes:
        """CONNECT, as paho writes it into the memory socket. Host and port are paho's to insist on; nothing uses them."""
        settings = self._settings
        packets: list[bytes] = []
        codec.first_write = packets.append
        if settings.protocol == "5":
            properties = properties_of(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = settings.session_expiry if request.keeps_session else 0
            properties.ReceiveMaximum = settings.receive_maximum
            if settings.maximum_packet_size is not None:
                properties.MaximumPacketSize = settings.maximum_packet_size
            codec.connect(
                request.endpoint.host,
                request.endpoint.port,
                settings.keepalive,
                clean_start=request.clean_start,
                properties=properties,
            )
        else:
            codec.connect(request.endpoint.host, request.endpoint.port, settings.keepalive)
        return b"".join(packets)


@hookimpl
def provide_driver(name: str, settings: DriverSettings) -> Driver | None:
    """The driver called ``paho``."""
    return PahoDriver(settings) if name == "paho" else None
