"""The clock of a run, as a port: tests bring their own. The real one sleeps."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time, for one run; safe on any thread."""

    def now(self) -> float:
        """Seconds since 1970, for journals and for comparing with AWS."""

    def monotonic(self) -> float:
        """Seconds that only grow, for deadlines."""

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Let *seconds* pass, or fewer when *stop* is set; whether it is."""


class RealClock:
    """The system's clock."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.time()

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """See `Clock.wait`."""
        return stop.wait(min(max(0.0, seconds), threading.TIMEOUT_MAX))
