"""When to go back to a preferred endpoint: the settings, and the count of its proofs. Pure: no clock, no I/O.

A listening port is no broker (it may be a load balancer, or a broker that still starts), so a proof is a CONNACK,
under a client id of its own. One proof is no promise either: it takes several, spread over a time, and the present
endpoint is kept for a while whatever the others say. A move that was regretted makes the next one wait twice as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from switchgear.checks import check_utf8
from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from switchgear.endpoint import Endpoint

LONGEST_STAY: Final = 3600.0
"""Seconds; regretted moves double the stay up to this."""


@frozen(kw_only=True)
class Failback:
    """How a transport returns to endpoints of a better priority. All times are in seconds.

    Attributes:
        every: Between two probes of a preferred endpoint; each interval is jittered by a quarter.
        successes: Probes in a row that must end with CONNACK.
        over: From the first to the last of them, at least.
        stay: At least so long on an endpoint before it is left for a better one.
        window: The move happens at a random moment within it, so that a fleet does not move as one.
        drain: So long may messages in flight and handlers take to finish before the move; new ones are held.
        probe_client_id: None: the transport's with ``-probe`` behind it.
    """

    every: float = 5.0
    successes: int = 3
    over: float = 10.0
    stay: float = 10.0
    window: float = 5.0
    drain: float = 5.0
    probe_client_id: str | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("every", "over", "stay", "window", "drain"):
            value = getattr(self, name)
            least = 0.01 if name == "every" else 0
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 86400:
                raise InvalidOption(f"failback.{name}", f"{value!r} is no number of seconds from {least} to 86400")
        if isinstance(self.successes, bool) or not isinstance(self.successes, int) or self.successes < 1:
            raise InvalidOption("failback.successes", f"{self.successes!r} is no whole number of at least 1")
        if self.probe_client_id is not None and (not isinstance(self.probe_client_id, str) or not self.probe_client_id):
            raise InvalidOption("failback.probe_client_id", f"{self.probe_client_id!r} is no client id")
        if self.probe_client_id is not None:
            check_utf8("failback.probe_client_id", self.probe_client_id)


def preferred(endpoints: Iterable[Endpoint], present: Endpoint) -> list[Endpoint]:
    """The *endpoints* of a better priority than *present*, best first."""
    better = [endpoint for endpoint in endpoints if endpoint.priority < present.priority]
    return sorted(better, key=lambda endpoint: endpoint.priority)


@define
class Scout:
    """Counts the proofs of preferred endpoints while one connection lasts, and remembers regretted moves."""

    settings: Failback
    rng: random.Random
    _since: float = field(default=0.0, init=False)
    _stay: float | None = field(default=None, init=False)
    _moved: bool = field(default=False, init=False)
    _proofs: dict[str, tuple[int, float]] = field(factory=dict, init=False)

    def connected(self, now: float) -> None:
        """A new connection is usable."""
        self._since = now
        self._proofs.clear()

    def lost(self, now: float) -> None:
        """The connection was lost; soon after a move of ours that move was a mistake."""
        stay = self.settings.stay if self._stay is None else self._stay
        if self._moved:
            is_regretted = now - self._since < stay
            self._stay = min(LONGEST_STAY, max(1.0, stay * 2)) if is_regretted else None
        self._moved = False

    def moved(self) -> None:
        """The next connection is one that we moved to."""
        self._moved = True

    def next_probe(self, now: float) -> float:
        """When to probe again."""
        return now + self.settings.every * self.rng.uniform(0.75, 1.25)

    def probed(self, key: str, now: float, *, is_good: bool) -> bool:
        """Note the end of a probe of *key*; whether it is time to move there."""
        if not is_good:
            self._proofs.pop(key, None)
            return False
        count, first = self._proofs.get(key, (0, now))
        self._proofs[key] = count + 1, first
        stay = self.settings.stay if self._stay is None else self._stay
        enough = count + 1 >= self.settings.successes and now - first >= self.settings.over
        return enough and now - self._since >= stay
