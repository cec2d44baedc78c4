from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from attrs import define, evolve, field
from rich.console import Console
from switchgear import AsyncTransport, GiveUpAfter, Profile, SubscriptionRefused, SwitchgearError
from switchgear.testing import Broker, InlineRunner, MemoryNetwork, Store, run_virtual
from switchgear_activemq.amazon_mq import drill_screen
from switchgear_activemq.amazon_mq.aws import AwsRefused, AwsUnavailable
from switchgear_activemq.amazon_mq.drill import Drill, DrillPlan, NothingArrives
from switchgear_activemq.amazon_mq.targets import AmazonBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WHERE = "failover:(tcp://a:1883,tcp://b:1883)"


@define
class PairTarget:
    """An embedded pair: the strike kills the active broker, and the other one takes over *down* seconds later."""

    old: Broker
    new: Broker
    down: float = 1.5
    comes_back: bool = True
    deed: str = "killed a"
    whole: asyncio.Event = field(factory=asyncio.Event)

    async def strike(self) -> None:
        if not self.down:
            return
        await self.old.kill()
        await asyncio.sleep(self.down)
        if self.comes_back:
            await self.new.promote()
        self.whole.set()

    async def wait_back(self) -> None:
        await self.whole.wait()


def plan(**changes: object) -> DrillPlan:
    profile = Profile.of(WHERE, username="u")
    made = DrillPlan(publisher=profile, subscriber=profile, topic="drill", rate=20, settle=5, timeout=120)
    return evolve(made, **changes)  # type: ignore[arg-type]  # a test's shorthand


def connected_by(network: MemoryNetwork) -> Callable[[Profile], AsyncTransport]:
    """Makes transports without threads: the clock would not wait for one that hears of an outage."""
    return lambda profile: AsyncTransport(profile, make_driver=network.make_driver, runner=InlineRunner())


def perform(
    *,
    authorize: Callable[[str | None, str, str], bool] | None = None,
    ending_after: float | None = None,
    target: Mapping[str, object] | None = None,
    **changes: object,
) -> tuple[Drill, list[str]]:
    """A drill on an embedded pair in virtual time, and the sessions that are left on the store."""

    async def main() -> tuple[Drill, list[str]]:
        store = Store()
        a = Broker(name="a", store=store, authorize=authorize)
        b = Broker(name="b", store=store, authorize=authorize, standby=True)
        network = MemoryNetwork({"a:1883": a, "b:1883": b})
        async with a, b:
            aim = PairTarget(a, b, **(target or {}))  # type: ignore[arg-type]  # a test's shorthand
            drill = Drill(plan(**changes), aim, connected_by(network))
            ending = asyncio.Event()
            if ending_after is not None:
                asyncio.get_running_loop().call_later(ending_after, ending.set)
            await drill.perform(ending)
            return drill, sorted(store.sessions)

    return run_virtual(main())


def test_nothing_is_lost() -> None:
    """A drill on a pair that keeps its store loses nothing, tells the outages of both sides, and leaves no session."""
    drill, sessions = perform()
    assert drill.went_well
    facts = drill.facts()
    assert (facts["lost"], facts["duplicates"], facts["unfinished"], facts["deed"]) == (0, 0, None, "killed a")
    assert facts["accepted"] == facts["arrived"]
    assert drill.ledger.published > 5 * 20
    for side in drill.sides:
        told = facts[side.name]
        assert isinstance(told, dict)
        (outage,) = told["outages"]
        assert 0 <= outage["lost_s"] < 0.1
        assert 1.5 <= outage["back_s"] < 5
        assert told["seconds_without_connection"] == pytest.approx(outage["back_s"] - outage["lost_s"], abs=0.002)
    assert sessions == []


def test_what_is_lost_is_told() -> None:
    """Messages that the new broker does not have are counted as lost, and the drill did not go well."""
    drill, _ = perform(authorize=Forgetful())
    assert drill.ledger.lost == 3
    assert drill.why_unfinished is None
    assert not drill.went_well


class Forgetful:
    """Lets everything pass but three publishes, which it acknowledges and drops, as ActiveMQ's map does."""

    def __init__(self) -> None:
        self.published = 0

    def __call__(self, _user: str | None, action: str, _topic: str) -> bool:
        self.published += action == "publish"
        return action != "publish" or self.published not in {10, 11, 12}


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ({"down": 0.0}, "the subscriber kept its connection within 120 s, so nothing was tried"),
        ({"comes_back": False}, "the subscriber had no connection again within 120 s"),
    ],
)
def test_what_did_not_happen(target: dict[str, object], why: str) -> None:
    """A drill whose clients are never disconnected, or never come back, ends at its timeout and says which."""
    drill, _ = perform(target=target)
    assert drill.why_unfinished == why
    assert not drill.went_well


def test_a_broker_that_is_never_whole() -> None:
    """Connections that are back do not end the drill while the broker has not all its parts again."""

    class Half(PairTarget):
        async def wait_back(self) -> None:
            await asyncio.Event().wait()

    drill = _with(Half)
    assert drill.why_unfinished == "the broker was not whole again within 120 s"


def test_an_error_after_the_strike_keeps_the_ledger() -> None:
    """When AWS says no after the strike, the messages are still counted, and the drill says why it is unfinished."""

    class Refusing(PairTarget):
        async def wait_back(self) -> None:
            raise AwsRefused("the token is expired")

    drill = _with(Refusing)
    assert drill.why_unfinished == "the token is expired"
    assert drill.ledger.lost == 0
    assert all(side.back_at is not None for side in drill.sides)


def test_a_refused_strike() -> None:
    """When the strike itself is refused there is no drill: the error is told, and the sessions are removed."""

    class Forbidden(PairTarget):
        async def strike(self) -> None:
            raise AwsRefused("not allowed")

    with pytest.raises(AwsRefused, match="not allowed"):
        _with(Forbidden)


def test_a_publisher_that_gives_up() -> None:
    """A publisher that gives up after the strike ends the drill at once, with its reason."""
    profile = Profile.of(WHERE, username="u", give_up_after=GiveUpAfter(seconds=3))
    drill, _ = perform(publisher=profile, target={"comes_back": False, "down": 1.0})
    assert drill.why_unfinished is not None
    assert "gave up" in drill.why_unfinished
    assert drill.elapsed < 100


def _with(kind: type[PairTarget]) -> Drill:
    async def main() -> Drill:
        store = Store()
        a, b = Broker(name="a", store=store), Broker(name="b", store=store, standby=True)
        network = MemoryNetwork({"a:1883": a, "b:1883": b})
        async with a, b:
            drill = Drill(plan(), kind(a, b), connected_by(network))
            await drill.perform(asyncio.Event())
            return drill

    return run_virtual(main())


@pytest.mark.parametrize(("after", "why"), [(0.5, "it was stopped before the strike"), (3.0, "it was interrupted")])
def test_interrupted(after: float, why: str) -> None:
    """Ctrl-C before or after the strike ends the drill in order: nothing is struck late, the last messages arrive."""
    drill, sessions = perform(ending_after=after)
    assert drill.why_unfinished == why
    assert (drill.struck_at is None) == (after < 2)
    assert drill.ledger.lost == 0
    assert sessions == []


def test_a_forbidden_subscription() -> None:
    """A subscriber without the right to read ends the drill before anything is struck."""
    with pytest.raises(SubscriptionRefused):
        perform(authorize=lambda _user, action, _topic: action != "subscribe")


def test_a_forbidden_publish() -> None:
    """When nothing arrives before the strike, the drill says so and strikes nothing: it would prove nothing."""
    with pytest.raises(NothingArrives, match=r"nothing arrived on 'drill' within 60 s of \d+ messages; check that"):
        perform(authorize=lambda _user, action, _topic: action != "publish")


def test_nobody_answers() -> None:
    """Without a first connection the drill ends with the last error, in a bounded time, and leaves nothing running."""

    async def main() -> None:
        network = MemoryNetwork({"a:1883": Broker(standby=True), "b:1883": Broker(standby=True)})
        target = PairTarget(Broker(), Broker())
        await Drill(plan(), target, connected_by(network)).perform(asyncio.Event())

    with pytest.raises(SwitchgearError, match="refused"):
        run_virtual(main())


class Api:
    """Amazon MQ's answers, one after another."""

    region = "eu-west-1"

    def __init__(self, answers: Sequence[str | Exception]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.rebooted: list[str] = []

    def describe_broker(self, _broker_id: str) -> dict[str, str]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"BrokerState": answer}

    def reboot_broker(self, broker_id: str) -> None:
        self.rebooted.append(broker_id)


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        (["RUNNING", "REBOOT_IN_PROGRESS", AwsUnavailable("no answer"), "REBOOT_IN_PROGRESS", "RUNNING"], 5),
        (["RUNNING"], 12),  # so quick that nobody saw it: believed after a minute
    ],
)
def test_a_reboot_is_over(answers: list[str | Exception], asked: int) -> None:
    """A rebooted broker is back when Amazon MQ calls it RUNNING again, and not before the reboot has begun."""
    api = Api(answers)

    async def main() -> None:
        target = AmazonBroker(api, "b-1")  # type: ignore[arg-type]  # a fake
        await target.strike()
        await target.wait_back()
        assert target.deed == "rebooted b-1 in eu-west-1"

    run_virtual(main())
    assert api.rebooted == ["b-1"]
    assert api.asked == asked


def test_display_and_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    """The display can be drawn at any moment, and the ledger at the end names what was lost and why it is unfinished."""
    profile = Profile.of(WHERE)
    made = DrillPlan(publisher=profile, subscriber=profile, topic="t", rate=1, settle=1, timeout=1)
    drill = Drill(made, PairTarget(Broker(), Broker()))
    console = Console(width=120)
    with console.capture() as captured:
        console.print(drill_screen.render(drill))
    assert "connecting" in captured.get()
    drill.ledger.accept()
    drill.ledger.accepted()
    drill_screen.print_ledger(drill)
    out = capsys.readouterr().out
    assert "killed a" in out
    assert "1 message(s) were LOST." in out
    assert "The drill did not finish: it was stopped before the strike." in out


def test_what_a_broker_says_does_not_control_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An escape sequence in what a broker or AWS said reaches the terminal, on the display or at the end."""
    profile = Profile.of(WHERE)
    made = DrillPlan(publisher=profile, subscriber=profile, topic="t", rate=1, settle=1, timeout=1)
    drill = Drill(made, PairTarget(Broker(), Broker()))
    drill.log.append("it said \x1b]0;owned\x07")
    drill.why_unfinished = "AWS said \x1b[2J"
    console = Console(width=120)
    with console.capture() as captured:
        console.print(drill_screen.render(drill))
    assert r"it said \x1b]0;owned\x07" in captured.get()
    drill_screen.print_ledger(drill)
    assert r"did not finish: AWS said \x1b[2J." in capsys.readouterr().out
