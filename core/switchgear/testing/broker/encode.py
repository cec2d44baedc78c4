"""Packets to bytes, for both versions. Pure: the caller vouches for the values, `decode` checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
    Unsuback,
    Unsubscribe,
)
from switchgear.testing.broker.properties import NO_PROPERTIES, write_properties
from switchgear.testing.broker.wire import blob, byte, text, two, varint

if TYPE_CHECKING:
    from collections.abc import Callable


def encode(packet: Packet, *, version: int) -> bytes:
    """The bytes of *packet* in protocol version 4 (3.1.1) or 5; what 3.1.1 cannot say is left out.

    A CONNECT is written in the version that it names.

    Raises:
        ValueError: a value does not fit its field, or the version has no such packet (AUTH in 3.1.1).
    """
    try:
        return _ENCODERS[type(packet)](packet, version)
    except OverflowError as error:
        raise ValueError(f"a number does not fit its field in {packet!r}") from error


def _frame(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return byte(first) + varint(len(body)) + body


def _connect(packet: Connect, _: int) -> bytes:
    flags = packet.clean << 1
    will = packet.will
    is_5 = packet.version == 5
    parts = [text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.is_retained << 5
        if is_5:
            parts.append(write_properties(will.properties))
        parts += (text(will.topic), blob(will.payload))
    if packet.username is not None:
        flags |= 0x80
        parts.append(text(packet.username))
    if packet.password is not None:
        flags |= 0x40
        parts.append(blob(packet.password))
    head = text("MQTT") + bytes((packet.version, flags)) + two(packet.keepalive)
    if is_5:
        head += write_properties(packet.properties)
    return _frame(0x10, head, *parts)


def _connack(packet: Connack, version: int) -> bytes:
    properties = write_properties(packet.properties) if version == 5 else b""
    return _frame(0x20, bytes((packet.session_present, packet.code)), properties)


def _publish(packet: Publish, version: int) -> bytes:
    qos = packet.qos
    first = 0x30 | qos << 1
    if packet.is_retained:
        first |= 0x01
    if packet.dup:
        first |= 0x08
    topic = packet.topic.encode()
    if len(topic) > 0xFFFF:
        raise ValueError("a topic has at most 65535 bytes")
    head = len(topic).to_bytes(2, "big") + topic
    if qos:
        head += packet.packet_id.to_bytes(2, "big")
    if version == 5:
        head += b"\0" if packet.properties is NO_PROPERTIES else write_properties(packet.properties)
    size = len(head) + len(packet.payload)
    if size < 0x80:
        return bytes((first, size)) + head + packet.payload
    return bytes((first,)) + varint(size) + head + packet.payload


def _ack(first: int) -> Callable[[Ack, int], bytes]:
    short = bytes((first, 2))

    def write(packet: Ack, version: int) -> bytes:
        packet_id = packet.packet_id.to_bytes(2, "big")
        if version != 5 or (not packet.code and packet.properties == NO_PROPERTIES):
            return short + packet_id
        if packet.properties == NO_PROPERTIES:
            return _frame(first, packet_id, byte(packet.code))
        return _frame(first, packet_id, byte(packet.code), write_properties(packet.properties))

    return write


def _subscribe(packet: Subscribe, version: int) -> bytes:
    parts = [two(packet.packet_id)]
    if version == 5:
        parts.append(write_properties(packet.properties))
    for one in packet.subscriptions:
        options = one.qos
        if version == 5:
            options |= one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4
        parts += (text(one.filter), byte(options))
    return _frame(0x82, *parts)


def _suback(packet: Suback, version: int) -> bytes:
    properties = write_properties(packet.properties) if version == 5 else b""
    return _frame(0x90, two(packet.packet_id), properties, bytes(packet.codes))


def _unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    properties = write_properties(packet.properties) if version == 5 else b""
    return _frame(0xA2, two(packet.packet_id), properties, *map(text, packet.filters))


def _unsuback(packet: Unsuback, version: int) -> bytes:
    if version != 5:
        return _frame(0xB0, two(packet.packet_id))
    return _frame(0xB0, two(packet.packet_id), write_properties(packet.properties), bytes(packet.codes))


def _last(first: int) -> Callable[[Disconnect | Auth, int], bytes]:
    def write(packet: Disconnect | Auth, version: int) -> bytes:
        if version != 5:
            if first == 0xF0:
                raise ValueError("3.1.1 has no AUTH")
            return _frame(first)
        if packet.properties != NO_PROPERTIES:
            return _frame(first, byte(packet.code), write_properties(packet.properties))
        if not packet.code:
            return _frame(first)
        # AUTH may not leave its properties out when it has a code: MQTT 5.0, 3.15.2.1.
        return _frame(first, byte(packet.code), b"\0" if first == 0xF0 else b"")

    return write


_ENCODERS: Final[dict[type, Callable[[Any, int], bytes]]] = {
    Connect: _connect,
    Connack: _connack,
    Publish: _publish,
    Puback: _ack(0x40),
    Pubrec: _ack(0x50),
    Pubrel: _ack(0x62),
    Pubcomp: _ack(0x70),
    Subscribe: _subscribe,
    Suback: _suback,
    Unsubscribe: _unsubscribe,
    Unsuback: _unsuback,
    Pingreq: lambda _packet, _version: b"\xc0\0",
    Pingresp: lambda _packet, _version: b"\xd0\0",
    Disconnect: _last(0xE0),
    Auth: _last(0xF0),
}
