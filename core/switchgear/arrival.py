"""One message that arrived, and the acknowledgements of one connection in their order. Pure: runs on the loop.

Acknowledgements keep the order of arrival: PUBACKs among themselves (MQTT-4.6.0-2), and PUBRECs (MQTT-4.6.0-3).
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
    qos: int = 1


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
    """The acknowledgements of one connection, in order of arrival.

    A message of QoS 1 that is never done, for its repetition is, must not hold up one of QoS 2: that one is answered on a
    later connection of the session, and is not handed out again before.
    """

    connection: Connection | None = None
    # Made when they are needed: an empty one takes 760 bytes.
    _acks: deque[Ack] | None = None
    _receipts: deque[Ack] | None = None  # of QoS 2

    def add(self, ack: Ack) -> None:
        """A message that wants an answer arrived."""
        if ack.qos == 2:
            if self._receipts is None:
                self._receipts = deque()
            self._receipts.append(ack)
        else:
            if self._acks is None:
                self._acks = deque()
            self._acks.append(ack)

    def settle(self) -> None:
        """Acknowledge what is done, from the front."""
        if self.connection is not None:
            for acks in (self._acks, self._receipts):
                while acks and acks[0].left <= 0:
                    self.connection.acknowledge(acks.popleft().token)

    def __len__(self) -> int:
        return len(self._acks or ()) + len(self._receipts or ())
