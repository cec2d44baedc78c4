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
        self.waiting.append(delivery)

    def popleft(self) -> Delivery:
        """The next to be sent. Raises ``IndexError`` when there is none."""
        self._is_fresh = not self.again
        return self.again.popleft() if self.again else self.waiting.pop()

    def oldest(self) -> Delivery:
        """The one to drop. Raises ``IndexError`` when there is none."""
        return self.waiting.popleft() if self.waiting else self.again.popleft()

    def appendleft(self, delivery: Delivery, /) -> None:
        """*delivery* is the next to be sent after all."""
        if self._is_fresh:
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
