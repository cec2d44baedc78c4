"""How far a run has come, from its journal. Pure: a fold over the entries."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field, frozen

from switchgear_iot_dns.dr.errors import BrokenJournal, InvalidPlanFile, StalePlan
from switchgear_iot_dns.dr.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from switchgear_iot_dns.dr.journal import Entry


class Phase(Enum):
    """The phases of a run, in their order."""

    CHANGE = "change the records"
    INSYNC = "wait until Route 53 is in sync"
    ANSWER = "ask the name servers"
    GRACE = "give resolvers time"
    CANARY = "disconnect the canaries"
    DISCONNECT = "disconnect the clients"
    VERIFY = "see the clients arrive"


class Outcome(Enum):
    """How a run ended."""

    DONE = "done"
    NOT_SWITCHED = "not switched"
    INCOMPLETE = "incomplete"
    ABANDONED = "abandoned"


FINAL: Final = frozenset({Outcome.DONE, Outcome.ABANDONED})
"""Nothing is left to resume."""


@frozen(order=True)
class Victim:
    """A client to disconnect in ``source``, so that it comes back in ``target``."""

    source: str
    client_id: str
    target: str
    domain: str


@define
class Run:
    """A run as its journal tells it.

    ``started`` and ``finished`` are the times of phases, in seconds since 1970. ``asked`` are the requests to
    disconnect that were about to be sent, with their times; ``results`` what became of each: ended (it was connected,
    or had a session), absent (404: nothing to end), found (a resumed run saw that it was ended before) or failed.
    """

    name: str
    plan: Plan
    operator: str
    began_at: float
    undoes: str | None = None
    practice: bool = False
    change_asked: bool = False
    change_id: str | None = None
    started: dict[Phase, float] = field(factory=dict)
    finished: dict[Phase, float] = field(factory=dict)
    asked: dict[tuple[str, str], float] = field(factory=dict)
    results: dict[tuple[str, str], str] = field(factory=dict)
    result_times: dict[tuple[str, str], float] = field(factory=dict)
    why: dict[tuple[str, str], str] = field(factory=dict)
    arrived: dict[tuple[str, str], float] = field(factory=dict)
    behind: tuple[tuple[str, str], ...] = ()
    verified: bool | None = None
    outcome: Outcome | None = None
    outcome_why: str = ""
    ended_at: float | None = None
    resumes: list[float] = field(factory=list)
    notes: list[str] = field(factory=list)

    @property
    def is_open(self) -> bool:
        """Whether something is left to resume."""
        return self.outcome not in FINAL

    @property
    def victims(self) -> tuple[Victim, ...]:
        """Everybody whom the plan disconnects, each region's client once."""
        found: dict[tuple[str, str], Victim] = {}
        for move in self.plan.leading:
            assert move.source is not None
            for client_id in move.clients:
                victim = Victim(source=move.source, client_id=client_id, target=move.target, domain=move.domain)
                found.setdefault(key(victim), victim)
        return tuple(found.values())

    def has(self, phase: Phase) -> bool:
        """Whether *phase* is behind us."""
        return phase in self.finished

    def count(self, result: str) -> int:
        """How many clients have that result."""
        return sum(each == result for each in self.results.values())

    def apply(self, entry: Entry) -> None:
        """Take one entry after the first."""
        _TAKE[entry["entry"]](self, entry)


def key(victim: Victim) -> tuple[str, str]:
    """What names a client in the journal: its region and its id."""
    return (victim.source, victim.client_id)


def run_of(entries: Iterable[Entry], where: str) -> Run:
    """The run that the entries of a journal tell; *where* names it in errors.

    Raises:
        BrokenJournal: an entry, or the plan in the first, is not what this program writes.
    """
    number = 0
    try:
        for number, entry in enumerate(entries, 1):
            if number == 1:
                run = _began(entry, where)
            else:
                float(entry["at"])
                run.apply(entry)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidPlanFile, StalePlan) as error:
        raise BrokenJournal(
            where,
            f"line {number} is no entry of this version; nothing was changed; mend it, or begin anew with --fresh",
        ) from error
    return run


def _began(entry: Entry, where: str) -> Run:
    return Run(
        name=str(entry["run"]),
        plan=Plan.from_dict(entry["plan"], where),
        operator=str(entry["operator"]),
        began_at=float(entry["at"]),
        undoes=entry.get("undoes"),
        practice=entry.get("practice", False),
    )


def _resumed(run: Run, entry: Entry) -> None:
    run.resumes.append(entry["at"])
    run.outcome, run.outcome_why, run.ended_at = None, "", None


def _changing(run: Run, _: Entry) -> None:
    run.change_asked = True


def _changed(run: Run, entry: Entry) -> None:
    run.change_id = entry.get("change")


def _started(run: Run, entry: Entry) -> None:
    run.started.setdefault(Phase[entry["phase"]], entry["at"])


def _finished(run: Run, entry: Entry) -> None:
    run.finished[Phase[entry["phase"]]] = entry["at"]


def _disconnecting(run: Run, entry: Entry) -> None:
    for client_id in entry["clients"]:
        run.asked[entry["region"], client_id] = entry["at"]
        run.results.pop((entry["region"], client_id), None)


def _disconnected(run: Run, entry: Entry) -> None:
    who = (entry["region"], entry["client"])
    run.results[who] = entry["result"]
    run.result_times[who] = entry["at"]
    if entry.get("why"):
        run.why[who] = entry["why"]


def _spared(run: Run, entry: Entry) -> None:
    """A request that was announced and, as a resumed run saw, never carried out."""
    run.asked.pop((entry["region"], entry["client"]), None)


def _arrived(run: Run, entry: Entry) -> None:
    for client_id in entry["clients"]:
        run.arrived[entry["region"], client_id] = entry["at"]


def _verified(run: Run, entry: Entry) -> None:
    run.verified = entry["verified"]
    run.behind = tuple((region, client_id) for region, client_id in entry.get("behind", ()))


def _noted(run: Run, entry: Entry) -> None:
    run.notes.append(entry["note"])


def _ended(run: Run, entry: Entry) -> None:
    run.outcome, run.outcome_why, run.ended_at = Outcome[entry["outcome"]], entry.get("why", ""), entry["at"]


_TAKE: Final[dict[str, Any]] = {
    "resumed": _resumed,
    "changing": _changing,
    "changed": _changed,
    "started": _started,
    "finished": _finished,
    "disconnecting": _disconnecting,
    "disconnected": _disconnected,
    "spared": _spared,
    "arrived": _arrived,
    "verified": _verified,
    "noted": _noted,
    "ended": _ended,
}
"""What each entry does to a run; the reference lists the same names."""
