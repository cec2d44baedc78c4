"""The CONNECT budgets that the transports on one event loop share, one for each broker. Waits on that loop."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Final

from switchgear.backoff import ConnectBudget, Fleet

if TYPE_CHECKING:
    from switchgear.backoff import Backoff
    from switchgear.drivers.base import Driver
    from switchgear.endpoint import Endpoint

FLUSH: Final = 0.05
"""Seconds added to the window of the CONNECT budget, for the way from our decision to the wire."""

LIBRARY: Final = 0.2
"""The same where a library does the rest of dialling before the packet, on a thread of its own: that takes differently
long. With `FLUSH` alone 509 CONNECTs of AWS's SDK came in a second of 500 over TCP, and 504 over TLS (seen)."""

_budgets: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, float], ConnectBudget]]] = (
    weakref.WeakKeyDictionary()
)


async def connect_turn(endpoint: Endpoint, policy: Backoff, driver: Driver) -> None:
    """Wait until the budget that this process has for the broker *endpoint* allows one more CONNECT, by *driver*."""
    if not isinstance(policy, Fleet):
        return
    loop = asyncio.get_running_loop()
    budget = _shared(loop, endpoint.key, policy)
    way = FLUSH if driver.features.dials_tls else LIBRARY
    budget.window = max(budget.window, policy.window + way)
    place, at = budget.reserve(loop.time())
    while at > (now := loop.time()):
        await asyncio.sleep(at - now)
        at = budget.confirm(place, loop.time())


def _shared(loop: asyncio.AbstractEventLoop, key: str, policy: Fleet) -> ConnectBudget:
    """The one CONNECT budget for the broker *key* of all transports on *loop*; synchronous ones share one loop."""
    budgets = _budgets.setdefault(loop, {})
    if (key, policy.rate) not in budgets:
        if len(budgets) >= 1024:  # brokers come and go; a forgotten budget only starts afresh
            budgets.clear()
        budgets[key, policy.rate] = ConnectBudget(max(1, int(policy.budget)), policy.window)
    return budgets[key, policy.rate]
