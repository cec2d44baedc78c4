"""What a run did, for programs and for people. Pure: JSON facts, and one self-contained HTML page."""

from __future__ import annotations

import functools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from switchgear_iot_dns.dr import timeline
from switchgear_iot_dns.dr.disconnect import EXPECTED, GONE
from switchgear_iot_dns.dr.state import Outcome, Phase, key

if TYPE_CHECKING:
    from switchgear_iot_dns.dr.state import Run


def summary(run: Run, *, is_at_work: bool = False) -> str:
    """Where *run* stands, in one line; *is_at_work* says that a process carries it out at this moment."""
    victims = run.victims
    gone = sum(run.results.get(key(victim)) in GONE for victim in victims)
    others = (("absent", "were not there"), ("unreachable", "in a region that did not answer"))
    told = ", ".join(f"{run.count(result)} {words}" for result, words in others if run.count(result))
    clients = f"{gone} of {len(victims)} clients disconnected{f' ({told})' if told else ''}, {len(run.arrived)} arrived"
    if run.outcome is Outcome.DONE:
        return f"done; {clients}" if victims else "done; no clients to disconnect"
    if run.outcome is not None:
        return f"{run.outcome.value}: {run.outcome_why}"
    now = next((phase for phase in Phase if phase in run.started and not run.has(phase)), None)
    word = "at work" if is_at_work else "interrupted"
    where = f"in the phase '{now.value}'" if now is not None else "between two phases"
    return f"{word} {where}; {clients}"


def facts(run: Run, *, is_at_work: bool = False) -> dict[str, Any]:
    """The report as JSON has it; times are seconds since 1970, null where a thing has not happened."""
    results = Counter(run.results.values())
    missing = [v for v in run.victims if run.results.get(key(v)) in EXPECTED and key(v) not in run.arrived]
    left = [v for v in run.victims if run.results.get(key(v)) not in GONE]
    return {
        "run": run.name,
        "operator": run.operator,
        "mode": run.plan.mode,
        "undoes": run.undoes,
        "outcome": run.outcome.name.lower() if run.outcome is not None else "unfinished",
        "why": run.outcome_why,
        "summary": summary(run, is_at_work=is_at_work),
        "began_at": run.began_at,
        "ended_at": run.ended_at,
        "resumed_at": run.resumes,
        "zone": run.plan.zone_name,
        "change_id": run.change_id,
        "domains": [
            {
                "domain": move.domain,
                "before": str(move.before) if move.before else None,
                "after": str(move.after),
                "from": move.source,
                "to": move.target,
                "clients": len(move.clients) if move.leads else 0,
            }
            for move in run.plan.moves
        ],
        "phases": [
            {"phase": phase.name.lower(), "started_at": run.started.get(phase), "finished_at": run.finished.get(phase)}
            for phase in Phase
        ],
        "clients": {
            "planned": len(run.victims),
            **{result: results.get(result, 0) for result in ("ended", "absent", "found", "unreachable", "failed")},
            "arrived": len(run.arrived),
            "not_arrived": [[v.source, v.client_id] for v in missing],
            "not_disconnected": [[v.source, v.client_id, run.why.get(key(v), "")] for v in left],
            "back_in_old_region": [list(each) for each in run.behind],
            "in_doubt": [[*who, why] for who, why in run.why.items() if run.results.get(who) == "found"],
        },
        "checks": [check.as_dict() for check in run.plan.checks],
        "notes": run.notes,
    }


def page(run: Run) -> str:
    """The report as one HTML page that needs nothing else: no script, no picture, no font from elsewhere.

    Raises:
        ImportError: jinja2, of the extra ``dr``, is missing.
    """
    return str(_template().render(told=facts(run), picture=timeline.svg(run)))


@functools.cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("switchgear_iot_dns.dr", "pages"), autoescape=True, trim_blocks=True
    )
    environment.filters["clock"] = _clock
    return environment.get_template("report.html")


def _clock(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
