"""Expiry in a durable outbox while the wall clock steps: in one process, and between two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from switchgear import OutboxLimits
from switchgear.outbox import SqliteOutbox, windowed
from switchgear.outbox.clock import FileClock
from switchgear.waits import Waits

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600.0


@define
class Machine:
    """A computer: what its clocks show."""

    up: float = 100.0
    wall: float = 1_700_000_000.0

    def passes(self, seconds: float) -> None:
        self.up += seconds
        self.wall += seconds


Open = Callable[[], SqliteOutbox]


@pytest.fixture
def machine() -> Machine:
    """The computer that the outbox is on."""
    return Machine()


@pytest.fixture
def opened(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens an outbox that keeps 4 messages in memory, and closes it."""
    monkeypatch.setattr(windowed, "WINDOW", 4)
    monkeypatch.setattr(windowed, "LOW", 2)
    made: list[SqliteOutbox] = []

    def make() -> SqliteOutbox:
        path = str(tmp_path / "outbox")
        outbox = SqliteOutbox(OutboxLimits(), Waits(), path, clock=lambda: machine.up, wall=lambda: machine.wall)
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        outbox.close_now()


def put(outbox: SqliteOutbox, machine: Machine, count: int = 12) -> None:
    """That many messages, all on disk, each of which expires in an hour."""
    for number in range(count):
        delivery = outbox.accept(f"t/{number}", b"", 1, expires_at=machine.up + HOUR)
    assert delivery is not None
    delivery.wait_stored(60)


def left(outbox: SqliteOutbox, machine: Machine) -> int:
    """How many are left when what is past its time has ended, on disk too."""
    outbox.expire(machine.up)
    outbox.writer.wait(lambda: not outbox._wants_prune and not outbox.writer.removals, 60)
    return len(outbox)


@pytest.mark.parametrize("step", [5 * HOUR, -5 * HOUR, 56 * 365 * 24 * HOUR])
def test_step_while_the_process_runs(opened: Open, machine: Machine, step: float) -> None:
    """A step of the wall clock while the process runs makes no message expire sooner or later, in memory or on disk."""
    outbox = opened()
    put(outbox, machine)
    machine.wall += step
    put(outbox, machine, 4)
    machine.passes(HOUR - 1)
    assert left(outbox, machine) == 16
    machine.passes(2)
    assert left(outbox, machine) == 0


@pytest.mark.parametrize("step", [5 * HOUR, -5 * HOUR])
def test_step_before_the_process_ended(opened: Open, machine: Machine, step: float) -> None:
    """After a step the next process goes on where this one was: the clock that was set is no time that has passed."""
    outbox = opened()
    put(outbox, machine)
    machine.wall += step
    assert outbox.writer._differs()
    outbox.writer.hurry()  # what a look at the clock does
    assert outbox.writer.wait(lambda: not outbox.writer._differs(), 60)
    outbox.close_now()
    machine.passes(HOUR / 2)
    again = opened()
    assert left(again, machine) == 12
    machine.passes(HOUR / 2 + 1)
    assert left(again, machine) == 0
    assert again.messenger.kept == []


def test_set_back_between_two_processes(opened: Open, machine: Machine) -> None:
    """Where the wall clock was set back between two processes the time between does not count, and that is told."""
    outbox = opened()
    put(outbox, machine)
    outbox.close_now()
    machine.wall -= 5 * HOUR
    again = opened()
    assert again.messenger.kept == [("outbox_clock_back", {"path": again.path, "seconds": 5 * HOUR})]
    machine.passes(HOUR - 1)
    assert left(again, machine) == 12
    machine.passes(2)
    assert left(again, machine) == 0


def test_a_pause_counts(opened: Open, machine: Machine) -> None:
    """The time between two processes counts, as the wall clock shows it."""
    outbox = opened()
    put(outbox, machine)
    outbox.close_now()
    machine.up = 3.0  # it was started anew
    machine.wall += HOUR + 1
    again = opened()
    assert left(again, machine) == 0


@given(st.lists(st.tuples(st.sampled_from(["pass", "step", "restart"]), st.floats(-1e6, 1e6)), max_size=20))
def test_never_early_never_back(steps: list[tuple[str, float]]) -> None:
    """The file's time never goes back, and while a process runs it goes on by exactly the time that passes."""
    machine = Machine()

    def new() -> FileClock:
        return FileClock(lambda: machine.up, lambda: machine.wall)

    clock = new()
    clock.resume(None, 0)
    for what, amount in steps:
        before = clock.now()
        if what == "pass":
            machine.passes(abs(amount))
            assert clock.now() == pytest.approx(before + abs(amount))
        elif what == "step":
            machine.wall += amount
            assert clock.now() == before
        else:
            noted = clock.noted()
            machine.wall += amount
            machine.up = 7.0
            clock = new()
            assert clock.resume(*noted) == pytest.approx(max(0.0, -amount), abs=0.01)
            assert clock.now() == pytest.approx(before + max(0.0, amount), abs=0.01)
