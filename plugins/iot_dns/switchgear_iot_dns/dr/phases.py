"""Carrying out a run, phase by phase, each resumable from the journal. Its I/O is in the ports that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from switchgear_iot_dns.dr.arrivals import Arrivals
from switchgear_iot_dns.dr.disconnect import FAILED, GONE, Disconnector, canaries
from switchgear_iot_dns.dr.errors import AwsTrouble, NotSwitched, RegionSwitchError, StalePlan
from switchgear_iot_dns.dr.name_servers import disagreement
from switchgear_iot_dns.dr.pacing import Pacer
from switchgear_iot_dns.dr.plan import rates
from switchgear_iot_dns.dr.record import Swap
from switchgear_iot_dns.dr.regions import Regions
from switchgear_iot_dns.dr.state import Outcome, Phase, Victim, key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear_iot_dns.dr.arrivals import Count
    from switchgear_iot_dns.dr.clock import Clock
    from switchgear_iot_dns.dr.journal import Journal
    from switchgear_iot_dns.dr.plan import Plan
    from switchgear_iot_dns.dr.record import Record
    from switchgear_iot_dns.dr.settings import Settings
    from switchgear_iot_dns.dr.show import Show
    from switchgear_iot_dns.dr.state import Run
    from switchgear_iot_dns.dr.world import World

POLL: Final = 2.0
"""Seconds between two questions while a change spreads; botocore's own waiter would sleep 30."""


def pacer_of(plan: Plan, settings: Settings, clock: Clock) -> Pacer:
    """The budgets of *plan*: disconnecting, the returning clients' CONNECTs, and looking where clients are."""
    looked_at = {region for move in plan.leading for region in (move.source, move.target) if region is not None}
    looks = {("look", region): settings.pace.looks_per_second for region in looked_at}
    return Pacer({**rates(plan, settings), **looks}, clock)


class Incomplete(Exception):
    """DNS is switched, and somebody is left."""


@define(eq=False)
class Runner:
    """Carries out one run. `go` may be called on a fresh run and on one that was interrupted anywhere.

    The records come first: until Route 53 and every name server have them, nobody is disconnected, and nothing that
    happens after that puts them back.
    """

    run: Run
    journal: Journal
    settings: Settings
    world: World
    clock: Clock
    show: Show
    pacer: Pacer = field(init=False)
    regions: Regions = field(init=False)
    _end: float = field(init=False)
    _victims: tuple[Victim, ...] = field(init=False)
    _gone: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.pacer = pacer_of(self.run.plan, self.settings, self.clock)
        self.regions = Regions(self.run.plan, self.settings, self.world.aws, self.pacer)
        self._end = self.clock.monotonic() + self.settings.waits.total
        self._victims = self.run.victims

    # The whole

    def go(self) -> Outcome:
        """Carry out what is left of the run, and write down how it ended.

        Raises:
            StalePlan: somebody else changed a record; the run is abandoned.
            NotSwitched: the DNS phase failed.
            KeyboardInterrupt: interrupted; the journal is open for the next call.
        """
        try:
            self._change()
            self._insync()
            self._answer()
        except StalePlan as error:
            self._ended(Outcome.ABANDONED, error.why)
            raise
        except NotSwitched as error:
            self._ended(Outcome.NOT_SWITCHED, error.why)
            raise
        except RegionSwitchError as error:
            self._ended(Outcome.NOT_SWITCHED, str(error))
            raise NotSwitched(str(error)) from error
        try:
            if self._victims:
                self._grace()
                self._clients()
        except StalePlan as error:
            self._ended(Outcome.ABANDONED, error.why)
            raise
        except (Incomplete, RegionSwitchError) as error:
            self._ended(Outcome.INCOMPLETE, str(error))
            return Outcome.INCOMPLETE
        self._ended(Outcome.DONE, "")
        return Outcome.DONE

    # DNS

    def _change(self) -> None:
        self._begin(Phase.CHANGE)
        present = self._present()
        changing = self.run.plan.changing
        todo = [move for move in changing if present[move.domain] != (move.after,)]
        if todo and self.run.has(Phase.CHANGE):
            raise StalePlan(f"{todo[0].domain} was changed by somebody else after this run had switched it")
        for move in todo:
            if present[move.domain] != ((move.before,) if move.before else ()):
                is_now = " and ".join(map(str, present[move.domain])) or "absent"
                raise StalePlan(f"{move.domain} was '{move.before or 'absent'}' and is '{is_now}' now")
        if todo:
            self._write("changing")
            swaps = [Swap(before=move.before, after=move.after) for move in todo]
            try:
                change = self.world.records.swap(swaps, f"switchgear dr {self.run.name} by {self.run.operator}")
            except AwsTrouble:
                # It may have been carried out and the answer lost; botocore then asked again, and was refused.
                if any(self._present()[move.domain] != (move.after,) for move in changing):
                    raise
                change = None
            self._write("changed", change=change)
        self._finish(Phase.CHANGE)

    def _insync(self) -> None:
        if self.run.has(Phase.INSYNC):
            return
        limit = self.settings.waits.insync
        deadline = self._begin(Phase.INSYNC, limit)
        if self.run.change_id is None:
            if self.settings.zone.authoritative == "off":  # the one thing left that waits for all servers is time
                self.clock.wait(min(limit, self._end - self.clock.monotonic()), self.pacer.stop)
        else:
            while why := self._not_insync(self.run.change_id):
                if self.clock.monotonic() >= deadline:
                    raise NotSwitched(
                        f"Route 53 was not in sync after {limit:g} s ({why}); the record is changed and may still"
                        " spread; run it again to go on"
                    )
                self._pause(POLL)
        self._finish(Phase.INSYNC)

    def _not_insync(self, change: str) -> str | None:
        """Why the change does not count yet; None when it does."""
        try:
            return None if self.world.records.is_insync(change) else "PENDING"
        except AwsTrouble as error:
            return error.why

    def _answer(self) -> None:
        if self.run.has(Phase.ANSWER):
            return
        limit = self.settings.waits.authoritative
        deadline = self._begin(Phase.ANSWER, limit)
        if self.settings.zone.authoritative != "off":
            servers = self.world.name_servers(self.run.plan.name_servers)
            for move in self.run.plan.changing:
                while wrong := disagreement(servers.ask(move.domain), move.after.target):
                    if self.clock.monotonic() >= deadline:
                        raise NotSwitched(
                            f"{move.domain}: {wrong} after {limit:g} s; the record is changed and may still spread;"
                            " run it again to go on"
                        )
                    self._pause(POLL)
        self._finish(Phase.ANSWER)

    def _grace(self) -> None:
        if self.run.has(Phase.GRACE):
            return
        since = self.run.finished[Phase.ANSWER]
        whole = self.run.plan.old_ttl + self.settings.waits.resolvers
        left = min(whole, since + whole - self.clock.now())  # a clock that was put back makes it no longer
        self._begin(Phase.GRACE, max(0.0, left))
        total = int(max(0.0, left))
        end = self.clock.monotonic() + left
        while (rest := end - self.clock.monotonic()) > 0:
            if self.clock.monotonic() >= self._end:
                raise Incomplete(
                    f"DNS is switched, but the {self.settings.waits.total:g} s of waits.total were over {rest:.0f} s before"
                    f" resolvers have to forget the old record (TTL {self.run.plan.old_ttl} s); nobody was disconnected"
                )
            self.show.progress(total - int(rest), total)
            self._pause(min(rest, 1.0))
        self._finish(Phase.GRACE)

    # Clients

    def _clients(self) -> None:
        victims = self._victims
        sightings = self.regions.sightings()
        disconnector = Disconnector(
            run=self.run,
            journal=self.journal,
            aws=self.world.aws,
            data=lambda region: self.regions.data(region, is_patient=True),
            pacer=self.pacer,
            sightings=sightings,
            clock=self.clock,
            workers=self.settings.pace.workers,
            prevent_will=self.settings.pace.prevent_will,
            on_result=self._on_result,
        )
        arrivals = Arrivals(
            run=self.run,
            journal=self.journal,
            sightings=sightings,
            clock=self.clock,
            workers=self.settings.pace.workers,
            stop=self.pacer.stop,
            on_arrival=self.show.progress,
        )
        self._still_switched()
        self._gone = sum(self.run.results.get(key(victim)) in GONE for victim in victims)
        reachable = self._reachable(victims, disconnector)
        disconnector.settle(reachable)
        first = canaries(reachable, self.settings.pace.canary_share)
        if first and not self.run.has(Phase.CANARY):
            self._canary(first, disconnector, arrivals)
        if not self.run.has(Phase.DISCONNECT):
            self._still_switched()
            self._disconnect(Phase.DISCONNECT, reachable, disconnector, self._time_for(reachable))
            self._finish(Phase.DISCONNECT)
        self._verify(victims, arrivals)

    def _canary(self, first: Sequence[Victim], disconnector: Disconnector, arrivals: Arrivals) -> None:
        self._disconnect(Phase.CANARY, first, disconnector, self._time_for(first))
        least = self.settings.pace.canary_least
        limit = self.settings.waits.canary
        count = self._await(arrivals, first, self._deadline(limit), enough=least)
        if self.pacer.stop.is_set():
            raise KeyboardInterrupt
        if count.is_unknown:
            self._note(f"nobody could see whether the canaries arrived: {arrivals.trouble}")
        elif count.share < least:
            raise Incomplete(
                f"DNS is switched, but only {count.arrived} of {count.expected} canaries arrived within {limit:g} s;"
                " the other clients were left alone"
            )
        self._finish(Phase.CANARY)

    def _disconnect(self, phase: Phase, victims: Sequence[Victim], disconnector: Disconnector, limit: float) -> None:
        self.pacer.deadline = self._begin(phase, limit)
        self.show.progress(self._gone, len(self._victims))
        try:
            disconnector.disconnect(victims)
        finally:
            self.pacer.deadline = None
        if self.pacer.stop.is_set():
            raise KeyboardInterrupt
        left = sum(self.run.results.get(key(victim)) not in GONE for victim in victims)
        if left:
            failed = [self.run.why.get(key(v), "") for v in victims if self.run.results.get(key(v)) == FAILED]
            why = f"; the first error: {failed[0]}" if failed else f", for {limit:.0f} s were over"
            raise Incomplete(f"DNS is switched, but {left} of {len(victims)} clients were not disconnected{why}")

    def _verify(self, victims: Sequence[Victim], arrivals: Arrivals) -> None:
        limit = self.settings.waits.verify + 2 * len(victims) / self.settings.pace.looks_per_second
        deadline = self._begin(Phase.VERIFY, limit)
        count = self._await(arrivals, victims, deadline)
        if self.pacer.stop.is_set():
            raise KeyboardInterrupt
        behind = [] if count.is_unknown else arrivals.behind(victims)
        verified = None if count.is_unknown else count.arrived >= count.expected
        self._write("verified", verified=verified, behind=[list(key(each)) for each in behind])
        self._judge(count, behind, arrivals.trouble)
        self._finish(Phase.VERIFY)

    def _await(self, arrivals: Arrivals, victims: Sequence[Victim], deadline: float, *, enough: float = 1.0) -> Count:
        self.pacer.deadline = deadline
        try:
            return arrivals.wait(victims, deadline, enough=enough)
        finally:
            self.pacer.deadline = None

    def _judge(self, count: Count, behind: Sequence[Victim], trouble: str) -> None:
        if count.is_unknown:
            self._note(f"nobody could see whether the clients arrived: {trouble}")
        elif count.share < self.settings.pace.arrived_least:
            back = f"; {len(behind)} of them are connected to the old region" if behind else ""
            raise Incomplete(f"DNS is switched, but {count.arrived} of {count.expected} clients arrived{back}")

    def _reachable(self, victims: Sequence[Victim], disconnector: Disconnector) -> tuple[Victim, ...]:
        """Those of *victims* whose region answers; the others are given up, for they drop by themselves."""
        reachable: list[Victim] = []
        for region in sorted({victim.source for victim in victims}):
            there = [victim for victim in victims if victim.source == region]
            why = self.regions.unanswered(there[0])
            if why is None:
                reachable += there
            else:
                self._note(f"{region} does not answer ({why}); its clients drop by themselves")
                disconnector.give_up(there, why)
        return tuple(reachable)

    # Small things

    def _present(self) -> dict[str, tuple[Record, ...]]:
        return {move.domain: self.world.records.read(move.domain) for move in self.run.plan.changing}

    def _still_switched(self) -> None:
        """Refuse to disconnect anybody when the records are no longer what this run made them."""
        for domain, present in self._present().items():
            after = next(move.after for move in self.run.plan.changing if move.domain == domain)
            if present != (after,):
                is_now = " and ".join(map(str, present)) or "absent"
                raise StalePlan(f"{domain} is '{is_now}' and not '{after}': somebody changed it back")

    def _time_for(self, victims: Sequence[Victim]) -> float:
        budgets = rates(self.run.plan, self.settings)
        slowest = min(budgets.values(), default=1.0)
        return self.settings.waits.disconnect + 2 * len(victims) / slowest

    def _deadline(self, seconds: float) -> float:
        return min(self.clock.monotonic() + seconds, self._end)

    def _begin(self, phase: Phase, limit: float | None = None) -> float:
        if phase not in self.run.started:
            self._write("started", phase=phase.name)
        self.show.phase(phase.value, seconds=limit)
        return self._end if limit is None else self._deadline(limit)

    def _finish(self, phase: Phase) -> None:
        if not self.run.has(phase):
            self._write("finished", phase=phase.name)

    def _pause(self, seconds: float) -> None:
        if self.clock.wait(seconds, self.pacer.stop):
            raise KeyboardInterrupt

    def _on_result(self, result: str) -> None:
        self._gone += result in GONE
        self.show.progress(self._gone, len(self._victims))

    def _note(self, text: str) -> None:
        self._write("noted", note=text)
        self.show.note(text)

    def _ended(self, outcome: Outcome, why: str) -> None:
        self._write("ended", outcome=outcome.name, why=why)

    def _write(self, entry: str, **facts: Any) -> None:
        self.journal.write(entry, at=self.clock.now(), **facts)
        self.run.apply(self.journal.entries[-1])
