"""Opens an outbox file: checks its place, makes it when it is missing, mends it when it is broken. Does I/O on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switchgear.errors import UnreadableFile
from switchgear.outbox.file import OutboxFile
from switchgear.outbox.lock import FileLock, is_strange
from switchgear.outbox.rows import BLOCK, Row, pack_rows
from switchgear.outbox.salvage import quarantined, salvage
from switchgear.outbox.schema import APPLICATION, SCHEMA, TABLES, is_as_made, migrate, noted_in
from switchgear.outbox.wal import is_cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from switchgear.outbox.rows import Block
    from switchgear.profile import Durability

CHECKED: Final = 512 * 2**20
"""Bytes of a file up to which opening checks every page (measured: about 0.5 s for 190 MB); beyond, rows are checked as
they are read."""

_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_corrupt(error: BaseException) -> bool:
    """Whether *error* says that the file is broken, rather than busy, full or gone."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.DatabaseError) and code is not None and code & 0xFF in _CORRUPT


def is_something_else(path: str) -> bool:
    """Whether the file *path* is no database, and holds no message that could be saved."""
    return is_strange(path) and next(salvage(path), None) is None


def _is_broken(error: BaseException) -> bool:
    """The same of an error while a file is opened, where SQLITE_ERROR says that a table is not as it was made.

    Errors of ours, and of Python's ``sqlite3`` about a text that is no UTF-8, have no code.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return is_corrupt(error) or code == sqlite3.SQLITE_ERROR


def open_file(path: str, durability: Durability, emit: Callable[..., None]) -> OutboxFile:
    """The outbox file *path*, made when it is missing, mended when it is broken; *emit* hears what was done.

    Raises:
        OutboxLocked: another transport has it.
        UnreadableFile: it is a folder, cannot be written, is of a newer schema, of another application or no database.
    """
    try:
        path = os.path.realpath(path)  # one file, one lock, also by a link or from another folder
        _check_place(path)
        lock = FileLock(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        moved = _take_over(path)
        _create(path)
        try:
            file = _open(path, durability, lock)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _is_broken(error):
                raise
            file = recover(path, durability, lock, emit, str(error))
    except (OSError, sqlite3.Error) as error:
        lock.release()
        raise _unreadable(path, error) from error
    except BaseException:
        lock.release()
        raise
    if moved is not None:
        why = "a process ended while it mended it"
        emit("outbox_recovered", path=path, moved=moved, count=file.messages, why=why)
    return file


def _unreadable(path: str, error: BaseException) -> UnreadableFile:
    return UnreadableFile(path, "outbox", reason(path, error))


def reason(path: str, error: BaseException) -> str:
    """Why *path* cannot be used, from what the system or SQLite says."""
    why = getattr(error, "strerror", None) or str(error)
    with contextlib.suppress(OSError):  # SQLite says "disk I/O error" when it has no room for its shared memory
        if shutil.disk_usage(Path(path).parent).free == 0:
            why = f"{why}; its disk is full, make room"
    with contextlib.suppress(OSError):  # the lock and the write-ahead log go by the name
        if Path(path).stat().st_nlink > 1:
            why = (
                f"{why}; it has a second name (a hard link), under which it may be in use: remove that, or name a copy"
            )
    return why


def _check_place(path: str) -> None:
    place = Path(path)
    folder = place.parent
    if place.is_dir():
        raise UnreadableFile(path, "outbox", "it is a folder; name a file")
    if not folder.is_dir():
        raise UnreadableFile(path, "outbox", f"its folder {str(folder)!r} does not exist; make it first")
    if place.exists():
        if not stat.S_ISREG(place.stat().st_mode):
            raise UnreadableFile(path, "outbox", "it is no regular file; name one")
        if not os.access(place, os.R_OK | os.W_OK):
            raise UnreadableFile(path, "outbox", "it is read-only for this user; make it writable")
        if is_something_else(path):
            raise UnreadableFile(path, "outbox", "it is something else, no outbox; name another file")
    elif not os.access(folder, os.W_OK):
        raise UnreadableFile(path, "outbox", f"its folder {str(folder)!r} is read-only for this user; make it writable")


def _create(path: str) -> None:
    """Payloads may be secret: nobody else reads the file, nor its WAL, which takes over its mode."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if hasattr(os, "fchmod") and os.fstat(fd).st_mode & 0o077 and _is_ours(os.read(fd, 100)):
            with contextlib.suppress(PermissionError):  # another user's file that we may write: as they want it
                os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def _is_ours(header: bytes) -> bool:
    """Whether a file that begins with *header* is new, or an outbox (https://www.sqlite.org/fileformat2.html, 1.3)."""
    return not header or int.from_bytes(header[68:72], "big") == APPLICATION


def _open(path: str, durability: Durability, lock: FileLock | None) -> OutboxFile:
    if is_cut(path):
        raise sqlite3.DatabaseError("its write-ahead log is broken")
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if (
            (tables or version)
            and db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION
            and not tables >= TABLES
        ):
            raise UnreadableFile(path, "outbox", "it is an SQLite database of another application; name another file")  # noqa: TRY301 - the connection is closed below
        if version > SCHEMA:
            why = f"its schema is {version}, newer than {SCHEMA}, which this version of Switchgear reads; upgrade Switchgear"
            raise UnreadableFile(path, "outbox", why)  # noqa: TRY301 - the same
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute(f"PRAGMA synchronous = {durability.upper()}")
        db.execute(f"PRAGMA fullfsync = {int(durability == 'full')}")  # macOS: an fsync alone stops at the disk's cache
        db.execute("PRAGMA journal_size_limit = 4194304")
        migrate(db, tables, version)
        if not is_as_made(db):
            raise sqlite3.DatabaseError("its tables are not as they were made")  # noqa: TRY301 - the same
        file = OutboxFile(path, db, lock, durability)
        is_small = Path(path).stat().st_size <= CHECKED
        if is_small:
            answer = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)  # noqa: TRY301 - the same
        file.load_meta(is_counted=is_small)
    except BaseException:
        db.close()
        raise
    return file


def recover(
    path: str,
    durability: Durability,
    lock: FileLock | None,
    emit: Callable[..., None],
    why: str,
    *,
    is_wanted: Callable[[int], bool] = lambda _: True,
) -> OutboxFile:
    """Make a new file of what can still be read of the broken one *path*, and move that aside.

    Of the rows those whose sequence *is_wanted*. Until all of them are on disk the broken file stays where it is: after a
    crash, or on a full disk, all of this can be done again.

    Raises:
        OSError: a file cannot be read, or moved.
        sqlite3.Error: no new file can be written.
    """
    if not os.path.lexists(f"{path}{_RECOVERED}"):
        _rebuild(path, durability, is_wanted)
    moved = _take_over(path)
    file = _open(path, durability, lock)
    emit("outbox_recovered", path=path, moved=moved, count=file.messages, why=why)
    return file


_RECOVERED: Final = ".recovered"
"""A whole file that is to take the place of a broken one."""


def _rebuild(path: str, durability: Durability, is_wanted: Callable[[int], bool]) -> None:
    """Make the file that will be `_take_over`'s."""
    unfinished = f"{path}.recovering"
    _remove(unfinished)
    _create(unfinished)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove, unfinished)
        file = _open(unfinished, durability, None)
        stack.callback(file.db.close)
        # Whether QoS 2 was under way is not known any more.
        rows = (row for row in stack.enter_context(contextlib.closing(salvage(path))) if is_wanted(row.sequence))
        file.commit(_blocks(rows), exactly_once=True, noted=_noted(path))
        file.take_quarantined(quarantined(path))
        file.db.execute("UPDATE meta SET floor = 1")  # rows that are in memory, and before all these, may follow
        file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        file.db.close()
        Path(unfinished).replace(f"{path}{_RECOVERED}")


def _take_over(path: str) -> str | None:
    """Have the recovered file, if there is one, take the place of *path*; where what was there is now."""
    if not os.path.lexists(f"{path}{_RECOVERED}"):
        return None
    moved = _aside(path)
    Path(f"{path}{_RECOVERED}").replace(path)
    return moved


def _remove(path: str) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def _blocks(rows: Iterable[Row]) -> Iterator[Block]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BLOCK:
            yield pack_rows(batch)
            batch.clear()
    yield pack_rows(batch)


def _noted(path: str) -> tuple[int, int] | None:
    """What a broken file still says of it."""
    with (
        contextlib.suppress(sqlite3.Error, UnicodeDecodeError),  # of a message that quotes what is broken
        contextlib.closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        noted_at, skew = noted_in(db)
        return None if noted_at is None else (noted_at, skew)
    return None


def _aside(path: str) -> str:
    """Move *path* and its WAL to a name that says when; that name."""
    name = base = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    number = 1
    while os.path.lexists(name):
        number += 1
        name = f"{base}-{number}"
    if os.path.lexists(f"{path}-wal"):
        Path(f"{path}-wal").replace(f"{name}-wal")
    Path(f"{path}-shm").unlink(missing_ok=True)
    if os.path.lexists(path):
        Path(path).replace(name)
    return name
