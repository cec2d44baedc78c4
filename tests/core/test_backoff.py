"""Delays, limits and budgets, far outside normal use."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from switchgear.backoff import (
    FAR,
    FLAPS,
    GROWTH,
    SMALLEST_DELAY,
    Backoff,
    ConnectBudget,
    Exponential,
    Fleet,
    GiveUpAfter,
    Listed,
    Outage,
    exponential,
    fleet,
    growing_delay,
)
from switchgear.errors import InvalidOption

TIMES = st.one_of(st.sampled_from([0.0, 1e-9, 1e9, FAR]), st.floats(0, FAR))
COUNTS = st.one_of(st.sampled_from([0, 1, FLAPS, 10**9]), st.integers(0, 10**9))
RATES = st.one_of(st.sampled_from([1e-6, 1.0, 50.0, 500.0, 1e6, FAR]), st.floats(1e-6, FAR))
CLIENTS = st.one_of(st.sampled_from([1, 2, 10**12]), st.integers(1, 10**12))
OUTAGES = st.builds(
    Outage,
    lost_at=TIMES,
    phase=st.floats(0, 1, exclude_max=True),
    sweeps=COUNTS,
    is_startup=st.booleans(),
    flaps=COUNTS,
)
SEEDS = st.integers(0, 2**32).map(random.Random)
ordinary = settings(max_examples=200, deadline=None, derandomize=True)


def wait(policy: Backoff, outage: Outage, now: float, rng: random.Random) -> float:
    """Seconds until the next sweep; the clock's rounding forgiven."""
    at = policy.next_sweep(outage, now, rng)
    assert math.isfinite(at)
    assert at >= now
    return at - now


def fuzz(*times: float) -> float:
    """What a difference of such times may be wrong by."""
    return 8 * max(math.ulp(abs(each)) for each in (*times, 1.0))


# Exponential. --------------------------------------------------------------------------------------------------------


@ordinary
@given(elapsed=st.floats(-FAR, FAR), cap=st.floats(SMALLEST_DELAY, FAR), rng=SEEDS)
def test_growing_delay(elapsed: float, cap: float, rng: random.Random) -> None:
    """The delay is half to all of what the formula says, never above the cap, for every length of outage."""
    longest = min(cap, max(SMALLEST_DELAY, GROWTH * elapsed))
    delay = growing_delay(elapsed, cap, rng)
    assert longest / 2 <= delay <= longest
    assert 0.025 <= delay <= cap


@ordinary
@given(outage=OUTAGES, now=TIMES, cap=st.floats(SMALLEST_DELAY, 3600), rng=SEEDS)
def test_exponential(outage: Outage, now: float, cap: float, rng: random.Random) -> None:
    """It waits between 25 ms and the cap for every attempt, also when the clock jumps; only a start goes at once."""
    delay = wait(Exponential(cap), outage, now, rng)
    if outage.is_startup and outage.sweeps == 0:
        assert delay == 0
    else:
        assert 0.025 - fuzz(now) <= delay <= cap + fuzz(now)


def test_exponential_is_jittered_at_its_cap() -> None:
    """A thousand clients at the cap are spread over half of it: no tenth of that span holds a fifth of them."""
    rng = random.Random(1)
    tenths = Counter(int((growing_delay(1e6, 30.0, rng) - 15.0) / 1.5) for _ in range(1000))
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 200


# Listed. -------------------------------------------------------------------------------------------------------------


@ordinary
@given(
    outage=OUTAGES,
    now=TIMES,
    initial=st.floats(0, 1e6),
    cap=st.floats(0, 1e6),
    multiplier=st.one_of(st.floats(0, 1e6), st.just(1.0000001)),
    rng=SEEDS,
)
def test_listed(
    *, outage: Outage, now: float, initial: float, cap: float, multiplier: float, rng: random.Random
) -> None:
    """ActiveMQ's delays never pass their cap nor overflow, at the thousand millionth sweep either."""
    assert 0 <= wait(Listed(initial, cap, multiplier), outage, now, rng) <= cap + fuzz(now)


def test_listed_follows_activemq() -> None:
    """The first delay is the initial one, each further one is multiplied, up to the cap."""
    policy = Listed(0.01, 30.0, 2.0)
    assert [policy.longest(steps) for steps in (0, 1, 2, 11, 12, 10**9)] == [0.01, 0.02, 0.04, 20.48, 30.0, 30.0]


# Fleet. --------------------------------------------------------------------------------------------------------------


@ordinary
@given(clients=CLIENTS, rate=RATES)
def test_fleet_formula(clients: int, rate: float) -> None:
    """Window, budget and period are those of the documented formula."""
    policy = fleet(clients=clients, connects_per_second=rate)
    w = max(1, 25 / rate)
    b = rate * w
    m = (math.sqrt(b + 6.25) - 2.5) ** 2 / w
    assert policy.window == w
    assert policy.budget == b
    assert b >= 25 * (1 - 1e-12)
    assert policy.period == (max(0.04, 1.1 / rate) if clients == 1 else max(0.04, clients / m))


@ordinary
@given(clients=CLIENTS, rate=RATES, outage=OUTAGES, now=TIMES, rng=SEEDS)
def test_fleet_bounds(clients: int, rate: float, outage: Outage, now: float, rng: random.Random) -> None:
    """The wait is at most one period (two where a slot has just been used); when flapping, 30 s where that is longer."""
    policy = Fleet(clients, rate)
    delay = wait(policy, outage, now, rng)
    longest = policy.period * (2 if outage.sweeps else 1)
    if now < outage.lost_at:  # the clock was set back: the slot is where it was
        longest += outage.lost_at - now
    if outage.flaps >= FLAPS:
        longest = max(longest, 30.0)
    assert delay <= longest + fuzz(now, outage.lost_at, longest)


@ordinary
@given(
    clients=st.integers(1, 10**6),
    rate=st.floats(1, 10_000),
    phase=st.floats(0, 1, exclude_max=True),
    sweep_lasts=st.lists(st.floats(0, 100), min_size=2, max_size=20),
)
def test_fleet_keeps_its_slots(clients: int, rate: float, phase: float, sweep_lasts: list[float]) -> None:
    """Sweeps start on one grid of the drawn phase, at least a period apart, and missed slots are skipped."""
    policy, rng, now = Fleet(clients, rate), random.Random(1), 1000.0
    period, before = policy.period, -math.inf
    for sweeps, lasts in enumerate(sweep_lasts):
        at = policy.next_sweep(Outage(1000.0, phase, sweeps), now, rng)
        slots = (at - 1000.0) / period - phase
        assert slots == pytest.approx(round(slots), abs=1e-6)
        assert at >= before + period * (1 - 1e-6)
        assert at <= now + period * (1 + 1e-6)
        before, now = at, at + lasts


def storm(clients: int, rate: float, *, down: float, lasts: float, seed: int) -> tuple[list[float], list[float]]:
    """When CONNECTs were sent after a broker was lost by all at 0 and came back at *down*, and who was back when.

    A sweep that fails lasts *lasts* seconds at most.
    """
    policy, rng = Fleet(clients, rate), random.Random(seed)
    phases = [rng.random() for _ in range(clients)]
    queue = [(policy.next_sweep(Outage(0.0, phase), 0.0, rng), client, 1) for client, phase in enumerate(phases)]
    heapq.heapify(queue)
    sent: list[float] = []
    back: list[float] = []
    while queue:
        at, client, sweeps = heapq.heappop(queue)
        sent.append(at)
        if at >= down:
            back.append(at)
            continue
        failed = at + rng.random() * lasts
        following = policy.next_sweep(Outage(0.0, phases[client], sweeps), failed, rng)
        heapq.heappush(queue, (following, client, sweeps + 1))
    return sent, back


def busiest(times: list[float], window: float) -> int:
    """The most of *times*, which are sorted, in any half-open window of that many seconds."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(
    ("clients", "rate"),
    [(1, 1), (1, 25), (1, 50), (1, 1000), (2, 0.1), (2, 50), (7, 3), (30, 50), (100, 10), (400, 50), (3000, 100)],
)
@pytest.mark.parametrize("lasts", [0.0, 0.3, 5.0])
def test_fleet_keeps_the_budget(clients: int, rate: float, lasts: float) -> None:
    """No window holds more CONNECTs than the budget, while the broker is down and when it is back."""
    policy = Fleet(clients, rate)
    for seed in range(5):
        sent, back = storm(clients, rate, down=3.3 * policy.period, lasts=lasts, seed=seed)
        assert len(back) == clients
        assert busiest(sent, policy.window) <= policy.budget
        assert max(back) <= 3.3 * policy.period + 2 * policy.period + lasts


def test_fleet_of_ten_thousand() -> None:
    """10 000 clients at 500 a second stay below 0.95 of the budget (0.91 was measured) and are all back in one period."""
    policy = Fleet(10_000, 500)
    sent, back = storm(10_000, 500, down=60.0, lasts=0.0, seed=1)
    assert busiest(sent, policy.window) <= 0.95 * policy.budget
    assert busiest(sent, policy.window) > 0.8 * policy.budget
    assert max(back) - 60.0 <= policy.period


@pytest.mark.parametrize("down", [0.013, 1.0, 17.77, 3600.5])
def test_lone_client_is_back_at_once(down: float) -> None:
    """One client at 50 a second sends CONNECT at most 40 ms after its broker is back, however long that took."""
    for seed in range(20):
        _, [back] = storm(1, 50, down=down, lasts=0.0, seed=seed)
        assert down <= back <= down + 0.04 + 1e-9


def test_flapping_slows_a_fleet() -> None:
    """A client of a fleet that flaps waits at least as long as the safe default would."""
    outage, rng = Outage(0.0, 0.5, flaps=FLAPS), random.Random(1)
    assert wait(Fleet(1, 50), outage, 1000.0, rng) >= 15.0


# The budget of a process. --------------------------------------------------------------------------------------------


@ordinary
@given(
    limit=st.integers(1, 12),
    window=st.floats(0.01, 100),
    gaps=st.lists(st.one_of(st.just(0.0), st.floats(0, 30), st.floats(-50, 0), st.just(1e9)), max_size=80),
)
def test_connect_budget_is_exact(limit: int, window: float, gaps: list[float]) -> None:
    """No more than the limit is sent in any window, nobody goes before asking, and nobody overtakes; any clock will do."""
    budget, now = ConnectBudget(limit, window), 1000.0
    asked: list[float] = []
    sent: list[float] = []
    for gap in gaps:
        now += gap
        asked.append(now)
        sent.append(budget.reserve(now)[1])
    assert all(at >= now for at, now in zip(sent, asked, strict=True))
    assert sent == sorted(sent)
    assert all(later >= earlier + window for earlier, later in zip(sent, sent[limit:], strict=False))


def test_connect_budget_does_not_delay_without_need() -> None:
    """As many as the limit go at once, the next when the first is a window old."""
    budget = ConnectBudget(3, 10.0)
    assert [budget.reserve(5.0)[1] for _ in range(7)] == [5.0, 5.0, 5.0, 15.0, 15.0, 15.0, 25.0]
    assert budget.reserve(100.0)[1] == 100.0


@ordinary
@given(
    limit=st.integers(1, 6),
    window=st.floats(0.1, 10),
    wanted=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    late=st.lists(st.floats(0, 0.9), min_size=60, max_size=60),
)
def test_connect_budget_is_exact_when_the_loop_is_late(
    limit: int, window: float, wanted: list[float], late: list[float]
) -> None:
    """However late each one wakes, by less than the window, no more than the limit go in any window."""
    budget, now = ConnectBudget(limit, window), 0.0
    wakes: list[tuple[float, int, int]] = []  # when, which place (-1: none yet), which lateness
    for i, gap in enumerate(wanted):
        now += gap
        heapq.heappush(wakes, (now, -1, i))
    sent: list[float] = []
    while wakes:
        now, place, i = heapq.heappop(wakes)
        if place < 0:
            place, at = budget.reserve(now)
        else:
            at = budget.confirm(place, now)
        if at > now:
            heapq.heappush(wakes, (at + late[i] * window, place, i))
        else:
            sent.append(now)
    assert len(sent) == len(wanted)
    assert all(later >= earlier + window - 1e-9 for earlier, later in zip(sent, sent[limit:], strict=False))


# Limits and arguments. -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "attempts", "sweeps", "seconds", "words"),
    [
        (GiveUpAfter(), 10**9, 10**9, FAR, None),
        (GiveUpAfter(attempts=3), 2, 9, 9.0, None),
        (GiveUpAfter(attempts=3), 3, 0, 0.0, "3 attempts"),
        (GiveUpAfter(sweeps=0), 0, 0, 0.0, "0 sweeps of all endpoints"),
        (GiveUpAfter(sweeps=1), 1, 1, 0.0, "1 sweep of all endpoints"),
        (GiveUpAfter(sweeps=2), 9, 1, 9.0, None),
        (GiveUpAfter(seconds=2.5), 9, 9, 2.4, None),
        (GiveUpAfter(seconds=2.5), 0, 0, 1e12, "2.5 seconds without a connection"),
    ],
)
def test_limits(limit: GiveUpAfter, attempts: int, sweeps: int, seconds: float, words: str | None) -> None:
    """A limit is reached when its own count is, and says which it was."""
    assert limit.reached(attempts=attempts, sweeps=sweeps, seconds=seconds) == words


@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_refused_limits(value: object) -> None:
    """A count that is no whole number of at least 0 is refused by name."""
    for name in ("attempts", "sweeps"):
        with pytest.raises(InvalidOption, match=name):
            GiveUpAfter(**{name: value})  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, "3"])
def test_refused_seconds(value: object) -> None:
    """What is no finite number of seconds is refused by name."""
    with pytest.raises(InvalidOption, match="seconds"):
        GiveUpAfter(seconds=value)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("cap", [0.0, 0.049, math.nan, math.inf, True, "30"])
def test_refused_caps(cap: object) -> None:
    """A cap below the smallest delay, or no number, is refused by name."""
    with pytest.raises(InvalidOption, match="cap"):
        exponential(cap=cap)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("clients", "rate"), [(0, 50), (1.0, 50), (True, 50), (10**12 + 1, 50), (1, 0), (1, math.nan), (1, math.inf)]
)
def test_refused_fleets(clients: object, rate: object) -> None:
    """Clients that are not counted, and rates that are not above zero, are refused by name."""
    with pytest.raises(InvalidOption, match=r"clients|connects_per_second"):
        fleet(clients=clients, connects_per_second=rate)  # type: ignore[arg-type]  # that is the point


def test_only_a_fleet_has_a_rate() -> None:
    """The shared budget of a process is that of a fleet; other policies have none."""
    rates = [
        policy.connects_per_second for policy in (exponential(), Listed(), fleet(clients=3, connects_per_second=7))
    ]
    assert rates == [None, None, 7.0]


def test_busiest_counts_right() -> None:
    """The counter that the budget tests trust agrees with counting by hand."""
    rng = random.Random(3)
    times = sorted(rng.uniform(0, 10) for _ in range(60))
    by_hand = max(sum(start <= at < start + 1.5 for at in times) for start in times)
    assert busiest(times, 1.5) == by_hand
    assert busiest(list(itertools.repeat(1.0, 5)), 1.0) == 5
