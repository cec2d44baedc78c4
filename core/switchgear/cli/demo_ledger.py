"""What the demo counts: accepted, arrived, lost, twice, and how long each switch took. Pure: times are handed in."""

from __future__ import annotations

from attrs import define, field, frozen


@frozen(kw_only=True)
class Switch:
    """One change from the active broker to its standby; times in seconds, from the start of the demo.

    Attributes:
        number: Counted from 1.
        killed_at: When the active broker died.
        opened_at: When the standby's port took connections.
        first_message: Seconds from then to the first message that the standby accepted, or until we stopped waiting.
    """

    number: int
    killed_at: float
    opened_at: float
    first_message: float

    @property
    def down(self) -> float:
        """Seconds without any broker."""
        return self.opened_at - self.killed_at


@define
class DemoLedger:
    """Every message that was accepted and every one that arrived, by their numbers, counted from 0."""

    published: int = 0
    """Messages that ``publish`` accepted."""
    duplicates: int = 0
    """Arrivals of messages that had arrived before."""
    foreign: int = 0
    """Arrivals that are none of ours; always 0 on a broker of our own."""
    switches: list[Switch] = field(factory=list)
    _arrived: bytearray = field(factory=bytearray, init=False)
    _delivered: int = field(default=0, init=False)

    def accept(self) -> bytes:
        """The payload of the next message: its number. Call `accepted` when ``publish`` has taken it."""
        return b"%d" % self.published

    def accepted(self) -> None:
        """``publish`` took the message."""
        self.published += 1

    def arrive(self, payload: bytes) -> None:
        """A message arrived at the subscriber."""
        if not payload.isdigit() or len(payload) > 12 or int(payload) > self.published:
            self.foreign += 1
            return
        number = int(payload)
        if number >= len(self._arrived):
            self._arrived.extend(bytes(max(1024, number + 1 - len(self._arrived))))
        if self._arrived[number]:
            self.duplicates += 1
        else:
            self._arrived[number] = 1
            self._delivered += 1

    @property
    def delivered(self) -> int:
        """Distinct messages that arrived."""
        return self._delivered

    @property
    def lost(self) -> int:
        """Messages that were accepted and have not arrived."""
        return self.published - self._delivered

    @property
    def reconnect_ms(self) -> list[float]:
        """For each switch the milliseconds from the standby's port opening to the first message accepted there."""
        return [round(s.first_message * 1000, 1) for s in self.switches]

    def facts(self) -> dict[str, object]:
        """Everything, for JSON."""
        return {
            "published": self.published,
            "delivered": self.delivered,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "switches": len(self.switches),
            "reconnect_ms": self.reconnect_ms,
            "down_ms": [round(s.down * 1000, 1) for s in self.switches],
            "killed_at_s": [round(s.killed_at, 3) for s in self.switches],
        }
