"""What the connections of one broker share: its settings and its state. Touches nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import define, field

if TYPE_CHECKING:
    import random

    from switchgear.testing.broker.connection import Connection
    from switchgear.testing.broker.faults import Faults
    from switchgear.testing.broker.ledger import Ledger
    from switchgear.testing.broker.store import Message, Store

Action: TypeAlias = Literal["publish", "subscribe"]
Authorize: TypeAlias = Callable[[str | None, Action, str], bool | None]


@define(eq=False, kw_only=True)
class Context:
    """The settings of one broker, and what it knows of its connections.

    `life` counts the times it was killed or stopped: a connection of an earlier life is not served. `wills` are
    those that wait for their delay, by client id.
    """

    name: str
    store: Store
    ledger: Ledger
    faults: Faults
    rng: random.Random
    users: Mapping[str, str] | None
    authorize: Authorize | None
    receive_maximum: int
    maximum_packet_size: int | None
    server_keep_alive: int | None
    enforces_keepalive: bool
    is_up: bool
    life: int = 0
    connections: dict[int, Connection] = field(factory=dict)
    wills: dict[str, tuple[asyncio.TimerHandle, Message]] = field(factory=dict)
    emptied: asyncio.Event = field(factory=asyncio.Event)
    _last_number: int = 0

    def next_number(self) -> int:
        """The number of a new connection, from 1."""
        self._last_number += 1
        return self._last_number

    def remove(self, connection: Connection) -> None:
        """Forget a connection whose transport is gone."""
        self.connections.pop(connection.origin.number, None)
        if not self.connections:
            self.emptied.set()

    def allows(self, user: str | None, action: Action, topic: str) -> bool:
        """Whether *user* may do this; an `authorize` that answers `None` has no objection."""
        return self.authorize is None or self.authorize(user, action, topic) is not False
