"""The event loop of synchronous code: one background thread that the process shares. Touches threads."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import define, field

from switchgear.waits import mark_thread

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

log = logging.getLogger("switchgear.manager")

LEAVE: Final = 5.0
"""Seconds that tasks which are left, such as a handler's that will not be cancelled, get to end with their loop."""


@define(eq=False)
class LoopThread:
    """One event loop in a daemon thread, for as long as somebody uses it."""

    loop: asyncio.AbstractEventLoop | None = None
    _users: int = 0
    _thread: threading.Thread | None = None
    _lock: threading.RLock = field(factory=threading.RLock)  # again in a signal handler

    def acquire(self) -> asyncio.AbstractEventLoop:
        """The running loop; started when it is not."""
        with self._lock:
            if self.loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._run, args=(loop,), name="switchgear-loop", daemon=True)
                try:
                    thread.start()
                except BaseException:  # the system has no thread for us: the next one tries again
                    loop.close()
                    raise
                self.loop, self._thread = loop, thread
            self._users += 1
            return self.loop

    def call(self, loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> bool:
        """Have *function* called on *loop*, which `acquire` gave; False where that loop is ending, or has ended.

        What is called here is called, or its task cancelled, before the loop ends: nobody waits in vain.
        """
        with self._lock:
            if loop is not self.loop:
                return False
            loop.call_soon_threadsafe(function)
            return True

    def run(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T] | None:
        """As `call`, for a coroutine: what will come of it; None where the loop is ending, or has ended."""
        with self._lock:
            return asyncio.run_coroutine_threadsafe(work, loop) if loop is self.loop else None

    def release(self) -> None:
        """One user fewer; the last one ends the thread."""
        with self._lock:
            self._users -= 1
            if self._users > 0 or self.loop is None:
                return
            loop, self.loop = self.loop, None
            thread, self._thread = self._thread, None
        loop.call_soon_threadsafe(loop.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        mark_thread("the event loop")
        while True:
            try:
                loop.run_forever()
            except BaseException:  # SystemExit or KeyboardInterrupt of a user's coroutine: asyncio lets them end a loop
                log.exception("switchgear.loop_interrupted")  # others need this one; Ctrl-C itself is the main thread's
            else:
                break
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=LEAVE))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def is_current(self) -> bool:
        """Whether this is the loop's thread."""
        return self._thread is threading.current_thread()

    def forget(self) -> None:
        """In a forked child: the thread is not there."""
        self.loop = None
        self._thread = None
        self._users = 0
        self._lock = threading.RLock()


LOOP: Final = LoopThread()

os.register_at_fork(after_in_child=LOOP.forget)
