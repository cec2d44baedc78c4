"""What can still be read of a broken outbox file. Reads that file and its WAL; changes nothing.

SQLite reads first, from both ends, for it knows which rows live. What lies between, where it could not read, is carved
out of the raw pages (https://www.sqlite.org/fileformat2.html, 1.6 and 4.1): every row carries a checksum, so that one
which is found is one that was written. A carved row may be one that had left: then its message arrives twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.outbox.rows import Row
from switchgear.outbox.wal import is_cut

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

COLUMNS: Final = "sequence, topic, payload, flags, extra, accepted_at, expires_at, checksum"

_PAGE: Final = 4096  # what we create; read from the header where that is sound
_LEAF: Final = 0x0D
_GUESSED: Final = 4000
"""Pages that are searched byte by byte because their own index is broken; about 5 ms each."""


def salvage(path: str) -> Generator[Row, None, None]:
    """The rows of the file *path* that are as they were written, in order."""
    found: dict[int, None] = {}
    low, high = 0, 1 << 62
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(_open(path)) as db:
        try:
            for row in _select(db, "ORDER BY sequence"):
                low = max(low, row.sequence)
                if row.is_sound:
                    found[row.sequence] = None
                    yield row
        except (sqlite3.Error, ValueError, TypeError):
            tail: list[Row] = []
            with contextlib.suppress(sqlite3.Error, ValueError, TypeError):
                for row in _select(db, f"WHERE sequence > {low} ORDER BY sequence DESC"):
                    high = min(high, row.sequence)
                    if row.is_sound:
                        tail.append(row)
            yield from _carved(path, low, high)
            yield from reversed(tail)
            return
        if found and not is_cut(path):
            return
    yield from (row for row in _carved(path, -1, 1 << 62) if row.sequence not in found)


def quarantined(path: str) -> Generator[tuple[object, ...], None, None]:
    """What SQLite can still read of the quarantine of the file *path*: when and why, and the columns of the row."""
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(_open(path)) as db:
        yield from db.execute(f"SELECT found_at, why, {COLUMNS} FROM quarantine ORDER BY number")  # noqa: S608 - texts of this file


def _open(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
    try:
        db.execute("SELECT count(*) FROM sqlite_schema")
    except BaseException:
        db.close()
        raise
    return db


def _select(db: sqlite3.Connection, where: str) -> Iterator[Row]:
    for values in db.execute(f"SELECT {COLUMNS} FROM message {where}"):  # noqa: S608 - texts of this file
        row = as_row(values)
        if row is not None:
            yield row


def as_row(values: tuple[object, ...]) -> Row | None:
    """*values* as a row when they have its types."""
    kinds = (int, bytes, bytes, int, bytes, int, (int, type(None)), int)
    if len(values) != len(kinds) or not all(isinstance(v, k) for v, k in zip(values, kinds, strict=True)):  # type: ignore[arg-type]  # a tuple of classes is one
        return None
    return Row(*values)  # type: ignore[arg-type]  # checked above


def _carved(path: str, low: int, high: int) -> list[Row]:
    """Sound rows between *low* and *high*, from the raw pages."""
    pages = _Pages.read(path)
    rows: dict[int, Row] = {}
    floor = 0
    for number in range(1, pages.count + 1):
        for rowid, values in pages.cells(number):
            if len(values) in {5, 7} and rowid == 1 and values[0] is None and isinstance(values[3], int):
                floor = max(floor, values[3])  # the table meta: what is below has left
            row = as_row((rowid, *values[1:])) if len(values) == 8 and values[0] is None else None
            if row is not None and low < row.sequence < high and row.is_sound:
                rows[row.sequence] = row
    return [rows[sequence] for sequence in sorted(rows) if sequence >= floor]


@define
class _Pages:
    """The pages of a file, those in its WAL before those in itself."""

    size: int
    data: bytes
    newer: dict[int, bytes] = field(factory=dict)
    guesses: int = 0

    @classmethod
    def read(cls, path: str) -> _Pages:
        data = Path(path).read_bytes()
        size = int.from_bytes(data[16:18], "big")
        size = 65536 if size == 1 else size
        if size < 512 or size & (size - 1):
            size = _PAGE
        pages = cls(size, data)
        with contextlib.suppress(OSError):
            wal = Path(f"{path}-wal").read_bytes()
            salts = wal[40:48]  # of the first frame: those of the header may be what is broken
            for start in range(32, len(wal) - size - 23, size + 24):
                if wal[start + 8 : start + 16] == salts:  # else: of an older round
                    pages.newer[int.from_bytes(wal[start : start + 4], "big")] = wal[start + 24 : start + 24 + size]
        return pages

    @property
    def count(self) -> int:
        return min(max([-(-len(self.data) // self.size), *self.newer]), 1 << 24)

    def page(self, number: int) -> bytes:
        start = (number - 1) * self.size
        return self.newer.get(number) or self.data[start : start + self.size]

    def cells(self, number: int) -> Iterator[tuple[int, tuple[object, ...]]]:
        """Row id and columns of each cell of a table's leaf page."""
        page = self.page(number)
        base = 100 if number == 1 else 0
        if len(page) < base + 8:
            return
        count = int.from_bytes(page[base + 3 : base + 5], "big")
        pointers = page[base + 8 : base + 8 + 2 * count]
        good = 0
        if page[base] == _LEAF:
            for (at,) in struct.iter_unpack(">H", pointers[: len(pointers) & ~1]):
                cell = self._cell(page, at)
                if cell is not None:
                    good += 1
                    yield cell
            if good == count:
                return
        if page[base] in {2, 5, 0x0A} or not any(page) or self.guesses >= _GUESSED:
            return  # an index, an inner page, an empty one
        self.guesses += 1
        for at in range(len(page) - 4):
            cell = self._cell(page, at)
            if cell is not None and len(cell[1]) in {5, 7, 8}:
                yield cell

    def _cell(self, page: bytes, at: int) -> tuple[int, tuple[object, ...]] | None:
        try:
            size, at = _varint(page, at)
            rowid, at = _varint(page, at)
            if not 4 <= size <= 1 << 30:
                return None
            usable = self.size
            local = size
            if size > usable - 35:
                least = (usable - 12) * 32 // 255 - 23
                local = least + (size - least) % (usable - 4)
                if local > usable - 35:
                    local = least
            if at + local > len(page):
                return None
            body = page[at : at + local]
            if local < size:
                if not 3 <= body[0] <= 20:
                    return None  # no header of ours: do not follow it
                body = self._follow(body, int.from_bytes(page[at + local : at + local + 4], "big"), size)
            return rowid, _record(body)
        except (IndexError, ValueError):
            return None

    def _follow(self, body: bytes, number: int, size: int) -> bytes:
        """*body* with its overflow pages."""
        parts, have, seen = [body], len(body), set[int]()
        while have < size and number and number not in seen:
            seen.add(number)
            page = self.page(number)
            part = page[4 : 4 + size - have]
            if not part:
                break
            parts.append(part)
            have += len(part)
            number = int.from_bytes(page[:4], "big")
        if have < size:
            raise ValueError("it ends early")
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(9):
        byte = data[at + i]
        if i == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError


_INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _record(body: bytes) -> tuple[object, ...]:
    """The columns of a record. Raises ``ValueError`` and ``IndexError`` where it is none."""
    head, at = _varint(body, 0)
    if not at < head <= len(body) or head > 64:
        raise ValueError("no header")
    values: list[object] = []
    start = head
    while at < head:
        kind, at = _varint(body, at)
        value: object
        if kind == 0:
            value, length = None, 0
        elif kind in _INTEGERS:
            length = _INTEGERS[kind]
            value = int.from_bytes(body[start : start + length], "big", signed=True)
        elif kind in {8, 9}:
            value, length = kind - 8, 0
        elif kind >= 12:
            length = (kind - 12) // 2
            value = body[start : start + length]
        else:
            raise ValueError("a kind that we do not write")
        start += length
        values.append(value)
    if start != len(body):
        raise ValueError("its lengths do not add up")
    return tuple(values)
