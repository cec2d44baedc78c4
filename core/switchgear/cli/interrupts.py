"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
AT_ONCE: Final = 130


def _raise() -> None:
    raise KeyboardInterrupt


def _show_cursor() -> None:
    """Give terminals their cursor back, which a moving display has taken away (DECTCEM)."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if stream.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}:
                os.write(stream.fileno(), b"\x1b[?25h")


class Interrupts:
    """While it is entered, the first signal calls *on_first* in the main thread, and the second one exits with 130.

    Without *on_first* the first signal raises ``KeyboardInterrupt``. Outside the main thread it changes nothing.
    """

    def __init__(self, on_first: Callable[[], object] = _raise) -> None:
        self.on_first = on_first
        self.count = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            _show_cursor()
            os._exit(AT_ONCE)
        self.on_first()
