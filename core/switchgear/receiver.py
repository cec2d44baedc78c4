"""What arrived, on its way to handlers and iterators, and its acknowledgement on the way back. Runs on the loop.

A message is acknowledged when everybody who wants it is done with it, and acknowledgements keep the order of arrival
(MQTT-4.6.0-2). Reading never stops, for PINGRESP and PUBACK must pass: back-pressure is the broker's window of
unacknowledged messages; QoS 0, which has none, is bounded here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from switchgear.handling import Handling
from switchgear.workers import MARKS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from switchgear.arrival import Ack, AckQueue, Arrival
    from switchgear.drivers.base import Filter
    from switchgear.errors import SubscriptionRefused
    from switchgear.message import Message
    from switchgear.window import Window

log = logging.getLogger("switchgear.receiver")


@define(eq=False)
class HandlerSettings:
    """How handlers are treated, for all subscriptions of a transport, and what is counted of them."""

    retries: int
    inbox_limit: int
    dead_letter: Callable[[Message], object] | None
    loop: asyncio.AbstractEventLoop
    emit: Callable[..., None]
    dropped: int = 0
    failed: int = 0
    duplicates: int = 0
    tasks: set[asyncio.Task[None]] = field(factory=set, init=False)
    """Coroutine handlers at work, those of subscriptions that have ended included."""
    _closed: threading.Event | None = field(default=None, init=False)

    def emit_soon(self, name: str, **facts: object) -> None:
        """Emit an event, from any thread."""
        try:
            self.loop.call_soon_threadsafe(lambda: self.emit(name, **facts))
        except RuntimeError:  # the loop is closed: the log has said it
            return

    def ending(self) -> threading.Event:
        """What is set when the transport ends; made for the first handler, for it takes 1.2 KB."""
        if self._closed is None:
            self._closed = threading.Event()
        return self._closed

    def close(self, closer: asyncio.Task[Any] | None = None) -> None:
        """The transport ends: coroutine handlers are cancelled, and what fails from now on stays with the broker.

        *closer* is the task that closes it, which may be a handler's and goes on.
        """
        self.ending().set()
        for task in self.tasks - {closer}:
            task.cancel()


@define(eq=False)
class Inbox:
    """The messages of one subscription that nobody has taken yet. Filled on the loop, taken from any thread."""

    filter: Filter
    settings: HandlerSettings
    ack: str
    handler: Callable[[Message], Any] | None
    concurrency: int = 1
    ordered: bool = False
    window: Window | None = None
    refusal: SubscriptionRefused | None = None
    is_closed: bool = False
    on_arrival: Callable[[], None] | None = None
    """Called on the loop after a message came in, for iterators."""
    _waiting: deque[Arrival] = field(factory=deque)
    _done: deque[Ack] = field(factory=deque)
    _done_is_due: bool = False
    _marked: deque[Arrival] = field(factory=deque)
    _lock: threading.Lock = field(factory=threading.Lock)
    _marking: bool = False
    _mark_failures: int = field(default=0, init=False)
    _lent: Arrival | None = field(default=None, init=False)
    _owed: set[Arrival] = field(factory=set, init=False)  # what `Message.ack` is still to end, where that is looked for
    _is_discarded: bool = field(default=False, init=False)
    _handling: Handling | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.handler is not None:
            self._handling = Handling(self, self.handler, self.concurrency, self.ordered)

    def push(self, arrival: Arrival) -> None:
        """A message came."""
        if arrival.message.duplicate and arrival.message.qos == 1:
            self._remove_older(arrival)
        if self.window is not None and arrival.message.id is not None and not self._claim(self.window, arrival):
            return
        if len(self._waiting) >= self.settings.inbox_limit and not self._make_room(arrival):
            return
        if self.ack == "manual":
            arrival.message = self._manual(arrival)
        elif self.ack == "at_once" and arrival.ack is not None and len(self._waiting) < self.settings.inbox_limit:
            self._acknowledge_soon(arrival)
        self._waiting.append(arrival)
        if self._handling is not None:
            self._handling.start()
        elif self.on_arrival is not None:
            self.on_arrival()

    def _remove_older(self, repetition: Arrival) -> None:
        """Take out what waits since an earlier connection, and now came again: else each loss would add a copy."""
        new = repetition.message
        for old in list(self._waiting):
            if (
                old.ack is not None
                and repetition.ack is not None
                and old.ack.queue is not repetition.ack.queue
                and (old.message.topic, old.message.payload, old.message.id) == (new.topic, new.payload, new.id)
            ):
                with contextlib.suppress(ValueError):  # a handler's thread has just taken it
                    self._waiting.remove(old)
                    self.give_back(old)
                    self.done(old)  # or it would hold up what came behind it
                return

    def _make_room(self, arrival: Arrival) -> bool:
        """Drop the oldest for an *arrival* of QoS 0; whether there is a place for it. The broker bounds the others."""
        if arrival.message.qos:
            return True
        self.settings.dropped += 1
        why = f"{self.settings.inbox_limit} messages wait in the subscription to {self.filter.topic_filter}"
        if self.settings.dropped & (self.settings.dropped - 1) == 0:  # a bounded number of reports
            self.settings.emit("message_dropped", count=self.settings.dropped, why=why)
        oldest = self.take()  # a handler's thread may have taken it meanwhile
        if oldest is not None and oldest.message.qos:
            self._waiting.appendleft(oldest)
            oldest = arrival
        if oldest is not None:
            self.give_back(oldest)
        return oldest is not arrival

    def _acknowledge_soon(self, arrival: Arrival) -> None:
        ack, arrival.ack = arrival.ack, None
        assert ack is not None
        ack.left -= 1
        if ack.left <= 0:
            self.settings.loop.call_soon(ack.queue.settle)

    def _manual(self, arrival: Arrival) -> Message:
        once = threading.Lock()
        if arrival.key is not None:
            self._owed.add(arrival)

        def acknowledge() -> None:
            if once.acquire(blocking=False):
                self._owed.discard(arrival)
                self._finish(arrival)

        return evolve(arrival.message, acknowledge=acknowledge)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Arrival | None:
        """The next message, for an iterator or a handler; None when there is none."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def lend(self) -> Arrival | None:
        """The next message, for an iterator, until `take_back`."""
        with self._lock:  # else `abandon` may find it neither here nor there
            arrival = self.take()
            if arrival is not None:
                self._lent = arrival
        return arrival

    def take_back(self) -> None:
        """The iterator is done with the message that it has; from any thread."""
        with self._lock:
            lent, self._lent = self._lent, None
        if lent is not None:
            self.handled(lent)

    # Repetitions. ------------------------------------------------------------------------------------------------

    def _claim(self, window: Window, arrival: Arrival) -> bool:
        """Whether *arrival* is to be handled; otherwise it was, or waits for the one that is being handled."""
        key = f"{self.filter.topic_filter}\n{arrival.message.id}"

        def later(was_handled: bool) -> None:  # noqa: FBT001 - a callback
            try:
                self.settings.loop.call_soon_threadsafe(self._repeated if was_handled else self._again, arrival)
            except RuntimeError:  # the loop is closed: the broker keeps it
                log.debug("switchgear.repetition_after_close", extra={"filter": self.filter.topic_filter})

        claim = window.claim(key, later)
        if claim:
            arrival.key = key
        elif claim is False:
            self._repeated(arrival)
        return bool(claim)

    def _repeated(self, arrival: Arrival) -> None:
        self.settings.duplicates += 1
        self.done(arrival)

    def _again(self, arrival: Arrival) -> None:
        if self._is_discarded:
            self.done(arrival)
        elif not self.is_closed:
            self.push(arrival)

    def give_back(self, arrival: Arrival) -> None:
        """*arrival* will not be handled here."""
        key, arrival.key = arrival.key, None  # once: another may have claimed it since
        if key is not None and self.window is not None:
            self.window.finish(key, was_handled=False)

    def _mark(self) -> None:
        """Write down what was handled, on a worker thread, as much as there is at a time; then acknowledge it."""
        assert self.window is not None
        while True:
            with self._lock:
                arrivals = list(self._marked)
                self._marked.clear()
                if not arrivals:
                    self._marking = False
                    return
            keys = [arrival.key for arrival in arrivals if arrival.key is not None]
            try:
                self.window.keep(keys)
            except Exception as error:  # a full disk: the window goes on in memory, and that is told
                self._mark_failures += 1
                if self._mark_failures & (self._mark_failures - 1) == 0:  # a bounded number of reports
                    name = self.filter.topic_filter
                    log.exception("switchgear.window_failed", extra={"filter": name})
                    self.settings.emit_soon("deduplication_failed", filter=name, error=str(error), count=len(keys))
            else:
                self._mark_failures = 0
            for arrival in arrivals:
                if arrival.key is not None:
                    self.window.finish(arrival.key, was_handled=True)
                self.done(arrival)

    # Done with a message. ----------------------------------------------------------------------------------------

    def handled(self, arrival: Arrival) -> None:
        """The handler has returned or the iterator asks for the next one; from any thread."""
        if self.ack != "manual":
            self._finish(arrival)

    def _finish(self, arrival: Arrival) -> None:
        """*arrival* was handled: mark it, where repetitions are looked for, and acknowledge it; from any thread."""
        if arrival.key is None or self.window is None:
            self.done(arrival)
            return
        if not self.window.outlives:
            self.window.finish(arrival.key, was_handled=True)
            self.done(arrival)
            return
        with self._lock:
            self._marked.append(arrival)
            if self._marking:
                return
            self._marking = True
        try:
            MARKS.submit(self._mark)
        except OSError:  # the system has no thread for us: this one waits for the disk
            self._mark()

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

    # The end. ----------------------------------------------------------------------------------------------------

    def discard(self) -> None:
        """What waits is wanted no more: it counts as handled, or it would hold up every later acknowledgement."""
        self._is_discarded = True
        self.take_back()
        for arrival in self._remaining():
            self.give_back(arrival)
            self.done(arrival)

    def close(self) -> None:
        """Nobody takes messages any more; who has one may go on with it."""
        self.is_closed = True
        if self.on_arrival is not None:
            self.on_arrival()

    def abandon(self) -> None:
        """What waits, or an iterator has, stays with the broker; others who share the window may handle it."""
        with self._lock:
            lent, self._lent = self._lent, None
        if lent is not None:
            self.give_back(lent)
        for arrival in (*self._remaining(), *self._owed):
            self.give_back(arrival)

    def _remaining(self) -> list[Arrival]:
        parked = [] if self._handling is None else self._handling.parked()
        while (arrival := self.take()) is not None:
            parked.append(arrival)
        return parked
