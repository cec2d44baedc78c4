"""When other clients try again after a loss, as `Backoff` policies: for the simulator and the benches. Pure.

Sources: the clients' own, as "Beside other clients" names them (read in 2026; awscrt also measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    import random

    from switchgear.backoff import Outage


@frozen
class Doubling:
    """No jitter: *first* seconds after the loss, then ``min(cap, base * 2**n)`` after the n-th failure, n from 0."""

    first: float
    base: float
    cap: float

    @property
    def connects_per_second(self) -> float | None:
        """None: it knows nothing of the broker."""
        return None

    def next_sweep(self, outage: Outage, now: float, rng: random.Random) -> float:  # noqa: ARG002 - it has no jitter
        """Now and the delay."""
        if outage.sweeps == 0:
            return now + self.first
        return now + min(self.cap, self.base * 2.0 ** min(outage.sweeps - 1, 64))


@frozen
class FullJitter:
    """``U(0, min(cap, base * 2**n))``; with *caps_last* ``min(cap, U(0, base * 2**n))``, as awscrt has it.

    A cap applied last takes the jitter away: after ten failures nearly every wait is the cap (measured with awscrt).
    """

    base: float
    cap: float
    caps_last: bool = False

    @property
    def connects_per_second(self) -> float | None:
        """None: it knows nothing of the broker."""
        return None

    def next_sweep(self, outage: Outage, now: float, rng: random.Random) -> float:
        """Now and the delay."""
        longest = self.base * 2.0 ** min(outage.sweeps, 64)
        if self.caps_last:
            return now + min(self.cap, rng.uniform(0.0, longest))
        return now + rng.uniform(0.0, min(self.cap, longest))


ACTIVEMQ = Doubling(first=0.01, base=0.01, cap=30.0)
"""ActiveMQ's failover transport: ``initialReconnectDelay``, ``reconnectDelay``, ``maxReconnectDelay``."""

MQTT_JS = Doubling(first=1.0, base=1.0, cap=1.0)
"""MQTT.js: ``reconnectPeriod``."""

PAHO = Doubling(first=1.0, base=2.0, cap=120.0)
"""paho-mqtt's own loop: ``reconnect_delay_set(1, 120)``."""

AWSCRT = FullJitter(base=1.0, cap=120.0, caps_last=True)
"""awscrt's mqtt5 client: full jitter, 1 s and 120 s."""

FULL_JITTER = FullJitter(base=1.0, cap=120.0)
"""The same with the cap inside, as the article of AWS on back-off and jitter has it."""

LOOP = Doubling(first=0.0, base=1.0, cap=30.0)
"""The loop that people write: try, and on failure ``sleep(min(2**attempt, 30))``."""
