from __future__ import annotations

import asyncio
import threading

import pytest
from switchgear.workers import Workers


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
        gate.wait(5)
        with lock:
            running -= 1
            done += 1

    for _ in range(50):
        workers.submit(job)
    gate.set()
    while workers._threads:
        pass
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
    assert all(finished.acquire(timeout=5) for _ in range(2000))
    assert counts == [500] * 4


async def test_run() -> None:
    """Results and exceptions come back to whoever awaits; one who no longer awaits is no harm."""
    workers = Workers("test", 2, idle=0.01)
    assert await workers.run(lambda: 7) == 7
    with pytest.raises(ValueError, match="mine"):
        await workers.run(lambda: int("mine"))
    gate = threading.Event()
    task = asyncio.ensure_future(workers.run(lambda: gate.wait(5)))
    await asyncio.sleep(0)
    task.cancel()
    gate.set()
    assert await workers.run(lambda: 8) == 8


def test_loop_closed() -> None:
    """A job whose loop was closed meanwhile ends quietly."""
    workers = Workers("test", 1, idle=0.01)
    gate = threading.Event()

    async def main() -> None:
        task = asyncio.ensure_future(workers.run(lambda: gate.wait(5)))
        asyncio.get_running_loop().call_later(0.01, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gate.set()
    again = threading.Event()
    workers.submit(again.set)
    assert again.wait(5)
