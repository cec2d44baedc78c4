"""Watching clients arrive in the target region. Looks through `Sightings`, on threads of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from attrs import frozen

from switchgear_iot_dns.dr.disconnect import EXPECTED
from switchgear_iot_dns.dr.pacing import Stopped
from switchgear_iot_dns.dr.state import Victim, key

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from switchgear_iot_dns.dr.clock import Clock
    from switchgear_iot_dns.dr.journal import Journal
    from switchgear_iot_dns.dr.sightings import Sightings
    from switchgear_iot_dns.dr.state import Run

PAUSE: Final = 1.0
"""Seconds between two rounds of looking."""


@frozen
class Count:
    """How many of those that should arrive have; ``unseen`` cannot be told."""

    expected: int
    arrived: int
    unseen: int

    @property
    def share(self) -> float:
        """Arrived of those that could be looked for; 1 when there is nobody."""
        seen = self.expected - self.unseen
        return self.arrived / seen if seen else 1.0

    @property
    def is_unknown(self) -> bool:
        """Whether nobody could be looked for."""
        return self.expected > 0 and self.unseen == self.expected


class Arrivals:
    """Looks for clients in their target regions, and writes down who is there."""

    def __init__(
        self,
        *,
        run: Run,
        journal: Journal,
        sightings: Sightings,
        clock: Clock,
        workers: int,
        stop: threading.Event,
        on_arrival: Callable[[int, int], None],
    ) -> None:
        self._run = run
        self._journal = journal
        self._sightings = sightings
        self._clock = clock
        self._workers = workers
        self._stop = stop
        self._on_arrival = on_arrival

    @property
    def trouble(self) -> str:
        """Why clients cannot be looked for."""
        return self._sightings.trouble

    def wait(self, victims: Sequence[Victim], deadline: float, *, enough: float = 1.0) -> Count:
        """Look until the share *enough* of *victims* has arrived, or until *deadline* on the monotonic clock."""
        expected = [v for v in victims if self._run.results.get(key(v)) in EXPECTED]
        unseen: set[tuple[str, str]] = set()
        while True:
            missing = [v for v in expected if key(v) not in self._run.arrived]
            self._sightings.refresh()
            found = self._round(missing, len(expected))
            unseen = {who for who, there in found.items() if there is None}
            count = Count(len(expected), len(expected) - sum(not there for there in found.values()), len(unseen))
            self._on_arrival(count.arrived, count.expected)
            is_over = self._clock.monotonic() >= deadline or count.is_unknown
            if is_over or (count.share >= enough and count.arrived + count.unseen >= enough * count.expected):
                return count
            if self._clock.wait(min(PAUSE, max(0.0, deadline - self._clock.monotonic())), self._stop):
                return count

    def behind(self, victims: Sequence[Victim]) -> list[Victim]:
        """Those of *victims* that did not arrive and are connected to the old region."""
        missing = [v for v in victims if self._run.results.get(key(v)) in EXPECTED and key(v) not in self._run.arrived]
        with ThreadPoolExecutor(self._workers, thread_name_prefix="switchgear-dr") as pool:
            seen = pool.map(self._is_back, missing)
            return [victim for victim, is_back in zip(missing, seen, strict=True) if is_back]

    def _round(self, missing: Sequence[Victim], expected: int) -> dict[tuple[str, str], bool | None]:
        """Whether each of *missing* is there; who is, is written down and told each `PAUSE` of a long round."""
        found: dict[tuple[str, str], bool | None] = {}
        there: list[Victim] = []
        written = self._clock.monotonic()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="switchgear-dr") as pool:
            for victim, is_there in zip(missing, pool.map(self._is_there, missing), strict=True):
                found[key(victim)] = is_there
                there += [victim] if is_there else []
                if self._clock.monotonic() - written >= PAUSE:
                    self._write(there)
                    self._on_arrival(expected - len(missing) + sum(map(bool, found.values())), expected)
                    there, written = [], self._clock.monotonic()
        self._write(there)
        return found

    def _is_there(self, victim: Victim) -> bool | None:
        return self._connected(victim.target, victim.client_id)

    def _is_back(self, victim: Victim) -> bool:
        return bool(self._connected(victim.source, victim.client_id))

    def _connected(self, region: str, client_id: str) -> bool | None:
        try:
            sighting = self._sightings.look(region, client_id)
        except Stopped:  # the deadline: who was not looked for in time has not arrived in time
            return False
        return None if sighting is None else sighting.is_connected

    def _write(self, victims: Sequence[Victim]) -> None:
        by_region: dict[str, list[str]] = {}
        for victim in victims:
            by_region.setdefault(victim.source, []).append(victim.client_id)
        for region, clients in by_region.items():
            self._journal.add("arrived", at=self._clock.now(), region=region, clients=clients)
            self._run.apply(self._journal.entries[-1])
