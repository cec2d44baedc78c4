"""One message that arrived, and the acknowledgements of one connection in their order. Pure: runs on the loop.

Acknowledgements keep the order of arrival (MQTT-4.6.0-2).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define

if TYPE_CHECKING:
    from switchgear.drivers.base import Connection
    from switchgear.message import Message


@define(eq=False)
class Ack:
    """The acknowledgement that one message waits for; ``left`` counts the subscriptions that are not done with it."""

    token: object
    queue: AckQueue
    left: int


@define(eq=False)
class Arrival:
    """One message on its way through one subscription.

    Attributes:
        message: What arrived.
        ack: None where the broker expects no answer.
        key: Under which the subscription's window knows it; None: it is not deduplicated.
    """

    message: Message
    ack: Ack | None
    key: str | None = None


@define(eq=False)
class AckQueue:
    """The acknowledgements of one connection, in order of arrival."""

    connection: Connection | None = None
    _acks: deque[Ack] | None = None  # made when it is needed: an empty one takes 760 bytes

    def add(self, ack: Ack) -> None:
        """A message that wants an answer arrived."""
        if self._acks is None:
            self._acks = deque()
        self._acks.append(ack)

    def settle(self) -> None:
        """Acknowledge what is done, from the front."""
        acks = self._acks
        if self.connection is not None and acks is not None:
            while acks and acks[0].left <= 0:
                self.connection.acknowledge(acks.popleft().token)

    def __len__(self) -> int:
        return 0 if self._acks is None else len(self._acks)
