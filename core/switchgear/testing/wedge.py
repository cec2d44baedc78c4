"""A driver that wedges on demand: it takes every call, does nothing, and reports nothing. Does no I/O of its own.

It goes around a driver that works, as a native library goes wrong: the calls return, the callbacks never come.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switchgear.drivers.base import Discardable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.cause import Failure
    from switchgear.delivery import Delivery
    from switchgear.drivers.base import Connection, ConnectRequest, Driver, Filter, Limits, Link, Listener
    from switchgear.endpoint import Endpoint
    from switchgear.message import Message


class Wedge:
    """The switch for the drivers that it was put `around`. Called on the loop's thread. Since: 0.1.

    With *is_lasting* a new driver of this process is wedged as well, from the moment of `on`.
    """

    def __init__(self, *, is_lasting: bool = False) -> None:
        self.is_lasting = is_lasting
        self.drivers: list[WedgeableDriver] = []
        self._is_on = False

    def around(self, driver: Driver) -> WedgeableDriver:
        """*driver*, which can be wedged."""
        made = WedgeableDriver(driver, is_wedged=self._is_on and self.is_lasting)
        self.drivers.append(made)
        return made

    def on(self) -> None:
        """Wedge every driver that there is."""
        self._is_on = True
        for driver in self.drivers:
            driver.wedge()


class WedgeableDriver:
    """*inner*, as long as it is not wedged."""

    def __init__(self, inner: Driver, *, is_wedged: bool = False) -> None:
        self.name = inner.name
        self.features = inner.features
        self.is_wedged = is_wedged
        self._inner = inner
        self._connections: list[WedgeableConnection] = []

    def wedge(self) -> None:
        """From now on nothing is done and nothing is told."""
        if not self.is_wedged:
            for connection in self._connections:
                connection.stuck = connection.in_flight
            self.is_wedged = True

    async def dial(self, endpoint: Endpoint) -> Link:
        """See `switchgear.drivers.base.Driver`."""
        if self.is_wedged:
            await asyncio.Event().wait()
        return await self._inner.dial(endpoint)

    async def connect(self, link: Link, request: ConnectRequest, listener: Listener) -> Connection:
        """See `switchgear.drivers.base.Driver`."""
        if self.is_wedged:
            await asyncio.Event().wait()
        connection = await self._inner.connect(link, request, _Mute(listener, self))
        made = WedgeableConnection(connection, self)
        self._connections = [c for c in self._connections if not c.is_over]
        self._connections.append(made)
        return made

    def close(self) -> None:
        """See `switchgear.drivers.base.Driver`."""
        self._inner.close()

    def discard(self) -> None:
        """See `switchgear.drivers.base.Discardable`."""
        if isinstance(self._inner, Discardable):
            self._inner.discard()
        else:
            self._inner.close()


class WedgeableConnection:
    """A connection of it. It can always be closed: the core must not depend on more."""

    def __init__(self, inner: Connection, driver: WedgeableDriver) -> None:
        self._inner = inner
        self._driver = driver
        self.stuck = 0
        self.is_over = False

    @property
    def session_present(self) -> bool:
        """See `switchgear.drivers.base.Connection`."""
        return self._inner.session_present

    @property
    def limits(self) -> Limits:
        """See `switchgear.drivers.base.Connection`."""
        return self._inner.limits

    @property
    def in_flight(self) -> int:
        """See `switchgear.drivers.base.Connection`."""
        return self.stuck if self._driver.is_wedged else self._inner.in_flight

    @property
    def is_writable(self) -> bool:
        """See `switchgear.drivers.base.Connection`."""
        return self._inner.is_writable

    def send(self, delivery: Delivery) -> None:
        """See `switchgear.drivers.base.Connection`."""
        if self._driver.is_wedged:
            self.stuck += 1
        else:
            self._inner.send(delivery)

    async def subscribe(self, filters: Sequence[Filter]) -> list[int]:
        """See `switchgear.drivers.base.Connection`."""
        if self._driver.is_wedged:
            await asyncio.Event().wait()
        return await self._inner.subscribe(filters)

    async def unsubscribe(self, topic_filters: Sequence[str]) -> list[int]:
        """See `switchgear.drivers.base.Connection`."""
        if self._driver.is_wedged:
            await asyncio.Event().wait()
        return await self._inner.unsubscribe(topic_filters)

    def acknowledge(self, token: object) -> None:
        """See `switchgear.drivers.base.Connection`."""
        if not self._driver.is_wedged:
            self._inner.acknowledge(token)

    def ping(self) -> None:
        """See `switchgear.drivers.base.Connection`."""
        if not self._driver.is_wedged:
            self._inner.ping()

    async def disconnect(self) -> None:
        """See `switchgear.drivers.base.Connection`."""
        self.is_over = True
        await self._inner.disconnect()

    def abort(self) -> None:
        """See `switchgear.drivers.base.Connection`."""
        self.is_over = True
        self._inner.abort()


class _Mute:
    """Passes reports on while the driver is not wedged."""

    def __init__(self, listener: Listener, driver: WedgeableDriver) -> None:
        self._listener = listener
        self._driver = driver

    def on_acknowledged(self, delivery: Delivery, code: int) -> None:
        if not self._driver.is_wedged:
            self._listener.on_acknowledged(delivery, code)

    def on_message(self, message: Message, token: object) -> None:
        if not self._driver.is_wedged:
            self._listener.on_message(message, token)

    def on_batch_end(self) -> None:
        if not self._driver.is_wedged:
            self._listener.on_batch_end()

    def on_writable(self) -> None:
        if not self._driver.is_wedged:
            self._listener.on_writable()

    def on_healthy(self) -> None:
        if not self._driver.is_wedged:
            self._listener.on_healthy()

    def on_lost(self, failure: Failure) -> None:
        if not self._driver.is_wedged:
            self._listener.on_lost(failure)
