"""Any history of a durable outbox on a disk that fails, breaks, and is cut off by kills, beside what must be left of it."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from switchgear import Delivery, DeliveryState, OutboxLimits, OutboxUnwritable
from switchgear.outbox import NewestSqliteOutbox, SqliteOutbox, opening, sqlite_newest, windowed
from switchgear.outbox.stored import WRITTEN
from switchgear.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S = DeliveryState
WHAT = [
    *["publish", "send", "answer"] * 2,
    "rest",
    "rest",
    "lose",
    "cancel",
    "pass",
    "fail",
    "mend",
    "break",
    "kill",
    "close",
]


class Disk:
    """A disk of which statements of SQLite fail now and then; who holds `between` has it stand still between two of them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.fails = 0.0
        self.breaks = False
        self.between = threading.RLock()

    def mend(self) -> None:
        self.fails, self.breaks = 0.0, False

    def check(self, text: str) -> None:
        if text.startswith(("PRAGMA", "ROLLBACK")):
            return
        if self.breaks:
            self.breaks = False
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # as SQLite does
            raise error
        if self.rng.random() < self.fails:
            raise sqlite3.OperationalError("database or disk is full")


class Connection:
    """A connection to a database on a `Disk`."""

    def __init__(self, db: sqlite3.Connection, disk: Disk) -> None:
        self.db, self.disk = db, disk

    def execute(self, text: str, *values: Any) -> sqlite3.Cursor:
        with self.disk.between:
            self.disk.check(text)
            return self.db.execute(text, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk that is sound, and small windows."""
    for module, name, value in (
        (windowed, "WINDOW", 40), (windowed, "LOW", 16), (windowed, "CHUNK", 12), (sqlite_newest, "ELDEST", 16),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    made = Disk(0)
    real = opening._open

    def opened(*arguments: Any) -> Any:
        file = real(*arguments)
        file.db = Connection(file.db, made)  # type: ignore[assignment]  # it does as one
        return file

    def whole(name: str) -> None:
        function = getattr(opening, name)

        def call(*arguments: Any) -> Any:
            with made.between:
                return function(*arguments)

        monkeypatch.setattr(opening, name, call)

    whole("_rebuild")
    whole("_take_over")
    monkeypatch.setattr(opening, "_open", opened)
    yield made
    made.mend()


def rest(outbox: SqliteOutbox) -> None:
    """Let the writer do what it has to do, if it can soon."""
    outbox.writer.wait(lambda: outbox.writer.is_idle, 0.01)


@pytest.mark.parametrize("kind", [SqliteOutbox, NewestSqliteOutbox])
@pytest.mark.parametrize("seed", range(12))
def test_any_history(disk: Disk, tmp_path: Path, kind: type[SqliteOutbox], seed: int) -> None:
    """What was stored and did not end is in the file of the next process, in order; all that is left drains, and counts to 0."""
    rng = random.Random(seed)
    disk.rng = random.Random(seed)
    now, expiry, number, process = [100.0], dict[int, float | None](), 0, 0
    known: dict[int, Delivery] = {}  # of this process
    before: set[int] = set()  # of those before, and not ended since
    flying: list[Delivery] = []

    def new() -> SqliteOutbox:
        outbox = kind(
            OutboxLimits(), Waits(), str(tmp_path / f"{process}.outbox"), "normal",
            clock=lambda: now[0], wall=lambda: 1e9 + now[0], linger=0.0005,
        )  # fmt: skip
        outbox.writer.retry = 0.002
        if outbox.writer.has_jobs:
            outbox.writer.ask()  # as its start does
        return outbox

    def answer(delivery: Delivery) -> None:
        del outbox.sent[delivery.sequence]
        outbox.end(delivery, S.ACKNOWLEDGED)
        before.discard(int(delivery.topic))

    outbox = new()
    for what in rng.choices(WHAT, k=120):
        if what == "publish":
            for number in range(number, number + rng.randrange(1, 80)):  # noqa: B020 - goes on where it ended
                expiry[number] = rng.choice([None, None, None, now[0] + rng.randrange(1, 40)])
                try:
                    delivery = outbox.accept(str(number), bytes(rng.choice([0, 9, 3000])), 1, expires_at=expiry[number])
                except OutboxUnwritable:
                    break
                assert delivery is not None
                known[number] = delivery
            number += 1
        elif what == "send":
            while outbox.pending and rng.random() < 0.95:
                delivery = outbox.pending.popleft()
                if not delivery.done():
                    delivery._state = S.SENT
                    outbox.sent[delivery.sequence] = delivery
                    flying.append(delivery)
        elif what == "answer":
            for _ in range(rng.randrange(len(flying) + 1)):
                answer(flying.pop(rng.randrange(len(flying))))
        elif what == "rest":  # the writer goes on
            rest(outbox)
        elif what == "lose":
            outbox.requeue()
            flying.clear()
        elif what == "cancel" and known:
            outbox.cancel(rng.choice(list(known.values())))
        elif what == "pass":
            now[0] += rng.choice([0, 1, 5, 30])
            outbox.expire(now[0])
        elif what in {"fail", "mend"}:
            disk.fails = rng.choice([0.02, 0.3, 1.0]) if what == "fail" else 0.0
        elif what == "break":
            disk.breaks = rng.random() < 0.4
        elif what in {"kill", "close"} and rng.random() < 0.5:
            disk.mend()
            if what == "kill":
                with disk.between:
                    stored = {n for n, d in known.items() if d.disk == WRITTEN and not d.done()}  # type: ignore[attr-defined]
                    for file in tmp_path.glob(f"{process}.outbox*"):
                        shutil.copy(file, tmp_path / file.name.replace(str(process), str(process + 1), 1))
                (tmp_path / f"{process + 1}.outbox-shm").unlink(missing_ok=True)
                process += 1
            outbox.close_now()
            if what == "close":
                stored = {n for n, d in known.items() if not d.done()}
            wanted = {n for n in before | stored if (until := expiry[n]) is None or until > now[0] + 0.001}
            known.clear()
            flying.clear()
            outbox = new()
            with contextlib.closing(sqlite3.connect(tmp_path / f"{process}.outbox")) as db, db:
                rows = [int(topic) for (topic,) in db.execute("SELECT topic FROM message ORDER BY sequence")]
            db.close()
            assert rows == sorted(set(rows))
            assert wanted - set(rows) == set()
            before = set(rows)
    disk.mend()
    outbox.requeue()
    arrived: list[int] = []
    while len(outbox):
        disk.fails = 0.1 if len(arrived) < 200 else 0.0
        outbox._load_when_low()
        outbox.expire(now[0])
        assert outbox.writer.wait(lambda: bool(outbox.pending) or not len(outbox), 60)
        if outbox.pending and not (head := outbox.pending.popleft()).done():
            arrived.append(int(head.topic))
            outbox.end(head, S.ACKNOWLEDGED)
    assert outbox.size == 0
    assert len(arrived) == len(set(arrived))
    assert all(delivery.done() for delivery in known.values())
    disk.mend()
    outbox.close_now()
    with contextlib.closing(sqlite3.connect(outbox.path)) as db, db:
        counts = "SELECT messages, bytes, (SELECT count(*) FROM message) FROM meta"
        assert db.execute(counts).fetchone() == (0, 0, 0)
    db.close()
