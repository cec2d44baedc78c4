"""An event loop whose time jumps instead of passing, so that an hour of outage is tested in milliseconds.

No real sockets, no real sleeping. Time stands still while there is anything to do, and while a worker thread is known
to be busy; otherwise it jumps to the next deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from switchgear.workers import HANDLERS, LOOKUPS, MARKS, SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Executor

T = TypeVar("T")

START: Final = 1000.0
"""Seconds that a new loop's clock shows. Not zero: code that takes a time of 0 for "never" is to be found out."""

PATIENCE: Final = 10.0
"""Real seconds that a busy worker thread is waited for before the test is said to be stuck."""

STANDSTILL: Final = 30.0
"""Real seconds that callbacks may call each other while the clock stands still, before the test is said to be stuck."""


class StuckError(RuntimeError):
    """Nothing can happen any more but that somebody waits; or something happens again and again, and no time passes."""


class _JumpingSelector(selectors.SelectSelector):
    """Hands each wait of the loop to *wait*, and looks for wake-ups of threads (the loop's own pipe) without waiting."""

    wait: Callable[[float | None], float]

    def select(self, timeout: float | None = None) -> Any:
        return super().select(self.wait(timeout))


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on virtual time. Since: 0.1.

    Its clock moves only when nothing else can happen, and then straight to the next deadline. Work on threads is
    waited for, with the clock standing still, when the loop knows of it: `run_in_executor`, Switchgear's own pools
    for look-ups, secrets, plain handlers and the marks of windows, and whatever `outstanding` is held for. For plugins' hooks take
    `switchgear.testing.InlineRunner`, which needs no thread. Sockets may exist but are never waited for: connect
    through `switchgear.testing.MemoryNetwork`.
    """

    _clock_resolution: float  # asyncio's

    def __init__(self, start: float = START) -> None:
        selector = _JumpingSelector()
        selector.wait = self._wait
        self._now = start
        self._outstanding = 0
        self._idlers: list[asyncio.Future[None]] = []
        self._stuck_at: float | None = None  # real time
        self._still_since: float | None = None  # real time
        super().__init__(selector)

    def time(self) -> float:
        """Seconds on the virtual clock."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Run the loop until *seconds* have passed on its clock. From outside; inside, await ``asyncio.sleep``."""
        self.run_until_complete(asyncio.sleep(seconds))

    def jump(self, seconds: float) -> None:
        """Make the clock leap, as on a computer that slept: what became due meanwhile runs late.

        A negative number sets it back, which a monotonic clock never does, and which nothing should break.
        """
        self._now += seconds

    async def idle(self) -> None:
        """Return when nothing more can happen without time passing. The clock does not move."""
        future: asyncio.Future[None] = self.create_future()
        self._idlers.append(future)
        await future

    @contextlib.contextmanager
    def outstanding(self) -> Iterator[None]:
        """While this is held the clock stands still: a thread is at work and will call `call_soon_threadsafe`."""
        self._outstanding += 1
        try:
            yield
        finally:
            self._outstanding -= 1

    def run_in_executor(  # type: ignore[override]  # typeshed counts the arguments with a TypeVarTuple
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As asyncio's; the clock stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._outstanding += 1
        future.add_done_callback(self._came_back)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002 - asyncio's signature; 3.11 has no timeout
        """As asyncio's."""
        with self.outstanding():
            await super().shutdown_default_executor()

    def _came_back(self, _future: asyncio.Future[Any]) -> None:
        self._outstanding -= 1

    def _is_awaited(self) -> bool:
        """Whether a thread may still call back."""
        pools = (LOOKUPS, SECRETS, HANDLERS, MARKS)
        return self._outstanding > 0 or any(pool._threads > pool._free for pool in pools)

    def _wait(self, timeout: float | None) -> float:
        """What the loop does where another would sleep for *timeout*; real seconds to sleep nevertheless."""
        if self._now + self._clock_resolution == self._now:
            # After 194 days of virtual time a float is too coarse for what asyncio adds before it compares: a timer that is
            # due now would never be found to be due.
            self._now = math.nextafter(self._now, math.inf)
        if timeout is not None and timeout <= 0:
            self._stuck_at = None
            now = time.monotonic()
            self._still_since = self._still_since or now
            if now - self._still_since > STANDSTILL:
                self._still_since = None  # so that what ends the test can still run
                raise StuckError(
                    f"callbacks called each other for {STANDSTILL:g} real seconds and no time passed: a loop"
                )
            return 0
        self._still_since = None
        if self._is_awaited():
            now = time.monotonic()
            self._stuck_at = self._stuck_at or now + PATIENCE
            if now > self._stuck_at:
                raise StuckError(f"a worker thread has been busy for {PATIENCE:g} real seconds")
            return 0.01
        self._stuck_at = None
        if self._idlers:
            idlers, self._idlers = self._idlers, []
            for future in idlers:
                if not future.done():
                    future.set_result(None)
            return 0
        if timeout is None:
            raise StuckError("somebody waits for what can never happen: no callback, timer or busy thread is left")
        self._now += timeout
        return 0


def run_virtual(main: Coroutine[Any, Any, T], *, start: float = START) -> T:
    """What *main* returns, run on a new `VirtualLoop` that is closed afterwards. *start* is in seconds. Since: 0.1.

    Raises:
        StuckError: *main* waits for what can never happen, or goes round without waiting.
        ExceptionGroup: exceptions that went to the loop because nobody else heard of them.
    """
    unheard: list[Exception] = []

    def note(_loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
        error = about.get("exception")
        unheard.append(error if isinstance(error, Exception) else RuntimeError(str(about["message"])))

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        runner.get_loop().set_exception_handler(note)
        result = runner.run(main)
    if unheard:
        raise ExceptionGroup("the loop was told of exceptions that nobody heard of", unheard)
    return result
