"""Windows of handled message ids in SQLite: a file of its own, or the application's database. Does I/O on these."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from switchgear import checks
from switchgear.errors import Forked, InvalidOption, UnreadableFile
from switchgear.outbox.lock import FileLock, is_strange
from switchgear.window import DEFAULT_SIZE, Window, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from switchgear.message import Message

log = logging.getLogger("switchgear.window")

PRUNE_EVERY: Final = 1024
"""Ids between two removals of those that have left the window: a removal costs more than an insertion."""

NOT_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
    }
)
"""SQLite's result codes that say nothing against what is in a file."""


class HandledTable:
    """Ids of handled messages in the application's own SQLite database: exactly-once effects. Since: 0.1.

    The mark is made in the transaction that holds the effects, so both are there or neither is::

        handled = switchgear.HandledTable()

        def handle(message):
            with closing(sqlite3.connect("orders.db")) as database, database:
                if handled.mark(database, message):
                    database.execute("INSERT INTO orders VALUES (?)", (message.text,))

    The table is made when it is missing; rows further back than ``size`` are removed.

    Args:
        size: How many ids are remembered.
        table: Its name: letters, digits and underscores.
    """

    def __init__(self, *, size: int = 1_000_000, table: str = "switchgear_handled") -> None:
        if not checks.is_whole(size) or size < 1:
            raise InvalidOption("size", f"{checks.show(size)} is no whole number of at least 1")
        if not isinstance(table, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", table):
            raise InvalidOption("table", f"{checks.show(table)} is no name of letters, digits and underscores")
        self.size = size
        self.table = table

    def mark(self, database: sqlite3.Connection, message: Message, scope: str = "") -> bool:
        """Whether *message* was not handled before, in *scope*; from now on, if the transaction is committed, it was.

        Raises:
            InvalidOption: the message has no id, or *database* has no transaction open and opens none by itself.
        """
        if message.id is None:
            raise InvalidOption(
                "message", f"the one on {message.topic!r} has no id; its publisher needs message_id=True"
            )
        self.prepare(database)
        key = f"{scope}\n{message.id}"
        added = self._add(database, key)
        if not database.in_transaction:
            if added:
                database.execute(f"DELETE FROM {self.table} WHERE id = ?", (shortened(key),))  # noqa: S608 - the name was checked
            raise InvalidOption(
                "database",
                "it commits each statement by itself, so the mark could outlive its effects; execute BEGIN first",
            )
        return added

    def prepare(self, database: sqlite3.Connection) -> None:
        """Make the table when it is missing."""
        database.execute(
            f"CREATE TABLE IF NOT EXISTS {self.table} (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT"
        )

    def check(self, database: sqlite3.Connection) -> None:
        """Raise ``sqlite3.DatabaseError`` where the table could not be relied on."""
        (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        database.execute(f"INSERT INTO {self.table} (id) VALUES ('')")  # noqa: S608 - the name was checked
        database.execute(f"DELETE FROM {self.table} WHERE id = ''")  # noqa: S608 - the same

    def salvage(self, path: str) -> list[str]:
        """What can be read of the damaged file *path*, the oldest first."""
        found: dict[int, str] = {}
        for order in ("ASC", "DESC"):  # up to the damage, from both sides
            with (
                contextlib.suppress(sqlite3.Error, UnicodeError),
                contextlib.closing(sqlite3.connect(path)) as database,
            ):
                database.text_factory = lambda data: data.decode(errors="replace")
                found.update(database.execute(f"SELECT number, id FROM {self.table} ORDER BY number {order}"))  # noqa: S608 - the same
        return [key for _, key in sorted(found.items()) if isinstance(key, str)]

    def load(self, database: sqlite3.Connection) -> list[str]:
        """The last ``size`` ids, the oldest first."""
        rows = database.execute(f"SELECT id FROM {self.table} ORDER BY number DESC LIMIT ?", (self.size,))  # noqa: S608 - the name was checked
        return [row[0] for row in rows][::-1]

    def add_all(self, database: sqlite3.Connection, keys: Iterable[str]) -> None:
        """Note *keys* as handled."""
        for key in keys:
            self._add(database, key)

    def _add(self, database: sqlite3.Connection, key: str) -> bool:
        cursor = database.execute(f"INSERT OR IGNORE INTO {self.table} (id) VALUES (?)", (shortened(key),))  # noqa: S608 - the name was checked
        if cursor.rowcount == 0:
            return False
        number = cursor.lastrowid or 0
        if number % PRUNE_EVERY == 0:
            database.execute(f"DELETE FROM {self.table} WHERE number <= ?", (number - self.size,))  # noqa: S608 - the name was checked
        return True


class FileWindow(Window):
    """The last ``size`` message ids that were handled, in the SQLite file *path*: they outlive the process. Since: 0.1.

    An id is on disk before its message is acknowledged; many are written at once. What a handler did before its process
    was killed and before the id was written is done again: for exactly-once effects see `HandledTable`. The ids are
    kept in memory too, about 150 bytes each. Only one process at a time uses a file.

    Raises:
        OutboxLocked: another transport or process has the file.
        UnreadableFile: it cannot be opened or made, or is something else. One that is damaged is set aside as
            ``PATH.damaged``, and what can be read of it is taken over; the rest may be handled once more.
    """

    outlives: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str], size: int = DEFAULT_SIZE) -> None:
        super().__init__(size)
        self.path = os.fspath(path)
        self._table = HandledTable(size=size)
        self._writing = threading.Lock()
        self._is_closed = False
        self._pid = os.getpid()
        try:
            if is_strange(self.path):
                raise UnreadableFile(self.path, "window of message ids", "it is something else; name another file")
            self._file_lock = FileLock(self.path, what="window of message ids")
        except OSError as error:
            raise self._unreadable(error) from None
        try:
            self._database = self._open()
        except BaseException:
            self._file_lock.release()
            raise

    def __repr__(self) -> str:
        return f"<FileWindow {self.path!r} {len(self)} of {self.size}>"

    def _open(self) -> sqlite3.Connection:
        try:
            return self._try_to_open()
        except (
            sqlite3.DatabaseError,
            UnicodeDecodeError,
        ) as error:  # the latter: Python could not read what SQLite says
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # text that is no UTF-8 has none
            is_sound = code & 0xFF in NOT_DAMAGE and code != sqlite3.SQLITE_IOERR_SHORT_READ
            if is_sound or not os.access(self.path, os.W_OK):
                raise self._unreadable(error) from None
            aside = f"{self.path}.damaged"
            log.warning("switchgear.window_set_aside", extra={"path": self.path, "aside": aside, "why": str(error)})
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(self.path + suffix).replace(aside + suffix)
        try:
            return self._try_to_open(self._table.salvage(aside))
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def _try_to_open(self, salvaged: Sequence[str] = ()) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            with database:
                self._table.prepare(database)
                self._table.check(database)
                self._table.add_all(database, salvaged)
                self._remember(self._table.load(database))
        except BaseException:
            database.close()
            raise
        return database

    def _unreadable(self, error: Exception) -> UnreadableFile:
        why = getattr(error, "strerror", None) or str(error)
        return UnreadableFile(self.path, "window of message ids", f"{why}; name a file in a folder that can be written")

    def keep(self, keys: Sequence[str]) -> None:
        """Part of `Window`. After `close` it does nothing: the broker delivers these again, and they are handled again.

        Raises `Forked` in a child of the process that opened the file.
        """
        if os.getpid() != self._pid:
            raise Forked("FileWindow.keep()", self._pid)
        with self._writing:
            if not self._is_closed:
                with self._database:
                    self._table.add_all(self._database, keys)

    def close(self) -> None:
        """Close the file; others may have it. In a child of the process that opened it: nothing."""
        if os.getpid() != self._pid:
            return
        with self._writing:
            self._is_closed = True
            self._database.close()
            self._file_lock.release()


def open_window(asked: Window | str | int) -> Window | None:
    """The window that the option ``deduplicate`` asks for; raises what `FileWindow` raises."""
    if isinstance(asked, str):
        return FileWindow(asked)
    if isinstance(asked, bool):
        return Window() if asked else None
    return Window(asked) if isinstance(asked, int) else asked
