"""When the DNS has settled: each loss with the answers that may follow it, and what is decided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear_iot_dns.options import Settings
from switchgear_iot_dns.settle import Answer, Decision, Kind, Loss, Settling

EAST, WEST = "east.example", "west.example"
E, W = Answer(Kind.TARGET, EAST), Answer(Kind.TARGET, WEST)
GONE = Answer(Kind.NO_ANSWER, detail="no such name (NXDOMAIN)")
FAILED = Answer(Kind.UNKNOWN, detail="SERVFAIL")
SETTINGS = Settings(answers=3, wait=5.0, bound=30.0)


def decide(loss: Loss, *answers: Answer, used: str = EAST, settings: Settings = SETTINGS) -> list[Decision]:
    """What is decided on *answers*, one a second, from the loss on."""
    settling = Settling(settings, loss, used, 100.0)
    return [settling.hear(answer, 100.0 + second) for second, answer in enumerate(answers)]


def places(decisions: list[Decision]) -> list[str]:
    """Where it goes; a dot where it asks again."""
    return [decision.target if decision.goes else "." for decision in decisions]


@pytest.mark.parametrize(
    ("loss", "answers", "expected"),
    [
        # A network blip: the first answer is enough, whatever it is, unless it names another target.
        (Loss.BLIP, [E], [EAST]),
        (Loss.BLIP, [FAILED], [EAST]),
        (Loss.BLIP, [GONE], [EAST]),
        (Loss.BLIP, [W, W, W], [".", ".", WEST]),
        (Loss.BLIP, [W, E], [".", EAST]),
        (Loss.BLIP, [W, W, FAILED, W], [".", ".", EAST, WEST]),
        # Closed without a word: the name alone tells where to go.
        (Loss.CLOSED, [E], [EAST]),
        (Loss.CLOSED, [W], [WEST]),
        (Loss.CLOSED, [FAILED], [EAST]),
        # Sent away: another target is gone to at once, the same one is believed after `wait`.
        (Loss.SENT_AWAY, [W], [WEST]),
        (Loss.SENT_AWAY, [E, E, W], [".", ".", WEST]),
        (Loss.SENT_AWAY, [E] * 6, [".", ".", ".", ".", ".", EAST]),
        (Loss.SENT_AWAY, [E, E, E, GONE, E, E, E], [".", ".", ".", ".", ".", ".", EAST]),
        (Loss.SENT_AWAY, [E, E, E, FAILED, FAILED, E], [".", ".", ".", ".", ".", EAST]),
        (Loss.SENT_AWAY, [FAILED] * 30 + [FAILED], ["."] * 30 + [EAST]),
        (Loss.SENT_AWAY, [GONE] * 30 + [GONE], ["."] * 30 + [EAST]),
        # The region does not take us back: another target is gone to at once.
        (Loss.DOWN, [E], [EAST]),
        (Loss.DOWN, [W], [WEST]),
        (Loss.DOWN, [FAILED], [EAST]),
    ],
)
def test_decisions(loss: Loss, answers: list[Answer], expected: list[str]) -> None:
    """Each loss with these answers, one a second, leads to exactly these decisions."""
    assert places(decide(loss, *answers)) == expected


def test_a_failed_query_is_never_a_switch() -> None:
    """Failed queries and missing names, however many, lead back to where we were, and the reason says so."""
    for answer in (FAILED, GONE):
        [decision] = decide(Loss.BLIP, answer)
        assert decision.target == EAST
        assert "that is no switch" in decision.why
        assert answer.detail in decision.why


def test_a_third_target_must_settle() -> None:
    """After a blip, answers that flap between two targets which are both new do not count for one another."""
    south = Answer(Kind.TARGET, "south.example")
    decisions = decide(Loss.BLIP, W, south, W, south, south, south)
    assert places(decisions) == [".", ".", ".", ".", ".", "south.example"]
    assert decisions[3].why == f"the name leads to south.example now, not to {EAST}: 1 of 3 answers"


def test_flapping_ends_at_the_bound() -> None:
    """Answers that never settle hold us for `bound` seconds, then we go on with the last one, and say so."""
    south = Answer(Kind.TARGET, "south.example")
    decisions = decide(Loss.BLIP, *[W, south] * 20)
    assert places(decisions)[:31] == ["."] * 30 + [WEST]
    assert decisions[30].why.startswith("not settled after 30.0 s, going on; the name leads to west.example now")


def test_the_bound_prefers_what_is_not_the_old_region() -> None:
    """When it was sent away and the wait is longer than the bound, the old region is gone back to only for want of another."""
    settings = Settings(wait=100, bound=2)
    assert places(decide(Loss.SENT_AWAY, E, E, E, settings=settings)) == [".", ".", EAST]
    assert places(decide(Loss.SENT_AWAY, FAILED, GONE, GONE, settings=settings)) == [".", ".", EAST]


def test_without_a_known_target_it_waits_as_people_do() -> None:
    """Sent away from a place whose target is not known: the wait and the answers, since nothing can be compared."""
    decisions = decide(Loss.SENT_AWAY, *[W] * 6, used="")
    assert places(decisions) == [".", ".", ".", ".", ".", WEST]
    assert decisions[0].why == "the region sent us away, the name leads to west.example now: 1 of 3 answers, 0.0 of 5 s"


@given(
    st.sampled_from(Loss),
    st.sampled_from(["", EAST]),
    st.lists(st.sampled_from([E, W, GONE, FAILED]), min_size=1, max_size=60),
    st.builds(Settings, answers=st.integers(1, 5), wait=st.sampled_from([0.0, 5.0, 99.0]), bound=st.floats(0, 40)),
)
def test_it_always_ends_and_never_invents(loss: Loss, used: str, answers: list[Answer], settings: Settings) -> None:
    """It goes on at the bound at the latest, and only to a target that was named or to the one that it came from."""
    decisions = decide(loss, *answers, used=used, settings=settings)
    named = {"", used}
    for second, (answer, decision) in enumerate(zip(answers, decisions, strict=True)):
        named.add(answer.target)
        assert decision.goes or second < settings.bound
        assert decision.target in named
        assert decision.why
