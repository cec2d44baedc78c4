"""Whether a file's write-ahead log is whole. Reads that log; changes nothing.

SQLite ends its reading at the first frame whose checksum does not fit, and takes what follows for the rest of an older
round (https://www.sqlite.org/fileformat2.html, 4.1 to 4.3). After the death of a process that is right for a transaction
that was being written, and wrong for one that was committed behind a byte that has flipped: its rows would be gone unseen.
"""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Final

_HEADER: Final = 32
_FRAME: Final = 24
_MAGIC: Final = {0x377F0682: "<", 0x377F0683: ">"}

CHECKED: Final = 64 * 2**20
"""Bytes of a log that are checked, at about 40 MB a second; SQLite keeps it at 4 MB, and more only in one large commit."""


def is_cut(path: str) -> bool:
    """Whether the log of the database *path* holds commits that SQLite would not read."""
    data = b""
    with contextlib.suppress(OSError):
        log = Path(f"{path}-wal")
        if log.stat().st_size <= CHECKED:
            data = log.read_bytes()
    if len(data) < _HEADER + _FRAME:
        return False
    magic, _, size = struct.unpack(">III", data[:12])
    if magic not in _MAGIC or size < 512 or size & (size - 1):
        return True  # nothing of it would be read
    order, salts = _MAGIC[magic], data[16:24]
    sums = _checksum(order, data[:24], (0, 0))
    if sums != struct.unpack(">II", data[24:32]):
        return True  # the same
    is_sound = True
    for start in range(_HEADER, len(data) - size - _FRAME + 1, size + _FRAME):
        head = data[start : start + _FRAME]
        if head[8:16] != salts:
            return False  # of an older round, or never written
        if is_sound:
            sums = _checksum(order, data[start + _FRAME : start + _FRAME + size], _checksum(order, head[:8], sums))
            is_sound = sums == struct.unpack(">II", head[16:24])
        if not is_sound and head[4:8] != b"\0\0\0\0":
            return True  # a commit behind the break
    return False


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, two in zip(words, words, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second
