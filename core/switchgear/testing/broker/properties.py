"""The properties of MQTT 5: one value class, and its bytes. Pure.

Source: MQTT 5.0, section 2.2.2; the table below is its table 2-4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from switchgear.testing.broker import wire
from switchgear.testing.broker.reasons import PROTOCOL_ERROR
from switchgear.testing.broker.wire import MalformedPacket, Reader

if TYPE_CHECKING:
    from collections.abc import Callable


@frozen(kw_only=True)
class Properties:
    """Properties of one packet; `None` or an empty tuple means that the packet does not carry it.

    Intervals are in seconds, maxima in packets (`receive_maximum`) or bytes (`maximum_packet_size`).
    """

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_interval: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None


NO_PROPERTIES: Final = Properties()

# Packet types by their number in the fixed header; a will has properties of its own.
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH, WILL = range(9, 17)

_MESSAGE: Final = frozenset({PUBLISH, WILL})
_HANDSHAKE: Final = frozenset({CONNECT, CONNACK})
_ANSWER: Final = frozenset({CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH})
_ANY: Final = frozenset(range(CONNECT, WILL + 1)) - {PINGREQ, PINGRESP}


@frozen
class Kind:
    """How one property is written: its identifier, its field above, its type, where and with which values it may stand."""

    identifier: int
    name: str
    type: str
    packets: frozenset[int]
    lowest: int = 0
    highest: int | None = None

    @property
    def is_repeated(self) -> bool:
        """Whether a packet may carry it more than once."""
        return self.name.endswith("s") and self.type in ("varint", "pair")


KINDS: Final = (
    Kind(0x01, "payload_format_indicator", "byte", _MESSAGE, highest=1),
    Kind(0x02, "message_expiry_interval", "four", _MESSAGE),
    Kind(0x03, "content_type", "text", _MESSAGE),
    Kind(0x08, "response_topic", "text", _MESSAGE),
    Kind(0x09, "correlation_data", "blob", _MESSAGE),
    Kind(0x0B, "subscription_identifiers", "varint", frozenset({PUBLISH, SUBSCRIBE}), lowest=1),
    Kind(0x11, "session_expiry_interval", "four", _HANDSHAKE | {DISCONNECT}),
    Kind(0x12, "assigned_client_identifier", "text", frozenset({CONNACK})),
    Kind(0x13, "server_keep_alive", "two", frozenset({CONNACK})),
    Kind(0x15, "authentication_method", "text", _HANDSHAKE | {AUTH}),
    Kind(0x16, "authentication_data", "blob", _HANDSHAKE | {AUTH}),
    Kind(0x17, "request_problem_information", "byte", frozenset({CONNECT}), highest=1),
    Kind(0x18, "will_delay_interval", "four", frozenset({WILL})),
    Kind(0x19, "request_response_information", "byte", frozenset({CONNECT}), highest=1),
    Kind(0x1A, "response_information", "text", frozenset({CONNACK})),
    Kind(0x1C, "server_reference", "text", frozenset({CONNACK, DISCONNECT})),
    Kind(0x1F, "reason_string", "text", _ANSWER),
    Kind(0x21, "receive_maximum", "two", _HANDSHAKE, lowest=1),
    Kind(0x22, "topic_alias_maximum", "two", _HANDSHAKE),
    Kind(0x23, "topic_alias", "two", frozenset({PUBLISH}), lowest=1),
    Kind(0x24, "maximum_qos", "byte", frozenset({CONNACK}), highest=1),
    Kind(0x25, "retain_available", "byte", frozenset({CONNACK}), highest=1),
    Kind(0x26, "user_properties", "pair", _ANY),
    Kind(0x27, "maximum_packet_size", "four", _HANDSHAKE, lowest=1),
    Kind(0x28, "wildcard_subscription_available", "byte", frozenset({CONNACK}), highest=1),
    Kind(0x29, "subscription_identifier_available", "byte", frozenset({CONNACK}), highest=1),
    Kind(0x2A, "shared_subscription_available", "byte", frozenset({CONNACK}), highest=1),
)
_BY_IDENTIFIER: Final = {kind.identifier: kind for kind in KINDS}
_WRITE: Final[dict[str, Callable[[Any], bytes]]] = {
    "byte": wire.byte,
    "two": wire.two,
    "four": wire.four,
    "varint": wire.varint,
    "blob": wire.blob,
    "text": wire.text,
    "pair": wire.pair,
}
_READ: Final[dict[str, Callable[[Reader], Any]]] = {
    "byte": Reader.byte,
    "two": Reader.two,
    "four": Reader.four,
    "varint": Reader.varint,
    "blob": Reader.blob,
    "text": Reader.text,
    "pair": Reader.pair,
}


def write_properties(properties: Properties) -> bytes:
    """The properties with their length in front; the caller sees to it that they fit the packet."""
    if properties is NO_PROPERTIES:
        return b"\0"
    out: list[bytes] = []
    for kind in KINDS:
        value = getattr(properties, kind.name)
        if value is None:
            continue
        write = _WRITE[kind.type]
        for one in value if kind.is_repeated else (value,):
            out += (wire.varint(kind.identifier), write(one))
    body = b"".join(out)
    return wire.varint(len(body)) + body


def read_properties(reader: Reader, packet: int) -> Properties:
    """The properties that stand next in *reader*, checked against what a packet of type *packet* may carry.

    Raises:
        MalformedPacket: 0x81 for an unknown property or one that does not belong here; 0x82 for one that
            stands twice or has a value that the specification forbids.
    """
    size = reader.varint()
    if not size:
        return NO_PROPERTIES
    inner = Reader(reader.take(size))
    found: dict[str, Any] = {}
    while inner.left:
        identifier = inner.varint()
        kind = _BY_IDENTIFIER.get(identifier)
        if kind is None or packet not in kind.packets:
            raise MalformedPacket(f"property 0x{identifier:02x} does not belong in a packet of type {packet}")
        value = _READ[kind.type](inner)
        if (kind.lowest and value < kind.lowest) or (kind.highest is not None and value > kind.highest):
            raise MalformedPacket(f"{kind.name} must not be {value}", reason_code=PROTOCOL_ERROR)
        if not kind.is_repeated:
            if kind.name in found:
                raise MalformedPacket(f"{kind.name} stands twice", reason_code=PROTOCOL_ERROR)
            found[kind.name] = value
        elif packet == SUBSCRIBE and kind.type == "varint" and kind.name in found:
            raise MalformedPacket("a SUBSCRIBE has two subscription identifiers", reason_code=PROTOCOL_ERROR)
        else:
            found[kind.name] = (*found.get(kind.name, ()), value)
    return Properties(**found)
