"""The count of proofs before a transport goes back to a preferred endpoint."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.endpoint import parse_uri
from switchgear.errors import InvalidOption
from switchgear.failback import LONGEST_STAY, Failback, Scout, preferred

A, B, C = (parse_uri(f"mqtt://{name}?priority={i}") for i, name in enumerate("abc"))


def scout(**options: float) -> Scout:
    return Scout(Failback(**{"successes": 3, "over": 10, "stay": 20, **options}), random.Random(1))  # type: ignore[arg-type]  # a table of numbers


def test_preferred() -> None:
    """Only endpoints of a better priority are probed, the best first."""
    assert preferred([C, B, A], C) == [A, B]
    assert preferred([C, B, A], A) == []


def test_enough_proofs_over_enough_time() -> None:
    """It is time to move at the third success in a row, ten seconds after the first, twenty after connecting."""
    scouting = scout()
    scouting.connected(0.0)
    assert [scouting.probed("a", at, is_good=True) for at in (9.0, 12.0, 18.9, 19.0, 20.0)] == [
        False,
        False,
        False,
        False,
        True,
    ]


def test_one_failure_starts_afresh() -> None:
    """A probe that fails takes all earlier successes with it."""
    scouting = scout(stay=0, over=0)
    scouting.connected(0.0)
    answers = [scouting.probed("a", at, is_good=good) for at, good in [(1, True), (2, True), (3, False), (4, True)]]
    assert answers == [False, False, False, False]


def test_regretted_move_doubles_the_stay() -> None:
    """When the connection that was moved to is lost within the stay, the next stay is twice as long; else as before."""
    scouting = scout(over=0, successes=1)
    at = 0.0
    stays = []
    for lasted in (1.0, 1.0, 1000.0, 1.0):
        scouting.connected(at)
        wait = next(s for s in (20, 40, 80) if scouting.probed("a", at + s, is_good=True))
        stays.append(wait)
        scouting.lost(at + wait)
        scouting.moved()
        scouting.connected(at + wait)
        at += wait + lasted
        scouting.lost(at)
    assert stays == [20, 40, 80, 20]


@given(st.lists(st.booleans(), max_size=60))
def test_stay_is_bounded(regrets: list[bool]) -> None:
    """However often moves are regretted, an hour of good probes is enough to move again."""
    scouting = scout(over=0, successes=1)
    at = 0.0
    for regretted in regrets:
        scouting.moved()
        scouting.connected(at)
        at += 0.1 if regretted else 10_000
        scouting.lost(at)
    scouting.connected(at)
    assert scouting.probed("a", at + LONGEST_STAY, is_good=True)


@given(st.floats(0, 1e6), st.integers())
def test_probes_are_jittered(now: float, seed: int) -> None:
    """The next probe comes within a quarter of the interval round it."""
    scouting = Scout(Failback(every=8), random.Random(seed))
    assert 6 - 1e-6 <= scouting.next_probe(now) - now <= 10 + 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"every": "5"},
        {"successes": 0},
        {"successes": True},
        {"window": -1},
        {"probe_client_id": ""},
        {"probe_client_id": "x" * 65536},
    ],
)
def test_wrong_settings(wrong: dict[str, object]) -> None:
    """A setting that cannot be is refused by name."""
    with pytest.raises(InvalidOption, match=f"failback.{next(iter(wrong))}"):
        Failback(**wrong)  # type: ignore[arg-type]  # that is the point
