"""ConnectionManager: carries out what the machine decides, on asyncio. Does I/O through the driver.

The machine decides, this file acts: effects become tasks, timers, questions to plugins and calls of the driver, and
whatever comes of them goes back as events. It decides nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear import effects as do
from switchgear import events as ev
from switchgear.cause import MESSAGE_MAY_BE_WHY, Cause, Failure
from switchgear.connect_budget import connect_turn
from switchgear.credentials import Credentials
from switchgear.drivers.base import AttemptFailed, Connection, ConnectRequest, Discardable, Driver, Link
from switchgear.endpoint import Endpoint, SessionKind
from switchgear.errors import InternalError
from switchgear.farewell import POLITE, Farewells, end_session
from switchgear.machine import Machine
from switchgear.moves import Moves
from switchgear.questions import Questions
from switchgear.silence import Watch, answered, answers_within, bound_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from switchgear.effects import Effect
    from switchgear.narrator import Narrator
    from switchgear.owner import Owner
    from switchgear.plan import Plan
    from switchgear.plugins import Strategies
    from switchgear.profile import Profile

log = logging.getLogger("switchgear.manager")


@define(eq=False)
class _Live:
    """What exists of one generation."""

    endpoint: Endpoint
    task: asyncio.Task[None] | None = None
    link: Link | None = None
    connection: Connection | None = None
    watch: Watch | None = None


@define(eq=False)
class ConnectionManager:
    """One transport's connections."""

    profile: Profile
    plan: Plan
    client_id: str
    strategies: Strategies
    narrator: Narrator
    owner: Owner
    make_driver: Callable[[], Driver]
    make_probe: Callable[[str], Driver]
    rng: random.Random
    loop: asyncio.AbstractEventLoop

    driver: Driver = field(init=False)
    machine: Machine = field(init=False)
    moves: Moves = field(init=False)
    questions: Questions = field(init=False)
    farewells: Farewells = field(init=False)
    credentials: Credentials = field(init=False)
    connection: Connection | None = field(default=None, init=False)
    """The usable one."""
    _live: dict[int, _Live] = field(factory=dict, init=False)
    _timers: dict[ev.Timer, asyncio.TimerHandle] = field(factory=dict, init=False)
    _tasks: list[asyncio.Task[None]] = field(factory=list, init=False)
    _events: list[ev.Event] = field(factory=list, init=False)
    _watches_credentials: bool = field(default=False, init=False)
    _is_feeding: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.driver = self.make_driver()
        settings = self.plan.machine_settings(
            self.profile, dials_ahead=self.driver.features.dials_ahead, starts_clean=self.owner.starts_clean
        )
        self.machine = Machine(settings, self.rng, self.plan.endpoints)
        self.credentials = Credentials(self.profile)
        self.moves = Moves(self, self.plan.failback, self.plan.keeps_spare)
        self.questions = Questions(self)
        self.farewells = Farewells(self.spawn)

    # Events in, effects out. -------------------------------------------------------------------------------------

    def feed(self, event: ev.Event) -> None:
        """Tell the machine of *event* and carry out what it says; nested calls wait for their turn."""
        self._events.append(event)
        if self._is_feeding:
            return
        self._is_feeding = True
        try:
            while self._events:
                for effect in self._effects(self._events.pop(0)):
                    _CARRY_OUT[type(effect)](self, effect)
        finally:
            self._is_feeding = False

    def _effects(self, event: ev.Event) -> list[Effect]:
        try:
            return self.machine.handle(event, self.loop.time())
        except InternalError:  # our bug, and no reason to stop for the application: the event is dropped, and told of
            log.exception("switchgear.internal_error", extra={"client_id": self.client_id})
            return []

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with this manager at the latest."""
        task = self.loop.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)
        return task

    def _set_timer(self, effect: do.SetTimer) -> None:
        self._clear_timer(do.ClearTimer(effect.timer))
        self._timers[effect.timer] = self.loop.call_at(effect.at, self._timer_fired, effect.timer)

    def _timer_fired(self, timer: ev.Timer) -> None:
        self._timers.pop(timer, None)
        self.feed(ev.TimerFired(timer))

    def _clear_timer(self, effect: do.ClearTimer) -> None:
        handle = self._timers.pop(effect.timer, None)
        if handle is not None:
            handle.cancel()

    def _emit(self, effect: do.Emit) -> None:
        self.narrator.emit(effect.name, **effect.facts)
        if effect.name == "quarantined" and not self._watches_credentials:
            self._watches_credentials = True
            self.spawn(self._watch_credentials())

    async def _watch_credentials(self) -> None:
        """While an endpoint is quarantined: see whether what it was quarantined for has been mended."""
        machine = self.machine
        if await self.credentials.changed(
            lambda: any(machine.health.is_quarantined(e.key, self.loop.time()) for e in machine.endpoints)
        ):
            self.feed(ev.CredentialsChanged())
        self._watches_credentials = False

    def _report_connected(self, effect: do.ReportConnected) -> None:
        self.questions.report_connected(effect, self._live[effect.generation].endpoint)

    def _restart_driver(self, _effect: do.RestartDriver) -> None:
        if isinstance(self.driver, Discardable):
            self.driver.discard()
        else:
            self.driver.close()
        self.driver = self.make_driver()

    def _fail_waiters(self, effect: do.FailWaiters) -> None:
        self.owner.fail_waiters(effect.failure, self.machine.last_endpoint, effect.why, is_final=effect.is_final)

    # Connections. ------------------------------------------------------------------------------------------------

    def _dial(self, effect: do.Dial) -> None:
        live = self._live[effect.generation] = _Live(effect.endpoint)
        live.link = self.moves.take_spare(effect.endpoint)
        if live.link is not None:
            self.feed(ev.DialSucceeded(effect.generation))
            return
        live.task = self.spawn(self._dialling(effect.generation, live))

    async def _dialling(self, generation: int, live: _Live) -> None:
        timeout = live.endpoint.connect_timeout or self.profile.connect_timeout
        try:
            dialling = self.driver.dial(live.endpoint)
            live.link = await answered(dialling, connect_timeout=timeout, driver=self.driver.name)
        except Exception as error:  # whatever a driver raises ends this attempt and no more; it is reported
            self._attempt_failed(generation, error)
        else:
            self.feed(ev.DialSucceeded(generation))

    def _send_connect(self, effect: do.SendConnect) -> None:
        live = self._live[effect.generation]
        live.task = self.spawn(self._connecting(effect, live))

    async def _connecting(self, effect: do.SendConnect, live: _Live) -> None:
        generation, endpoint = effect.generation, effect.endpoint
        timeout = endpoint.connect_timeout or self.profile.connect_timeout
        try:
            username, password = await self.credentials.of(endpoint)
            await self.farewells.said(POLITE)  # the older connection is closed before the next CONNECT is sent
            turn = await connect_turn(endpoint, self.plan.backoff, self.driver)
            request = ConnectRequest(
                endpoint=endpoint,
                clean_start=effect.clean_start,
                keeps_session=self._keeps_session(endpoint),
                username=username,
                password=password,
                timeout=timeout,
                turn=turn,
            )
            assert live.link is not None
            connecting = self.driver.connect(live.link, request, self.owner.listener(generation))
            live.connection = await answered(connecting, connect_timeout=timeout, driver=self.driver.name)
        except Exception as error:  # whatever a driver raises ends this attempt and no more; it is reported
            self._attempt_failed(generation, error)
        else:
            self.feed(ev.ConnectSucceeded(generation, live.connection.session_present))

    def _keeps_session(self, endpoint: Endpoint) -> bool:
        """Whether a session at *endpoint* outlives its connection."""
        return self.machine.settings.sessions.get(endpoint.group) is not SessionKind.CLEAN

    def _attempt_failed(self, generation: int, error: Exception) -> None:
        if isinstance(error, AttemptFailed):
            failure = error.failure
        elif isinstance(error, TimeoutError):
            failure = Failure(Cause.CONNECT_TIMEOUT, str(error))
        else:
            log.error("switchgear.driver_failed", exc_info=error, extra={"driver": self.driver.name})
            failure = Failure(Cause.DRIVER_FAILED, f"{self.driver.name}: {type(error).__name__}: {error}")
        live = self._live.pop(generation, None)
        if live is not None and live.link is not None:
            live.link.abort()
        if live is not None and self.profile.follow_redirects:
            self.moves.redirected(live.endpoint, failure)
        self.feed(ev.AttemptFailed(generation, failure))

    def _restore(self, effect: do.RestoreSession) -> None:
        live = self._live[effect.generation]
        live.task = self.spawn(self._restoring(effect, live))

    async def _restoring(self, effect: do.RestoreSession, live: _Live) -> None:
        connection = live.connection
        assert connection is not None
        was_quick = self.machine.sweeps_failed == 0
        try:
            async with asyncio.timeout(answers_within(self.profile.connect_timeout)):
                await self.owner.restore(connection, session_present=effect.session_present, was_quick=was_quick)
        except TimeoutError:
            self.unanswered(connection)
        except ConnectionError:
            return  # the listener has reported the loss, or is about to
        except Exception as error:
            log.exception("switchgear.restore_failed", extra={"client_id": self.client_id})
            connection.abort()
            self.lost(effect.generation, Failure(Cause.DRIVER_FAILED, f"{type(error).__name__}: {error}"))
        else:
            self.feed(ev.SessionRestored(effect.generation))

    def _open_gate(self, effect: do.OpenGate) -> None:
        live = self._live[effect.generation]
        self.connection = live.connection
        assert self.connection is not None
        live.task = None  # it has done its work, and would be kept as long as the connection
        self.owner.open_gate(self.connection)
        self.moves.connected(live.endpoint, effect.generation)
        if self.profile.ack_timeout is not None:
            keepalive = max(self.profile.keepalive, self.connection.limits.keepalive or 0)
            timeout = live.endpoint.connect_timeout or self.profile.connect_timeout
            live.watch = Watch(
                loop=self.loop,
                connection=self.connection,
                reports=lambda: self.owner.reports,
                patience=self.profile.ack_timeout,
                bound=bound_of(connect_timeout=timeout, keepalive=keepalive),
                on_silent=lambda why: self._silent(effect.generation, why),
            )

    def unanswered(self, connection: Connection) -> None:
        """A SUBSCRIBE or UNSUBSCRIBE on *connection* was not answered in time: it is over."""
        connection.abort()
        for generation, live in list(self._live.items()):
            if live.connection is connection:
                detail = f"nothing came in {answers_within(self.profile.connect_timeout):g} s"
                self.lost(generation, Failure(Cause.RESTORE_TIMEOUT, detail))

    def _silent(self, generation: int, why: str) -> None:
        """The driver no longer reports what becomes of the connection *generation*."""
        try:
            self._live[generation].connection.abort()  # type: ignore[union-attr]  # a watched one has a connection
        except Exception:  # what can be expected of a library that is wedged; its connection is over here
            log.exception("switchgear.driver_failed", extra={"driver": self.driver.name})
        self.lost(generation, Failure(Cause.DRIVER_SILENT, f"{self.driver.name!r}: {why}"))

    def lost(self, generation: int, failure: Failure) -> None:
        """The connection *generation* is over."""
        live = self._live.pop(generation, None)
        if live is None:
            return
        if live.task is not None and live.task is not asyncio.current_task(self.loop):
            live.task.cancel()
        self._shut(live, blames=failure.cause in MESSAGE_MAY_BE_WHY)
        if self.profile.follow_redirects:
            self.moves.redirected(live.endpoint, failure)
        self.feed(ev.ConnectionLost(generation, failure))

    def _shut(self, live: _Live, *, blames: bool) -> None:
        if live.watch is not None:
            live.watch.stop()
        if live.connection is not None and live.connection is self.connection:
            self.connection = None
            self.moves.lost()
            self.owner.shut_gate(blames=blames)

    def _close(self, effect: do.Close) -> None:
        live = self._live.pop(effect.generation, None)
        if live is None:
            return
        if live.task is not None and live.task is not asyncio.current_task(self.loop):
            live.task.cancel()
        self._shut(live, blames=False)  # it was our decision
        if live.connection is None:
            if live.link is not None:
                live.link.abort()
        elif effect.politely:
            self.farewells.say(live.connection)
        else:
            live.connection.abort()

    async def pause(self) -> None:
        """Stop and say goodbye, until `resume`."""
        self.feed(ev.StopRequested())
        self.moves.close()
        await self.farewells.said(2 * POLITE)

    def resume(self) -> None:
        """Begin again, with a new driver."""
        self._close_driver()
        self.driver = self.make_driver()
        self.feed(ev.StartRequested())

    async def close(self) -> None:
        """Stop, say goodbye, leave nothing behind."""
        usable = self.machine.current.endpoint if self.connection is not None and self.machine.current else None
        try:
            await self.pause()
            if usable is not None and self.profile.client_id is None and self._keeps_session(usable):
                await end_session(self.driver, self.credentials, usable)
        finally:  # also when we are cancelled
            tasks = [task for task in self._tasks if task is not asyncio.current_task(self.loop)]
            for task in tasks:
                task.cancel()
            try:
                if tasks:
                    await asyncio.wait(tasks, timeout=POLITE)  # a driver that will not be cancelled holds nobody up
            finally:
                self._close_driver()
        await self.strategies.close(self.profile.hook_timeout)

    def _close_driver(self) -> None:
        try:
            self.driver.close()
        except Exception:  # a library that is broken; it is not used again
            log.exception("switchgear.driver_failed", extra={"driver": self.driver.name})


_CARRY_OUT: Final[Mapping[type, Callable[[ConnectionManager, Any], None]]] = {
    do.SetTimer: ConnectionManager._set_timer,
    do.ClearTimer: ConnectionManager._clear_timer,
    do.AskVerdict: lambda manager, effect: manager.questions.ask_verdict(effect),
    do.AskSelection: lambda manager, effect: manager.questions.ask_selection(effect),
    do.Dial: ConnectionManager._dial,
    do.SendConnect: ConnectionManager._send_connect,
    do.RestoreSession: ConnectionManager._restore,
    do.OpenGate: ConnectionManager._open_gate,
    do.Close: ConnectionManager._close,
    do.ReportConnected: ConnectionManager._report_connected,
    do.ReportDisconnect: lambda manager, effect: manager.questions.report_disconnect(effect),
    do.RestartDriver: ConnectionManager._restart_driver,
    do.Emit: ConnectionManager._emit,
    do.FailWaiters: ConnectionManager._fail_waiters,
}
