"""Small pools of daemon threads for what may block: look-ups, files, secrets, plain handlers. Touches threads only.

`concurrent.futures` joins its threads when the interpreter ends, so one hanging look-up would keep the process alive.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@define(eq=False)
class Workers:
    """At most ``limit`` daemon threads, started when they are needed and ended after ``idle`` seconds without work."""

    name: str
    limit: int
    idle: float = 2.0
    _jobs: queue.SimpleQueue[Callable[[], None]] = field(factory=queue.SimpleQueue, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _threads: int = field(default=0, init=False)
    _free: int = field(default=0, init=False)
    _serial: int = field(default=0, init=False)

    def submit(self, job: Callable[[], None]) -> None:
        """Have *job* called on a worker thread; it must not raise."""
        with self._lock:
            self._jobs.put(job)
            if self._free > 0:
                self._free -= 1
                return
            if self._threads >= self.limit:
                return
            self._threads += 1
            self._serial += 1
            name = f"switchgear-{self.name}-{self._serial}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, function: Callable[[], T]) -> T:
        """What *function* returns or raises, computed on a worker thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # None only where T is None

        def job() -> None:
            result, error = None, None
            try:
                result = function()
            except Exception as raised:  # handed to whoever awaits
                error = raised
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:  # the loop was closed meanwhile: nobody awaits
                return

        self.submit(job)
        return await future

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self.idle)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._free = max(0, self._free - 1)
                        self._threads -= 1
                        return
                continue
            job()
            with self._lock:
                if self._jobs.empty():
                    self._free += 1

    def forget(self) -> None:
        """In a forked child: the threads are not there."""
        self._threads = self._free = 0
        self._lock = threading.Lock()
        self._jobs = queue.SimpleQueue()


LOOKUPS: Final = Workers("lookup", 4)
"""Name look-ups, certificate files, secrets. One hanging resolver takes one of them for its own time-out."""

HANDLERS: Final = Workers("handler", 16)
"""Plain message handlers of all transports; one thread at a time for each subscription."""

os.register_at_fork(after_in_child=LOOKUPS.forget)
os.register_at_fork(after_in_child=HANDLERS.forget)
