"""What every outbox keeps, through the port alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from switchgear import Cancelled, Delivery, DeliveryState, Dropped, Expired, MessageTooLarge, OutboxFull, OutboxLimits
from switchgear.outbox import MemoryOutbox, NewestSqliteOutbox, Outbox, SqliteOutbox
from switchgear.waits import Waits

if TYPE_CHECKING:
    from pathlib import Path

S = DeliveryState
Make = Callable[..., Outbox]


@pytest.fixture(params=["memory", "sqlite"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes outboxes, and closes them."""
    made: list[Outbox] = []

    def make(when_full: str = "raise", *, messages: int = 9, size: int = 1000, order: str = "oldest") -> Outbox:
        limits = OutboxLimits(max_messages=messages, max_bytes=size, when_full=when_full)  # type: ignore[arg-type] # of four
        outbox: Outbox
        if request.param == "memory":
            outbox = MemoryOutbox(limits, Waits())
            outbox.order(order)
        else:
            path = str(tmp_path / f"{len(made)}.outbox")
            kind = NewestSqliteOutbox if order == "newest" else SqliteOutbox
            outbox = kind(limits, Waits(), path, "normal")
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        outbox.close_now()


def put(outbox: Outbox, payload: bytes = b"", *, expires_at: float | None = None, qos: int = 1) -> Delivery:
    delivery = outbox.accept("t", payload, qos, expires_at=expires_at)
    assert delivery is not None
    return delivery


def send(outbox: Outbox) -> Delivery:
    delivery = outbox.pending.popleft()
    delivery._state = S.SENT
    delivery.packet_id, delivery.phase = delivery.sequence, 1
    outbox.sent[delivery.sequence] = delivery
    return delivery


def test_counts(new: Make) -> None:
    """Messages and bytes are counted from acceptance to the end, and every one is stored soon."""
    outbox = new()
    deliveries = [put(outbox, b"x" * n) for n in range(3)]
    assert (len(outbox), outbox.size, outbox.accepted) == (3, 6, 3)
    deliveries[-1].wait_stored(60)
    assert [d.state for d in deliveries] == [S.STORED] * 3
    for delivery in deliveries:
        outbox.end(send(outbox), S.ACKNOWLEDGED)
        assert delivery.done()
    assert (len(outbox), outbox.size, outbox.accepted) == (0, 0, 3)


def test_bounds(new: Make) -> None:
    """One message, or one byte, too many is refused with the bound that it passed."""
    outbox = new(messages=2)
    put(outbox)
    put(outbox)
    with pytest.raises(OutboxFull, match="limit of 2 messages"):
        put(outbox)
    outbox = new(size=10)
    put(outbox, b"12345678")
    with pytest.raises(OutboxFull, match="10 bytes, 2 more"):
        put(outbox, b"1")
    with pytest.raises(MessageTooLarge):
        put(outbox, b"x" * 10)


def test_block(new: Make) -> None:
    """With "block" a message that does not fit gets no delivery, and one fits again when another has left."""
    outbox = new("block", messages=1)
    put(outbox)
    assert outbox.accept("t", b"", 1) is None
    outbox.end(send(outbox), S.ACKNOWLEDGED)
    put(outbox)
    assert len(outbox) == 1


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_drop_oldest(new: Make, order: str) -> None:
    """With "drop_oldest" the oldest unsent message ends as dropped, whichever is sent first."""
    outbox = new("drop_oldest", messages=2, order=order)
    first, second, third = put(outbox), put(outbox), put(outbox)
    assert (first.state, type(first.error)) == (S.DROPPED, Dropped)
    assert not second.done()
    assert not third.done()
    assert (len(outbox), outbox.unreported_drops) == (2, 1)


def test_drop_newest(new: Make) -> None:
    """With "drop_newest" the message that does not fit ends as dropped."""
    outbox = new("drop_newest", messages=1)
    first, second = put(outbox), put(outbox)
    assert (first.done(), second.state) == (False, S.DROPPED)


def test_requeue(new: Make) -> None:
    """After a loss what was sent waits again before all else, in order."""
    outbox = new()
    for _ in range(5):
        put(outbox)
    for _ in range(3):
        send(outbox)
    assert [d.sequence for d in outbox.requeue()] == [1, 2, 3]
    assert [d.sequence for d in outbox.pending] == [1, 2, 3, 4, 5]
    outbox.forget_session()
    assert {d.packet_id for d in outbox.pending} == {0}


def test_newest_first(new: Make) -> None:
    """With "newest" what was sent before goes first, in its order, and then the newest of the others."""
    outbox = new(order="newest")
    for _ in range(5):
        put(outbox)
    assert [send(outbox).sequence for _ in range(2)] == [5, 4]
    put(outbox)
    outbox.requeue()
    assert [send(outbox).sequence for _ in range(6)] == [5, 4, 6, 3, 2, 1]


def test_cancel(new: Make) -> None:
    """Only what was never sent can be taken back."""
    outbox = new()
    first, second = put(outbox), put(outbox)
    send(outbox)
    assert not outbox.cancel(first)
    assert outbox.cancel(second)
    assert (second.state, type(second.error), len(outbox)) == (S.CANCELLED, Cancelled, 1)


def test_expire(new: Make) -> None:
    """What is past its time ends as expired, and the time of the next is told."""
    outbox = new()
    early, late, never = put(outbox, expires_at=10), put(outbox, expires_at=20), put(outbox)
    assert outbox.expire(9.9) == (0, 10)
    assert outbox.expire(10) == (1, 20)
    assert (early.state, type(early.error)) == (S.EXPIRED, Expired)
    assert outbox.expire(30) == (1, None)
    assert (late.state, never.done()) == (S.EXPIRED, False)


async def test_closed_twice(new: Make) -> None:
    """Closing again does nothing."""
    outbox = new()
    put(outbox)
    await outbox.close()
    assert await asyncio.wait_for(outbox.close(), 5) == 0
