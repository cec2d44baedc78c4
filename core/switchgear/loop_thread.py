"""The event loop of synchronous code: one background thread that the process shares. Touches threads."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Final

from attrs import define, field

from switchgear.delivery import mark_thread


@define(eq=False)
class LoopThread:
    """One event loop in a daemon thread, for as long as somebody uses it."""

    loop: asyncio.AbstractEventLoop | None = None
    _users: int = 0
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(factory=threading.Lock)

    def acquire(self) -> asyncio.AbstractEventLoop:
        """The running loop; started when it is not."""
        with self._lock:
            self._users += 1
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(self.loop,), name="switchgear-loop", daemon=True
                )
                self._thread.start()
            return self.loop

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
        try:
            loop.run_forever()
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
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
        self._lock = threading.Lock()


LOOP: Final = LoopThread()

os.register_at_fork(after_in_child=LOOP.forget)
