"""The connection machine: all state of one transport's connection, changed in one method. Sans-IO.

Rules of this file:

1. ``handle(event, now)`` takes an event and the time and returns the effects to carry out. It never carries them out.
2. The state changes in ``_enter`` only, and only as `switchgear.states.TRANSITIONS` allows.
3. Time and randomness come from outside. Nothing here knows sockets, threads, hooks or outboxes.
4. Each connection or attempt has a generation, each question a number; what belongs to an older one is ignored.
5. Exactly one `ReportDisconnect` is returned for each generation that was dialled, when it ends.

The states page of the reference lists the invariants; ``tests/core/test_machine_stateful.py`` checks the same list.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

from attrs import define, evolve, field

from switchgear import effects as do
from switchgear import events as ev
from switchgear.attempt import PHASES, Attempt, Phase
from switchgear.backoff import BETWEEN, FLAPS, SMALLEST_DELAY, Outage
from switchgear.cause import Cause, Failure
from switchgear.endpoint import SessionKind
from switchgear.errors import InternalError
from switchgear.health import Health, ordered
from switchgear.hookspecs import Delay, GiveUp, Proceed, Recheck, Restart
from switchgear.states import TRANSITIONS, State

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from switchgear.backoff import GiveUpAfter
    from switchgear.effects import Effect
    from switchgear.endpoint import Endpoint
    from switchgear.machine_settings import MachineSettings


S = State


class _Wait(enum.Enum):
    """What WAITING waits for."""

    SWEEP = "the next sweep"
    NEXT = "the next endpoint of this sweep"
    RECHECK = "asking the plugins again"


@define
class Machine:
    """One transport's connection. Feed it events, carry out the effects that it returns."""

    settings: MachineSettings
    rng: random.Random
    endpoints: tuple[Endpoint, ...]
    health: Health = field(factory=Health)

    state: State = field(default=S.STOPPED, init=False)
    current: Attempt | None = field(default=None, init=False)
    """The attempt or connection; set in CONNECTING, RESTORING and CONNECTED."""
    ahead: Attempt | None = field(default=None, init=False)
    """A second attempt that only dials; set at most in CONNECTING."""
    ask: int = field(default=0, init=False)
    """Number of the last question."""
    offered: tuple[Endpoint, ...] = field(default=(), init=False)
    """What the last `AskSelection` offered, best first."""
    asking: bool = field(default=False, init=False)
    """Whether it is open; always in DECIDING and SELECTING, at times in CONNECTING, never elsewhere."""
    timers: dict[ev.Timer, float] = field(factory=dict, init=False)
    """RETRY exactly in WAITING; AHEAD at most in CONNECTING; STABLE at most in CONNECTED."""
    generation: int = field(default=0, init=False)
    """Number of the last attempt; 0 before the first."""
    attempts: int = field(default=0, init=False)
    """Tries since the last usable connection."""
    sweep: int = field(default=0, init=False)
    """Rounds begun since the last usable connection."""
    sweeps_failed: int = field(default=0, init=False)
    """Rounds ended without a usable connection since the last one."""
    tried: tuple[str, ...] = field(default=(), init=False)
    """Keys tried in this sweep."""
    outage_since: float | None = field(default=None, init=False)
    """When the last usable connection was lost or trying began; None in STOPPED and CONNECTED."""
    last_failure: Failure | None = field(default=None, init=False)
    """How the last attempt or connection ended; None only before the first ending, and in CONNECTED."""
    last_endpoint: Endpoint | None = field(default=None, init=False)
    """Where that was."""
    ever_connected: bool = field(default=False, init=False)
    """Whether there was a usable connection; then the limits of a start no longer count."""
    flaps: int = field(default=0, init=False)
    """Connections in a row that were lost before they were stable, each got back in its first sweep."""

    _waiting_for: _Wait = field(default=_Wait.SWEEP, init=False)
    _hits_limit: bool = field(default=False, init=False)  # the time limit comes before that
    _phase: float = field(default=0.0, init=False)
    _flapped: float = field(default=0.0, init=False)  # seconds of outage in this run of flaps
    _connected_at: float = field(default=0.0, init=False)
    _was_quick: bool = field(default=True, init=False)  # the present connection came in the first sweep
    _proved: bool = field(default=False, init=False)
    _is_stable: bool = field(default=False, init=False)
    _holder: str | None = field(default=None, init=False)  # who holds our session: a group (shared) or a key (hunt)
    _cleaned: frozenset[str] = field(default=frozenset(), init=False)  # who has had a session since we began
    _session_present: bool = field(default=False, init=False)
    _not_before: float = field(default=0.0, init=False)  # a plugin's Delay
    _not_before_why: str = field(default="", init=False)
    _planned: float | None = field(
        default=None, init=False
    )  # when the next sweep is, while a plugin is asked before it
    _afresh_at: float | None = field(default=None, init=False)  # since when back-off counts, where a plugin said so
    _sweeps_before: int = field(default=0, init=False)  # rounds that had failed by then
    _effects: list[Effect] = field(factory=list, init=False)

    def handle(self, event: ev.Event, now: float) -> list[Effect]:
        """The effects of *event* at *now*.

        Raises:
            InternalError: the event cannot happen in this state; the message names both.
        """
        if self._is_stale(event):
            return []
        allowed = TRANSITIONS[self.state].get(type(event))
        if allowed is None:
            raise InternalError(f"{type(event).__name__} cannot happen in {self.state.name}")
        before = self.state
        self._check_phase(event)
        self._effects = []
        _HANDLERS[type(event)](self, event, now)
        if self.state not in allowed:
            raise InternalError(f"{type(event).__name__} led from {before.name} to {self.state.name}")
        result, self._effects = self._effects, []
        return result

    def outage(self, now: float) -> float:
        """Seconds without a usable connection."""
        return 0.0 if self.outage_since is None else max(0.0, now - self.outage_since)

    def candidates(self, now: float) -> list[Endpoint]:
        """Those that this sweep may still try, best first."""
        return ordered(
            self.endpoints,
            health=self.health,
            now=now,
            rng=self.rng,
            tried=self.tried,
            keep_order=self.settings.keep_order,
        )

    # Small things. -----------------------------------------------------------------------------------------------

    def _is_stale(self, event: ev.Event) -> bool:
        """Whether *event* belongs to a connection, a question or a timer that is over."""
        if isinstance(event, ev.VerdictGiven | ev.EndpointSelected):
            return not self.asking or event.ask != self.ask
        if isinstance(event, ev.TimerFired):
            return event.timer not in self.timers
        generation = getattr(event, "generation", None)
        return generation is not None and self._attempt(generation) is None

    def _check_phase(self, event: ev.Event) -> None:
        """Refuse what the attempt it belongs to cannot have done yet, or has done before."""
        expected = PHASES.get(type(event))
        if expected is None:
            return
        attempt = self._attempt(getattr(event, "generation", 0))
        if attempt is None or attempt.phase not in expected:
            phase = "over" if attempt is None else attempt.phase.value
            raise InternalError(f"{type(event).__name__} cannot happen in {self.state.name}: the attempt is {phase}")

    def _attempt(self, generation: int) -> Attempt | None:
        for attempt in (self.current, self.ahead):
            if attempt is not None and attempt.generation == generation:
                return attempt
        return None

    def _enter(self, state: State) -> None:
        """The only place where the state changes: then what is illegal in the new one is cleared."""
        was, self.state = self.state, state
        if state is not S.WAITING:
            self._clear(ev.Timer.RETRY)
        if state is not S.CONNECTING:
            self._clear(ev.Timer.AHEAD)
        if state is not S.CONNECTED:
            self._clear(ev.Timer.STABLE)
        if state not in {S.DECIDING, S.SELECTING, S.CONNECTING}:
            self.asking = False
        if was is not state:
            self._emit("state_changed", was=was.value, state=state.value)

    def _do(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _emit(self, name: str, **facts: object) -> None:
        self._effects.append(do.Emit(name, facts))

    def _set(self, timer: ev.Timer, at: float) -> None:
        self.timers[timer] = at
        self._do(do.SetTimer(timer, at))

    def _clear(self, timer: ev.Timer) -> None:
        if self.timers.pop(timer, None) is not None:
            self._do(do.ClearTimer(timer))

    def _limits(self) -> GiveUpAfter:
        if not self.ever_connected and self.settings.startup_give_up_after is not None:
            return self.settings.startup_give_up_after
        return self.settings.give_up_after

    # Start, stop, force. -----------------------------------------------------------------------------------------

    def _start(self, _event: ev.StartRequested, now: float) -> None:
        self.flaps = 0
        self._flapped = 0.0
        self._begin_outage(now)
        self._schedule(now)

    def _begin_outage(self, now: float) -> None:
        self.outage_since = now
        self.attempts = self.sweep = self.sweeps_failed = self._sweeps_before = 0
        self._not_before = 0.0
        self._planned = self._afresh_at = None
        if self.flaps == 0:
            self._phase = self.rng.random()

    def _stop(self, _event: ev.StopRequested, _now: float) -> None:
        if self.state is not S.STOPPED:
            self._end_all(Failure(Cause.STOPPED))
            self._enter(S.STOPPED)
            self.outage_since = None
            self._emit("stopped")

    def _end_all(self, failure: Failure) -> None:
        """End whatever is open, at our own wish."""
        for attempt in (self.ahead, self.current):
            if attempt is not None:
                self._do(do.Close(attempt.generation, politely=attempt.phase is Phase.ESTABLISHED))
                self._report(attempt, failure, was_connected=self.state is S.CONNECTED)
        self.current = self.ahead = None

    def _reconnect(self, event: ev.ReconnectRequested, now: float) -> None:
        if not event.is_planned:
            self.health.release()
        if self.state in {S.SELECTING, S.CONNECTING}:
            return  # one is being made: there is nothing quicker
        if self.state in {S.RESTORING, S.CONNECTED}:
            self._end_all(Failure(Cause.REQUESTED, event.why))
        if self.outage_since is None or self.state is S.GAVE_UP:
            self._begin_outage(now)
        self.attempts = self.sweeps_failed = self._sweeps_before = 0  # asked for anew: the limits count anew
        self._start_sweep(now)

    def _proved_elsewhere(self, event: ev.EndpointProved, _now: float) -> None:
        self.health.succeeded(event.key)

    def _credentials_changed(self, _event: ev.CredentialsChanged, now: float) -> None:
        self._release(now, self.endpoints)

    def _release(self, now: float, endpoints: tuple[Endpoint, ...]) -> None:
        """Lift every quarantine; where nothing else was waited for, only the back-off is, and then for *endpoints*."""
        was_empty_handed = self.health.fatal(self.endpoints, now) is not None
        self.endpoints = endpoints
        self.health.release()
        waits = self.state is S.WAITING and (self._waiting_for is _Wait.SWEEP or self._planned is not None)
        if was_empty_handed and waits:
            self._planned = None
            self._schedule(now)

    def _endpoints_changed(self, event: ev.EndpointsChanged, now: float) -> None:
        if event.endpoints == self.endpoints:
            return
        self._emit("endpoints_changed", endpoints=", ".join(str(e) for e in event.endpoints))
        self._release(now, event.endpoints)

    # Deciding when. ----------------------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        """A connection was lost or a sweep failed: stop, or ask the plugins whether to go on."""
        why = self._limits().reached(attempts=self.attempts, sweeps=self.sweeps_failed, seconds=self.outage(now))
        fatal = self.health.fatal(self.endpoints, now) if self.settings.give_up_on_fatal else None
        if why is not None:
            self._give_up(f"after {why}")
        elif fatal is not None:
            self.last_endpoint, self.last_failure = fatal
            self._give_up("every endpoint refuses for a reason that trying again does not mend")
        else:
            self.asking = True
            self.ask += 1
            self._enter(S.DECIDING)
            self._do(do.AskVerdict(self.ask))

    def _verdict(self, event: ev.VerdictGiven, now: float) -> None:
        self.asking = False
        verdict = event.verdict
        if isinstance(verdict, GiveUp):
            self._give_up(f"plugin {event.plugin!r} said so: {verdict.why}")
            return
        if isinstance(verdict, Recheck):
            delay = max(SMALLEST_DELAY, verdict.seconds)  # a plugin that says 0 would be asked without end
            self._emit("recheck_scheduled", delay=delay, why=verdict.why, plugin=event.plugin)
            self._wait(now + delay, _Wait.RECHECK)
            return
        if isinstance(verdict, Restart):
            self._do(do.RestartDriver(verdict.how, verdict.why))
            self._emit("driver_restarted", why=verdict.why, plugin=event.plugin)
        elif isinstance(verdict, Delay):
            self._not_before = (now if self.outage_since is None else self.outage_since) + verdict.seconds
            self._not_before_why = f"plugin {event.plugin!r}: {verdict.why}"
        elif isinstance(verdict, Proceed):
            self._proceed(verdict, event.plugin, now)
            return
        self._planned = None
        self._schedule(now)

    def _proceed(self, verdict: Proceed, plugin: str, now: float) -> None:
        """Go on as the policy says; the time that it said stays when a plugin is asked in the meantime."""
        if verdict.starts_afresh:
            self.health.release()
            self._afresh_at = now
            self._sweeps_before = self.sweeps_failed
            self._planned = None
        why = f"back-off; plugin {plugin!r}: {verdict.why}" if verdict.why else "back-off"
        if self._planned is None:
            self._schedule(now, why, verdict.ask_again)
        else:
            self._await_sweep(self._planned, now, verdict.ask_again)

    def _schedule(self, now: float, reason: str = "back-off", ask_again: float | None = None) -> None:
        """Start the next sweep when the policy, the plugins and the quarantines allow it."""
        outage = Outage(
            self._back_off_since(now) - self._flapped,
            self._phase,
            self.sweeps_failed - self._sweeps_before,
            not self.ever_connected,
            self.flaps,
        )
        policy = self.settings.backoff
        at = policy.next_sweep(outage, now, self.rng)
        if self._not_before > at:
            at, reason = self._not_before, self._not_before_why
            if policy.connects_per_second is not None:  # a fleet is told the same by its plugins: each at its own slot
                at = policy.next_sweep(outage, at, self.rng)
        fatal = self.health.fatal(self.endpoints, now)
        if fatal is not None:
            at, reason = max(at, self.health.first_release(self.endpoints)), "every endpoint is quarantined"
            self._emit("all_quarantined", delay=at - now, failure=str(fatal[1]), endpoint=str(fatal[0]))
            self._do(do.FailWaiters(fatal[1], reason, is_final=False))
        if at > now:
            self._emit("reconnect_scheduled", delay=at - now, why=reason, attempt=self.attempts + 1)
        self._await_sweep(at, now, ask_again)

    def _await_sweep(self, at: float, now: float, ask_again: float | None) -> None:
        """Start the sweep at *at*; when a plugin wants it so, ask it again before."""
        self._planned = None
        if at <= now:
            self._start_sweep(now)
        elif ask_again is not None and (then := now + max(SMALLEST_DELAY, ask_again)) < at:
            self._planned = at
            self._wait(then, _Wait.RECHECK)
        else:
            self._wait(at, _Wait.SWEEP)

    def _back_off_since(self, now: float) -> float:
        """Since when back-off counts: the loss; before the first sweep now, for what a plugin waited is no step of it."""
        if self.outage_since is None or self.sweep == 0:
            return now
        return self.outage_since if self._afresh_at is None else self._afresh_at

    def _wait(self, at: float, purpose: _Wait) -> None:
        """Wait until *at*, but not past the time limit."""
        limit = self._limits().seconds
        self._hits_limit = limit is not None and self.outage_since is not None and at > self.outage_since + limit
        if self._hits_limit:
            assert limit is not None
            assert self.outage_since is not None
            at = self.outage_since + limit
        self._waiting_for = purpose
        self._enter(S.WAITING)
        self._set(ev.Timer.RETRY, at)

    def _timer(self, event: ev.TimerFired, now: float) -> None:
        now = max(now, self.timers.pop(event.timer))  # a loop may be early by the resolution of its clock
        if event.timer is ev.Timer.STABLE:
            self._settle(now)
        elif event.timer is ev.Timer.AHEAD:
            self._dial_ahead(now)
        elif self._hits_limit:
            self._give_up(f"after {self._limits().seconds:g} seconds without a connection")
        elif self._waiting_for is _Wait.SWEEP:
            self._start_sweep(now)
        elif self._waiting_for is _Wait.NEXT:
            self._select(now)
        else:
            self._decide(now)

    def _give_up(self, why: str) -> None:
        self._enter(S.GAVE_UP)
        failure = self.last_failure or Failure(Cause.CONNECTION_LOST, "no attempt was made")
        self._emit("gave_up", why=why, failure=str(failure))
        self._do(do.FailWaiters(failure, why, is_final=True))

    # Going round the endpoints. ----------------------------------------------------------------------------------

    def _start_sweep(self, now: float) -> None:
        self.sweep += 1
        self.tried = ()
        self._not_before = 0.0
        self._planned = None
        self._select(now)

    def _select(self, now: float) -> None:
        """Ask which endpoint is next; with none left the sweep has failed."""
        candidates = self.candidates(now)
        if not candidates:
            self.sweeps_failed += 1
            self._decide(now)
            return
        self._ask_selection(candidates)
        self._enter(S.SELECTING)

    def _ask_selection(self, candidates: list[Endpoint]) -> None:
        self.asking = True
        self.ask += 1
        self.offered = tuple(candidates)
        self._do(do.AskSelection(self.ask, self.offered))

    def _selected(self, event: ev.EndpointSelected, now: float) -> None:
        self.asking = False
        candidates = self.candidates(now)
        if not candidates:  # the list changed meanwhile
            if self.state is S.SELECTING:
                self.sweeps_failed += 1
                self._decide(now)
            return
        # The list's own objects are dialled: a plugin's may have other credentials under the same key.
        possible = {e.key: e for e in reversed(candidates)}
        order = [possible[e.key] for e in self.offered if e.key in possible] or candidates
        wanted = None if event.endpoint is None else possible.get(event.endpoint.key)
        if wanted is None and event.endpoint is not None:
            wanted = self._readdress(event.endpoint, candidates)
        chosen = wanted or order[0]
        why = f"plugin {event.plugin!r}" if wanted and event.plugin else "first in order"
        if wanted and chosen.address:
            why += f"; dialled at {chosen.address}"
        self._emit("endpoint_selected", endpoint=str(chosen), why=why)
        self._dial(chosen, now)

    def _readdress(self, wanted: Endpoint, candidates: list[Endpoint]) -> Endpoint | None:
        """The candidate that *wanted* is but for its address, which it takes over, in the list too; None: there is none."""
        plain = evolve(wanted, address=None).key
        old = next((e for e in candidates if evolve(e, address=None).key == plain), None)
        if old is None:
            return None
        new = evolve(old, address=wanted.address)
        self.endpoints = tuple(new if e is old else e for e in self.endpoints)
        return new

    def _dial(self, endpoint: Endpoint, now: float) -> None:
        self.tried += (endpoint.key,)
        self.generation += 1
        self.attempts += 1
        attempt = Attempt(self.generation, endpoint, self.attempts)
        if self.state is S.CONNECTING:
            assert self.current is not None
            self.ahead = attempt
            self._emit("dial_ahead", endpoint=str(self.current.endpoint), ahead=str(endpoint))
        else:
            self.current = attempt
            self._enter(S.CONNECTING)
            self._set(ev.Timer.AHEAD, now + self.settings.dial_ahead_after)
        self._emit(
            "attempt_started",
            attempt=attempt.number,
            sweep=self.sweep,
            endpoint=str(endpoint),
            generation=attempt.generation,
        )
        self._do(do.Dial(attempt.generation, endpoint))

    def _dial_ahead(self, now: float) -> None:
        """The current attempt is slow: dial another endpoint beside it."""
        if not self.settings.dials_ahead or self.ahead is not None or self.asking:
            return
        limit = self._limits().attempts
        candidates = self.candidates(now)
        if candidates and (limit is None or self.attempts < limit):
            self._ask_selection(candidates)

    def _dialled(self, event: ev.DialSucceeded, now: float) -> None:
        attempt = self._attempt(event.generation)
        assert attempt is not None
        assert self.current is not None
        attempt.phase = Phase.DIALLED
        if attempt is self.ahead:
            if self.current.phase is not Phase.DIALLING:
                return  # the current one waits for CONNACK: only one CONNECT at a time
            loser, self.current, self.ahead = self.current, attempt, None
            self._do(do.Close(loser.generation))
            failure = Failure(Cause.SUPERSEDED, f"{attempt.endpoint} answered sooner")
            self.health.failed(loser.endpoint.key, failure, now)
            self._report(loser, failure, was_connected=False)
            self._set(ev.Timer.AHEAD, now + self.settings.dial_ahead_after)
        self._handshake(self.current)

    def _handshake(self, attempt: Attempt) -> None:
        attempt.phase = Phase.HANDSHAKING
        endpoint = attempt.endpoint
        kind = self.settings.sessions.get(endpoint.group, SessionKind.HUNT)
        is_elsewhere = self._holder is not None and self._holder != endpoint.key
        clean = kind is SessionKind.CLEAN or (kind is SessionKind.HUNT and is_elsewhere)
        clean |= self.settings.starts_clean and self._session_of(endpoint) not in self._cleaned
        self._do(do.SendConnect(attempt.generation, endpoint, clean))

    def _attempt_failed(self, event: ev.AttemptFailed, now: float) -> None:
        attempt = self._attempt(event.generation)
        assert attempt is not None
        self._failed(attempt, event.failure, now)
        if attempt is self.ahead:
            self.ahead = None
            self._set(ev.Timer.AHEAD, now + self.settings.dial_ahead_after)
            return
        self.current = None
        if self.ahead is not None:
            self.current, self.ahead = self.ahead, None
            self._set(ev.Timer.AHEAD, now + self.settings.dial_ahead_after)
            if self.current.phase is Phase.DIALLED:
                self._handshake(self.current)
            return
        if self.asking:
            self._enter(S.SELECTING)  # the question for a second endpoint is now the one for the next
            return
        self._next(now)

    def _failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        """Remember and report that *attempt* ended."""
        key = attempt.endpoint.key
        self._emit("attempt_failed", attempt=attempt.number, endpoint=str(attempt.endpoint), failure=str(failure))
        if self.health.failed(key, failure, now):
            seconds = self.health.look(key).quarantined_until - now
            self._emit("quarantined", endpoint=str(attempt.endpoint), seconds=seconds, failure=str(failure))
        self._report(attempt, failure, was_connected=False)

    def _report(self, attempt: Attempt, failure: Failure, *, was_connected: bool) -> None:
        self.last_failure = failure
        self.last_endpoint = attempt.endpoint
        self._do(do.ReportDisconnect(attempt.generation, attempt.endpoint, failure, was_connected))

    def _next(self, now: float) -> None:
        """Go on to the next endpoint of the sweep, a jittered moment later."""
        limits = self._limits()
        why = limits.reached(attempts=self.attempts, sweeps=-1, seconds=self.outage(now))
        if why is not None:
            self._give_up(f"after {why}")
        elif not self.candidates(now):
            self.sweeps_failed += 1
            self._decide(now)
        else:
            self._wait(now + self.rng.uniform(0, BETWEEN), _Wait.NEXT)

    # The connection. ---------------------------------------------------------------------------------------------

    def _connected(self, event: ev.ConnectSucceeded, _now: float) -> None:
        assert self.current is not None
        if self.ahead is not None:
            self._do(do.Close(self.ahead.generation))
            failure = Failure(Cause.SUPERSEDED, f"{self.current.endpoint} answered sooner")
            self._report(self.ahead, failure, was_connected=False)
            self.ahead = None
        self.current.phase = Phase.ESTABLISHED
        endpoint = self.current.endpoint
        self._holder = self._session_of(endpoint)
        if self.settings.starts_clean:
            self._cleaned |= {self._holder}
        self._proved = False
        self._enter(S.RESTORING)
        self._session_present = event.session_present
        self._do(do.RestoreSession(event.generation, event.session_present))

    def _session_of(self, endpoint: Endpoint) -> str:
        """Who holds a session that is made at *endpoint*."""
        shared = self.settings.sessions.get(endpoint.group) is SessionKind.SHARED
        return f"group {endpoint.group}" if shared else endpoint.key

    def _restored(self, event: ev.SessionRestored, now: float) -> None:
        assert self.current is not None
        endpoint = self.current.endpoint
        outage = self.outage(now)
        self._was_quick = self.sweeps_failed == 0
        if self.flaps:
            self._flapped += outage
        self.health.succeeded(endpoint.key)
        self.outage_since = None
        self.last_failure = None
        self.attempts = self.sweep = self.sweeps_failed = 0
        self.ever_connected = True
        self._connected_at = now
        self._is_stable = False
        self._enter(S.CONNECTED)
        self._set(ev.Timer.STABLE, now + max(self.settings.stable_after, self._flapped))
        self._emit(
            "connected",
            endpoint=str(endpoint),
            outage=outage,
            session_present=self._session_present,
            generation=event.generation,
        )
        self._do(do.OpenGate(event.generation))
        self._do(do.ReportConnected(event.generation, self._session_present))

    def _healthy(self, _event: ev.HealthProved, now: float) -> None:
        if not self._proved:
            self._proved = True
            if self.state is S.CONNECTED:
                self._settle(now)

    def _settle(self, _now: float) -> None:
        """Reset the back-off when the connection is old enough and the broker has proved that it works."""
        if self._is_stable or not self._proved or ev.Timer.STABLE in self.timers:
            return
        assert self.current is not None
        self._is_stable = True
        self.flaps = 0
        self._flapped = 0.0
        self._emit("stable", endpoint=str(self.current.endpoint))

    def _lost(self, event: ev.ConnectionLost, now: float) -> None:
        if self.state is S.CONNECTING:  # it was over before we heard of its CONNACK
            self._attempt_failed(ev.AttemptFailed(event.generation, event.failure), now)
            return
        attempt = self.current
        assert attempt is not None
        self.current = None
        if self.state is S.RESTORING:
            self._failed(attempt, event.failure, now)
            self._next(now)
            return
        connected = now - self._connected_at
        if self._is_stable or not self._was_quick:
            self.flaps = 0
            self._flapped = 0.0
        else:
            self.flaps += 1
        self._emit(
            "connection_lost",
            endpoint=str(attempt.endpoint),
            connected=connected,
            failure=str(event.failure),
            generation=attempt.generation,
        )
        self.health.failed(attempt.endpoint.key, event.failure, now)
        self._report(attempt, event.failure, was_connected=True)
        if self.flaps == FLAPS or (self.flaps > FLAPS and self.flaps & (self.flaps - 1) == 0):  # bounded: each doubling
            hint = "is another client using this client id?" if event.failure.cause in _KICKS else event.failure.advice
            self._emit("flapping", flaps=self.flaps, hint=hint)
        self._begin_outage(now)
        self._decide(now)


_KICKS: Final = frozenset({Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST, Cause.SESSION_TAKEN_OVER})
"""What a broker that has let in another client of our id looks like; with other causes the client id is not to blame."""

_HANDLERS: Final[Mapping[type, Callable[[Machine, Any, float], None]]] = {
    ev.StartRequested: Machine._start,
    ev.StopRequested: Machine._stop,
    ev.ReconnectRequested: Machine._reconnect,
    ev.TimerFired: Machine._timer,
    ev.VerdictGiven: Machine._verdict,
    ev.EndpointSelected: Machine._selected,
    ev.DialSucceeded: Machine._dialled,
    ev.AttemptFailed: Machine._attempt_failed,
    ev.ConnectSucceeded: Machine._connected,
    ev.SessionRestored: Machine._restored,
    ev.ConnectionLost: Machine._lost,
    ev.HealthProved: Machine._healthy,
    ev.EndpointProved: Machine._proved_elsewhere,
    ev.CredentialsChanged: Machine._credentials_changed,
    ev.EndpointsChanged: Machine._endpoints_changed,
}
