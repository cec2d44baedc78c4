"""Disconnecting clients with iot-data's DeleteConnection: paced, journalled, none twice. Opens connections, uses threads."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final

from switchgear_iot_dns.dr.errors import AwsTrouble, MissingPermission, RegionSwitchError
from switchgear_iot_dns.dr.pacing import Stopped
from switchgear_iot_dns.dr.state import Victim, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from switchgear_iot_dns.dr.aws import Aws
    from switchgear_iot_dns.dr.clock import Clock
    from switchgear_iot_dns.dr.journal import Journal
    from switchgear_iot_dns.dr.pacing import Pacer
    from switchgear_iot_dns.dr.sightings import Sightings
    from switchgear_iot_dns.dr.state import Run

ENDED: Final = "ended"
ABSENT: Final = "absent"
FOUND: Final = "found"
FAILED: Final = "failed"
UNREACHABLE: Final = "unreachable"

GONE: Final = frozenset({ENDED, ABSENT, FOUND, UNREACHABLE})
"""Results after which nothing is left to do for a client."""

EXPECTED: Final = frozenset({ENDED, FOUND, UNREACHABLE})
"""Results after which a client should come back in the target region."""

SKEW: Final = 5.0
"""Seconds that this machine's clock and AWS's may differ, for telling whether a connection is older than a request."""


class Disconnector:
    """Ends the sessions of clients, each once.

    A request is announced in the journal, on disk, before it is sent; its result is written after it. What was
    announced and has no result when a run is resumed is in doubt: `settle` looks with GetConnection whether the
    connection is older than the announcement, and only then is the request sent again. Where that cannot be told, the
    client is not disconnected a second time.

    Every request that leaves takes a slot of its budgets, retries included.
    """

    def __init__(
        self,
        *,
        run: Run,
        journal: Journal,
        aws: Aws,
        data: Callable[[str], Any],
        pacer: Pacer,
        sightings: Sightings,
        clock: Clock,
        workers: int,
        prevent_will: bool,
        on_result: Callable[[str], None],
    ) -> None:
        self._run = run
        self._journal = journal
        self._aws = aws
        self._data = data
        self._pacer = pacer
        self._sightings = sightings
        self._clock = clock
        self._workers = workers
        self._prevent_will = prevent_will
        self._on_result = on_result
        self._turn = threading.local()
        self._hooked: set[str] = set()

    def settle(self, victims: Iterable[Victim]) -> None:
        """Find out what became of requests that an interrupted run announced, and of those that failed."""
        doubtful = [v for v in victims if key(v) in self._run.asked and self._run.results.get(key(v)) not in GONE]
        for victim, sighting in self._each(doubtful, self._look):
            asked = self._run.asked[key(victim)]
            if sighting is None:
                self._result(victim, FOUND, "in doubt: it cannot be told whether it was disconnected")
            elif not sighting.is_connected:
                self._result(victim, FOUND, "")
            elif sighting.since is not None and sighting.since < asked - SKEW:
                self._write("spared", region=victim.source, client=victim.client_id)
            else:
                self._result(victim, FOUND, "it was disconnected, and is connected to the old region again")
        self._journal.sync()

    def disconnect(self, victims: Sequence[Victim]) -> None:
        """Disconnect those of *victims* that are not yet; results are in the journal.

        Raises:
            MissingPermission: AWS denied it; nobody after that was tried.
        """
        left = [v for v in victims if self._run.results.get(key(v)) not in GONE and key(v) not in self._run.asked]
        for victim in left:
            self._hook(victim.source)
        for victim, result in self._each(left, self._delete, announce=True):
            self._result(victim, *result)
        self._journal.sync()

    def give_up(self, victims: Iterable[Victim], why: str) -> None:
        """Write down that nobody can be disconnected in a region that does not answer."""
        for victim in victims:
            if self._run.results.get(key(victim)) not in GONE:
                self._result(victim, UNREACHABLE, why)
        self._journal.sync()

    def _each(
        self, victims: Sequence[Victim], work: Callable[[Victim], Any], *, announce: bool = False
    ) -> Iterable[tuple[Victim, Any]]:
        """Each of *victims* with what *work* gave, as it is ready; what `Stopped` ended is left out.

        Twice as many as there are workers are under way: enough that no worker waits for the disk, few enough that a
        crash leaves little in doubt.
        """
        queue = list(reversed(victims))
        pending: dict[Future[Any], Victim] = {}
        with ThreadPoolExecutor(self._workers, thread_name_prefix="switchgear-dr") as pool:
            try:
                while queue or pending:
                    room = 2 * self._workers - len(pending)
                    if queue and room >= min(self._workers, len(queue)) and not self._pacer.stop.is_set():
                        batch = [queue.pop() for _ in range(min(room, len(queue)))]
                        if announce:
                            self._announce(batch)
                        pending |= {pool.submit(work, victim): victim for victim in batch}
                    if not pending:
                        break
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        victim = pending.pop(future)
                        try:
                            yield victim, future.result()
                        except Stopped:
                            if announce:  # it was announced, and never sent
                                self._write("spared", region=victim.source, client=victim.client_id)
                            queue.clear()
            except BaseException:
                self._pacer.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _announce(self, victims: Iterable[Victim]) -> None:
        by_region: dict[str, list[str]] = {}
        for victim in victims:
            by_region.setdefault(victim.source, []).append(victim.client_id)
        for region, clients in by_region.items():
            self._write("disconnecting", region=region, clients=clients)
        self._journal.sync()

    def _delete(self, victim: Victim) -> tuple[str, str]:
        self._turn.victim = victim
        try:
            self._aws.call(
                self._data(victim.source),
                "delete_connection",
                clientId=victim.client_id,
                cleanSession=False,
                preventWillMessage=self._prevent_will,
            )
        except AwsTrouble as error:
            if error.code == "ResourceNotFoundException":
                return ABSENT, ""
            return FAILED, error.why
        except MissingPermission:
            raise
        except RegionSwitchError as error:
            return FAILED, str(error)
        return ENDED, ""

    def _look(self, victim: Victim) -> Any:
        return self._sightings.look(victim.source, victim.client_id)

    def _hook(self, region: str) -> None:
        """Have each request of *region* take its slot just before it leaves, also those that botocore repeats."""
        if region in self._hooked:
            return
        self._hooked.add(region)
        client = self._data(region)
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-send.{service}.DeleteConnection", self._slot)

    def _slot(self, **_: object) -> None:
        victim: Victim = self._turn.victim
        self._pacer.take(("disconnect", victim.source), ("connect", victim.target))

    def _result(self, victim: Victim, result: str, why: str) -> None:
        more = {"why": why} if why else {}
        self._write("disconnected", region=victim.source, client=victim.client_id, result=result, **more)
        self._on_result(result)

    def _write(self, entry: str, **facts: Any) -> None:
        self._journal.add(entry, at=self._clock.now(), **facts)
        self._run.apply(self._journal.entries[-1])


def canaries(victims: Sequence[Victim], share: float) -> tuple[Victim, ...]:
    """*share* of *victims*, at least one of each domain when it is above 0, evenly spread."""
    domains: dict[str, list[Victim]] = {}
    for victim in victims:
        domains.setdefault(victim.domain, []).append(victim)
    chosen: list[Victim] = []
    for each in domains.values():
        count = min(len(each), max(1, round(share * len(each)))) if share else 0
        chosen += [each[i * len(each) // count] for i in range(count)]
    return tuple(chosen)
