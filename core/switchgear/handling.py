"""Has the handler of one subscription called: how many at a time, in which order, and how often after it raised.

Plain functions run on threads of `workers.HANDLERS`, coroutine functions as tasks on the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import define, field

from switchgear.delivery import mark_thread
from switchgear.workers import HANDLERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.message import Message
    from switchgear.receiver import Arrival, Inbox

log = logging.getLogger("switchgear.receiver")

RETRY_DELAY = 0.1
"""Seconds before a handler that raised is called again; doubled each time."""


@define(eq=False)
class Handling:
    """The handler of one inbox, at work.

    Attributes:
        inbox: Where the messages come from.
        handler: What is called with each.
        concurrency: How many calls may be under way at a time.
        ordered: Whether messages of one topic are handled one after the other; those of other topics overlap them.
    """

    inbox: Inbox
    handler: Callable[[Message], Any]
    concurrency: int
    ordered: bool
    _running: int = field(default=0, init=False)
    _tasks: set[asyncio.Task[None]] = field(factory=set, init=False)
    _busy: dict[str, deque[Arrival]] = field(factory=dict, init=False)  # topics at work, and what waits for each
    _parked: int = field(default=0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def start(self) -> None:
        """Have the handler take what waits, if not as many as may are at it already."""
        if self._running >= self.concurrency:
            return
        self._running += 1
        if _is_coroutine_function(self.handler):
            task = self.inbox.settings.loop.create_task(self._drain_async())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            HANDLERS.submit(self._drain_in_thread)

    def close(self) -> None:
        """Start no more calls; those of coroutine functions are cancelled."""
        for task in self._tasks:
            task.cancel()

    def parked(self) -> list[Arrival]:
        """What waits for an earlier message of its topic; it is taken away."""
        with self._lock:
            found = [arrival for waiting in self._busy.values() for arrival in waiting]
            for waiting in self._busy.values():
                waiting.clear()
            self._parked = 0
        return found

    # Which is next. ----------------------------------------------------------------------------------------------

    def _next(self, last: Arrival | None) -> Arrival | None:
        """What the caller, who is done with *last*, handles now; None: nothing."""
        inbox = self.inbox
        if inbox.is_closed:
            return None
        if not self.ordered or self.concurrency == 1:
            return inbox.take()
        with self._lock:
            if last is not None:
                waiting = self._busy[last.message.topic]
                if waiting:
                    self._parked -= 1
                    return waiting.popleft()
                del self._busy[last.message.topic]
            while self._parked < inbox.settings.inbox_limit:
                arrival = inbox.take()
                if arrival is None:
                    break
                topic = arrival.message.topic
                if topic not in self._busy:
                    self._busy[topic] = deque()
                    return arrival
                self._busy[topic].append(arrival)
                self._parked += 1
            return None

    def _stopped(self) -> None:
        self._running -= 1
        if len(self.inbox) and not self.inbox.is_closed:
            self.start()

    # Calls. ------------------------------------------------------------------------------------------------------

    def _drain_in_thread(self) -> None:
        mark_thread("a message handler")
        arrival = None
        try:
            while (arrival := self._next(arrival)) is not None:
                self._handle_in_thread(arrival)
        finally:
            mark_thread(None)
            try:
                self.inbox.settings.loop.call_soon_threadsafe(self._stopped)
            except RuntimeError:  # the loop is closed
                log.debug("switchgear.handler_after_close", extra={"filter": self.inbox.filter.topic_filter})

    def _handle_in_thread(self, arrival: Arrival) -> None:
        pause = threading.Event()
        retries = self.inbox.settings.retries
        for attempt in range(1, retries + 2):
            try:
                self.handler(arrival.message)
            except (Exception, SystemExit) as error:  # the user's: reported, retried, then to the dead letters
                self._failed(error, attempt)
                if attempt <= retries:
                    pause.wait(RETRY_DELAY * 2 ** (attempt - 1))
            else:
                self.inbox.handled(arrival)
                return
        result = self._give_to_dead_letters(arrival)
        if inspect.isawaitable(result):
            try:
                asyncio.run_coroutine_threadsafe(_finish(result), self.inbox.settings.loop).result()
            except Exception:
                log.exception("switchgear.dead_letter_failed", extra={"filter": self.inbox.filter.topic_filter})
        self.inbox.handled(arrival)

    async def _drain_async(self) -> None:
        arrival = None
        try:
            while (arrival := self._next(arrival)) is not None:
                await self._handle_async(arrival)
        except asyncio.CancelledError:
            if arrival is not None:
                self.inbox.give_back(arrival)
            raise
        finally:
            self._stopped()

    async def _handle_async(self, arrival: Arrival) -> None:
        retries = self.inbox.settings.retries
        for attempt in range(1, retries + 2):
            try:
                await self.handler(arrival.message)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # as in a thread
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # it is we who end it, not something that the handler awaited
                self._failed(error, attempt)
                if attempt <= retries:
                    await asyncio.sleep(RETRY_DELAY * 2 ** (attempt - 1))
            else:
                self.inbox.handled(arrival)
                return
        result = self._give_to_dead_letters(arrival)
        if inspect.isawaitable(result):
            try:
                await result
            except Exception:
                log.exception("switchgear.dead_letter_failed", extra={"filter": self.inbox.filter.topic_filter})
        self.inbox.handled(arrival)

    # Failures. ---------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException, attempt: int) -> None:
        settings, name = self.inbox.settings, self.inbox.filter.topic_filter
        settings.failed += 1
        log.error("switchgear.handler_failed", exc_info=error, extra={"filter": name, "attempt": attempt})
        shown = f"{type(error).__name__}: {error}"
        settings.emit_soon("handler_failed", filter=name, error=shown, attempt=attempt)

    def _give_to_dead_letters(self, arrival: Arrival) -> object:
        dead_letter = self.inbox.settings.dead_letter
        if dead_letter is None:
            return None
        try:
            return dead_letter(arrival.message)
        except Exception:
            log.exception("switchgear.dead_letter_failed", extra={"filter": self.inbox.filter.topic_filter})
            return None


def _is_coroutine_function(handler: Callable[..., object] | None) -> bool:
    """Whether calling *handler* gives a coroutine; a callable object is judged by its ``__call__``."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


async def _finish(work: Awaitable[object]) -> None:
    await work
