"""A message as a row of the file: columns, checksum, properties. Pure: no I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zlib import crc32

from attrs import frozen

from switchgear.message import Properties

if TYPE_CHECKING:
    from switchgear.delivery import Delivery


@frozen(eq=False)
class Row:
    """One row of the table ``message``.

    Attributes:
        sequence: The order of acceptance, over all processes.
        topic: UTF-8.
        payload: As it was published.
        flags: QoS, plus 4 for retain.
        extra: Properties as JSON; empty when there are none.
        accepted_at: Milliseconds since 1970.
        expires_at: The same; None: never.
        checksum: `checksum` of the others.
    """

    sequence: int
    topic: bytes
    payload: bytes
    flags: int
    extra: bytes
    accepted_at: int
    expires_at: int | None
    checksum: int

    @property
    def qos(self) -> int:
        """0, 1 or 2."""
        return self.flags & 3

    @property
    def retain(self) -> bool:
        """Whether the broker is to keep it."""
        return bool(self.flags & 4)

    @property
    def size(self) -> int:
        """What counts for the bound of bytes: payload and topic."""
        return len(self.payload) + len(self.topic.decode("utf-8", "replace"))

    @property
    def is_sound(self) -> bool:
        """Whether it is as it was written."""
        sum_ = checksum(self.sequence, self.topic, self.payload, self.flags, self.extra, self.expires_at)
        return sum_ == self.checksum and self.flags & 3 < 3


def checksum(  # noqa: PLR0917 - positional for speed: one for each message
    sequence: int, topic: bytes, payload: bytes, flags: int, extra: bytes, expires_at: int | None
) -> int:
    """CRC-32 of what must not change."""
    value = crc32(payload, crc32(topic, (sequence << 3 | flags) & 0xFFFFFFFF))
    return value if expires_at is None and not extra else crc32(b"%d %b" % (expires_at or 0, extra), value)


def pack_delivery(delivery: Delivery, offset: float) -> tuple[object, ...]:
    """The columns of *delivery* but ``accepted_at``; *offset* is wall-clock time less the loop's, in seconds.

    Without properties and expiry, which is nearly always, there are five: these two are left out.
    """
    topic = delivery.topic.encode()
    payload = delivery.payload
    flags = delivery.qos | 4 if delivery.retain else delivery.qos
    sequence = delivery.sequence
    properties = delivery.properties
    expires_at = delivery.expires_at
    if properties is None and expires_at is None:
        sum_ = crc32(payload, crc32(topic, (sequence << 3 | flags) & 0xFFFFFFFF))
        return sequence, topic, payload, flags, sum_
    extra = b"" if properties is None else pack_properties(properties)
    until = None if expires_at is None else round((expires_at + offset) * 1000)
    return sequence, topic, payload, flags, checksum(sequence, topic, payload, flags, extra, until), extra, until


def pack_properties(properties: Properties) -> bytes:
    """*properties* as JSON."""
    facts: dict[str, Any] = {}
    for name in ("content_type", "response_topic", "message_expiry"):
        if (value := getattr(properties, name)) is not None:
            facts[name] = value
    if properties.correlation_data is not None:
        facts["correlation_data"] = properties.correlation_data.hex()
    if properties.payload_is_text:
        facts["payload_is_text"] = True
    if properties.user:
        facts["user"] = properties.user
    return json.dumps(facts, separators=(",", ":")).encode()


def unpack_properties(extra: bytes) -> Properties | None:
    """The opposite of `pack_properties`; None for none."""
    if not extra:
        return None
    facts: dict[str, Any] = json.loads(extra)
    if "correlation_data" in facts:
        facts["correlation_data"] = bytes.fromhex(facts["correlation_data"])
    if "user" in facts:
        facts["user"] = tuple((name, value) for name, value in facts["user"])
    return Properties(**facts)
