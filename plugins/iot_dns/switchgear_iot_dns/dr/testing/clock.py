"""A clock that jumps instead of waiting."""

from __future__ import annotations

import threading


class SteppingClock:
    """See `switchgear_iot_dns.dr.clock.Clock`: a wait ends at once, and the time is then what it would have been."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._time = start
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
