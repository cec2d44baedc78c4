"""The thread that writes a durable outbox: many messages, one transaction, one fsync. Does I/O on its file.

Publishers append to `queue` and the loop appends to `removals`; both are deques, so neither takes a lock. The thread
takes all that is there, leaves out what has been acknowledged meanwhile, and commits the rest at once.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, field

from switchgear.message import DeliveryState
from switchgear.outbox.audience import Audience
from switchgear.outbox.opening import is_corrupt, recover
from switchgear.outbox.rows import BLOCK, pack_deliveries
from switchgear.outbox.stored import QUEUED, TAKEN, WRITTEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from switchgear.delivery import Delivery
    from switchgear.outbox.clock import FileClock
    from switchgear.outbox.file import OutboxFile
    from switchgear.outbox.rows import Block
    from switchgear.outbox.stored import StoredDelivery

log = logging.getLogger("switchgear.outbox")

LINGER: Final = 0.005
"""Seconds that messages are gathered for one commit, at least, when nobody waits for it. A message that is acknowledged
within them is never written."""

REMOVAL_LINGER: Final = 0.05
"""The same when there are only rows to remove: a row that stays too long costs a duplicate, and only after a crash."""

LOOK: Final = 10.0
"""Seconds between two looks at the wall clock while there is nothing to write: a step of it is told to the file."""

RETRY: Final = 1.0
"""Seconds until a commit that failed is tried again."""

BEHIND: Final = 32_768
"""Messages that may wait for the writer before a publisher waits for it: about 25 MB of 128-byte messages."""

LARGE: Final = 4096
"""Bytes of a message beyond which fewer may wait, so that all that wait have 128 MB at most."""

LONGEST_LINGER: Final = 0.1
"""Seconds that a commit's are gathered at most: as long as the last commit took, so that the writer takes no more than half of
the time. It bounds, with the time of a commit, what the death of the process can take that was not reported as stored."""

GATHERED: Final = 24_576
"""Messages that end the gathering."""

BATCH: Final = 8192
"""Messages in one commit: what a writer that fell behind holds twice for a moment."""

_STORED: Final = DeliveryState.STORED
_SENT: Final = DeliveryState.SENT


@define(eq=False)
class Writer:
    """Owns the file, from its thread; the others only append and wait."""

    file: OutboxFile
    clock: FileClock
    emit: Callable[..., None]
    jobs: Callable[[OutboxFile], bool]
    """What else is to be done on the file, after each commit; whether there is more."""
    in_memory: Callable[[], tuple[list[Delivery], range]]
    """What is not ended and has an object, in order; the sequences of which that is everything."""
    lost: Callable[[int, int], None]
    """Told how many messages, and bytes, of a broken file could not be read."""
    linger: float = LINGER
    retry: float = RETRY
    queue: deque[StoredDelivery] = field(factory=deque, init=False)
    """Accepted, in order, not taken by the writer."""
    removals: deque[StoredDelivery] = field(factory=deque, init=False)
    """Ended."""
    failure: str | None = field(default=None, init=False)
    """Why nothing can be written; None: it can."""
    is_idle: bool = field(default=True, init=False)
    exactly_once: bool = field(default=False, init=False)
    """Whether the file says that QoS 2 is in use."""
    _exactly_once_wanted: bool | None = field(default=None, init=False)
    has_jobs: bool = field(default=False, init=False)
    """Something was asked for that is not done."""
    _broken: str | None = field(default=None, init=False)  # why the file has to be recovered
    _was_broken: bool = field(default=False, init=False)  # it was recovered, and nothing has worked since
    _is_closing: bool = field(default=False, init=False)
    _has_ended: bool = field(default=False, init=False)
    _is_committing: bool = field(default=False, init=False)
    _lasted: float = field(default=0.0, init=False)  # seconds, the last commit
    _audience: Audience = field(factory=Audience, init=False)  # of commits and failures
    _lock: threading.RLock = field(factory=threading.RLock, init=False)  # see `Waits.lock`
    _work: threading.Condition = field(
        default=Factory(lambda self: threading.Condition(self._lock), takes_self=True), init=False
    )
    _hurry: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _on_end: Callable[[], None] | None = field(default=None, init=False)

    @property
    def locks(self) -> list[threading.RLock]:
        """What a publisher's thread may hold for a moment."""
        return [self._lock, self._audience.lock]

    @property
    def path(self) -> str:
        """The file's."""
        return self.file.path

    # For the others. ---------------------------------------------------------------------------------------------

    def kick(self) -> None:
        """There is something to write; called when the writer `is_idle`."""
        with self._lock:
            if self._thread is None and not self._is_closing:
                self._thread = threading.Thread(target=self._run, name="switchgear-outbox", daemon=True)
                try:
                    self._thread.start()
                except BaseException:  # the system has no thread for us: the next one who kicks tries again
                    self._thread = None
                    raise
            self._work.notify()

    def hurry(self) -> None:
        """Somebody waits: no lingering."""
        self._hurry.set()
        self.kick()

    def ask(self) -> None:
        """There is a job."""
        self.has_jobs = True
        self.hurry()

    def wait(self, is_met: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until *is_met* is true after a commit; whether it became so within *timeout* seconds."""
        return self._audience.wait(is_met, timeout, self.hurry)

    def watch(self, wake: Callable[[], None]) -> None:
        """Have *wake* called after the next commit or failure, which comes at once."""
        self._audience.add(wake)
        self.hurry()

    def unwatch(self, wake: Callable[[], None]) -> None:
        """The opposite of `watch`."""
        self._audience.discard(wake)

    def mark_exactly_once(self) -> bool:
        """Have the file say that QoS 2 is in use, before the first such message is sent; whether it does."""
        self._exactly_once_wanted = True
        return (
            self.wait(lambda: self.exactly_once or self.failure is not None or self._has_ended, 30)
            and self.exactly_once
        )

    def catch_up(self, most: int) -> None:
        """Wait, within a bound, for a writer that has fallen behind, until fewer than *most* messages wait for it."""
        self.wait(lambda: len(self.queue) < most or self.failure is not None, 1.0)

    def flush(self, timeout: float, *, exactly_once: bool) -> int:
        """Write all that is there, within *timeout* seconds; 0 when it is; else how many messages are not, at least."""
        self._exactly_once_wanted = exactly_once
        self.wait(
            lambda: (
                self.failure is not None
                or not (self.queue or self.removals or self._flag_differs() or self._is_committing)
            ),
            timeout,
        )
        return self.unwritten()

    def unwritten(self) -> int:
        """How many messages are not in the file, at least."""
        return max(len(self.queue), int(self._is_committing))

    def close(self, on_end: Callable[[], None], *, exactly_once: bool) -> None:
        """Write what is left, close the file, end the thread; *on_end* is called there as the last thing."""
        self._exactly_once_wanted = exactly_once
        with self._lock:
            self._on_end = on_end
            has_ended = self._has_ended
        if has_ended:
            on_end()
            return
        try:
            self.hurry()
        except RuntimeError:  # the system has no thread for us: this one waits for the disk
            self._is_closing = True
            self._run()
            return
        with self._lock:
            self._is_closing = True
            self._work.notify()

    def join(self, timeout: float | None = None) -> None:
        """The thread has ended when this returns, unless *timeout* seconds have passed."""
        if self._thread is not None:
            self._thread.join(timeout)

    # The thread. -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._next():
                self._turn()
            self._turn()
        except Exception as error:  # a bug of ours; publishers hear of it, and what is on disk stays there
            self.failure = f"internal error: {error}"
            log.exception("switchgear.outbox_writer_failed", extra={"path": self.path})
        finally:
            self.is_idle = False
            with contextlib.suppress(sqlite3.Error):
                if not self.file.messages:
                    self.file.shrink()
            self.file.close()
            self._audience.tell()
            with self._lock:
                self._has_ended = True
                on_end = self._on_end
            if on_end is not None:
                on_end()

    def _next(self) -> bool:
        """Wait for work, and linger; False when the transport closes."""
        with self._lock:
            self.is_idle = True
            while not (self.queue or self.removals or self.has_jobs or self._is_closing or self._must_try()):
                self._work.wait(LOOK if self.file.messages else None)
            self.is_idle = False
        if self._is_closing:
            return False
        if self.failure is not None:
            self._hurry.clear()
            with self._lock:
                self._work.wait_for(lambda: self._is_closing, self.retry)
        else:
            self._gather()
        self._hurry.clear()
        return not self._is_closing

    def _gather(self) -> None:
        """Linger, unless somebody waits; forget what ends meanwhile at the head of the queue, where the oldest are."""
        queue = self.queue
        until = time.monotonic() + max(self.linger if queue else max(self.linger, REMOVAL_LINGER), self._lasted)
        while (left := until - time.monotonic()) > 0 and len(queue) < GATHERED:
            if self._hurry.wait(min(left, self.linger)):
                break
            while queue and (head := queue[0])._state is not _STORED and head._state is not _SENT:
                queue.popleft()

    def _must_try(self) -> bool:
        """Whether there is something to do that nobody has asked for."""
        return self.failure is not None or self._differs()

    def _differs(self) -> bool:
        return self._flag_differs() or (self.file.messages > 0 and self.file.differs(self.clock.noted()))

    def _flag_differs(self) -> bool:
        return self._exactly_once_wanted is not None and self._exactly_once_wanted != self.exactly_once

    def _turn(self) -> None:
        """One commit, and the jobs."""
        more = True
        while more:
            try:
                if self._broken is not None:
                    self._recover(self._broken)
                started = time.monotonic()
                self._is_committing = True  # before the queue is emptied
                try:
                    self._commit()
                finally:
                    self._is_committing = False
                self._lasted = min(LONGEST_LINGER, time.monotonic() - started)
                more = len(self.queue) >= GATHERED or (self._is_closing and bool(self.queue))
                if self.has_jobs and not self._is_closing:
                    more = self._do_jobs() or more
                if not self.file.messages and not self.queue:
                    self.file.shrink()
                self._succeeded()
            except (sqlite3.Error, OSError) as error:
                more = self._failed(error)
        self._audience.tell()

    def _do_jobs(self) -> bool:
        """Do what was asked for; whether there is more."""
        self.has_jobs = False  # before the jobs: whoever asks meanwhile must not be forgotten
        try:
            more = self.jobs(self.file)
        except BaseException:
            self.has_jobs = True  # it was asked for once
            raise
        if more:
            self.has_jobs = True
        return more

    def _commit(self) -> None:
        # Removals first: none of them can then be younger than a message that is still in the queue afterwards.
        removed = _take(self.removals, len(self.removals))
        gone = [d for d in removed if d.disk == WRITTEN]
        flag = self._exactly_once_wanted if self._flag_differs() else None
        batch: list[StoredDelivery] = []
        try:
            self.file.commit(
                self._blocks(batch),
                [d.sequence for d in gone],
                sum([len(d.payload) + len(d.topic) for d in gone]),
                exactly_once=flag,
                noted=self.clock.noted(),
            )
        except BaseException:
            for delivery in batch:
                delivery.disk = QUEUED
            self.queue.extendleft(reversed(batch))
            self.removals.extendleft(reversed(removed))
            raise
        for delivery in batch:
            delivery.disk = WRITTEN
        if flag is not None:
            self.exactly_once = flag

    def _blocks(self, batch: list[StoredDelivery]) -> Iterator[Block]:
        """The queue as rows, a block at a time, each taken as late as can be: what ends before is never written."""
        offset = self.clock.offset
        for _ in range(0, min(len(self.queue), BATCH), BLOCK):
            block: list[StoredDelivery] = []
            for delivery in _take(self.queue, min(len(self.queue), BLOCK)):
                delivery.disk = TAKEN  # before the look: who ends it from now on finds it in the removals
                state = delivery._state
                if state is _STORED or state is _SENT:
                    block.append(delivery)
            batch += block
            if block:
                yield pack_deliveries(block, offset)

    def _succeeded(self) -> None:
        self._was_broken = False
        if self.failure is not None:
            self.failure = None
            self.emit("outbox_writable", path=self.path)

    def _failed(self, error: sqlite3.Error | OSError) -> bool:
        """Note why nothing can be written; whether to try again at once, with a mended file."""
        # Once: where the mended file is broken, too, each try would leave one behind.
        if is_corrupt(error) and self._broken is None and not self._was_broken:
            self._broken = str(error)
            return True
        why = getattr(error, "strerror", None) or str(error)
        if self.failure is None:
            self.failure = why
            self.emit("outbox_unwritable", path=self.path, why=why)
        if self.has_jobs and not self._is_closing:  # what is on the disk can be read, and sent
            with contextlib.suppress(sqlite3.Error, OSError):
                self._do_jobs()
        return False

    def _recover(self, why: str) -> None:
        """The file is broken: go on with a new one, of what can be read and of what is in memory. It can be done again."""
        old = self.file
        with contextlib.suppress(sqlite3.Error):
            old.db.close()
        living, whole = self.in_memory()
        waiting = {d.sequence for d in list(self.queue)}  # of these the file may have what was never committed
        stay = {d.sequence for d in (*living, *list(self.removals))} - waiting
        self.file = new = recover(
            old.path,
            old.durability,
            old.lock,
            self.emit,
            why,
            is_wanted=lambda sequence: sequence in stay if sequence in whole else sequence not in waiting,
        )
        self._broken, self._was_broken = None, True
        self.exactly_once = True
        have = {sequence for (sequence,) in new.db.execute("SELECT sequence FROM message")}
        gone = [d for d in list(self.removals) if d.disk == WRITTEN and d.sequence not in have]
        for delivery in gone:
            delivery.disk = QUEUED  # it is not there to be removed
        missing = have | waiting | {d.sequence for d in gone}
        again = [d for d in living if d.sequence not in missing]
        written = [d for d in again if d.disk == WRITTEN]  # type: ignore[attr-defined]  # the deliveries of this outbox have it
        for lost in again:
            lost.disk = QUEUED  # type: ignore[attr-defined]  # the same
        self.queue.extendleft(reversed(again))  # type: ignore[arg-type]  # the same
        count = old.messages - new.messages - len(written) - len(gone)
        size = old.bytes - new.bytes - sum(len(d.payload) + len(d.topic) for d in (*written, *gone))
        self.lost(count, size)


def _take(queue: deque[StoredDelivery], count: int) -> list[StoredDelivery]:
    """The first *count*; others may append meanwhile."""
    return [queue.popleft() for _ in range(count)]
