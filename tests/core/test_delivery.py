from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING

import pytest
from switchgear import (
    Cause,
    Delivery,
    DeliveryState,
    Failure,
    GaveUp,
    OutboxLimits,
    Refused,
    TransportClosed,
    WouldDeadlock,
)
from switchgear.outbox import MemoryOutbox
from switchgear.waits import Waits, mark_thread

if TYPE_CHECKING:
    from collections.abc import Callable

S = DeliveryState


def new(waits: Waits | None = None) -> Delivery:
    return Delivery(waits or Waits(), 1, "t", b"x", 1, False)


class Waiter(threading.Thread):
    """Waits for a delivery in a thread of its own, and keeps what came of it."""

    def __init__(self, call: Callable[[], object], waits: Waits) -> None:
        super().__init__(daemon=True)
        self.result: object = "still waiting"
        self._call = call
        self.start()
        while not waits._parked and self.is_alive():
            time.sleep(0.0005)

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:  # compared by the test
            self.result = error

    def outcome(self) -> object:
        self.join(60)
        return self.result


def test_states() -> None:
    """Five states are final, three are not, and a delivery is done exactly in the final ones."""
    final = {S.ACKNOWLEDGED, S.EXPIRED, S.CANCELLED, S.REFUSED, S.DROPPED}
    assert {state for state in S if state.is_final} == final
    delivery = new()
    for state in S:
        delivery._set(state)
        assert (delivery.state, delivery.done()) == (state, state in final)


def test_repr() -> None:
    """The repr names sequence, state, topic, QoS and size, and never the payload."""
    delivery = Delivery(Waits(), 7, "a/b", b"secret", 2, False)
    assert repr(delivery) == "<Delivery 7 stored 'a/b' qos=2 6 bytes>"


def test_wait_after_the_end() -> None:
    """Waiting for what has ended returns or raises at once, also in a hook or a handler."""
    good, bad = new(), new()
    good._set(S.ACKNOWLEDGED)
    bad._set(S.REFUSED, Refused("t", "why"))
    mark_thread("a message handler")
    try:
        good.wait()
        with pytest.raises(Refused):
            bad.wait(0)
    finally:
        mark_thread(None)


def test_wait_timeout() -> None:
    """A wait that runs out says what state the message is in, and the message goes on."""
    delivery = new()
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError, match="the message is stored"):
            delivery.wait(timeout)
    assert not delivery.done()
    assert delivery._watchers == []
    delivery._set(S.ACKNOWLEDGED)
    delivery.wait(0)


def test_wait_in_a_thread() -> None:
    """A waiting thread is woken by the end of the message, and gets its error."""
    for error in (None, Refused("t", "why")):
        waits = Waits()
        delivery = new(waits)
        waiter = Waiter(delivery.wait, waits)
        delivery._set(S.REFUSED if error else S.ACKNOWLEDGED, error)
        assert waiter.outcome() is error
        assert waits._parked == set()


def test_wait_over_a_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting thread is woken by the end of the message although a connection was lost in between."""
    waited = 0

    class Counting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal waited
            waited += 1
            return super().wait(timeout)

    monkeypatch.setattr("switchgear.delivery.threading.Event", Counting)
    waits = Waits()
    outbox = MemoryOutbox(OutboxLimits(), waits)
    delivery = outbox.accept("t", b"", 1)
    assert delivery is not None
    waiter = Waiter(delivery.wait, waits)
    for n in range(2, 5):  # the first is the start of the thread
        while waited < n:  # until the thread waits again
            time.sleep(0.001)
        delivery._state = S.SENT
        outbox.sent[delivery.sequence] = outbox.pending.popleft()
        outbox.requeue()
    outbox.end(delivery, S.ACKNOWLEDGED)
    assert waiter.outcome() is None


def test_wait_stored() -> None:
    """Waiting for storage ends when the message is stored, long before it is acknowledged."""
    waits = Waits()
    delivery = new(waits)
    delivery._state = S.ACCEPTED
    waiter = Waiter(delivery.wait_stored, waits)
    delivery._set(S.STORED)
    assert waiter.outcome() is None
    delivery.wait_stored(0)
    delivery._state = S.ACCEPTED
    with pytest.raises(TimeoutError, match="accepted"):
        delivery.wait_stored(0.01)


def test_give_up_ends_waits() -> None:
    """Giving up and closing end every wait; the message lives, and can be waited for when there is hope again."""
    failures = (GaveUp(Failure(Cause.PORT_REFUSED), "why"), TransportClosed("waiting"))
    for failure in failures:
        waits = Waits()
        delivery = new(waits)
        waiter = Waiter(delivery.wait, waits)
        waits.fail(failure)
        assert waiter.outcome() is failure
        with pytest.raises(type(failure)):
            delivery.wait()
        waits.fail(None)
        waiter = Waiter(delivery.wait, waits)
        delivery._set(S.ACKNOWLEDGED)
        assert waiter.outcome() is None


def test_would_deadlock() -> None:
    """A wait in a hook, a handler or on the loop is refused, and says where it was made."""
    delivery = new()
    for where in ("a hook", "a message handler", "the event loop"):
        mark_thread(where)
        try:
            with pytest.raises(WouldDeadlock, match=where):
                delivery.wait(1)
            delivery._state = S.ACCEPTED
            with pytest.raises(WouldDeadlock):
                delivery.wait_stored(1)
        finally:
            mark_thread(None)
            delivery._state = S.STORED


async def test_would_deadlock_on_the_caller_s_loop() -> None:
    """A blocking wait on the loop of an `AsyncTransport`, which would stop it, is refused as well."""
    waits = Waits(loop=asyncio.get_running_loop())
    with pytest.raises(WouldDeadlock, match="the event loop"):
        new(waits).wait(0.2)


def test_callbacks() -> None:
    """A callback is called once, with the delivery, at the end or, when that is past, at once."""
    delivery = new()
    heard: list[Delivery] = []
    delivery.add_done_callback(heard.append)
    delivery._set(S.SENT)
    delivery._set(S.STORED)
    assert heard == []
    delivery._set(S.ACKNOWLEDGED)
    assert heard == [delivery]
    delivery.add_done_callback(heard.append)
    assert heard == [delivery, delivery]


def test_callback_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is logged; the others are called, and whoever ended the message notices nothing."""
    delivery = new()
    heard: list[Delivery] = []

    def fail(_: Delivery) -> None:
        raise ValueError("mine")

    delivery.add_done_callback(fail)
    delivery.add_done_callback(heard.append)
    delivery._set(S.ACKNOWLEDGED)
    assert heard == [delivery]
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("mine",)
    ]


async def test_await() -> None:
    """Awaiting returns at the acknowledgement, raises any other end, and survives a reconnect."""
    for error in (None, Refused("t", "why")):
        delivery = new()
        task = asyncio.ensure_future(_wait(delivery))
        for state in (S.SENT, S.STORED, S.SENT):
            await asyncio.sleep(0)
            delivery._set(state)
        assert not task.done()
        delivery._set(S.REFUSED if error else S.ACKNOWLEDGED, error)
        assert await task is error


async def _wait(delivery: Delivery) -> BaseException | None:
    try:
        await delivery
    except Refused as error:
        return error
    return None


async def test_await_gives_up() -> None:
    """Awaiting ends when the transport gives up, and a cancelled await leaves nothing behind."""
    waits = Waits()
    delivery = new(waits)
    first, second = asyncio.ensure_future(_wait(delivery)), asyncio.ensure_future(_wait(delivery))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(waits._parked) == 1
    waits.fail(GaveUp(Failure(Cause.PORT_REFUSED), "why"))
    with pytest.raises(GaveUp):
        await second
    assert first.cancelled()
    assert (waits._parked, delivery._watchers) == (set(), [])


def test_weak() -> None:
    """Nobody need hold a delivery: the outbox has the message, and forgets it when it has ended."""
    outbox = MemoryOutbox(OutboxLimits(), Waits())
    outbox.accept("t", b"x", 1)
    gc.collect()
    assert len(outbox) == len(outbox.pending) == 1
    taken = outbox.pending.popleft()
    kept = weakref.ref(outbox)
    outbox.end(taken, S.ACKNOWLEDGED)
    assert taken.done()
    assert not any(taken in held for held in (outbox.pending, outbox.sent.values()))
    del outbox
    gc.collect()
    assert kept() is None


def test_no_lost_wake_up() -> None:
    """Thousands of waits that race with the end of their messages all return."""
    waits = Waits()
    deliveries = [new(waits) for _ in range(4000)]
    late: list[Delivery] = []

    def wait_for_all() -> None:
        for delivery in deliveries:
            try:
                delivery.wait(60)
            except TimeoutError:
                late.append(delivery)

    threads = [threading.Thread(target=wait_for_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for delivery in deliveries:
        delivery._set(S.SENT)
        delivery._set(S.STORED)
        delivery._set(S.ACKNOWLEDGED)
    for thread in threads:
        thread.join(100)
    assert late == []
    assert waits._parked == set()
