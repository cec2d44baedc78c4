"""PUBLISH into the SDK by the shortest way. Calls the SDK, on the caller's thread.

``Client.publish`` makes a ``concurrent.futures.Future`` and three more objects for every message, which cost as much as
all the rest. What it calls in turn takes the callback itself. That is no public name: a test watches it, and where
it does not take what we give, the public way is gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from switchgear_awscrt.packets import UNKNOWN, publish_packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.delivery import Delivery

    Done = Callable[..., None]
    """Called on the SDK's thread with its error code (0: none), QoS, reason code, reason and user properties."""


def publisher(sdk: Any, client: Any) -> Callable[[Delivery, Done], None]:
    """What publishes a delivery through *client*, and says when it is over."""
    native: Any = getattr(sdk.native, "mqtt5_client_publish", None)
    binding = getattr(client, "_binding", None)
    levels = tuple(sdk.mqtt5.QoS)
    now = asyncio.get_running_loop().time

    def publish(delivery: Delivery, done: Done) -> None:
        properties = (None,) * 7
        if delivery.properties is not None or delivery.expires_at is not None:
            properties = _properties(publish_packet(sdk.mqtt5, delivery, now()))
        qos, payload, retain, topic = levels[delivery.qos], delivery.payload, delivery.retain, delivery.topic
        try:
            native(binding, qos, payload, retain, topic, *properties, done)
        except TypeError:
            _publish_publicly(client, publish_packet(sdk.mqtt5, delivery, now()), done)

    return publish


def _properties(packet: Any) -> tuple[Any, ...]:
    return (
        packet.payload_format_indicator,
        packet.message_expiry_interval_sec,
        packet.topic_alias,
        packet.response_topic,
        packet.correlation_data_bytes,
        packet.content_type,
        packet.user_properties,
    )


def _publish_publicly(client: Any, packet: Any, done: Done) -> None:
    def over(future: Any) -> None:
        error = future.exception()
        code = 0
        if error is None and packet.qos:
            reason = future.result().puback.reason_code
            code = UNKNOWN if reason is None else int(reason)
        done(0 if error is None else getattr(error, "code", 1), int(packet.qos), code, None, None)

    client.publish(packet).add_done_callback(over)
