"""Threads that run hooks: few, shared by the process, each call bounded, none waited for that need not be.

Each plugin of each transport has a `Line`, on which one call at a time runs, in order. A call that passes its time is
abandoned with its thread; until it returns, its line is skipped. `InlineRunner` is the same without threads, for tests
on virtual time. Hooks run on daemon threads that start when they are needed and end when they have been idle.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from switchgear.hook_line import InlineLine, ThreadLine, describe, run_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.hook_line import Call, Line, Report

MAX_WORKERS: Final = 4
"""Threads of a process that run hooks, besides abandoned ones. Hooks are rare: more would only be idle."""

MAX_ABANDONED: Final = 3
"""Abandoned threads that are replaced. Beyond that, a hanging hook takes a thread from the others: a process whose
plugins hang everywhere must not grow without bound."""

IDLE: Final = 5.0
"""Seconds after which a thread without work ends."""

logger = logging.getLogger("switchgear.plugins")


class Runner(Protocol):
    """What makes lines: `HookRunner` or `InlineRunner`."""

    def line(self, plugin: str, *, timeout: float, report: Report) -> Line:
        """A new line for *plugin*, whose calls may take *timeout* seconds each."""
        ...


class HookRunner:
    """A pool of daemon threads, and the lines whose calls they run.

    *workers* and *abandoned* are numbers of threads, *idle* is in seconds, *clock* tells seconds. One runner serves the
    process: `shared_runner`. Since: 0.1.
    """

    def __init__(
        self,
        *,
        workers: int = MAX_WORKERS,
        abandoned: int = MAX_ABANDONED,
        idle: float = IDLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._most = workers
        self._most_abandoned = abandoned
        self._idle = idle
        self._reset()
        _runners.add(self)

    def _reset(self) -> None:
        """Start from nothing; in a forked child the threads are gone and the lock may be held for ever."""
        self.changed = threading.Condition(threading.Lock())
        self._ready: deque[ThreadLine] = deque()
        self._threads: set[int] = set()  # their numbers
        self._hangs_at: dict[int, float] = {}  # thread number: when the call that it runs has passed its time

    def line(self, plugin: str, *, timeout: float, report: Report) -> Line:
        """A new line for *plugin*; each call may take *timeout* seconds, an ask including its time in the queue."""
        return ThreadLine(self, plugin, timeout, report)

    def offer(self, line: ThreadLine) -> None:
        """Have a thread take the next call of *line*. The lock is held."""
        self._ready.append(line)
        self.changed.notify()
        self.staff()

    def staff(self) -> None:
        """Start a thread when there is work that no free thread will take. The lock is held."""
        while len(self._ready) > len(self._threads) - len(self._hangs_at) and len(self._threads) < self._allowed():
            number = next(n for n in itertools.count(1) if n not in self._threads)
            thread = threading.Thread(target=self._work, args=(number,), name=f"switchgear-hook-{number}", daemon=True)
            self._threads.add(number)
            try:
                thread.start()
            except RuntimeError as error:  # the system has none for us: the work waits, asks end by their timeout
                self._threads.discard(number)
                logger.warning("switchgear.no_hook_thread", extra={"why": describe(error)})
                return

    def _allowed(self) -> int:
        now = self.clock()
        return self._most + min(sum(at <= now for at in self._hangs_at.values()), self._most_abandoned)

    def _work(self, number: int) -> None:
        while self._step(number):
            pass

    def _step(self, number: int) -> bool:
        """Run one call; False when this thread shall end. A frame of its own: an idle thread holds no transport."""
        with self.changed:
            line, call = self._claim(number)
        if line is None or call is None:
            return False
        answer, error = run_call(line.plugin, call.call)
        with self.changed:
            self._hangs_at.pop(number, None)  # not there in the child when the hook forked
            line.finish(call, answer, error)
        return True

    def _claim(self, number: int) -> tuple[ThreadLine | None, Call | None]:
        while len(self._threads) <= self._allowed():  # else: this thread was abandoned and replaced
            while self._ready:
                line = self._ready.popleft()
                call = line.start()
                if call is not None:
                    self._hangs_at[number] = call.hangs_at
                    return line, call
            if not self.changed.wait(self._idle) and not self._ready:
                break
        self._threads.discard(number)
        return None, None


class InlineRunner:
    """The same interface without threads: a hook runs at once, on the loop's thread. For tests on virtual time."""

    def line(self, plugin: str, *, timeout: float, report: Report) -> Line:  # noqa: ARG002 - nothing bounds a call here
        """A line whose calls run where they are made; *timeout* is not watched."""
        return InlineLine(plugin, report)


_runners: weakref.WeakSet[HookRunner] = weakref.WeakSet()


def _after_fork() -> None:
    for runner in list(_runners):
        runner._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def shared_runner() -> HookRunner:
    """The runner of this process. It starts no thread before there is a hook to run."""
    return HookRunner()
