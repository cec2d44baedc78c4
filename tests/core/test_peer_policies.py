from __future__ import annotations

import random
from collections import Counter

from switchgear.backoff import Backoff, Outage
from switchgear.peer_policies import ACTIVEMQ, AWSCRT, FULL_JITTER, LOOP, MQTT_JS, PAHO, FullJitter


def test_delays_of_the_peers() -> None:
    """The waits of the policies without jitter, from the loss on."""
    rng = random.Random(1)

    def waits(policy: Backoff, count: int) -> list[float]:
        return [policy.next_sweep(Outage(0.0, 0.0, n), 0.0, rng) for n in range(count)]

    assert waits(ACTIVEMQ, 5) == [0.01, 0.01, 0.02, 0.04, 0.08]
    assert waits(MQTT_JS, 4) == [1, 1, 1, 1]
    assert waits(PAHO, 10) == [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]
    assert waits(LOOP, 8) == [0, 1, 2, 4, 8, 16, 30, 30]


def test_bounds_of_the_peers() -> None:
    """After a thousand million failures every peer's wait is its cap or less, and nothing overflows."""
    rng = random.Random(1)
    outage = Outage(0.0, 0.0, 10**9)
    assert [p.next_sweep(outage, 5.0, rng) - 5.0 for p in (ACTIVEMQ, MQTT_JS, PAHO, LOOP)] == [30.0, 1.0, 120.0, 30.0]
    assert all(p.connects_per_second is None for p in (ACTIVEMQ, AWSCRT))
    waits = [FULL_JITTER.next_sweep(outage, 0.0, rng) for _ in range(1000)]
    assert 0 <= min(waits) < 5
    assert 115 < max(waits) <= 120


def test_cap_applied_last_takes_the_jitter_away() -> None:
    """After ten failures nearly every wait of awscrt is its cap; with the cap inside hardly any is."""
    rng = random.Random(1)
    outage = Outage(0.0, 0.0, 10)

    def at_cap(policy: FullJitter) -> int:
        return Counter(policy.next_sweep(outage, 0.0, rng) for _ in range(1000))[120.0]

    assert at_cap(AWSCRT) > 800
    assert at_cap(FULL_JITTER) == 0
