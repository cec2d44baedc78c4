"""The durable outbox: its file, its window, and what it does with bad files."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import DeliveryState, OutboxLimits, OutboxLocked, OutboxUnwritable, Properties, UnreadableFile
from switchgear.outbox import SqliteOutbox, opening, windowed
from switchgear.outbox.salvage import salvage
from switchgear.outbox.stored import StoredDelivery
from switchgear.outbox.wal import is_cut
from switchgear.waits import Waits

if TYPE_CHECKING:
    from switchgear.delivery import Delivery

S = DeliveryState
Open = Callable[..., SqliteOutbox]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox is."""
    return tmp_path / "press-7.outbox"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Opens outboxes, and closes them."""
    made: list[SqliteOutbox] = []

    def make(where: Path | None = None, **options: Any) -> SqliteOutbox:
        outbox = SqliteOutbox(OutboxLimits(), Waits(), str(where or path), **options)
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        outbox.close_now()


def put(outbox: SqliteOutbox, count: int, *, size: int = 20, qos: int = 1) -> list[Delivery]:
    """That many numbered messages, all on disk."""
    made = []
    for number in range(count):
        delivery = outbox.accept(f"t/{number}", b"%d" % number + bytes(size), qos)
        assert delivery is not None
        made.append(delivery)
    made[-1].wait_stored(60)
    return made


def numbers(outbox: SqliteOutbox) -> list[int]:
    """The numbers of what comes out, in order; each is acknowledged."""
    found = []
    while len(outbox):
        while not outbox.pending:
            assert outbox.writer.wait(lambda: bool(outbox.pending), 60)
        delivery = outbox.pending.popleft()
        if delivery.done():
            continue
        found.append(int(delivery.topic.partition("/")[2]))
        outbox.end(delivery, S.ACKNOWLEDGED)
    return found


def rows(path: Path) -> list[int]:
    db = sqlite3.connect(path)
    try:
        return [row for (row,) in db.execute("SELECT sequence FROM message ORDER BY sequence")]
    finally:
        db.close()


def test_kept_from_one_transport_to_the_next(opened: Open) -> None:
    """All that was left is there again, in order, as it was published, and nothing that had been acknowledged."""
    outbox = opened()
    properties = Properties(
        content_type="a", response_topic="b", correlation_data=b"\0\xff", payload_is_text=True, user={"k": "ü"}
    )
    first = outbox.accept("bäh", b"\0;,'\xff", 2, retain=True, properties=properties)
    assert first is not None
    for delivery in put(outbox, 4)[:2]:
        outbox.end(delivery, S.ACKNOWLEDGED)
    outbox.close_now()
    again = opened()
    assert (len(again), again.accepted) == (3, 0)
    found = list(again.pending)
    assert [d.topic for d in found] == ["bäh", "t/2", "t/3"]
    assert (found[0].payload, found[0].qos, found[0].retain, found[0].properties) == (
        b"\0;,'\xff", 2, True, properties,
    )  # fmt: skip
    assert {d.state for d in found} == {S.STORED}
    assert again.size == outbox.size


def test_accepted_until_it_is_on_disk(opened: Open, path: Path) -> None:
    """A message is ACCEPTED while it is not in the file, and in the file when it is STORED."""
    outbox = opened(linger=30.0)
    delivery = outbox.accept("t", b"", 1)
    assert delivery is not None
    assert (delivery.state, rows(path)) == (S.ACCEPTED, [])
    delivery.wait_stored(60)
    assert (delivery.state, rows(path)) == (S.STORED, [1])


def test_acknowledged_before_it_was_written(opened: Open, path: Path) -> None:
    """What a broker has before it was written is never written, and whoever waits for its storing is woken."""
    outbox = opened(linger=30.0)
    delivery = outbox.accept("t", b"", 1)
    assert delivery is not None
    outbox.end(outbox.pending.popleft(), S.ACKNOWLEDGED)
    delivery.wait_stored(60)
    assert outbox.accept("t", b"", 1) is not None
    outbox.close_now()
    assert rows(path) == [2]


def test_full_syncs_and_normal_does_not(opened: Open, tmp_path: Path) -> None:
    """Durability is the setting of SQLite that the documents name: 2 is FULL, 1 is NORMAL."""
    for durability, value in (("full", 2), ("normal", 1)):
        outbox = opened(tmp_path / durability, durability=durability)
        assert outbox.writer.file.db.execute("PRAGMA synchronous").fetchone() == (value,)
        assert outbox.writer.file.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("kept", [True, False])
def test_a_backlog_comes_back_in_order(opened: Open, monkeypatch: pytest.MonkeyPatch, *, kept: bool) -> None:
    """Beyond the window messages are on disk only, come back in order, and are the deliveries that somebody holds."""
    monkeypatch.setattr(windowed, "WINDOW", 50)
    monkeypatch.setattr(windowed, "LOW", 20)
    monkeypatch.setattr(windowed, "CHUNK", 30)
    outbox = opened()
    made = put(outbox, 500) if kept else put(outbox, 500)[:0]
    assert len(outbox.pending) == 50
    assert numbers(outbox) == list(range(500))
    assert [d.state for d in made] == [S.ACKNOWLEDGED] * len(made)


def test_cancelled_on_disk(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is on disk only can be taken back, and does not come again."""
    monkeypatch.setattr(windowed, "WINDOW", 5)
    monkeypatch.setattr(windowed, "LOW", 2)
    outbox = opened()
    made = put(outbox, 20)
    assert outbox.cancel(made[10])
    del made
    assert numbers(outbox) == [n for n in range(20) if n != 10]


def test_the_file_is_emptied(opened: Open, path: Path) -> None:
    """After a backlog has drained the file has no row, and after closing it is small and has no WAL."""
    outbox = opened()
    put(outbox, 3000, size=3000)
    outbox.close_now()
    large = path.stat().st_size
    again = opened()
    assert len(numbers(again)) == 3000
    again.close_now()
    assert rows(path) == []
    assert path.stat().st_size < large / 50
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


def test_memory_comes_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog has few objects in memory, and when it has drained none is left."""
    monkeypatch.setattr(windowed, "WINDOW", 50)
    monkeypatch.setattr(windowed, "LOW", 20)

    def objects() -> int:
        gc.collect()
        return sum(isinstance(thing, StoredDelivery) for thing in gc.get_objects())

    before = objects()
    outbox = opened()
    put(outbox, 3000)
    assert objects() - before <= 51
    assert len(numbers(outbox)) == 3000
    assert outbox.writer.wait(lambda: not outbox.writer.removals and not outbox.writer._is_committing, 60)
    assert objects() - before <= 1
    assert not outbox._live


def test_sequences_never_come_again(opened: Open) -> None:
    """A new process goes on counting where the last one ended, even when nothing was left."""
    outbox = opened()
    put(outbox, 7)
    assert len(numbers(outbox)) == 7
    outbox.close_now()
    again = opened()
    delivery = again.accept("t", b"", 1)
    assert delivery is not None
    assert delivery.sequence == 8


def test_mode_of_the_files(opened: Open, path: Path) -> None:
    """Nobody but the owner can read the payloads: the file, its WAL and its index have mode 0600."""
    put(opened(), 1)
    modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert f"{path.name}-wal" in modes


# Expiry. --------------------------------------------------------------------------------------------------------------


def test_expired_while_nobody_ran(opened: Open) -> None:
    """A message expires by the wall clock while no process has the file: the next transport ends it and counts it."""
    now = 1_000_000.0
    outbox = opened(wall=lambda: now, clock=lambda: 100.0)
    put(outbox, 1)
    assert outbox.accept("t/1", b"", 1, expires_at=110.0) is not None
    assert outbox.accept("t/2", b"", 1, expires_at=190.0) is not None
    outbox.close_now()
    again = opened(wall=lambda: now + 50, clock=lambda: 7.0)
    assert [d.topic for d in again.pending] == ["t/0", "t/2"]
    count, following = again.expire(7.0)
    assert (count, round(following or 0, 1)) == (1, 47.0)


def test_expired_on_disk(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that are on disk only expire there, those that somebody holds by their delivery."""
    monkeypatch.setattr(windowed, "WINDOW", 5)
    monkeypatch.setattr(windowed, "LOW", 2)
    time = [100.0]
    outbox = opened(wall=lambda: 1e6 + time[0], clock=lambda: time[0])
    put(outbox, 10)
    held = outbox.accept("t/10", b"", 1, expires_at=110.0)
    assert outbox.accept("t/11", b"", 1, expires_at=110.0) is not None
    last = outbox.accept("t/12", b"", 1)
    assert held is not None
    assert last is not None
    last.wait_stored(60)
    assert round(outbox.expire(100.0)[1] or 0, 1) == 110.0
    time[0] = 111.0
    count = outbox.expire(111.0)[0]
    assert outbox.writer.wait(lambda: held.done() and len(outbox) == 11, 60)
    assert held.state is S.EXPIRED
    assert count + outbox.expire(111.0)[0] == 2
    assert numbers(outbox) == [*range(10), 12]


# Who may have it. -----------------------------------------------------------------------------------------------------


def test_one_transport_at_a_time(opened: Open, path: Path) -> None:
    """A second transport is refused with the file and the process that has it, and gets it when that one has closed."""
    outbox = opened()
    with pytest.raises(OutboxLocked, match="in this process") as caught:
        opened()
    assert (caught.value.path, caught.value.pid) == (str(path), os.getpid())
    code = f"import switchgear; switchgear.connect('mqtt://127.0.0.1:1', outbox={str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"OutboxLocked: outbox {str(path)!r}: a transport in process {os.getpid()} has it" in done.stderr
    outbox.close_now()
    opened()


def test_a_lock_needs_no_room_for_its_note(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, where nobody can write who has the outbox, it is opened, held, and free again when it is closed."""

    def no_room(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("switchgear.outbox.lock.os.write", no_room)
    outbox = opened()
    with pytest.raises(OutboxLocked, match="in another process has it"):
        opened()
    outbox.close_now()
    opened()


def test_a_full_disk_is_named_where_a_file_cannot_be_opened(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's "disk I/O error" on a full disk is reported as what it is, with the way out."""

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(opening, "_open", fails)
    monkeypatch.setattr("switchgear.outbox.opening.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(UnreadableFile, match="disk I/O error; its disk is full, make room"):
        opened()


def test_places_that_cannot_hold_it(tmp_path: Path) -> None:
    """A folder, a missing folder, a device and another application's database are refused by connect, and unchanged."""
    other = tmp_path / "other"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE theirs (a)")
    db.commit()
    db.close()
    before = other.read_bytes()
    for where, why in (
        (tmp_path, "it is a folder"),
        (tmp_path / "no" / "file", "does not exist"),
        (Path("/dev/null"), "no regular file"),
        (other, "another application"),
    ):
        with pytest.raises(UnreadableFile, match=why) as caught:
            switchgear.connect("mqtt://127.0.0.1:1", outbox=where)
        assert caught.value.path == str(where)
    assert other.read_bytes() == before


@pytest.mark.parametrize("text", [b"a = 1\n", b"hello" * 10_000])
def test_a_file_that_was_never_an_outbox(tmp_path: Path, text: bytes) -> None:
    """Somebody's file that is named by mistake is refused as an outbox and as a window; it keeps its place, text and mode."""
    theirs = tmp_path / "press.toml"
    theirs.write_bytes(text)
    theirs.chmod(0o644)
    with pytest.raises(UnreadableFile, match="no outbox; name another file"):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=theirs)
    with pytest.raises(UnreadableFile, match="something else; name another file"):
        switchgear.FileWindow(theirs)
    assert (theirs.read_bytes(), theirs.stat().st_mode & 0o777, list(tmp_path.iterdir())) == (text, 0o644, [theirs])


def test_another_applications_database_keeps_its_mode(tmp_path: Path) -> None:
    """A database of another application, which is refused, can be read by those who could before."""
    theirs = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(theirs)) as db:
        db.execute("CREATE TABLE theirs (a)")
    theirs.chmod(0o644)
    with pytest.raises(UnreadableFile, match="another application"):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=theirs)
    assert theirs.stat().st_mode & 0o777 == 0o644


def test_a_broken_outbox_that_was_copied_without_its_lock(opened: Open, path: Path) -> None:
    """An outbox whose beginning is broken is one by its rows, also where nothing beside it says so: none is lost."""
    filled(opened)
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    Path(f"{path}.lock").unlink()
    assert len(opened()) == 400


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only(tmp_path: Path, path: Path) -> None:
    """A file or a folder that this user cannot write is refused by connect."""
    path.touch(0o400)
    with pytest.raises(UnreadableFile, match="read-only"):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=path)
    path.unlink()
    tmp_path.chmod(0o500)
    with pytest.raises(UnreadableFile, match="read-only"):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=path)


def test_read_only_file_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says when the file cannot be written is the reason that connect gives."""
    monkeypatch.setattr(opening.os, "access", lambda *_: False)  # type: ignore[attr-defined] # the module's own os
    with pytest.raises(UnreadableFile, match="read-only"):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=path)


def test_older_schema(opened: Open, path: Path) -> None:
    """A file of schema 1 is brought up to date, with its rows; what expires there expires when it would have."""
    now = 1_000_000.0
    outbox = opened(wall=lambda: now, clock=lambda: 5.0)
    put(outbox, 3)
    assert outbox.accept("t/3", b"", 1, expires_at=15.0) is not None
    outbox.close_now()
    db = sqlite3.connect(path)
    db.executescript(
        "ALTER TABLE meta DROP COLUMN noted_at; ALTER TABLE meta DROP COLUMN skew; PRAGMA user_version = 1"
    )
    db.close()
    again = opened(wall=lambda: now + 4, clock=lambda: 7.0)
    assert [d.expires_at for d in again.pending] == [None, None, None, 13.0]
    assert again.writer.file.db.execute("PRAGMA user_version").fetchone() == (2,)
    assert numbers(again) == [0, 1, 2, 3]


def test_newer_schema(opened: Open, path: Path) -> None:
    """A file of a newer schema is refused with the advice to upgrade, and not touched."""
    filled(opened, 3)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 3")
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        UnreadableFile, match="its schema is 3, newer than 2, which this version of Switchgear reads; upgrade"
    ):
        opened()
    assert path.read_bytes() == before
    assert rows(path) == [1, 2, 3]


# Broken files. --------------------------------------------------------------------------------------------------------


def filled(opened: Open, count: int = 400, size: int = 100) -> None:
    outbox = opened()
    put(outbox, count, size=size)
    outbox.close_now()


def heard(outbox: SqliteOutbox) -> dict[str, dict[str, Any]]:
    return dict(outbox.messenger.kept)


def test_not_a_database(opened: Open, path: Path) -> None:
    """An outbox that is no database any more is moved aside, reported, and a new one is used."""
    opened().close_now()
    path.write_bytes(b"hello" * 1000)
    outbox = opened()
    told = heard(outbox)["outbox_recovered"]
    assert Path(told["moved"]).read_bytes() == b"hello" * 1000
    assert (told["count"], len(outbox)) == (0, 0)
    put(outbox, 1)


@pytest.mark.parametrize("place", [0, 17, 40, 60, 100, 103, 110])
def test_a_flipped_byte_in_the_first_page(opened: Open, path: Path, place: int) -> None:
    """With its first page broken, where all that SQLite knows of the tables begins, no row is lost."""
    filled(opened)
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    try:
        outbox = opened()
    except UnreadableFile:
        assert place in {60, 68}  # the schema version: a newer one is never touched
        return
    assert numbers(outbox) == list(range(400))


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_byte_anywhere(opened: Open, path: Path, seed: int) -> None:
    """A flipped byte costs at most the row that it is in; every other one is sent, once, in order."""
    filled(opened)
    data = bytearray(path.read_bytes())
    place = 4096 + (len(data) - 4096) * seed // 12 + 37 * seed
    data[place] ^= 0x55
    path.write_bytes(data)
    found = numbers(opened())
    assert found == sorted(set(found))
    assert len(found) >= 399


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated(opened: Open, path: Path, share: float) -> None:
    """Of a file that was cut off, every row of the part that is left is sent, in order, and the rest is set aside."""
    filled(opened, 2000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    sound = [row.sequence - 1 for row in salvage(str(path))]
    outbox = opened()
    assert heard(outbox)["outbox_recovered"]["count"] == len(sound)
    assert numbers(outbox) == sound
    assert len(sound) > 2000 * share * 0.6


def test_large_rows_are_carved(opened: Open, path: Path) -> None:
    """Rows that fill several pages are read from a file whose first page is gone."""
    filled(opened, 40, 20_000)
    data = bytearray(path.read_bytes())
    data[:200] = bytes(200)
    path.write_bytes(data)
    assert numbers(opened()) == list(range(40))


def test_a_corrupt_row_is_quarantined(opened: Open, path: Path) -> None:
    """A row whose checksum does not match is set aside and reported, and all others are sent."""
    filled(opened, 10)
    db = sqlite3.connect(path)
    db.execute("UPDATE message SET payload = x'00' WHERE sequence = 4")
    db.commit()
    db.close()
    outbox = opened()
    assert heard(outbox)["outbox_quarantined"]["count"] == 1
    assert numbers(outbox) == [0, 1, 2, *range(4, 10)]
    outbox.close_now()
    assert opened().size == 0
    db = sqlite3.connect(path)
    assert db.execute("SELECT sequence, payload FROM quarantine").fetchall() == [(4, b"\0")]
    db.close()


def test_broken_while_it_is_used(opened: Open, path: Path) -> None:
    """A file that breaks under a running transport is replaced, and what is in memory is written again."""
    outbox = opened()
    put(outbox, 50)
    outbox.writer.file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    outbox.writer.file.db.execute("PRAGMA cache_size = 0")
    path.write_bytes(b"\xff" * path.stat().st_size)
    more = outbox.accept("t/50", b"", 1)
    assert more is not None
    more.wait_stored(60)
    assert heard(outbox)["outbox_recovered"]["path"] == str(path)
    assert rows(path) == list(range(1, 52))
    assert numbers(outbox) == list(range(51))


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_byte_in_the_log(opened: Open, path: Path, tmp_path: Path, seed: int) -> None:
    """After a kill a flipped byte in the write-ahead log costs at most the row that it is in, not all that came later."""
    outbox = opened()
    for _ in range(8):
        put(outbox, 50, size=100)
    dead = tmp_path / "dead" / "outbox"
    dead.parent.mkdir()
    for name in (path, Path(f"{path}-wal")):  # what a kill leaves
        (dead.parent / name.name.replace(path.name, dead.name)).write_bytes(name.read_bytes())
    log = Path(f"{dead}-wal")
    data = bytearray(log.read_bytes())
    assert not is_cut(str(dead))
    place = [0, 10, 20, 26][seed] if seed < 4 else len(data) * (seed - 3) // 6
    data[place] ^= 0x55
    log.write_bytes(data)
    again = opened(dead)
    assert heard(again)["outbox_recovered"]["why"] == "its write-ahead log is broken"
    found = [delivery.sequence for delivery in again.pending]
    assert found == sorted(set(found))
    assert len(found) >= 399


def test_a_commit_that_was_cut_off(opened: Open, path: Path, tmp_path: Path) -> None:
    """The rest of a transaction that a kill interrupted is no broken log: nothing is moved aside."""
    put(opened(), 50)
    dead = tmp_path / "dead"
    dead.write_bytes(path.read_bytes())
    Path(f"{dead}-wal").write_bytes(Path(f"{path}-wal").read_bytes()[:-10])
    again = opened(dead)
    assert heard(again) == {}
    assert len(again) == 0


# A full disk. ---------------------------------------------------------------------------------------------------------


def test_disk_full(opened: Open, path: Path) -> None:
    """With the disk full publishers hear it, nothing accepted is lost, and it goes on when there is room again."""
    outbox = opened()
    outbox.writer.retry = 0.01
    put(outbox, 10)
    db = outbox.writer.file.db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    waiting = [outbox.accept(f"t/{n}", bytes(5000), 1) for n in range(10, 15)]
    assert all(waiting)
    last = waiting[-1]
    assert last is not None
    with pytest.raises(OutboxUnwritable, match="full") as caught:
        last.wait_stored(60)
    assert caught.value.path == str(path)
    with pytest.raises(OutboxUnwritable):
        outbox.accept("t/99", b"", 1)
    assert [d.state for d in waiting if d] == [S.ACCEPTED] * 5
    db.execute("PRAGMA max_page_count = 1000000")
    assert outbox.writer.wait(lambda: outbox.writer.failure is None, 60)
    last.wait_stored(60)
    assert {"outbox_unwritable", "outbox_writable"} <= set(heard(outbox))
    assert numbers(outbox) == list(range(15))


# QoS 2 and packet ids. ------------------------------------------------------------------------------------------------


def test_qos_2_and_the_next_process(opened: Open, tmp_path: Path) -> None:
    """After QoS 2 the next process starts clean unless the last one ended knowing that no packet id is open."""

    def after(*, acknowledged: bool, closed: bool) -> bool:
        where = tmp_path / f"{acknowledged}{closed}"
        outbox = opened(where)
        put(outbox, 1, qos=2)
        delivery = outbox.pending.popleft()
        outbox.sent[1] = delivery
        delivery._state, delivery.packet_id = S.SENT, 7
        if acknowledged:
            del outbox.sent[1]
            outbox.end(delivery, S.ACKNOWLEDGED)
        if not closed:
            outbox.writer.exactly_once = True
            outbox.writer.close(lambda: None, exactly_once=True)  # what a kill leaves
            outbox.writer.join()
        outbox.close_now()
        again = opened(where)
        return again.starts_clean

    assert after(acknowledged=True, closed=True) is False
    assert after(acknowledged=False, closed=True) is True


def test_many_threads(opened: Open) -> None:
    """What many threads publish at once is stored, and nothing of it twice."""
    outbox = opened()
    lost: list[int] = []

    def publish(first: int) -> None:
        for number in range(first, first + 300):
            delivery = outbox.accept(f"t/{number}", b"", 1)
            if delivery is None:
                lost.append(number)

    threads = [threading.Thread(target=publish, args=(first * 300,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.close_now()
    assert lost == []
    assert sorted(numbers(opened())) == list(range(1800))


def test_a_bug_in_the_writer(opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When the writer ends by a bug, nobody waits for ever: publishers and waiters hear of it."""
    outbox = opened()
    put(outbox, 1)
    monkeypatch.setattr(outbox.writer.file.__class__, "commit", lambda *_, **__: 1 // 0)
    delivery = outbox.accept("t/1", b"", 1)
    assert delivery is not None
    with pytest.raises(OutboxUnwritable, match="internal error"):
        delivery.wait_stored(60)
    with pytest.raises(OutboxUnwritable):
        outbox.accept("t/2", b"", 1)
    outbox.writer.join()
    assert "switchgear.outbox_writer_failed" in caplog.text
