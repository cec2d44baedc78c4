from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field
from switchgear import Delivery, DeliveryState, OutboxLimits
from switchgear.drivers.base import Limits
from switchgear.outbox import MemoryOutbox
from switchgear.sender import SUSPECT, Sender
from switchgear.testing import VirtualLoop
from switchgear.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Iterator

S = DeliveryState


@define(eq=False)
class Wire:
    """A connection that takes messages until the one that *breaks* it."""

    sender: Sender
    breaks: int | None = None
    chokes: int | None = None
    raises: bool = False
    got: list[int] = field(factory=list)
    limits: Limits = field(factory=Limits)
    in_flight: int = 0
    is_writable: bool = True

    def send(self, delivery: Delivery) -> None:
        if delivery.sequence == self.breaks:
            self.sender.shut()
            if self.raises:
                raise ConnectionError
            return
        if delivery.sequence == self.chokes:
            raise RuntimeError
        self.got.append(delivery.sequence)
        delivery.packet_id, delivery.phase = delivery.sequence, 1
        self.in_flight += 1


@pytest.fixture
def sender() -> Iterator[Sender]:
    """A sender over an outbox in memory."""
    loop = VirtualLoop()
    yield Sender(MemoryOutbox(OutboxLimits(), Waits()), loop, 100, None, lambda *_, **__: None)
    loop.close()


def put(sender: Sender, count: int, **options: Any) -> list[Delivery]:
    made = [sender.outbox.accept("t", b"", 1, **options) for _ in range(count)]
    return [delivery for delivery in made if delivery is not None]


def test_lost_by_a_sending(sender: Sender) -> None:
    """A connection that is lost while a message is written to it gives back all it had, and is not written to again."""
    put(sender, 6)
    first = Wire(sender, breaks=3)
    sender.open(first)  # type: ignore[arg-type]  # it does as one
    assert first.got == [1, 2]
    assert not sender.outbox.sent
    assert [d.sequence for d in sender.outbox.pending] == [1, 2, 3, 4, 5, 6]
    sender.resume(session_present=True, was_quick=False)
    second = Wire(sender)
    sender.open(second)  # type: ignore[arg-type]  # the same
    assert second.got == [1, 2, 3, 4, 5, 6]


def test_a_driver_that_cannot_send(sender: Sender) -> None:
    """A message that the driver cannot send ends as refused, leaves nothing behind, and the others go on."""
    deliveries = put(sender, 3)
    sender.open(Wire(sender, chokes=2))  # type: ignore[arg-type]  # the same
    assert [d.state for d in deliveries] == [S.SENT, S.REFUSED, S.SENT]
    assert list(sender.outbox.sent) == [1, 3]
    assert len(sender.outbox) == 2


def test_a_driver_that_raises_what_the_connection_died_of(sender: Sender) -> None:
    """An accepted message is not refused for an error of the connection that its sending was lost with: it waits."""
    deliveries = put(sender, 3)
    sender.open(Wire(sender, breaks=2, raises=True))  # type: ignore[arg-type]  # the same
    assert [d.state for d in deliveries] == [S.STORED] * 3
    assert [d.sequence for d in sender.outbox.pending] == [1, 2, 3]
    assert not sender.outbox.sent


def test_a_suspect_that_expired(sender: Sender) -> None:
    """A message whose time ended between the loss that would convict it and the next connection leaves the outbox once."""
    end = sender.loop.time() + 10
    (delivery,) = put(sender, 1, expires_at=end)
    put(sender, 1)
    for _ in range(SUSPECT + 1):
        sender.open(Wire(sender))  # type: ignore[arg-type]  # the same
        sender.shut()
        if delivery.losses == SUSPECT:
            sender.outbox.expire(end)
        sender.resume(session_present=True, was_quick=True)
    assert delivery.state is S.EXPIRED
    assert len(sender.outbox) == 1
