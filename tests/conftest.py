"""For all tests: `async def` tests run on a real loop, bounded; after each test no thread of ours is alive."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from switchgear.hook_runner import shared_runner
from switchgear.workers import HANDLERS, LOOKUPS, MARKS, SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.register_assert_rewrite("switchgear.testing.driver_contract")

# Without it an example that takes 200 ms fails, and so do inputs that are made slowly: on a busy machine any of them.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

GRACE = 30.0
"""Seconds that idle threads of our pools get to end; they are told to be idle for 5 ms only."""

LONGEST = 100.0
"""Seconds that an `async def` test may take: for one that hangs. The longest take 3 s where nobody else wants the machine."""


def pytest_configure() -> None:
    """A shell that starts us in the background has SIGINT ignored, here and in all that we start: undo that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Nothing that is there now can leak from a test: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _short_idleness() -> None:
    """The threads of our pools end soon after their work."""
    LOOKUPS.idle = SECRETS.idle = HANDLERS.idle = MARKS.idle = 0.005
    shared_runner()._idle = 0.005


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """After the test no thread of ours is alive."""
    before = set(_ours())
    yield
    end = time.monotonic() + GRACE
    while left := set(_ours()) - before:
        if time.monotonic() > end:
            frames = sys._current_frames()
            where = {
                thread.name: "".join(traceback.format_stack(frames[thread.ident]))
                for thread in left
                if thread.ident in frames
            }
            pytest.fail("threads are left: " + "\n".join(f"{name}\n{stack}" for name, stack in where.items()))
        time.sleep(0.002)


def _ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("switchgear-")]


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test on a real loop; what the loop's exception handler hears, and unclosed sockets, fail it."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(getattr(function, "hypothesis", None) or function):
        return None
    wanted = inspect.signature(function).parameters
    heard: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))
        async with asyncio.timeout(LONGEST):
            await function(**{name: pyfuncitem.funcargs[name] for name in wanted})

    with asyncio.Runner() as runner:
        runner.run(main())
        gc.collect()
    assert heard == [], "the loop's exception handler was called"
    return True
