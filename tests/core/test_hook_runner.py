from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from switchgear.errors import WouldDeadlock
from switchgear.hook_line import QUEUE, describe
from switchgear.hook_runner import HookRunner, InlineRunner
from switchgear.waits import Waits, mark_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from switchgear.hook_line import Line
    from switchgear.hook_runner import Runner

SHORT = 0.03  # seconds: for calls that hang
LONG = 20.0  # seconds: for calls that do not


class Problems(list[tuple[str, str]]):
    """What a line reported: hook and why."""

    def __call__(self, hook: str, why: str, error: BaseException | None = None, /) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.append((hook, why))


class Gate:
    """A hook that hangs until it is opened, and notes where it ran."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.open.wait(3 * LONG)  # longer than anything that a test waits for
        return "late"


def hook_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("switchgear-hook-")]


@pytest.fixture
def gates() -> Iterator[Callable[[], Gate]]:
    """Makes gates, opens all of them after the test, and sees every thread end."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open.set()
    for thread in hook_threads():
        thread.join(LONG)
    assert hook_threads() == []


@pytest.fixture
def runner(gates: Callable[[], Gate]) -> HookRunner:
    """A runner of its own, whose threads end soon."""
    return HookRunner(idle=SHORT)


def new_line(runner: Runner, plugin: str = "p", *, timeout: float = LONG) -> tuple[Line, Problems]:
    problems = Problems()
    return runner.line(plugin, timeout=timeout, report=problems), problems


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_for(self, line: Line, seconds: float = LONG) -> None:
        """Let *seconds* pass, and *line* look at its deadlines."""
        self.now += seconds
        line._check()  # type: ignore[attr-defined]  # what its timer does


async def hang(line: Line, gate: Gate, hook: str) -> asyncio.Task[object] | None:
    """Have *gate* run on *line*, as the ask or report that *hook* is; the ask, if it is one."""
    task = None
    if hook.startswith("on_"):
        line.tell(hook, gate)
    else:
        task = asyncio.create_task(line.ask(hook, gate))
        await asyncio.sleep(0)
    assert gate.entered.wait(LONG)
    return task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 - what is looked at changes in threads
            await asyncio.sleep(0.001)


def test_answer_comes_from_a_thread(runner: HookRunner) -> None:
    """A hook runs on a daemon thread named after us, and its answer arrives on the loop."""

    async def main() -> object:
        line, problems = new_line(runner)
        answer = await line.ask("select_endpoint", threading.current_thread)
        assert problems == []
        return answer

    thread = asyncio.run(main())
    assert isinstance(thread, threading.Thread)
    assert (thread.name, thread.daemon) == ("switchgear-hook-1", True)


def test_threads_end_when_idle(runner: HookRunner) -> None:
    """A thread without work ends after the idle time, and the next call starts another."""

    async def main() -> None:
        line, _ = new_line(runner)
        for _ in range(2):
            assert await line.ask("select_endpoint", lambda: 1) == 1
            assert len(hook_threads()) == 1
            await until(lambda: not hook_threads())

    asyncio.run(main())


@pytest.mark.parametrize("inline", [False, True])
def test_raising_is_reported_and_answers_none(runner: HookRunner, *, inline: bool) -> None:
    """A hook that raises, even SystemExit, answers None, is reported once, and later calls of its line run."""

    def fail() -> None:
        sys.exit("no mqtt://user:secret@host")

    async def main() -> None:
        line, problems = new_line(InlineRunner() if inline else runner)
        line.tell("on_event", fail)
        assert await line.ask("select_endpoint", fail) is None
        assert await line.ask("select_endpoint", lambda: 7) == 7
        await until(lambda: len(problems) == 2)
        why = "raised SystemExit: no mqtt://user:***@host"
        assert sorted(problems) == [("on_event", why), ("select_endpoint", why)]

    asyncio.run(main())


def test_coroutine_is_no_answer(runner: HookRunner) -> None:
    """A hook that answers a coroutine is reported; the coroutine is closed, so that nothing warns of it."""

    async def nap() -> None:
        """Nobody awaits it."""

    async def main() -> None:
        line, problems = new_line(runner)
        assert await line.ask("select_endpoint", nap) is None
        assert [hook for hook, why in problems if "coroutine" in why] == ["select_endpoint"]

    asyncio.run(main())


def test_text_that_cannot_be_shown() -> None:
    """An exception whose text raises is still described by its type, and a long text is cut."""

    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(Nasty()) == "raised Nasty: (its text cannot be shown)"
    assert len(describe(ValueError("x\n" * 1000))) < 400


def test_one_line_is_serial_and_in_order(runner: HookRunner) -> None:
    """Calls of one line never overlap and run in the order in which they were made."""
    order: list[int] = []
    inside = threading.Semaphore(1)

    def note(number: int) -> None:
        assert inside.acquire(blocking=False)
        order.append(number)
        inside.release()

    async def main() -> None:
        line, problems = new_line(runner)
        for number in range(200):
            line.tell("on_event", lambda number=number: note(number))  # type: ignore[misc]  # mypy and defaults
        await line.close(LONG)
        assert problems == []

    asyncio.run(main())
    assert order == list(range(200))


def test_lines_run_beside_each_other(runner: HookRunner) -> None:
    """Four lines run at the same time on four threads; more lines share these threads."""
    together = threading.Barrier(4)

    async def main() -> None:
        lines = [new_line(runner, f"p{i}")[0] for i in range(12)]
        await asyncio.gather(*(line.ask("select_endpoint", lambda: together.wait(LONG)) for line in lines))
        assert len(hook_threads()) == 4

    asyncio.run(main())


def test_ask_overtakes_reports_but_not_own_disconnect(runner: HookRunner, gates: Callable[[], Gate]) -> None:
    """An ask overtakes queued on_event and on_connected, never an earlier on_disconnect, nor an earlier ask."""
    order: list[str] = []
    gate = gates()

    async def main() -> None:
        line, _ = new_line(runner)
        line.tell("on_event", gate)
        assert gate.entered.wait(LONG)
        for hook, name in (("event", "e1"), ("connected", "c1"), ("disconnect", "d1"), ("event", "e2")):
            line.tell(f"on_{hook}", lambda name=name: order.append(name))  # type: ignore[misc]  # as above
        line.tell("on_connected", lambda: order.append("c2"))
        asks = [asyncio.create_task(line.ask("before_reconnect", lambda n=n: order.append(n))) for n in ("a1", "a2")]  # type: ignore[misc]  # as above
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(*asks)
        await line.close(LONG)

    asyncio.run(main())
    assert order == ["c1", "d1", "a1", "a2", "e1", "e2", "c2"]


def test_watch_comes_after_on_connected(runner: HookRunner, gates: Callable[[], Gate]) -> None:
    """A `while_connected` overtakes queued events, but not the plugin's own on_connected."""
    order: list[str] = []
    gate = gates()

    async def main() -> None:
        line, _ = new_line(runner)
        line.tell("on_event", gate)
        assert gate.entered.wait(LONG)
        line.tell("on_event", lambda: order.append("event"))
        line.tell("on_connected", lambda: order.append("connected"))
        asked = asyncio.create_task(line.ask("while_connected", lambda: order.append("watch")))
        await asyncio.sleep(0)
        gate.open.set()
        await asked
        await line.close(LONG)

    asyncio.run(main())
    assert order == ["connected", "watch", "event"]


def test_tell_is_never_waited_for(runner: HookRunner, gates: Callable[[], Gate]) -> None:
    """`tell` returns while the hook still runs."""

    async def main() -> None:
        gate = gates()
        line, _ = new_line(runner)
        line.tell("on_event", gate)
        assert not gate.open.is_set()

    asyncio.run(main())


def test_queue_is_bounded(runner: HookRunner, gates: Callable[[], Gate]) -> None:
    """A plugin too far behind loses its oldest events, not its on_disconnect, and it is reported once."""
    order: list[object] = []

    async def main() -> None:
        gate = gates()
        line, problems = new_line(runner)
        line.tell("on_event", gate)
        assert gate.entered.wait(LONG)
        line.tell("on_disconnect", lambda: order.append("disconnect"))
        for number in range(QUEUE + 4):
            line.tell("on_event", lambda number=number: order.append(number))  # type: ignore[misc]  # as above
        gate.open.set()
        await line.close(LONG)
        assert problems == [("on_event", "it is 1000 calls behind; the oldest are dropped")]

    asyncio.run(main())
    assert order == ["disconnect", *range(5, QUEUE + 4)]


@pytest.mark.parametrize("hook", ["select_endpoint", "on_event"])
def test_hanging_call_is_abandoned_until_it_returns(gates: Callable[[], Gate], hook: str) -> None:
    """A call past its time is reported, its plugin skipped and that reported once, and it serves again afterwards."""
    clock = Clock()

    async def main() -> None:
        gate = gates()
        line, problems = new_line(HookRunner(idle=SHORT, clock=clock))
        asked = await hang(line, gate, hook)
        clock.pass_for(line)
        assert asked is None or await asked is None
        why = f"not done within {LONG:g} s: abandoned, and the plugin is skipped until it returns"
        assert problems == [(hook, why)]
        for _ in range(3):
            assert await line.ask("before_reconnect", lambda: 1) is None
            line.tell("on_disconnect", lambda: problems.append(("", "ran")))
        assert problems[1:] == [("before_reconnect", f"skipped: its call of {hook} has not returned")]
        gate.open.set()
        await until(lambda: line._running is None)  # type: ignore[attr-defined]  # looks inside
        assert await line.ask("before_reconnect", lambda: 2) == 2
        assert len(problems) == 2

    asyncio.run(main())


def test_time_is_watched(runner: HookRunner, gates: Callable[[], Gate]) -> None:
    """The end of a call's time is noticed without any other call on its line."""

    async def main() -> None:
        line, problems = new_line(runner, timeout=SHORT)
        await hang(line, gates(), "on_event")
        await until(lambda: problems)
        assert "abandoned" in problems[0][1]

    asyncio.run(main())


def test_hanging_call_drops_what_waits_behind_it(gates: Callable[[], Gate]) -> None:
    """An ask that waits behind a hanging call ends with it as None, and the dropped calls are counted in the report."""
    clock = Clock()

    async def main() -> None:
        line, problems = new_line(HookRunner(idle=SHORT, clock=clock))
        await hang(line, gates(), "on_disconnect")
        line.tell("on_event", lambda: None)
        ask = asyncio.create_task(line.ask("before_reconnect", lambda: 1))
        await asyncio.sleep(0)
        clock.pass_for(line)
        assert await ask is None
        [(hook, why)] = problems
        assert hook == "on_disconnect"
        assert why.endswith("; 2 queued calls dropped")

    asyncio.run(main())


def test_waiting_counts_for_asks(gates: Callable[[], Gate]) -> None:
    """An ask ends when its time is over, though the call before it is within its own and is not abandoned."""
    clock = Clock()

    async def main() -> None:
        first, second = gates(), gates()
        line, problems = new_line(HookRunner(idle=SHORT, clock=clock))
        await hang(line, first, "on_disconnect")
        line.tell("on_disconnect", second)
        ask = asyncio.create_task(line.ask("before_reconnect", lambda: 1))
        await asyncio.sleep(0)
        clock.now += LONG / 2
        first.open.set()
        assert second.entered.wait(LONG)
        clock.pass_for(line, LONG / 2)
        assert await ask is None
        assert problems == [("before_reconnect", f"no answer within {LONG:g} s: its earlier calls were slow")]
        second.open.set()
        assert await line.ask("before_reconnect", lambda: 2) == 2

    asyncio.run(main())


def test_three_threads_are_replaced_and_no_more(gates: Callable[[], Gate]) -> None:
    """Three hanging threads are replaced, a fourth is not; an ask without a thread is a problem until one returns."""
    clock = Clock()
    runner = HookRunner(workers=1, abandoned=3, idle=SHORT, clock=clock)

    async def main() -> None:
        closed = [gates() for _ in range(4)]
        for i, gate in enumerate(closed):
            line, problems = new_line(runner, f"p{i}")
            asked = await hang(line, gate, "select_endpoint")
            clock.pass_for(line)
            assert asked is not None
            assert await asked is None
            assert ["abandoned" in why for _, why in problems] == [True]
        assert len(hook_threads()) == 4
        line, problems = new_line(runner, "starved")
        ask = asyncio.create_task(line.ask("select_endpoint", lambda: 1))
        await asyncio.sleep(0)
        clock.pass_for(line)
        assert await ask is None
        assert problems == [("select_endpoint", f"no answer within {LONG:g} s: no thread was free")]
        assert len(hook_threads()) == 4
        closed[2].open.set()
        line, problems = new_line(runner, "fed")
        assert await line.ask("select_endpoint", lambda: 1) == 1
        assert problems == []

    asyncio.run(main())


def test_returned_thread_is_surplus(gates: Callable[[], Gate]) -> None:
    """When an abandoned call returns, there are no more threads than before, without waiting for the idle time."""
    clock = Clock()
    runner = HookRunner(workers=1, idle=LONG, clock=clock)

    async def main() -> None:
        gate = gates()
        line, _ = new_line(runner)
        other, _ = new_line(runner, "other")
        await hang(line, gate, "on_event")
        clock.pass_for(line)
        assert await other.ask("select_endpoint", lambda: 1) == 1
        assert len(hook_threads()) == 2
        gate.open.set()
        await until(lambda: len(hook_threads()) == 1)
        runner._idle = 0.0
        await other.ask("select_endpoint", lambda: 1)

    asyncio.run(main())


def test_hanging_thread_does_not_starve_others(gates: Callable[[], Gate]) -> None:
    """Work that waited for the thread of a hanging call runs as soon as that call is abandoned."""
    clock = Clock()
    runner = HookRunner(workers=1, idle=SHORT, clock=clock)

    async def main() -> None:
        gate = gates()
        hanging, _ = new_line(runner, "hangs")
        other, _ = new_line(runner, "works")
        await hang(hanging, gate, "on_event")
        ask = asyncio.create_task(other.ask("select_endpoint", lambda: 1))
        await asyncio.sleep(0)
        assert len(hook_threads()) == 1
        clock.pass_for(hanging)
        assert await ask == 1
        assert not gate.open.is_set()

    asyncio.run(main())


def test_late_call_of_a_closed_loop_is_harmless(gates: Callable[[], Gate]) -> None:
    """A call that returns after its loop was closed ends its thread without an exception."""
    gate = gates()
    clock = Clock()

    async def main() -> None:
        line, _ = new_line(HookRunner(idle=SHORT, clock=clock))
        asked = await hang(line, gate, "select_endpoint")
        clock.pass_for(line)
        assert asked is not None
        assert await asked is None

    asyncio.run(main())
    gate.open.set()
    for thread in hook_threads():
        thread.join(LONG)
    assert hook_threads() == []


def test_cancelled_ask_is_not_run(runner: HookRunner, gates: Callable[[], Gate]) -> None:
    """An ask that was cancelled while it waited is taken out of the queue."""
    ran: list[int] = []

    async def main() -> None:
        gate = gates()
        line, problems = new_line(runner)
        line.tell("on_disconnect", gate)
        ask = asyncio.create_task(line.ask("before_reconnect", lambda: ran.append(1)))
        await asyncio.sleep(0)
        ask.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ask
        gate.open.set()
        await line.close(LONG)
        assert problems == []

    asyncio.run(main())
    assert ran == []


def test_close_is_bounded(runner: HookRunner, gates: Callable[[], Gate]) -> None:
    """Closing drops and reports what is queued when its time is over, and nothing is called afterwards."""
    ran: list[int] = []

    async def main() -> None:
        gate = gates()
        line, problems = new_line(runner)
        line.tell("on_event", gate)
        line.tell("on_event", lambda: ran.append(1))
        assert gate.entered.wait(LONG)
        await line.close(SHORT)
        assert problems == [("on_event", "1 queued calls dropped: the transport was closed")]
        gate.open.set()
        line.tell("on_event", lambda: ran.append(2))
        assert await line.ask("select_endpoint", lambda: ran.append(3)) is None

    asyncio.run(main())
    assert ran == []


@pytest.mark.parametrize("inline", [False, True])
def test_blocking_calls_inside_a_hook_raise(runner: HookRunner, *, inline: bool) -> None:
    """Inside a hook a blocking call of ours raises WouldDeadlock naming the plugin; the loop's own mark survives."""

    def block() -> str:
        with pytest.raises(WouldDeadlock) as caught:
            Waits().check("delivery.wait()")
        return caught.value.where

    async def main() -> None:
        line, problems = new_line(InlineRunner() if inline else runner, "nosy")
        assert await line.ask("select_endpoint", block) == "a hook of plugin nosy"
        assert problems == []

    mark_thread("the event loop")
    try:
        asyncio.run(main())
        with pytest.raises(WouldDeadlock, match="the event loop"):
            Waits().check("delivery.wait()")
    finally:
        mark_thread(None)


FORK = """
import asyncio, os, sys, threading, warnings
warnings.simplefilter("ignore")
from switchgear.hook_runner import shared_runner
async def ask():
    line = shared_runner().line("p", timeout=10, report=print)
    return await line.ask("select_endpoint", lambda: threading.current_thread().name)
def use():
    return asyncio.run(ask()) == "switchgear-hook-1"
assert use()
pid = os.fork()
if pid == 0:
    os._exit(0 if use() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_runner_works_in_a_forked_child() -> None:
    """A child process of fork runs hooks on threads of its own."""
    path = os.pathsep.join(part for part in sys.path if part)
    done = subprocess.run(
        [sys.executable, "-c", FORK], check=False, timeout=LONG, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0
