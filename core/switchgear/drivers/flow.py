"""One MQTT connection from CONNECT on: the packets of messages by hand, the others through paho. Does I/O on its link.

Throughput is decided here: what is sent in one turn of the loop goes out in one write; a batch of acknowledgements is
read in one pass; nothing is copied that need not be.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from paho.mqtt.packettypes import PacketTypes

from switchgear.cause import Cause, Failure, from_exception, from_return_code
from switchgear.drivers.base import AttemptFailed, DriverSettings, Filter, Limits, Listener
from switchgear.drivers.heartbeat import Heartbeat
from switchgear.drivers.packets import (
    pack_length,
    pack_properties,
    read_length,
    read_limits,
    read_properties,
    read_reason,
    topics_of,
)
from switchgear.drivers.session import Session
from switchgear.errors import MessageTooLarge
from switchgear.message import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from switchgear.delivery import Delivery
    from switchgear.drivers.link_base import ByteLink
    from switchgear.drivers.paho import Codec

log = logging.getLogger("switchgear.drivers.paho")

GATHER: Final = 65536
"""Bytes that are gathered before they are written in the middle of a turn: asyncio's own high-water mark."""

LARGEST: Final = 268_435_455
"""Bytes of a packet after its fixed header (MQTT 5, 2.1.4)."""

_NO_ANSWER: Final = (
    "before it answered CONNECT; check that this port speaks MQTT {version}, and whether it wants TLS or WebSockets"
)

_CONNACK, _PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP = 2, 3, 4, 5, 6, 7
_SUBACK, _UNSUBACK, _PINGRESP, _DISCONNECT = 9, 11, 13, 14


class PahoConnection:
    """A connection on *link*; see `switchgear.drivers.base.Connection`."""

    def __init__(
        self,
        link: ByteLink,
        codec: Codec,
        session: Session,
        settings: DriverSettings,
        listener: Listener,
    ) -> None:
        self.session_present = False
        self.limits = Limits()
        self.in_flight = 0
        self.is_open = True
        self._loop = asyncio.get_running_loop()
        self.acknowledged: asyncio.Future[None] = self._loop.create_future()
        self._link = link
        self._codec = codec
        self._session = session
        self._settings = settings
        self._listener = listener
        self._is_v5 = settings.protocol == "5"
        self._tail = bytearray()
        self._wanted = 2  # bytes that the packet in _tail needs, as far as is known
        self._out: list[bytes] = []
        self._out_size = 0
        self._flush_is_due = False
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._heartbeat = Heartbeat(
            settings=settings,
            owed=lambda: self.in_flight,
            largest=lambda: max((len(each.payload) for each in self._session.deliveries.values()), default=0),
            send=self._queue,
            progress=link.progress,
            on_silent=self._lose,
            on_progress=self.link_writable,
        )

    def __repr__(self) -> str:
        return f"<PahoConnection {'open' if self.is_open else 'closed'} {self.in_flight} in flight>"

    @property
    def is_writable(self) -> bool:
        """Whether the write buffer takes more."""
        return self._link.is_writable and self._out_size < GATHER

    def open(self, connect_packet: bytes) -> None:
        """Send CONNECT; CONNACK ends `acknowledged`."""
        codec = self._codec
        codec.pipe.write = self._queue
        codec.on_connect = self._on_connack
        codec.on_subscribe = self._on_suback
        codec.on_unsubscribe = self._on_suback
        codec.on_disconnect = None
        self._link.attach(self)
        self._queue(connect_packet)
        self._write()  # at once: its turn in the CONNECT budget is now, and a turn of a busy loop takes long

    def listen(self, listener: Listener) -> None:
        """Report to *listener* from now on."""
        self._listener = listener

    def begin_session(self) -> Session:
        """The broker has no session of ours: ids of an older one mean nothing any more."""
        self._session = Session()
        return self._session

    # Sending. ----------------------------------------------------------------------------------------------------

    def send(self, delivery: Delivery) -> None:
        """Send *delivery*, or send it again. Raises `MessageTooLarge`."""
        qos = delivery.qos
        if qos == 0:
            self._queue(self._publish_packet(delivery, 0, 0))
            return
        packet_id = delivery.packet_id
        session = self._session
        if packet_id == 0:
            packet = self._publish_packet(delivery, session.next_id(), qos << 1)
        elif delivery.phase == 2:
            packet = bytes((0x62, 2, packet_id >> 8, packet_id & 0xFF))
        else:
            packet = self._publish_packet(delivery, packet_id, 8 | qos << 1)
        session.deliveries[delivery.packet_id] = delivery
        if delivery.phase == 0:
            delivery.phase = 1
        self.in_flight += 1
        self._queue(packet)

    def _publish_packet(self, delivery: Delivery, packet_id: int, flags: int) -> bytes:
        """PUBLISH (MQTT 5, 3.3). The delivery gets its packet id only when the packet can be sent."""
        topic = delivery.topic.encode()
        payload = delivery.payload
        head = len(topic).to_bytes(2, "big") + topic
        if packet_id:
            head += packet_id.to_bytes(2, "big")
        if self._is_v5:
            properties = delivery.properties
            left = None
            if delivery.expires_at is not None:
                left = max(1, round(delivery.expires_at - self._loop.time()))
            head += b"\0" if properties is None and left is None else pack_properties(properties, left)
        size = len(head) + len(payload)
        if delivery.retain:
            flags |= 1
        packet = bytes((0x30 | flags,)) + pack_length(size) + head + payload
        limit = self.limits.maximum_packet_size
        if size > LARGEST or (limit is not None and len(packet) > limit):
            whose = "the broker" if limit is not None else "MQTT"
            raise MessageTooLarge(delivery.topic, len(packet), limit or LARGEST, whose=whose)
        if packet_id:
            delivery.packet_id = packet_id
        return packet

    def _queue(self, packet: bytes) -> None:
        """Send *packet* with everything else of this turn of the loop; nothing on a closed connection."""
        if not self.is_open:
            return
        self._out.append(packet)
        self._out_size += len(packet)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        elif self._out_size >= GATHER:
            self._write()

    def _flush(self) -> None:
        self._flush_is_due = False
        self._write()

    def _write(self) -> None:
        out = self._out
        if out and self.is_open:
            self._heartbeat.sent = self._loop.time()
            data = out[0] if len(out) == 1 else b"".join(out)
            self._out = []
            self._out_size = 0
            self._link.write(data)

    async def subscribe(self, filters: Sequence[Filter]) -> list[int]:
        """One SUBSCRIBE; its SUBACK codes."""
        _, packet_id = self._codec.subscribe(topics_of(filters, is_v5=self._is_v5))
        return await self._answer(packet_id)

    async def unsubscribe(self, topic_filters: Sequence[str]) -> list[int]:
        """One UNSUBSCRIBE; its UNSUBACK codes."""
        _, packet_id = self._codec.unsubscribe(list(topic_filters))
        codes = await self._answer(packet_id)
        return codes or [0] * len(topic_filters)

    async def _answer(self, packet_id: int | None) -> list[int]:
        if not self.is_open or packet_id is None:
            raise ConnectionError("the connection is closed")
        future: asyncio.Future[list[int]] = self._loop.create_future()
        self._answers[packet_id] = future
        try:
            return await future
        finally:
            self._answers.pop(packet_id, None)
            self._session.requests.discard(packet_id)

    def acknowledge(self, token: object) -> None:
        """PUBACK or PUBREC for a received message."""
        if token is None:
            return
        assert isinstance(token, tuple)
        qos, packet_id, session = token
        answer = bytes((0x40 if qos == 1 else 0x50, 2, packet_id >> 8, packet_id & 0xFF))
        send = self._queue
        if qos == 2 and packet_id in session.received:
            session.received[packet_id] = True  # when it comes again, PUBREC answers it
            send = session.repeated.pop(packet_id, send)  # it has come again already, on a later connection
        send(answer)

    def ping(self) -> None:
        """PINGREQ, unless one is under way."""
        self._heartbeat.ping()

    async def disconnect(self) -> None:
        """DISCONNECT, flushed: otherwise the broker publishes the will."""
        if self.is_open:
            self._codec.disconnect()
            self._write()
            self._close()
            await self._link.close()

    def abort(self) -> None:
        """Drop it at once."""
        if self.is_open:
            self._close()
            self._link.abort()

    def _close(self) -> None:
        self.is_open = False
        self._heartbeat.stop()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(ConnectionError("the connection was lost"))
        if not self.acknowledged.done():
            self.acknowledged.cancel()

    # Receiving. --------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came: handle the packets that they complete. Part of `switchgear.drivers.link_base.Sink`."""
        if not self.is_open:
            return
        self._heartbeat.received = self._loop.time()
        tail = self._tail
        if tail:
            tail += data
            if len(tail) < self._wanted:
                return
            data = bytes(tail)
            tail.clear()
        if not self.acknowledged.done() and data[0] >> 4 != _CONNACK:
            self._lose(
                Failure(Cause.PROTOCOL_ERROR, "the first packet is no CONNACK; check that this port speaks MQTT")
            )
            return
        try:
            used = self._packets(data)
        except Exception as error:  # paho raises many kinds; none may pass into asyncio, which would hide it
            log.debug("switchgear.malformed_packet", exc_info=error)
            self._lose(
                Failure(Cause.PROTOCOL_ERROR, f"malformed packet from the broker ({error or type(error).__name__})")
            )
            return
        if not self.is_open:
            return
        if used < len(data):
            tail += data[used:]
        if self.acknowledged.done():
            self._listener.on_batch_end()

    def _packets(self, data: bytes) -> int:
        """Handle each whole packet in *data*; how many bytes they were."""
        position, end = 0, len(data)
        session = self._session
        deliveries = session.deliveries
        listener = self._listener
        self._wanted = 2
        while end - position >= 2:
            size = data[position + 1]
            start = position + 2
            if size > 127:
                size, start = read_length(data, position + 1, end)
                if size < 0:
                    break
                limit = self._settings.maximum_packet_size
                if limit is not None and size > limit:
                    raise ValueError(f"{size} bytes, more than the {limit} that we announced")
            stop = start + size
            if stop > end:
                self._wanted = stop - position
                break
            kind = data[position] >> 4
            if size < 2 and _PUBLISH <= kind <= _PUBCOMP:
                raise ValueError(f"packet type {kind} of {size} bytes")
            if kind == _PUBACK:
                delivery = deliveries.pop(data[start] << 8 | data[start + 1], None)
                if delivery is not None:
                    self.in_flight = max(0, self.in_flight - 1)  # it may be of the connection before
                    delivery.packet_id = delivery.phase = 0
                    listener.on_acknowledged(delivery, data[start + 2] if size > 2 else 0)
            elif kind == _PUBLISH:
                self._message(data[position], data[start:stop])
            elif kind == _PINGRESP:
                self._heartbeat.answered()
                listener.on_healthy()
            elif _PUBREC <= kind <= _PUBCOMP:
                self._exactly_once(kind, data[start] << 8 | data[start + 1], data[start + 2] if size > 2 else 0)
            else:
                self._control(kind, data[position:stop], data[start:stop])
                deliveries, session = self._session.deliveries, self._session
            position = stop
            if not self.is_open:  # the listener, or the packet, has ended it
                break
        return position

    def _exactly_once(self, kind: int, packet_id: int, code: int) -> None:
        """PUBREC, PUBREL and PUBCOMP (MQTT 5, 4.3.3)."""
        session = self._session
        high, low = packet_id >> 8, packet_id & 0xFF
        if kind == _PUBREL:
            session.received.pop(packet_id, None)
            self._queue(bytes((0x70, 2, high, low)))
            return
        delivery = session.deliveries.get(packet_id)
        if kind == _PUBREC:
            if delivery is None:
                self._queue(bytes((0x62, 2, high, low)))  # let the broker finish
            elif code < 0x80:
                delivery.phase = 2
                self._listener.on_healthy()
                self._queue(bytes((0x62, 2, high, low)))
        if delivery is not None and (kind == _PUBCOMP or code >= 0x80):
            del session.deliveries[packet_id]
            self.in_flight = max(0, self.in_flight - 1)  # it may be of the connection before
            delivery.packet_id = delivery.phase = 0
            # 0x92 in PUBCOMP: the broker no longer knows the id, for it has released the message before.
            self._listener.on_acknowledged(delivery, 0 if kind == _PUBCOMP else code)

    def _message(self, head: int, body: bytes) -> None:
        """PUBLISH (MQTT 5, 3.3)."""
        qos = head >> 1 & 3
        size = body[0] << 8 | body[1]
        position = 2 + size
        topic = body[2:position].decode()
        packet_id = 0
        if qos:
            packet_id = body[position] << 8 | body[position + 1]
            position += 2
        properties = None
        if qos == 3:
            raise ValueError("QoS 3")
        if qos and packet_id == 0:
            raise ValueError("packet id 0")
        if self._is_v5:
            if body[position] == 0:
                position += 1
            else:
                properties, used = read_properties(body[position:])
                position += used
        if position > len(body):
            raise ValueError("it ends too soon")
        token = None
        if qos:
            session = self._session
            token = (qos, packet_id, session)
            if qos == 2:
                handled = session.received.get(packet_id)
                if handled is not None:
                    if handled:
                        self._queue(bytes((0x50, 2, packet_id >> 8, packet_id & 0xFF)))
                    else:
                        session.repeated[packet_id] = self._queue
                    return
                session.received[packet_id] = False
        message = Message(topic, body[position:], qos, bool(head & 1), bool(head & 8), properties)
        self._listener.on_message(message, token)

    def _control(self, kind: int, packet: bytes, body: bytes) -> None:
        """The packets that paho decodes."""
        if kind == _CONNACK and self.acknowledged.done():
            raise ValueError("a second CONNACK")
        if kind == _CONNACK and not self._is_v5 and len(body) >= 2 and body[1]:
            self._refuse(from_return_code(body[1]))
        elif kind == _CONNACK and len(body) >= 2 and body[1] >= 0x80:
            self._refuse(read_reason(body[1:], PacketTypes.CONNACK))  # paho does not know all codes
        elif kind in {_CONNACK, _SUBACK, _UNSUBACK}:
            if kind != _CONNACK:
                self._listener.on_healthy()
            self._codec.pipe.feed(packet)
            if self._codec.loop_read() not in {0, 7}:
                raise ValueError(f"packet type {kind}")
        elif kind == _DISCONNECT and self._is_v5:
            self._lose(read_reason(body, PacketTypes.DISCONNECT))
        else:
            raise ValueError(f"packet type {kind}")

    def _on_connack(self, _client: object, _data: object, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if self.acknowledged.done() or reason.value:
            raise ValueError(f"CONNACK {reason}")
        self.session_present = bool(flags.session_present)
        if properties is not None and self._is_v5:
            self.limits = read_limits(properties)
            if self.limits.keepalive is not None:
                self._heartbeat.keepalive = self.limits.keepalive
        self.acknowledged.set_result(None)
        self._heartbeat.beat()

    def _refuse(self, failure: Failure) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_exception(AttemptFailed(failure))

    def _on_suback(self, _client: object, _data: object, packet_id: int, codes: Sequence[Any], _props: object) -> None:
        future = self._answers.get(packet_id)
        if future is not None and not future.done():
            future.set_result([code.value for code in codes])

    # The end. ----------------------------------------------------------------------------------------------------

    def link_lost(self, error: BaseException | None) -> None:
        """The link is over. Part of `switchgear.drivers.link_base.Sink`."""
        if isinstance(error, AttemptFailed):
            self._lose(error.failure)
        elif isinstance(error, TimeoutError):  # TCP_USER_TIMEOUT: it was no connect that took too long
            self._lose(Failure(Cause.KEEPALIVE_TIMEOUT, "what was sent was not taken in time"))
        else:
            self._lose(Failure(Cause.CLOSED_BY_BROKER) if error is None else from_exception(error))

    def link_writable(self) -> None:
        """The link takes more. Part of `switchgear.drivers.link_base.Sink`."""
        if self.is_open and self.acknowledged.done():
            self._listener.on_writable()

    def _lose(self, failure: Failure) -> None:
        if not self.is_open:
            return
        if not self.acknowledged.done():
            if failure.cause in {Cause.CONNECTION_LOST, Cause.CLOSED_BY_BROKER} and failure.code is None:
                failure = Failure(failure.cause, _NO_ANSWER.format(version="5" if self._is_v5 else "3.1.1"))
            self.acknowledged.set_exception(AttemptFailed(failure))
            return
        self._close()
        self._link.abort()
        self._listener.on_lost(failure)
