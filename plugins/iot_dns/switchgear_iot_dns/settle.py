"""When the DNS has settled after a loss, and where to go then: decisions over answers and time. Sans-IO.

What is compared is the *target*, the end of the chain of CNAME records, never an address: AWS IoT endpoints hand out
other addresses all the time, and a region is a target.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from switchgear_iot_dns.options import Settings


class Kind(enum.Enum):
    """What came of one look-up."""

    TARGET = "target"
    """The name leads to a target."""
    NO_ANSWER = "no answer"
    """The name leads nowhere: it does not exist, has no address, or its chain is a loop. Never a switch."""
    UNKNOWN = "unknown"
    """The question was not answered: a time-out, SERVFAIL, servers that disagree. Never a switch."""


@frozen
class Answer:
    """One look-up: ``target`` where it is one, else ``detail``, which says why not."""

    kind: Kind
    target: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return self.target if self.kind is Kind.TARGET else f"{self.kind.value} ({self.detail})"


class Loss(enum.Enum):
    """What is known of why there is no connection."""

    BLIP = "the connection was lost"
    """Nobody told us to go: the network, or the broker's host. It says nothing about regions."""
    CLOSED = "the broker closed the connection"
    """It did so on purpose, and did not say why."""
    SENT_AWAY = "the region sent us away"
    """The broker ended the connection on purpose."""
    DOWN = "the last attempt failed"
    """It did not come to a connection: the region, the way to it, or the look-up of its address."""


@frozen
class Decision:
    """What follows from the answers so far: go to ``target`` (empty: wherever the name leads), or ask again."""

    goes: bool
    why: str
    target: str = ""


@define
class Settling:
    """The answers since one loss. *used* is the target of the connection that was lost; empty: not known.

    It goes ahead as soon as two facts agree, and never waits longer than the facts need:

    - A connection that was lost to the network goes on at once when the name still leads where it did, or cannot be asked.
      Where the name leads elsewhere, that is one fact only: ``answers`` of them in a row must say so.
    - A region that closed the connection, sent us away or does not take us back is left at once when the name leads elsewhere.
    - A region that sent us away and is still named is believed after ``wait`` seconds and ``answers`` answers in a row: it may
      have been quicker than the DNS.
    - After ``bound`` seconds it goes on with the best that is known.
    """

    settings: Settings
    loss: Loss
    used: str
    began: float
    row: int = field(default=0, init=False)
    last: str = field(default="", init=False)
    other: str = field(default="", init=False)
    """The last target that was named and is not *used*."""

    def hear(self, answer: Answer, now: float) -> Decision:
        """What follows from one more *answer*, which came at *now*."""
        self._count(answer)
        waited = max(0.0, now - self.began)
        if answer.kind is not Kind.TARGET:
            decision = self._hear_nothing(answer)
        elif self.used and answer.target != self.used:
            decision = self._hear_other(answer.target)
        else:
            decision = self._hear_same(answer.target, waited)
        if decision.goes or waited < self.settings.bound:
            return decision
        best = (self.other if self.loss is Loss.SENT_AWAY else "") or self.last or self.used
        return Decision(True, f"not settled after {waited:.1f} s, going on; {decision.why}", best)

    def _count(self, answer: Answer) -> None:
        if answer.kind is Kind.TARGET:
            self.row = self.row + 1 if answer.target == self.last else 1
            self.last = answer.target
            if answer.target != self.used:
                self.other = answer.target
        elif answer.kind is Kind.NO_ANSWER:  # what is unknown neither counts nor breaks the row
            self.row, self.last = 0, ""

    def _hear_nothing(self, answer: Answer) -> Decision:
        if self.loss is Loss.SENT_AWAY:
            return Decision(False, f"{self.loss.value}; where the name leads now: {answer}")
        return Decision(True, f"where the name leads now: {answer}; that is no switch", self.used)

    def _hear_other(self, target: str) -> Decision:
        needed = self.settings.answers
        if self.loss is Loss.BLIP and self.row < needed:
            return Decision(
                False, f"the name leads to {target} now, not to {self.used}: {self.row} of {needed} answers"
            )
        counted = f"{self.row} of {needed} answers" if self.loss is Loss.BLIP else self.loss.value
        return Decision(True, f"the name leads to {target} now, not to {self.used}: {counted}", target)

    def _hear_same(self, target: str, waited: float) -> Decision:
        if self.loss is not Loss.SENT_AWAY:
            return Decision(True, f"{self.loss.value}, the name leads to {target}", target)
        needed, wait = self.settings.answers, self.settings.wait
        still = f"{self.loss.value}, the name leads to {target} {'still' if self.used else 'now'}"
        if self.row >= needed and waited >= wait:
            return Decision(True, f"{still}, after {waited:.1f} s", target)
        return Decision(False, f"{still}: {self.row} of {needed} answers, {waited:.1f} of {wait:g} s", target)
