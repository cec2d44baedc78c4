"""Farewells: DISCONNECT to connections that we end, and the end of a session of ours. Does I/O through the driver."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.drivers.base import DeafListener

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from switchgear.credentials import Credentials
    from switchgear.drivers.base import Connection, Driver
    from switchgear.endpoint import Endpoint

log = logging.getLogger("switchgear.manager")

POLITE: Final = 2.0
"""Seconds that a DISCONNECT may take to be flushed before the connection is dropped."""


@define(eq=False)
class Farewells:
    """The goodbyes of one manager that are being said; *spawn* makes their tasks."""

    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    _under_way: list[asyncio.Task[None]] = field(factory=list, init=False)

    def say(self, connection: Connection) -> None:
        """Close *connection* politely."""
        task = self.spawn(_disconnect(connection))
        self._under_way.append(task)
        task.add_done_callback(self._under_way.remove)

    async def said(self, timeout: float) -> None:
        """Wait until all have been said, *timeout* seconds at most."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=timeout)


async def _disconnect(connection: Connection) -> None:
    try:
        async with asyncio.timeout(POLITE):
            await connection.disconnect()
    except Exception:  # it is closed below whatever happened
        log.debug("switchgear.disconnect_failed", exc_info=True)
    finally:
        connection.abort()


async def end_session(driver: Driver, credentials: Credentials, endpoint: Endpoint) -> None:
    """Have the broker forget a session under a random client id: nobody will ever ask for it again."""
    try:
        async with asyncio.timeout(POLITE):
            request = await credentials.visit(endpoint, timeout=POLITE)
            link = await driver.dial(endpoint)
            connection = await driver.connect(link, request, DeafListener())
        await _disconnect(connection)
    except Exception as error:  # the broker forgets it in its own time
        log.debug("switchgear.session_left_behind", extra={"endpoint": str(endpoint), "error": str(error)})
