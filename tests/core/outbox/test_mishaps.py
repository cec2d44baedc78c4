"""What goes wrong around the outbox: a disk that fails now and then, threads that meet, ends in the middle."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from switchgear import Delivery, DeliveryState, OutboxLimits, OutboxUnwritable
from switchgear.outbox import MemoryOutbox, NewestSqliteOutbox, SqliteOutbox, file, windowed
from switchgear.outbox.writer import Writer
from switchgear.waits import Waits

if TYPE_CHECKING:
    from pathlib import Path

S = DeliveryState
Open = Callable[..., SqliteOutbox]


class Disk:
    """A connection of which statements fail, when *fails* says so."""

    def __init__(self, db: sqlite3.Connection, fails: Callable[[str], bool]) -> None:
        self._db = db
        self._fails = fails

    def execute(self, text: str, *values: Any) -> sqlite3.Cursor:
        if self._fails(text):
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(text, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def fail(outbox: SqliteOutbox, *texts: str, times: int = 1) -> list[str]:
    """The next *times* that a statement holds one of *texts* it fails; those that did."""
    failed: list[str] = []

    def fails(text: str) -> bool:
        hit = len(failed) < times and any(part in text for part in texts)
        if hit:
            failed.append(text)
        return hit

    outbox.writer.file.db = Disk(outbox.writer.file.db, fails)  # type: ignore[assignment]  # it does as one
    return failed


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens outboxes with a window of 50 messages, and closes them."""
    monkeypatch.setattr(windowed, "WINDOW", 50)
    monkeypatch.setattr(windowed, "LOW", 20)
    monkeypatch.setattr(windowed, "CHUNK", 30)
    made: list[SqliteOutbox] = []

    def make(
        limits: OutboxLimits | None = None, *, kind: type[SqliteOutbox] = SqliteOutbox, **options: Any
    ) -> SqliteOutbox:
        made.append(kind(limits or OutboxLimits(), Waits(), str(tmp_path / "outbox"), "normal", **options))
        made[-1].writer.retry = 0.01
        return made[-1]

    yield make
    for outbox in made:
        outbox.close_now()


def put(outbox: MemoryOutbox, count: int, *, size: int = 20, **options: Any) -> list[Delivery]:
    made = []
    for number in range(count):
        delivery = outbox.accept(f"t/{number}", bytes(size), 1, **options)
        assert delivery is not None
        made.append(delivery)
    made[-1].wait_stored(60)
    return made


def drained(outbox: SqliteOutbox) -> list[int]:
    """The numbers of what comes out; each is acknowledged."""
    found = []
    while len(outbox):
        assert outbox.writer.wait(lambda: len(outbox.pending) > 0, 60)
        delivery = outbox.pending.popleft()
        if not delivery.done():
            found.append(int(delivery.topic[2:]))
            outbox.end(delivery, S.ACKNOWLEDGED)
    return found


# A disk that fails now and then. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SqliteOutbox, NewestSqliteOutbox])
def test_a_reading_that_fails(opened: Open, kind: type[SqliteOutbox]) -> None:
    """After a reading that failed the backlog is read on, to its end."""
    outbox = opened(kind=kind)
    put(outbox, 300)
    failed = fail(outbox, "group_concat", times=3)
    assert sorted(drained(outbox)) == list(range(300))
    assert len(failed) == 3
    put(outbox, 1)


def test_no_room_to_shrink(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drained file that cannot be made smaller is no reason to refuse messages."""
    monkeypatch.setattr(file, "SPARE", 0)
    outbox = opened()
    put(outbox, 300)
    failed = fail(outbox, "VACUUM")
    assert drained(outbox) == list(range(300))
    assert outbox.writer.wait(lambda: bool(failed), 60)
    put(outbox, 1)
    assert "outbox_unwritable" not in dict(outbox.messenger.kept)


def test_what_expired_could_not_be_removed(opened: Open) -> None:
    """What expired on the disk while nothing could be written is ended when it can, though nobody asks again."""
    outbox = opened(clock=lambda: 100.0)
    put(outbox, 60)
    put(outbox, 10, expires_at=110.0)
    outbox._time.clock = lambda: 111.0
    failed = fail(outbox, "DELETE FROM message")
    outbox.expire(111.0)
    assert outbox.writer.wait(lambda: bool(failed), 60)
    assert outbox.writer.wait(lambda: len(outbox) == 60, 60)


@pytest.mark.parametrize("what", ["pruned", "loaded"])
def test_the_next_expiry_cannot_be_read(opened: Open, what: str) -> None:
    """What expired on the disk leaves the counts, also where the file cannot be asked which message is the next."""
    outbox = opened(clock=lambda: 100.0)
    put(outbox, 60)
    put(outbox, 60, expires_at=110.0)
    outbox._time.clock = lambda: 111.0
    failed = fail(outbox, "min(expires_at)")
    if what == "pruned":
        outbox.expire(111.0)
        assert outbox.writer.wait(lambda: bool(failed), 60)
    else:
        outbox._spilled_expiry = None  # as after an opening
    assert drained(outbox) == list(range(60))
    assert (len(outbox), outbox.size, len(failed)) == (0, 0, 1)


def test_the_mark_of_qos_2_survives_the_loss_of_power(opened: Open) -> None:
    """It is synced with any durability: without it the next process's messages would be taken for repetitions."""
    outbox = opened()
    said: list[str] = []
    db = outbox.writer.file.db
    db.set_trace_callback(said.append)
    assert outbox.accept("t", b"", 2) is not None
    db.set_trace_callback(None)
    begun = said.index("BEGIN IMMEDIATE")
    assert said[begun - 1] == "PRAGMA synchronous = FULL"
    assert db.execute("PRAGMA synchronous").fetchone() == (1,)


def test_a_mark_that_is_not_written(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QoS 2 message is not accepted while the file does not say that QoS 2 is in use."""
    outbox = opened()
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "wait", lambda *_: False)  # a disk that hangs
        with pytest.raises(OutboxUnwritable, match="does not answer"):
            outbox.accept("t", b"", 2)
    assert len(outbox) == 0


def test_no_thread(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread for the writer it is started by the next message."""
    outbox = opened()

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            outbox.accept("t/0", b"", 1)
    put(outbox, 1)
    assert len(outbox) == 2


# Threads that meet. ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["expire", "cancel"])
@pytest.mark.parametrize("durable", [False, True])
def test_dropped_and_ended_at_once(opened: Open, monkeypatch: pytest.MonkeyPatch, *, durable: bool, ends: str) -> None:
    """A message that a publisher drops while the loop ends it leaves once, and the counts are right."""
    limits = OutboxLimits(max_messages=2, when_full="drop_oldest")
    outbox = opened(limits) if durable else MemoryOutbox(limits, Waits())
    first = outbox.accept("t/0", b"", 1, expires_at=1.0)
    assert first is not None
    outbox.accept("t/1", b"", 1)
    thread = threading.Thread(target=lambda: outbox.accept("t/2", b"", 1))
    state = type(first).state.fget  # type: ignore[attr-defined]  # a property

    def slowly(delivery: Delivery) -> DeliveryState:
        seen: DeliveryState = state(delivery)
        if delivery is first and threading.current_thread() is not thread and not thread.ident:
            thread.start()
            thread.join(0.2)  # a publisher drops it now, if it can
        return seen

    monkeypatch.setattr(type(first), "state", property(slowly))
    if ends == "expire":
        outbox.expire(2.0)
    else:
        outbox.cancel(first)
    thread.join()
    left = [d for d in outbox.pending if not d.done()]
    assert (len(outbox), outbox.size) == (len(left), 3 * len(left))
    assert first.state is (S.EXPIRED if ends == "expire" else S.CANCELLED)


@pytest.mark.parametrize("durable", [False, True])
def test_closed_while_it_accepts(opened: Open, monkeypatch: pytest.MonkeyPatch, *, durable: bool) -> None:
    """What is published while the outbox closes is not accepted and forgotten."""
    outbox = opened() if durable else MemoryOutbox(OutboxLimits(), Waits())
    if durable:

        def close(_: Writer) -> bool:
            outbox.close_now()
            return True

        monkeypatch.setattr(Writer, "mark_exactly_once", close)
    else:
        outbox.close_now()
    delivery = outbox.accept("t", b"", 2)
    assert delivery is None
    assert len(outbox) == 0
    outbox.release()
    assert not outbox.has_room()


def test_held_while_it_makes_room(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published while the process is about to be replaced waits, also when it was making room meanwhile."""
    outbox = opened(OutboxLimits(max_messages=60, when_full="drop_oldest"))
    put(outbox, 60)
    oldest = outbox._oldest

    def slowly() -> Delivery:
        outbox.is_held = True
        return oldest()

    monkeypatch.setattr(SqliteOutbox, "_oldest", lambda _: slowly())
    assert outbox.accept("t", b"", 1) is None
    assert outbox.flush(60) == 0


def test_closed_and_flushed_while_the_disk_hangs(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing outbox whose disk hangs does not say that all of it is written."""
    outbox = opened(linger=30.0)
    hangs, begun = threading.Event(), threading.Event()
    commit = file.OutboxFile.commit

    def slow(self: file.OutboxFile, blocks: Any, *positional: Any, **named: Any) -> None:
        held = list(blocks)
        begun.set()
        hangs.wait(60)
        commit(self, held, *positional, **named)

    monkeypatch.setattr(file.OutboxFile, "commit", slow)
    outbox.accept("t", b"", 1)
    closing = threading.Thread(target=outbox.close_now)
    closing.start()
    assert begun.wait(60)
    assert outbox.flush(0.01) == 1
    hangs.set()
    closing.join()
    assert outbox.flush(60) == 0


def test_large_messages_wait_for_the_disk(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast large messages are published, few of them are in memory while they wait to be written."""
    outbox = opened(linger=30.0)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(Writer, "catch_up", lambda self, most: asked.append((len(self.queue), most)))
    payload = bytes(2**20)
    for _ in range(150):
        assert outbox.accept("t", payload, 1) is not None
    assert asked[0] == (128, 63)
    assert len(asked) == 22
