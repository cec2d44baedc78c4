"""The calls of one plugin of one transport: one at a time, in order, each bounded. Touches a lock and a timer only.

Threads: `ask`, `tell` and `close` are called on the event loop, and problems are reported there; `start` and `finish`
are called by the threads of the runner. The runner's lock guards what both touch; it is never held while a hook or a
report runs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define

from switchgear.errors import redact
from switchgear.waits import _busy, mark_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

QUEUE: Final = 1000
"""Calls that may wait on one line. A plugin that falls further behind loses the oldest; nobody waits for it."""

logger = logging.getLogger("switchgear.plugins")


class Report(Protocol):
    """To whom a line reports a problem: the hook's name, why, and the exception if there was one."""

    def __call__(self, hook: str, why: str, error: BaseException | None = None, /) -> None:
        """Take the report, on the event loop's thread."""
        ...


class Line(Protocol):
    """The calls of one plugin of one transport: one at a time, in order."""

    async def ask(self, hook: str, call: Callable[[], object]) -> object:
        """The answer of *call*; None, and a report, where it raised or gave none in time."""
        ...

    def tell(self, hook: str, call: Callable[[], object]) -> None:
        """Have *call* run after those before it; never wait for it."""
        ...

    async def close(self, within: float) -> None:
        """Wait at most *within* seconds for the calls that are queued, then drop them."""
        ...


class Pool(Protocol):
    """What a line needs of its runner; `offer` and `staff` are called with the lock held."""

    changed: Condition
    """Holds the lock."""

    @property
    def clock(self) -> Callable[[], float]:
        """Tells seconds."""
        ...

    def offer(self, line: ThreadLine) -> None:
        """Have a thread take the next call of *line*."""
        ...

    def staff(self) -> None:
        """Start a thread where one is needed."""
        ...


def describe(error: BaseException) -> str:
    """What was raised, on one line of bounded length, with the credentials of URIs hidden."""
    try:
        text = " ".join(redact(str(error)).split())
    except Exception as broken:  # safe: the text is only for people, and its type says enough
        logger.debug("switchgear.unprintable_error", extra={"error": type(broken).__name__})
        text = "(its text cannot be shown)"
    return f"raised {type(error).__name__}{': ' if text else ''}{text[:300]}"


@define(eq=False)
class Call:
    """One call of a hook."""

    hook: str
    call: Callable[[], object]
    future: asyncio.Future[object] | None = None  # None: nobody waits for the answer
    deadline: float = 0.0  # on the runner's clock; of a call that somebody waits for
    hangs_at: float = 0.0  # on the runner's clock; set when it starts
    is_abandoned: bool = False


def run_call(plugin: str, call: Callable[[], object]) -> tuple[object, BaseException | None]:
    """The answer of a hook and what it raised. While it runs, blocking calls of ours raise `WouldDeadlock`."""
    before = getattr(_busy, "where", None)
    mark_thread(f"a hook of plugin {plugin}")
    try:
        answer = call()
        if inspect.iscoroutine(answer):
            answer.close()
            return None, TypeError("the hook answered a coroutine; hooks are synchronous")
    except BaseException as error:  # safe: it is reported with the plugin's name, and nothing depends on the hook
        return None, error
    finally:
        mark_thread(before)
    return answer, None


class ThreadLine:
    """A line whose calls run on the threads of a `HookRunner`; see `Line`."""

    def __init__(self, runner: Pool, plugin: str, timeout: float, report: Report) -> None:
        self.plugin = plugin
        self._runner = runner
        self._timeout = timeout
        self._report = report
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The lock of the runner guards what follows.
        self._queue: deque[Call] = deque()
        self._running: Call | None = None
        self._is_offered = False
        self._is_closed = False
        self._is_said = False  # whether it was reported that this line is skipped
        self._is_full = False
        self._drained: asyncio.Future[object] | None = None

    async def ask(self, hook: str, call: Callable[[], object]) -> object:
        """See `Line`."""
        loop = self._loop = asyncio.get_running_loop()
        asked = Call(hook, call, loop.create_future(), self._runner.clock() + self._timeout)
        assert asked.future is not None
        with self._runner.changed:
            hanging = self._hanging()
            if not hanging and not self._is_closed:
                self._place(asked)
                self._offer()
        if self._is_closed:
            return None
        if hanging:
            if not self._is_said:
                self._is_said = True
                self._report(hook, f"skipped: its call of {hanging} has not returned")
            return None
        self._arm(self._timeout)
        try:
            return await asked.future
        finally:
            if asked.future.cancelled():
                with self._runner.changed:
                    if asked in self._queue:
                        self._queue.remove(asked)

    def tell(self, hook: str, call: Callable[[], object]) -> None:
        """See `Line`."""
        self._loop = asyncio.get_running_loop()
        with self._runner.changed:
            if self._is_closed or self._hanging():
                return
            is_overflow = len(self._queue) >= QUEUE
            if is_overflow:
                told = [waiting for waiting in self._queue if waiting.future is None]
                self._queue.remove(next((waiting for waiting in told if waiting.hook == "on_event"), told[0]))
            is_news = is_overflow and not self._is_full
            self._is_full = is_overflow or (self._is_full and bool(self._queue))
            self._queue.append(Call(hook, call))
            self._offer()
        if is_news:
            self._report(hook, f"it is {QUEUE} calls behind; the oldest are dropped")
        self._arm(self._timeout)

    async def close(self, within: float) -> None:
        """See `Line`."""
        loop = asyncio.get_running_loop()
        with self._runner.changed:
            self._is_closed = True
            is_busy = bool(self._queue or (self._running and not self._running.is_abandoned))
            drained = self._drained = loop.create_future() if is_busy else None
        if drained is not None:
            await asyncio.wait({drained}, timeout=within)
        with self._runner.changed:
            dropped = list(self._queue)
            self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._give_up(dropped)
        if dropped:
            self._report(dropped[0].hook, f"{len(dropped)} queued calls dropped: the transport was closed")

    # Called by the threads of the runner, which hold its lock. -----------------------------------------------------

    def start(self) -> Call | None:
        """The next call, which now runs; None when there is none left."""
        self._is_offered = False
        if not self._queue:
            return None
        call = self._running = self._queue.popleft()
        now = self._runner.clock()
        call.hangs_at = now + self._timeout
        if call.future is not None and call.hangs_at - call.deadline < 0.1 * self._timeout:
            call.hangs_at = call.deadline  # it hardly waited: one end, not two a moment apart
        return call

    def finish(self, call: Call, answer: object, error: BaseException | None) -> None:
        """Note that *call* has ended, and go on with the next."""
        self._running = None
        self._is_said = False
        self._offer()
        drained = None if self._queue else self._drained
        if drained is None and call.future is None and (error is None or call.is_abandoned):
            return  # nobody needs to hear of it: spare the loop a wake-up
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, call, answer, error, drained)
        except RuntimeError:  # the loop is closed, nobody waits any more
            extra = {"plugin": self.plugin, "hook": call.hook, "why": describe(error) if error else "answered too late"}
            logger.debug("switchgear.hook_ended_late", extra=extra)

    # On the loop. --------------------------------------------------------------------------------------------------

    def _deliver(
        self, call: Call, answer: object, error: BaseException | None, drained: asyncio.Future[object] | None
    ) -> None:
        if error is not None and not call.is_abandoned:
            self._report(call.hook, describe(error), error)
        for future, result in ((call.future, answer), (drained, None)):
            if future is not None and not future.done():
                future.set_result(result)

    def _hanging(self) -> str | None:
        return self._running.hook if self._running is not None and self._running.is_abandoned else None

    def _offer(self) -> None:
        if self._queue and self._running is None and not self._is_offered:
            self._is_offered = True
            self._runner.offer(self)

    def _place(self, asked: Call) -> None:
        """Put an ask before what nobody waits for, but behind earlier asks and the plugin's own `on_disconnect`.

        Of the calls before that `on_disconnect`, its `on_connected` keep their place and its `on_event` give way. A
        `while_connected` comes behind the `on_connected`, too.
        """
        waiting = list(self._queue)
        reports = {"on_disconnect", "on_connected"} if asked.hook == "while_connected" else {"on_disconnect"}
        at = max((i + 1 for i, c in enumerate(waiting) if c.future or c.hook in reports), default=0)
        ahead = [c for c in waiting[:at] if c.hook != "on_event"]
        behind = [c for c in waiting[:at] if c.hook == "on_event"]
        self._queue = deque([*ahead, asked, *behind, *waiting[at:]])

    def _arm(self, delay: float) -> None:
        """Look at the deadlines in *delay* seconds at the latest. One timer serves all calls of the line."""
        assert self._loop is not None
        if self._timer is None:
            self._timer = self._loop.call_later(delay, self._check)

    def _check(self) -> None:
        """Give up what has passed its time."""
        self._timer = None
        now = self._runner.clock()
        with self._runner.changed:
            running = self._running if not self._hanging() else None
            late = [call for call in self._queue if call.future is not None and call.deadline <= now]
            if running and running.future and not running.future.done() and running.deadline <= now:
                late.append(running)
            hung = running if running is not None and running.hangs_at <= now else None
            dropped: list[Call] = []
            if hung is not None:
                hung.is_abandoned = True
                dropped = list(self._queue)
                self._queue.clear()
                self._runner.staff()
            for call in late:
                if call in self._queue:
                    self._queue.remove(call)
            ends = [call.deadline for call in self._queue if call.future is not None]
            ends += [now + self._timeout] if self._queue else []
            ends += [running.hangs_at] if running is not None and hung is None else []
            drained = self._drained if hung is not None else None
        if ends:
            self._arm(max(0.0, min(ends) - now))
        if hung is not None:
            lost = f"; {len(dropped)} queued calls dropped" if dropped else ""
            why = f"not done within {self._timeout:g} s: abandoned, and the plugin is skipped until it returns{lost}"
            self._report(hung.hook, why)
        else:
            for call in late:
                reason = "its earlier calls were slow" if running is not None else "no thread was free"
                self._report(call.hook, f"no answer within {self._timeout:g} s: {reason}")
        self._give_up([*late, *dropped])
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _give_up(self, calls: list[Call]) -> None:
        for call in calls:
            if call.future is not None and not call.future.done():
                call.future.set_result(None)


@define(eq=False)
class InlineLine:
    """A line whose calls run where they are made; see `Line`."""

    plugin: str
    report: Report
    is_closed: bool = False

    async def ask(self, hook: str, call: Callable[[], object]) -> object:
        """See `Line`."""
        return self._call(hook, call)

    def tell(self, hook: str, call: Callable[[], object]) -> None:
        """See `Line`."""
        self._call(hook, call)

    async def close(self, within: float) -> None:  # noqa: ARG002 - the interface; nothing is queued here
        """See `Line`."""
        self.is_closed = True

    def _call(self, hook: str, call: Callable[[], object]) -> object:
        if self.is_closed:
            return None
        answer, error = run_call(self.plugin, call)
        if isinstance(error, KeyboardInterrupt):
            raise error
        if error is not None:
            self.report(hook, describe(error), error)
        return answer
