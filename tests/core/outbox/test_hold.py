"""Before the process is replaced an outbox takes nothing more, writes what it has, and goes on when it is not replaced."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from switchgear import OutboxLimits
from switchgear.errors import OutboxFull
from switchgear.message import DeliveryState
from switchgear.outbox import MemoryOutbox, SqliteOutbox
from switchgear.outbox.opening import open_file
from switchgear.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ("memory", "durable")
POLICIES = ("block", "raise", "drop_oldest", "drop_newest")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the durable one is."""
    return tmp_path / "outbox"


def make(kind: str, path: Path, **limits: Any) -> MemoryOutbox:
    if kind == "memory":
        return MemoryOutbox(OutboxLimits(**limits), Waits())
    return SqliteOutbox(OutboxLimits(**limits), Waits(), str(path), linger=30.0)


@pytest.fixture
def closing() -> Iterator[list[MemoryOutbox]]:
    """Closes what is put into it."""
    made: list[MemoryOutbox] = []
    yield made
    for outbox in made:
        outbox.close_now()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_held_outbox_takes_nothing(kind: str, policy: str, path: Path, closing: list[MemoryOutbox]) -> None:
    """Whatever its policy is, a held outbox neither accepts nor drops: the publisher waits for room, and has it afterwards."""
    outbox = make(kind, path, when_full=policy)
    closing.append(outbox)
    outbox.accept("t", b"1", 1)
    outbox.hold()
    assert outbox.accept("t", b"2", 1) is None
    assert not outbox.has_room()
    assert isinstance(outbox.full(), OutboxFull)
    assert len(outbox) == 1
    assert outbox.unreported_drops == 0
    woken = threading.Event()

    def wait() -> None:
        with outbox.room:
            while not outbox.has_room():
                outbox.room.wait(60)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.01)
    outbox.release()
    thread.join(60)
    assert woken.is_set()
    assert outbox.accept("t", b"2", 1) is not None


def test_what_would_end_with_the_process(path: Path, closing: list[MemoryOutbox]) -> None:
    """An outbox in memory would lose all that it holds; a durable one nothing, once it is flushed."""
    for kind, lost in (("memory", 3), ("durable", 0)):
        outbox = make(kind, path)
        closing.append(outbox)
        for n in range(3):
            outbox.accept("t", b"%d" % n, 1)
        outbox.hold()
        assert outbox.flush(60) == lost
        outbox.release()


def test_acknowledged_messages_are_gone_from_the_file(path: Path) -> None:
    """After a flush the file holds what waits and no more: what was acknowledged just now is not sent again."""
    outbox = make("durable", path)
    first, second = (outbox.accept("t", b"%d" % n, 1) for n in range(2))
    assert first is not None
    assert second is not None
    outbox.hold()
    outbox.flush(60)
    outbox.end(first, DeliveryState.ACKNOWLEDGED)
    outbox.flush(60)
    assert isinstance(outbox, SqliteOutbox)
    assert outbox.writer.file.messages == 1
    outbox.close_now()


@pytest.mark.parametrize("was_sent", [False, True])
def test_the_mark_of_exactly_once(path: Path, was_sent: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """The file keeps saying that QoS 2 is in use only where a broker may know a packet id; it says so again afterwards."""
    outbox = make("durable", path)
    assert isinstance(outbox, SqliteOutbox)
    delivery = outbox.accept("t", b"2", 2)
    assert delivery is not None
    if was_sent:
        delivery.packet_id = 7
    outbox.hold()
    assert outbox.flush(60) == 0
    assert outbox.writer.exactly_once is was_sent
    outbox.release()
    assert outbox.writer.exactly_once
    outbox.close_now()


def test_a_closed_outbox_is_flushed(path: Path) -> None:
    """A transport that is being closed while its process is replaced holds nothing up."""
    outbox = make("durable", path)
    outbox.accept("t", b"1", 1)
    outbox.close_now()
    assert outbox.flush(60) == 0
    file = open_file(str(path), "full", lambda *_, **__: None)
    assert file.messages == 1
    file.close()


def test_a_disk_that_hangs_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that does not come back within the time counts as not written."""
    outbox = make("durable", path)
    assert isinstance(outbox, SqliteOutbox)
    hangs, begun = threading.Event(), threading.Event()
    commit = type(outbox.writer.file).commit

    def slow(*positional: Any, **named: Any) -> Any:
        begun.set()
        hangs.wait(60)
        return commit(*positional, **named)

    monkeypatch.setattr(type(outbox.writer.file), "commit", slow)
    outbox.accept("t", b"1", 1)
    outbox.hold()
    assert outbox.flush(0.05) == 1
    hangs.set()
    assert outbox.flush(60) == 0
    assert begun.is_set()
    outbox.close_now()
