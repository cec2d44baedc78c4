"""What act ``region-switch`` counts: moves, messages that no region has, connections of one client at once. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen
from switchgear.cli.demo_acts import Outcome
from switchgear.testing.broker import Closed, Connected, Published

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.testing.broker import Ledger

FIRST: Final = "both east"
"""The pattern at the beginning."""


@frozen(kw_only=True)
class Step:
    """One change: *client* goes to *to*; *is_late*: the record follows the disconnect."""

    pattern: str
    client: str
    to: str
    is_late: bool = False


@frozen(kw_only=True)
class Move:
    """What came of a step; times in seconds.

    Attributes:
        step: The change.
        came_from: The region before.
        after_disconnect: From the disconnect to the first message in the new region.
        after_settled: The same from the moment when record and disconnect had both happened.
    """

    step: Step
    came_from: str
    after_disconnect: float
    after_settled: float


@define
class Counts:
    """What is known at the end.

    Attributes:
        ledgers: What each region saw, by its name.
        published: Messages that ``publish`` accepted, by client.
        moves: What came of each step.
        commands_sent: Messages from a region to a client that had just come to it.
        commands_arrived: Those that reached it.
    """

    ledgers: Mapping[str, Ledger]
    published: Mapping[str, int]
    moves: list[Move] = field(factory=list)
    commands_sent: int = 0
    commands_arrived: int = 0

    @property
    def lost(self) -> int:
        """Messages that were accepted and that no region has."""
        have = {(e.topic, e.payload) for ledger in self.ledgers.values() for e in ledger.published("demo/#")}
        return sum(self.published.values()) - len(have)

    @property
    def duplicates(self) -> int:
        """Messages that a region has again, or that both have."""
        arrived = sum(len(ledger.published("demo/#")) for ledger in self.ledgers.values())
        return arrived - (sum(self.published.values()) - self.lost)

    @property
    def most_at_once(self) -> int:
        """The most connections that one client had at one moment, in all regions together."""
        return max((self._most_at_once(client) for client in self.published), default=0)

    def _most_at_once(self, client: str) -> int:
        changes = [
            (entry.at, 1 if isinstance(entry, Connected) else -1)
            for ledger in self.ledgers.values()
            for entry in ledger.entries
            if entry.client_id == client and isinstance(entry, Connected | Closed)
        ]
        most = now = 0
        for _, change in sorted(changes):
            now += change
            most = max(most, now)
        return most

    def facts(self) -> dict[str, object]:
        """Everything, for JSON."""
        return {
            "published": sum(self.published.values()),
            "lost": self.lost,
            "duplicates": self.duplicates,
            "commands_sent": self.commands_sent,
            "commands_arrived": self.commands_arrived,
            "most_connections_at_once": self.most_at_once,
            "moves": [
                {
                    "pattern": move.step.pattern,
                    "client": move.step.client,
                    "from": move.came_from,
                    "to": move.step.to,
                    "record_came_late": move.step.is_late,
                    "disconnect_to_first_message_ms": round(move.after_disconnect * 1000, 1),
                    "settled_to_first_message_ms": round(move.after_settled * 1000, 1),
                }
                for move in self.moves
            ],
        }

    def outcome(self) -> Outcome:
        """The same for people."""
        facts = self.facts()
        summary = (
            "two regions (MQTT 5, mutual TLS), a DNS server with CNAME records of TTL 0, two clients (mqtt1, mqtt2)",
            "",
            f"{'published':<28}{facts['published']:>6}",
            f"{'lost':<28}{self.lost:>6}",
            f"{'duplicates':<28}{self.duplicates:>6}",
            f"{'commands after a move':<28}{self.commands_sent:>6}, {self.commands_arrived} arrived",
            f"{'connections of one client':<28}{self.most_at_once:>6} at once",
        )
        rows = [
            (
                move.step.pattern,
                f"{move.step.client}, {move.came_from} to {move.step.to}",
                "disconnect, then record" if move.step.is_late else "record, then disconnect",
                f"{move.after_disconnect * 1000:.0f} ms",
                f"{move.after_settled * 1000:.0f} ms",
            )
            for move in self.moves
        ]
        return Outcome(
            lost=self.lost,
            facts=facts,
            summary=summary,
            head=("pattern", "who moves", "order", "from disconnect", "from both"),
            rows=((FIRST, "", "", "", ""), *rows),
            verdict=self._verdict(),
        )

    def _verdict(self) -> str:
        if self.lost:
            return f"{self.lost} message(s) were LOST. Please report it."
        kept = "Every accepted message is in one region or the other."
        if not self.moves:
            return kept
        times = [move.after_settled * 1000 for move in self.moves]
        slow = f"median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms"
        return f"record and disconnect to the first message in the new region: {slow}\n\n{kept}"


def first_message(ledger: Ledger, client: str, since: float) -> float | None:
    """When a message of *client* first came after *since*, in loop time; None: not yet."""
    found = None
    for entry in reversed(ledger.entries):
        if entry.at < since:
            break
        if isinstance(entry, Published) and entry.client_id == client:
            found = entry.at
    return found
