"""The durable outbox of ``drain_order="newest"``: the newest messages in memory, all of them in the file.

When the window is full the oldest that wait leave it, and are on disk only; when it has emptied the newest of those come
back. So what is sent is the newest of the whole backlog, whatever is published meanwhile. I/O is the writer's.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.outbox import windowed
from switchgear.outbox.newest import NewestFirst
from switchgear.outbox.sqlite import SqliteOutbox
from switchgear.outbox.stored import QUEUED, StoredDelivery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from switchgear.delivery import Delivery
    from switchgear.outbox.file import OutboxFile

ELDEST: Final = 1024
"""Messages that are read at once to be dropped, with ``when_full="drop_oldest"``."""


@define(eq=False)
class NewestSqliteOutbox(SqliteOutbox):
    """`SqliteOutbox`, of which the newest messages are sent first."""

    pending: NewestFirst = field(factory=NewestFirst, init=False)
    _lowest: int = field(default=1, init=False)
    """Of all messages that wait, those of this sequence and above are in memory."""
    _here: weakref.WeakValueDictionary[int, StoredDelivery] = field(factory=weakref.WeakValueDictionary, init=False)
    """What came into memory; below `_lowest` that is what was sent, and `_eldest`."""
    _eldest: deque[StoredDelivery] = field(factory=deque, init=False)
    """The oldest of all, read to be dropped; when the others have been sent these are."""
    _wants_eldest: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._lowest = 1 << 61  # nothing is in memory yet
        super().__attrs_post_init__()
        if not self._is_spilling:
            self._lowest = 0

    def _place(self, delivery: StoredDelivery) -> None:
        self._to_memory(delivery)
        while self._is_crowded():
            oldest = self.pending.oldest()
            self._lowest = max(self._lowest, oldest.sequence + 1)
            self._here.pop(oldest.sequence, None)
            if not oldest.done():
                self._spill(oldest)  # type: ignore[arg-type]  # the deliveries of this outbox are

    def _is_crowded(self) -> bool:
        count = len(self.pending.waiting)
        too_large = self.pending.size - self.pending.sent > windowed.WINDOW_BYTES and count > 64
        return count > windowed.WINDOW or too_large

    def _to_memory(self, delivery: StoredDelivery) -> None:
        self._here[delivery.sequence] = delivery
        super()._to_memory(delivery)

    def _is_here(self, sequence: int) -> bool:
        return sequence in self._here

    def _is_waiting(self, delivery: Delivery) -> bool:
        return super()._is_waiting(delivery) and self._is_here(delivery.sequence)

    def _spilled(self) -> tuple[int, int]:
        return -1, (self._lowest if self._is_spilling else 0)

    def living(self) -> Iterable[Delivery]:
        """All that is not ended and in memory."""
        yield from super().living()
        yield from (d for d in list(self._eldest) if not d.done())

    # In the writer's thread. -------------------------------------------------------------------------------------

    def _jobs(self, file: OutboxFile) -> bool:
        if self._wants_eldest:
            self._load_eldest(file)
        return super()._jobs(file)

    def _load(self, file: OutboxFile) -> None:
        before = self._lowest
        rows, bad, is_all = file.read(self._chunk(file), before=before, newest=True)
        self._quarantine(file, bad)
        found = self._deliveries_of(rows)
        overdue: list[StoredDelivery] = []
        with self.lock:
            if self._lowest != before:  # the window is full again: what was read is not the next any more
                self._end_load(file, is_all=False)
                return
            lowest = 0 if is_all else min([*(rows[0][:1] if rows else ()), *bad])
            older = list(self._wanted(found, overdue))
            older += [d for d in list(self.writer.queue) if lowest <= d.sequence < before and self._is_missing(d)]
            if is_all:
                older += [d for d in self._eldest if not d.done()]
                self._eldest.clear()
            older.sort(key=lambda delivery: delivery.sequence)
            self._lowest = lowest
            for delivery in older:
                self._here[delivery.sequence] = delivery
                self._watch_expiry(delivery)
                self._live.pop(delivery.sequence, None)
            self.pending.older(list(older))
            self._end_load(file, is_all=is_all)
        self.messenger.call(lambda: self._arrived(overdue))

    def _is_missing(self, delivery: StoredDelivery) -> bool:
        """Whether *delivery* is neither on the disk yet nor in memory for us."""
        return delivery.disk == QUEUED and not delivery.done() and not self._is_here(delivery.sequence)

    # Dropping the oldest, which are on the disk. -----------------------------------------------------------------

    def _oldest(self) -> Delivery:
        if len(self._eldest) < ELDEST // 8 and self._is_spilling and self.writer.failure is None:
            self._wants_eldest = True
            self.writer.ask()
            while not self._eldest and self._wants_eldest and self.writer.failure is None and self.room.wait(5.0):
                pass
        return self._eldest.popleft() if self._eldest else self.pending.oldest()

    def _load_eldest(self, file: OutboxFile) -> None:
        last = self._eldest[-1].sequence if self._eldest else -1
        rows, bad, _ = file.read(ELDEST, after=last, before=self._lowest)
        self._quarantine(file, bad)
        found = self._deliveries_of(rows)
        overdue: list[StoredDelivery] = []
        with self.lock:
            for delivery in self._wanted(found, overdue):
                self._here[delivery.sequence] = delivery
                self._watch_expiry(delivery)
                self._eldest.append(delivery)
            self._wants_eldest = False
            self.room.notify_all()
        self.messenger.call(lambda: self._arrived(overdue))
