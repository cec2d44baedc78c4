"""The tables of an outbox file, and what makes an older file's of them. Does I/O on the database that it is given."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

SCHEMA: Final = 2
"""``PRAGMA user_version`` of what this version writes."""

APPLICATION: Final = 0x53474F42
"""``PRAGMA application_id``: "SGOB"."""

_TABLES: Final = """
CREATE TABLE message (sequence INTEGER PRIMARY KEY, topic BLOB, payload BLOB, flags INTEGER, extra BLOB,
    accepted_at INTEGER, expires_at INTEGER, checksum INTEGER);
CREATE INDEX message_expiry ON message (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE quarantine (number INTEGER PRIMARY KEY AUTOINCREMENT, found_at INTEGER, why TEXT, sequence, topic,
    payload, flags, extra, accepted_at, expires_at, checksum);
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), messages INTEGER, bytes INTEGER, floor INTEGER,
    exactly_once INTEGER, noted_at INTEGER, skew INTEGER);
INSERT INTO meta VALUES (1, 0, 0, 1, 0, NULL, NULL);
"""

TABLES: Final = frozenset({"message", "quarantine", "meta"})
"""Their names."""

MIGRATIONS: Final[dict[int, str]] = {
    1: "ALTER TABLE meta ADD COLUMN noted_at INTEGER; ALTER TABLE meta ADD COLUMN skew INTEGER;",
}
"""By schema version: the statements that make the next one of it."""


def migrate(db: sqlite3.Connection, tables: set[str], version: int) -> None:
    """Make the tables, or bring those of an older version up to date, all or nothing."""
    if not tables and version == 0:
        steps, version = _TABLES, SCHEMA
        db.executescript(
            f"BEGIN IMMEDIATE; {steps} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {version}; COMMIT;"
        )
        return
    while version < SCHEMA:
        if version not in MIGRATIONS:
            raise sqlite3.DatabaseError(f"its schema {version} is none of ours")
        db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;")
        version += 1


def is_as_made(db: sqlite3.Connection) -> bool:
    """Whether the tables have their columns: a byte that flips in the first page may rename one."""
    with contextlib.closing(sqlite3.connect(":memory:")) as ours:
        ours.executescript(_TABLES)
        return _columns(db) == _columns(ours)


def _columns(db: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [db.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall() for name in sorted(TABLES)]


def noted_in(db: sqlite3.Connection) -> tuple[int | None, int]:
    """What the file of *db* says of its clock, for `FileClock.resume`; schema 1 says nothing."""
    try:
        noted_at, skew = db.execute("SELECT noted_at, skew FROM meta").fetchone() or (None, None)
    except sqlite3.OperationalError:
        return None, 0
    return (noted_at, skew) if isinstance(noted_at, int) and isinstance(skew, int) else (None, 0)
