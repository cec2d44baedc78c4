"""How many restarts are allowed, in which order of ways, and what is carried through an exec."""

from __future__ import annotations

import pytest
from switchgear_sdk_restart.budget import Restarted, carried, decide, recent, taken_over
from switchgear_sdk_restart.options import Options


def restarted(at: float, way: str = "rebuild", client_id: str = "press-7") -> Restarted:
    return Restarted(at, way, "wedged", client_id)


@pytest.mark.parametrize(
    ("options", "rebuilds", "obstacle", "way", "why"),
    [
        (Options(), 0, None, "rebuild", "rebuild 1 of 3; restart 1 of 5"),
        (Options(), 2, None, "rebuild", "rebuild 3 of 3"),
        (Options(), 3, None, "rebuild", "wedged again after 3 rebuilds"),
        (Options(escalate_to="reexec"), 2, None, "rebuild", "rebuild 3 of 3"),
        (Options(escalate_to="reexec"), 3, None, "reexec", "3 rebuilds did not help: reexec; restart 1 of 5 in 3600 s"),
        (Options(escalate_to="reexec", rebuilds=0), 0, None, "reexec", "it is wedged: reexec"),
        (Options(escalate_to="exit"), 3, None, "exit", "3 rebuilds did not help: exit"),
        (Options(escalate_to="reexec"), 3, "it is a fork", "rebuild", "reexec is not possible: it is a fork"),
    ],
)
def test_ways(options: Options, rebuilds: int, obstacle: str | None, way: str, why: str) -> None:
    """Rebuilding comes first, then what the options say; where that is not possible, rebuilding again; each with its reason."""
    decision = decide(options, [], "press-7", rebuilds, now=0.0, obstacle=obstacle)
    assert decision.way == way
    assert why in decision.why


def test_the_budget_ends_it() -> None:
    """The budget counts restarts of any way in the window; when they are old enough there is room again."""
    options = Options(budget=3, window=100)
    history = [restarted(0), restarted(50, "reexec"), restarted(60)]
    assert decide(options, history, "press-7", 0, now=99.9).way is None
    assert "all 3 restarts in 100 s are used up" in decide(options, history, "press-7", 0, now=99.9).why
    assert decide(options, history, "press-7", 0, now=100.0).way == "rebuild"


def test_whose_restarts_count() -> None:
    """A transport's own rebuilds count, and every restart of the process; another's rebuilds do not."""
    history = [restarted(1), restarted(2, client_id="press-8"), restarted(3, "reexec", "press-8")]
    assert recent(history, "press-7", now=10, window=100) == [history[0], history[2]]


def test_a_clock_that_was_set_back_allows_no_loop() -> None:
    """Restarts that seem to lie in the future count."""
    assert len(recent([restarted(1e9)], "press-7", now=0, window=1)) == 1


def test_carried_through_an_exec() -> None:
    """What is carried is what is taken over, by the same process only; reasons are cut, for environments are bounded."""
    history = [restarted(1.5), Restarted(2.5, "reexec", "\N{SNOWMAN}" * 1000, 'a"b')]
    text = carried(history, 42)
    assert taken_over(text, 42) == [history[0], Restarted(2.5, "reexec", "\N{SNOWMAN}" * 200, 'a"b')]
    assert taken_over(text, 43) == []
    assert len(carried([Restarted(1.0, "reexec", "x" * 300, "c" * 23)] * 100, 42)) < 128 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"pid": 42}',
        '{"pid": 42, "restarts": [[1]]}',
        '{"pid": 42, "restarts": [["x", 1, 2, 3]]}',
        "[" * 10**5,
    ],
)
def test_what_cannot_be_read_is_an_error(text: str) -> None:
    """Anything else in the variable is a ValueError, whatever it is."""
    with pytest.raises(ValueError):
        taken_over(text, 42)
