"""The file of a durable outbox: one SQLite database in WAL mode. Does I/O on that file; one thread at a time.

Every call here makes few steps of SQLite, whatever the number of rows; `switchgear.outbox.gathering` says why.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.outbox.gathering import gather
from switchgear.outbox.rows import BLOCK
from switchgear.outbox.salvage import COLUMNS, as_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from switchgear.outbox.lock import FileLock
    from switchgear.outbox.rows import Block, Content
    from switchgear.profile import Durability

_BLOCKS: Final = (BLOCK, 16, 1)
"""Rows in one INSERT: a few sizes only, so that each is prepared once."""

END: Final = 1 << 62
"""Above every sequence."""

SPARE: Final = 1024
"""Free pages, 4 MB, that an empty file may keep."""

STEP: Final = 1000
"""Milliseconds that the wall clock must have stepped for the file to be told of it, when there is nothing else to tell."""

_GATHERED: Final = 8 * 2**20
"""Bytes of payload that one read may bring."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@define(eq=False)
class OutboxFile:
    """An open outbox file; `switchgear.outbox.opening.open_file` makes one."""

    path: str
    db: sqlite3.Connection
    lock: FileLock | None
    durability: Durability
    messages: int = field(default=0, init=False)
    bytes: int = field(default=0, init=False)
    floor: int = field(default=1, init=False)
    """No row has a lower sequence, and none ever will."""
    next_sequence: int = field(default=1, init=False)
    exactly_once: bool = field(default=False, init=False)
    """Whether a process that sent QoS 2 ended without knowing that the broker forgot its packet ids."""
    noted_at: int | None = field(default=None, init=False)
    """The wall clock when that was last written, in milliseconds since 1970; None: never."""
    skew: int = field(default=0, init=False)
    """Milliseconds: the file's time, in which its messages expire, less the wall clock's, at that moment."""

    def load_meta(self, *, is_counted: bool) -> None:
        """Read what the file says of itself; *is_counted*: count, too, and put right what it says. That reads all of it.

        Raises:
            sqlite3.DatabaseError: it makes no sense.
        """
        row = self.db.execute("SELECT messages, bytes, floor, exactly_once, noted_at, skew FROM meta").fetchone()
        first, last = self.db.execute("SELECT min(sequence), max(sequence) FROM message").fetchone()
        if (
            row is None
            or not all(isinstance(value, int) for value in row[:4])
            or not all(isinstance(value, int | None) for value in row[4:])
            or not row[2] <= (END - 1 if first is None else first)
            or (last or 0) >= END
        ):
            raise sqlite3.DatabaseError("its table of counts makes no sense")
        self.messages, self.bytes, self.floor, exactly_once, self.noted_at, skew = row
        self.skew = skew or 0
        self.exactly_once = bool(exactly_once)
        self.floor = max(self.floor, 1)
        self.next_sequence = max(self.floor, (last or 0) + 1)
        if is_counted:
            found = self.db.execute(
                "SELECT count(*), ifnull(sum(length(payload) + length(CAST(topic AS TEXT))), 0) FROM message"
            ).fetchone()
            if found != (self.messages, self.bytes):
                self.db.execute("UPDATE meta SET messages = ?, bytes = ?", found)
                self.messages, self.bytes = found

    # Writing. ----------------------------------------------------------------------------------------------------

    def commit(
        self,
        blocks: Iterable[Block],
        removed: Sequence[int] = (),
        removed_size: int = 0,
        *,
        exactly_once: bool | None = None,
        noted: tuple[int, int] | None = None,
        requeued: Iterable[int] = (),
    ) -> None:
        """Write *blocks* and remove the rows *removed*, all or nothing; on disk when it returns.

        *removed_size* is in bytes. *blocks* may be made while it is written. *noted* is what `FileClock.noted` says.
        *requeued* are numbers that leave the quarantine. Nothing is written when there is nothing to write.
        """
        coming = iter(blocks)
        block = next(coming, None)
        if block is None and not removed and exactly_once is None and not self.differs(noted):
            return
        noted_at, skew = noted or (self.noted_at, self.skew)
        count, size = -len(removed), -removed_size
        with self._transaction(is_synced=bool(exactly_once)):
            accepted_at = now_ms()
            while block is not None:
                self._insert(block, accepted_at)
                count += block.count
                size += block.size
                block = next(coming, None)
            self._delete(removed)
            self.db.executemany("DELETE FROM quarantine WHERE number = ?", ((number,) for number in requeued))
            self.db.execute(
                "UPDATE meta SET messages = max(0, messages + ?1), bytes = iif(messages + ?1 <= 0, 0, max(0, bytes + ?2)),"
                " floor = max(floor, ifnull((SELECT min(sequence) FROM message), ?3)),"
                " exactly_once = ifnull(?4, exactly_once), noted_at = ?5, skew = ?6",
                (count, size, max(removed, default=0) + 1, exactly_once, noted_at, skew),
            )
        self.messages += count
        self.bytes += size
        self.noted_at, self.skew = noted_at, skew

    def differs(self, noted: tuple[int, int] | None) -> bool:
        """Whether the wall clock has stepped since the file was told of it."""
        return noted is not None and abs(noted[1] - self.skew) > STEP

    def _insert(self, block: Block, accepted_at: int) -> None:
        start = 0
        for rows in _BLOCKS:
            step = rows * block.columns
            while len(block.values) - start >= step:
                values = block.values if len(block.values) == step else block.values[start : start + step]
                self.db.execute(_insertion(rows, block.columns), [accepted_at, *values])
                start += step

    def _delete(self, removed: Sequence[int]) -> None:
        single: list[int] = []
        for first, last in _ranges(sorted(set(removed))):
            if last - first < 4:
                single.extend(range(first, last + 1))
            else:
                self.db.execute("DELETE FROM message WHERE sequence BETWEEN ? AND ?", (first, last))
        for start in range(0, len(single), 256):
            part = single[start : start + 256]
            part += [part[0]] * (256 - len(part) if len(part) > 8 else 8 - len(part))
            marks = ",".join("?" * len(part))
            self.db.execute(f"DELETE FROM message WHERE sequence IN ({marks})", part)  # noqa: S608 - question marks

    def quarantine(self, sequences: Iterable[int], why: str) -> tuple[int, int]:
        """Move rows aside; how many that were, and their bytes."""
        count = size = 0
        with self._transaction():
            for sequence in sequences:
                measured = self.db.execute(
                    "SELECT length(payload) + length(CAST(topic AS TEXT)) FROM message WHERE sequence = ?", (sequence,)
                ).fetchone()
                size += (measured and measured[0]) or 0
                count += self.db.execute(_QUARANTINE, (now_ms(), why, sequence)).rowcount
                self.db.execute("DELETE FROM message WHERE sequence = ?", (sequence,))
            self.db.execute("UPDATE meta SET messages = max(0, messages - ?), bytes = max(0, bytes - ?)", (count, size))
        self.messages -= count
        self.bytes -= size
        return count, size

    @contextlib.contextmanager
    def _transaction(self, *, is_synced: bool = False) -> Iterator[None]:
        """*is_synced*: it survives the loss of power, whatever the durability."""
        if is_synced:
            self.db.execute("PRAGMA synchronous = FULL")
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise
        finally:
            if is_synced:
                self.db.execute(f"PRAGMA synchronous = {self.durability.upper()}")

    # Reading. ----------------------------------------------------------------------------------------------------

    def read(
        self, limit: int, *, after: int = -1, before: int = END, newest: bool = False
    ) -> tuple[list[Content], list[int], bool]:
        """Rows between the sequences *after* and *before*, the first or the *newest*, at most *limit*, in order.

        With them the sequences of unsound ones, and whether these were all.
        """
        chosen = f"sequence > ? AND sequence < ? ORDER BY sequence {'DESC' if newest else 'ASC'} LIMIT ?"
        wanted = limit
        while wanted > 1:
            size = self.db.execute(
                f"SELECT sum(length(payload)) FROM (SELECT payload FROM message WHERE {chosen})",  # noqa: S608 - our text
                (after, before, wanted),
            ).fetchone()[0]
            if (size or 0) <= _GATHERED:
                break
            wanted = max(1, wanted // 4)
        bad: list[int] = []
        rows = gather(self.db, chosen, (after, before, wanted))
        if rows is None:
            rows, bad = self._read_singly(chosen, (after, before, wanted))
        rows.sort()  # sequences come first, and differ
        return rows, bad, len(rows) + len(bad) < wanted

    def _read_singly(self, chosen: str, values_of: tuple[int, int, int]) -> tuple[list[Content], list[int]]:
        rows: list[Content] = []
        bad: list[int] = []
        for values in self.db.execute(f"SELECT {COLUMNS} FROM message WHERE {chosen}", values_of):  # noqa: S608 - our columns
            row = as_row(values)
            if row is not None and row.is_sound:
                rows.append(row.content)
            else:
                bad.append(values[0])
        return rows, bad

    def expired(self, now: int, limit: int = 2000, *, after: int = -1, before: int = END) -> list[tuple[int, int]]:
        """Sequence and size of rows between *after* and *before* that are past their time at *now* (the file's, in ms)."""
        text = self.db.execute(
            "SELECT group_concat(sequence || ',' || (length(payload) + length(CAST(topic AS TEXT))), ';') FROM (SELECT *"
            " FROM message WHERE expires_at <= ? AND +sequence > ? AND +sequence < ? ORDER BY expires_at LIMIT ?)",
            (now, after, before, limit),
        ).fetchone()[0]
        pairs = [part.split(",") for part in (text or "").split(";") if part]
        return [(int(sequence), int(size)) for sequence, size in pairs]

    def next_expiry(self, *, after: int = -1, before: int = END) -> int | None:
        """When the first row between *after* and *before* expires, in milliseconds of the file; None: no row does."""
        found: int | None = self.db.execute(  # the plus signs keep SQLite on the index of expiry
            "SELECT min(expires_at) FROM message WHERE expires_at IS NOT NULL AND +sequence > ? AND +sequence < ?",
            (after, before),
        ).fetchone()[0]
        return found

    def take_quarantined(self, rows: Iterable[tuple[object, ...]]) -> None:
        """Add *rows* of another file's quarantine: when and why, and the columns of a message."""
        with self._transaction():
            self.db.executemany(
                f"INSERT INTO quarantine (found_at, why, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our columns
                rows,
            )

    # The end. ----------------------------------------------------------------------------------------------------

    def clear(self, *, quarantine_only: bool) -> tuple[int, int]:
        """Remove what waits and what is in quarantine, or that only; how many of both."""
        with self._transaction():
            quarantined = self.db.execute("DELETE FROM quarantine").rowcount
            if quarantine_only:
                return 0, quarantined
            removed = self.db.execute("DELETE FROM message").rowcount
            self.db.execute("UPDATE meta SET messages = 0, bytes = 0, floor = ?", (self.next_sequence,))
        self.messages = self.bytes = 0
        return removed, quarantined

    def shrink(self) -> None:
        """Give what an emptied file holds back to the file system, where there is room to do that."""
        if self.db.execute("PRAGMA freelist_count").fetchone()[0] > SPARE:
            with contextlib.suppress(sqlite3.OperationalError):  # such as a full disk; the file is sound without
                self.db.execute(
                    "VACUUM"
                )  # one step, and what is left is small; incremental_vacuum takes one for each page
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Write the WAL back, close, and let others have the file."""
        try:
            with contextlib.suppress(sqlite3.Error):  # a full disk: the WAL stays, and is read by the next opening
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.db.close()
        finally:
            if self.lock is not None:
                self.lock.release()


_QUARANTINE: Final = (
    f"INSERT INTO quarantine (found_at, why, {COLUMNS}) SELECT ?, ?, {COLUMNS} FROM message WHERE sequence = ?"  # noqa: S608 - our columns
)


@functools.cache
def _insertion(rows: int, columns: int) -> str:
    """INSERT of so many *rows*, each of sequence, topic, payload, flags, checksum, and with 7 *columns* extra, expiry."""
    parts = []
    for first in range(2, 2 + rows * columns, columns):
        extra, until = (f"?{first + 5}", f"?{first + 6}") if columns == 7 else ("X''", "NULL")
        parts.append(f"(?{first},?{first + 1},?{first + 2},?{first + 3},{extra},?1,{until},?{first + 4})")
    return f"INSERT INTO message VALUES {','.join(parts)}"  # noqa: S608 - question marks


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The runs of consecutive numbers in sorted *numbers*."""
    if not numbers:
        return
    if numbers[-1] - numbers[0] == len(numbers) - 1:  # nearly always: brokers answer in order
        yield numbers[0], numbers[-1]
        return
    first = last = numbers[0]
    for number in numbers:
        if number > last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
