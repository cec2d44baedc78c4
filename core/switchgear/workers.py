"""Small pools of daemon threads for what may block: look-ups, files, secrets, plain handlers. Touches threads only.

`concurrent.futures` joins its threads when the interpreter ends, so one hanging look-up would keep the process alive.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import deque
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
    _changed: threading.Condition = field(factory=lambda: threading.Condition(threading.Lock()), init=False)
    _jobs: deque[Callable[[], None]] = field(factory=deque, init=False)
    _threads: int = field(default=0, init=False)
    _free: int = field(default=0, init=False)  # threads that wait, those that are being woken included
    _serial: int = field(default=0, init=False)

    def submit(self, job: Callable[[], None]) -> None:
        """Have *job* called on a worker thread; it must not raise.

        Raises:
            OSError: the system has no thread for us, and there is none that would come to it.
        """
        with self._changed:
            self._jobs.append(job)
            if self._free >= len(self._jobs):
                self._changed.notify()
                return
            if self._threads >= self.limit:
                return
            self._threads += 1
            self._serial += 1
            name = f"switchgear-{self.name}-{self._serial}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError as error:
            with self._changed:
                self._threads -= 1
                if self._threads or job not in self._jobs:
                    return  # another one comes to it
                self._jobs.remove(job)
            raise OSError(errno.EAGAIN, f"the system has no thread for us ({error})") from error

    async def run(self, function: Callable[[], T]) -> T:
        """What *function* returns or raises, computed on a worker thread; `RuntimeError` where it raises `SystemExit`."""
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
            except BaseException as raised:  # the same: it ends neither this thread nor the loop
                error = RuntimeError(f"raised {type(raised).__name__}")
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:  # the loop was closed meanwhile: nobody awaits
                return

        self.submit(job)
        return await future

    def grow(self) -> None:
        """Allow one thread more, in place of one whose job seems to be lost."""
        with self._changed:
            self.limit += 1

    def _work(self) -> None:
        # No queue.SimpleQueue: its get() with a timeout may wait for ever in CPython 3.11 (seen, with several readers).
        while True:
            with self._changed:
                self._free += 1
                self._changed.wait_for(lambda: self._jobs, self.idle)
                self._free -= 1
                if not self._jobs:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
            job()

    def forget(self) -> None:
        """In a forked child: the threads are not there."""
        self._threads = self._free = 0
        self._changed = threading.Condition(threading.Lock())
        self._jobs = deque()


LOOKUPS: Final = Workers("lookup", 4)
"""Name look-ups and certificate files. One hanging resolver takes one of them for its own time-out."""

LOST_AFTER: Final = 30.0
"""Seconds after which a look-up is taken for lost, and another of the same name may be begun, twice as long each time: what
glibc gives three name servers. Over TCP it waits for ever (measured: glibc 2.36, a server that takes the question and is gone)."""

SECRETS: Final = Workers("secret", 4)
"""Passwords, tokens and keys that come from elsewhere. A function of the user's that hangs takes one of them for ever at each
attempt, and must not keep every transport of the process from looking names up."""

HANDLERS: Final = Workers("handler", 16)
"""Plain message handlers of all transports; one thread at a time for each subscription."""

MARKS: Final = Workers("marks", 2)
"""What windows of handled messages write to disk."""

for _pool in (LOOKUPS, SECRETS, HANDLERS, MARKS):
    os.register_at_fork(after_in_child=_pool.forget)
