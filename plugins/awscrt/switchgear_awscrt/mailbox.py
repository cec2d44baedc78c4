"""From the SDK's thread to ours: callbacks only leave a note, and one wake-up of the loop serves all that wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("switchgear.drivers.awscrt")


BUSY: Final = 16
"""Calls in one batch from which on more are expected: the loop then looks again by itself, and nobody wakes it."""

PAUSE: Final = 0.001
"""Seconds until it looks again. Woken by each first callback, the loop would take the GIL while the SDK's thread has the
others of its batch to make, and both would wait for each other at every call: half the messages a second (measured)."""


class Mailbox:
    """Calls that are made on the loop's thread, in the order in which they were posted.

    *after* is called when a batch of them has been made.
    """

    def __init__(self, after: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._after = after
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_due = False

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have *function* called on the loop's thread. From any thread."""
        self._calls.append((function, arguments))
        if self._is_due:
            return
        self._is_due = True
        try:
            self._loop.call_soon_threadsafe(self._empty)
        except RuntimeError:  # the loop is closed, and nobody is left who could want to know
            log.debug("switchgear.callback_after_close")

    def _empty(self) -> None:
        calls, made = self._calls, 0
        try:
            while calls:
                function, arguments = calls.popleft()
                function(*arguments)
                made += 1
            self._after()
        except BaseException:  # Ctrl-C comes anywhere, and the loop may be run again, to close the transport
            self._loop.call_soon(self._empty)
            raise
        if made >= BUSY:
            self._loop.call_later(PAUSE, self._empty)  # it stays due: nobody wakes the loop meanwhile
            return
        self._is_due = False
        if calls and not self._is_due:  # posted between the last look and the line above
            self._is_due = True
            self._loop.call_soon(self._empty)
