from __future__ import annotations

import asyncio
import functools
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from switchgear import FileWindow, Filter, Message, Window
from switchgear import handling as module
from switchgear.arrival import Ack, AckQueue, Arrival
from switchgear.receiver import HandlerSettings, Inbox
from switchgear.workers import HANDLERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Line:
    """Stands for a connection: keeps what is acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[object] = []
        self._changed = asyncio.Event()

    def acknowledge(self, token: object) -> None:
        self.acknowledged.append(token)
        self._changed.set()

    async def until(self, count: int) -> list[object]:
        while len(self.acknowledged) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.acknowledged


class World:
    """An inbox with what it needs, and the events that it emitted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, retries: int = 2, inbox_limit: int = 3) -> None:
        monkeypatch.setattr(module, "RETRY_DELAY", 0.001)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.dead: list[bytes] = []
        self.line = Line()
        self.queue = AckQueue(self.line)  # type: ignore[arg-type] # as much of a connection as is used
        self.settings = HandlerSettings(
            retries,
            inbox_limit,
            lambda message: self.dead.append(message.payload),
            asyncio.get_running_loop(),
            lambda name, **facts: self.events.append((name, facts)),
        )

    def inbox(
        self,
        handler: Callable[[Message], object] | None = None,
        *,
        ack: str = "after",
        concurrency: int = 1,
        ordered: bool = False,
        window: Window | None = None,
    ) -> Inbox:
        return Inbox(Filter("t"), self.settings, ack, handler, concurrency, ordered, window)

    def arrive(
        self,
        *inboxes: Inbox,
        payload: bytes = b"",
        qos: int = 1,
        token: object = None,
        topic: str = "t",
        message_id: str | None = None,
    ) -> None:
        ack = None
        if qos:
            ack = Ack(token, self.queue, len(inboxes), qos)
            self.queue.add(ack)
        for inbox in inboxes:
            inbox.push(Arrival(Message(topic, payload, qos, id=message_id), ack))


async def test_after_in_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain handler runs on a worker thread, and its message is acknowledged after it has returned, not before."""
    world = World(monkeypatch)
    gate, names = threading.Event(), []

    def handle(_: Message) -> None:
        gate.wait(60)
        names.append(threading.current_thread().name)

    inbox = world.inbox(handle)
    world.arrive(inbox, token=1)
    world.arrive(inbox, token=2)
    await asyncio.sleep(0.01)
    assert world.line.acknowledged == []
    gate.set()
    assert await world.line.until(2) == [1, 2]
    assert all(name.startswith("switchgear-handler-") for name in names)


async def test_after_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coroutine handler runs on the loop, and its message is acknowledged after it has returned."""
    world = World(monkeypatch)
    gate, threads = asyncio.Event(), []

    async def handle(_: Message) -> None:
        threads.append(threading.current_thread())
        await gate.wait()

    world.arrive(world.inbox(handle), token=1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.line.acknowledged == []
    gate.set()
    assert await world.line.until(1) == [1]
    assert threads == [threading.current_thread()]


async def test_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With "at_once" a message is acknowledged while its handler still runs."""
    world = World(monkeypatch)
    gate = asyncio.Event()

    async def handle(_: Message) -> None:
        await gate.wait()

    world.arrive(world.inbox(handle, ack="at_once"), token=1)
    assert await world.line.until(1) == [1]
    gate.set()


async def test_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    """With "manual" a message is acknowledged by ack(), from any thread, once, and not by its handler's return."""
    world = World(monkeypatch)
    got: asyncio.Queue[Message] = asyncio.Queue()

    async def handle(message: Message) -> None:
        await got.put(message)

    inbox = world.inbox(handle, ack="manual")
    world.arrive(inbox, token=1)
    world.arrive(inbox, token=2)
    first, second = await got.get(), await got.get()
    await asyncio.sleep(0.005)
    assert world.line.acknowledged == []
    await asyncio.to_thread(second.ack)
    await asyncio.sleep(0.005)
    assert world.line.acknowledged == []  # it is not its turn
    first.ack()
    first.ack()
    assert await world.line.until(2) == [1, 2]
    await asyncio.sleep(0.005)
    assert world.line.acknowledged == [1, 2]


async def test_order_with_concurrent_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that finish in any order acknowledge in the order of arrival (MQTT-4.6.0-2)."""
    world = World(monkeypatch, inbox_limit=99)
    gates = {b"%d" % n: asyncio.Event() for n in range(4)}
    running = 0
    most = 0

    async def handle(message: Message) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gates[message.payload].wait()
        running -= 1

    inbox = world.inbox(handle, concurrency=3)
    for n in range(4):
        world.arrive(inbox, payload=b"%d" % n, token=n)
    for n in (2, 1, 3):
        gates[b"%d" % n].set()
        await asyncio.sleep(0.002)
        assert world.line.acknowledged == []
    gates[b"0"].set()
    assert await world.line.until(4) == [0, 1, 2, 3]
    assert most == 3


async def test_what_came_again_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that waits, and is taken out because it came again on the next connection, does not hold up what came behind it.

    One of QoS 2 would stay unanswered for ever, and would be sent again on every later connection.
    """
    world = World(monkeypatch)
    gate = threading.Event()
    inbox = world.inbox(lambda _: gate.wait(60))
    old = world.queue
    world.arrive(inbox, payload=b"first", token=1)
    while len(inbox):  # noqa: ASYNC110 - until the handler has it
        await asyncio.sleep(0.001)
    world.arrive(inbox, payload=b"again", token=2)
    world.arrive(inbox, payload=b"behind", token=3)
    world.queue = AckQueue(world.line)  # type: ignore[arg-type] # as above
    inbox.push(Arrival(Message("t", b"again", 1, duplicate=True), Ack(4, world.queue, 1)))
    gate.set()
    await world.line.until(3)
    assert world.line.acknowledged == [1, 2, 3]
    assert len(old) == 0


async def test_each_qos_has_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """PUBACKs keep their order, and PUBRECs theirs; one that is never given holds up none of the other kind."""
    world = World(monkeypatch)
    inbox = world.inbox(ack="manual")
    for token, qos in enumerate((1, 2, 1, 2)):
        world.arrive(inbox, token=token, qos=qos)
    never, first, held, second = (arrival.message for arrival in iter(inbox.take, None))
    assert never.qos == 1
    for message in (held, second, first):
        message.ack()
    assert await world.line.until(2) == [1, 3]
    await asyncio.sleep(0.01)
    assert world.line.acknowledged == [1, 3]


async def test_several_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that belongs to two subscriptions is acknowledged once, when both are done with it."""
    world = World(monkeypatch)
    gate = asyncio.Event()

    async def slow(_: Message) -> None:
        await gate.wait()

    world.arrive(world.inbox(slow), world.inbox(lambda _: None), token=1)
    await asyncio.sleep(0.01)
    assert world.line.acknowledged == []
    gate.set()
    assert await world.line.until(1) == [1]


@pytest.mark.parametrize("is_async", [False, True])
async def test_retries(monkeypatch: pytest.MonkeyPatch, is_async: bool) -> None:  # noqa: FBT001 - a parameter
    """A handler that raises is called again, and its message acknowledged when it has succeeded."""
    world = World(monkeypatch)
    calls = 0

    def handle(_: Message) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ValueError("no")

    async def handle_async(message: Message) -> None:
        handle(message)

    world.arrive(world.inbox(handle_async if is_async else handle), token=1)
    assert await world.line.until(1) == [1]
    await asyncio.sleep(0)
    assert (calls, world.dead, world.settings.failed) == (3, [], 2)
    expected = [{"filter": "t", "error": "ValueError: no", "attempt": n} for n in (1, 2)]
    assert [facts for name, facts in world.events if name == "handler_failed"] == expected


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
async def test_dead_letters(monkeypatch: pytest.MonkeyPatch, is_async: bool, kind: type[BaseException]) -> None:  # noqa: FBT001 - a parameter
    """A message whose handler fails for good goes to the dead letters, is acknowledged, and the next is handled."""
    world = World(monkeypatch, retries=1)
    handled: list[bytes] = []

    def handle(message: Message) -> None:
        if message.payload == b"bad":
            raise kind("no")
        handled.append(message.payload)

    async def handle_async(message: Message) -> None:
        handle(message)

    inbox = world.inbox(handle_async if is_async else handle)
    for payload in (b"bad", b"good"):
        world.arrive(inbox, payload=payload, token=payload)
    assert await world.line.until(2) == [b"bad", b"good"]
    assert (world.dead, handled, world.settings.failed) == ([b"bad"], [b"good"], 2)


async def test_dead_letter_handler_that_raises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead-letter handler that raises is logged, and the message acknowledged all the same."""
    world = World(monkeypatch, retries=0)

    def fail(_: Message) -> None:
        raise ValueError("no")

    async def fail_later(_: Message) -> None:
        raise ValueError("no")

    async def handle(_: Message) -> None:
        raise ValueError("no")

    n = 0
    for dead_letter in (fail, fail_later):
        world.settings.dead_letter = dead_letter
        for handler in (handle, fail):
            world.arrive(world.inbox(handler), token=n)
            n += 1
            await world.line.until(n)
    assert [r.message for r in caplog.records].count("switchgear.dead_letter_failed") == 4


async def test_qos_0_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of QoS 0 the oldest is dropped at the bound, counted, and reported in doublings; nothing else is dropped."""
    world = World(monkeypatch)
    inbox = world.inbox()
    for n in range(13):
        world.arrive(inbox, payload=b"%d" % n, qos=0)
    assert [arrival.message.payload for arrival in inbox._waiting] == [b"10", b"11", b"12"]
    assert world.settings.dropped == 10
    assert [facts["count"] for name, facts in world.events if name == "message_dropped"] == [1, 2, 4, 8]
    for n in range(5):
        world.arrive(inbox, token=n)
    assert len(inbox) == 8
    assert world.settings.dropped == 10


async def test_qos_0_does_not_drop_qos_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full inbox whose oldest message is of QoS 1 keeps it, in its place."""
    world = World(monkeypatch)
    inbox = world.inbox()
    for n in range(3):
        world.arrive(inbox, token=n)
    world.arrive(inbox, qos=0)
    assert [arrival.ack.token for arrival in inbox._waiting if arrival.ack] == [0, 1, 2]


async def test_nobody_knows_where_to_acknowledge_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handled before the connection is restored is acknowledged when it is."""
    world = World(monkeypatch)
    world.queue.connection = None
    world.arrive(world.inbox(lambda _: None), token=1)
    assert world.queue._acks is not None
    while world.queue._acks[0].left:  # noqa: ASYNC110 - the worker tells nobody
        await asyncio.sleep(0.002)
    assert world.line.acknowledged == []
    world.queue.connection = world.line  # type: ignore[assignment] # as much of a connection as is used
    world.queue.settle()
    assert world.line.acknowledged == [1]
    assert len(world.queue) == 0


async def test_discard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in a subscription that ends does not hold up the acknowledgements of others."""
    world = World(monkeypatch)
    for ack in ("after", "at_once", "manual"):
        world.line.acknowledged.clear()
        gone, other = world.inbox(ack=ack), world.inbox(lambda _: None)
        world.arrive(gone, token=1)
        world.arrive(gone, other, token=2)
        world.arrive(other, token=3)
        gone.close()
        gone.discard()
        assert await world.line.until(3) == [1, 2, 3]


async def test_close_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a transport cancels its coroutine handlers, acknowledges nothing more, and starts nothing."""
    world = World(monkeypatch)
    cancelled = asyncio.Event()

    async def handle(_: Message) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    inbox = world.inbox(handle)
    world.arrive(inbox, token=1)
    world.arrive(inbox, token=2)
    await asyncio.sleep(0)
    inbox.close()
    world.settings.close()
    await cancelled.wait()
    await asyncio.sleep(0)
    assert (world.line.acknowledged, len(inbox), len(world.settings.tasks)) == ([], 1, 0)


async def test_handler_that_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that awaits something cancelled has failed; the next message is handled."""
    world = World(monkeypatch, retries=0)

    async def handle(message: Message) -> None:
        if message.payload == b"bad":
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    inbox = world.inbox(handle)
    for payload in (b"bad", b"good"):
        world.arrive(inbox, payload=payload, token=payload)
    assert await world.line.until(2) == [b"bad", b"good"]
    assert world.dead == [b"bad"]


async def test_callable_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object whose __call__ is a coroutine function is awaited, like a coroutine function."""
    world = World(monkeypatch)
    handled: list[bytes] = []

    class Handler:
        async def __call__(self, message: Message) -> None:
            await asyncio.sleep(0)
            handled.append(message.payload)

    world.arrive(world.inbox(Handler()), payload=b"x", token=1)
    await world.line.until(1)
    assert handled == [b"x"]


@pytest.mark.parametrize("kind", ["thread", "task"])
async def test_ordered(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Ordered handlers take one message of a topic at a time, in order, while other topics overtake it."""
    world = World(monkeypatch)
    gate, begun = threading.Event(), []
    opened = asyncio.Event()

    def handle(message: Message) -> None:
        begun.append((message.topic, message.payload))
        if message.payload == b"0":
            gate.wait(60)

    async def handle_on_loop(message: Message) -> None:
        begun.append((message.topic, message.payload))
        if message.payload == b"0":
            await opened.wait()

    inbox = world.inbox(handle if kind == "thread" else handle_on_loop, concurrency=3, ordered=True)
    for token, (topic, payload) in enumerate([("a", b"0"), ("a", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4")]):
        world.arrive(inbox, payload=payload, topic=topic, token=token)
    while len(begun) < 3:  # noqa: ASYNC110 - threads tell nobody
        await asyncio.sleep(0.002)
    assert sorted(begun) == [("a", b"0"), ("b", b"3"), ("b", b"4")]
    assert world.line.acknowledged == []
    gate.set()
    opened.set()
    assert await world.line.until(5) == [0, 1, 2, 3, 4]
    assert [payload for topic, payload in begun if topic == "a"] == [b"0", b"1", b"2"]


async def test_ordered_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that wait for their topic's turn are acknowledged when the subscription ends, not stuck for ever."""
    world = World(monkeypatch)
    gate = asyncio.Event()

    async def handle(_: Message) -> None:
        await gate.wait()

    inbox = world.inbox(handle, concurrency=2, ordered=True)
    for token in range(3):
        world.arrive(inbox, token=token)
    while len(inbox):  # noqa: ASYNC110 - until all are parked
        await asyncio.sleep(0)
    inbox.close()
    inbox.discard()
    inbox.done(Arrival(Message("t", b""), None))
    await asyncio.sleep(0.01)
    assert world.line.acknowledged == []  # the first is being handled, and it is in front
    assert [ack.left for ack in world.queue._acks or ()] == [1, 0, 0]
    gate.set()
    assert await world.line.until(3) == [0, 1, 2]


async def test_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages past the inbox's limit are not acknowledged at once: the broker's window holds the sender back."""
    world = World(monkeypatch, inbox_limit=2)
    inbox = world.inbox(ack="at_once")
    for token in range(4):
        world.arrive(inbox, token=token)
    await asyncio.sleep(0.01)
    assert world.line.acknowledged == [0, 1]
    while (arrival := inbox.take()) is not None:
        inbox.handled(arrival)
    assert await world.line.until(4) == [0, 1, 2, 3]


async def test_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose id was handled is acknowledged without a second call; one without an id is always handled."""
    world = World(monkeypatch)
    handled: list[bytes] = []

    async def handle(message: Message) -> None:
        handled.append(message.payload)

    inbox = world.inbox(handle, window=Window())
    world.arrive(inbox, payload=b"1", message_id="a", token=1)
    await world.line.until(1)
    world.arrive(inbox, payload=b"2", message_id="a", token=2)
    world.arrive(inbox, payload=b"3", token=3)
    world.arrive(inbox, payload=b"4", token=4)
    assert await world.line.until(4) == [1, 2, 3, 4]
    assert handled == [b"1", b"3", b"4"]
    assert world.settings.duplicates == 1


async def test_repetition_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repetition that comes while the message is being handled waits for that, and is acknowledged with it."""
    world = World(monkeypatch)
    gate, calls = asyncio.Event(), []

    async def handle(message: Message) -> None:
        calls.append(message.payload)
        await gate.wait()

    inbox = world.inbox(handle, concurrency=2, window=Window())
    world.arrive(inbox, payload=b"1", message_id="a", token=1)
    world.arrive(inbox, payload=b"2", message_id="a", token=2)
    await asyncio.sleep(0.01)
    assert world.line.acknowledged == []
    gate.set()
    assert await world.line.until(2) == [1, 2]
    assert calls == [b"1"]


async def test_repetition_of_what_was_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the one that had a message goes without handling it, the repetition is handled by the other."""
    world = World(monkeypatch)
    window, handled = Window(), asyncio.Event()

    async def handle(_: Message) -> None:
        handled.set()

    first, second = world.inbox(window=window), world.inbox(handle, window=window)
    world.arrive(first, message_id="a", token=1)
    world.arrive(second, message_id="a", token=2)
    await asyncio.sleep(0.01)
    assert not handled.is_set()
    first.close()
    first.abandon()
    await handled.wait()


@pytest.mark.parametrize("ack", ["after", "at_once", "manual"])
async def test_mark_before_acknowledgement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ack: str) -> None:
    """With every way to acknowledge, what was handled is on disk, and after a restart it is not handled again."""
    world = World(monkeypatch)

    def handle(message: Message) -> None:
        if ack == "manual":
            message.ack()

    with closing(FileWindow(tmp_path / "w")) as window:
        inbox = world.inbox(handle, ack=ack, window=window)
        world.arrive(inbox, message_id="a", token=1)
        await world.line.until(1)
        while not len(window):  # noqa: ASYNC110 - the worker tells nobody
            await asyncio.sleep(0.002)
    with closing(FileWindow(tmp_path / "w")) as window:
        again = world.inbox(window=window)
        world.arrive(again, message_id="a", token=2)
        assert await world.line.until(2) == [1, 2]
        assert len(again) == 0


async def test_window_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that is full does not stop the consumer: it is told, the ids stay in memory, the message is acknowledged."""
    world = World(monkeypatch)
    with closing(FileWindow(tmp_path / "w")) as window:
        window._database.execute("PRAGMA query_only = ON")
        inbox = world.inbox(lambda _: None, window=window)
        world.arrive(inbox, message_id="a", token=1)
        world.arrive(inbox, message_id="b", token=2)
        await world.line.until(2)
        assert len(window) == 2
    await asyncio.sleep(0.01)
    assert {name for name, _ in world.events} == {"deduplication_failed"}


async def test_reports_of_a_full_disk_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that stays full is reported in doublings, and anew after it could be written once."""
    world = World(monkeypatch)
    with closing(FileWindow(tmp_path / "w")) as window:
        inbox = world.inbox(lambda _: None, window=window)
        for number in range(41):
            window._database.execute(f"PRAGMA query_only = {number != 20}")
            world.arrive(inbox, message_id=str(number), token=number)
            await world.line.until(number + 1)
    await asyncio.sleep(0.01)
    assert len(world.events) == 10  # of 20 failures the 1st, 2nd, 4th, 8th and 16th, twice


# Handlers that misbehave.


class Unusual(BaseException):
    """What test libraries and asyncio raise to pass by ``except Exception``."""


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("kind", [Unusual, asyncio.CancelledError, SystemExit])
async def test_unusual_exceptions(
    monkeypatch: pytest.MonkeyPatch,
    is_async: bool,  # noqa: FBT001 - a parameter
    kind: type[BaseException],
) -> None:
    """Whatever a handler raises, and the dead-letter handler after it, costs no thread and no acknowledgement."""
    world = World(monkeypatch, retries=0)

    def fail(_: Message) -> None:
        raise kind

    async def fail_async(_: Message) -> None:
        raise kind

    world.settings.dead_letter = fail
    threads = HANDLERS._threads
    inbox = world.inbox(fail_async if is_async else fail, ordered=True, concurrency=2)
    for token in range(4):
        world.arrive(inbox, token=token)
    assert await asyncio.wait_for(world.line.until(4), 60) == [0, 1, 2, 3]
    await asyncio.sleep(0.01)
    assert HANDLERS._threads - threads <= (0 if is_async else 2)
    assert world.settings.failed == 4


async def test_function_that_gives_a_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plain function returns is awaited when it can be, and acknowledged afterwards: it is not thrown away."""
    world = World(monkeypatch, retries=1)
    calls: list[bytes] = []

    async def handle(message: Message) -> None:
        calls.append(message.payload)
        if len(calls) == 1:
            raise ValueError

    world.arrive(
        world.inbox(functools.partial(lambda function, message: function(message), handle)), payload=b"x", token=1
    )
    assert await asyncio.wait_for(world.line.until(1), 60) == [1]
    assert calls == [b"x", b"x"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_ordered_beyond_its_bound(monkeypatch: pytest.MonkeyPatch, is_async: bool) -> None:  # noqa: FBT001 - a parameter
    """One slow topic with more messages than may be parked makes nobody spin, and the others go on after it."""
    world = World(monkeypatch, inbox_limit=2)
    gate, gate_async = threading.Event(), asyncio.Event()
    handled: list[bytes] = []

    def handle(message: Message) -> None:
        if message.payload == b"0":
            gate.wait(60)
        handled.append(message.payload)

    async def handle_async(message: Message) -> None:
        if message.payload == b"0":
            await gate_async.wait()
        handled.append(message.payload)

    inbox = world.inbox(handle_async if is_async else handle, concurrency=2, ordered=True)
    starts = 0
    start = inbox._handling.start  # type: ignore[union-attr]

    def count() -> None:
        nonlocal starts
        starts += 1
        start()

    monkeypatch.setattr(type(inbox._handling), "start", lambda _: count())
    for number in range(8):
        world.arrive(inbox, payload=str(number).encode(), token=number, topic="slow" if number < 6 else f"t{number}")
    await asyncio.sleep(0.05)
    assert starts <= 10
    gate.set()
    gate_async.set()
    assert await asyncio.wait_for(world.line.until(8), 60) == list(range(8))
    assert [payload for payload in handled if payload < b"6"] == [b"0", b"1", b"2", b"3", b"4", b"5"]


async def test_places_for_other_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as a slow topic has fewer messages parked than may be, another topic behind them is handled beside it."""
    world = World(monkeypatch, inbox_limit=2)
    gates = {b"0": asyncio.Event(), b"1": asyncio.Event()}
    other = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.topic == "other":
            other.set()
        elif message.payload in gates:
            await gates[message.payload].wait()

    inbox = world.inbox(handle, concurrency=2, ordered=True)
    for number in range(3):
        world.arrive(inbox, payload=str(number).encode(), token=number)
    world.arrive(inbox, topic="other", token=3)
    await asyncio.sleep(0.01)
    assert not other.is_set()
    gates[b"0"].set()
    await asyncio.wait_for(other.wait(), 60)
    gates[b"1"].set()
    assert await world.line.until(4) == [0, 1, 2, 3]


# Repetitions and acknowledgements by hand.


async def test_manual_of_qos_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """A QoS 0 message that is acknowledged by hand lets go of its id: its repetition waits for nobody for ever."""
    world = World(monkeypatch)
    inbox = world.inbox(ack="manual", window=Window())
    world.arrive(inbox, qos=0, message_id="a")
    first = inbox.take()
    world.arrive(inbox, message_id="a", token=1)
    assert first is not None
    first.message.ack()
    assert await asyncio.wait_for(world.line.until(1), 60) == [1]


async def test_manual_from_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that two threads acknowledge at a time is acknowledged once: the other subscription keeps its part."""
    world = World(monkeypatch, inbox_limit=100)
    one, two = world.inbox(ack="manual"), world.inbox(ack="manual")
    for token in range(50):
        world.arrive(one, two, token=token)
        taken = one.take()
        assert taken is not None
        await asyncio.gather(*(asyncio.to_thread(taken.message.ack) for _ in range(2)))
    await asyncio.sleep(0.01)
    assert world.line.acknowledged == []
    assert {ack.left for ack in world.queue._acks or ()} == {1}
