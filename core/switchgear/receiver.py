"""What arrived, on its way to handlers and iterators, and its acknowledgement on the way back. Runs on the loop.

A message is acknowledged when everybody who wants it is done with it, and acknowledgements keep the order of arrival
(MQTT-4.6.0-2). Reading never stops, for PINGRESP and PUBACK must pass: back-pressure is the broker's window of
unacknowledged messages; QoS 0, which has none, is bounded here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from switchgear.delivery import mark_thread
from switchgear.workers import HANDLERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.drivers.base import Connection, Filter
    from switchgear.errors import SubscriptionRefused
    from switchgear.message import Message

log = logging.getLogger("switchgear.receiver")

RETRY_DELAY = 0.1
"""Seconds before a handler that raised is called again; doubled each time."""


@define(eq=False)
class Ack:
    """The acknowledgement that one message waits for; ``left`` counts the subscriptions that are not done with it."""

    token: object
    queue: AckQueue
    left: int


@define(eq=False)
class Arrival:
    """One message on its way through one subscription; ``ack`` is None where the broker expects no answer."""

    message: Message
    ack: Ack | None


@define(eq=False)
class AckQueue:
    """The acknowledgements of one connection, in order of arrival."""

    connection: Connection | None = None
    _acks: deque[Ack] = field(factory=deque)

    def add(self, ack: Ack) -> None:
        """A message that wants an answer arrived."""
        self._acks.append(ack)

    def settle(self) -> None:
        """Acknowledge what is done, from the front."""
        acks = self._acks
        if self.connection is not None:
            while acks and acks[0].left <= 0:
                self.connection.acknowledge(acks.popleft().token)

    def __len__(self) -> int:
        return len(self._acks)


@define(eq=False)
class HandlerSettings:
    """How handlers are treated, for all subscriptions of a transport."""

    retries: int
    inbox_limit: int
    dead_letter: Callable[[Message], object] | None
    loop: asyncio.AbstractEventLoop
    emit: Callable[..., None]
    dropped: int = 0
    failed: int = 0


@define(eq=False)
class Inbox:
    """The messages of one subscription that nobody has taken yet. Filled on the loop, taken from any thread."""

    filter: Filter
    settings: HandlerSettings
    ack: str
    handler: Callable[[Message], Any] | None
    concurrency: int = 1
    refusal: SubscriptionRefused | None = None
    is_closed: bool = False
    on_arrival: Callable[[], None] | None = None
    """Called on the loop after a message came in, for iterators."""
    _waiting: deque[Arrival] = field(factory=deque)
    _done: deque[Ack] = field(factory=deque)
    _done_is_due: bool = False
    _running: int = 0
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    def push(self, arrival: Arrival) -> None:
        """A message came."""
        if len(self._waiting) >= self.settings.inbox_limit and arrival.message.qos == 0:
            self.settings.dropped += 1
            why = f"{self.settings.inbox_limit} messages wait in the subscription to {self.filter.topic_filter}"
            if self.settings.dropped & (self.settings.dropped - 1) == 0:  # a bounded number of reports
                self.settings.emit("message_dropped", count=self.settings.dropped, why=why)
            oldest = self.take()  # a handler's thread may have taken it meanwhile
            if oldest is not None and oldest.message.qos:
                self._waiting.appendleft(oldest)
                return
        if arrival.ack is not None:
            if self.ack == "at_once":
                arrival.ack.left -= 1
                if arrival.ack.left <= 0:
                    self.settings.loop.call_soon(arrival.ack.queue.settle)
            elif self.ack == "manual":
                arrival.message = self._manual(arrival)
        self._waiting.append(arrival)
        if self.handler is not None:
            self._start()
        elif self.on_arrival is not None:
            self.on_arrival()

    def _manual(self, arrival: Arrival) -> Message:
        called = threading.Event()

        def acknowledge() -> None:
            if not called.is_set():
                called.set()
                self.done(arrival)

        return evolve(arrival.message, acknowledge=acknowledge)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Arrival | None:
        """The next message, for an iterator or a handler; None when there is none."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    # Done with a message. ----------------------------------------------------------------------------------------

    def handled(self, arrival: Arrival) -> None:
        """The handler has returned or the iterator asks for the next one; from any thread."""
        if self.ack == "after":
            self.done(arrival)

    def done(self, arrival: Arrival) -> None:
        """Acknowledge *arrival*, for this subscription's part; from any thread."""
        if arrival.ack is None:
            return
        self._done.append(arrival.ack)
        if not self._done_is_due:
            self._done_is_due = True
            try:
                self.settings.loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop is closed: nobody can be told any more, the broker delivers it again
                log.debug("switchgear.acknowledgement_too_late", extra={"filter": self.filter.topic_filter})

    def _settle(self) -> None:
        self._done_is_due = False
        queues: list[AckQueue] = []
        while self._done:
            ack = self._done.popleft()
            ack.left -= 1
            if ack.left <= 0 and (not queues or queues[-1] is not ack.queue):
                queues.append(ack.queue)
        for queue in queues:
            queue.settle()

    # Handlers. ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Have the handler take what waits, if not as many as may are at it already."""
        if self._running >= self.concurrency:
            return
        self._running += 1
        if _is_coroutine_function(self.handler):
            task = self.settings.loop.create_task(self._drain_async())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            HANDLERS.submit(self._drain_in_thread)

    def _stopped(self) -> None:
        self._running -= 1
        if self._waiting and not self.is_closed:
            self._start()

    def _drain_in_thread(self) -> None:
        mark_thread("a message handler")
        try:
            while not self.is_closed and (arrival := self.take()) is not None:
                self._handle_in_thread(arrival)
        finally:
            mark_thread(None)
            try:
                self.settings.loop.call_soon_threadsafe(self._stopped)
            except RuntimeError:  # the loop is closed
                log.debug("switchgear.handler_after_close", extra={"filter": self.filter.topic_filter})

    def _handle_in_thread(self, arrival: Arrival) -> None:
        assert self.handler is not None
        pause = threading.Event()
        for attempt in range(1, self.settings.retries + 2):
            try:
                self.handler(arrival.message)
            except (Exception, SystemExit) as error:  # the user's: reported, retried, then to the dead letters
                self._failed(error, attempt)
                if attempt <= self.settings.retries:
                    pause.wait(RETRY_DELAY * 2 ** (attempt - 1))
            else:
                self.handled(arrival)
                return
        result = self._give_to_dead_letters(arrival)
        if inspect.isawaitable(result):
            try:
                asyncio.run_coroutine_threadsafe(_finish(result), self.settings.loop).result()
            except Exception:
                log.exception("switchgear.dead_letter_failed", extra={"filter": self.filter.topic_filter})
        self.handled(arrival)

    async def _drain_async(self) -> None:
        try:
            while not self.is_closed and (arrival := self.take()) is not None:
                await self._handle_async(arrival)
        finally:
            self._stopped()

    async def _handle_async(self, arrival: Arrival) -> None:
        assert self.handler is not None
        for attempt in range(1, self.settings.retries + 2):
            try:
                await self.handler(arrival.message)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # as in a thread
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # it is we who end it, not something that the handler awaited
                self._failed(error, attempt)
                if attempt <= self.settings.retries:
                    await asyncio.sleep(RETRY_DELAY * 2 ** (attempt - 1))
            else:
                self.handled(arrival)
                return
        result = self._give_to_dead_letters(arrival)
        if inspect.isawaitable(result):
            try:
                await result
            except Exception:
                log.exception("switchgear.dead_letter_failed", extra={"filter": self.filter.topic_filter})
        self.handled(arrival)

    def _failed(self, error: BaseException, attempt: int) -> None:
        self.settings.failed += 1
        name = self.filter.topic_filter
        log.error("switchgear.handler_failed", exc_info=error, extra={"filter": name, "attempt": attempt})
        shown = f"{type(error).__name__}: {error}"
        try:
            self.settings.loop.call_soon_threadsafe(
                lambda: self.settings.emit("handler_failed", filter=name, error=shown, attempt=attempt)
            )
        except RuntimeError:  # the loop is closed: the log line above has said it
            return

    def _give_to_dead_letters(self, arrival: Arrival) -> object:
        if self.settings.dead_letter is None:
            return None
        try:
            return self.settings.dead_letter(arrival.message)
        except Exception:
            log.exception("switchgear.dead_letter_failed", extra={"filter": self.filter.topic_filter})
            return None

    def discard(self) -> None:
        """What waits is wanted no more: it counts as handled, or it would hold up every later acknowledgement."""
        while (arrival := self.take()) is not None:
            if self.ack != "at_once":
                self.done(arrival)

    def close(self) -> None:
        """Nobody takes messages any more."""
        self.is_closed = True
        for task in self._tasks:
            task.cancel()
        if self.on_arrival is not None:
            self.on_arrival()


def _is_coroutine_function(handler: Callable[..., object] | None) -> bool:
    """Whether calling *handler* gives a coroutine; a callable object is judged by its ``__call__``."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


async def _finish(work: Awaitable[object]) -> None:
    await work
