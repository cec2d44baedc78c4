"""The journal of a run: JSON lines, on disk before what they announce is done. Reads and writes that one file.

The last line may be torn, for the machine may stop while it is written; it is cut off, as if it had never begun.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Self

from switchgear_iot_dns.dr.errors import BrokenJournal, InUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

SUFFIX: Final = ".jsonl"

Entry = dict[str, Any]


def read(path: Path) -> tuple[list[Entry], int]:
    """The whole entries of a journal, and how many bytes they are; what comes after is a torn line.

    There are none where the machine stopped before the first was whole: that run had changed nothing.

    Raises:
        BrokenJournal: it cannot be read, or a line that is not the last is no entry.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BrokenJournal(str(path), error.strerror or str(error)) from error
    entries: list[Entry] = []
    good = 0
    lines = raw.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        entry = _entry(line)
        if entry is None:
            if number == len(lines) - 1 and not lines[-1]:
                break  # the last line: torn, though its line feed is there
            raise BrokenJournal(
                str(path), f"line {number} is damaged; nothing was changed; mend it, or begin anew with --fresh"
            )
        entries.append(entry)
        good += len(line) + 1
    if entries and entries[0]["entry"] != "began":
        raise BrokenJournal(
            str(path), "it has no beginning; nothing was changed; delete it, or begin anew with --fresh"
        )
    return entries, good


def _entry(line: bytes) -> Entry | None:
    """The entry that *line* holds; None when it holds none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("entry"), str) else None


class Journal:
    """One run's journal, open for writing; at most one process has it."""

    def __init__(self, path: Path) -> None:
        """Open *path*, made if it is missing, and cut a torn line off.

        Raises:
            InUse: another process has it.
            BrokenJournal: it is damaged.
        """
        self.path = path
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise BrokenJournal(str(path), error.strerror or str(error)) from error
        try:
            _claim(self._file.fileno(), path)
            self.entries: list[Entry] = []
            self.was_torn = False
            size = os.fstat(self._file.fileno()).st_size
            if size:
                self.entries, good = read(path)
                self.was_torn = good < size
                if self.was_torn:
                    self._file.truncate(good)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, entry: str, *, at: float, **facts: Any) -> None:
        """Append an entry and have it on disk."""
        self.add(entry, at=at, **facts)
        self.sync()

    def add(self, entry: str, *, at: float, **facts: Any) -> None:
        """Append an entry; it outlives this process at once, and the machine after the next `sync`."""
        whole = {"entry": entry, "at": round(at, 3), **facts}
        self._file.write(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        self.entries.append(whole)

    def sync(self) -> None:
        """Have everything on disk."""
        os.fsync(self._file.fileno())


def _claim(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: the record in Route 53 is the only lock there
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InUse(str(path)) from None


def is_in_use(path: Path) -> bool:
    """Whether a process on this machine has the journal *path* open for writing."""
    try:
        with path.open("rb") as file:
            _claim(file.fileno(), path)
    except InUse:
        return True
    except OSError:  # it cannot be read; who reads it next says so
        return False
    return False


def runs(folder: Path) -> Iterator[Path]:
    """The journals of *folder*, the newest run first; names begin with the time."""
    if folder.is_dir():
        yield from sorted(folder.glob(f"*{SUFFIX}"), reverse=True)


def run_name(folder: Path, now: float) -> str:
    """A name for a run that begins *now*: its time, or one behind the newest run of *folder* where the clock was put back.

    Runs are found by their names: one that came before another would neither be gone on with nor undone.
    """
    stamp = _stamp(now)
    for path in runs(folder):
        with contextlib.suppress(ValueError):  # not a name of ours
            newest = dt.datetime.strptime(f"{path.stem.partition('Z')[0]}+0000", "%Y%m%dT%H%M%S.%f%z")
            stamp = max(stamp, _stamp(newest.timestamp() + 0.0015))
            break
    return f"{stamp}-{secrets.token_hex(2)}"


def _stamp(at: float) -> str:
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}Z"
