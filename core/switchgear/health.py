"""What is remembered of each endpoint: the last result, penalties, strikes, quarantine. Pure: times come from outside."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from switchgear.cause import Failure, Policy

if TYPE_CHECKING:
    import random
    from collections.abc import Container, Iterable, Mapping

    from switchgear.endpoint import Endpoint

STRIKE_GAP: Final = 3.0
"""Seconds between the two strikes that make a fatal cause final. An ActiveMQ that has just taken over refuses a
subscriber until its advisory topics exist (seen); too short a gap would quarantine it for a minute."""

PENALTY: Final = 30.0
"""Seconds for which an endpoint that said "elsewhere" ranks behind those that did not."""

QUARANTINE: Final = 60.0
"""Seconds; doubles with each further strike."""

LONGEST_QUARANTINE: Final = 3600.0
"""Seconds."""


class Result(enum.IntEnum):
    """How the last attempt at an endpoint ended; smaller is tried sooner."""

    GOOD = 0
    FAILED = 1


@frozen
class EndpointHealth:
    """A look at one endpoint's memory, as plugins see it.

    Attributes:
        last: The last ending here, or None.
        failures: Endings in a row without a usable connection.
        penalised_until: Until when it ranks behind others; 0 when it does not.
        quarantined_until: Until when it is left out; 0 when it is not.
    """

    last: Failure | None = None
    failures: int = 0
    penalised_until: float = 0.0
    quarantined_until: float = 0.0


@define
class _Memory:
    last: Failure | None = None
    failures: int = 0
    penalised_until: float = 0.0
    quarantined_until: float = 0.0
    quarantine: float = 0.0
    first_strike: float | None = None


@define
class Health:
    """The memory of all endpoints of one transport."""

    _memories: dict[str, _Memory] = field(factory=dict)
    just_failed: str | None = None

    def succeeded(self, key: str) -> None:
        """A usable connection to *key*: all is forgiven."""
        self._memories[key] = _Memory()
        if self.just_failed == key:
            self.just_failed = None

    def failed(self, key: str, failure: Failure, now: float) -> bool:
        """Note an ending at *key*; True when it is now quarantined.

        A fatal cause needs two strikes that are at least `STRIKE_GAP` seconds apart with no success between them.
        """
        memory = self._memories.setdefault(key, _Memory())
        memory.last = failure
        memory.failures += 1
        self.just_failed = key
        policy = failure.policy
        if policy is Policy.ELSEWHERE:
            memory.penalised_until = now + PENALTY
        if policy is not Policy.FATAL:
            return False
        if memory.first_strike is None:
            memory.first_strike = now
            return False
        if now - memory.first_strike < STRIKE_GAP:
            return False
        memory.quarantine = min(LONGEST_QUARANTINE, memory.quarantine * 2 or QUARANTINE)
        memory.quarantined_until = now + memory.quarantine
        return True

    def release(self) -> None:
        """Lift every quarantine and penalty: credentials, files or the list changed, or somebody asked."""
        for memory in self._memories.values():
            memory.quarantined_until = memory.penalised_until = memory.quarantine = 0.0
            memory.first_strike = None

    def look(self, key: str) -> EndpointHealth:
        """What is known of *key*."""
        m = self._memories.get(key)
        return EndpointHealth(m.last, m.failures, m.penalised_until, m.quarantined_until) if m else EndpointHealth()

    def is_quarantined(self, key: str, now: float) -> bool:
        """Whether *key* is left out at *now*."""
        memory = self._memories.get(key)
        return memory is not None and memory.quarantined_until > now

    def first_release(self, endpoints: Iterable[Endpoint]) -> float:
        """When the first of the quarantined *endpoints* may be tried again."""
        return min((self.look(e.key).quarantined_until for e in endpoints), default=0.0)

    def fatal(self, endpoints: Iterable[Endpoint], now: float) -> tuple[Endpoint, Failure] | None:
        """The last endpoint with its fatal failure when all of *endpoints* are quarantined, else None."""
        found = None
        for endpoint in endpoints:
            memory = self._memories.get(endpoint.key)
            if memory is None or memory.quarantined_until <= now or memory.last is None:
                return None
            found = endpoint, memory.last
        return found


def ordered(
    endpoints: Iterable[Endpoint],
    *,
    health: Health,
    now: float,
    rng: random.Random,
    tried: Container[str] = (),
    keep_order: Mapping[str, bool] | None = None,
) -> list[Endpoint]:
    """The candidates in the order to try them: (just failed, priority, penalty, last result, shuffle).

    Those in *tried* and those in quarantine are left out. The endpoint that has just failed comes last, whatever its
    priority. Endpoints of a group in *keep_order* keep their listed order in place of the shuffle.
    """
    keep = keep_order or {}
    ranked = []
    for position, endpoint in enumerate(endpoints):
        if endpoint.key in tried or health.is_quarantined(endpoint.key, now):
            continue
        memory = health.look(endpoint.key)
        tie = position if keep.get(endpoint.group) else rng.random()
        result = Result.GOOD if memory.failures == 0 else Result.FAILED
        rank = (endpoint.key == health.just_failed, endpoint.priority, memory.penalised_until > now, result, tie)
        ranked.append((rank, position, endpoint))
    return [endpoint for _, _, endpoint in sorted(ranked, key=lambda row: row[:2])]
