"""Messages as they are sent and received, and the rules for topics. Pure: no I/O; the life of one is in `delivery`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from switchgear.checks import check_utf8, show
from switchgear.delivery import Delivery, DeliveryState
from switchgear.errors import InvalidOption, InvalidTopic

if TYPE_CHECKING:
    from collections.abc import Sequence


def _pairs(value: Mapping[str, str] | Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(value.items()) if isinstance(value, Mapping) else tuple((str(k), str(v)) for k, v in value)


def _as_bytes(value: str | bytes | bytearray) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


ID_PROPERTY: Final = "message-id"
"""The MQTT 5 user property that carries a message's id."""


@frozen(kw_only=True)
class Properties:
    """MQTT 5 properties of a PUBLISH (MQTT 5, 3.3.2.3). On MQTT 3.1.1 they are not sent.

    Attributes:
        content_type: MIME type or what the applications agree on.
        response_topic: Where an answer is expected.
        correlation_data: What links the answer to the question.
        payload_is_text: Payload Format Indicator 1 (UTF-8).
        message_expiry: Whole seconds after which brokers drop the message.
        user: Pairs of names and values, in order, repetition allowed.
    """

    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    payload_is_text: bool = False
    message_expiry: int | None = None
    user: tuple[tuple[str, str], ...] = field(default=(), converter=_pairs)


@frozen(eq=False, slots=True)
class Message:
    """One message that arrived.

    Attributes:
        topic: The topic name.
        payload: The bytes.
        qos: 0, 1 or 2, as it was delivered to us.
        retain: Whether it is the retained message of its topic.
        duplicate: Whether the broker says that it may have been sent before.
        properties: MQTT 5 properties; None on MQTT 3.1.1 or when there are none.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    properties: Properties | None = None
    _acknowledge: Callable[[], None] | None = field(default=None, repr=False, kw_only=True)
    _id: str | None = field(default=None, repr=False, kw_only=True)

    @property
    def id(self) -> str | None:
        """What its publisher named it: the user property ``message-id``, or from the envelope; else None. Since: 0.1."""
        if self._id is not None or self.properties is None:
            return self._id or None  # an empty one names nothing
        return next((value for name, value in self.properties.user if name == ID_PROPERTY and value), None)

    def ack(self) -> None:
        """Acknowledge it (``ack="manual"``); again, or for a connection that is gone, it does nothing. Since: 0.1."""
        if self._acknowledge is not None:
            self._acknowledge()

    @property
    def text(self) -> str:
        """The payload as UTF-8 text; raises ``UnicodeDecodeError`` when it is none."""
        return self.payload.decode()


@frozen
class Will:
    """What the broker publishes when we vanish.

    Attributes:
        topic: A topic name without wildcards.
        payload: Text (UTF-8) or bytes.
        qos: 0, 1 or 2.
        retain: Whether it becomes the retained message.
        delay: Seconds that the broker waits first (MQTT 5 only).
    """

    topic: str
    payload: bytes = field(default=b"", converter=_as_bytes)
    qos: int = field(default=0, kw_only=True)
    retain: bool = field(default=False, kw_only=True)
    delay: int = field(default=0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_topic(self.topic)
        check_qos(self.qos)


LARGEST_PAYLOAD: Final = 268_435_455 - 65_535 - 16
"""Bytes that fit into a packet (MQTT 5, 2.1.4) beside the longest topic; properties are checked when it is sent."""


def check_qos(qos: Any) -> None:
    """Raise `InvalidOption` unless *qos* is 0, 1 or 2."""
    if qos not in (0, 1, 2) or isinstance(qos, bool):
        raise InvalidOption("qos", f"{qos!r} is none of 0, 1, 2")


def check_properties(properties: Properties) -> None:
    """Raise `InvalidOption` unless *properties* can be sent. Source: MQTT 5, 2.2.2.2."""
    for name in ("content_type", "response_topic"):
        text = getattr(properties, name)
        if text is not None:
            if not isinstance(text, str):
                raise InvalidOption(f"properties.{name}", f"{text!r} is not a text")
            check_utf8(f"properties.{name}", text)
    data = properties.correlation_data
    if data is not None and (not isinstance(data, bytes) or len(data) > 65535):
        raise InvalidOption("properties.correlation_data", "it must be bytes, 65535 at most")
    expiry = properties.message_expiry
    if expiry is not None and (not isinstance(expiry, int) or isinstance(expiry, bool) or not 0 <= expiry < 2**32):
        why = f"{expiry!r} is no whole number of seconds from 0 to 4294967295"
        raise InvalidOption("properties.message_expiry", why)
    for pair in properties.user:
        for text in pair:
            check_utf8("properties.user", text)


def check_topic(topic: str) -> None:
    """Raise `InvalidTopic` unless *topic* is a topic name to publish to. Source: MQTT 5, 4.7."""
    _check_text(topic)
    if "+" in topic or "#" in topic:
        raise InvalidTopic(topic, "a message cannot be published to a wildcard; + and # are for subscriptions")


def check_filter(topic_filter: str) -> None:
    """Raise `InvalidTopic` unless *topic_filter* is a topic filter. Source: MQTT 5, 4.7.1 and 4.8.2."""
    _check_text(topic_filter)
    bare = topic_filter
    if bare.startswith("$share/"):
        share, _, bare = bare.removeprefix("$share/").partition("/")
        if not share or not bare or "+" in share or "#" in share:
            raise InvalidTopic(topic_filter, "a shared subscription is written $share/NAME/filter")
    levels = bare.split("/")
    for i, level in enumerate(levels):
        if "#" in level and (level != "#" or i != len(levels) - 1):
            raise InvalidTopic(topic_filter, "# stands alone, as the last level")
        if "+" in level and level != "+":
            raise InvalidTopic(topic_filter, "+ stands for one whole level")


def _check_text(topic: object) -> None:
    if not isinstance(topic, str):
        raise InvalidTopic(show(topic), "it must be a str")
    if not topic:
        raise InvalidTopic(topic, "it is empty")
    if "\0" in topic:
        raise InvalidTopic(topic, "it holds U+0000, which MQTT forbids (1.5.4)")
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        raise InvalidTopic(repr(topic), "it holds a lone surrogate, which is no UTF-8") from None
    if size > 65535:
        raise InvalidTopic(topic, f"it has {size} bytes; MQTT takes at most 65535")


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether *topic* matches *topic_filter* (without ``$share``). Source: MQTT 5, 4.7.1 and 4.7.2."""
    if topic_filter == topic:
        return True
    if topic.startswith("$") and topic_filter[:1] in {"+", "#"}:
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(levels) or (level != "+" and level != levels[i]):
            return False
    return len(wanted) == len(levels)


__all__ = [
    "ID_PROPERTY",
    "LARGEST_PAYLOAD",
    "Delivery",
    "DeliveryState",
    "Message",
    "Properties",
    "Will",
    "check_filter",
    "check_properties",
    "check_qos",
    "check_topic",
    "topic_matches",
]
