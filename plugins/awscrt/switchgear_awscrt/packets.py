"""Messages, filters and limits, as Switchgear has them and as the SDK has them. Pure.

The SDK's classes are made by its own module, which is handed in: see `switchgear_awscrt.sdk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from switchgear.drivers.base import Limits
from switchgear.drivers.packets import pack_length, pack_properties
from switchgear.message import Message, Properties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.delivery import Delivery
    from switchgear.drivers.base import ConnectRequest, DriverSettings, Filter
    from switchgear.message import Will

UNKNOWN: Final = 0x80
"""Reason code that stands for one that the SDK does not know: it does not show those. Unspecified error."""


def publish_packet(mqtt5: Any, delivery: Delivery, now: float) -> Any:
    """PUBLISH for *delivery*; *now* is on the loop's clock, for what is left of its time."""
    packet = mqtt5.PublishPacket(
        payload=delivery.payload, qos=mqtt5.QoS(delivery.qos), retain=delivery.retain, topic=delivery.topic
    )
    properties = delivery.properties
    if delivery.expires_at is not None:
        packet.message_expiry_interval_sec = _left(delivery, now)
    elif properties is not None:
        packet.message_expiry_interval_sec = properties.message_expiry
    if properties is not None:
        packet.content_type = properties.content_type
        packet.response_topic = properties.response_topic
        packet.correlation_data_bytes = properties.correlation_data
        if properties.payload_is_text:
            packet.payload_format_indicator = mqtt5.PayloadFormatIndicator.AWS_MQTT5_PFI_UTF8
        if properties.user:
            packet.user_properties = [mqtt5.UserProperty(name, value) for name, value in properties.user]
    return packet


def publish_size(delivery: Delivery, now: float) -> int:
    """Bytes of the PUBLISH packet for *delivery* (MQTT 5, 3.3)."""
    head = 2 + len(delivery.topic.encode()) + (2 if delivery.qos else 0)
    if delivery.properties is None and delivery.expires_at is None:
        head += 1
    else:
        head += len(pack_properties(delivery.properties, _left(delivery, now)))
    size = head + len(delivery.payload)
    return 1 + len(pack_length(size)) + size


def _left(delivery: Delivery, now: float) -> int | None:
    """Whole seconds that *delivery* has left; None: for ever."""
    return None if delivery.expires_at is None else max(1, round(delivery.expires_at - now))


def message_of(packet: Any) -> Message:
    """The message that a received PUBLISH is. The SDK does not tell whether it was a repetition."""
    properties = Properties(
        content_type=packet.content_type,
        response_topic=packet.response_topic,
        correlation_data=packet.correlation_data_bytes,
        payload_is_text=bool(packet.payload_format_indicator),
        message_expiry=packet.message_expiry_interval_sec,
        user=tuple((pair.name, pair.value) for pair in packet.user_properties or ()),
    )
    return Message(
        packet.topic,
        packet.payload or b"",
        int(packet.qos),
        bool(packet.retain),
        False,
        None if properties == _NONE else properties,
    )


_NONE: Final = Properties()


def subscribe_packet(mqtt5: Any, filters: Sequence[Filter]) -> Any:
    """SUBSCRIBE for *filters*."""
    wanted = [
        mqtt5.Subscription(
            topic_filter=each.topic_filter,
            qos=mqtt5.QoS(each.qos),
            no_local=each.no_local,
            retain_as_published=each.retain_as_published,
            retain_handling_type=mqtt5.RetainHandlingType(each.retain_handling),
        )
        for each in filters
    ]
    return mqtt5.SubscribePacket(subscriptions=wanted)


def codes_of(packet: Any) -> list[int]:
    """The reason codes of a SUBACK or UNSUBACK."""
    return [UNKNOWN if code is None else int(code) for code in packet.reason_codes]


def connect_packet(mqtt5: Any, settings: DriverSettings, request: ConnectRequest) -> Any:
    """CONNECT, as *settings* and *request* say."""
    will = settings.will
    return mqtt5.ConnectPacket(
        client_id=settings.client_id,
        keep_alive_interval_sec=settings.keepalive,
        username=request.username,
        password=request.password,
        session_expiry_interval_sec=settings.session_expiry if request.keeps_session else 0,
        receive_maximum=settings.receive_maximum,
        maximum_packet_size=settings.maximum_packet_size,
        will=None if will is None else _will_packet(mqtt5, will),
        will_delay_interval_sec=will.delay if will is not None and will.delay else None,
    )


def _will_packet(mqtt5: Any, will: Will) -> Any:
    return mqtt5.PublishPacket(payload=will.payload, qos=mqtt5.QoS(will.qos), retain=will.retain, topic=will.topic)


def limits_of(connack: Any, negotiated: Any) -> Limits:
    """What the broker said of itself, and what the SDK made of it."""
    size = negotiated.maximum_packet_size_to_server
    return Limits(
        receive_maximum=negotiated.receive_maximum_from_server,
        maximum_packet_size=size if connack.maximum_packet_size is not None else None,
        maximum_qos=2 if connack.maximum_qos is None else int(connack.maximum_qos),
        retain_available=bool(negotiated.retain_available),
        session_expiry=connack.session_expiry_interval_sec,
        keepalive=getattr(connack, "server_keep_alive_sec", None),
        wildcards_available=bool(negotiated.wildcard_subscriptions_available),
        shared_available=bool(negotiated.shared_subscriptions_available),
    )
