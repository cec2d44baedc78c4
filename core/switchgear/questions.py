"""What one manager asks its plugins, and what it tells them. Starts tasks; does no other I/O.

Part of the manager's work, apart from it because the manager only acts, and all that a plugin may say comes in here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from switchgear import events as ev
from switchgear.hookspecs import Context, Proceed, Restart
from switchgear.strategies import DEFAULT

if TYPE_CHECKING:
    from switchgear import effects as do
    from switchgear.cause import Failure
    from switchgear.endpoint import Endpoint, Group
    from switchgear.manager import ConnectionManager


@define(eq=False)
class Questions:
    """Carries out the effects that are a plugin's to answer, or to hear."""

    manager: ConnectionManager
    lists_are_old: bool = field(default=False, init=False)
    """Whether the lists that change are to be asked for again before the next endpoint is selected."""
    _groups: dict[str, Group] = field(init=False)
    """As the plugins gave them last, by name."""

    def __attrs_post_init__(self) -> None:
        self._groups = {group.name: group for group in self.manager.plan.groups}

    def context(
        self,
        *,
        candidates: tuple[Endpoint, ...] | None = None,
        endpoint: Endpoint | None = None,
        failure: Failure | None = None,
        generation: int | None = None,
        was_connected: bool = False,
        session_present: bool = False,
    ) -> Context:
        """What the hooks are told now."""
        manager = self.manager
        machine, now = manager.machine, manager.loop.time()
        offered = machine.endpoints if candidates is None else candidates
        return Context(
            now=now,
            candidates=offered,
            health={e.key: machine.health.look(e.key) for e in offered},
            endpoint=endpoint or machine.last_endpoint,
            attempt=machine.attempts,
            sweep=machine.sweep,
            outage=machine.outage(now),
            failure=failure or machine.last_failure,
            generation=machine.generation if generation is None else generation,
            was_connected=was_connected,
            session_present=session_present,
            outbox_depth=manager.owner.depth,
            client_id=manager.client_id,
            profile=manager.profile,
        )

    def ask_verdict(self, effect: do.AskVerdict) -> None:
        """Whether, and how, to go on; the answer comes as `VerdictGiven`."""
        manager = self.manager
        if not manager.plan.sources and not manager.strategies.has("before_reconnect"):
            manager.feed(ev.VerdictGiven(effect.ask, Proceed()))
            return
        manager.spawn(self._verdict(effect.ask))

    async def _verdict(self, ask: int) -> None:
        manager = self.manager
        await self.refresh_endpoints()
        verdict, plugin = await manager.strategies.before_reconnect(self.context())
        if isinstance(verdict, Restart) and verdict.how == "process":
            verdict = await manager.owner.replace_process(verdict, plugin)
        manager.feed(ev.VerdictGiven(ask, verdict, plugin))

    async def refresh_endpoints(self) -> None:
        """Ask the plugins for the lists that change again; one that fails to answer keeps the list that it gave last."""
        manager = self.manager
        if not manager.plan.sources:
            return
        for source in manager.plan.sources:
            groups = await manager.strategies.provide_endpoints(source.plugin, source.where)
            for name, group in zip(source.groups, groups or (), strict=False):
                self._groups[name] = group.named(name)
        manager.feed(ev.EndpointsChanged(tuple(e for group in self._groups.values() for e in group.endpoints)))

    def ask_selection(self, effect: do.AskSelection) -> None:
        """Which endpoint is next; the answer comes as `EndpointSelected`."""
        if self.lists_are_old and self.manager.plan.sources:
            self.manager.spawn(self._selection_anew(effect))
        else:
            self._ask_selection(effect.ask, effect.candidates)

    async def _selection_anew(self, effect: do.AskSelection) -> None:
        """The same, of what is in the lists that change by now."""
        self.lists_are_old = False
        await self.refresh_endpoints()
        machine = self.manager.machine
        self._ask_selection(effect.ask, tuple(machine.candidates(self.manager.loop.time())) or effect.candidates)

    def _ask_selection(self, ask: int, candidates: tuple[Endpoint, ...]) -> None:
        manager = self.manager
        if not manager.strategies.has("select_endpoint"):
            spare = manager.moves.spare
            manager.feed(ev.EndpointSelected(ask, spare[0] if spare and spare[1].is_open else None))
            return
        manager.spawn(self._selection(ask, candidates))

    async def _selection(self, ask: int, candidates: tuple[Endpoint, ...]) -> None:
        endpoint, plugin = await self.manager.strategies.select_endpoint(self.context(candidates=candidates))
        self.manager.feed(ev.EndpointSelected(ask, endpoint, "" if plugin == DEFAULT else plugin))

    def report_connected(self, effect: do.ReportConnected, endpoint: Endpoint) -> None:
        """A connection to *endpoint* is usable."""
        self.manager.strategies.on_connected(
            self.context(endpoint=endpoint, generation=effect.generation, session_present=effect.session_present)
        )

    def report_disconnect(self, effect: do.ReportDisconnect) -> None:
        """A connection or an attempt has ended."""
        self.manager.strategies.on_disconnect(
            self.context(
                endpoint=effect.endpoint,
                failure=effect.failure,
                generation=effect.generation,
                was_connected=effect.was_connected,
            )
        )
