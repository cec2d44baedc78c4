"""Many rows of an outbox file in one step of SQLite. Reads the database that it is given.

Python's ``sqlite3`` gives the interpreter's lock away at each step, and waits up to 5 ms to have it back while another
thread is busy (``sys.getswitchinterval``). So SQLite makes one text of all numbers, of a fixed width each, and one of all
bytes, both as hexadecimal digits, which Python turns back in few calls.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from switchgear.outbox.rows import FLAGS, checksum

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from switchgear.outbox.rows import Content

_NUMBERS: Final = struct.Struct(">QqBIIII")

_NEVER: Final = -1
"""For no expiry; the -1 below."""

_GATHER: Final = (
    "SELECT group_concat(printf('%016x%016x%02x%08x%08x%08x%08x', sequence, ifnull(expires_at, -1), flags, checksum,"
    " length(topic), length(payload), length(extra)), ''), group_concat(hex(topic) || hex(payload) || hex(extra), '')"
    " FROM (SELECT * FROM message WHERE"
)


def gather(db: sqlite3.Connection, chosen: str, values: Sequence[int]) -> list[Content] | None:
    """The rows that are *chosen*; None when one of them is unsound."""
    numbers, data = db.execute(f"{_GATHER} {chosen})", values).fetchone()
    try:
        return _split(bytes.fromhex(numbers or ""), bytes.fromhex(data or ""))
    except (ValueError, struct.error):
        return None


def _split(numbers: bytes, data: bytes) -> list[Content] | None:
    rows: list[Content] = []
    start = 0
    for sequence, expiry, flags, sum_, topic_size, payload_size, extra_size in _NUMBERS.iter_unpack(numbers):
        middle = start + topic_size
        end = middle + payload_size
        topic, payload = data[start:middle], data[middle:end]
        start = end + extra_size
        extra, until = data[end:start], (None if expiry == _NEVER else expiry)
        if checksum(sequence, topic, payload, flags, extra, until) != sum_ or flags not in FLAGS or until == 0:
            return None
        rows.append((sequence, topic, payload, flags, extra, until))
    return rows if start == len(data) else None
