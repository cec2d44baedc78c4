"""The durable outbox: a window of messages in memory, all of them in an SQLite file. Its I/O is its writer's.

Here it is opened, accepts, and is closed; the window is in `switchgear.outbox.windowed`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.errors import Cancelled, OutboxUnwritable, TransportClosed
from switchgear.message import DeliveryState
from switchgear.outbox.clock import FileClock
from switchgear.outbox.opening import open_file
from switchgear.outbox.stored import QUEUED, StoredDelivery
from switchgear.outbox.windowed import WindowedOutbox
from switchgear.outbox.writer import BEHIND, LARGE, LINGER, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.delivery import Delivery
    from switchgear.message import Properties
    from switchgear.profile import Durability

CLOCK_BACK: Final = 60.0
"""Seconds that the wall clock may lie before what the last process noted, before that is worth an event."""

AT_EXIT: Final = 10.0
"""Seconds that the end of the process waits for each outbox that nobody has closed."""

_STORED: Final = DeliveryState.STORED

_open: Final[weakref.WeakSet[SqliteOutbox]] = weakref.WeakSet()

os.register_at_fork(after_in_child=_open.clear)


@atexit.register
def _write_all() -> None:
    """The process ends with outboxes open, as those of an asyncio program that closed nothing: write what they accepted."""
    for outbox in list(_open):
        outbox.flush(AT_EXIT)


@define(eq=False)
class SqliteOutbox(WindowedOutbox):
    """Messages in the file *path* that no broker has acknowledged.

    Raises:
        OutboxLocked: another transport has the file.
        UnreadableFile: it cannot be an outbox.
    """

    durability: Durability = "full"
    clock: Callable[[], float] = time.monotonic
    """The loop's time, in which messages expire in memory."""
    wall: Callable[[], float] = time.time
    """The time that passes between two processes."""
    linger: float = LINGER
    _base: int = field(default=0, init=False)
    _starts_clean: bool = field(default=False, init=False)
    _session_began: bool = field(default=False, init=False)
    _lost_exactly_once: bool = field(default=False, init=False)
    _marks_again: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        file = open_file(self.path, self.durability, self.messenger.emit)
        self._time = FileClock(self.clock, self.wall)
        back = self._time.resume(file.noted_at, file.skew)
        if back > CLOCK_BACK and file.messages:
            self.messenger.emit("outbox_clock_back", path=self.path, seconds=round(back, 3))
        self.writer = Writer(
            file, self._time, self.messenger.emit, self._work, self._in_memory, self._lost, linger=self.linger
        )
        self.waits.locks = self.writer.locks
        self.writer.exactly_once = self._starts_clean = file.exactly_once
        _open.add(self)
        self._base = self._sequence = file.next_sequence - 1
        self._in_count, self._in_bytes = file.messages, file.bytes
        if file.messages:
            self._is_spilling = True
            self._wants_load = True
            self.writer.has_jobs = True
            with contextlib.suppress(sqlite3.Error, OSError):  # the writer will see, and mend it or say why
                self.writer.has_jobs = self._jobs(file)  # the first are here at once; the writer has not begun

    @property
    def accepted(self) -> int:
        """Messages accepted so far, by this transport."""
        return self._sequence - self._base

    @property
    def starts_clean(self) -> bool:
        """Whether a process before us sent QoS 2 and may have left packet ids with the broker."""
        return self._starts_clean

    def start(
        self, loop: asyncio.AbstractEventLoop, *, emit: Callable[..., None], on_change: Callable[[], None]
    ) -> None:
        """Part of `switchgear.outbox.port.Outbox`."""
        shift = self._time.use(loop.time)
        if shift:  # what was read so far expires by another clock
            self._expiring = [(at + shift, sequence, d) for at, sequence, d in self._expiring]
            for _, _, delivery in self._expiring:
                delivery.expires_at = None if delivery.expires_at is None else delivery.expires_at + shift
        self.messenger.start(loop, emit=emit, on_change=on_change)
        if self.writer.has_jobs:
            self.writer.ask()

    # Accepting. --------------------------------------------------------------------------------------------------

    def accept(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        *,
        retain: bool = False,
        properties: Properties | None = None,
        expires_at: float | None = None,
    ) -> Delivery | None:
        """Part of `switchgear.outbox.port.Outbox`. It waits for the disk when the writer has fallen far behind.

        Raises:
            OutboxFull: there is no room and the policy is to say so.
            MessageTooLarge: it would not fit into an empty outbox.
            OutboxUnwritable: the disk is full or broken.
            WouldDeadlock: called in a signal handler that interrupted it.
        """
        writer = self.writer
        if self._is_mine():
            self.waits.check_signal("publish()")
        if self._is_closed:
            raise self.closed()
        size = len(payload) + len(topic)
        most = BEHIND if size <= LARGE else max(16, BEHIND * LARGE // size)
        if len(writer.queue) > most:
            writer.catch_up(most // 2)
        is_marked = qos != 2 or writer.exactly_once or writer.mark_exactly_once()
        if writer.failure is not None or not is_marked:
            raise OutboxUnwritable(self.path, writer.failure or "it does not answer")
        limits = self.limits
        victims: list[Delivery] = []
        try:
            with self.lock:
                if self.is_held:
                    self.wants_room = True
                    return None
                if (
                    self._in_count - self._out_count >= limits.max_messages
                    or self._in_bytes + size - self._out_bytes > limits.max_bytes
                ) and (not self._make_room(topic, size, victims) or self.is_held):
                    return self._turned_away(topic, payload, qos, retain=retain, properties=properties)
                delivery = StoredDelivery(writer, self.waits, 0, topic, payload, qos, retain, properties, expires_at)
                if self._is_closed:  # by a signal handler, in between
                    return None
                # As in memory: nothing is called up to the end of `append`.
                self._in_count += 1
                self._in_bytes += size
                delivery.sequence = self._sequence = self._sequence + 1
                try:
                    writer.queue.append(delivery)
                    self._place(delivery)
                except BaseException:
                    self._place_again(delivery)
                    raise
        finally:
            for victim in victims:
                victim._wake()  # without the lock: its callbacks are the user's
        if writer.is_idle:
            writer.kick()
        return delivery

    def _drop(self, delivery: Delivery) -> None:
        super()._drop(delivery)
        if isinstance(delivery, StoredDelivery):
            self.writer.removals.append(delivery)
            self._load_when_low()

    # On the loop. ------------------------------------------------------------------------------------------------

    def end(self, delivery: Delivery, state: DeliveryState, error: BaseException | None = None) -> None:
        """*delivery* leaves, as *state*."""
        super().end(delivery, state, error)
        if delivery.disk != QUEUED:  # type: ignore[attr-defined]  # else: the writer comes to it, and sees that it ended
            self._remove(delivery)  # type: ignore[arg-type]  # every delivery of this outbox is one
        if self._is_spilling and len(self.pending) < self._low:
            self._load_soon()

    def _remove(self, delivery: StoredDelivery) -> None:
        """*delivery* has ended: its row, if it has one, is to go."""
        writer = self.writer
        writer.removals.append(delivery)
        if writer.is_idle:
            writer.kick()

    def requeue(self) -> list[Delivery]:
        """Part of `switchgear.outbox.port.Outbox`."""
        unanswered = super().requeue()
        if any(delivery.qos == 2 for delivery in unanswered):
            self._lost_exactly_once = True  # a broker that we may leave keeps its packet ids
        return unanswered

    def session_began(self) -> None:
        """A broker has accepted our CONNECT."""
        self._session_began = True

    def flush(self, timeout: float) -> int:
        """All that is held is in the file when this answers 0; the process may end then. It waits for the disk."""
        if self._is_closed:  # what is left is being written
            self.writer.join(timeout)
            return self.writer.unwritten()
        self._marks_again = self.writer.exactly_once
        return self.writer.flush(timeout, exactly_once=self._keeps_exactly_once())

    def release(self) -> None:
        """Part of `switchgear.outbox.port.Outbox`."""
        if self._marks_again and not self.writer.exactly_once:
            self.writer.mark_exactly_once()  # messages of QoS 2 may be waiting
        super().release()

    async def close(self) -> int:
        """What is left stays in the file. How many could not be written, and ended as `Cancelled`."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        left = self._begin_close(lambda: self._tell(loop, ended.set))
        if left:
            await ended.wait()
        return self._end_close()

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(function)

    def close_now(self) -> None:
        """The same, waiting for the disk."""
        ended = threading.Event()
        if self._begin_close(ended.set):
            ended.wait()
        self._end_close()

    def _begin_close(self, on_end: Callable[[], None]) -> bool:
        """Have the writer write what is left, and end; whether it had not ended before."""
        if self._is_closed:
            return False
        self._shut()
        keeps = self._keeps_exactly_once()
        for delivery in self.sent.values():
            delivery._set(_STORED)
        self.give_room()
        self.writer.close(on_end, exactly_once=keeps)
        return True

    def _keeps_exactly_once(self) -> bool:
        """Whether the file must go on saying that a broker may know packet ids of ours."""
        in_flight = any(d.qos == 2 for d in list(self.sent.values())) or any(
            d.packet_id for d in list(self.pending) if d.qos == 2
        )
        keeps = in_flight or self._lost_exactly_once or (self._starts_clean and not self._session_began)
        return keeps and self.writer.exactly_once

    def _end_close(self) -> int:
        self.writer.join()
        _open.discard(self)
        unwritten = [d for d in self.writer.queue if d._state is _STORED]
        why = self.writer.failure or "the transport was closed"
        for delivery in unwritten:
            super().end(
                delivery,
                DeliveryState.CANCELLED,
                Cancelled(f"message for {delivery.topic!r} could not be written to {self.path!r}: {why}"),
            )
        self.writer.queue.clear()
        self.sent.clear()
        self.pending.clear()
        return len(unwritten)

    def closed(self) -> TransportClosed:
        """The error for those who still wait."""
        return TransportClosed("waiting", kept=self.path)
