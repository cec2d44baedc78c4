"""``switchgear outbox``: look at an outbox file, write it out, send quarantined messages again, empty it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from switchgear.cli.app import OK
from switchgear.cli.output import as_json, payload_facts, write_line
from switchgear.cli.visible import visible
from switchgear.errors import InvalidOption, OutboxLocked, UnreadableFile
from switchgear.outbox.clock import FileClock
from switchgear.outbox.lock import FileLock, holder, lock_file
from switchgear.outbox.opening import is_corrupt, is_something_else, open_file, reason
from switchgear.outbox.rows import Row, checksum, pack_rows, unpack_properties
from switchgear.outbox.salvage import COLUMNS, as_row
from switchgear.outbox.schema import APPLICATION, SCHEMA, noted_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.outbox.file import OutboxFile

EPILOG = """
show and export read a file that a transport is using; requeue and purge need it for themselves.

Exit codes: 0 it worked, 2 there is no such file, it is in use, or --yes is missing.
"""

PART: Final = 32
"""Rows that export reads at once."""

File = Annotated[str, typer.Argument(metavar="FILE", help="The outbox file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object.")]


def add(app: typer.Typer, epilog: str) -> None:
    """Add the sub-commands to *app*."""
    group = typer.Typer(no_args_is_help=True, help="Look at an outbox file, or mend it.", epilog=epilog)
    group.command()(show)
    group.command()(export)
    group.command()(requeue)
    group.command()(purge)
    app.add_typer(group, name="outbox", short_help="Look at an outbox file, or mend it.")


def show(file: File, *, json: Json = False) -> None:
    """Count the messages of FILE, say how old they are, and what is in quarantine."""
    with _reading(file) as db:
        facts = _facts(file, db)
    if json:
        write_line(as_json(facts))
    else:
        for name, value in facts.items():
            typer.echo(f"{name.replace('_', ' '):18} {'-' if value is None else visible(str(value))}")
    raise typer.Exit(OK)


def export(
    file: File,
    *,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Write the messages in quarantine instead of those that wait.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Accepted for symmetry: the output is JSON lines anyway.")
    ] = True,
) -> None:
    """Write the messages of FILE as JSON lines, oldest first; FILE keeps them."""
    del json
    with _reading(file) as db:
        clock = _clock(db)
        if quarantine:
            for number, why, *values in _in_parts(db, "quarantine", f"number, why, {COLUMNS}"):
                write_line(as_json({"number": number, "why": why, **_message(tuple(values), clock)}))
        else:
            for row in _in_parts(db, "message", COLUMNS):
                write_line(as_json(_message(row, clock)))
    raise typer.Exit(OK)


def _in_parts(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows of *table*, whose key is the first of *columns*, in order.

    Not in one reading: for as long as that takes, and a reader of ours may be slow, a transport that uses the file could not
    use its write-ahead log anew.
    """
    key = columns.partition(",")[0]
    query = f"SELECT {columns} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {PART}"  # noqa: S608 - our names
    last = -1
    while part := db.execute(query, (last,)).fetchall():
        yield from part
        last = part[-1][0]


def requeue(file: File, *, json: Json = False) -> None:
    """Put the messages in quarantine back, as new ones, as they are now: look at them with export first."""
    with _owned(file) as opened:
        again: list[Row] = []
        numbers: list[int] = []
        sequence = opened.next_sequence
        for number, *values in opened.db.execute(f"SELECT number, {COLUMNS} FROM quarantine ORDER BY number"):  # noqa: S608 - our columns
            row = _mended(tuple(values), sequence)
            if row is None:
                continue
            again.append(row)
            numbers.append(number)
            sequence += 1
        opened.commit([pack_rows(again)], requeued=numbers)
        left = opened.db.execute("SELECT count(*) FROM quarantine").fetchone()[0]
    _tell(json, requeued=len(again), quarantined=left)


def purge(
    file: File,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, throw these messages away.")] = False,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Only those in quarantine.")] = False,
    json: Json = False,
) -> None:
    """Throw away every message of FILE, those in quarantine too."""
    if not yes:
        raise InvalidOption("--yes", "purge throws messages away for ever; look with show, then say --yes")
    with _owned(file) as opened:
        messages, quarantined = opened.clear(quarantine_only=quarantine)
        opened.shrink()
    _tell(json, purged=messages, purged_from_quarantine=quarantined)


def _tell(json: bool, **facts: object) -> None:
    if json:
        write_line(as_json(facts))
    else:
        typer.echo(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items()))
    raise typer.Exit(OK)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing."""
    if not Path(path).is_file():
        why = "it is no regular file; name one" if Path(path).exists() else "there is no such file"
        raise UnreadableFile(path, "outbox", why)
    try:
        db = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise UnreadableFile(path, "outbox", str(error)) from error
    try:
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise UnreadableFile(path, "outbox", "it is no outbox of Switchgear")
        yield db
    except sqlite3.Error as error:
        if is_corrupt(error) and is_something_else(path):
            raise UnreadableFile(path, "outbox", "it is something else, no outbox; name another file") from error
        advice = "; a transport that opens it saves what can be read" if is_corrupt(error) else ""
        raise UnreadableFile(path, "outbox", reason(path, error) + advice) from error
    finally:
        db.close()


@contextlib.contextmanager
def _owned(path: str) -> Iterator[OutboxFile]:
    """The file, for us alone."""
    with _reading(path):
        pass
    opened = open_file(path, "full", lambda name, **facts: typer.echo(f"{name}: {facts}", err=True))
    try:
        yield opened
    except sqlite3.Error as error:
        raise UnreadableFile(path, "outbox", f"{reason(path, error)}; nothing was changed") from error
    finally:
        opened.close()


def _facts(path: str, db: sqlite3.Connection) -> dict[str, object]:
    messages, size = db.execute("SELECT messages, bytes FROM meta").fetchone()
    first, last, expiring, expired = db.execute(
        "SELECT min(accepted_at), max(accepted_at), count(expires_at), count(CASE WHEN expires_at <= ? THEN 1 END)"
        " FROM message",
        (_clock(db).now() * 1000,),
    ).fetchone()
    quarantined = db.execute("SELECT count(*) FROM quarantine").fetchone()[0]
    now = time.time()
    return {
        "file": path,
        "schema": db.execute("PRAGMA user_version").fetchone()[0] or SCHEMA,
        "messages": messages,
        "bytes": size,
        "oldest_seconds": None if first is None else round(now - first / 1000, 1),
        "newest_seconds": None if last is None else round(now - last / 1000, 1),
        "expiring": expiring,
        "expired": expired,
        "quarantined": quarantined,
        "held_by": _holder(path),
    }


def _holder(path: str) -> int | None:
    """The process whose transport has the file."""
    if not Path(lock_file(path)).exists():
        return None
    try:
        FileLock(path, note=False).release()
    except OutboxLocked as error:
        return error.pid
    except OSError:
        return holder(path)
    return None


def _clock(db: sqlite3.Connection) -> FileClock:
    clock = FileClock(time.monotonic, time.time)
    clock.resume(*noted_in(db))
    return clock


def _message(values: tuple[Any, ...], clock: FileClock) -> dict[str, object]:
    row = as_row(values)
    if row is None:
        return {"sequence": values[0], "is_sound": False}
    facts: dict[str, object] = {
        "sequence": row.sequence,
        "topic": row.topic.decode("utf-8", "replace"),
        "qos": row.qos,
        "retain": row.retain,
        "accepted_at": row.accepted_at / 1000,
        "is_sound": row.is_sound,
        **payload_facts(row.payload),
    }
    if row.expires_at is not None:
        facts["expires_at"] = row.expires_at / 1000 - clock.noted()[1] / 1000
    if row.extra:
        facts["properties"] = row.extra.decode("utf-8", "replace")
    return facts


def _mended(values: tuple[Any, ...], sequence: int) -> Row | None:
    """The row as it is, under a new sequence and with a fitting checksum; None when it is none."""
    row = as_row(values)
    if row is None or row.qos > 2:
        return None
    try:
        row.topic.decode()
        unpack_properties(row.extra)
    except (ValueError, TypeError):
        return None
    sum_ = checksum(sequence, row.topic, row.payload, row.flags, row.extra, row.expires_at)
    return Row(sequence, row.topic, row.payload, row.flags, row.extra, row.accepted_at, row.expires_at, sum_)
