"""What one MQTT session remembers from one connection to the next: packet ids. Pure: no I/O.

A packet id stays with its message until the broker has answered for it, over all connections of the session
(MQTT 5, 4.4); with the session its ids end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from switchgear.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.delivery import Delivery


@define(eq=False)
class Session:
    """Packet ids in use, in both directions."""

    deliveries: dict[int, Delivery] = field(factory=dict)
    """Ours, sent and not yet answered for."""
    received: dict[int, bool] = field(factory=dict)
    """QoS 2 ids of messages that arrived: False while it is being handled, True when PUBREC was sent."""
    repeated: dict[int, Callable[[bytes], None]] = field(factory=dict)
    """Of these, those that came again while they were being handled: how the present connection sends PUBREC."""
    requests: set[int] = field(factory=set)
    """Ids of SUBSCRIBE and UNSUBSCRIBE that wait for their answer."""
    _last: int = 0

    def next_id(self) -> int:
        """A packet id that is not in use, 1 to 65535."""
        for _ in range(65535):
            self._last = self._last % 65535 + 1
            if self._last not in self.deliveries and self._last not in self.requests:
                return self._last
        raise InternalError("all 65535 packet ids are in use")
