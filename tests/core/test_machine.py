"""The machine by example: the literal effects of its main transitions, and its table, state by event."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from switchgear import effects as do
from switchgear import events as ev
from switchgear.backoff import BETWEEN, Exponential, Fleet, GiveUpAfter, Outage
from switchgear.cause import Cause, Failure
from switchgear.endpoint import Endpoint, SessionKind
from switchgear.errors import InternalError
from switchgear.health import QUARANTINE, STRIKE_GAP
from switchgear.hookspecs import Delay, GiveUp, Proceed, Recheck, Restart
from switchgear.machine import Machine
from switchgear.machine_settings import MachineSettings
from switchgear.states import TRANSITIONS, State

if TYPE_CHECKING:
    from collections.abc import Iterable

A, B, C = (Endpoint("mqtt", name, 1883, group="pair") for name in "abc")
REFUSED = Failure(Cause.PORT_REFUSED)
LOST = Failure(Cause.CONNECTION_LOST)
DENIED = Failure(Cause.NOT_AUTHORIZED)
T = ev.Timer


class Steady:
    """A policy of one second."""

    connects_per_second = None

    def next_sweep(self, outage: Outage, now: float, rng: random.Random) -> float:
        return now if outage.is_startup and outage.sweeps == 0 else now + 1


def make(*endpoints: Endpoint, **settings: Any) -> Machine:
    settings = {"backoff": Steady(), "keep_order": {"pair": True}, "stable_after": 10.0, **settings}
    return Machine(MachineSettings(**settings), random.Random(1), endpoints or (A,))


def quiet(effects: Iterable[do.Effect]) -> list[do.Effect]:
    """The effects that do something."""
    return [effect for effect in effects if not isinstance(effect, do.Emit)]


def told(effects: Iterable[do.Effect], name: str) -> list[dict[str, object]]:
    """The facts of the events called *name*."""
    return [dict(effect.facts) for effect in effects if isinstance(effect, do.Emit) and effect.name == name]


def select(machine: Machine, now: float = 0.0, endpoint: Endpoint | None = None) -> list[do.Effect]:
    return machine.handle(ev.EndpointSelected(machine.ask, endpoint), now)


def dialling(*endpoints: Endpoint, **settings: Any) -> Machine:
    """A machine whose first attempt is being dialled."""
    machine = make(*endpoints, **settings)
    machine.handle(ev.StartRequested(), 0.0)
    select(machine)
    return machine


def connect(machine: Machine, now: float = 0.0, *, present: bool = False) -> list[do.Effect]:
    """Carry the current attempt to CONNECTED; the effects of the last step."""
    generation = machine.generation
    machine.handle(ev.DialSucceeded(generation), now)
    machine.handle(ev.ConnectSucceeded(generation, present), now)
    return machine.handle(ev.SessionRestored(generation), now)


def connected(*endpoints: Endpoint, **settings: Any) -> Machine:
    machine = dialling(*endpoints, **settings)
    connect(machine)
    return machine


def lose(machine: Machine, now: float = 5.0) -> list[do.Effect]:
    return machine.handle(ev.ConnectionLost(machine.generation, LOST), now)


def proceed(machine: Machine, now: float) -> list[do.Effect]:
    return machine.handle(ev.VerdictGiven(machine.ask, Proceed()), now)


def fail(machine: Machine, now: float, failure: Failure = REFUSED) -> list[do.Effect]:
    return machine.handle(ev.AttemptFailed(machine.generation, failure), now)


# The way up. ---------------------------------------------------------------------------------------------------------


def test_from_start_to_usable() -> None:
    """A start asks, dials, connects, restores and opens the gate, each step with exactly these effects."""
    machine = make(A, B)
    assert quiet(machine.handle(ev.StartRequested(), 7.0)) == [do.AskSelection(1, (A, B))]
    assert quiet(select(machine, 7.0)) == [do.SetTimer(T.AHEAD, 7.3), do.Dial(1, A)]
    assert quiet(machine.handle(ev.DialSucceeded(1), 7.1)) == [do.SendConnect(1, A, clean_start=False)]
    assert quiet(machine.handle(ev.ConnectSucceeded(1, session_present=True), 7.2)) == [
        do.ClearTimer(T.AHEAD),
        do.RestoreSession(1, session_present=True),
    ]
    effects = machine.handle(ev.SessionRestored(1), 7.25)
    assert quiet(effects) == [
        do.SetTimer(T.STABLE, 17.25),
        do.OpenGate(1),
        do.ReportConnected(1, session_present=True),
    ]
    assert told(effects, "connected") == [
        {"endpoint": str(A), "outage": 0.25, "session_present": True, "generation": 1}
    ]
    assert (machine.state, machine.last_failure, machine.outage_since) == (State.CONNECTED, None, None)


def test_next_endpoint_of_the_sweep() -> None:
    """A failed attempt is reported once, and the next endpoint follows a moment later, without a question of whether."""
    machine = dialling(A, B)
    effects = quiet(fail(machine, 1.0))
    assert effects[:2] == [
        do.ReportDisconnect(1, A, REFUSED, was_connected=False),
        do.ClearTimer(T.AHEAD),
    ]
    [timer] = effects[2:]
    assert isinstance(timer, do.SetTimer)
    assert 1.0 <= timer.at <= 1.0 + BETWEEN
    assert quiet(machine.handle(ev.TimerFired(T.RETRY), timer.at)) == [do.AskSelection(2, (B,))]


def test_failed_sweep_backs_off() -> None:
    """When every endpoint has failed the plugins are asked, then the policy says when the next sweep starts."""
    machine = dialling()
    assert quiet(fail(machine, 1.0))[-1] == do.AskVerdict(2)
    effects = proceed(machine, 1.5)
    assert quiet(effects) == [do.SetTimer(T.RETRY, 2.5)]
    assert told(effects, "reconnect_scheduled") == [{"delay": 1.0, "why": "back-off", "attempt": 2}]
    assert quiet(machine.handle(ev.TimerFired(T.RETRY), 2.5)) == [do.AskSelection(3, (A,))]


def test_loss_reports_then_asks() -> None:
    """A lost connection is reported as one that was usable before the plugins are asked whether to go on."""
    machine = connected()
    effects = lose(machine)
    assert quiet(effects) == [
        do.ReportDisconnect(1, A, LOST, was_connected=True),
        do.ClearTimer(T.STABLE),
        do.AskVerdict(2),
    ]
    assert told(effects, "connection_lost") == [
        {"endpoint": str(A), "connected": 5.0, "failure": str(LOST), "generation": 1}
    ]
    assert (machine.state, machine.last_failure, machine.outage(8.0)) == (State.DECIDING, LOST, 3.0)


def test_loss_while_restoring_is_a_failed_attempt() -> None:
    """A connection lost before its subscriptions were back was never usable: a failed attempt, with no new outage."""
    machine = dialling(A, B)
    machine.handle(ev.DialSucceeded(1), 1.0)
    machine.handle(ev.ConnectSucceeded(1, session_present=False), 1.0)
    effects = lose(machine, 2.0)
    assert do.ReportDisconnect(1, A, LOST, was_connected=False) in effects
    assert (machine.state, machine.outage(2.0)) == (State.WAITING, 2.0)


def test_loss_in_the_same_read_as_connack() -> None:
    """A connection that ended before its CONNACK was heard of is a failed attempt."""
    machine = dialling(A, B)
    machine.handle(ev.DialSucceeded(1), 1.0)
    assert do.ReportDisconnect(1, A, LOST, was_connected=False) in lose(machine, 1.0)
    assert machine.state is State.WAITING


# Two dials. ----------------------------------------------------------------------------------------------------------


def ahead() -> Machine:
    """A machine that dials A and, since A is slow, B."""
    machine = dialling(A, B)
    assert quiet(machine.handle(ev.TimerFired(T.AHEAD), 0.3)) == [do.AskSelection(2, (B,))]
    effects = select(machine, 0.3)
    assert quiet(effects) == [do.Dial(2, B)]
    assert told(effects, "dial_ahead") == [{"endpoint": str(A), "ahead": str(B)}]
    return machine


def test_the_quicker_dial_wins() -> None:
    """The second dial that answers first takes over: the first is closed and reported as superseded, then CONNECT."""
    machine = ahead()
    superseded = Failure(Cause.SUPERSEDED, f"{B} answered sooner")
    assert quiet(machine.handle(ev.DialSucceeded(2), 0.5)) == [
        do.Close(1),
        do.ReportDisconnect(1, A, superseded, was_connected=False),
        do.SetTimer(T.AHEAD, 0.8),
        do.SendConnect(2, B, clean_start=False),
    ]
    assert machine.handle(ev.DialSucceeded(1), 0.6) == []


def test_one_connect_at_a_time() -> None:
    """While one CONNECT is outstanding a second dial that succeeds waits; it goes on when the first fails."""
    machine = ahead()
    assert quiet(machine.handle(ev.DialSucceeded(1), 0.5)) == [do.SendConnect(1, A, clean_start=False)]
    assert quiet(machine.handle(ev.DialSucceeded(2), 0.6)) == []
    assert quiet(machine.handle(ev.AttemptFailed(1, REFUSED), 0.7)) == [
        do.ReportDisconnect(1, A, REFUSED, was_connected=False),
        do.SetTimer(T.AHEAD, 1.0),
        do.SendConnect(2, B, clean_start=False),
    ]


def test_connack_ends_the_other_dial() -> None:
    """CONNACK closes and reports the second dial, and nothing is held against its endpoint."""
    machine = ahead()
    machine.handle(ev.DialSucceeded(1), 0.5)
    superseded = Failure(Cause.SUPERSEDED, f"{A} answered sooner")
    assert quiet(machine.handle(ev.ConnectSucceeded(1, session_present=False), 0.6)) == [
        do.Close(2),
        do.ReportDisconnect(2, B, superseded, was_connected=False),
        do.RestoreSession(1, session_present=False),
    ]
    assert machine.health.look(B.key).failures == 0


def test_question_outlives_its_attempt() -> None:
    """A question for a second endpoint becomes the one for the next when the first attempt fails meanwhile."""
    machine = dialling(A, B)
    machine.handle(ev.TimerFired(T.AHEAD), 0.3)
    fail(machine, 0.4)
    assert machine.state is State.SELECTING
    assert do.Dial(2, B) in select(machine, 0.5)


# Plugins. ------------------------------------------------------------------------------------------------------------


def test_plugin_prefers_an_endpoint() -> None:
    """An endpoint that a plugin chose is dialled, as the list has it: not with the plugin's own credentials."""
    machine = make(A, B)
    machine.handle(ev.StartRequested(), 0.0)
    effects = machine.handle(ev.EndpointSelected(1, Endpoint("mqtt", "b", 1883, username="mallory"), "mine"), 0.0)
    [dial] = [effect for effect in effects if isinstance(effect, do.Dial)]
    assert dial.endpoint is B
    assert told(effects, "endpoint_selected") == [{"endpoint": str(B), "why": "plugin 'mine'"}]


def test_plugin_without_opinion_or_with_nonsense() -> None:
    """Without an opinion, or with an endpoint that was not offered, the first of those offered is dialled."""
    for answer in (None, C):
        machine = make(A, B, keep_order={})
        [ask] = quiet(machine.handle(ev.StartRequested(), 0.0))
        assert isinstance(ask, do.AskSelection)
        effects = select(machine, 0.0, answer)
        assert do.Dial(1, ask.candidates[0]) in effects
        assert told(effects, "endpoint_selected")[0]["why"] == "first in order"


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Proceed(), [do.SetTimer(T.RETRY, 7.0)]),
        (Delay(30, "DNS"), [do.SetTimer(T.RETRY, 35.0)]),
        (Delay(0.5, "DNS"), [do.SetTimer(T.RETRY, 7.0)]),
        (Recheck(4, "asking"), [do.SetTimer(T.RETRY, 10.0)]),
        (Recheck(0, "asking"), [do.SetTimer(T.RETRY, 6.05)]),
        (Restart("rebuild", "wedged"), [do.RestartDriver("rebuild", "wedged"), do.SetTimer(T.RETRY, 7.0)]),
        (GiveUp("moved"), [do.FailWaiters(LOST, "plugin 'p' said so: moved", is_final=True)]),
    ],
)
def test_verdicts(verdict: Any, expected: list[do.Effect]) -> None:
    """A verdict given at 6 for a loss at 5 has these effects: Delay counts from the loss, Recheck from the answer.

    A plugin that wants to be asked again at once is asked in 50 ms, not in an endless loop.
    """
    machine = connected()
    lose(machine, 5.0)
    assert quiet(machine.handle(ev.VerdictGiven(machine.ask, verdict, "p"), 6.0)) == expected


def test_plugin_gives_an_address() -> None:
    """A candidate with another address is dialled there, and from then on the list, health and sessions know it so."""
    machine = make(A, B)
    machine.handle(ev.StartRequested(), 0.0)
    west = evolve(B, address="west.example", username="mallory")
    effects = machine.handle(ev.EndpointSelected(1, west, "dns"), 0.0)
    there = evolve(B, address="west.example")
    assert do.Dial(1, there) in effects
    assert told(effects, "endpoint_selected")[0]["why"] == "plugin 'dns'; dialled at west.example"
    assert machine.endpoints == (A, there)
    assert machine.candidates(0.0) == [A]
    fail(machine, 1.0, DENIED)
    assert machine.health.look(there.key).failures == 1
    assert machine.health.look(B.key).failures == 0


def test_another_address_is_another_session() -> None:
    """Where a plugin gives the only endpoint of a hunt group another address, the CONNECT there starts clean."""
    machine = dialling(A, sessions={"pair": SessionKind.HUNT})
    connect(machine)
    for address, is_clean in (("west", True), ("west", False), ("east", True)):
        lose(machine)
        proceed(machine, 5.0)
        machine.handle(ev.TimerFired(T.RETRY), 6.0)
        machine.handle(ev.EndpointSelected(machine.ask, evolve(A, address=address), "dns"), 6.0)
        effects = machine.handle(ev.DialSucceeded(machine.generation), 6.0)
        assert effects == [do.SendConnect(machine.generation, evolve(A, address=address), clean_start=is_clean)]
        machine.handle(ev.ConnectSucceeded(machine.generation, session_present=False), 6.0)
        machine.handle(ev.SessionRestored(machine.generation), 6.0)


def lost_for_long() -> Machine:
    """A machine that has waited for a sweep for 100 s; the policy's delay grows with the outage."""
    machine = connected(backoff=Exponential())
    lose(machine, 0.0)
    proceed(machine, 0.0)
    machine.handle(ev.TimerFired(T.RETRY), 0.1)
    select(machine, 0.1)
    fail(machine, 100.0)
    return machine


def test_asked_again_while_the_sweep_is_awaited() -> None:
    """A plugin that wants to be asked while a sweep is awaited is asked, and the time of the sweep stays; told once."""
    machine = lost_for_long()
    effects = machine.handle(ev.VerdictGiven(machine.ask, Proceed("same", ask_again=2), "dns"), 100.0)
    assert do.SetTimer(T.RETRY, 102.0) in effects
    [plan] = told(effects, "reconnect_scheduled")
    assert plan["why"] == "back-off; plugin 'dns': same"
    at = 100.0 + float(str(plan["delay"]))
    now = 100.0
    while now + 2 < at:
        now += 2
        assert quiet(machine.handle(ev.TimerFired(T.RETRY), now))[-1] == do.AskVerdict(machine.ask)
        effects = machine.handle(ev.VerdictGiven(machine.ask, Proceed("same", ask_again=2), "dns"), now)
        assert told(effects, "reconnect_scheduled") == []
    assert do.SetTimer(T.RETRY, at) in effects
    assert isinstance(quiet(machine.handle(ev.TimerFired(T.RETRY), at))[-1], do.AskSelection)


def test_starting_afresh() -> None:
    """When a plugin says that what failed is not what is there now, quarantines are lifted and back-off counts anew."""
    machine = lost_for_long()
    machine.handle(ev.VerdictGiven(machine.ask, Proceed("same", ask_again=2), "dns"), 100.0)
    machine.health.failed(A.key, DENIED, 100.0 - STRIKE_GAP)
    assert machine.health.failed(A.key, DENIED, 101.0)
    machine.handle(ev.TimerFired(T.RETRY), 102.0)
    effects = machine.handle(ev.VerdictGiven(machine.ask, Proceed("west", starts_afresh=True), "dns"), 102.0)
    [timer] = [effect for effect in effects if isinstance(effect, do.SetTimer)]
    assert 102.025 <= timer.at <= 102.05


def test_delay_at_clock_zero() -> None:
    """A Delay counts from the loss on a clock that showed 0 then, too."""
    machine = connected()
    lose(machine, 0.0)
    effects = machine.handle(ev.VerdictGiven(machine.ask, Delay(30), "p"), 20.0)
    assert do.SetTimer(T.RETRY, 30.0) in effects


def test_delay_of_a_fleet() -> None:
    """Clients of a fleet that are all told the same Delay come back spread over the fleet's period, none too early."""
    policy = Fleet(clients=1000, rate=50)
    times = []
    for seed in range(200):
        machine = Machine(MachineSettings(backoff=policy), random.Random(seed), (A,))
        machine.handle(ev.StartRequested(), 0.0)
        machine.handle(ev.TimerFired(T.RETRY), 50.0)  # at the start, too, a fleet comes one after the other
        select(machine, 50.0)
        connect(machine, 50.0)
        lose(machine, 90.0)
        effects = machine.handle(ev.VerdictGiven(machine.ask, Delay(30), "p"), 90.0)
        times += [effect.at for effect in effects if isinstance(effect, do.SetTimer)]
    assert len(times) == 200
    assert 120.0 <= min(times) < max(times) <= 120.0 + policy.period
    seconds = [int(at) for at in times]
    assert max(map(seconds.count, seconds)) <= 4 * 200 / policy.period


def test_recheck_asks_again_without_a_step() -> None:
    """Recheck asks the plugins again when its time has come, and uses no sweep."""
    machine = connected()
    lose(machine, 5.0)
    machine.handle(ev.VerdictGiven(machine.ask, Recheck(4), "p"), 6.0)
    assert quiet(machine.handle(ev.TimerFired(T.RETRY), 10.0)) == [do.AskVerdict(3)]
    assert machine.sweeps_failed == 0


# Ends. ---------------------------------------------------------------------------------------------------------------


def test_stop_while_connected() -> None:
    """Stopping closes politely, reports the end, and leaves no timer."""
    machine = connected()
    assert quiet(machine.handle(ev.StopRequested(), 5.0)) == [
        do.Close(1, politely=True),
        do.ReportDisconnect(1, A, Failure(Cause.STOPPED), was_connected=True),
        do.ClearTimer(T.STABLE),
    ]
    assert (machine.state, machine.timers, machine.outage(9.0)) == (State.STOPPED, {}, 0.0)


def test_loss_during_shutdown() -> None:
    """A connection lost during shutdown is not reported as an outage."""
    machine = connected()
    machine.handle(ev.StopRequested(), 5.0)
    assert machine.handle(ev.ConnectionLost(1, LOST), 5.1) == []
    assert machine.state is State.STOPPED


def test_stop_ends_both_dials() -> None:
    """Stopping drops two dials and reports both."""
    machine = ahead()
    stopped = Failure(Cause.STOPPED)
    assert quiet(machine.handle(ev.StopRequested(), 1.0)) == [
        do.Close(2),
        do.ReportDisconnect(2, B, stopped, was_connected=False),
        do.Close(1),
        do.ReportDisconnect(1, A, stopped, was_connected=False),
    ]


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (GiveUpAfter(attempts=2), "after 2 attempts"),
        (GiveUpAfter(sweeps=1), "after 1 sweep of all endpoints"),
        (GiveUpAfter(seconds=2.5), "after 2.5 seconds without a connection"),
    ],
)
def test_giving_up(limit: GiveUpAfter, why: str) -> None:
    """Each limit ends the trying with one final FailWaiters that names it and the last failure."""
    machine = dialling(A, B, give_up_after=limit)
    ends: list[do.Effect] = []
    now = 0.0
    for _ in range(10):
        now += 1.0
        match machine.state:
            case State.CONNECTING:
                ends = fail(machine, now)
            case State.WAITING:
                now = machine.timers[T.RETRY]
                ends = machine.handle(ev.TimerFired(T.RETRY), now)
            case State.SELECTING:
                ends = select(machine, now)
            case State.DECIDING:
                ends = proceed(machine, now)
            case _:
                break
    assert machine.state is State.GAVE_UP
    assert quiet(ends)[-1] == do.FailWaiters(REFUSED, why, is_final=True)
    assert told(ends, "gave_up") == [{"why": why, "failure": str(REFUSED)}]


def test_time_limit_cuts_a_wait() -> None:
    """A wait ends at the time limit, and then it gives up, not later."""
    machine = dialling(give_up_after=GiveUpAfter(seconds=3.0))
    fail(machine, 2.5)
    assert quiet(proceed(machine, 2.5)) == [do.SetTimer(T.RETRY, 3.0)]
    assert quiet(machine.handle(ev.TimerFired(T.RETRY), 3.0))[-1] == do.FailWaiters(
        REFUSED, "after 3 seconds without a connection", is_final=True
    )


def test_limits_of_a_start() -> None:
    """The limits of a start count until the first usable connection, and never again."""
    limits = {"give_up_after": GiveUpAfter(sweeps=2), "startup_give_up_after": GiveUpAfter(sweeps=1)}
    machine = dialling(**limits)
    fail(machine, 1.0)
    assert machine.state is State.GAVE_UP
    machine = connected(**limits)
    lose(machine)
    proceed(machine, 5.0)
    machine.handle(ev.TimerFired(T.RETRY), 6.0)
    select(machine, 6.0)
    fail(machine, 6.0)
    assert machine.state is State.DECIDING


def test_reconnect_while_connected() -> None:
    """Asking for a reconnect closes politely, reports it as asked for, and starts a sweep without a wait."""
    machine = connected(A, B)
    failure = Failure(Cause.REQUESTED, "planned")
    assert quiet(machine.handle(ev.ReconnectRequested("planned"), 5.0)) == [
        do.Close(1, politely=True),
        do.ReportDisconnect(1, A, failure, was_connected=True),
        do.AskSelection(2, (A, B)),
        do.ClearTimer(T.STABLE),
    ]


def test_reconnect_after_giving_up() -> None:
    """A reconnect after giving up starts a sweep at once, with all limits counted afresh."""
    machine = dialling(give_up_after=GiveUpAfter(attempts=1))
    fail(machine, 1.0)
    assert quiet(machine.handle(ev.ReconnectRequested(), 50.0)) == [do.AskSelection(2, (A,))]
    assert (machine.attempts, machine.outage(51.0)) == (0, 1.0)


# Quarantine. ---------------------------------------------------------------------------------------------------------


def quarantined(**settings: Any) -> tuple[Machine, list[do.Effect], float]:
    """A machine whose only endpoint has been quarantined, the effects of the last decision, and the time."""
    machine = dialling(**settings)
    fail(machine, 0.0, DENIED)
    proceed(machine, 0.0)
    now = STRIKE_GAP
    machine.handle(ev.TimerFired(T.RETRY), now)
    select(machine, now)
    effects = fail(machine, now, DENIED)
    if machine.state is State.DECIDING:
        effects = proceed(machine, now)
    return machine, effects, now


def test_all_quarantined() -> None:
    """With every endpoint quarantined the waiting calls are told the cause, and trying goes on when the first returns."""
    machine, effects, now = quarantined()
    assert quiet(effects) == [
        do.FailWaiters(DENIED, "every endpoint is quarantined", is_final=False),
        do.SetTimer(T.RETRY, now + QUARANTINE),
    ]
    assert machine.state is State.WAITING


def test_timer_early_by_the_clocks_resolution() -> None:
    """A timer that fires a nanosecond early still finds the quarantine over that it waited for."""
    machine, _, now = quarantined()
    assert quiet(machine.handle(ev.TimerFired(T.RETRY), now + QUARANTINE - 1e-9)) == [
        do.AskSelection(machine.ask, (A,))
    ]


def test_give_up_on_fatal() -> None:
    """With give_up_on_fatal a quarantine of every endpoint is final."""
    machine, effects, _ = quarantined(give_up_on_fatal=True)
    why = "every endpoint refuses for a reason that trying again does not mend"
    assert quiet(effects)[-1] == do.FailWaiters(DENIED, why, is_final=True)
    assert machine.state is State.GAVE_UP


@pytest.mark.parametrize("limit", [None, 20.0])
def test_new_list_lifts_quarantine(limit: float | None) -> None:
    """A changed list is tried after the back-off, not after the quarantine, nor given up at the limit."""
    machine, _, now = quarantined(give_up_after=GiveUpAfter(seconds=limit))
    effects = machine.handle(ev.EndpointsChanged((B,)), now)
    assert do.SetTimer(T.RETRY, now + 1) in effects
    assert quiet(machine.handle(ev.TimerFired(T.RETRY), now + 1)) == [do.AskSelection(machine.ask, (B,))]


# Sessions. -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "elsewhere", "is_clean"),
    [
        (SessionKind.SHARED, True, False),
        (SessionKind.SHARED, False, False),
        (SessionKind.HUNT, True, True),
        (SessionKind.HUNT, False, False),
        (SessionKind.CLEAN, True, True),
        (SessionKind.CLEAN, False, True),
    ],
)
def test_clean_start(kind: SessionKind, elsewhere: bool, is_clean: bool) -> None:  # noqa: FBT001 - a table
    """After a loss the session is resumed, but for `hunt` elsewhere than where it is, and for `clean` always."""
    machine = connected(A, B, sessions={"pair": kind})
    lose(machine)
    proceed(machine, 5.0)
    machine.handle(ev.TimerFired(T.RETRY), 6.0)
    endpoint = B if elsewhere else A
    select(machine, 6.0, endpoint)
    effects = machine.handle(ev.DialSucceeded(2), 6.0)
    assert do.SendConnect(2, endpoint, is_clean) in effects


# Stability. ----------------------------------------------------------------------------------------------------------


def test_stable_needs_age_and_health() -> None:
    """Back-off is reset once the connection is old enough and has proved its health, in either order, and only once."""
    for order in ([T.STABLE, None, None], [None, T.STABLE, None]):
        machine = connected()
        machine.flaps = 2
        events = [ev.TimerFired(each) if each else ev.HealthProved(1) for each in order]
        stable = [len(told(machine.handle(event, 10.0), "stable")) for event in events]
        assert stable == [0, 1, 0]
        assert machine.flaps == 0


def test_flapping_is_told_at_each_doubling() -> None:
    """Connections that are lost before they are stable raise FLAPPING at the third, and then at each doubling only."""
    machine = connected(backoff=Exponential())
    heard, now = [], 0.0
    for loss in range(1, 40):
        effects = lose(machine, now)
        heard += [loss] if told(effects, "flapping") else []
        proceed(machine, now)
        now = machine.timers[T.RETRY]
        machine.handle(ev.TimerFired(T.RETRY), now)
        select(machine, now)
        connect(machine, now)
    assert heard == [3, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("cause", "hint"),
    [
        (Cause.CLOSED_BY_BROKER, "is another client using this client id?"),
        (Cause.CONNECTION_LOST, "is another client using this client id?"),
        (Cause.KEEPALIVE_TIMEOUT, Failure(Cause.KEEPALIVE_TIMEOUT).advice),
        (Cause.SHUTTING_DOWN, Failure(Cause.SHUTTING_DOWN).advice),
    ],
)
def test_flapping_suspects_the_client_id_where_it_may_be(cause: Cause, hint: str) -> None:
    """Whoever is called at night is not sent after a second client where the broker hangs or is shut down."""
    machine = connected()
    machine.flaps = 2
    effects = machine.handle(ev.ConnectionLost(machine.generation, Failure(cause)), 5.0)
    (flapping,) = told(effects, "flapping")
    assert flapping["hint"] == hint


# The table. ----------------------------------------------------------------------------------------------------------


def in_state(state: State) -> Machine:
    """A machine in *state*, by the shortest way."""
    machine = make(A, B)
    if state is State.STOPPED:
        return machine
    machine.handle(ev.StartRequested(), 0.0)
    if state is State.SELECTING:
        return machine
    select(machine)
    if state is State.CONNECTING:
        return machine
    if state is State.WAITING:
        fail(machine, 0.0)
        return machine
    machine.handle(ev.DialSucceeded(1), 0.0)
    machine.handle(ev.ConnectSucceeded(1, session_present=False), 0.0)
    if state is State.RESTORING:
        return machine
    machine.handle(ev.SessionRestored(1), 0.0)
    if state is State.CONNECTED:
        return machine
    lose(machine)
    if state is State.DECIDING:
        return machine
    machine.handle(ev.VerdictGiven(machine.ask, GiveUp()), 5.0)
    return machine


def fresh(kind: type, machine: Machine) -> ev.Event:
    """An event of *kind* that belongs to what *machine* is doing now."""
    generation = machine.generation
    events: list[ev.Event] = [
        ev.StartRequested(),
        ev.StopRequested(),
        ev.ReconnectRequested(),
        ev.TimerFired(next(iter(machine.timers), T.RETRY)),
        ev.VerdictGiven(machine.ask, Proceed()),
        ev.EndpointSelected(machine.ask, None),
        ev.DialSucceeded(generation),
        ev.AttemptFailed(generation, REFUSED),
        ev.ConnectSucceeded(generation, session_present=False),
        ev.SessionRestored(generation),
        ev.ConnectionLost(generation, LOST),
        ev.HealthProved(generation),
        ev.EndpointsChanged((C,)),
        ev.EndpointProved(B.key),
        ev.CredentialsChanged(),
    ]
    return next(event for event in events if type(event) is kind)


KINDS = sorted({kind for row in TRANSITIONS.values() for kind in row}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", KINDS)
def test_table(state: State, kind: type) -> None:
    """Every event in every state leads where the table says, is stale, or raises an error that names both."""
    machine = in_state(state)
    assert machine.state is state
    if kind is ev.ConnectSucceeded and state is State.CONNECTING:
        machine.handle(ev.DialSucceeded(1), 0.0)
    event = fresh(kind, machine)
    timers = dict(machine.timers)
    if (
        (isinstance(event, ev.TimerFired) and not timers)
        or (isinstance(event, ev.VerdictGiven | ev.EndpointSelected) and not machine.asking)
        or (getattr(event, "generation", None) is not None and machine.current is None)
    ):
        assert machine.handle(event, 5.0) == []
        assert machine.state is state
    elif kind in TRANSITIONS[state]:
        machine.handle(event, 5.0)
        assert machine.state in TRANSITIONS[state][kind]
    else:
        with pytest.raises(InternalError, match=f"{kind.__name__} cannot happen in {state.name}"):
            machine.handle(event, 5.0)
        assert machine.state is state


def test_early_answer_is_impossible() -> None:
    """CONNACK for a dial that has not succeeded, and a second success of one dial, are refused by name."""
    machine = dialling()
    with pytest.raises(InternalError, match="ConnectSucceeded cannot happen in CONNECTING: the attempt is dialling"):
        machine.handle(ev.ConnectSucceeded(1, session_present=False), 0.0)
    machine.handle(ev.DialSucceeded(1), 0.0)
    with pytest.raises(InternalError, match="DialSucceeded cannot happen in CONNECTING: the attempt is handshaking"):
        machine.handle(ev.DialSucceeded(1), 0.0)
