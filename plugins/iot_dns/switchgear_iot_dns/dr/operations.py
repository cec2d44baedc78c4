"""What the commands do: plan, apply, rollback, status, practice. Opens connections, writes journals and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, evolve, field, frozen

from switchgear_iot_dns.dr import journal as journals
from switchgear_iot_dns.dr import look, report
from switchgear_iot_dns.dr.disconnect import canaries
from switchgear_iot_dns.dr.errors import (
    DONE,
    INCOMPLETE,
    REFUSED,
    BrokenJournal,
    InvalidPlanFile,
    Locked,
    RegionSwitchError,
    StalePlan,
    Unfit,
)
from switchgear_iot_dns.dr.journal import Journal
from switchgear_iot_dns.dr.lock import Lock
from switchgear_iot_dns.dr.phases import Runner, pacer_of
from switchgear_iot_dns.dr.plan import Plan, check_fresh, inverse, takes
from switchgear_iot_dns.dr.regions import Regions
from switchgear_iot_dns.dr.state import Outcome, Phase, Run, run_of
from switchgear_iot_dns.dr.world import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear_iot_dns.dr.clock import Clock
    from switchgear_iot_dns.dr.settings import Settings
    from switchgear_iot_dns.dr.show import Show
    from switchgear_iot_dns.dr.world import World

CODES: Final = {Outcome.DONE: DONE, Outcome.INCOMPLETE: INCOMPLETE}

DAMAGED: Final = "damaged"
"""The outcome that `Operations.status` tells of a run whose journal cannot be read."""


@frozen(kw_only=True)
class Ended:
    """How a command ended; ``run`` is None where nothing had to be done, or nothing was begun."""

    code: int
    text: str
    plan: Plan
    run: Run | None = None
    report: Path | None = None


@frozen(kw_only=True)
class Wishes:
    """What the user allows: see the options of ``switchgear dr apply``."""

    despite_checks: bool = False
    force_unlock: bool = False
    fresh: bool = False


@define(eq=False)
class Operations:
    """The commands, for one plan file. *confirm* is asked before anything is changed."""

    settings: Settings
    world: World
    clock: Clock
    show: Show
    confirm: Callable[[Plan, str], bool]
    _folder: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._folder = Path(self.settings.journal)

    # Reading only

    def plan(self, mode: str) -> Plan:
        """The plan of *mode* as things stand."""
        return self.world.plan(mode)

    def status(self) -> dict[str, Any]:
        """Where the domains lead, who holds the lock, and how far the last run has come."""
        records = self.world.records
        zone = records.zone()
        leads: dict[str, Any] = {}
        for name, domain in self.settings.domains.items():
            found = records.read(name) if name.endswith(f".{zone.name}") else ()
            simple = [each for each in found if each.type == "CNAME" and each.is_simple]
            region = domain.region_of(simple[0].target) if len(simple) == 1 else None
            leads[name] = {"records": [str(each) for each in found], "region": region}
        regions = {name: told["region"] for name, told in leads.items()}
        return {
            "zone": zone.name,
            "domains": leads,
            "modes": [mode for mode, wanted in self.settings.modes.items() if dict(wanted) == regions],
            "lock": Lock(records, zone.name).holder(),
            "last_run": self._last_run(),
        }

    def _last_run(self) -> dict[str, Any] | None:
        """What `status` tells of the last run; where its journal is damaged, that."""
        try:
            latest = self._latest()
        except BrokenJournal as error:
            name = Path(error.path).stem
            return {"run": name, "mode": None, "outcome": DAMAGED, "summary": str(error)}
        if latest is None:
            return None
        return report.facts(latest, is_at_work=journals.is_in_use(self._path(latest.name)))

    def practice(self, mode: str) -> tuple[Plan, list[str]]:
        """The plan of *mode*, and what every phase would do; all but what writes is done."""
        plan = self.world.plan(mode)
        steps: list[str] = []
        lock = Lock(self.world.records, plan.zone_name)
        holder = lock.holder()
        steps.append(f"lock {lock.name}: {'held by ' + holder if holder else 'free'}")
        run = self._new_run(plan, practice=True)
        waits = self.settings.waits
        steps += [f"change: '{move.before or 'absent'}' to '{move.after}'" for move in plan.changing]
        if plan.changing:
            steps.append(f"wait until Route 53 is in sync, at most {waits.insync:g} s")
            if self.settings.zone.authoritative != "off":
                steps.append(f"ask {len(plan.name_servers)} name servers, at most {waits.authoritative:g} s")
        if run.victims:
            steps.append(f"give resolvers {plan.old_ttl + waits.resolvers:g} s")
            first = canaries(run.victims, self.settings.pace.canary_share)
            connected = self._connected_now(run, first)
            steps.append(f"disconnect {len(first)} canaries; {connected}")
            steps.append(f"disconnect {len(run.victims) - len(first)} more clients")
            steps.append(f"see {len(run.victims)} clients arrive, at most {waits.verify:g} s")
        return plan, steps

    def _connected_now(self, run: Run, victims: Any) -> str:
        sightings = self._regions(run.plan).sightings()
        sightings.refresh()
        seen = [sightings.look(victim.source, victim.client_id) for victim in victims]
        if victims and all(each is None for each in seen):
            return "where they are cannot be told"
        return f"{sum(each is not None and each.is_connected for each in seen)} of them are connected now"

    # Changing

    def apply(self, mode: str, wishes: Wishes, *, saved: Plan | None = None) -> Ended:
        """Bring *mode* about, or go on with the run that was interrupted while it did."""
        unfinished = self._unfinished(lambda run: run.undoes is None and run.plan.mode == mode, wishes)
        if unfinished is not None:
            return self._resume(unfinished, wishes)
        decided = self.world.decided(mode)
        if not decided.changing:
            lock = Lock(self.world.records, decided.zone_name)
            if not wishes.force_unlock and (holder := lock.holder()) is not None:
                raise Locked(lock.name, holder)  # the records may be theirs, and the clients not yet disconnected
            return Ended(code=DONE, text=f"nothing to do: the records are those of mode {mode}", plan=decided)
        if saved is not None:
            check_fresh(saved, decided)
        return self._begin(self.world.complete(decided, cached=saved), wishes)

    def rollback(self, wishes: Wishes, *, name: str | None = None) -> Ended:
        """Undo the last run, or the run *name*; or go on with undoing it. A rollback that is done is undone by name only.

        Who asks twice, by hand or in a script that tries again, would otherwise switch to and fro.
        """
        run = self._named(name) if name is not None else self._latest(is_undoable=True) or self._latest()
        if run is None:
            raise BrokenJournal(str(self._folder), "it holds no run; there is nothing to undo")
        if run.undoes is not None and run.is_open and name is None:
            return self._resume(run, wishes)
        if run.undoes is not None and run.outcome is Outcome.DONE and name is None:
            Lock(self.world.records, run.plan.zone_name).release(run.name)  # it may have died before it gave it back
            what = f"run {run.name} has undone run {run.undoes}; to undo it in its turn, name it with --run"
            return Ended(code=DONE, text=f"nothing to do: {what}", plan=run.plan)
        if self._is_void(run):
            self._abandon(run, "undone before it had changed anything")
            return Ended(code=DONE, text=f"nothing to undo: run {run.name} changed nothing", plan=run.plan)
        zone = self.world.records.zone()
        clients = {move.domain: move.clients for move in run.plan.moves}
        plan = evolve(inverse(run.plan, clients), digest=self.settings.digest, made_at=round(self.clock.now(), 3))
        present = {move.domain: self.world.records.read(move.domain) for move in plan.moves}
        if all(present[move.domain] == (move.after,) for move in plan.moves):
            self._abandon(run, "undone by somebody else")
            return Ended(code=DONE, text=f"nothing to do: the records are as before run {run.name}", plan=plan)
        for move in plan.moves:
            if present[move.domain] != (move.before,):
                is_now = " and ".join(map(str, present[move.domain])) or "absent"
                raise StalePlan(f"{move.domain} was '{move.before}' after run {run.name} and is '{is_now}' now")
        plan = evolve(plan, checks=tuple(look.zone_checks(zone, plan.changing)))
        fresh = self.world.complete(plan, cached=plan)
        # Who was sent away has to come back, whether the index of the other region knows them yet or not.
        fresh = _with_clients(fresh, clients)
        return self._begin(fresh, wishes, undoes=run)

    # A run

    def _begin(self, plan: Plan, wishes: Wishes, *, undoes: Run | None = None) -> Ended:
        failed = plan.failed()
        if failed and not wishes.despite_checks:
            raise Unfit(failed)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidPlanFile(self.settings.path, "journal", f"{self._folder}: {error.strerror}") from error
        run = self._new_run(plan, undoes=undoes.name if undoes is not None else None)
        if not wishes.despite_checks:
            regions = self._regions(plan)
            for victim in {victim.source: victim for victim in run.victims}.values():
                regions.unanswered(victim)  # a missing permission is an error now, and not after the switch
        if not self.confirm(plan, takes(plan, self.settings)):
            return Ended(code=REFUSED, text="nothing was changed", plan=plan)
        if undoes is not None:
            self._abandon(undoes, f"undone by run {run.name}")
        return self._go(run, wishes, self._write_beginning)

    def _resume(self, run: Run, wishes: Wishes) -> Ended:
        if not self.confirm(run.plan, f"less: this goes on with run {run.name}, {report.summary(run)}"):
            return Ended(code=REFUSED, text="nothing was changed", plan=run.plan)
        return self._go(run, wishes, self._write_resumption)

    def _write_beginning(self, run: Run, journal: Journal) -> None:
        undoes = {"undoes": run.undoes} if run.undoes else {}
        journal.write("began", at=run.began_at, run=run.name, operator=run.operator, plan=run.plan.as_dict(), **undoes)

    def _write_resumption(self, run: Run, journal: Journal) -> None:
        if journal.was_torn:
            self.show.note(f"the last line of {journal.path} was torn and is cut off")
        self.show.note(f"going on with run {run.name}: {report.summary(run)}")
        journal.write("resumed", at=self.clock.now(), operator=operator())
        run.apply(journal.entries[-1])

    def _go(self, run: Run, wishes: Wishes, begin: Callable[[Run, Journal], None]) -> Ended:
        with Journal(self._path(run.name)) as journal:
            begin(run, journal)
            lock = Lock(self.world.records, run.plan.zone_name)
            try:
                lock.take(run.name, run.operator, force=wishes.force_unlock, now=self.clock.now)
            except RegionSwitchError as error:
                if not run.change_asked:
                    journal.write("ended", at=self.clock.now(), outcome=Outcome.ABANDONED.name, why=str(error))
                raise
            runner = Runner(run, journal, self.settings, self.world, self.clock, self.show)
            written = None
            try:
                try:
                    outcome = runner.go()
                finally:
                    written = self._report(run)
                    if run.outcome is not None:
                        self._release(lock, run)
            except KeyboardInterrupt:
                if run.outcome is not Outcome.DONE:
                    raise
                outcome = run.outcome  # nothing is left that a repetition could do
                self.show.note(f"interrupted when run {run.name} was done already")
                self._release(lock, run)
        text = f"mode {run.plan.mode}: {report.summary(run)}"
        return Ended(code=CODES[outcome], text=text, plan=run.plan, run=run, report=written)

    def _release(self, lock: Lock, run: Run) -> None:
        try:
            lock.release(run.name)
        except RegionSwitchError as error:
            self.show.note(f"the lock {lock.name} could not be given back: {error}")

    def _report(self, run: Run) -> Path | None:
        page, facts = self._folder / f"{run.name}.html", self._folder / f"{run.name}.json"
        told = json.dumps(report.facts(run), indent=2, ensure_ascii=False)
        try:
            facts.write_text(f"{told}\n", encoding="utf-8")
            page.write_text(report.page(run), encoding="utf-8")
        except OSError as error:  # the run is what matters
            self.show.note(f"the report {page} could not be written: {error.strerror}")
            return None
        except ImportError:
            self.show.note("the report as a page needs jinja2: pip install 'switchgear-iot-dns[dr]'")
            return facts
        return page

    def _regions(self, plan: Plan) -> Regions:
        return Regions(plan, self.settings, self.world.aws, pacer_of(plan, self.settings, self.clock))

    def _new_run(self, plan: Plan, *, undoes: str | None = None, practice: bool = False) -> Run:
        now = self.clock.now()
        return Run(
            name=journals.run_name(self._folder, now),
            plan=plan,
            operator=operator(),
            began_at=now,
            undoes=undoes,
            practice=practice,
        )

    # Runs of before

    def _unfinished(self, is_it: Callable[[Run], bool], wishes: Wishes) -> Run | None:
        """The last run when it can go on; one that cannot is abandoned where nothing is lost by that."""
        try:
            run = self._latest()
        except BrokenJournal:
            if wishes.fresh:
                return None
            raise
        if run is None:
            return None
        if not run.is_open:  # it may have died between its end and giving the lock back
            Lock(self.world.records, run.plan.zone_name).release(run.name)
            return None
        if wishes.fresh:
            self._abandon(run, "a fresh run was asked for")
            return None
        if is_it(run):
            return run
        if self._is_void(run):
            self._abandon(run, "another mode was asked for before it had changed anything")
            return None
        what = f"undoing run {run.undoes}" if run.undoes else f"mode {run.plan.mode}"
        raise RegionSwitchError(
            f"run {run.name} ({what}) is unfinished: {report.summary(run)}; finish it with `apply {run.plan.mode}`,"
            " undo it with `rollback`, or leave it with --fresh"
            if not run.undoes
            else f"run {run.name} ({what}) is unfinished: finish it with `rollback`, or leave it with --fresh"
        )

    def _is_void(self, run: Run) -> bool:
        """Whether *run* has changed nothing, as its journal and the records tell."""
        if run.has(Phase.CHANGE) or run.change_id is not None:
            return False
        return not run.change_asked or all(
            self.world.records.read(move.domain) == ((move.before,) if move.before else ())
            for move in run.plan.changing
        )

    def _abandon(self, run: Run, why: str) -> None:
        if run.is_open:
            with Journal(self._path(run.name)) as journal:
                journal.write("ended", at=self.clock.now(), outcome=Outcome.ABANDONED.name, why=why)
        Lock(self.world.records, run.plan.zone_name).release(run.name)

    def _latest(self, *, is_undoable: bool = False) -> Run | None:
        """The last run; *is_undoable* leaves out those that were abandoned before they changed anything."""
        for path in journals.runs(self._folder):
            entries, _ = journals.read(path)
            if entries:
                run = run_of(entries, str(path))
                if run.is_open or run.change_asked or not is_undoable:
                    return run
        return None

    def _named(self, name: str) -> Run:
        path = self._path(name)
        if not path.exists():
            known = ", ".join(each.stem for each in journals.runs(self._folder)) or "none"
            raise InvalidPlanFile(self.settings.path, "journal", f"there is no run {name!r}; runs: {known}")
        entries, _ = journals.read(path)
        if not entries:
            raise BrokenJournal(str(path), "it is empty: that run changed nothing")
        return run_of(entries, str(path))

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}{journals.SUFFIX}"


def _with_clients(plan: Plan, clients: dict[str, tuple[str, ...]]) -> Plan:
    moves = tuple(
        evolve(move, clients=tuple(dict.fromkeys((*clients.get(move.domain, ()), *move.clients))))
        if move.leads
        else move
        for move in plan.moves
    )
    return evolve(plan, moves=moves)
