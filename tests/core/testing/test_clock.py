from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from switchgear.testing import StuckError, VirtualLoop, clock, run_virtual
from switchgear.workers import HANDLERS, LOOKUPS, MARKS, SECRETS


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_time_jumps_to_the_next_deadline() -> None:
    """A day passes in no time, timers run in their order, and each at exactly its own time."""
    began, heard = now(), list[tuple[str, float]]()
    loop = asyncio.get_running_loop()

    def note(name: str) -> None:
        heard.append((name, now() - began))

    for name, at in (("b", 3600.0), ("a", 0.5), ("c", 86400.0)):
        loop.call_later(at, note, name)
    await asyncio.sleep(100_000)
    assert [name for name, _ in heard] == ["a", "b", "c"]
    assert [at for _, at in heard] == pytest.approx([0.5, 3600, 86400])


async def test_work_without_waiting_takes_no_time() -> None:
    """A thousand turns of the loop do not move the clock."""
    began = now()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert now() == began


async def test_idle_returns_before_time_moves() -> None:
    """`idle` returns when all that can happen now has happened, and before the next timer."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    began, heard = now(), list[str]()

    async def work() -> None:
        await asyncio.sleep(0)
        heard.append("soon")
        await asyncio.sleep(1)
        heard.append("later")

    task = asyncio.create_task(work())
    await loop.idle()
    assert (heard, now()) == (["soon"], began)
    await task
    assert heard == ["soon", "later"]


async def test_time_stands_still_for_threads() -> None:
    """Time does not move while an executor, a pool of ours or announced work on another thread is busy."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    began = now()
    loop.call_later(0.001, lambda: None)
    assert await asyncio.to_thread(threading.Event().wait, 0.02) is False
    assert now() == began
    for pool in (LOOKUPS, SECRETS, HANDLERS, MARKS):
        assert await pool.run(lambda: threading.Event().wait(0.02)) is False
        assert now() == began
    future: asyncio.Future[int] = loop.create_future()
    thread = threading.Timer(0.02, loop.call_soon_threadsafe, [future.set_result, 7])
    thread.start()
    with loop.outstanding():
        assert await future == 7
    thread.join()
    assert now() == began


def test_what_can_never_happen_is_said() -> None:
    """Waiting for what nobody will do raises at once in place of hanging."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match="never happen"):
        run_virtual(main())


def test_going_round_without_waiting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that goes round and never waits for time is found out; without this its test would never end."""
    monkeypatch.setattr(clock, "STANDSTILL", 0.05)

    async def main() -> None:
        while True:  # noqa: ASYNC110 - going round is what is tested
            await asyncio.sleep(0)

    with pytest.raises(StuckError, match="no time passed"):
        run_virtual(main())


def test_unheard_exceptions_fail_the_run() -> None:
    """An exception in a callback, that only the loop hears of, is raised at the end."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main())
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)


def test_from_outside() -> None:
    """`advance` runs what is due until then; `jump` makes what became due meanwhile late; the start can be chosen."""
    with contextlib.closing(VirtualLoop(5.0)) as loop:
        heard: list[float] = []
        loop.call_at(6.0, lambda: heard.append(loop.time()))
        loop.call_at(8.0, lambda: heard.append(loop.time()))
        loop.advance(2.0)
        assert heard == [6.0]
        loop.jump(100.0)
        loop.advance(0.0)
        loop.advance(0.001)
        assert heard == [6.0, 107.0]
        loop.jump(-50.0)
        assert loop.time() == pytest.approx(57.001)


def test_centuries() -> None:
    """A timer runs however late it is on the clock, where a float no longer tells nanoseconds."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for years in (1, 30, 1000):
            await asyncio.sleep(years * 365 * 86400)
            await asyncio.sleep(0.5)
            event = asyncio.Event()
            loop.call_at(loop.time(), event.set)
            await event.wait()

    run_virtual(main())
