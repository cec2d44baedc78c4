"""A clock that jumps instead of waiting."""

from __future__ import annotations

import threading
import time


class SteppingClock:
    """See `switchgear_iot_dns.dr.clock.Clock`: it begins now, and a wait ends at once, as if its time had passed."""

    def __init__(self) -> None:
        self._time = time.time()
        self._lock = threading.Lock()
        self.waits: list[float] = []

    def now(self) -> float:
        """See `Clock.now`."""
        return self._time

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._time

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """See `Clock.wait`."""
        with self._lock:
            self.waits.append(seconds)
            self._time += max(0.0, seconds)
        return stop.is_set()
