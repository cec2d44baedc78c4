"""From the SDK's thread to ours: callbacks only leave a note, and one wake-up of the loop serves all that wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("switchgear.drivers.awscrt")


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
        self._is_due = False  # before looking: what is posted from now on wakes the loop again
        calls = self._calls
        while calls:
            function, arguments = calls.popleft()
            function(*arguments)
        self._after()
