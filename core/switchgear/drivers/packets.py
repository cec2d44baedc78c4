"""Pieces of MQTT packets: lengths, properties and filters. Pure; properties and filters are paho's to encode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.subscribeoptions import SubscribeOptions

from switchgear.cause import Failure, from_reason_code
from switchgear.drivers.base import Limits
from switchgear.message import Properties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.drivers.base import Filter


def properties_of(packet_type: int) -> Any:
    """Empty properties of a packet of *packet_type*. Typed as Any: paho's have no types, attributes come and go."""
    return PahoProperties(packet_type)  # type: ignore[no-untyped-call]  # paho's properties have no types


def pack_length(size: int) -> bytes:
    """Remaining Length (MQTT 5, 1.5.5)."""
    if size < 128:
        return bytes((size,))
    out = bytearray()
    while True:
        size, byte = size >> 7, size & 127
        out.append(byte | 128 if size else byte)
        if not size:
            return bytes(out)


def read_length(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Remaining Length at *position* and where the packet goes on; (-1, 0) when it is not all there."""
    size = 0
    for i in range(4):
        if position + i >= end:
            return -1, 0
        byte = data[position + i]
        size |= (byte & 127) << 7 * i
        if byte < 128:
            return size, position + i + 1
    raise ValueError("a length of more than 4 bytes")


def pack_properties(ours: Properties | None, expiry: int | None) -> bytes:
    """The properties of a PUBLISH as bytes."""
    packed = properties_of(PacketTypes.PUBLISH)
    if ours is not None:
        if ours.content_type is not None:
            packed.ContentType = ours.content_type
        if ours.response_topic is not None:
            packed.ResponseTopic = ours.response_topic
        if ours.correlation_data is not None:
            packed.CorrelationData = ours.correlation_data
        if ours.payload_is_text:
            packed.PayloadFormatIndicator = 1
        if ours.message_expiry is not None and expiry is None:
            expiry = ours.message_expiry
        if ours.user:
            packed.UserProperty = list(ours.user)
    if expiry is not None:
        packed.MessageExpiryInterval = expiry
    return bytes(packed.pack())


def read_properties(data: bytes) -> tuple[Properties, int]:
    """The properties that a received PUBLISH carries at the start of *data*, and how many bytes they take."""
    packed = properties_of(PacketTypes.PUBLISH)
    _, used = packed.unpack(data)
    properties = Properties(
        content_type=getattr(packed, "ContentType", None),
        response_topic=getattr(packed, "ResponseTopic", None),
        correlation_data=getattr(packed, "CorrelationData", None),
        payload_is_text=bool(getattr(packed, "PayloadFormatIndicator", 0)),
        message_expiry=getattr(packed, "MessageExpiryInterval", None),
        user=tuple(getattr(packed, "UserProperty", ())),
    )
    return properties, used


def read_limits(properties: Any) -> Limits:
    """What CONNACK says of the broker (MQTT 5, 3.2.2.3)."""

    def get(name: str, otherwise: Any) -> Any:
        return getattr(properties, name, otherwise)

    return Limits(
        receive_maximum=get("ReceiveMaximum", 65535),
        maximum_packet_size=get("MaximumPacketSize", None),
        maximum_qos=get("MaximumQoS", 2),
        retain_available=bool(get("RetainAvailable", 1)),
        session_expiry=get("SessionExpiryInterval", None),
        keepalive=get("ServerKeepAlive", None),
        wildcards_available=bool(get("WildcardSubscriptionAvailable", 1)),
        shared_available=bool(get("SharedSubscriptionAvailable", 1)),
    )


def read_reason(body: bytes, packet_type: int) -> Failure:
    """What a broker's CONNACK (after its flags) or DISCONNECT says (MQTT 5, 3.2.2.2 and 3.14)."""
    if not body:
        return from_reason_code(0)
    properties = properties_of(packet_type)
    if len(body) > 1:
        properties.unpack(body[1:])
    reference = getattr(properties, "ServerReference", None)
    return from_reason_code(body[0], getattr(properties, "ReasonString", ""), server_reference=reference)


def topics_of(filters: Sequence[Filter], *, is_v5: bool) -> Any:
    """*filters* as paho's ``subscribe`` takes them; MQTT 3.1.1 has no options but the QoS."""
    if not is_v5:
        return [(f.topic_filter, f.qos) for f in filters]
    return [
        (
            f.topic_filter,
            SubscribeOptions(
                qos=f.qos,
                noLocal=f.no_local,
                retainAsPublished=f.retain_as_published,
                retainHandling=f.retain_handling,
            ),
        )
        for f in filters
    ]
