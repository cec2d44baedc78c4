from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear import Cancelled, Delivery, DeliveryState, Dropped, Expired, MessageTooLarge, OutboxFull, OutboxLimits
from switchgear.outbox import MemoryOutbox
from switchgear.waits import Waits

S = DeliveryState


def new(when_full: str = "raise", *, messages: int = 3, size: int = 1000) -> MemoryOutbox:
    limits = OutboxLimits(max_messages=messages, max_bytes=size, when_full=when_full)  # type: ignore[arg-type] # of four
    return MemoryOutbox(limits, Waits())


def put(outbox: MemoryOutbox, payload: bytes = b"", *, expires_at: float | None = None, qos: int = 1) -> Delivery:
    delivery = outbox.accept("t", payload, qos, expires_at=expires_at)
    assert delivery is not None
    return delivery


def send(outbox: MemoryOutbox) -> Delivery:
    """What the sender does with the next message."""
    delivery = outbox.pending.popleft()
    delivery._state = S.SENT
    delivery.packet_id, delivery.phase = delivery.sequence, 1
    outbox.sent[delivery.sequence] = delivery
    return delivery


def test_order_and_size() -> None:
    """Messages keep their order and are counted in messages and bytes until they end."""
    outbox = new()
    deliveries = [put(outbox, b"x" * n) for n in range(3)]
    assert [d.sequence for d in outbox.pending] == [1, 2, 3]
    assert (len(outbox), outbox.size, outbox.accepted) == (3, 6, 3)
    assert [d.state for d in deliveries] == [S.STORED] * 3
    for delivery in deliveries:
        outbox.end(delivery, S.ACKNOWLEDGED)
    assert (len(outbox), outbox.size, outbox.accepted) == (0, 0, 3)


def test_full_of_messages() -> None:
    """With "raise" one message too many says which bound is reached and its value; after one has left there is room."""
    outbox = new()
    first, _, _ = (put(outbox) for _ in range(3))
    assert not outbox.has_room()
    with pytest.raises(OutboxFull, match="limit of 3 messages") as caught:
        put(outbox)
    assert caught.value.limit == 3
    outbox.end(first, S.ACKNOWLEDGED)
    assert outbox.has_room()
    put(outbox)


def test_full_of_bytes() -> None:
    """The bound of bytes counts payload and topic, and takes exactly as many as it says."""
    outbox = new(messages=99, size=10)
    put(outbox, b"12345678")
    with pytest.raises(OutboxFull, match="10 bytes, 2 more do not fit") as caught:
        put(outbox, b"1")
    assert caught.value.limit == 10
    put(outbox, b"")
    assert not outbox.has_room()


@pytest.mark.parametrize("when_full", ["block", "raise", "drop_oldest", "drop_newest"])
def test_never_fits(when_full: str) -> None:
    """A message that would not fit into an empty outbox is too large, whatever the policy."""
    outbox = new(when_full, size=10)
    with pytest.raises(MessageTooLarge, match="the outbox takes at most 10"):
        put(outbox, b"x" * 10)
    assert len(outbox) == 0


def test_block() -> None:
    """With "block" there is no delivery, and whoever waits is told when there is room."""
    outbox = new("block", messages=1)
    heard: list[bool] = []
    outbox.on_room = lambda: heard.append(True)
    first = put(outbox)
    assert outbox.accept("t", b"", 1) is None
    outbox.end(first, S.ACKNOWLEDGED)
    assert heard == [True]
    outbox.give_room()
    put(outbox)
    assert heard == [True]


def test_drop_newest() -> None:
    """With "drop_newest" the new message ends at once as dropped and takes no room."""
    outbox = new("drop_newest")
    kept = [put(outbox) for _ in range(3)]
    dropped = put(outbox)
    assert (dropped.state, type(dropped.error)) == (S.DROPPED, Dropped)
    assert [d.state for d in kept] == [S.STORED] * 3
    assert (len(outbox), outbox.unreported_drops) == (3, 1)


def test_drop_oldest() -> None:
    """With "drop_oldest" as many of the oldest unsent messages end as dropped as are needed, and never a sent one."""
    outbox = new("drop_oldest", messages=99, size=10)
    old = [put(outbox, b"12") for _ in range(3)]
    send(outbox)
    large = put(outbox, b"123456")
    assert [d.state for d in old] == [S.SENT, S.DROPPED, S.DROPPED]
    assert large.state is S.STORED
    assert (len(outbox), outbox.size, outbox.unreported_drops) == (2, 10, 2)


def test_drop_oldest_when_all_are_sent() -> None:
    """With "drop_oldest" and nothing left to drop the publisher is told."""
    outbox = new("drop_oldest", messages=1)
    put(outbox)
    send(outbox)
    with pytest.raises(OutboxFull):
        put(outbox)


def test_dropped_without_the_lock() -> None:
    """A callback of a dropped message may use the outbox: no lock is held while it runs."""
    outbox = new("drop_oldest", messages=1)
    heard: list[object] = []

    def publish_again(delivery: Delivery) -> None:
        heard.append(delivery.error)
        assert outbox.room.acquire(timeout=0.5)
        outbox.room.release()

    put(outbox).add_done_callback(publish_again)
    put(outbox)
    assert [type(error) for error in heard] == [Dropped]


def test_requeue() -> None:
    """After a loss what was sent waits again before all else, in order, twice as well as once."""
    outbox = new(messages=9)
    for _ in range(5):
        put(outbox)
    for _ in range(2):
        for _ in range(3):
            send(outbox)
        assert [d.sequence for d in outbox.requeue()] == [1, 2, 3]
        assert [d.sequence for d in outbox.pending] == [1, 2, 3, 4, 5]
        assert {d.state for d in outbox.pending} == {S.STORED}
        assert outbox.sent == {}


@given(st.integers(0, 6), st.integers(0, 6), st.sets(st.integers(1, 6)))
def test_forget_session(first: int, second: int, ended: set[int]) -> None:
    """Without its session no waiting message keeps a packet id, however often connections were lost before."""
    outbox = new(messages=9)
    for _ in range(6):
        put(outbox)
    for count in (first, second):
        for _ in range(count):
            send(outbox)
        outbox.requeue()
    for delivery in list(outbox.pending):
        if delivery.sequence in ended:
            outbox.end(delivery, S.REFUSED)
    outbox.forget_session()
    assert [(d.packet_id, d.phase) for d in outbox.pending if not d.done()] == [(0, 0)] * len(set(range(1, 7)) - ended)


def test_cancel() -> None:
    """Only what was never sent can be taken back."""
    outbox = new()
    first, second = put(outbox), put(outbox)
    send(outbox)
    assert not outbox.cancel(first)
    assert outbox.cancel(second)
    assert not outbox.cancel(second)
    outbox.requeue()
    assert not outbox.cancel(first)
    assert (second.state, type(second.error), len(outbox)) == (S.CANCELLED, Cancelled, 1)


def test_expire() -> None:
    """What is past its time ends as expired, and the time of the next is told."""
    outbox = new(messages=9)
    early, late, never = put(outbox, expires_at=10), put(outbox, expires_at=20), put(outbox)
    assert outbox.expire(9.9) == (0, 10)
    assert outbox.expire(10) == (1, 20)
    assert (early.state, type(early.error)) == (S.EXPIRED, Expired)
    assert outbox.expire(1e12) == (1, None)
    assert (late.state, never.state, len(outbox)) == (S.EXPIRED, S.STORED, 1)


def test_expired_while_it_was_sent() -> None:
    """A message whose time ran out while a connection had it ends as expired when that connection is lost."""
    outbox = new()
    delivery = put(outbox, expires_at=10)
    send(outbox)
    assert outbox.expire(10)[0] == 0
    assert not delivery.done()
    outbox.requeue()
    assert outbox.expire(11) == (1, None)
    assert delivery.state is S.EXPIRED


def test_expired_when_released() -> None:
    """A message that the broker has and that only waits for PUBCOMP does not expire."""
    outbox = new()
    delivery = put(outbox, expires_at=10, qos=2)
    send(outbox)
    delivery.phase = 2
    outbox.requeue()
    assert outbox.expire(11)[0] == 0
    assert delivery.state is S.STORED


async def test_close() -> None:
    """When the transport closes each message that is left ends as cancelled, and is named by its error."""
    outbox = new()
    deliveries = [put(outbox) for _ in range(3)]
    send(outbox)
    outbox.end(deliveries[2], S.ACKNOWLEDGED)
    assert [d.sequence for d in outbox.living()] == [1, 2]
    assert await outbox.close() == 2
    assert [type(d.error) for d in deliveries] == [Cancelled, Cancelled, type(None)]
    assert (len(outbox), outbox.size) == (0, 0)


@pytest.mark.parametrize("when_full", ["block", "raise", "drop_oldest", "drop_newest"])
def test_many_threads(when_full: str) -> None:
    """Many publishers at once never pass the bound, and in the end each message is accounted for exactly once."""
    outbox = new(when_full, messages=10)
    outcomes: list[Delivery] = []
    refused: list[bool] = []
    most = 0

    def publish() -> None:
        for _ in range(500):
            try:
                delivery = outbox.accept("t", b"x", 1)
            except OutboxFull:
                delivery = None
            if delivery is None:
                refused.append(True)
            else:
                outcomes.append(delivery)

    threads = [threading.Thread(target=publish) for _ in range(8)]
    for thread in threads:
        thread.start()
    acknowledged = 0
    while any(thread.is_alive() for thread in threads) or outbox.pending:
        most = max(most, len(outbox))
        try:
            delivery = outbox.pending.popleft()
        except IndexError:
            continue
        outbox.end(delivery, S.ACKNOWLEDGED)
        acknowledged += 1
    assert most <= 10
    states = [delivery.state for delivery in outcomes]
    assert len(outcomes) + len(refused) == 4000
    assert states.count(S.ACKNOWLEDGED) == acknowledged
    assert states.count(S.DROPPED) == outbox.unreported_drops == len(outcomes) - acknowledged
    assert (len(outbox), outbox.size) == (0, 0)
