"""The CONNECT budgets that the transports on one event loop share, one for each broker. Waits on that loop."""

from __future__ import annotations

import asyncio
import functools
import weakref
from typing import TYPE_CHECKING, Final

from switchgear.backoff import ConnectBudget, Fleet

if TYPE_CHECKING:
    from switchgear.backoff import Backoff
    from switchgear.drivers.base import Driver, Turn
    from switchgear.endpoint import Endpoint

FLUSH: Final = 0.05
"""Seconds added to the window of the CONNECT budget, for the way from our decision to the wire."""

LIBRARY: Final = 0.2
"""The same where a library does the rest of dialling before the packet, on a thread of its own: that takes differently
long. Its driver waits for the `Turn` on the wire, where it can; with `FLUSH` alone 509 CONNECTs of AWS's SDK came in a second of
500 without that, and 718 on a busy machine with this (seen)."""

_budgets: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, float], ConnectBudget]]] = (
    weakref.WeakKeyDictionary()
)


async def connect_turn(endpoint: Endpoint, policy: Backoff, driver: Driver) -> Turn | None:
    """Wait until the budget that this process has for the broker *endpoint* allows one more CONNECT, by *driver*.

    What it gives is the `ConnectRequest.turn`; None: there is no budget.
    """
    if not isinstance(policy, Fleet):
        return None
    loop = asyncio.get_running_loop()
    budget = _shared(loop, endpoint.key, policy)
    way = FLUSH if driver.features.dials_tls else LIBRARY
    budget.window = max(budget.window, policy.window + way)
    now = loop.time()
    place, at = budget.reserve(now)
    while at > now or (driver.features.dials_tls and (at := budget.send(now)) > now):
        await asyncio.sleep(at - now)
        now = loop.time()
        at = budget.confirm(place, now)
    return functools.partial(_send, budget, loop)


async def _send(budget: ConnectBudget, loop: asyncio.AbstractEventLoop) -> None:
    """Wait until *budget* allows one more CONNECT on the wire."""
    now = loop.time()
    at = budget.send(now)
    while at > now:
        await asyncio.sleep(at - now)
        now = loop.time()
        at = budget.send(now)


def _shared(loop: asyncio.AbstractEventLoop, key: str, policy: Fleet) -> ConnectBudget:
    """The one CONNECT budget for the broker *key* of all transports on *loop*; synchronous ones share one loop."""
    budgets = _budgets.setdefault(loop, {})
    if (key, policy.rate) not in budgets:
        if len(budgets) >= 1024:  # brokers come and go; a forgotten budget only starts afresh
            budgets.clear()
        budgets[key, policy.rate] = ConnectBudget(max(1, int(policy.budget)), policy.window)
    return budgets[key, policy.rate]
