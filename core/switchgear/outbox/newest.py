"""The queue of ``drain_order="newest"``: what was accepted last is sent first. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from switchgear.delivery import Delivery


@define(eq=False)
class NewestFirst:
    """What was sent before goes first, in its order (MQTT 5, 4.6); then the newest of the others."""

    again: deque[Delivery] = field(factory=deque)
    waiting: deque[Delivery] = field(factory=deque)
    """In order of acceptance."""
    size: int = 0
    """Bytes of payload and topic that were put into `waiting`, less those that were taken out under the outbox's lock."""
    sent: int = 0
    """Bytes of those that the loop took."""
    _is_fresh: bool = field(default=False, init=False)  # what came out last was never sent

    def __len__(self) -> int:
        """How many."""
        return len(self.again) + len(self.waiting)

    def __iter__(self) -> Iterator[Delivery]:
        """What was sent before, then the newest first."""
        yield from list(self.again)
        yield from reversed(list(self.waiting))

    def append(self, delivery: Delivery, /) -> None:
        """One more was accepted."""
        self.size += _size(delivery)
        self.waiting.append(delivery)

    def popleft(self) -> Delivery:
        """The next to be sent. Raises ``IndexError`` when there is none."""
        self._is_fresh = not self.again
        if self.again:
            return self.again.popleft()
        delivery = self.waiting.pop()
        self.sent += _size(delivery)
        return delivery

    def oldest(self) -> Delivery:
        """The one to drop. Raises ``IndexError`` when there is none."""
        if not self.waiting:
            return self.again.popleft()
        delivery = self.waiting.popleft()
        self.size -= _size(delivery)
        return delivery

    def older(self, deliveries: list[Delivery]) -> None:
        """These, in order, were accepted before all that wait."""
        self.size += sum(map(_size, deliveries))
        self.waiting.extendleft(reversed(deliveries))

    def appendleft(self, delivery: Delivery, /) -> None:
        """*delivery* is the next to be sent after all."""
        if self._is_fresh:
            self.sent -= _size(delivery)
            self.waiting.append(delivery)  # newer ones may come before its turn
        else:
            self.again.appendleft(delivery)

    def extendleft(self, deliveries: Iterable[Delivery], /) -> None:
        """`appendleft` for each."""
        self.again.extendleft(deliveries)

    def clear(self) -> None:
        """None is left."""
        self.again.clear()
        self.waiting.clear()


def _size(delivery: Delivery) -> int:
    return len(delivery.payload) + len(delivery.topic)
