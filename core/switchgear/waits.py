"""Where calls wait, and from where they may: the loop, the threads and the process of one transport. Touches threads' locks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from attrs import define, field

from switchgear.errors import Forked, SwitchgearError, TransportClosed, WouldDeadlock, WrongLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOCK = threading.RLock()  # see `watch_lock` and `Waits.let_go`

_generation = 0  # of this process: one more than its parent's; cheaper to look at than a process id


def _forked() -> None:
    global _generation, _LOCK  # noqa: PLW0603 - a fork changes what is true of the whole process
    _generation += 1
    _LOCK = threading.RLock()  # the parent may have held it


os.register_at_fork(after_in_child=_forked)

# Names of threads that must never wait for the loop that serves them; set by those who start them.
_busy = threading.local()


def mark_thread(where: str | None) -> None:
    """Say that this thread runs a hook, a handler or an event loop of ours, or (None) that it no longer does."""
    _busy.where = where


def is_interrupt(error: BaseException) -> bool:
    """Whether *error* is Ctrl-C, which Python raises in the main thread and asyncio lets end a loop."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def watch_lock() -> threading.RLock:
    """What guards the lists of watchers, of all transports of this process; never held while anything is called."""
    return _LOCK


def waker(future: asyncio.Future[None]) -> Callable[[], None]:
    """What settles *future*, from any thread."""
    loop = future.get_loop()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        if _running_loop() is loop:
            settle()
        else:
            with contextlib.suppress(RuntimeError):  # that loop has ended: nobody waits any more
                loop.call_soon_threadsafe(settle)

    return wake


def _running_loop() -> asyncio.AbstractEventLoop | None:
    return asyncio._get_running_loop()  # as get_running_loop(), which raises where there is none


@define(eq=False)
class Waits:
    """What all waiting calls of one transport share: why waiting is hopeless, and who is waiting."""

    failure: SwitchgearError | None = None
    pid: int = field(factory=os.getpid)
    loop: asyncio.AbstractEventLoop | None = None
    """The loop that serves the transport, once there is one."""
    lock: threading.RLock = field(factory=threading.RLock)
    """Held while a message is accepted. Entered as it is: `Condition.__enter__` is Python, where Ctrl-C may come after
    the lock was taken and before anybody would give it back."""
    locks: list[threading.RLock] = field(factory=list)
    """What else a publisher's thread may hold for a moment."""
    _born: int = field(factory=lambda: _generation)
    _parked: set[Callable[[], None]] = field(factory=set)

    @property
    def is_foreign(self) -> bool:
        """Whether this is a child of the process that made the transport."""
        return self._born != _generation

    @property
    def is_elsewhere(self) -> bool:
        """Whether the transport is served by another loop than runs in this thread."""
        return self.loop is not None and self.loop is not _running_loop()

    def check(self, call: str) -> None:
        """Raise where a blocking *call* cannot work: in a forked child, in a hook, a handler or an event loop.

        Raises:
            Forked: this process is a child of the one that made the transport.
            WouldDeadlock: the call would wait for the thread that it was made from, or for what a signal interrupted.
        """
        self.check_process(call)
        self.check_signal(call)
        self.check_thread(call)

    def check_thread(self, call: str) -> None:
        """Raise `WouldDeadlock` in a hook, a handler or an event loop."""
        where = getattr(_busy, "where", None)
        if not where and self.loop is not None and self.loop is _running_loop():
            where = "the event loop"
        if where:
            raise WouldDeadlock(call, where)

    def check_loop(self, call: str) -> None:
        """Raise `TransportClosed` where the loop that served the transport has ended: nothing will come any more."""
        if self.loop is not None and self.loop.is_closed():
            raise TransportClosed(call, what="the event loop of this transport has ended")

    def check_home(self, call: str) -> None:
        """Raise where *call* was not made on the loop that serves the transport.

        Raises:
            TransportClosed: that loop has ended.
            WrongLoop: it was made from another thread, or on another loop, or there is none to start on.
        """
        running = _running_loop()
        if running is not None and running is (self.loop or running):
            return
        self.check_loop(call)
        if self.loop is None or running is not None or self.loop.is_running():
            raise WrongLoop(call)

    def send_home(self, call: str, function: Callable[[], object]) -> bool:
        """From another thread, such as a plain handler's, have *function* called on the loop; whether it is one."""
        if self.loop is None or not self.is_elsewhere:
            return False
        self.check_process(call)
        self.check_loop(call)
        with contextlib.suppress(RuntimeError):  # it has ended at this moment
            self.loop.call_soon_threadsafe(function)
        return True

    def check_signal(self, call: str) -> None:
        """Raise `WouldDeadlock` in a signal handler that interrupted a publish, which cannot go on before it returns."""
        if self.lock._is_owned():  # type: ignore[attr-defined]  # what a Condition asks of its lock
            raise WouldDeadlock(call, "a signal handler that interrupted publish()")

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Give up, for a while, what this thread holds because a signal handler interrupted it: others wait for it."""
        locks: list[Any] = [lock for lock in (_LOCK, self.lock, *self.locks) if lock._is_owned()]  # type: ignore[attr-defined]  # as above
        held = [(lock, lock._release_save()) for lock in locks]
        try:
            yield
        finally:
            for lock, state in reversed(held):
                lock._acquire_restore(state)

    def check_process(self, call: str) -> None:
        """Raise `Forked` in a child of the process that made the transport."""
        if self.is_foreign:
            raise Forked(call, self.pid)

    def park(self, wake: Callable[[], None]) -> None:
        """Have *wake* called when waiting becomes hopeless."""
        with _LOCK:
            self._parked.add(wake)

    def unpark(self, wake: Callable[[], None]) -> None:
        """The opposite of `park`."""
        with _LOCK:
            self._parked.discard(wake)

    def fail(self, error: SwitchgearError | None) -> None:
        """Waiting is hopeless from now on, because of *error*; None: there is hope again."""
        self.failure = error
        if error is not None:
            with _LOCK:
                wakes = list(self._parked)
            for wake in wakes:
                wake()
