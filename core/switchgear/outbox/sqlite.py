"""The durable outbox: a window of messages in memory, all of them in an SQLite file. Its I/O is its writer's.

Publishers and the loop work on the window as in `switchgear.outbox.memory`. When the window is full, messages are only
written (*spilled*), and the writer brings them back, in order, when the window has emptied. A `Delivery` that somebody
holds stays the message's own: it is found again by its sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from switchgear.delivery import Delivery
from switchgear.errors import Cancelled, Expired, MessageTooLarge, OutboxUnwritable, TransportClosed
from switchgear.message import DeliveryState
from switchgear.outbox.clock import FileClock
from switchgear.outbox.file import END
from switchgear.outbox.memory import MemoryOutbox
from switchgear.outbox.opening import open_file
from switchgear.outbox.rows import Row, unpack_properties
from switchgear.outbox.stored import QUEUED, WRITTEN, StoredDelivery
from switchgear.outbox.writer import BEHIND, LINGER, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from switchgear.message import Properties
    from switchgear.outbox.file import OutboxFile
    from switchgear.profile import Durability

WINDOW: Final = 32_768
"""Unsent messages in memory, about 20 MB of 128-byte messages. A burst that fits is not read again to be sent."""

WINDOW_BYTES: Final = 32 * 2**20
"""Bytes of payload and topic, sent ones included, beyond which no more are kept in memory."""

LOW: Final = 4096
"""Below this many the next are read."""

CHUNK: Final = 4096
"""Messages in one reading."""

PRUNE: Final = 0.1
"""Seconds between two looks for what has expired on disk, when what was found is still on its way out."""

CLOCK_BACK: Final = 60.0
"""Seconds that the wall clock may lie before what the last process noted, before that is worth an event."""

_STORED: Final = DeliveryState.STORED


@define(eq=False)
class SqliteOutbox(MemoryOutbox):
    """Messages in the file *path* that no broker has acknowledged.

    Raises:
        OutboxLocked: another transport has the file.
        UnreadableFile: it cannot be an outbox.
    """

    path: str
    durability: Durability = "full"
    clock: Callable[[], float] = time.monotonic
    """The loop's time, in which messages expire in memory."""
    wall: Callable[[], float] = time.time
    """The time that passes between two processes."""
    linger: float = LINGER
    writer: Writer = field(init=False)
    _base: int = field(default=0, init=False)
    _starts_clean: bool = field(default=False, init=False)
    _is_spilling: bool = field(default=False, init=False)
    _loaded: int = field(default=0, init=False)  # what is above is on disk or in the writer's queue only
    _low: int = field(default=LOW, init=False)  # fewer when messages are large
    _wants_load: bool = field(default=False, init=False)
    _wants_prune: bool = field(default=False, init=False)
    _time: FileClock = field(init=False)
    _spilled_expiry: float | None = field(default=None, init=False)  # of the file's time: the first not in memory
    _live: weakref.WeakValueDictionary[int, StoredDelivery] = field(factory=weakref.WeakValueDictionary, init=False)
    _expired: int = field(default=0, init=False)  # on disk, not told yet
    _session_began: bool = field(default=False, init=False)
    _lost_exactly_once: bool = field(default=False, init=False)
    _marks_again: bool = field(default=False, init=False)
    _reports: list[tuple[str, dict[str, Any]]] = field(factory=list, init=False)
    _narrate: Callable[..., None] | None = field(default=None, init=False)
    _on_change: Callable[[], None] | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._low = min(LOW, WINDOW // 2)
        file = open_file(self.path, self.durability, self._emit)
        self._time = FileClock(self.clock, self.wall)
        back = self._time.resume(file.noted_at, file.skew)
        if back > CLOCK_BACK and file.messages:
            self._emit("outbox_clock_back", path=self.path, seconds=round(back, 3))
        self.writer = Writer(file, self._time, self._emit, self._jobs, self._in_memory, self._lost, linger=self.linger)
        self.writer.exactly_once = self._starts_clean = file.exactly_once
        self._base = self._sequence = file.next_sequence - 1
        self._in_count, self._in_bytes = file.messages, file.bytes
        if file.messages:
            self._is_spilling = True
            self._wants_load = True
            try:
                self.writer._has_jobs = self._jobs(file)  # the first are here at once; the writer has not begun
            except BaseException:
                file.close()
                raise

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
        self._loop, self._narrate, self._on_change = loop, emit, on_change
        for name, facts in self._reports:
            emit(name, **facts)
        self._reports.clear()
        on_change()
        if self.writer._has_jobs:
            self.writer.ask()

    def _emit(self, name: str, **facts: Any) -> None:
        """Tell an event, on the loop; before there is one, keep it."""
        tell, loop = self._narrate, self._loop
        if tell is None or loop is None:
            self._reports.append((name, facts))
        else:
            self._on_loop(lambda: tell(name, **facts))

    def _on_loop(self, function: Callable[[], object]) -> None:
        if self._loop is None:
            function()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is there to be told
                self._loop.call_soon_threadsafe(function)

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
        """
        writer = self.writer
        if self._is_closed:
            raise self.closed()
        if qos == 2 and not writer.exactly_once:
            writer.mark_exactly_once()
        if len(writer.queue) > BEHIND:
            writer.catch_up()
        if writer.failure is not None:
            raise OutboxUnwritable(self.path, writer.failure)
        limits = self.limits
        size = len(payload) + len(topic)
        victims: list[Delivery] = []
        try:
            with self.room:
                if self.is_held:
                    self.wants_room = True
                    return None
                if (
                    self._in_count - self._out_count >= limits.max_messages
                    or self._in_bytes + size - self._out_bytes > limits.max_bytes
                ):
                    if size > limits.max_bytes:
                        raise MessageTooLarge(topic, size, limits.max_bytes, whose="the outbox")
                    if not self._make_room(size, victims):
                        if limits.when_full == "block":
                            self.wants_room = True
                            return None
                        if limits.when_full != "drop_newest":
                            raise self.full(size)
                        dropped = Delivery(self.waits, 0, topic, payload, qos, retain, properties)
                        self._drop(dropped)
                        return dropped
                self._in_count += 1
                self._in_bytes += size
                self._sequence += 1
                delivery = StoredDelivery(
                    writer, self.waits, self._sequence, topic, payload, qos, retain, properties, expires_at
                )
                writer.queue.append(delivery)
                self._place(delivery)
        finally:
            for victim in victims:
                victim._wake()  # without the lock: its callbacks are the user's
        if writer.is_idle:
            writer.kick()
        return delivery

    def _place(self, delivery: StoredDelivery) -> None:
        """Into memory, or only to the disk. Called under the lock."""
        if self._is_spilling:
            self._spill(delivery)
        elif len(self.pending) >= WINDOW or (
            self._in_bytes - self._out_bytes > WINDOW_BYTES and len(self.pending) > 64
        ):
            self._loaded = self._sequence - 1
            self._spill(delivery)
        else:
            self._to_memory(delivery)

    def _to_memory(self, delivery: StoredDelivery) -> None:
        self._watch_expiry(delivery)
        self.pending.append(delivery)

    def _spill(self, delivery: StoredDelivery) -> None:
        """*delivery* is on the disk, or on its way, and only there unless somebody holds it. Called under the lock."""
        self._is_spilling = True
        self._live[delivery.sequence] = delivery
        if delivery.expires_at is not None:
            at = delivery.expires_at + self._time.offset
            self._spilled_expiry = at if self._spilled_expiry is None else min(at, self._spilled_expiry)
        if len(self.pending) < self._low:
            self._load_soon()

    def _drop(self, delivery: Delivery) -> None:
        super()._drop(delivery)
        if isinstance(delivery, StoredDelivery):
            self.writer.removals.append(delivery)
            self._load_when_low()

    def _oldest(self) -> Delivery:
        """The next to be dropped; read from the disk when it is there. Called under the lock."""
        while not self.pending and self._is_spilling and self.writer.failure is None:
            self._load_soon()
            if not self.room.wait(5.0):
                break
        return super()._oldest()

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

    def expire(self, now: float) -> tuple[int, float | None]:
        """End what is past its time; how many that were, and when the next may be."""
        count, following = super().expire(now)
        with self.room:
            count, self._expired = count + self._expired, 0
            spilled = self._spilled_expiry
        if spilled is not None:
            at = spilled - self._time.offset
            if at <= now:
                self._wants_prune = True
                self.writer.ask()
            else:
                following = at if following is None else min(at, following)
        return count, following

    def flush(self, timeout: float) -> int:
        """All that is held is in the file when this answers 0; the process may end then. It waits for the disk."""
        if self._is_closed:  # what is left is being written
            self.writer.join(timeout)
            return len(self.writer.queue)
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
        self._is_closed = True
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

    def _in_memory(self) -> tuple[list[Delivery], range]:
        """What is not ended and has an object, in order; the sequences of which that is everything."""
        with self.room:
            known = {delivery.sequence: delivery for delivery in self.living()}
            known.update({d.sequence: d for d in self._live.values() if not d.done()})
            after, before = self._spilled()
            whole = range(after + 1) if before == END else range(before, self._sequence + 1)
            return [known[sequence] for sequence in sorted(known)], whole

    def _spilled(self) -> tuple[int, int]:
        """Between which sequences messages may be on disk only. Called under the lock, or where it may change."""
        return (self._loaded if self._is_spilling else self._sequence), END

    def _lost(self, count: int, size: int) -> None:
        """That much of a broken file could not be read."""
        with self.room:
            self._in_count -= count
            self._in_bytes -= size

    # From the disk: in the writer's thread. ----------------------------------------------------------------------

    def _load_when_low(self) -> None:
        if self._is_spilling and len(self.pending) < self._low:
            self._load_soon()

    def _load_soon(self) -> None:
        if not self._wants_load:
            self._wants_load = True
            self.writer.ask()

    def _jobs(self, file: OutboxFile) -> bool:
        """Read the next messages, prune what is past its time; whether there is more to do now."""
        if self._wants_prune:
            self._wants_prune = self._prune(file)
        if self._wants_load:
            self._load(file)
        return self._wants_prune or self._wants_load

    def _load(self, file: OutboxFile) -> None:
        rows, bad, is_all = file.read(self._chunk(file), after=self._loaded)
        lost = self._quarantine(file, bad)
        found = [self._delivery_of(row) for row in rows]
        overdue: list[StoredDelivery] = []
        with self.room:
            self._count_out(len(bad), lost)
            for delivery in self._wanted(found, overdue):
                self._to_memory(delivery)
            last = max([self._loaded, *(row.sequence for row in rows), *bad])
            self._loaded = last
            if is_all:
                for waiting in list(self.writer.queue):  # accepted since the last commit, or not writable
                    if waiting.sequence > last and waiting._state is _STORED and waiting.disk == QUEUED:
                        self._live.pop(waiting.sequence, None)
                        self._to_memory(waiting)
            self._end_load(file, is_all=is_all)
        self._on_loop(lambda: self._arrived(overdue))

    def _chunk(self, file: OutboxFile) -> int:
        """How many to read at once."""
        self._low = min(LOW, WINDOW // 2, max(64, WINDOW_BYTES // 4 * file.messages // max(1, file.bytes)))
        return min(CHUNK, self._low)

    def _quarantine(self, file: OutboxFile, bad: list[int]) -> int:
        """Move the rows *bad* aside; their bytes."""
        if not bad:
            return 0
        count, size = file.quarantine(bad, "its checksum does not match")
        self._emit("outbox_quarantined", path=self.path, count=count, why="a checksum does not match")
        return size

    def _count_out(self, count: int, size: int) -> None:
        self._in_count -= count
        self._in_bytes -= size

    def _wanted(self, found: list[StoredDelivery], overdue: list[StoredDelivery]) -> Iterator[StoredDelivery]:
        """Of what was *found* on the disk, what is to be sent; the rest has ended, is `_is_here`, or *overdue*."""
        gone = {delivery.sequence for delivery in list(self.writer.removals)}
        now = self._time.clock()
        for fresh in found:
            if self._is_here(fresh.sequence):
                continue
            delivery = self._live.pop(fresh.sequence, None) or fresh
            if delivery.sequence in gone or delivery._state is not _STORED:
                continue
            if delivery.expires_at is not None and delivery.expires_at <= now:
                overdue.append(delivery)
            else:
                yield delivery

    def _is_here(self, sequence: int) -> bool:  # noqa: ARG002 - here all that is in memory comes before the rest
        """Whether the message *sequence*, of those that are `_spilled`, is in memory nevertheless."""
        return False

    def _end_load(self, file: OutboxFile, *, is_all: bool) -> None:
        """Note what is left to be loaded, and wake who waits for it. Called under the lock."""
        if is_all:
            self._is_spilling = False
            self._spilled_expiry = None
        elif self._spilled_expiry is None:
            after, before = self._spilled()
            self._spilled_expiry = _seconds(file.next_expiry(after=after, before=before))
        self._wants_load = self._is_spilling and len(self.pending) < self._low
        self.room.notify_all()

    def _delivery_of(self, row: Row) -> StoredDelivery:
        expires_at = None if row.expires_at is None else row.expires_at / 1000 - self._time.offset
        try:
            properties = unpack_properties(row.extra) if row.extra else None
        except (ValueError, TypeError, KeyError):  # of a version that knew other ones: the message counts for more
            properties = None
        delivery = StoredDelivery(
            self.writer,
            self.waits,
            row.sequence,
            row.topic.decode("utf-8", "replace"),
            row.payload,
            row.flags & 3,
            row.flags & 4 != 0,
            properties,
            expires_at,
        )
        delivery.disk = WRITTEN
        return delivery

    def _arrived(self, overdue: list[StoredDelivery]) -> None:
        """On the loop: messages came from the disk."""
        for delivery in overdue:
            if not delivery.done():
                self.end(delivery, DeliveryState.EXPIRED, _expired(delivery))
                with self.room:
                    self._expired += 1
        if self._on_change is not None:
            self._on_change()

    def _prune(self, file: OutboxFile) -> bool:
        """End what expired on the disk; whether there is more."""
        after, before = self._spilled()
        now = self._time.now()
        pairs = file.expired(int(now * 1000), after=after, before=before)
        held: list[StoredDelivery] = []
        removed: list[int] = []
        size = 0
        with self.room:
            gone = {delivery.sequence for delivery in list(self.writer.removals)}
            for sequence, length in pairs:
                delivery = self._live.get(sequence)
                if sequence in gone or self._is_here(sequence) or (delivery is not None and delivery.done()):
                    continue
                if delivery is not None:
                    held.append(delivery)
                    continue
                removed.append(sequence)
                size += length
        file.commit((), removed, size)
        following = self._spilled_expiry
        if len(pairs) < 2000:
            following = _seconds(file.next_expiry(after=after, before=before))
            if following is not None and held:
                following = max(following, now + PRUNE)  # these are about to be ended
        with self.room:
            self._in_count -= len(removed)
            self._in_bytes -= size
            self._expired += len(removed)
            self._spilled_expiry = following
        self._on_loop(lambda: self._pruned(held))
        return len(pairs) >= 2000 and bool(removed)

    def _pruned(self, held: list[StoredDelivery]) -> None:
        self._arrived(held)
        if self.wants_room and self.on_room is not None:
            self.on_room()


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _expired(delivery: Delivery) -> Expired:
    return Expired(f"message for {delivery.topic!r} expired unsent")
