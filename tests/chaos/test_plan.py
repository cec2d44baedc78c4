from collections import Counter

import pytest
from switchgear_chaos.plan import KINDS, PLANS, REST, make_plan, read_plan


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_a_pure_function_of_its_seed(name: str) -> None:
    """The same seed makes the same plan, another seed another one, and what was saved reads back as it was."""
    plan = make_plan(7, name)
    assert plan == make_plan(7, name)
    assert plan != make_plan(8, name)
    assert read_plan(plan.as_json()) == plan


def test_a_plan_does_not_change_from_release_to_release() -> None:
    """The seed that somebody reports makes here the plan that it made there."""
    fault = make_plan(1, "mosquitto").stages[0].faults[0]
    assert (fault.number, fault.kind, fault.target) == (1, "broker_kill", "broker-0")


def test_the_whole_plan_is_large_enough() -> None:
    """A whole run has 300 faults and 200 000 messages of QoS 1 at the least, and every kind of fault several times."""
    plan = make_plan(3)
    assert (plan.least_faults, plan.least_stored) == (300, 200_000)
    assert plan.faults >= 1.2 * plan.least_faults  # some will strike what is not at work
    times = Counter(fault.kind for stage in plan.stages for fault in stage.faults)
    assert min(times[kind] for kind in KINDS) >= 3
    assert sum(stage.publishers * stage.rate * stage.seconds * 0.9 for stage in plan.stages) >= 200_000
    assert times["publisher_kill"] >= 100


def test_both_kinds_of_broker_see_every_fault() -> None:
    """No kind of fault is for the one pair of brokers only."""
    for stage in make_plan(3).stages[:2]:
        assert {fault.kind for fault in stage.faults} == set(KINDS)


@pytest.mark.parametrize("seed", range(20))
def test_no_target_is_struck_twice_at_once(seed: int) -> None:
    """Between two faults on one target there is a rest."""
    for stage in make_plan(seed).stages[:2]:
        until: dict[str, float] = {}
        for fault in stage.faults:
            assert fault.at >= until.get(fault.target, 0.0)
            until[fault.target] = fault.at + fault.lasts + REST[0] - 0.002  # what is saved is rounded


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no plan"),
        ("[]", "no plan"),
        ('{"seed": 1, "name": "x", "stages": [{"name": "y"}]}', "no plan"),
        (make_plan(1, "short").as_json().replace("half_close", "half_open"), "'half_open'; known are broker_kill"),
    ],
)
def test_what_is_no_plan_is_said(text: str, words: str) -> None:
    """A file that is no plan, or knows an unknown fault, is refused with the reason."""
    with pytest.raises(ValueError, match=words):
        read_plan(text)


def test_an_unknown_name_is_refused() -> None:
    """A plan that does not exist is refused, with those that do."""
    with pytest.raises(ValueError, match="choose one of all, mosquitto"):
        make_plan(1, "nothing")
