"""``drain_order="newest"`` over the whole backlog of a durable outbox, of which only a window is in memory."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import Delivery, DeliveryState, OutboxLimits
from switchgear.outbox import NewestSqliteOutbox, sqlite_newest, windowed
from switchgear.outbox.stored import StoredDelivery
from switchgear.testing.broker import Broker
from switchgear.waits import Waits

if TYPE_CHECKING:
    from pathlib import Path

S = DeliveryState
WINDOW = 50
Open = Callable[..., NewestSqliteOutbox]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens an outbox with a window of 50 messages, and closes it."""
    monkeypatch.setattr(windowed, "WINDOW", WINDOW)
    monkeypatch.setattr(windowed, "LOW", 20)
    monkeypatch.setattr(windowed, "CHUNK", 30)
    monkeypatch.setattr(sqlite_newest, "ELDEST", 16)
    made: list[NewestSqliteOutbox] = []

    def make(limits: OutboxLimits | None = None, **options: Any) -> NewestSqliteOutbox:
        for outbox in made:
            outbox.close_now()
        made.append(
            NewestSqliteOutbox(limits or OutboxLimits(), Waits(), str(tmp_path / "outbox"), "normal", **options)
        )
        return made[-1]

    yield make
    for outbox in made:
        outbox.close_now()


def put(outbox: NewestSqliteOutbox, numbers: range, **options: Any) -> None:
    """These, all on disk; nobody holds their deliveries."""
    for number in numbers:
        delivery = outbox.accept(f"t/{number}", bytes(20), 1, **options)
        assert delivery is not None
        if number == numbers[-1]:
            delivery.wait_stored(60)


def take(outbox: NewestSqliteOutbox) -> Delivery | None:
    """The next to be sent, as the sender takes it; None when nothing is left that waits."""
    while True:
        if len(outbox.pending) == 0 and outbox._is_spilling:
            outbox._load_when_low()  # as each answer does
            assert outbox.writer.wait(lambda: len(outbox.pending) > 0 or not outbox._is_spilling, 60)
        if not outbox.pending:
            return None
        delivery = outbox.pending.popleft()
        if not delivery.done():
            break
    delivery._state = S.SENT
    delivery.packet_id, delivery.phase = 1, 1
    outbox.sent[delivery.sequence] = delivery
    return delivery


def answer(outbox: NewestSqliteOutbox, delivery: Delivery) -> None:
    del outbox.sent[delivery.sequence]
    delivery.packet_id = delivery.phase = 0
    outbox.end(delivery, S.ACKNOWLEDGED)


def drained(outbox: NewestSqliteOutbox) -> list[int]:
    """The numbers of what is left, in the order of sending."""
    found = []
    while (delivery := take(outbox)) is not None:
        found.append(int(delivery.topic[2:]))
        answer(outbox, delivery)
    assert len(outbox) == 0
    return found


def test_the_whole_backlog(opened: Open) -> None:
    """Of a backlog that is ten times what fits into memory the newest is sent first, to the last one."""
    outbox = opened()
    put(outbox, range(500))
    assert len(outbox.pending) == WINDOW
    assert drained(outbox) == list(reversed(range(500)))


def test_the_next_process(opened: Open) -> None:
    """So it is in the next process."""
    put(opened(), range(500))
    outbox = opened()
    assert len(outbox) == 500
    assert drained(outbox) == list(reversed(range(500)))


def test_published_meanwhile(opened: Open) -> None:
    """What is published while a backlog drains goes before all of it, also when it is more than the window holds."""
    put(opened(), range(300))
    outbox = opened()
    found = []
    following = 300
    for count in (0, 3, 120, 1):
        put(outbox, range(following, following + count))
        following += count
        for _ in range(40):
            delivery = take(outbox)
            assert delivery is not None
            found.append(int(delivery.topic[2:]))
            answer(outbox, delivery)
    model, expected, following = list(range(300)), [], 300
    for count in (0, 3, 120, 1):
        model += range(following, following + count)
        following += count
        expected += [model.pop() for _ in range(40)]
    assert found == expected
    assert drained(outbox) == list(reversed(model))


def test_qos_2_in_flight(opened: Open) -> None:
    """What was in flight at a loss goes first, in its order and once, though the window has moved far beyond it."""
    outbox = opened()
    for number in range(10):
        assert outbox.accept(f"t/{number}", b"", 2) is not None
    flying = [take(outbox) for _ in range(4)]
    flying[1].phase = 2  # type: ignore[union-attr]  # it waits for PUBCOMP
    put(outbox, range(10, 400))
    assert [d.sequence for d in outbox.requeue()] == [10, 9, 8, 7]
    assert [flying[1].packet_id, flying[1].phase] == [1, 2]  # type: ignore[union-attr]  # the same
    put(outbox, range(400, 500))
    assert drained(outbox) == [9, 8, 7, 6, *reversed(range(10, 500)), 5, 4, 3, 2, 1, 0]


def test_memory_is_bounded(opened: Open) -> None:
    """However large the backlog, with expiry too, few messages are in memory, and few again when it has drained."""
    outbox = opened()
    put(outbox, range(6000), expires_at=outbox.clock() + 3600)
    gc.collect()
    assert sum(isinstance(thing, StoredDelivery) for thing in gc.get_objects()) < WINDOW + 2100  # the list of expiry
    assert len(drained(outbox)) == 6000
    assert len(outbox._expiring) < 2100


def test_bytes_are_bounded(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large messages leave memory earlier."""
    monkeypatch.setattr(windowed, "WINDOW", 1000)
    monkeypatch.setattr(windowed, "WINDOW_BYTES", 100_000)
    outbox = opened()
    for number in range(200):
        delivery = outbox.accept(f"t/{number}", bytes(1000), 1)
        assert delivery is not None
        delivery.wait_stored(60)
    assert 64 <= len(outbox.pending) <= 101
    assert drained(outbox) == list(reversed(range(200)))


def test_the_oldest_is_dropped(opened: Open) -> None:
    """When the outbox is full the oldest of all is dropped, which is on disk, and the newest is sent first."""
    limits = OutboxLimits(max_messages=200, when_full="drop_oldest")
    outbox = opened(limits)
    put(outbox, range(350))
    assert (len(outbox), outbox.unreported_drops) == (200, 150)
    assert drained(outbox) == list(reversed(range(150, 350)))
    assert drained(opened(limits)) == []


def test_expired_on_disk(opened: Open) -> None:
    """Messages that are on disk only expire there, and what is in flight is left to its connection."""
    now = [100.0]
    outbox = opened(clock=lambda: now[0], wall=lambda: 1e9 + now[0])
    put(outbox, range(100), expires_at=110.0)
    put(outbox, range(100, 200))
    flying = take(outbox)
    put(outbox, range(200, 300))
    assert flying is not None
    now[0] = 111.0
    outbox.expire(now[0])
    assert outbox.writer.wait(lambda: len(outbox) == 200, 60)
    answer(outbox, flying)
    assert drained(outbox) == [*reversed(range(200, 300)), *reversed(range(100, 199))]


@pytest.mark.parametrize("seed", range(6))
def test_any_history(opened: Open, seed: int) -> None:
    """Whatever is published, sent, answered, lost and started anew, always the newest that waits is sent, and nothing lost."""
    rng = random.Random(seed)
    outbox = opened()
    waiting: list[int] = []
    again: list[int] = []
    flying: dict[int, Delivery] = {}
    following = 0
    for _ in range(150):
        what = rng.choice(["publish", "publish", "send", "send", "answer", "answer", "lose", "restart"])
        if what == "publish":
            count = rng.randrange(1, 90)
            put(outbox, range(following, following + count))
            waiting += range(following, following + count)
            following += count
        elif what == "send":
            for _ in range(rng.randrange(1, 60)):
                if not (waiting or again):
                    break
                delivery = take(outbox)
                assert delivery is not None
                number = int(delivery.topic[2:])
                assert number == (again.pop(0) if again else waiting.pop())
                flying[number] = delivery
        elif what == "answer":
            for number in rng.sample(sorted(flying), rng.randrange(len(flying) + 1)):
                answer(outbox, flying.pop(number))
        elif what == "lose":
            again = [*flying, *again]
            outbox.requeue()
            flying.clear()
        elif rng.random() < 0.4:
            outbox = opened()
            waiting = sorted([*waiting, *again, *flying])
            again.clear()
            flying.clear()
        assert len(outbox) == len(waiting) + len(again) + len(flying)
        assert len(outbox.pending.waiting) <= WINDOW + 30
    again = [*flying, *again]
    outbox.requeue()
    assert drained(outbox) == [*again, *reversed(waiting)]


async def test_through_a_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport with that order sends the newest of its last process first, beyond the window."""
    monkeypatch.setattr(windowed, "WINDOW", WINDOW)
    monkeypatch.setattr(windowed, "LOW", 20)
    path = tmp_path / "outbox"
    async with switchgear.aio.connect("mqtt://127.0.0.1:1", outbox=path, drain_order="newest") as transport:
        for number in range(300):
            last = transport.publish("t", b"%d" % number)
        await last.stored(60)
        await transport.close()
    async with Broker() as broker:
        await broker.start()
        async with switchgear.aio.connect(broker.uri, outbox=path, drain_order="newest") as again:
            await again.drain(60)
        assert broker.ledger.payloads() == [b"%d" % number for number in reversed(range(300))]
