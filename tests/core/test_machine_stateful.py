"""The machine against an environment that may do anything, with the invariants of docs/reference/states.md after each step.

The environment carries out effects only on paper. What it believes to be open (generations, timers, questions) is
its own book-keeping, made from effects alone, and compared with the machine's.
"""

from __future__ import annotations

import importlib.util
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from switchgear import effects as do
from switchgear import events as ev
from switchgear.backoff import BETWEEN, FLAPS, SMALLEST_DELAY, Backoff, Exponential, Fleet, GiveUpAfter, Listed
from switchgear.cause import Cause, Failure
from switchgear.endpoint import Endpoint, SessionKind
from switchgear.errors import InternalError
from switchgear.health import LONGEST_QUARANTINE
from switchgear.hookspecs import Delay, GiveUp, Proceed, Recheck, Restart, Verdict
from switchgear.machine import Machine
from switchgear.machine_settings import MachineSettings
from switchgear.secrets import Secret
from switchgear.states import TRANSITIONS, State

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "states.md"

POOL = [
    Endpoint("mqtt", f"b{n}", 1883, priority=n % 2, group=("pair", "hunt", "clean")[n % 3], password=Secret(f"p{n}"))
    for n in range(5)
]
FOREIGN = Endpoint("mqtt", "elsewhere", 1883)
LISTS = st.lists(st.sampled_from(POOL), unique=True, max_size=4).map(tuple)
FAILURES = st.sampled_from(
    [
        Failure(Cause.CONNECTION_LOST),
        Failure(Cause.PORT_REFUSED),
        Failure(Cause.BROKER_BUSY),
        Failure(Cause.NOT_AUTHORIZED),
        Failure(Cause.CERTIFICATE_EXPIRED),
    ]
)
SECONDS = st.one_of(
    st.sampled_from([0.0, 1e-9, 0.01, 0.3, 3.0, 10.0, 59.0, 60.0, 4000.0, 86400.0, 1e9]), st.floats(0, 100)
)
VERDICTS: st.SearchStrategy[Verdict] = st.one_of(
    st.just(Proceed()),
    st.just(Proceed()),
    st.builds(Proceed, st.just("so"), ask_again=st.none() | st.floats(0, 100), starts_afresh=st.booleans()),
    st.floats(0, 100).map(lambda s: Delay(s, "wait")),
    st.floats(0, 100).map(lambda s: Recheck(s, "again")),
    st.just(Restart("rebuild", "wedged")),
    st.just(GiveUp("no")),
)
LIMITS = st.builds(
    GiveUpAfter,
    attempts=st.sampled_from([None, None, None, None, 0, 2, 5]),
    sweeps=st.sampled_from([None, None, None, None, 0, 1, 4]),
    seconds=st.sampled_from([None, None, None, None, 0.0, 1.0, 30.0]),
)
POLICIES: st.SearchStrategy[Backoff] = st.sampled_from(
    [
        Exponential(),
        Exponential(0.05),
        Fleet(1, 50),
        Fleet(1000, 10),
        Listed(),
        Listed(0.0, 0.0, 1.0),
    ]
)

OPEN_PHASES = {"dialling", "dialled", "connecting", "restoring", "usable"}


@attrs.define
class Book:
    """One generation, as the environment sees it."""

    endpoint: Endpoint
    phase: str = "dialling"
    reports: int = 0


class MachineStates(RuleBasedStateMachine):
    """Rules: what brokers, plugins, time and the user do. Invariants: those of the states page, in its order."""

    @initialize(
        backoff=POLICIES,
        limits=LIMITS,
        startup=st.one_of(st.none(), LIMITS),
        fatal=st.booleans(),
        ahead=st.sampled_from([True, True, False]),
        endpoints=LISTS.filter(lambda endpoints: len(endpoints) > 1),
        keep=st.booleans(),
        seed=st.integers(0, 1000),
        now=st.sampled_from([0.0, 1000.0, 1e9]),
    )
    def begin(
        self,
        *,
        backoff: Backoff,
        limits: GiveUpAfter,
        startup: GiveUpAfter | None,
        fatal: bool,
        ahead: bool,
        endpoints: tuple[Endpoint, ...],
        keep: bool,
        seed: int,
        now: float,
    ) -> None:
        self.settings = MachineSettings(
            backoff=backoff,
            give_up_after=limits,
            startup_give_up_after=startup,
            give_up_on_fatal=fatal,
            dials_ahead=ahead,
            sessions={"pair": SessionKind.SHARED, "hunt": SessionKind.HUNT, "clean": SessionKind.CLEAN},
            keep_order={"pair": keep},
        )
        self.machine = Machine(self.settings, random.Random(seed), endpoints)
        self.now = now
        self.books: dict[int, Book] = {}
        self.timers: dict[ev.Timer, float] = {}
        self.open_ask: do.AskVerdict | do.AskSelection | None = None
        self.old: list[ev.Event] = []
        self.swept: set[str] = set()
        self.broken: list[str] = []  # what the effects themselves did wrong
        self.broken_sweeps: list[str] = []
        self.broken_waits: list[str] = []
        self.gates: Counter[int] = Counter()
        self.has_ended = False
        self.is_final = False  # a final FailWaiters came and nothing was begun since
        self.begun = 0  # attempts since the last usable connection or the last start
        self.user_starts()

    # The environment: effects on paper. --------------------------------------------------------------------------

    def feed(self, event: ev.Event) -> list[do.Effect]:
        machine = self.machine
        before, sweep, failed = machine.state, machine.sweep, machine.sweeps_failed
        is_new = before in {State.STOPPED, State.GAVE_UP, State.CONNECTED}
        effects = self.machine.handle(event, self.now)
        self.old.append(event)
        bounds = 0.0, BETWEEN  # when nothing is announced, it is the moment between two endpoints
        for effect in effects:
            if isinstance(effect, do.Emit) and effect.name == "reconnect_scheduled":
                bounds = self.bounds(str(effect.facts["why"]))
            elif isinstance(effect, do.Emit) and effect.name == "recheck_scheduled":
                bounds = (float(str(effect.facts["delay"])),) * 2
            self.carry_out(effect)
        if isinstance(event, ev.VerdictGiven) and isinstance(event.verdict, Proceed):
            bounds = self.while_asked(event.verdict, bounds, effects)
        if self.machine.state is not State.GAVE_UP:
            self.is_final = False
        elif before is not State.GAVE_UP and not self.is_final:
            self.broken.append("GAVE_UP without a final FailWaiters")
        if machine.sweep != sweep or is_new:  # nothing is dialled before its first question is answered
            self.swept = set()
        if machine.sweeps_failed > failed:
            self.check_whole_sweep()
        if do.SetTimer in map(type, effects) and self.state is State.WAITING:
            self.check_wait(bounds)
        return effects

    def limit(self) -> GiveUpAfter:
        startup = self.settings.startup_give_up_after
        return startup if startup is not None and not self.machine.ever_connected else self.settings.give_up_after

    def check_wait(self, bounds: tuple[float, float]) -> None:
        """The wait that has just been set lies in its bounds and ends at the time limit."""
        assert self.machine.outage_since is not None
        seconds, at = self.limit().seconds, self.timers[ev.Timer.RETRY]
        end = float("inf") if seconds is None else self.machine.outage_since + seconds
        fuzz = max(1e-6, abs(at) * 1e-12)
        shortest, longest = (self.now + delay for delay in bounds)
        is_right = min(shortest, end) - fuzz <= at <= min(longest, end) + fuzz
        if not is_right:
            self.broken_waits.append(f"waits until {at}, not {shortest} to {longest}, {end} at most")

    def bounds(self, why: str) -> tuple[float, float]:
        """The shortest and longest delay that *why* allows."""
        if why == "every endpoint is quarantined":
            return 0.0, max(LONGEST_QUARANTINE, self.policy_bounds()[1], 86400)
        if why.startswith("plugin"):
            return 0.0, 100.0
        assert why in {"back-off", "back-off; plugin 'p': so"}, why
        return self.policy_bounds()

    def while_asked(
        self, verdict: Proceed, bounds: tuple[float, float], effects: list[do.Effect]
    ) -> tuple[float, float]:
        """The bounds of a wait in which a plugin may be asked: that sweep was announced before, or is now."""
        is_announced = any(isinstance(e, do.Emit) and e.name == "reconnect_scheduled" for e in effects)
        shortest, longest = bounds if is_announced else (0.0, self.bounds("every endpoint is quarantined")[1])
        return (
            shortest if verdict.ask_again is None else min(shortest, max(SMALLEST_DELAY, verdict.ask_again))
        ), longest

    def policy_bounds(self) -> tuple[float, float]:
        policy = self.settings.backoff
        if isinstance(policy, Exponential):
            return 0.025, policy.cap
        if isinstance(policy, Listed):
            return 0.0, policy.cap
        assert isinstance(policy, Fleet)
        return 0.0, policy.period if self.machine.flaps < FLAPS else max(policy.period, 30.0)

    def check_whole_sweep(self) -> None:
        missed = [
            e.key
            for e in self.machine.endpoints
            if e.key not in self.swept and not self.machine.health.is_quarantined(e.key, self.now)
        ]
        if missed:
            self.broken_sweeps.append(f"a sweep failed without {missed}")

    def carry_out(self, effect: do.Effect) -> None:  # one branch for each effect
        match effect:
            case do.SetTimer(timer, at):
                self.timers[timer] = at
            case do.ClearTimer(timer):
                self.need(self.timers.pop(timer, None) is not None, f"{timer} cleared, but it did not run")
            case do.AskVerdict():
                self.open_ask = effect
            case do.AskSelection(_, candidates):
                self.open_ask = effect
                offered = {e.key for e in candidates}
                self.need(bool(offered), "nothing offered")
                self.need(offered <= {e.key for e in self.machine.endpoints}, "offered what is not in the list")
            case do.Dial(generation, endpoint):
                self.need(generation > max(self.books, default=0), "generations must grow")
                self.need(any(endpoint is e for e in self.machine.endpoints), f"dialled {endpoint!r}: not in the list")
                if endpoint.key in self.swept:
                    self.broken_sweeps.append(f"{endpoint} twice in one sweep")
                self.books[generation] = Book(endpoint)
                self.swept.add(endpoint.key)
                self.begun += 1
            case do.SendConnect(generation, endpoint):
                book = self.books[generation]
                self.need(book.phase == "dialled" and book.endpoint is endpoint, f"CONNECT on {book}")
                book.phase = "connecting"
            case do.RestoreSession(generation):
                self.need(self.books[generation].phase == "restoring", "restore before CONNACK")
            case do.OpenGate(generation):
                self.gates[generation] += 1
                self.need(self.books[generation].phase == "usable", "gate opened too soon")
                self.begun = 0
            case do.Close(generation):
                self.need(self.books[generation].phase in OPEN_PHASES, f"closed twice: {self.books[generation]}")
                self.books[generation].phase = "ended"
            case do.ReportDisconnect(generation, endpoint):
                self.books[generation].reports += 1
                self.need(self.books[generation].phase == "ended", "reported while it was open")
                self.need(self.books[generation].endpoint is endpoint, "reported another endpoint")
                self.has_ended = True
            case do.RestartDriver():
                self.need(not self.open_books(), "driver replaced under an open generation")
            case do.FailWaiters(_, _, is_final):
                self.is_final |= is_final
            case do.Emit("attempt_started", facts) | do.Emit("endpoint_selected", facts):
                self.need("endpoint" in facts, "no endpoint")
            case _:
                pass

    def need(self, is_right: bool, what: str) -> None:  # noqa: FBT001 - reads like assert
        if not is_right:
            self.broken.append(what)

    def open_books(self, *phases: str) -> dict[int, Book]:
        wanted = set(phases) or OPEN_PHASES
        return {generation: book for generation, book in self.books.items() if book.phase in wanted}

    # Rules. ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.machine.state

    @rule()
    @precondition(lambda self: self.state in {State.STOPPED, State.GAVE_UP})
    def user_starts(self) -> None:
        self.begun = 0
        self.feed(ev.StartRequested())

    @rule()
    @precondition(lambda self: len(self.old) % 8 == 7)  # seldom
    def user_stops(self) -> None:
        self.feed(ev.StopRequested())

    @rule()
    @precondition(lambda self: self.state is not State.STOPPED and len(self.old) % 4 == 1)
    def user_reconnects(self) -> None:
        if self.state not in {State.SELECTING, State.CONNECTING}:
            self.begun = 0
        self.feed(ev.ReconnectRequested("the user says so"))

    @rule(endpoints=LISTS)
    @precondition(lambda self: len(self.old) % 4 == 3)
    def list_changes(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.feed(ev.EndpointsChanged(endpoints))

    @rule(is_planned=st.booleans())
    @precondition(lambda self: self.state is State.CONNECTED and len(self.old) % 4 == 2)
    def move_is_made(self, *, is_planned: bool) -> None:
        for endpoint in self.machine.endpoints[1:]:
            self.feed(ev.EndpointProved(endpoint.key))
        self.begun = 0
        self.feed(ev.ReconnectRequested("fail-back", is_planned=is_planned))

    @rule()
    @precondition(lambda self: self.state is not State.STOPPED and len(self.old) % 4 == 0)
    def credentials_change(self) -> None:
        self.feed(ev.CredentialsChanged())

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), early=st.sampled_from([0.0, 0.0, 1e-9]))
    @precondition(lambda self: self.timers)
    def timer_fires(self, data: Any, early: float) -> None:
        timer = data.draw(st.sampled_from(sorted(self.timers, key=lambda each: each.value)))
        self.timers[timer] -= early
        self.timer_goes_off(timer)

    @rule(verdict=VERDICTS)
    @precondition(lambda self: isinstance(self.open_ask, do.AskVerdict))
    def plugin_answers_verdict(self, verdict: Verdict) -> None:
        assert self.open_ask is not None
        ask, self.open_ask = self.open_ask.ask, None
        self.feed(ev.VerdictGiven(ask, verdict, "p"))

    @rule(
        choice=st.one_of(st.none(), st.none(), st.sampled_from([*POOL, FOREIGN])),
        copied=st.booleans(),
        address=st.sampled_from(["", "", "192.0.2.9", "west.example"]),
    )
    @precondition(lambda self: isinstance(self.open_ask, do.AskSelection))
    def plugin_answers_endpoint(self, choice: Endpoint | None, *, copied: bool, address: str) -> None:
        assert self.open_ask is not None
        ask, self.open_ask = self.open_ask.ask, None
        if choice is not None and copied:
            choice = attrs.evolve(choice, username="mallory", group="clean")
        if choice is not None and address:
            choice = attrs.evolve(choice, address=address)
        self.feed(ev.EndpointSelected(ask, choice, "p"))

    def pick(self, data: Any, *phases: str) -> int:
        return int(data.draw(st.sampled_from(sorted(self.open_books(*phases)))))

    @rule(data=st.data())
    @precondition(lambda self: self.open_books("dialling"))
    def broker_accepts_dial(self, data: Any) -> None:
        generation = self.pick(data, "dialling")
        self.books[generation].phase = "dialled"
        self.feed(ev.DialSucceeded(generation))

    @rule(data=st.data(), failure=FAILURES)
    @precondition(lambda self: self.open_books("dialling", "connecting"))
    def broker_refuses(self, data: Any, failure: Failure) -> None:
        generation = self.pick(data, "dialling", "connecting")
        self.books[generation].phase = "ended"
        self.feed(ev.AttemptFailed(generation, failure))

    @rule(data=st.data(), present=st.booleans())
    @precondition(lambda self: self.open_books("connecting"))
    def broker_sends_connack(self, data: Any, *, present: bool) -> None:
        generation = self.pick(data, "connecting")
        self.books[generation].phase = "restoring"
        self.feed(ev.ConnectSucceeded(generation, present))

    @rule(data=st.data())
    @precondition(lambda self: self.open_books("restoring"))
    def session_is_restored(self, data: Any) -> None:
        generation = self.pick(data, "restoring")
        self.books[generation].phase = "usable"
        self.feed(ev.SessionRestored(generation))

    @rule(data=st.data(), failure=FAILURES)
    @precondition(lambda self: self.open_books("connecting", "restoring", "usable"))
    def broker_drops(self, data: Any, failure: Failure) -> None:
        generation = self.pick(data, "connecting", "restoring", "usable")
        self.books[generation].phase = "ended"
        self.feed(ev.ConnectionLost(generation, failure))

    @rule(data=st.data())
    @precondition(lambda self: self.open_books("restoring", "usable"))
    def broker_proves_health(self, data: Any) -> None:
        self.feed(ev.HealthProved(self.pick(data, "restoring", "usable")))

    def agree(self) -> None:
        """Plugins have no opinion, and waiting ends."""
        if ev.Timer.RETRY in self.timers:
            self.timer_goes_off(ev.Timer.RETRY)
        if isinstance(self.open_ask, do.AskVerdict) and self.machine.asking:
            self.feed(ev.VerdictGiven(self.open_ask.ask, Proceed()))
        if isinstance(self.open_ask, do.AskSelection) and self.machine.asking:
            self.feed(ev.EndpointSelected(self.open_ask.ask, None))

    def timer_goes_off(self, timer: ev.Timer) -> None:
        self.now = max(self.now, self.timers.pop(timer))
        self.feed(ev.TimerFired(timer))

    def move_on(self) -> None:
        """To an attempt that has just begun, where that is possible."""
        for _ in range(3):
            if self.state in {State.WAITING, State.DECIDING, State.SELECTING}:
                self.agree()

    @rule(failure=FAILURES)
    @precondition(lambda self: self.state in {State.WAITING, State.DECIDING, State.SELECTING})
    def sweep_goes_on(self, failure: Failure) -> None:
        """A shortcut to late sweeps."""
        self.move_on()
        for generation, book in self.open_books("dialling").items():
            book.phase = "ended"
            self.feed(ev.AttemptFailed(generation, failure))

    @rule(is_dialled=st.booleans(), is_answered=st.booleans())
    @precondition(
        lambda self: self.settings.dials_ahead and not self.open_books("restoring", "usable") and self.open_ask
    )
    def broker_is_slow(self, *, is_dialled: bool, is_answered: bool) -> None:
        """A shortcut to a second dial beside one that is slow, or beside a CONNECT."""
        self.move_on()
        for generation in list(self.open_books("dialling"))[: int(is_dialled)]:
            self.books[generation].phase = "dialled"
            self.feed(ev.DialSucceeded(generation))
        if ev.Timer.AHEAD in self.timers:
            self.timer_goes_off(ev.Timer.AHEAD)
            if is_answered:
                self.agree()

    @rule(steps=st.integers(1, 4))
    @precondition(lambda self: self.state not in {State.STOPPED, State.GAVE_UP, State.CONNECTED})
    def all_goes_well(self, steps: int) -> None:
        """A shortcut to a usable connection."""
        ways: list[tuple[str, str, type]] = [
            ("dialling", "dialled", ev.DialSucceeded),
            ("connecting", "restoring", ev.ConnectSucceeded),
            ("restoring", "usable", ev.SessionRestored),
        ]
        self.move_on()
        for old, new, event in ways[:steps]:
            for generation in list(self.open_books(old))[:1]:
                self.books[generation].phase = new
                self.feed(event(generation, True) if event is ev.ConnectSucceeded else event(generation))

    @rule(data=st.data())
    @precondition(lambda self: self.old)
    def stale_event_comes(self, data: Any) -> None:
        """What belongs to an ended generation, an answered question or a cleared timer changes nothing."""
        event = data.draw(st.sampled_from(self.old[-30:]))
        match event:
            case ev.VerdictGiven(ask) | ev.EndpointSelected(ask):
                is_stale = self.open_ask is None or self.open_ask.ask != ask
            case ev.TimerFired(timer):
                is_stale = timer not in self.timers
            case (
                ev.StartRequested()
                | ev.StopRequested()
                | ev.ReconnectRequested()
                | ev.EndpointsChanged()
                | ev.EndpointProved()
                | ev.CredentialsChanged()
            ):
                is_stale = False
            case _:
                is_stale = event.generation not in self.open_books()
        if is_stale:
            before = attrs.asdict(self.machine, recurse=False)
            assert self.machine.handle(event, self.now) == []
            assert attrs.asdict(self.machine, recurse=False) == before

    @rule(data=st.data())
    def impossible_event_comes(self, data: Any) -> None:
        """What the table does not list raises, names state and event, and changes nothing."""
        events: list[ev.Event] = [ev.StartRequested(), ev.StopRequested(), ev.ReconnectRequested()]
        for generation in self.open_books():
            events += [
                ev.DialSucceeded(generation),
                ev.ConnectSucceeded(generation, session_present=False),
                ev.SessionRestored(generation),
                ev.ConnectionLost(generation, Failure(Cause.CONNECTION_LOST)),
                ev.HealthProved(generation),
            ]
        impossible = [
            event
            for event in events
            if type(event) not in TRANSITIONS[self.state]
            or (isinstance(event, ev.DialSucceeded) and self.books[event.generation].phase != "dialling")
            or (isinstance(event, ev.ConnectSucceeded) and self.books[event.generation].phase != "connecting")
        ]
        if impossible:
            event = data.draw(st.sampled_from(impossible))
            before = attrs.asdict(self.machine, recurse=False)
            with pytest.raises(InternalError, match=f"^{type(event).__name__} cannot happen in {self.state.name}"):
                self.machine.handle(event, self.now)
            assert attrs.asdict(self.machine, recurse=False) == before

    # Invariants, in the order and the words of docs/reference/states.md. -----------------------------------------

    @invariant()
    def one_connection(self) -> None:
        """At most one connection exists or is asked for: one CONNECT outstanding, or one session, never two."""
        assert len(self.open_books("connecting", "restoring", "usable")) <= 1

    @invariant()
    def two_generations(self) -> None:
        """At most two generations are open, the second of them in CONNECTING only, where it only dials."""
        assert len(self.open_books()) <= (2 if self.state is State.CONNECTING else 1)

    @invariant()
    def current_where_it_belongs(self) -> None:
        """A generation is open exactly in CONNECTING, RESTORING and CONNECTED."""
        assert bool(self.open_books()) == (self.state in {State.CONNECTING, State.RESTORING, State.CONNECTED})

    @invariant()
    def usable_in_connected(self) -> None:
        """A usable connection exists exactly in CONNECTED, and its gate was opened exactly once."""
        assert bool(self.open_books("usable")) == (self.state is State.CONNECTED)
        assert all(self.gates[generation] == 1 for generation in self.open_books("usable"))

    @invariant()
    def retry_in_waiting(self) -> None:
        """The timer RETRY runs exactly in WAITING."""
        assert (ev.Timer.RETRY in self.timers) == (self.state is State.WAITING)

    @invariant()
    def other_timers(self) -> None:
        """The timer AHEAD runs at most in CONNECTING, the timer STABLE at most in CONNECTED."""
        assert ev.Timer.AHEAD not in self.timers or self.state is State.CONNECTING
        assert ev.Timer.STABLE not in self.timers or self.state is State.CONNECTED

    @invariant()
    def question_where_it_belongs(self) -> None:
        """A question is open in DECIDING and SELECTING, at times in CONNECTING, and nowhere else."""
        if self.state in {State.DECIDING, State.SELECTING}:
            assert self.machine.asking
        elif self.state is not State.CONNECTING:
            assert not self.machine.asking
        if self.machine.asking:
            assert self.open_ask is not None
            assert self.open_ask.ask == self.machine.ask
            assert isinstance(self.open_ask, do.AskVerdict) == (self.state is State.DECIDING)

    @invariant()
    def one_report(self) -> None:
        """Each generation that was dialled is reported exactly once when it has ended, and not before."""
        for book in self.books.values():
            assert book.reports == (book.phase == "ended")

    @invariant()
    def stopped_is_silent(self) -> None:
        """In STOPPED and GAVE_UP nothing is pending: no timer, no open generation, no open question."""
        if self.state in {State.STOPPED, State.GAVE_UP}:
            assert not self.timers
            assert not self.open_books()
            assert not self.machine.asking

    @invariant()
    def gave_up_is_told(self) -> None:
        """GAVE_UP is entered only together with a final FailWaiters, and a final FailWaiters leads nowhere else."""
        assert self.is_final == (self.state is State.GAVE_UP)

    @invariant()
    def reason_is_known(self) -> None:
        """Once something has ended, why there is no connection is known in every state; in CONNECTED it is forgotten."""
        if self.state is State.CONNECTED:
            assert self.machine.last_failure is None
        elif self.has_ended:
            assert self.machine.last_failure is not None
            assert self.machine.last_endpoint is not None

    @invariant()
    def outage_is_timed(self) -> None:
        """The outage has a beginning in every state but STOPPED and CONNECTED."""
        assert (self.machine.outage_since is None) == (self.state in {State.STOPPED, State.CONNECTED})

    @invariant()
    def list_is_kept_to(self) -> None:
        """Only endpoints of the list are offered and dialled, with the list's own credentials; each generation goes its way once."""
        assert self.broken == []

    @invariant()
    def sweeps_are_whole(self) -> None:
        """A sweep dials each endpoint at most once, and fails only when none is left that is not quarantined."""
        assert self.broken_sweeps == []

    @invariant()
    def waits_are_bounded(self) -> None:
        """Every wait lies within the bounds of its reason (policy, plugin or quarantine) and ends at the time limit."""
        assert self.broken_waits == []

    @invariant()
    def attempts_are_limited(self) -> None:
        """No attempt is begun beyond the limit of attempts; the first after a start always is."""
        limit = self.limit().attempts
        assert limit is None or self.begun <= max(1, limit)

    @invariant()
    def books_agree(self) -> None:
        """What the machine believes to be running is what its effects have asked for: timers and generations."""
        assert self.machine.timers == self.timers
        open_ones = {a.generation for a in (self.machine.current, self.machine.ahead) if a is not None}
        assert open_ones == set(self.open_books())


TestMachineStates = MachineStates.TestCase
TestMachineStates.settings = settings(
    max_examples=400,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def invariants() -> list[str]:
    """The first lines of the invariants' docstrings, in order."""
    return [
        str(method.__doc__)
        for method in vars(MachineStates).values()
        if hasattr(method, "hypothesis_stateful_invariant")
    ]


def test_page_is_generated() -> None:
    """Table, diagram and fields of the states page are those that the code makes now."""
    spec = importlib.util.spec_from_file_location("generate_states", PAGE.parents[1] / "generate_states.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    text = PAGE.read_text(encoding="utf-8")
    assert generator.page(text) == text, "run: .venv/bin/python docs/generate_states.py --write"


def test_page_lists_invariants() -> None:
    """The numbered list of the states page is the list of the invariants that are checked here."""
    section = PAGE.read_text(encoding="utf-8").partition("## Invariants")[2].partition("\n## ")[0]
    assert re.findall(r"^\d+\. (.*)$", section, re.MULTILINE) == invariants()
