"""A broken outbox file is mended whole or not at all: whatever happens meanwhile, no row that can be read is lost."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import switchgear
from switchgear import Delivery, DeliveryState, OutboxLimits, OutboxLocked, UnreadableFile
from switchgear.outbox import SqliteOutbox, opening, windowed
from switchgear.outbox.file import OutboxFile
from switchgear.outbox.rows import checksum
from switchgear.waits import Waits

S = DeliveryState
Open = Callable[..., SqliteOutbox]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox is."""
    return tmp_path / "outbox"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Opens outboxes, and closes them."""
    made: list[SqliteOutbox] = []

    def make(where: Path | None = None, **options: Any) -> SqliteOutbox:
        made.append(SqliteOutbox(OutboxLimits(), Waits(), str(where or path), "normal", **options))
        made[-1].writer.retry = 0.01
        return made[-1]

    yield make
    for outbox in made:
        outbox.close_now()


def put(outbox: SqliteOutbox, numbers: range) -> list[Delivery]:
    """These, all on disk."""
    made = []
    for number in numbers:
        delivery = outbox.accept(f"t/{number}", bytes(100), 1)
        assert delivery is not None
        made.append(delivery)
    made[-1].wait_stored(60)
    return made


def found(outbox: SqliteOutbox) -> list[int]:
    """The numbers of all that it holds: what opening it left on the disk is read first."""
    if outbox._is_spilling:
        outbox.writer.ask()
        assert outbox.writer.wait(lambda: not outbox._is_spilling, 60)
    assert len(outbox) == len(outbox.pending)
    return [int(delivery.topic[2:]) for delivery in outbox.pending]


def broken(opened: Open, path: Path) -> None:
    """200 messages in a file one page of which is broken, the last of them in its write-ahead log only."""
    outbox = opened()
    put(outbox, range(150))
    outbox.writer.file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    put(outbox, range(150, 200))
    kept = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    outbox.close_now()
    path.write_bytes(without_first_rows(kept[0]))
    Path(f"{path}-wal").write_bytes(kept[1])


def without_first_rows(data: bytes) -> bytes:
    """The file with the page broken that holds the first rows."""
    start = data.index(b"t/0\0") // 4096 * 4096
    assert data[start] == 0x0D
    return data[:start] + b"\x55" + data[start + 1 :]


def no_room(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_a_full_disk(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for the mended file the broken one stays, and is mended when there is."""
    broken(opened, path)
    with monkeypatch.context() as patch:
        patch.setattr(OutboxFile, "commit", no_room)
        with pytest.raises(UnreadableFile, match="full"):
            opened()
    assert found(opened()) == list(range(200))


@pytest.mark.parametrize("moves", range(4))
def test_killed_while_it_is_mended(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    """A process that ends in the middle, after any of the moves, leaves the next one all that it had found, and no rest."""
    broken(opened, path)
    replace, left = Path.replace, [moves]

    def until(self: Path, target: Path) -> Path:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until)
        with pytest.raises(Killed):
            opened()
    outbox = opened()
    assert found(outbox) == list(range(200))
    assert [name for name, _ in outbox.messenger.kept] == ["outbox_recovered"]
    assert not list(path.parent.glob("*.recover*"))


def test_what_was_moved_aside_stays_so(opened: Open, path: Path) -> None:
    """The quarantine of a broken file is that of the mended one: what was kept for the operator is not forgotten."""
    outbox = opened()
    put(outbox, range(200))
    outbox.close_now()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE message SET payload = X'01' WHERE sequence = 101")
    outbox = opened()
    assert outbox.writer.wait(lambda: [name for name, _ in outbox.messenger.kept] == ["outbox_quarantined"], 60)
    outbox.close_now()
    path.write_bytes(without_first_rows(path.read_bytes()))
    opened().close_now()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        aside = db.execute("SELECT why, topic, payload FROM quarantine").fetchall()
    assert aside == [("its checksum does not match", b"t/100", b"\x01")]


def test_overdue_when_it_breaks(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that were read past their time, and not ended yet, leave once when the file is mended meanwhile."""
    monkeypatch.setattr(windowed, "WINDOW", 8)
    outbox = opened()
    put(outbox, range(10))
    outbox.close_now()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        overdue = checksum(6, b"t/5", bytes(100), 1, b"", 1)
        db.execute("UPDATE message SET expires_at = 1, checksum = ? WHERE sequence = 6", (overdue,))
    outbox = opened()
    loop = asyncio.new_event_loop()  # which does not run: what it is told waits
    outbox.messenger.start(loop, emit=lambda *_, **__: None, on_change=lambda: None)
    for _ in range(4):
        outbox.end(outbox.pending.popleft(), S.ACKNOWLEDGED)
    outbox._load_soon()
    assert outbox.writer.wait(lambda: outbox._loaded > 6, 60)
    break_it(outbox, path)
    put(outbox, range(10, 11))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    outbox.flush(60)
    assert len(outbox) == 6
    outbox.close_now()
    monkeypatch.undo()
    assert found(opened()) == [4, 6, 7, 8, 9, 10]


def test_a_full_disk_while_it_is_used(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that breaks under a transport whose disk is full is mended when there is room: nothing in memory is lost."""
    outbox = opened()
    put(outbox, range(50))
    adopt = opening._rebuild
    monkeypatch.setattr(opening, "_rebuild", no_room)
    break_it(outbox, path)
    delivery = outbox.accept("t/50", b"", 1)
    assert delivery is not None
    assert outbox.writer.wait(lambda: outbox.writer.failure is not None, 60)
    monkeypatch.setattr(opening, "_rebuild", adopt)
    assert outbox.writer.wait(lambda: outbox.writer.failure is None, 60)
    delivery.wait_stored(60)
    assert found(outbox) == list(range(51))
    outbox.close_now()
    assert found(opened()) == list(range(51))


def break_it(outbox: SqliteOutbox, path: Path) -> None:
    outbox.writer.file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    outbox.writer.file.db.execute("PRAGMA cache_size = 0")
    path.write_bytes(b"\xff" * path.stat().st_size)


def test_mended_under_load(opened: Open, path: Path) -> None:
    """While the file is mended messages come and go, and the writer goes on."""
    outbox = opened()
    put(outbox, range(3000))
    taken = [outbox.pending.popleft() for _ in range(2000)]
    ends = threading.Event()

    def acknowledge() -> None:
        for delivery in taken:
            outbox.end(delivery, S.ACKNOWLEDGED)
        ends.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        break_it(outbox, path)
        thread = threading.Thread(target=acknowledge)
        thread.start()
        number = 3000
        while not ends.is_set() or number < 8000:
            assert outbox.accept(f"t/{number}", b"", 1) is not None
            number += 1
        thread.join()
        outbox.accept(f"t/{number}", b"", 1).wait_stored(30)  # type: ignore[union-attr]  # there is room
    finally:
        sys.setswitchinterval(interval)
    assert outbox.writer.failure is None
    assert found(outbox) == list(range(2000, number + 1))
    outbox.close_now()
    assert found(opened()) == list(range(2000, number + 1))


def test_answers_while_it_is_mended(opened: Open) -> None:
    """An acknowledgement that comes in the middle of the writer's looking through what has left does not end the writer."""
    outbox = opened()
    (delivery,) = put(outbox, range(1))

    class Coming:
        """What has left, and at whose looking another one leaves."""

        sequence = 999

        @property
        def disk(self) -> int:
            outbox.writer.removals.append(delivery)  # type: ignore[arg-type]  # of this outbox
            return 0

    outbox.writer.removals.append(Coming())  # type: ignore[arg-type]  # it does as one
    outbox.writer._broken = "a test says so"
    put(outbox, range(1, 2))
    assert outbox.writer.failure is None


def insert(db: sqlite3.Connection, sequence: int, topic: str) -> None:
    sum_ = checksum(sequence, topic.encode(), b"", 1, b"", None)
    db.execute("INSERT INTO message VALUES (?, ?, x'', 1, x'', 0, NULL, ?)", (sequence, topic.encode(), sum_))


def test_rows_that_were_never_committed(opened: Open, path: Path) -> None:
    """A row of a commit that failed, which is found in the broken file and still waits to be written, is written once."""
    outbox = opened(linger=30.0)
    put(outbox, range(3))
    waiting = outbox.accept("t/3", b"", 1)
    assert waiting is not None
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        insert(db, 4, "t/3")
    db.close()
    outbox.writer._broken = "a test says so"
    waiting.wait_stored(60)
    assert (len(outbox), outbox.writer.file.messages) == (4, 4)
    outbox.close_now()
    assert found(opened()) == [0, 1, 2, 3]


def test_rows_that_had_left(opened: Open, path: Path) -> None:
    """Rows that come to light again, of messages that this process saw end, are left out, with their bytes."""
    outbox = opened()
    put(outbox, range(10))
    for _ in range(5):
        outbox.end(outbox.pending.popleft(), S.ACKNOWLEDGED)
    assert outbox.writer.wait(lambda: outbox.writer.file.messages == 5, 60)
    size = outbox.writer.file.bytes
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        insert(db, 1, "t/0")
    db.close()
    outbox.writer._broken = "a test says so"
    put(outbox, range(10, 11))
    assert found(outbox) == [5, 6, 7, 8, 9, 10]
    assert (outbox.writer.file.messages, outbox.writer.file.bytes) == (6, size + 104)
    assert outbox.size == size + 104


def test_a_large_file(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file too large to be checked, whose first rows cannot be read, is opened, and mended by its writer."""
    outbox = opened()
    put(outbox, range(500))
    outbox.close_now()
    path.write_bytes(without_first_rows(path.read_bytes()))
    monkeypatch.setattr(opening, "CHECKED", 0)
    outbox = opened()
    outbox.writer.ask()
    assert outbox.writer.wait(lambda: len(outbox.pending) == 500, 60)
    assert found(outbox) == list(range(500))


def test_a_disk_that_breaks_every_file(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the mended file is broken, too, the writer says so; it does not fill the disk with one broken file after the other."""

    def malformed(*_: object, **__: object) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    outbox = opened()
    put(outbox, range(10))
    with monkeypatch.context() as patch:
        patch.setattr(SqliteOutbox, "_jobs", malformed)
        outbox.writer.ask()
        assert outbox.writer.wait(lambda: outbox.writer.failure is not None, 60)
        assert outbox.writer.wait(lambda: not outbox.writer.is_idle, 60)
    assert outbox.writer.wait(lambda: outbox.writer.failure is None, 60)
    assert [name for name, _ in outbox.messenger.kept].count("outbox_recovered") == 1
    assert found(outbox) == list(range(10))


# Whose file it is, and where. -----------------------------------------------------------------------------------------


def test_another_application_has_a_table_meta_too(opened: Open, path: Path) -> None:
    """Another application's database is refused and left as it is, though one of its tables is called as one of ours."""
    for version in (0, 1, 2):
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.executescript(
                f"DROP TABLE IF EXISTS meta; CREATE TABLE meta (key, value); PRAGMA user_version = {version}"
            )
        db.close()
        before = path.read_bytes()
        with pytest.raises(UnreadableFile, match="another application"):
            opened()
        assert path.read_bytes() == before
        assert {p.name for p in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


def flipped(opened: Open, path: Path, places: Callable[[bytes], list[int]]) -> None:
    """Wherever one byte of a file of 20 messages is another one it opens, with every row but one at most, and drains."""
    outbox = opened()
    put(outbox, range(20))
    outbox.close_now()
    sound = path.read_bytes()
    for place in places(sound):
        for mask in (1, 0x20, 0x80):
            data = bytearray(sound)
            data[place] ^= mask
            path.write_bytes(data)
            outbox = opened()
            numbers = found(outbox)
            assert len(numbers) >= 19, (place, mask)
            assert outbox.size == sum(len(d.payload) + len(d.topic) for d in outbox.pending), (place, mask)
            put(outbox, range(20, 21))
            outbox.close_now()
            for left in path.parent.iterdir():
                left.unlink()


def test_names_of_tables(opened: Open, path: Path) -> None:
    """Whatever letter of a table's or a column's name has changed, the file opens with every row."""
    flipped(opened, path, lambda data: list(range(data.index(b"CREATE INDEX"), 4096, 13)))


def test_counts(opened: Open, path: Path) -> None:
    """Whatever the file says of the number of its messages and their bytes, it is put right."""

    def places(data: bytes) -> list[int]:
        db = sqlite3.connect(path)
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'meta'").fetchone()
        db.close()
        start = (page - 1) * 4096
        cell = int.from_bytes(data[start + 8 : start + 10], "big")
        return list(range(start + cell, start + 4096))

    flipped(opened, path, places)


@pytest.mark.parametrize("hides", ["symbolic", "relative"])
def test_one_transport_by_whatever_name(opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch, hides: str) -> None:
    """A link to a file, or the way to it from another folder, is no second file: it belongs to one transport."""
    monkeypatch.chdir(path.parent)
    other = Path("other") if hides == "symbolic" else Path("outbox")
    if hides == "symbolic":
        other.symlink_to(path)
    opened()
    with pytest.raises(OutboxLocked):
        opened(other)


def test_a_second_name(opened: Open, path: Path, tmp_path: Path) -> None:
    """A hard link to a file that is in use is refused as what it is, and the one that uses the file goes on."""
    outbox = opened()
    put(outbox, range(3))
    other = tmp_path / "other"
    other.hardlink_to(path)
    with pytest.raises(UnreadableFile, match="a second name"):
        opened(other)
    put(outbox, range(3, 6))
    assert found(outbox) == list(range(6))


def test_a_link_to_a_broken_file(opened: Open, path: Path, tmp_path: Path) -> None:
    """A broken file is mended where it is, with its write-ahead log, also when its name is a link to it."""
    broken(opened, path)
    link = tmp_path / "link"
    link.symlink_to(path)
    outbox = opened(link)
    assert found(outbox) == list(range(200))
    assert link.is_symlink()


def test_memory_is_no_file(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means something to SQLite is the name of a file nevertheless: what is stored there is kept."""
    monkeypatch.chdir(tmp_path)
    outbox = opened(Path(":memory:"))
    put(outbox, range(3))
    outbox.close_now()
    assert found(opened(Path(":memory:"))) == [0, 1, 2]


def test_a_name_that_no_system_takes(tmp_path: Path) -> None:
    """A path that the system refuses is refused with its reason."""
    with pytest.raises(UnreadableFile, match="too long"):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=tmp_path / ("x" * 300))


def test_a_planted_lock(tmp_path: Path, path: Path) -> None:
    """A lock file that is a link is refused, and what it leads to is not touched."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    Path(f"{path}.lock").symlink_to(precious)
    with pytest.raises(UnreadableFile):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=path)
    assert precious.read_text() == "mine"
