"""What a stage, and a run, find besides the ledger: growth, what is left, and that too little happened."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from switchgear_chaos.gather import left_in
from switchgear_chaos.ledger import Row, Verdict
from switchgear_chaos.plan import make_plan
from switchgear_chaos.report import wrong
from switchgear_chaos.stage import Outcome, grown

MB = 2**20


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"memory": {"publisher-0": [40 * MB, 50 * MB, 58 * MB]}}, None),
        ({"memory": {"publisher-0": [40 * MB, 50 * MB, 59 * MB]}}, "from 52428800 to 61865984 bytes over 1 backlogs"),
        ({"objects": {"publisher-0": [9, 100_000, 104_400]}}, None),
        (
            {"objects": {"publisher-0": [9, 100_000, 105_900]}},
            "held 100000 objects, and 105900 after 6000 more messages",
        ),
        ({"objects": {"consumer": [9, 100_000, 111_000]}}, None),
        ({"objects": {"consumer": [9, 100_000, 113_000]}}, "consumer held 100000 objects"),
        ({"files": {"publisher-0": [1 * MB, 3 * MB, 6 * MB, 6 * MB]}}, None),
        (
            {"files": {"publisher-0": [1 * MB, 3 * MB, 4 * MB, 6 * MB]}},
            "outbox of publisher-0 grew from 4194304 to 6291456",
        ),
        ({"files": {"publisher-0": [1 * MB, 9 * MB, 9 * MB + 1]}}, "has 9437185 bytes"),
    ],
)
def test_growth_from_backlog_to_backlog_is_found(outcome: dict[str, Any], words: str | None) -> None:
    """Memory, objects and files may be larger after the first backlog, and not after each further one."""
    stage = make_plan(1, "short").stages[0]
    found = grown(evolve(Outcome(stage), **outcome))
    assert [words in problem for problem in found] == [True] if words else found == []


def test_rows_that_stay_are_found(tmp_path: Path) -> None:
    """A message that is still in the file, or was moved aside in it, is counted."""
    path = tmp_path / "outbox"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE message (sequence)")
        database.execute("CREATE TABLE quarantine (sequence)")
        assert left_in(path) == 0
        database.execute("INSERT INTO message VALUES (1)")
        database.execute("INSERT INTO quarantine VALUES (2)")
    assert left_in(path) == 2


def test_a_run_in_which_too_little_happened_is_wrong() -> None:
    """Faults that nobody felt and messages that were not published end a whole run as a failure."""
    plan = make_plan(1)
    verdict = Verdict(by_qos={1: Row(stored=200_000)})
    verdict.strikes["reset"], verdict.felt["reset"] = 400, 300
    outcome = Outcome(plan.stages[0], verdict)
    assert wrong(plan, [outcome]) == []
    verdict.felt["reset"] -= 1
    verdict.by_qos[1].stored -= 1
    assert wrong(plan, [outcome]) == [
        "299 faults were felt; 300 are the least that shows anything",
        "199999 messages of QoS 1 were stored; 200000 are the least that shows anything",
    ]
