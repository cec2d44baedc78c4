"""What `publish` checks, and makes of its arguments, before the outbox takes the message. Pure but for the outbox.

Called from any thread, once for each message: the usual case takes no detour.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field

from switchgear.errors import InvalidOption, MessageTooLarge
from switchgear.message import ID_PROPERTY, LARGEST_PAYLOAD, Properties, check_properties, check_qos, check_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from switchgear.delivery import Delivery
    from switchgear.drivers.base import Driver
    from switchgear.envelope import Envelope
    from switchgear.outbox import Outbox
    from switchgear.profile import Profile
    from switchgear.waits import Waits

LONGEST_EXPIRY: Final = 2**32 - 1
"""Seconds, about 136 years: what MQTT can say (MQTT 5, 3.3.2.3.3)."""

TOPICS: Final = 4096
"""Topics that are remembered as checked; then the memory starts afresh."""

Payload = bytes | bytearray | memoryview | str | None


@define(eq=False)
class Acceptance:
    """The way of one transport's messages into its outbox.

    Attributes:
        outbox: Where they go.
        waits: Says when accepting is hopeless, and on which loop's clock messages expire.
        checks: What the brokers behind the transport say of topics.
        driver: Says which QoS it carries.
        id_prefix: With what message ids begin; empty: messages carry none.
        envelope: Where ids go instead of into a property.
    """

    outbox: Outbox
    waits: Waits
    checks: tuple[Callable[[str], None], ...]
    driver: Driver
    id_prefix: str
    envelope: Envelope | None
    _levels: frozenset[int] = field(init=False)
    _checked: set[str] = field(factory=set, init=False)
    _numbers: Iterator[int] = field(factory=lambda: itertools.count(1), init=False)

    def __attrs_post_init__(self) -> None:
        self._levels = self.driver.features.qos

    def accept(  # noqa: PLR0917 - positional for speed
        self,
        topic: str,
        payload: Payload,
        qos: int,
        retain: bool,  # noqa: FBT001 - the same
        properties: Properties | None,
        expires_after: float | None,
    ) -> Delivery | None:
        """The delivery of a message; None where there is no room now. Raises what `AsyncTransport.publish` raises."""
        if self.waits.failure is not None:
            raise self.waits.failure
        if type(topic) is not str or topic not in self._checked:
            self._check_topic(topic)
        if type(payload) is not bytes:
            payload = as_bytes(payload)
        if type(qos) is not int or qos not in self._levels:
            self.check_qos(qos)
        if properties is not None or self.id_prefix:
            properties, payload = self._with_id(properties, payload)
        if len(payload) > LARGEST_PAYLOAD:
            raise MessageTooLarge(topic, len(payload), LARGEST_PAYLOAD, whose="MQTT")
        expires_at = None if expires_after is None else self._expiry(expires_after)
        return self.outbox.accept(
            topic, payload, qos, retain=bool(retain), properties=properties, expires_at=expires_at
        )

    def check_qos(self, qos: int) -> None:
        """Raise `InvalidOption` unless *qos* exists and the driver carries it."""
        check_qos(qos)
        if qos not in self._levels:
            raise unsupported_qos("qos", self.driver, qos)

    def _check_topic(self, topic: str) -> None:
        check_topic(topic)
        for check in self.checks:
            check(topic)
        if len(self._checked) >= TOPICS:
            self._checked.clear()
        self._checked.add(topic)

    def _expiry(self, seconds: float) -> float:
        """When a message that lives for *seconds* ends, on the loop's clock."""
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 < seconds <= LONGEST_EXPIRY:  # NaN is neither
            why = f"{seconds!r} is no number of seconds above 0, up to {LONGEST_EXPIRY}; leave it out for never"
            raise InvalidOption("expires_after", why)
        assert self.waits.loop is not None
        return self.waits.loop.time() + seconds

    def _with_id(self, properties: Properties | None, payload: bytes) -> tuple[Properties | None, bytes]:
        """What is sent of *properties* and *payload*, with an id where one is wanted: the caller's own, or a new one."""
        if not isinstance(properties, Properties | None):
            raise InvalidOption("properties", f"{type(properties).__name__} is no switchgear.Properties")
        if properties is not None:
            check_properties(properties)
        if not self.id_prefix:
            return properties, payload
        ours = properties or Properties()
        given = next((value for name, value in ours.user if name == ID_PROPERTY), None)
        message_id = given or f"{self.id_prefix}-{next(self._numbers)}"
        if self.envelope is not None:
            return properties, as_bytes(self.envelope.wrap(message_id, payload))
        return ours if given else evolve(ours, user=(*ours.user, (ID_PROPERTY, message_id))), payload


def check_ids(profile: Profile, protocol: str) -> None:
    """Refuse to send or to look for message ids that nothing carries."""
    if protocol != "5" and profile.envelope is None:
        for name, value in (("message_id", profile.message_id), ("deduplicate", profile.deduplicate)):
            if value:
                why = "MQTT 3.1.1 has no user properties to carry ids; set protocol='5', or an envelope"
                raise InvalidOption(name, why)


def unsupported_qos(option: str, driver: Driver, qos: int) -> InvalidOption:
    """The error for a QoS that *driver* does not carry."""
    levels = driver.features.qos
    why = f"the driver {driver.name!r} carries no QoS {qos}; choose another driver, or one of its own"
    return InvalidOption(option, why, valid=map(str, levels))


def as_bytes(payload: Payload) -> bytes:
    """The bytes of a payload; text is sent as UTF-8."""
    if payload is None:
        return b""
    if isinstance(payload, str):
        try:
            return payload.encode()
        except UnicodeEncodeError:
            raise InvalidOption("payload", "the text holds a lone surrogate, which is no UTF-8") from None
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    raise InvalidOption("payload", f"a {type(payload).__name__} is neither bytes nor str; encode it first")
