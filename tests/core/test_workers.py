from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
from switchgear import AsyncTransport, Profile
from switchgear.testing import Broker, InlineRunner, MemoryNetwork, run_virtual
from switchgear.workers import HANDLERS, Workers

if TYPE_CHECKING:
    from collections.abc import Callable


def test_bounded() -> None:
    """Never more threads than the limit run jobs, each job runs once, and the threads end when they are idle."""
    workers = Workers("test", 3, idle=0.01)
    gate, lock = threading.Event(), threading.Lock()
    running = most = done = 0

    def job() -> None:
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(60)
        with lock:
            running -= 1
            done += 1

    for _ in range(50):
        workers.submit(job)
    while running < 3:
        time.sleep(0.001)
    gate.set()
    while workers._threads:
        time.sleep(0.001)
    assert (most, done) == (3, 50)


def test_many_submitters() -> None:
    """No job is forgotten when threads come and go while many submit."""
    workers = Workers("test", 4, idle=0.0005)
    counts = [0] * 4
    finished = threading.Semaphore(0)

    def submit(n: int) -> None:
        for _ in range(500):
            workers.submit(finished.release)
            counts[n] += 1

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(finished.acquire(timeout=60) for _ in range(2000))
    assert counts == [500] * 4


async def test_run() -> None:
    """Results and exceptions come back to whoever awaits; one who no longer awaits is no harm."""
    workers = Workers("test", 2, idle=0.01)
    assert await workers.run(lambda: 7) == 7
    with pytest.raises(ValueError, match="mine"):
        await workers.run(lambda: int("mine"))
    gate = threading.Event()
    task = asyncio.ensure_future(workers.run(lambda: gate.wait(60)))
    await asyncio.sleep(0)
    task.cancel()
    gate.set()
    assert await workers.run(lambda: 8) == 8


def test_loop_closed() -> None:
    """A job whose loop was closed meanwhile ends quietly."""
    workers = Workers("test", 1, idle=0.01)
    gate = threading.Event()

    async def main() -> None:
        task = asyncio.ensure_future(workers.run(lambda: gate.wait(60)))
        asyncio.get_running_loop().call_later(0.01, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gate.set()
    again = threading.Event()
    workers.submit(again.set)
    assert again.wait(60)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_run_what_ends_threads(error: type[BaseException]) -> None:
    """A function that raises what would end a thread, or the loop, ends neither: whoever awaits hears of it."""
    workers = Workers("test", 1, idle=0.01)

    def leave() -> None:
        raise error("mine")

    for _ in range(2):
        with pytest.raises(RuntimeError, match=error.__name__):
            await asyncio.wait_for(workers.run(leave), 60)
    assert await workers.run(lambda: 7) == 7


async def test_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread for us that is said, the job is not kept, and the next one has its thread."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers("test", 1, idle=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(3):
            with pytest.raises(OSError, match="no thread for us"):
                await workers.run(lambda: 7)
    assert await asyncio.wait_for(workers.run(lambda: 8), 60) == 8


def test_no_thread_for_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that came while the system had no thread for its handler is handled when it has."""
    real, refusals = HANDLERS.submit, [OSError("no thread"), OSError("no thread")]

    def submit(job: Callable[[], None]) -> None:
        if refusals:
            raise refusals.pop()
        real(job)

    monkeypatch.setattr(Workers, "submit", lambda workers, job: submit(job) if workers is HANDLERS else None)

    async def main() -> None:
        async with Broker() as broker:
            network = MemoryNetwork({"b:1883": broker})
            profile = Profile.of("mqtt://b:1883", client_id="c")
            async with AsyncTransport(profile, make_driver=network.make_driver, runner=InlineRunner()) as transport:
                got: list[str] = []
                await transport.subscribe("t", lambda message: got.append(message.text)).ready(5)
                await transport.publish("t", "x")
                await asyncio.sleep(5)
                assert (got, refusals) == (["x"], [])

    run_virtual(main())
