"""What a run has found, as tables and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict

from switchgear_chaos.ledger import NO_FAULT, Row, total
from switchgear_chaos.plan import KINDS, Plan
from switchgear_chaos.stage import OUTAGE_KIND

if TYPE_CHECKING:
    from switchgear_chaos.stage import Outcome

_HEAD = ("stored", "arrived", "handled", "ended", "lost", "unhandled", "arrived again", "handled again")
_TAIL = ("unexplained", "one effect", "two effects", "out of order")

Table = tuple[str, Sequence[str], list[list[str]]]


def _cells(row: Row) -> list[str]:
    return [str(value) for value in asdict(row).values()]


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """By stage and QoS, by kind of fault, and what was held when nothing waited."""
    by_qos = [
        [outcome.stage.name, f"QoS {qos}", *_cells(row)]
        for outcome in outcomes
        for qos, row in outcome.verdict.by_qos.items()
    ]
    by_qos.append(["all", "QoS 1", *_cells(total(outcome.verdict.by_qos[1] for outcome in outcomes))])
    by_fault = []
    for kind in (*KINDS, OUTAGE_KIND, NO_FAULT):
        times = sum(outcome.verdict.strikes[kind] for outcome in outcomes)
        rows = [outcome.verdict.by_fault[kind] for outcome in outcomes if kind in outcome.verdict.by_fault]
        if times or rows:
            losses = sum(outcome.verdict.losses[kind] for outcome in outcomes)
            felt = sum(outcome.verdict.felt[kind] for outcome in outcomes)
            by_fault.append([kind, str(times), str(felt), str(losses), *_cells(total(rows))])
    held = [
        [outcome.stage.name, name, *(f"{size / 2**20:.1f}" for size in sizes)]
        for outcome in outcomes
        for name, sizes in (
            *outcome.memory.items(),
            *((f"outbox of {name}", sizes) for name, sizes in outcome.files.items()),
        )
    ]
    longest = max((len(row) for row in held), default=2)
    held = [row + ["-"] * (longest - len(row)) for row in held]
    return [
        ("Messages, by QoS", ("stage", "", *_HEAD, *_TAIL), by_qos),
        (
            "Messages, by the last fault before them",
            ("fault", "times", "felt", "connections lost", *_HEAD, *_TAIL),
            by_fault,
        ),
        (
            "MB held after the faults, and after each further backlog had drained",
            ("stage", "", *("after faults", *(f"backlog {n}" for n in range(1, longest - 2)))[: longest - 2]),
            held,
        ),
    ]


def felt_faults(outcomes: Sequence[Outcome]) -> int:
    """Faults that struck something that was there and at work."""
    return sum(outcome.verdict.felt[kind] for outcome in outcomes for kind in KINDS)


def stored_qos_1(outcomes: Sequence[Outcome]) -> int:
    """Messages of QoS 1 that were reported to be stored."""
    return sum(outcome.verdict.by_qos[1].stored for outcome in outcomes)


def wrong(plan: Plan, outcomes: Sequence[Outcome]) -> list[str]:
    """What must not be, in words; also that too little happened for a run to show anything."""
    found = [f"{outcome.stage.name}: {problem}" for outcome in outcomes for problem in outcome.problems]
    if (faults := felt_faults(outcomes)) < plan.least_faults:
        found.append(f"{faults} faults were felt; {plan.least_faults} are the least that shows anything")
    if (stored := stored_qos_1(outcomes)) < plan.least_stored:
        found.append(f"{stored} messages of QoS 1 were stored; {plan.least_stored} are the least that shows anything")
    return found


def facts(plan: Plan, outcomes: Sequence[Outcome], problems: Sequence[str]) -> dict[str, Any]:
    """Everything, for JSON."""
    done = sum(outcome.verdict.strikes[kind] for outcome in outcomes for kind in KINDS)
    return {
        "seed": plan.seed,
        "plan": plan.name,
        "faults": felt_faults(outcomes),
        "unfelt": done - felt_faults(outcomes),
        "left_out": plan.faults - done,
        "stored_qos_1": stored_qos_1(outcomes),
        "problems": list(problems),
        "stages": [
            {
                "name": outcome.stage.name,
                "seconds": round(outcome.seconds, 1),
                "by_qos": {str(qos): asdict(row) for qos, row in outcome.verdict.by_qos.items()},
                "by_fault": {kind: asdict(row) for kind, row in outcome.verdict.by_fault.items()},
                "faults": dict(outcome.verdict.strikes),
                "felt": dict(outcome.verdict.felt),
                "connections_lost": dict(outcome.verdict.losses),
                "memory": outcome.memory,
                "objects": outcome.objects,
                "files": outcome.files,
                "examples": outcome.verdict.examples,
                "problems": outcome.problems,
            }
            for outcome in outcomes
        ],
    }


def as_text(table: Table) -> str:
    """A table for a terminal or a pipe."""
    title, head, rows = table
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([title, *lines, ""])


def as_markdown(table: Table) -> str:
    """A table for the documentation."""
    title, head, rows = table
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"{title}:", "", *lines, ""])
