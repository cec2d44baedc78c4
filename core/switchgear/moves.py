"""Planned moves and what prepares them, while a connection is usable: probes, fail-back, a warm spare, redirection.

Part of the manager's work, apart from it because none of it is needed to survive a loss. Does I/O through drivers.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field

from switchgear import events as ev
from switchgear.backoff import SMALLEST_DELAY
from switchgear.cause import Cause, Failure
from switchgear.connect_budget import connect_turn
from switchgear.drivers.base import AttemptFailed, DeafListener
from switchgear.failback import Failback, Scout, preferred
from switchgear.health import ordered
from switchgear.hookspecs import Move, Recheck

if TYPE_CHECKING:
    from switchgear.drivers.base import Link
    from switchgear.endpoint import Endpoint
    from switchgear.manager import ConnectionManager

log = logging.getLogger("switchgear.moves")

WARM_AGAIN: Final = 5.0
"""Seconds between two tries to have a warm spare, and between two looks whether it is still open."""

REDIRECTS: Final = 8
"""Redirections followed without a usable connection between them: brokers may send us round in a circle."""

LONGEST_STAY: Final = 60.0
"""Seconds that a connection is kept, at most, for a plugin that wants to leave each one as soon as it is made."""


@define(eq=False)
class Moves:
    """What one manager does on the side while it is connected."""

    manager: ConnectionManager
    failback: Failback | None
    keeps_spare: bool
    spare: tuple[Endpoint, Link] | None = field(default=None, init=False)
    """A dialled connection on which no MQTT was spoken."""
    _scout: Scout | None = field(default=None, init=False)
    _tasks: list[asyncio.Task[None]] = field(factory=list, init=False)
    _redirects: int = field(default=0, init=False)
    _moved: dict[str, int] = field(factory=dict, init=False)
    """Planned moves that a plugin asked for since it was last content with a stable connection, by its name."""

    def __attrs_post_init__(self) -> None:
        if self.failback is not None:
            self._scout = Scout(self.failback, self.manager.rng)

    # What the manager tells. -------------------------------------------------------------------------------------

    def connected(self, endpoint: Endpoint, generation: int) -> None:
        """The connection *generation* to *endpoint* is usable."""
        self._redirects = 0
        for plugin in self.manager.strategies.watchers():
            self._tasks.append(self.manager.spawn(self._watch(plugin, endpoint, generation)))
        scout = self._scout
        if scout is not None:
            scout.connected(self.manager.loop.time())
            if preferred(self.manager.machine.endpoints, endpoint):
                self._tasks.append(self.manager.spawn(self._go_back(scout, endpoint)))
        if self.keeps_spare:
            self._tasks.append(self.manager.spawn(self._keep_spare(endpoint)))

    def lost(self) -> None:
        """The connection is over, or about to be."""
        if self._scout is not None:
            self._scout.lost(self.manager.loop.time())
        present = asyncio.current_task(self.manager.loop)
        for task in self._tasks:
            if task is not present:
                task.cancel()
        self._tasks.clear()

    def take_spare(self, endpoint: Endpoint) -> Link | None:
        """The warm connection to *endpoint*, if there is one and it is still open."""
        spare, self.spare = self.spare, None
        if spare is None:
            return None
        if spare[0].key == endpoint.key and spare[1].is_open:
            return spare[1]
        spare[1].abort()
        return None

    def close(self) -> None:
        """Leave nothing behind."""
        self.lost()
        if self.spare is not None:
            self.spare[1].abort()
            self.spare = None

    # Fail-back. --------------------------------------------------------------------------------------------------

    async def _go_back(self, scout: Scout, present: Endpoint) -> None:
        """Probe the preferred endpoints until one has proved itself; then move."""
        manager = self.manager
        while True:
            now = manager.loop.time()
            await asyncio.sleep(scout.next_probe(now) - now)
            for endpoint in preferred(manager.machine.endpoints, present):
                place = await self._placed(endpoint)
                failure = await self.probe(place)
                manager.narrator.emit("probed", endpoint=str(endpoint), result=str(failure or "CONNACK"))
                if failure is None:
                    for key in {endpoint.key, place.key}:
                        manager.feed(ev.EndpointProved(key))
                if scout.probed(endpoint.key, manager.loop.time(), is_good=failure is None):
                    scout.moved()
                    await self.move(f"fail-back to {endpoint}")
                    return

    async def _placed(self, endpoint: Endpoint) -> Endpoint:
        """*endpoint* with the address that a plugin gives it now: the one in the list was given at the last attempt."""
        strategies = self.manager.strategies
        if not strategies.has("select_endpoint"):
            return endpoint
        place, _ = await strategies.select_endpoint(self.manager.questions.context(candidates=(endpoint,)))
        return place or endpoint

    async def probe(self, endpoint: Endpoint) -> Failure | None:
        """Connect to *endpoint* under the probe's client id, up to CONNACK, and leave; None when that worked."""
        manager = self.manager
        own = self.failback.probe_client_id if self.failback is not None else None
        driver = manager.make_probe(own or f"{manager.client_id}-probe")
        timeout = endpoint.connect_timeout or manager.profile.connect_timeout
        link = None
        try:
            request = await manager.credentials.visit(endpoint, timeout=timeout)
            async with asyncio.timeout(5 * timeout):
                link = await driver.dial(endpoint)
                turn = await connect_turn(endpoint, manager.plan.backoff, driver)
                connection = await driver.connect(link, evolve(request, turn=turn), DeafListener())
                link = None
                await connection.disconnect()
        except AttemptFailed as error:
            return error.failure
        except TimeoutError:
            return Failure(Cause.CONNECT_TIMEOUT)
        except Exception as error:
            log.exception("switchgear.probe_failed", extra={"endpoint": str(endpoint)})
            return Failure(Cause.DRIVER_FAILED, f"{type(error).__name__}: {error}")
        else:
            return None
        finally:
            if link is not None:
                link.abort()
            driver.close()

    async def move(self, why: str, *, window: float | None = None, drain: float | None = None) -> None:
        """Make a new connection in an orderly way: at a random moment, new sends held, what is in flight finished.

        *window* and *drain* are in seconds; None: those of the fail-back. Lists that change are asked for first: where
        the move goes may be new.
        """
        manager, settings = self.manager, self.failback or Failback()
        delay = manager.rng.uniform(0, settings.window if window is None else window)
        manager.narrator.emit("move_scheduled", delay=delay, why=why)
        await asyncio.sleep(delay)
        await manager.questions.refresh_endpoints()
        await manager.owner.quiesce(settings.drain if drain is None else drain)
        manager.feed(ev.ReconnectRequested(why, is_planned=True))

    # What plugins see. -------------------------------------------------------------------------------------------

    async def _watch(self, plugin: str, present: Endpoint, generation: int) -> None:
        """Ask *plugin* what it sees for as long as it wants to be asked, and move when it says so.

        A move that follows another soon is not made before the connection has lasted a while, twice as long each time:
        a plugin whose moves lead nowhere would go round as fast as brokers answer.
        """
        manager = self.manager
        since, moved = manager.loop.time(), self._moved.get(plugin, 0)
        stay = min(LONGEST_STAY, 2.0 ** min(moved - 1, 9)) * manager.rng.uniform(0.5, 1) if moved else 0.0
        said = ""
        while True:
            context = manager.questions.context(endpoint=present, generation=generation)
            answer = await manager.strategies.while_connected(plugin, context)
            age = manager.loop.time() - since
            if not isinstance(answer, Move) and age >= manager.profile.stable_after:
                self._moved.pop(plugin, None)
            if answer is None:
                return
            if isinstance(answer, Move) and age >= stay:
                self._moved[plugin] = self._moved.get(plugin, 0) + 1
                await self.move(f"plugin {plugin!r}: {answer.why}", window=answer.window, drain=answer.drain)
                return
            if isinstance(answer, Move):
                answer = Recheck(stay - age, f"it is too soon to move again: {answer.why}")
            if answer.why != said:  # one that sees the same again and again says it once
                said = answer.why
                manager.narrator.emit("watched", plugin=plugin, why=said)
            await asyncio.sleep(max(SMALLEST_DELAY, answer.seconds))

    # A warm spare. -----------------------------------------------------------------------------------------------

    async def _keep_spare(self, present: Endpoint) -> None:
        """Have a dialled connection to the next endpoint ready; brokers close idle ones, so look again and again."""
        manager = self.manager
        while True:
            if self.spare is not None and not self.spare[1].is_open:
                self.spare = None
            if self.spare is None:
                for other in self._others(present):
                    endpoint = await self._placed(other)
                    try:
                        link = await manager.driver.dial(endpoint)
                    except AttemptFailed:
                        continue
                    self.spare = endpoint, link
                    manager.narrator.emit("spare_ready", endpoint=str(endpoint))
                    break
            await asyncio.sleep(WARM_AGAIN * manager.rng.uniform(0.75, 1.25))

    def _others(self, present: Endpoint) -> list[Endpoint]:
        machine = self.manager.machine
        return ordered(
            machine.endpoints,
            health=machine.health,
            now=self.manager.loop.time(),
            rng=self.manager.rng,
            tried={present.key},
            keep_order=machine.settings.keep_order,
        )

    # Redirection. ------------------------------------------------------------------------------------------------

    def redirected(self, endpoint: Endpoint, failure: Failure) -> None:
        """Obey a server reference (MQTT 5, 4.13): try there first; after "moved" the old place is forgotten."""
        reference = failure.server_reference
        if not reference or failure.cause not in {Cause.USE_ANOTHER_SERVER, Cause.SERVER_MOVED}:
            return
        if self._redirects >= REDIRECTS:
            return
        self._redirects += 1
        first = min(e.priority for e in self.manager.machine.endpoints) - 1
        places = [
            evolve(place, priority=first)
            for text in reference.split()
            if (place := _referred(text, endpoint)) is not None
        ]
        others = [e for e in self.manager.machine.endpoints if all(e.key != place.key for place in places)]
        if failure.cause is Cause.SERVER_MOVED:
            others = [e for e in others if e.key != endpoint.key]
        if places:
            self.manager.feed(ev.EndpointsChanged((*places, *others)))


def _referred(text: str, endpoint: Endpoint) -> Endpoint | None:
    """The endpoint that one server reference names, reached as *endpoint* is; None when it cannot be read.

    Source: MQTT 5, 4.11: a host name or address, with an optional port; IPv6 addresses in brackets.
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", text)
    if match is None or not 0 < int(match.group(2) or endpoint.port) < 65536:
        log.warning("switchgear.unreadable_redirect", extra={"endpoint": str(endpoint), "reference": text[:80]})
        return None
    host = match.group(1).strip("[]")
    return evolve(endpoint, host=host, port=int(match.group(2) or endpoint.port), address=None)
