"""The time in which messages of an outbox file expire. Pure: both clocks come from outside.

While a process has the file its time goes on as the loop's does, whatever becomes of the wall clock. Between two processes
it goes on as the wall clock did, or stands still when that was set back. So a step of the wall clock makes nothing expire
while a process runs, and nothing lives for ever. A step forward between two processes cannot be told from a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable


@define(eq=False)
class FileClock:
    """The time of one file; it began as the wall clock's, in seconds since 1970."""

    clock: Callable[[], float]
    """The loop's, in seconds."""
    wall: Callable[[], float]
    """Seconds since 1970."""
    offset: float = field(default=0.0, init=False)
    """The file's time less the loop's."""

    def resume(self, noted_at: int | None, skew: int) -> float:
        """Go on from what was `noted` last; how many seconds before that the wall clock is now, 0 when it is not."""
        wall = self.wall()
        back = 0.0 if noted_at is None else max(0.0, noted_at / 1000 - wall)
        self.offset = wall + back + skew / 1000 - self.clock()
        return back

    def use(self, clock: Callable[[], float]) -> float:
        """Read *clock* from now on; what is to be added to times of the one before."""
        shift = clock() - self.clock()
        self.clock = clock
        self.offset -= shift
        return shift

    def now(self) -> float:
        """The file's time."""
        return self.clock() + self.offset

    def noted(self) -> tuple[int, int]:
        """What the next process needs, in milliseconds: the wall clock, and the file's time less that."""
        wall = self.wall()
        return round(wall * 1000), round((self.now() - wall) * 1000)
