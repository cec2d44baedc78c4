"""A message as a row of the file: columns, checksum, properties. Pure: no I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from zlib import crc32

from attrs import frozen

from switchgear.message import Properties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.delivery import Delivery


BLOCK: Final = 64
"""Rows in one INSERT. SQLite prepares long lists slowly (2048 rows: three times the time of each row), and a short one
holds the interpreter's lock for 0.05 ms, so that the loop goes on."""


@frozen(eq=False)
class Block:
    """Rows to be written.

    Attributes:
        values: Of all rows, one after the other: sequence, topic, payload, flags, checksum, and then extra and expiry.
        count: How many rows.
        columns: 7 of each, or 5 where no row has extra or expiry, which is nearly always.
        size: Bytes, as they count for the bound.
    """

    values: list[object]
    count: int
    columns: int
    size: int


FLAGS: Final = frozenset({0, 1, 2, 4, 5, 6})
"""QoS, plus 4 for retain."""

Content: TypeAlias = tuple[int, bytes, bytes, int, bytes, int | None]
"""Of a sound row what its message needs: sequence, topic, payload, flags, extra, expires_at."""


class Row(NamedTuple):
    """One row of the table ``message``; a tuple, for a backlog of a million has as many."""

    sequence: int
    """The order of acceptance, over all processes."""
    topic: bytes
    """UTF-8."""
    payload: bytes
    """As it was published."""
    flags: int
    """QoS, plus 4 for retain."""
    extra: bytes
    """Properties as JSON; empty when there are none."""
    accepted_at: int
    """Milliseconds since 1970."""
    expires_at: int | None
    """Milliseconds of the file's own time (`switchgear.outbox.clock`); None: never."""
    checksum: int
    """`checksum` of the others."""

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
    def content(self) -> Content:
        """What its message needs."""
        return self.sequence, self.topic, self.payload, self.flags, self.extra, self.expires_at

    @property
    def is_sound(self) -> bool:
        """Whether it is as it was written."""
        sum_ = checksum(self.sequence, self.topic, self.payload, self.flags, self.extra, self.expires_at)
        return sum_ == self.checksum and self.flags in FLAGS and self.expires_at != 0


def checksum(  # noqa: PLR0917 - positional for speed: one for each message
    sequence: int, topic: bytes, payload: bytes, flags: int, extra: bytes, expires_at: int | None
) -> int:
    """CRC-32 of what must not change.

    It cannot tell the expiry 0 from None, nor flags above 7 from others; neither is ever written: see `Row.is_sound`.
    """
    value = crc32(payload, crc32(topic, (sequence << 3 | flags) & 0xFFFFFFFF))
    return value if expires_at is None and not extra else crc32(b"%d %b" % (expires_at or 0, extra), value)


def pack_deliveries(deliveries: Sequence[Delivery], offset: float) -> Block:
    """Rows of *deliveries*; *offset* is the file's time less the loop's, in seconds."""
    values: list[object] = []
    size = 0
    for delivery in deliveries:
        if delivery.properties is not None or delivery.expires_at is not None:
            return _pack_fully(deliveries, offset)
        topic = delivery.topic.encode()
        payload = delivery.payload
        sequence = delivery.sequence
        flags = delivery.qos | 4 if delivery.retain else delivery.qos
        values += (sequence, topic, payload, flags, crc32(payload, crc32(topic, (sequence << 3 | flags) & 0xFFFFFFFF)))
        size += len(payload) + len(delivery.topic)
    return Block(values, len(deliveries), 5, size)


def _pack_fully(deliveries: Sequence[Delivery], offset: float) -> Block:
    rows = []
    for delivery in deliveries:
        flags = delivery.qos | 4 if delivery.retain else delivery.qos
        extra = b"" if delivery.properties is None else pack_properties(delivery.properties)
        until = None if delivery.expires_at is None else max(1, round((delivery.expires_at + offset) * 1000))
        topic = delivery.topic.encode()
        sum_ = checksum(delivery.sequence, topic, delivery.payload, flags, extra, until)
        rows.append(Row(delivery.sequence, topic, delivery.payload, flags, extra, 0, until, sum_))
    return pack_rows(rows)


def pack_rows(rows: Sequence[Row]) -> Block:
    """The same of *rows* that exist."""
    values: list[object] = []
    for row in rows:
        values += (row.sequence, row.topic, row.payload, row.flags, row.checksum, row.extra, row.expires_at)
    return Block(values, len(rows), 7, sum(row.size for row in rows))


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
