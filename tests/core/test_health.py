"""What is remembered of endpoints, and the order that follows from it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from switchgear.cause import Cause, Failure, Policy
from switchgear.endpoint import Endpoint
from switchgear.health import (
    LONGEST_QUARANTINE,
    PENALTY,
    QUARANTINE,
    STRIKE_GAP,
    EndpointHealth,
    Health,
    ordered,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FATAL = Failure(Cause.NOT_AUTHORIZED)
OTHER_FATAL = Failure(Cause.CERTIFICATE_EXPIRED)
BUSY = Failure(Cause.BROKER_BUSY)
LOST = Failure(Cause.CONNECTION_LOST)

A, B, C = (Endpoint("mqtt", name, 1883) for name in "abc")
ENDPOINTS = st.lists(
    st.builds(
        lambda n, priority, group: Endpoint("mqtt", f"b{n}", 1883, priority=priority, group=group),
        st.integers(0, 7),
        st.integers(0, 2),
        st.sampled_from(["kept", "shuffled"]),
    ),
    max_size=8,
    unique_by=lambda endpoint: endpoint.key,
)
HISTORY = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from([None, FATAL, OTHER_FATAL, BUSY, LOST]),
        st.sampled_from([0.0, 0.1, 2.9, 3.0, 3.1, 29.0, 61.0, 3601.0, 1e9, -5.0]),
    ),
    max_size=25,
)
ordinary = settings(max_examples=250, deadline=None, derandomize=True)


def lived(history: Sequence[tuple[int, Failure | None, float]]) -> tuple[Health, float]:
    """A memory after *history* (broker, its failure or None for success, seconds since the entry before), and the time."""
    health, now = Health(), 1000.0
    for number, failure, gap in history:
        now += gap
        key = f"mqtt://b{number}:1883"
        if failure is None:
            health.succeeded(key)
        else:
            health.failed(key, failure, now)
    return health, now


# Order. --------------------------------------------------------------------------------------------------------------


@ordinary
@given(ENDPOINTS, HISTORY, st.integers(0, 99), st.data())
def test_order(
    endpoints: list[Endpoint], history: list[tuple[int, Failure | None, float]], seed: int, data: st.DataObject
) -> None:
    """Each untried endpoint out of quarantine comes exactly once, the just-failed last, then by priority and penalty."""
    health, now = lived(history)
    tried = set(data.draw(st.lists(st.sampled_from([e.key for e in endpoints]), max_size=3))) if endpoints else set()
    order = ordered(endpoints, health=health, now=now, rng=random.Random(seed), tried=tried, keep_order={"kept": True})
    expected = {e.key for e in endpoints if e.key not in tried and not health.is_quarantined(e.key, now)}
    assert {e.key for e in order} == expected
    assert len(order) == len(expected)
    assert all(any(e is original for original in endpoints) for e in order)
    ranks = [
        (
            e.key == health.just_failed,
            e.priority,
            health.look(e.key).penalised_until > now,
            health.look(e.key).failures > 0,
        )
        for e in order
    ]
    assert ranks == sorted(ranks)
    for rank in set(ranks):
        kept = [endpoints.index(e) for e, each in zip(order, ranks, strict=True) if each == rank and e.group == "kept"]
        if all(e.group == "kept" for e, each in zip(order, ranks, strict=True) if each == rank):
            assert kept == sorted(kept)


@ordinary
@given(ENDPOINTS.filter(bool), HISTORY, st.integers(0, 99))
def test_nobody_starves(endpoints: list[Endpoint], history: list[tuple[int, Failure | None, float]], seed: int) -> None:
    """Taking the first each time, a sweep of failures tries every endpoint that is not quarantined exactly once."""
    health, now = lived(history)
    rng, tried = random.Random(seed), list[str]()
    wanted = {e.key for e in endpoints if not health.is_quarantined(e.key, now)}
    while order := ordered(endpoints, health=health, now=now, rng=rng, tried=tried):
        tried.append(order[0].key)
        health.failed(order[0].key, LOST, now)
        now += 0.01
    assert sorted(tried) == sorted(wanted)


def test_equals_are_shuffled() -> None:
    """Among equals each endpoint comes first about as often as the others; in a kept order always the first one."""
    rng = random.Random(5)
    firsts = [ordered([A, B, C], health=Health(), now=0.0, rng=rng)[0] for _ in range(900)]
    assert all(250 < firsts.count(endpoint) < 350 for endpoint in (A, B, C))
    kept = {"": True}
    assert [ordered([A, B, C], health=Health(), now=0.0, rng=rng, keep_order=kept) for _ in range(5)] == [[A, B, C]] * 5


def test_just_failed_comes_last_whatever_its_priority() -> None:
    """A preferred endpoint that has just failed comes after all others, and first again when another one has failed."""
    preferred = attrs.evolve(A, priority=0)
    others = [attrs.evolve(B, priority=5), attrs.evolve(C, priority=9)]
    health, rng = Health(), random.Random(1)
    health.failed(preferred.key, LOST, 0.0)
    assert ordered([preferred, *others], health=health, now=0.0, rng=rng) == [*others, preferred]
    health.failed(others[0].key, LOST, 0.0)
    assert ordered([preferred, *others], health=health, now=0.0, rng=rng) == [preferred, others[1], others[0]]


def test_elsewhere_is_a_penalty_for_a_while() -> None:
    """A broker that sends us elsewhere ranks behind one that merely failed, for PENALTY seconds, and is not left out."""
    health, rng = Health(), random.Random(1)
    health.failed(A.key, BUSY, 0.0)
    health.failed(B.key, LOST, 0.0)
    health.failed(C.key, LOST, 0.0)
    health.just_failed = None
    assert ordered([A, B], health=health, now=PENALTY - 1, rng=rng) == [B, A]
    orders = {tuple(e.host for e in ordered([A, B], health=health, now=PENALTY, rng=rng)) for _ in range(20)}
    assert orders == {("a", "b"), ("b", "a")}


def test_success_forgives() -> None:
    """A usable connection wipes failures, penalty, strikes and the place at the end."""
    health = Health()
    health.failed(A.key, BUSY, 0.0)
    health.failed(A.key, FATAL, 1.0)
    health.succeeded(A.key)
    assert health.look(A.key) == EndpointHealth()
    assert health.just_failed is None
    assert health.failed(A.key, FATAL, 100.0) is False


# Quarantine. ---------------------------------------------------------------------------------------------------------


@ordinary
@given(st.sampled_from(Cause), st.sampled_from(Cause), st.floats(0, 1000))
def test_two_strikes(first: Cause, second: Cause, gap: float) -> None:
    """Quarantine needs two fatal causes, of whatever kind, at least STRIKE_GAP apart; nothing else ever leads there."""
    health = Health()
    assert health.failed(A.key, Failure(first), 50.0) is False
    is_out = health.failed(A.key, Failure(second), 50.0 + gap)
    both = Failure(first).policy is Policy.FATAL and Failure(second).policy is Policy.FATAL
    assert is_out == (both and (50.0 + gap) - 50.0 >= STRIKE_GAP)
    assert health.is_quarantined(A.key, 50.0 + gap) == is_out
    assert not health.is_quarantined(B.key, 50.0 + gap)


def test_quarantine_doubles_to_an_hour() -> None:
    """Each further strike doubles the quarantine, from a minute to an hour and no longer."""
    health, now = Health(), 0.0
    health.failed(A.key, FATAL, now)
    lengths = []
    for _ in range(10):
        now += 4000.0
        assert health.failed(A.key, FATAL, now) is True
        lengths.append(health.look(A.key).quarantined_until - now)
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert (lengths[0], lengths[-1]) == (QUARANTINE, LONGEST_QUARANTINE)


def test_quarantine_ends_on_time() -> None:
    """An endpoint is left out until its time has come, and not a moment longer."""
    health = Health()
    health.failed(A.key, FATAL, 0.0)
    health.failed(A.key, FATAL, 10.0)
    assert health.is_quarantined(A.key, 69.999)
    assert not health.is_quarantined(A.key, 70.0)
    assert ordered([A], health=health, now=69.999, rng=random.Random(1)) == []
    assert ordered([A], health=health, now=70.0, rng=random.Random(1)) == [A]


def test_release() -> None:
    """A release lifts quarantines and penalties and forgets strikes; failures are remembered."""
    health = Health()
    for now in (0.0, 10.0, 100.0):
        health.failed(A.key, FATAL, now)
    health.failed(B.key, BUSY, 100.0)
    health.release()
    assert not health.is_quarantined(A.key, 101.0)
    assert health.look(B.key).penalised_until == 0.0
    assert health.look(A.key).failures == 3
    assert health.failed(A.key, FATAL, 102.0) is False
    assert health.failed(A.key, FATAL, 110.0) is True
    assert health.look(A.key).quarantined_until == 110.0 + QUARANTINE


def test_all_quarantined() -> None:
    """Only when every endpoint is quarantined is there a fatal failure to tell, and a first release to wait for."""
    health = Health()
    for endpoint, now in ((A, 0.0), (B, 20.0)):
        health.failed(endpoint.key, FATAL, now)
        health.failed(endpoint.key, OTHER_FATAL, now + 10)
    assert health.fatal([A, B], 31.0) == (B, OTHER_FATAL)
    assert health.first_release([A, B]) == 70.0
    assert health.fatal([A, B, C], 31.0) is None
    assert health.fatal([A, B], 70.0) is None
    assert health.fatal([], 31.0) is None
    assert health.first_release([]) == 0.0


@pytest.mark.parametrize("jump", [-1e9, -1.0, 0.0])
def test_clock_set_back(jump: float) -> None:
    """A clock that stands or goes back makes no second strike out of the first."""
    health = Health()
    health.failed(A.key, FATAL, 1000.0)
    assert health.failed(A.key, FATAL, 1000.0 + jump) is False
