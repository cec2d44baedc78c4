from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from switchgear import InvalidOption
from switchgear import simulate as simulation
from switchgear.backoff import Exponential, Fleet
from switchgear.simulate import INDIVIDUALLY, Contender, Run, Storm, contenders, simulate, slot, split

RATE = 500.0
OURS = ("fleet", "exponential")
NO_JITTER = ("ActiveMQ failover", "MQTT.js", "paho-mqtt", "loop min(2**n, 30)")


def storm(clients: int, outage: float, rate: float = RATE, notice: float = 0.0, queue: int | None = None) -> Storm:
    return Storm(clients=clients, connects_per_second=rate, outage=outage, notice=notice, queue=queue)


def named(name: str, against: Storm) -> Contender:
    return next(contender for contender in contenders(against) if contender.name == name)


def run(name: str, against: Storm, seed: int = 1) -> Run:
    return simulate(named(name, against), against, seed=seed)


@pytest.mark.parametrize("outage", [1.0, 60.0, 600.0])
@pytest.mark.parametrize("clients", [1, 100, 10_000])
def test_fleet_keeps_the_budget(clients: int, outage: float) -> None:
    """With `fleet` there are never more CONNECTs than the budget, none is refused, and each client needs exactly one."""
    ended = run("fleet", storm(clients, outage))
    assert ended.keeps_budget
    assert ended.of_budget <= 1
    assert (ended.refused, ended.connects) == (0, clients)
    assert ended.all_back is not None
    assert ended.all_back <= max(0.04, 1.3 * clients / RATE)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("clients", "rate"), [(20, 0.5), (400, 50.0), (3000, 500.0), (2000, 3.0)])
def test_fleet_keeps_other_budgets(clients: int, rate: float, seed: int) -> None:
    """The budget holds for slow and quick brokers, whatever the draws."""
    assert run("fleet", storm(clients, 30.0, rate), seed).keeps_budget


@pytest.mark.parametrize("outage", [1.0, 60.0, 600.0])
@pytest.mark.parametrize("name", NO_JITTER)
def test_peers_without_jitter_exceed_it(name: str, outage: float) -> None:
    """Ten thousand clients of a policy without jitter arrive together: twenty times the budget."""
    ended = run(name, storm(10_000, outage))
    assert ended.peak_per_second == 10_000
    assert ended.of_budget == 20
    assert not ended.keeps_budget
    assert ended.refused > 0


@pytest.mark.parametrize("name", ["awscrt", "full jitter", "exponential"])
def test_jitter_alone_does_not_keep_it(name: str) -> None:
    """After a short outage jitter that knows nothing of the broker exceeds the budget ten times."""
    assert run(name, storm(10_000, 1.0)).of_budget > 10


@pytest.mark.parametrize("name", [*OURS, *NO_JITTER, "awscrt", "full jitter"])
@pytest.mark.parametrize("clients", [1, 300, INDIVIDUALLY + 1])
def test_same_seed_same_result(name: str, clients: int) -> None:
    """A run depends on its seed and on nothing else."""
    against = storm(clients, 5.0)
    assert run(name, against) == run(name, against)


@given(
    name=st.sampled_from([*OURS, *NO_JITTER, "awscrt", "full jitter"]),
    clients=st.integers(1, 60),
    outage=st.floats(0, 100),
    rate=st.sampled_from([0.5, 3.0, 26.0, 500.0]),
    notice=st.sampled_from([0.0, 0.5, 7.0]),
    queue=st.sampled_from([None, 1, 10]),
    seed=st.integers(0, 9),
)
@settings(max_examples=150, deadline=None)
def test_nobody_is_forgotten(  # noqa: PLR0917 - hypothesis passes them by name
    name: str, clients: int, outage: float, rate: float, notice: float, queue: int | None, seed: int
) -> None:
    """Everybody is back at last, in order, no sooner than the broker can serve them, and every CONNECT is counted once."""
    assume(queue != 1 or name not in NO_JITTER or clients <= 20)  # in step, one gets in each time: it takes hours
    ended = run(name, storm(clients, outage, rate, notice, queue), seed)
    half, most, everyone = ended.half_back, ended.most_back, ended.all_back
    assert half is not None
    assert most is not None
    assert everyone is not None
    assert 0 < half <= most <= everyone
    assert everyone >= clients / rate - 1e-6
    assert ended.connects == clients + ended.refused == sum(ended.per_second.values())
    assert ended.attempts >= ended.connects
    assert max(ended.per_second.values()) <= ended.peak_per_second <= ended.peak_in_window <= ended.connects
    if name == "fleet" and queue is None and notice == 0:
        assert ended.keeps_budget


@pytest.mark.parametrize("name", ["exponential", "awscrt", "full jitter"])
@pytest.mark.parametrize("outage", [1.0, 60.0])
def test_groups_are_as_good_as_single_clients(name: str, outage: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved in groups, 10 000 clients come back as they do one by one: times within 10 %, peak within 25 %."""
    against = storm(10_000, outage, 500.0)
    single = [run(name, against, seed) for seed in range(3)]
    monkeypatch.setattr(simulation, "INDIVIDUALLY", 10)
    grouped = [run(name, against, seed) for seed in range(3)]
    assert single != grouped

    def middle(runs: list[Run], what: str) -> float:
        return float(statistics.median(getattr(each, what) for each in runs))

    for what, tolerance in (("half_back", 0.1), ("most_back", 0.1), ("connects", 0.1), ("peak_per_second", 0.25)):
        assert middle(grouped, what) == pytest.approx(middle(single, what), rel=tolerance), what


def test_a_million_clients() -> None:
    """A million clients without jitter are exact, and known at once: each turn all of them come, and few are served."""
    ended = run("MQTT.js", storm(1_000_000, 60.0))
    assert ended.peak_per_second == 1_000_000
    assert ended.all_back == pytest.approx(2000, abs=1)
    assert ended.connects == 1_000_500_000


def test_fleet_for_many() -> None:
    """Fifty thousand clients at their own budget: a hundred and thirty seconds, one CONNECT each."""
    ended = run("fleet", storm(50_000, 10.0))
    assert ended.keeps_budget
    assert ended.connects == 50_000
    assert ended.all_back == pytest.approx(125, abs=2)


def test_notice_spreads_those_without_jitter() -> None:
    """Clients that notice the loss over 30 s come back as spread as they left, when their policy adds no jitter."""
    at_once = run("MQTT.js", storm(3000, 60.0))
    spread = run("MQTT.js", storm(3000, 60.0, notice=30.0))
    assert at_once.peak_per_second == spread.peak_per_second == 3000  # a period of 1 s folds it all into a second
    assert run("paho-mqtt", storm(3000, 60.0, notice=30.0)).peak_per_second < 200


def test_queue() -> None:
    """A broker that keeps everybody waiting refuses nobody."""
    ended = run("MQTT.js", storm(10_000, 1.0, queue=10_000))
    assert (ended.connects, ended.refused) == (10_000, 0)
    assert ended.all_back == pytest.approx(20.0)


def test_who_never_comes_back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the simulated time is over, the times that were not reached are None."""
    monkeypatch.setattr(simulation, "PATIENCE", 0.0)
    ended = run("paho-mqtt", storm(100_000, 60.0))
    assert ended.half_back is None
    assert ended.all_back is None


def test_progress() -> None:
    """Progress grows from 0 to 1."""
    told: list[float] = []
    simulate(named("fleet", storm(10_000, 60.0)), storm(10_000, 60.0), on_progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] <= 1


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("clients", {"clients": 0}),
        ("clients", {"clients": 10_000_001, "connects_per_second": 1e6}),
        ("connects_per_second", {"connects_per_second": 0.0}),
        ("connects_per_second", {"clients": 10_000, "connects_per_second": 0.5}),
        ("outage", {"outage": -1.0}),
        ("outage", {"outage": math.nan}),
        ("outage", {"outage": 1e9}),
        ("notice", {"notice": math.inf}),
        ("queue", {"queue": 0}),
    ],
)
def test_impossible_numbers(name: str, given: dict[str, float]) -> None:
    """What cannot be simulated in minutes is refused by name."""
    numbers: dict[str, float] = {"clients": 10, "connects_per_second": 10.0, "outage": 1.0, **given}
    with pytest.raises(InvalidOption) as caught:
        Storm(**numbers)  # type: ignore[arg-type]  # a table of every field
    assert caught.value.name == name


@given(count=st.integers(0, 5000), cells=st.sampled_from([1, 2, 16, 256]), seed=st.integers(0, 99))
def test_split_loses_nobody(count: int, cells: int, seed: int) -> None:
    """A split has the asked number of cells, and the same number of clients in all."""
    parts = split(count, cells, random.Random(seed))
    assert len(parts) == cells
    assert sum(parts) == count
    assert min(parts) >= 0


def test_split_is_even() -> None:
    """Each cell gets its share, with the variance of a multinomial draw."""
    rng = random.Random(1)
    first = [split(1600, 16, rng)[5] for _ in range(2000)]
    assert statistics.mean(first) == pytest.approx(100, rel=0.01)
    assert statistics.pvariance(first) == pytest.approx(1600 / 16 * 15 / 16, rel=0.1)


def test_slots_are_finer_than_the_delays() -> None:
    """A slot is at most a tenth of the default policy's jitter at that time, unless the broker is down for long."""
    for time in (0.4, 1.0, 9.9, 10.0, 99.0, 100.0, 1e4):
        jitter = 0.5 * min(30.0, 0.15 * time)
        assert slot(time, 0.0) <= jitter / 10
    assert slot(1000.0, 1299.0) <= 0.1 < slot(1000.0, 1301.0)


def test_ours_are_the_real_ones() -> None:
    """The simulator asks the policies that `switchgear.fleet` and `switchgear.exponential` make."""
    against = storm(100, 1.0)
    assert named("fleet", against).backoff == Fleet(100, RATE)
    assert named("exponential", against).backoff == Exponential()
