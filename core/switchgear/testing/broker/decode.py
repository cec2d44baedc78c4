"""Bytes to packets, for both versions and both directions. Pure: every rule of the wire format is checked here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from switchgear.testing.broker import properties as kinds
from switchgear.testing.broker.packets import (
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from switchgear.testing.broker.properties import NO_PROPERTIES, Properties, read_properties
from switchgear.testing.broker.reasons import (
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
    TOPIC_ALIAS_INVALID,
    UNSUPPORTED_VERSION,
)
from switchgear.testing.broker.wire import MalformedPacket, Reader, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Decoder:
    """Turns the bytes of one connection into packets, however they are cut.

    `version` is 4 or 5; a CONNECT sets it. A packet longer than *maximum_packet_size* bytes, its header
    included, is refused as soon as its length is known.
    """

    def __init__(self, *, version: int = 4, maximum_packet_size: int | None = None) -> None:
        self.version = version
        self._maximum = maximum_packet_size
        self._rest = bytearray()
        self._wanted = 0  # bytes of the packet that the rest begins with, as far as is known

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that *data* completes, in order.

        Each is decoded when it is asked for, so those before a broken one are still delivered.

        Raises:
            MalformedPacket: the stream cannot be read any further; the connection has to be closed.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return
            data = bytes(rest)
            rest.clear()
        at, end = 0, len(data)
        self._wanted = 0
        while end - at >= 2:
            size = data[at + 1]
            start = at + 2
            if size >= 0x80:
                found = _long_size(data, at + 1, end)
                if found is None:
                    break
                size, start = found
            stop = start + size
            if self._maximum is not None and stop - at > self._maximum:
                raise MalformedPacket(f"a packet of {stop - at} bytes", reason_code=PACKET_TOO_LARGE)
            if stop > end:
                self._wanted = stop - at
                break
            packet = decode(data[at], data[start:stop], version=self.version)
            at = stop
            if type(packet) is Connect:
                self.version = packet.version
            yield packet
        rest += data[at:]


def decode(first: int, body: bytes, *, version: int) -> Packet:
    """The packet with *first* as its first byte and *body* after the remaining length.

    Raises:
        MalformedPacket: it is none.
    """
    if first & 0xF0 == 0x30:
        return _publish(first, body, version)
    reader = Reader(body)
    try:
        read = _DECODERS[first]
    except KeyError:
        raise MalformedPacket(f"no packet begins with 0x{first:02x}") from None
    packet = read(reader, version)
    if reader.left:
        raise MalformedPacket(f"{reader.left} bytes too many in a packet that begins with 0x{first:02x}")
    return packet


def _long_size(data: bytes, at: int, end: int) -> tuple[int, int] | None:
    size = 0
    for index in range(4):
        if at + index == end:
            return None
        byte = data[at + index]
        size |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return size, at + index + 1
    raise MalformedPacket("a remaining length has more than four bytes")


def _publish(first: int, body: bytes, version: int) -> Publish:
    qos = first >> 1 & 0x03
    dup = first & 0x08 != 0
    if qos == 3 or (dup and not qos):
        raise MalformedPacket(f"a PUBLISH cannot begin with 0x{first:02x}")
    size = len(body)
    at = 2 + int.from_bytes(body[:2], "big")
    topic_end = at
    packet_id = 0
    if qos:
        at += 2
        packet_id = int.from_bytes(body[at - 2 : at], "big")
    if at > size or size < 2:
        raise MalformedPacket("a PUBLISH ends too soon")
    if qos and not packet_id:
        raise MalformedPacket("a packet id of 0", reason_code=PROTOCOL_ERROR)
    topic = read_text(body[2:topic_end])
    properties = NO_PROPERTIES
    if version == 5:
        if at < size and not body[at]:
            at += 1
        else:
            reader = Reader(body, at)
            properties = read_properties(reader, kinds.PUBLISH)
            at = size - reader.left
    if not topic or "+" in topic or "#" in topic:
        _check_topic(topic, properties)
    return Publish(topic, body[at:], qos, packet_id, first & 0x01 != 0, dup, properties)


def _check_topic(topic: str, properties: Properties = NO_PROPERTIES) -> str:
    if not topic:
        if properties.topic_alias is not None:
            raise MalformedPacket("topic aliases are not supported", reason_code=TOPIC_ALIAS_INVALID)
        raise MalformedPacket("a topic is empty", reason_code=PROTOCOL_ERROR)
    if "+" in topic or "#" in topic:
        raise MalformedPacket("a topic to publish to contains a wildcard")
    return topic


def _connect(reader: Reader, _: int) -> Connect:
    name, version = reader.blob(), reader.byte()
    if (name, version) not in ((b"MQTT", 4), (b"MQTT", 5)):
        raise MalformedPacket(f"protocol {name[:8]!r} level {version}", reason_code=UNSUPPORTED_VERSION)
    is_5 = version == 5
    flags, keepalive = reader.byte(), reader.two()
    properties = read_properties(reader, kinds.CONNECT) if is_5 else NO_PROPERTIES
    has_will, has_username, has_password = flags & 0x04, flags & 0x80, flags & 0x40
    will_qos = flags >> 3 & 0x03
    if flags & 0x01 or will_qos == 3 or (not has_will and flags & 0x38):
        raise MalformedPacket(f"CONNECT flags 0x{flags:02x}")
    if has_password and not has_username and not is_5:
        raise MalformedPacket("a password without a user name, which 3.1.1 forbids")
    client_id = reader.text()
    will = None
    if has_will:
        about = read_properties(reader, kinds.WILL) if is_5 else NO_PROPERTIES
        topic = _check_topic(reader.text())
        will = Will(topic, reader.blob(), will_qos, flags & 0x20 != 0, about)
    return Connect(
        client_id=client_id,
        version=version,
        clean=flags & 0x02 != 0,
        keepalive=keepalive,
        username=reader.text() if has_username else None,
        password=reader.blob() if has_password else None,
        will=will,
        properties=properties,
    )


def _connack(reader: Reader, version: int) -> Connack:
    flags, code = reader.byte(), reader.byte()
    if flags > 1:
        raise MalformedPacket(f"CONNACK flags 0x{flags:02x}")
    return Connack(code, flags == 1, read_properties(reader, kinds.CONNACK) if version == 5 else NO_PROPERTIES)


def _packet_id(reader: Reader) -> int:
    packet_id = reader.two()
    if not packet_id:
        raise MalformedPacket("a packet id of 0", reason_code=PROTOCOL_ERROR)
    return packet_id


def _ack(make: type[Ack], packet: int) -> Callable[[Reader, int], Ack]:
    def read(reader: Reader, version: int) -> Ack:
        packet_id = _packet_id(reader)
        if version != 5 or not reader.left:
            return make(packet_id)
        code = reader.byte()
        return make(packet_id, code, read_properties(reader, packet) if reader.left else NO_PROPERTIES)

    return read


def _subscribe(reader: Reader, version: int) -> Subscribe:
    is_5 = version == 5
    packet_id = _packet_id(reader)
    properties = read_properties(reader, kinds.SUBSCRIBE) if is_5 else NO_PROPERTIES
    found = []
    while reader.left:
        name, options = reader.text(), reader.byte()
        qos, handling = options & 0x03, options >> 4 & 0x03
        if qos == 3 or handling == 3 or options & 0xC0 or (options & 0xFC and not is_5):
            raise MalformedPacket(f"subscription options 0x{options:02x}", reason_code=PROTOCOL_ERROR)
        found.append(Subscription(name, qos, options & 0x04 != 0, options & 0x08 != 0, handling))
    if not found:
        raise MalformedPacket("a SUBSCRIBE without filters", reason_code=PROTOCOL_ERROR)
    return Subscribe(packet_id, tuple(found), properties)


def _suback(reader: Reader, version: int) -> Suback:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, kinds.SUBACK) if version == 5 else NO_PROPERTIES
    return Suback(packet_id, tuple(reader.rest()), properties)


def _unsubscribe(reader: Reader, version: int) -> Unsubscribe:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, kinds.UNSUBSCRIBE) if version == 5 else NO_PROPERTIES
    filters = []
    while reader.left:
        filters.append(reader.text())
    if not filters:
        raise MalformedPacket("an UNSUBSCRIBE without filters", reason_code=PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(filters), properties)


def _unsuback(reader: Reader, version: int) -> Unsuback:
    packet_id = _packet_id(reader)
    if version != 5:
        return Unsuback(packet_id)
    properties = read_properties(reader, kinds.UNSUBACK)
    return Unsuback(packet_id, tuple(reader.rest()), properties)


def _disconnect(reader: Reader, version: int) -> Disconnect:
    if version != 5 or not reader.left:
        return Disconnect()
    code = reader.byte()
    return Disconnect(code, read_properties(reader, kinds.DISCONNECT) if reader.left else NO_PROPERTIES)


def _auth(reader: Reader, version: int) -> Auth:
    if version != 5:
        raise MalformedPacket("3.1.1 has no AUTH")
    if not reader.left:
        return Auth()
    return Auth(reader.byte(), read_properties(reader, kinds.AUTH))


_DECODERS: Final[dict[int, Callable[[Reader, int], Packet]]] = {
    0x10: _connect,
    0x20: _connack,
    0x40: _ack(Puback, kinds.PUBACK),
    0x50: _ack(Pubrec, kinds.PUBREC),
    0x62: _ack(Pubrel, kinds.PUBREL),
    0x70: _ack(Pubcomp, kinds.PUBCOMP),
    0x82: _subscribe,
    0x90: _suback,
    0xA2: _unsubscribe,
    0xB0: _unsuback,
    0xC0: lambda _reader, _version: Pingreq(),
    0xD0: lambda _reader, _version: Pingresp(),
    0xE0: _disconnect,
    0xF0: _auth,
}
