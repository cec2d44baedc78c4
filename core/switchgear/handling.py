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

from switchgear.waits import is_interrupt, mark_thread
from switchgear.workers import HANDLERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.arrival import Arrival
    from switchgear.message import Message
    from switchgear.receiver import Inbox

log = logging.getLogger("switchgear.receiver")

RETRY_DELAY = 0.1
"""Seconds before a handler that raised is called again; doubled each time."""


NO_THREAD = 1.0
"""Seconds until the system is asked for a thread again when it had none."""


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
    _busy: dict[str, deque[Arrival]] = field(factory=dict, init=False)  # topics at work, and what waits for each
    _parked: int = field(default=0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _ending: threading.Event = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ending = self.inbox.settings.ending()

    def start(self) -> None:
        """Have the handler take what waits, if not as many as may are at it already."""
        if self._running >= self.concurrency or self._is_full:
            return
        self._running += 1
        if is_coroutine_function(self.handler):
            settings = self.inbox.settings
            task = settings.loop.create_task(self._drain_async())
            settings.tasks.add(task)
            task.add_done_callback(settings.tasks.discard)
            return
        try:
            HANDLERS.submit(self._drain_in_thread)
        except OSError as error:  # the system has no thread for us now
            log.warning("switchgear.no_handler_thread", extra={"why": str(error)})
            settings = self.inbox.settings
            settings.loop.call_later(NO_THREAD, self._stopped)

    @property
    def _is_full(self) -> bool:
        """Whether so many messages wait for their topics' turn that no more are taken."""
        return self._parked >= self.inbox.settings.inbox_limit

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
        if not self.ordered or self.concurrency == 1:
            return None if inbox.is_closed else inbox.take()
        with self._lock:
            if inbox.is_closed:  # looked at under the lock: what is parked from here on, nobody would find
                return None
            if last is not None:
                waiting = self._busy[last.message.topic]
                if waiting:
                    if self._is_full:  # no longer
                        self._soon(self._go_on)
                    self._parked -= 1
                    return waiting.popleft()
                del self._busy[last.message.topic]
            while not self._is_full:
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
        self._go_on()

    def _go_on(self) -> None:
        if not self.inbox.is_closed:
            for _ in range(min(len(self.inbox), self.concurrency - self._running)):
                self.start()

    def _soon(self, function: Callable[[], None]) -> None:
        try:
            self.inbox.settings.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            log.debug("switchgear.handler_after_close", extra={"filter": self.inbox.filter.topic_filter})

    # Calls. ------------------------------------------------------------------------------------------------------

    def _drain_in_thread(self) -> None:
        mark_thread("a message handler")
        arrival = None
        try:
            while (arrival := self._next(arrival)) is not None:
                self._handle_in_thread(arrival)
        finally:
            mark_thread(None)
            self._soon(self._stopped)

    def _handle_in_thread(self, arrival: Arrival) -> None:
        settings = self.inbox.settings
        for attempt in range(1, settings.retries + 2):
            try:
                self._call_in_thread(self.handler, arrival)
            except BaseException as error:  # the user's: reported, retried, then to the dead letters
                if self._ending.is_set():
                    self.inbox.give_back(arrival)
                    return
                self._failed(error, attempt)
                if attempt <= settings.retries and self._ending.wait(RETRY_DELAY * 2 ** (attempt - 1)):
                    self.inbox.give_back(arrival)
                    return
            else:
                self.inbox.handled(arrival)
                return
        if settings.dead_letter is not None:
            try:
                self._call_in_thread(settings.dead_letter, arrival)
            except BaseException as error:  # the same, but for the last time
                self._dead_letter_failed(error)
        self.inbox.handled(arrival)

    def _call_in_thread(self, function: Callable[[Message], Any], arrival: Arrival) -> None:
        result = function(arrival.message)
        if inspect.isawaitable(result):
            error = asyncio.run_coroutine_threadsafe(self._outcome(result), self.inbox.settings.loop).result()
            if error is not None:
                raise error

    async def _outcome(self, work: Awaitable[object]) -> BaseException | None:
        """How *work* failed: what asyncio lets end the loop is an answer here."""
        tasks, task = self.inbox.settings.tasks, asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await work
        except GeneratorExit:
            raise
        except BaseException as error:  # raised again in the thread that asked
            if is_interrupt(error):
                raise
            return error
        finally:
            tasks.discard(task)
        return None

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
        settings = self.inbox.settings
        for attempt in range(1, settings.retries + 2):
            try:
                await self.handler(arrival.message)
            except GeneratorExit:
                raise
            except BaseException as error:  # as in a thread
                _let_us_end_it(error)
                self._failed(error, attempt)
                if attempt <= settings.retries:
                    await asyncio.sleep(RETRY_DELAY * 2 ** (attempt - 1))
            else:
                self.inbox.handled(arrival)
                return
        if settings.dead_letter is not None:
            try:
                result = settings.dead_letter(arrival.message)
                if inspect.isawaitable(result):
                    await result
            except GeneratorExit:
                raise
            except BaseException as error:  # the same
                _let_us_end_it(error)
                self._dead_letter_failed(error)
        self.inbox.handled(arrival)

    # Failures. ---------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException, attempt: int) -> None:
        settings, name = self.inbox.settings, self.inbox.filter.topic_filter
        settings.failed += 1
        log.error("switchgear.handler_failed", exc_info=error, extra={"filter": name, "attempt": attempt})
        shown = f"{type(error).__name__}: {error}"
        settings.emit_soon("handler_failed", filter=name, error=shown, attempt=attempt)

    def _dead_letter_failed(self, error: BaseException) -> None:
        log.error("switchgear.dead_letter_failed", exc_info=error, extra={"filter": self.inbox.filter.topic_filter})


def is_coroutine_function(handler: Callable[..., object] | None) -> bool:
    """Whether calling *handler* gives a coroutine; a callable object is judged by its ``__call__``."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _let_us_end_it(error: BaseException) -> None:
    """Raise where it is the transport, or Ctrl-C, that ends this task, not something that a handler raised or awaited."""
    if is_interrupt(error):
        raise error
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
