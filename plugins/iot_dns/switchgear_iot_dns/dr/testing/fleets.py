"""Who is connected in a region, for the fake of iot-data: a list in memory, or the clients of an embedded broker."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from switchgear.testing.broker.ledger import Connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.testing import ThreadedBroker


class Fleet(Protocol):
    """The clients of one region; called from the threads of `FakeAws`."""

    def end(self, client_id: str) -> bool:
        """End the client's connection; whether there was one."""

    def since(self, client_id: str) -> float | None:
        """When the client connected, in seconds since 1970; None when it is not connected."""


class ListedFleet:
    """Clients in memory. One that is ended connects again where *home* says, at once.

    ``ended`` counts how often each was, ``connects`` are the times at which clients came.
    """

    def __init__(
        self,
        *client_ids: str,
        home: Callable[[str], ListedFleet | None] = lambda _: None,
        now: Callable[[], float] = time.time,
        since: float = 0.0,
    ) -> None:
        self.home = home
        self.ended: Counter[str] = Counter()
        self.connects: list[float] = []
        self._now = now
        self._connected = dict.fromkeys(client_ids, since)
        self._lock = threading.Lock()

    @property
    def clients(self) -> list[str]:
        """Who is connected."""
        return sorted(self._connected)

    def connect(self, client_id: str) -> None:
        """A client comes."""
        with self._lock:
            self._connected[client_id] = self._now()
            self.connects.append(self._now())

    def end(self, client_id: str) -> bool:
        """See `Fleet.end`."""
        with self._lock:
            was = self._connected.pop(client_id, None) is not None
            if was:
                self.ended[client_id] += 1
        if was and (home := self.home(client_id)) is not None:
            home.connect(client_id)
        return was

    def since(self, client_id: str) -> float | None:
        """See `Fleet.since`."""
        return self._connected.get(client_id)


class BrokerFleet:
    """The clients of an embedded broker: ended with DISCONNECT 0x98, administrative action."""

    def __init__(self, broker: ThreadedBroker) -> None:
        self.broker = broker
        self.ended: Counter[str] = Counter()

    def end(self, client_id: str) -> bool:
        """See `Fleet.end`."""
        was = self.broker.kick(client_id)
        if was:
            self.ended[client_id] += 1
        return was

    def since(self, client_id: str) -> float | None:
        """See `Fleet.since`."""

        def look() -> float | None:
            if client_id not in self.broker.broker.clients:
                return None
            import asyncio

            found = [e for e in self.broker.ledger.entries if isinstance(e, Connected) and e.client_id == client_id]
            age: float = asyncio.get_running_loop().time() - found[-1].at
            return time.time() - age

        return self.broker.do(look)
