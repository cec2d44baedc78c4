"""The brokers of the demo: an active-standby pair whose active one is killed again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from switchgear.cli.demo_ledger import Switch
from switchgear.testing.broker import Broker, Ledger, Published, Store

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from types import TracebackType

UP: Final = (0.6, 2.0)
"""Seconds that a broker lives after the first message it took: long enough to be used, short enough for many deaths."""

DOWN: Final = (0.2, 1.5)
"""Seconds until the standby opens its port; ActiveMQ with a shared store takes as long or longer."""

PATIENCE: Final = 30.0
"""Seconds to wait for the first message after a switch; past it the switch has failed."""


class Pair:
    """Two brokers on one store, on ports of 127.0.0.1 that the system chose; the second is the standby."""

    def __init__(self, rng: random.Random) -> None:
        store = Store()
        self.rng = rng
        self.brokers = [
            Broker(name="a", store=store, ledger=Ledger(keep=False)),
            Broker(name="b", store=store, ledger=Ledger(keep=False), standby=True),
        ]
        self.doing = "starting"

    async def __aenter__(self) -> Self:
        for broker in self.brokers:
            await broker.start()
        self.doing = f"{self.active.name} is active"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for broker in self.brokers:
            await broker.stop()

    @property
    def active(self) -> Broker:
        """The one that serves, or served last."""
        return self.brokers[0]

    @property
    def uris(self) -> list[str]:
        """Where both are, in the order of their names."""
        return [broker.uri for broker in sorted(self.brokers, key=lambda b: b.name)]

    async def switch(self, number: int, since: float, note: Callable[[str], None]) -> Switch:
        """Let the active one live for a while, kill it, promote the standby, and see the first message come in.

        *since* is the loop time that the times in the result count from.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.rng.uniform(*UP))
        old, new = self.brokers
        killed_at = loop.time()
        await old.kill()
        down = self.rng.uniform(*DOWN)
        self.doing = f"{old.name} was killed; {new.name} takes over in {down:.1f} s"
        note(f"switch {number}: {self.doing}")
        await asyncio.sleep(down)
        before = new.ledger.counts[Published]
        await new.promote()
        opened_at = loop.time()
        self.brokers = [new, old]
        self.doing = f"{new.name} is active"
        note(f"switch {number}: {new.name} opened its port")
        try:
            async with asyncio.timeout(PATIENCE):
                await new.ledger.until(lambda: new.ledger.counts[Published] > before)
        except TimeoutError:
            note(f"switch {number}: no message came within {PATIENCE:g} s")
        first = loop.time() - opened_at
        await old.restart(standby=True)
        return Switch(number=number, killed_at=killed_at - since, opened_at=opened_at - since, first_message=first)
