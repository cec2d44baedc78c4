"""Budgets of requests a second, kept exactly. No I/O but waiting on the clock it is given; safe on any thread."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear_iot_dns.dr.clock import Clock

MARGIN: Final = 0.95
"""The share of a budget that is planned for: what was late once may catch up with the rest."""


class Stopped(Exception):
    """The wait was ended: the user interrupted, or the deadline came."""


class Pacer:
    """Gives out slots: one each 1 / (0.95 * rate) seconds for each budget, and never two within 1 / rate.

    So no second has more than the rate, even when this machine was busy for a while and many wait that should have gone:
    what was not used is gone. A slot of several budgets at once is the latest of theirs.
    """

    def __init__(self, rates: Mapping[tuple[str, str], float], clock: Clock) -> None:
        self._least = {key: 1 / rate for key, rate in rates.items()}
        self._next = dict.fromkeys(rates, 0.0)
        self._gone = dict.fromkeys(rates, -math.inf)
        self._clock = clock
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.deadline: float | None = None

    def reserve(self, *keys: tuple[str, str]) -> float:
        """The next slot of all of *keys* that have a budget, on the monotonic clock; it is taken.

        Raises:
            Stopped: it would come after the deadline; it is not taken.
        """
        with self._lock:
            now = self._clock.monotonic()
            known = [key for key in keys if key in self._least]
            slot = max([now, *(self._next[key] for key in known)])
            if self.stop.is_set() or (self.deadline is not None and slot > self.deadline):
                raise Stopped
            for key in known:
                self._next[key] = slot + self._least[key] / MARGIN
            return slot

    def take(self, *keys: tuple[str, str]) -> None:
        """Wait for the next slot of all of *keys*.

        Raises:
            Stopped: the run is stopped, or the slot would come after the deadline.
        """
        ready = self.reserve(*keys)
        while ready:
            if self._clock.wait(ready - self._clock.monotonic(), self.stop):
                raise Stopped
            ready = self._go(keys)

    def _go(self, keys: tuple[tuple[str, str], ...]) -> float:
        """0 when one may go now, which is then noted; else when to ask again: somebody who was late went just before."""
        with self._lock:
            now = self._clock.monotonic()
            known = [key for key in keys if key in self._least]
            ready = max((self._gone[key] + self._least[key] for key in known), default=0.0)
            if ready > now:
                return ready
            for key in known:
                self._gone[key] = now
            return 0.0
