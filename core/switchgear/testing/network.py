"""A network in memory: endpoints lead to embedded brokers, on virtual time, with everything that goes wrong on wires.

The whole product runs on it, the real paho driver and the real broker included; only sockets, TLS and the resolver
are left out. ``ssl://`` and ``wss://`` endpoints are carried in the clear here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, field, frozen

from switchgear.cause import Cause, Failure
from switchgear.drivers.base import AttemptFailed
from switchgear.drivers.link import StreamLink
from switchgear.drivers.paho import PahoDriver
from switchgear.testing.broker import Broker
from switchgear.testing.broker.websocket import WebSocket
from switchgear.testing.wire import Wire, connect_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from switchgear.drivers.base import DriverSettings
    from switchgear.endpoint import Endpoint

Place: TypeAlias = "Broker | Callable[[], asyncio.Protocol]"

_REFUSED: Final = Failure(Cause.PORT_REFUSED)


@frozen
class Dialled:
    """One dial: when (seconds on the loop's clock), where to, and how it ended (None: it was connected)."""

    at: float
    authority: str
    failure: Failure | None


@define(eq=False)
class _Site:
    """What is at one authority."""

    place: Place
    latency: float = 0.0
    failure: Failure | None = None
    passage: asyncio.Event = field(factory=asyncio.Event)  # set while something may pass
    wires: list[Wire] = field(factory=list)


class MemoryNetwork:
    """Which brokers are where, and how the wires to them behave. Since: 0.1.

    *places* maps ``host:port`` to a `Broker`, or to a callable that gives the far end's `asyncio.Protocol`. A broker
    that is down refuses connections; a host and port that are not there cannot be resolved. *latency* is in seconds,
    one way.

    ``AsyncTransport(profile, make_driver=network.make_driver)`` runs on it; `open` is the opener for a `PahoDriver`.
    """

    def __init__(self, places: Mapping[str, Place] | None = None, *, latency: float = 0.0) -> None:
        self.latency = latency
        self.dials: list[Dialled] = []
        self._sites: dict[str, _Site] = {}
        for authority, place in (places or {}).items():
            self.add(authority, place)

    def make_driver(self, settings: DriverSettings) -> PahoDriver:
        """The real paho driver, on this network."""
        return PahoDriver(settings, opener=self.open)

    # What a test does to it

    def add(self, authority: str, place: Place) -> None:
        """Have *authority* lead to *place* from now on; existing wires stay."""
        if authority in self._sites:
            self._sites[authority].place = place
        else:
            site = self._sites[authority] = _Site(place, self.latency)
            site.passage.set()

    def refuse(self, authority: str, failure: Failure = _REFUSED) -> None:
        """Have every dial to *authority* fail with *failure*; existing wires stay."""
        self._site(authority).failure = failure

    def blackhole(self, authority: str) -> None:
        """Let nothing pass: dials find no answer, and what is written to existing wires arrives only after `restore`."""
        site = self._site(authority)
        site.passage.clear()
        for wire in site.wires:
            wire.hold()

    def restore(self, authority: str) -> None:
        """End `refuse` and `blackhole`."""
        site = self._site(authority)
        site.failure = None
        site.passage.set()
        for wire in site.wires:
            wire.release()

    def slow(self, authority: str, latency: float) -> None:
        """Let everything to and from *authority* take *latency* seconds one way; existing wires too."""
        site = self._site(authority)
        site.latency = latency
        for wire in site.wires:
            wire.set_latency(latency)

    def cut(self, authority: str) -> int:
        """Reset all wires to *authority*, at both ends; how many there were."""
        wires = self.wires(authority)
        for wire in wires:
            wire.cut()
        return len(wires)

    def half_close(self, authority: str) -> None:
        """Have the far end of every wire to *authority* say that it will send no more."""
        for wire in self.wires(authority):
            wire.far.write_eof()

    def wires(self, authority: str) -> list[Wire]:
        """The wires to *authority* that are not over, the oldest first."""
        site = self._site(authority)
        site.wires = [wire for wire in site.wires if not wire.is_over]
        return list(site.wires)

    def _site(self, authority: str) -> _Site:
        if authority not in self._sites:
            raise KeyError(f"nothing is at {authority!r}; there are {', '.join(self._sites) or 'no places'}")
        return self._sites[authority]

    # What the driver does

    async def open(self, endpoint: Endpoint, settings: DriverSettings) -> StreamLink:
        """A link to *endpoint*, as `switchgear.drivers.link.open_link` would make.

        Raises:
            AttemptFailed: refused, silent for the connect timeout, or not there.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        authority = endpoint.authority
        if endpoint.address is not None and f"{endpoint.address}:{endpoint.port}" in self._sites:
            authority = f"{endpoint.address}:{endpoint.port}"
        site = self._sites.get(authority)
        timeout = endpoint.connect_timeout or settings.connect_timeout
        try:
            async with asyncio.timeout(timeout):
                failure = await self._reach(site)
        except TimeoutError:
            failure = Failure(Cause.CONNECT_TIMEOUT, f"no TCP connection to {endpoint.authority} in {timeout:g} s")
        self.dials.append(Dialled(began, authority, failure))
        if failure is not None or site is None:
            raise AttemptFailed(failure or Failure(Cause.NAME_NOT_RESOLVED))
        link = StreamLink()
        far = site.place.protocol_factory() if isinstance(site.place, Broker) else site.place()
        if endpoint.is_websocket and isinstance(site.place, Broker):
            far = WebSocket(far)
        wire = connect_wire(link, far, latency=site.latency)
        site.wires = [*self.wires(authority), wire]
        return link

    async def _reach(self, site: _Site | None) -> Failure | None:
        """Go there and back; what went wrong on the way."""
        if site is None:
            await asyncio.sleep(0)
            return Failure(Cause.NAME_NOT_RESOLVED, "it is not in this network")
        await asyncio.sleep(2 * site.latency)
        await site.passage.wait()
        if isinstance(site.place, Broker) and not site.place.is_listening:
            return site.failure or _REFUSED
        return site.failure
