"""Those who wait for the writer's next commit or failure: threads, and callbacks. Blocks the threads that wait."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, field

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK: Final = 0.2
"""Seconds until a thread that waits looks again by itself: it may miss being told between its look and its wait."""


@define(eq=False)
class Audience:
    """Is told by one thread, and waits on many. Telling nobody costs next to nothing."""

    _waiting: int = field(default=0, init=False)
    _wakes: set[Callable[[], None]] = field(factory=set, init=False)
    lock: threading.RLock = field(factory=threading.RLock, init=False)  # see `Waits.lock`
    _changed: threading.Condition = field(
        default=Factory(lambda self: threading.Condition(self.lock), takes_self=True), init=False
    )

    def wait(self, is_met: Callable[[], bool], timeout: float | None, hurry: Callable[[], None]) -> bool:
        """Wait, calling *hurry* before each time, until *is_met*; whether it became so within *timeout* seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            self._waiting += 1
            try:
                while not is_met():
                    hurry()
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    self._changed.wait(LOOK if left is None else min(left, LOOK))
                return True
            finally:
                self._waiting -= 1

    def add(self, wake: Callable[[], None]) -> None:
        """Have *wake* called the next time, once."""
        with self.lock:
            self._wakes.add(wake)

    def discard(self, wake: Callable[[], None]) -> None:
        """The opposite of `add`."""
        with self.lock:
            self._wakes.discard(wake)

    def tell(self) -> None:
        """Something has changed: wake the threads, make the calls."""
        with self.lock:
            if self._waiting:
                self._changed.notify_all()
            wakes, self._wakes = self._wakes, set()
        for wake in wakes:
            wake()
