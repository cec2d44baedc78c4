"""A run that dies anywhere goes on where it was: nobody is missed, and nobody is disconnected twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from switchgear_iot_dns.dr.errors import InUse, Locked, NotSwitched, StalePlan
from switchgear_iot_dns.dr.journal import Journal
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.state import Phase
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TWO, WEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from switchgear_iot_dns.dr.testing import Bench

PRESSES = [f"press-{number}" for number in range(12)]


class Crash(BaseException):
    """The end of the process, as far as a test in one process can have it."""


class Crasher:
    """Makes the journal raise `Crash` at the entry for which *is_it* is true, before or after it is written."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()

    def __call__(self, is_it: Callable[[str, dict[str, Any]], bool], *, after: bool = True) -> None:
        add = Journal.add

        def crashing(journal: Journal, entry: str, *, at: float, **facts: Any) -> None:
            strikes = is_it(entry, facts)
            if strikes and not after:
                raise Crash
            add(journal, entry, at=at, **facts)
            if strikes:
                raise Crash

        self._patch.setattr(Journal, "add", crashing)

    def lift(self) -> None:
        self._patch.undo()


@pytest.fixture
def crash() -> Iterator[Crasher]:
    crasher = Crasher()
    yield crasher
    crasher.lift()


def check_done(bench: Bench) -> None:
    everybody = sorted([*bench.clients[ONE], *bench.clients[TWO]])
    assert bench.regions() == {ONE: WEST, TWO: WEST}
    assert bench.connected(WEST) == everybody
    assert bench.connected(EAST) == []
    ended = bench.listed(EAST).ended
    assert ended == dict.fromkeys(everybody, 1)
    assert bench.operations().status()["lock"] is None


POINTS = [
    ("began", None),
    ("started", "CHANGE"),
    ("changing", None),
    ("changed", None),
    ("finished", "CHANGE"),
    ("started", "INSYNC"),
    ("finished", "INSYNC"),
    ("started", "ANSWER"),
    ("finished", "ANSWER"),
    ("started", "GRACE"),
    ("finished", "GRACE"),
    ("started", "CANARY"),
    ("disconnecting", None),
    ("disconnected", None),
    ("arrived", None),
    ("finished", "CANARY"),
    ("started", "DISCONNECT"),
    ("finished", "DISCONNECT"),
    ("started", "VERIFY"),
    ("verified", None),
    ("finished", "VERIFY"),
    ("ended", None),
]


def test_the_points_are_every_phase() -> None:
    """A phase has no point at which these tests let it crash."""
    assert {phase for _, phase in POINTS if phase} == {phase.name for phase in Phase}


# Before an entry is after the one before it, except where something is done in between.
MOMENTS = [
    *((entry, phase, True) for entry, phase in POINTS),
    *((entry, None, False) for entry in ("began", "changed", "disconnecting", "disconnected", "ended")),
]


@pytest.mark.parametrize(("entry", "phase", "after"), MOMENTS)
def test_a_crash_at_any_point_is_gone_on_from(
    bench: Bench, crash: Crasher, *, entry: str, phase: str | None, after: bool
) -> None:
    """After a crash here, apply misses somebody, disconnects somebody twice, or leaves the lock."""
    crash(lambda name, facts: (name, facts.get("phase")) == (entry, phase), after=after)
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    crash.lift()
    assert bench.operations().apply("west", Wishes()).code == 0
    check_done(bench)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_that_crashes_again_and_again_comes_to_its_end(bench: Bench, crash: Crasher, seed: int) -> None:
    """With a crash after every third entry or so the run never ends, misses somebody, or disconnects somebody twice."""
    bench.clients[ONE] = PRESSES
    bench.home()
    bench.write(pace="canary_share = 0.1\nworkers = 3")
    rng = random.Random(seed)
    crash(lambda entry, _: entry != "resumed" and rng.random() < 0.3)
    for _ in range(200):
        try:
            code = bench.operations().apply("west", Wishes()).code
        except Crash:
            continue
        break
    else:
        pytest.fail("it never ended")
    assert code == 0
    check_done(bench)


def test_a_client_that_came_back_to_the_old_region_is_not_disconnected_again(bench: Bench, crash: Crasher) -> None:
    """A client in doubt whose connection is newer than the request is disconnected a second time."""
    east = bench.listed(EAST)
    east.home = lambda _: east
    bench.write(pace="canary_share = 0", waits="verify = 2")
    crash(lambda entry, _: entry == "disconnected", after=False)
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    crash.lift()
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 6
    assert set(east.ended.values()) == {1}


def test_where_it_cannot_be_told_nobody_is_disconnected_again(bench: Bench, crash: Crasher) -> None:
    """Without GetConnection, clients in doubt are disconnected a second time."""
    bench.aws.fail("iotdata", "AccessDeniedException", 403, what="GET /connections")
    bench.write(pace="canary_share = 0")
    crash(lambda entry, _: entry == "disconnected", after=False)
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    crash.lift()
    ended = bench.operations().apply("west", Wishes())
    assert ended.run is not None
    assert set(bench.listed(EAST).ended.values()) == {1}
    assert set(ended.run.why.values()) == {"in doubt: it cannot be told whether it was disconnected"}


def test_a_run_whose_record_was_put_back_is_over(bench: Bench, crash: Crasher) -> None:
    """A resumed run switches a record again that somebody put back after the crash."""
    crash(lambda entry, facts: entry == "finished" and facts["phase"] == "CHANGE")
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    crash.lift()
    bench.set_records({ONE: EAST})
    with pytest.raises(StalePlan, match="was changed by somebody else after this run had switched it"):
        bench.operations().apply("west", Wishes())
    assert bench.region_of(ONE) == EAST
    assert bench.listed(EAST).ended == {}


def test_the_lock_outlives_a_crash(bench: Bench, crash: Crasher) -> None:
    """After a crash another operator gets the lock, although the run is not over."""
    crash(lambda entry, _: entry == "changed")
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    (bench.folder / "dr-journal").rename(bench.folder / "elsewhere")  # another machine
    bench.set_records({ONE: EAST, TWO: EAST})
    with pytest.raises(Locked):
        bench.operations().apply("west", Wishes())


def test_two_processes_do_not_resume_one_run(bench: Bench) -> None:
    """A second process on the same machine goes on with a run that the first is at."""
    bench.aws.on_change = lambda _: None  # the name servers never follow
    with pytest.raises(NotSwitched):
        bench.operations().apply("west", Wishes())
    with Journal(bench.journals()[-1]):
        with pytest.raises(InUse, match="another process on this machine is at work on this run"):
            bench.operations().apply("west", Wishes())
        assert "force-unlock" not in str(InUse("x"))


def test_status_tells_a_run_at_work_from_one_that_died(bench: Bench, crash: Crasher) -> None:
    """The status of a run that another process carries out says that it was interrupted."""
    crash(lambda entry, _: entry == "changed")
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    crash.lift()
    with Journal(bench.journals()[-1]):
        assert (
            bench.operations().status()["last_run"]["summary"].startswith("at work in the phase 'change the records'")
        )
    assert (
        bench.operations().status()["last_run"]["summary"].startswith("interrupted in the phase 'change the records'")
    )


def test_records_that_somebody_else_is_switching_are_not_done(bench: Bench, crash: Crasher) -> None:
    """A second operator hears that there is nothing to do, while the clients of the first's run are still to come."""
    crash(lambda entry, facts: (entry, facts.get("phase")) == ("finished", "CHANGE"))
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    crash.lift()
    (bench.folder / "dr-journal").rename(bench.folder / "elsewhere")  # another machine
    with pytest.raises(Locked):
        bench.operations().apply("west", Wishes())
    assert bench.operations().apply("west", Wishes(force_unlock=True)).text.startswith("nothing to do")


KILLED = """
import os, signal, sys
from switchgear.cli.app import main
from switchgear_iot_dns.dr.journal import Journal
add = Journal.add
entry, phase, moment = sys.argv[1:4]
def killing(self, name, *, at, **facts):
    is_it = name == entry and facts.get("phase", "") == phase
    if is_it and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, name, at=at, **facts)
    if is_it and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
Journal.add = killing
sys.exit(main(sys.argv[4:]))
"""


@pytest.mark.parametrize(
    "point",
    [
        ("changing", "", "after"),
        ("changed", "", "before"),
        ("disconnecting", "", "after"),
        ("disconnected", "", "before"),
    ],
    ids=lambda point: "-".join(filter(None, point)),
)
def test_a_killed_process_is_gone_on_from(bench: Bench, point: tuple[str, str, str]) -> None:
    """After kill -9 in the middle of a write, the next process misses somebody or disconnects somebody twice."""
    bench.clients[ONE] = PRESSES
    bench.home()
    path = bench.write(waits="resolvers = 0\ncanary = 60\nverify = 60", pace="canary_share = 0.1\nworkers = 4")
    command = ["dr", "apply", "west", "--yes", "--file", str(path)]
    killed = subprocess.run(
        [sys.executable, "-Ic", KILLED, *point, *command], capture_output=True, timeout=200, check=False, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ended = subprocess.run(
        [sys.executable, "-Im", "switchgear", *command], capture_output=True, timeout=200, check=False, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "going on with run" in ended.stderr
    check_done(bench)


def test_a_torn_last_line_is_cut_off(bench: Bench, crash: Crasher) -> None:
    """A journal whose last line is torn cannot be gone on from, or the torn line counts."""
    crash(lambda entry, _: entry == "disconnecting")
    with pytest.raises(Crash):
        bench.operations().apply("west", Wishes())
    crash.lift()
    path = bench.journals()[-1]
    with path.open("ab") as file:
        file.write(b'{"entry":"disconnected","at":18000000')
    assert bench.operations().apply("west", Wishes()).code == 0
    assert any("was torn" in note for note in bench.shown.notes)
    check_done(bench)
    assert os.path.getsize(path) > 0  # noqa: PTH202 - and it reads back
    assert bench.entries()[-1]["entry"] == "ended"


def test_an_interrupted_process_is_gone_on_from(bench: Bench) -> None:
    """After Ctrl-C in the middle of disconnecting, the exit code is not 130, or the next process disconnects twice."""
    bench.clients[ONE] = [f"press-{number}" for number in range(300)]
    bench.home()
    path = bench.write(
        waits="resolvers = 0\ncanary = 60\nverify = 60", pace="disconnects_per_second = 20\ncanary_share = 0"
    )
    command = [sys.executable, "-Im", "switchgear", "dr", "apply", "west", "--yes", "--file", str(path)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while sum(bench.listed(EAST).ended.values()) < 5 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=200)
    assert child.returncode == 130, told
    assert told == "switchgear: interrupted; the same command goes on where this one stopped\n"
    assert len(bench.connected(EAST)) > 10
    bench.write(waits="resolvers = 0\ncanary = 60\nverify = 60", pace="disconnects_per_second = 500\ncanary_share = 0")
    ended = subprocess.run(command, capture_output=True, timeout=200, check=False, text=True)
    assert ended.returncode == 0, ended.stderr
    check_done(bench)
