"""A window of messages in memory over a file that has all of them. Its I/O is the writer's.

Publishers and the loop work on the window as in `switchgear.outbox.memory`. When it is full, messages are only written
(*spilled*), and the writer brings them back, in order, when it has emptied. A `Delivery` that somebody holds stays the
message's own: it is found again by its sequence.
"""

from __future__ import annotations

import contextlib
import sqlite3
import weakref
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.errors import Expired
from switchgear.message import DeliveryState
from switchgear.outbox.file import END
from switchgear.outbox.memory import MemoryOutbox
from switchgear.outbox.messenger import Messenger
from switchgear.outbox.rows import unpack_properties
from switchgear.outbox.stored import QUEUED, WRITTEN, StoredDelivery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.delivery import Delivery
    from switchgear.outbox.clock import FileClock
    from switchgear.outbox.file import OutboxFile
    from switchgear.outbox.rows import Content
    from switchgear.outbox.writer import Writer

WINDOW: Final = 98_304
"""Unsent messages in memory, about 60 MB of 128-byte messages. A burst that fits is not read again to be sent."""

WINDOW_BYTES: Final = 32 * 2**20
"""Bytes of payload and topic, sent ones included, beyond which no more are kept in memory."""

LOW: Final = 16_384
"""Below this many the next are read: enough that sending does not wait for reading."""

CHUNK: Final = 4096
"""Messages in one reading."""

PRUNE: Final = 0.1
"""Seconds between two looks for what has expired on disk, when what was found is still on its way out."""

_STORED: Final = DeliveryState.STORED


@define(eq=False)
class WindowedOutbox(MemoryOutbox):
    """What of a durable outbox is in memory, and what is on the disk only; the rest is `SqliteOutbox`'s."""

    path: str
    messenger: Messenger = field(factory=Messenger, init=False)
    writer: Writer = field(init=False)
    _is_spilling: bool = field(default=False, init=False)
    _loaded: int = field(default=0, init=False)  # what is above is on disk or in the writer's queue only
    _low: int = field(factory=lambda: min(LOW, WINDOW // 2), init=False)  # fewer when messages are large
    _wants_load: bool = field(default=False, init=False)
    _wants_prune: bool = field(default=False, init=False)
    _time: FileClock = field(init=False)
    _spilled_expiry: float | None = field(default=None, init=False)  # of the file's time: the first not in memory
    _may_expire: bool = field(default=True, init=False)  # whether the file has to be asked for that
    _live: weakref.WeakValueDictionary[int, StoredDelivery] = field(factory=weakref.WeakValueDictionary, init=False)
    _expired: int = field(default=0, init=False)  # on disk, not told yet

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

    def _place_again(self, delivery: StoredDelivery) -> None:
        if delivery.sequence not in self._live:
            super()._place_again(delivery)

    def _to_memory(self, delivery: StoredDelivery) -> None:
        if delivery.expires_at is not None:
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

    def _oldest(self) -> Delivery:
        """The next to be dropped; read from the disk when it is there. Called under the lock."""
        while not self.pending and self._is_spilling and self.writer.failure is None:
            self._load_soon()
            if not self.room.wait(5.0):
                break
        return super()._oldest()

    def expire(self, now: float) -> tuple[int, float | None]:
        """End what is past its time; how many that were, and when the next may be."""
        count, following = super().expire(now)
        with self.lock:
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

    def _in_memory(self) -> tuple[list[Delivery], range]:
        """What is not ended and has an object, in order; the sequences of which that is everything."""
        with self.lock:
            known = {delivery.sequence: delivery for delivery in self.living()}
            known.update({d.sequence: d for d in self._live.values() if not d.done()})
            after, before = self._spilled()
            whole = range(after + 1) if before == END else range(before, self._sequence + 1)
            return [known[sequence] for sequence in sorted(known)], whole

    def _spilled(self) -> tuple[int, int]:
        """Between which sequences messages may be on disk only. Called under the lock, or where it may change."""
        return (self._loaded if self._is_spilling else self._sequence), END

    def _lost(self, count: int, size: int) -> None:
        """That much of the file could not be read."""
        with self.lock:
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

    def _work(self, file: OutboxFile) -> bool:
        """`_jobs`; where they fail publishers that wait for them need not."""
        try:
            return self._jobs(file)
        except BaseException:
            with self.lock:
                self.room.notify_all()
            raise

    def _jobs(self, file: OutboxFile) -> bool:
        """Read the next messages, prune what is past its time; whether there is more to do now."""
        if self._wants_prune:
            self._wants_prune = self._prune(file)
        if self._wants_load:
            self._load(file)
        return self._wants_prune or self._wants_load

    def _load(self, file: OutboxFile) -> None:
        rows, bad, is_all = file.read(self._chunk(file), after=self._loaded)
        self._quarantine(file, bad)
        found = self._deliveries_of(rows)
        overdue: list[StoredDelivery] = []
        with self.lock:
            for delivery in self._wanted(found, overdue):
                self._to_memory(delivery)
            last = max([self._loaded, *(rows[-1][:1] if rows else ()), *bad])
            self._loaded = last
            if is_all:
                for waiting in list(self.writer.queue):  # accepted since the last commit, or not writable
                    if waiting.sequence > last and waiting._state is _STORED and waiting.disk == QUEUED:
                        self._live.pop(waiting.sequence, None)
                        self._to_memory(waiting)
            self._end_load(file, is_all=is_all)
        self.messenger.call(lambda: self._arrived(overdue))

    def _chunk(self, file: OutboxFile) -> int:
        """How many to read at once."""
        self._low = min(LOW, WINDOW // 2, max(64, WINDOW_BYTES // 4 * file.messages // max(1, file.bytes)))
        return min(CHUNK, self._low)

    def _quarantine(self, file: OutboxFile, bad: list[int]) -> None:
        """Move the rows *bad* aside: they are no messages any more."""
        if not bad:
            return
        count, size = file.quarantine(bad, "its checksum does not match")
        self._lost(len(bad), size)
        self.messenger.emit("outbox_quarantined", path=self.path, count=count, why="a checksum does not match")

    def _wanted(self, found: list[StoredDelivery], overdue: list[StoredDelivery]) -> Iterator[StoredDelivery]:
        """Of what was *found* on the disk, what is to be sent; the rest has ended, is `_is_here`, or *overdue*."""
        gone = {delivery.sequence for delivery in list(self.writer.removals)}
        now = self._time.clock()
        held = self._live if len(self._live) else None  # mostly nobody holds any, and asking costs
        for fresh in found:
            if self._is_here(fresh.sequence):
                continue
            delivery = fresh if held is None else held.pop(fresh.sequence, fresh)
            if delivery.sequence in gone or delivery._state is not _STORED:
                continue
            if delivery.expires_at is not None and delivery.expires_at <= now:
                self._live[delivery.sequence] = delivery  # until the loop ends it: the file may have to be mended first
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
        elif self._spilled_expiry is None and self._may_expire:
            after, before = self._spilled()
            with contextlib.suppress(sqlite3.Error):  # it is asked again; what was loaded has to be told now
                self._spilled_expiry = _seconds(file.next_expiry(after=after, before=before))
                self._may_expire = self._spilled_expiry is not None  # what is spilled from now on says so itself
        self._wants_load = self._is_spilling and len(self.pending) < self._low
        self.room.notify_all()

    def _deliveries_of(self, rows: list[Content]) -> list[StoredDelivery]:
        """In the order of *rows*. For a backlog of a million this is called a million times: in one loop, and with few calls."""
        made: list[StoredDelivery] = []
        writer, waits, offset = self.writer, self.waits, self._time.offset
        for sequence, topic, payload, flags, extra, until in rows:
            properties = None
            if extra:
                with contextlib.suppress(ValueError, TypeError, KeyError):  # of a version that knew other ones
                    properties = unpack_properties(extra)
            expires_at = None if until is None else until / 1000 - offset
            text = topic.decode("utf-8", "replace")
            delivery = StoredDelivery(
                writer, waits, sequence, text, payload, flags & 3, flags & 4 != 0, properties, expires_at
            )
            delivery.disk = WRITTEN
            made.append(delivery)
        return made

    def _arrived(self, overdue: list[StoredDelivery]) -> None:
        """On the loop: messages came from the disk."""
        for delivery in overdue:
            if not delivery.done():
                self.end(delivery, DeliveryState.EXPIRED, _expired(delivery))
                with self.lock:
                    self._expired += 1
        self.messenger.on_change()

    def _prune(self, file: OutboxFile) -> bool:
        """End what expired on the disk; whether there is more."""
        after, before = self._spilled()
        now = self._time.now()
        pairs = file.expired(int(now * 1000), after=after, before=before)
        held: list[StoredDelivery] = []
        removed: list[int] = []
        size = 0
        with self.lock:
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
        with self.lock:  # at once: what follows may fail
            self._in_count -= len(removed)
            self._in_bytes -= size
            self._expired += len(removed)
        following = self._spilled_expiry
        if len(pairs) < 2000:
            following = _seconds(file.next_expiry(after=after, before=before))
            if following is not None and held:
                following = max(following, now + PRUNE)  # these are about to be ended
        with self.lock:
            self._spilled_expiry = following
        self.messenger.call(lambda: self._pruned(held))
        return len(pairs) >= 2000 and bool(removed)

    def _pruned(self, held: list[StoredDelivery]) -> None:
        self._arrived(held)
        if self.wants_room and self.on_room is not None:
            self.on_room()


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _expired(delivery: Delivery) -> Expired:
    return Expired(f"message for {delivery.topic!r} expired unsent")
