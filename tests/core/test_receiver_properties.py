"""Whatever comes, is lost, fails or ends in whatever order: acknowledgements are in order, once, and all there in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st
from switchgear import Filter, Message, Window, receiver
from switchgear import handling as module
from switchgear.arrival import Ack, AckQueue, Arrival
from switchgear.receiver import HandlerSettings, Inbox


@define(eq=False)
class Connection:
    """One connection of a broker that delivers at QoS 1: acknowledgements must come once, in the order of delivery."""

    broker: FakeBroker
    sent: list[int] = field(factory=list)
    is_open: bool = True

    def acknowledge(self, token: object) -> None:
        if self.is_open:
            assert token == self.sent.pop(0), "out of order, or twice"
            del self.broker.unacknowledged[token]


@define(eq=False)
class FakeBroker:
    """A session at a broker, and its present connection."""

    inboxes: list[Inbox] = field(factory=list)
    unacknowledged: dict[int, Message] = field(factory=dict)
    connection: Connection = field(init=False)
    queue: AckQueue = field(init=False)
    published: int = 0

    def __attrs_post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.connection = Connection(self)
        self.queue = AckQueue(self.connection)  # type: ignore[arg-type]  # as much of one as is used
        for token, message in list(self.unacknowledged.items()):
            self._deliver(token, evolve(message, duplicate=True))

    def lose(self) -> None:
        self.connection.is_open = False
        self.connect()

    def publish(self, topic: str, message_id: str | None) -> None:
        self.published += 1
        message = Message(topic, str(self.published).encode(), 1, id=message_id)
        self.unacknowledged[self.published] = message
        self._deliver(self.published, message)

    def _deliver(self, token: int, message: Message) -> None:
        self.connection.sent.append(token)
        wanted = [inbox for inbox in self.inboxes if not inbox.is_closed]
        ack = Ack(token, self.queue, len(wanted))
        self.queue.add(ack)
        if not wanted:
            self.queue.settle()
        for inbox in wanted:
            inbox.push(Arrival(message, ack))


@define(eq=False)
class Consumer:
    """A handler whose calls take as long, and end, as was drawn; it keeps what it handled."""

    ack: str
    outcomes: list[tuple[int, bool]]
    handled: list[Message] = field(factory=list)
    dead: list[Message] = field(factory=list)
    busy: Counter[str] = field(factory=Counter)
    calls: int = 0
    most_at_a_topic: int = 0

    async def __call__(self, message: Message) -> None:
        turns, fails = self.outcomes[self.calls % len(self.outcomes)]
        self.calls += 1
        self.busy[message.topic] += 1
        self.most_at_a_topic = max(self.most_at_a_topic, self.busy[message.topic])
        for _ in range(turns):
            await asyncio.sleep(0)
        self.busy[message.topic] -= 1
        if fails:
            raise ValueError(self.calls)
        self.handled.append(message)
        message.ack()

    def bury(self, message: Message) -> None:
        self.dead.append(message)
        message.ack()


KINDS = st.fixed_dictionaries(
    {
        "ack": st.sampled_from(["after", "at_once", "manual"]),
        "concurrency": st.integers(1, 4),
        "ordered": st.booleans(),
        "has_window": st.booleans(),
        "outcomes": st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=6),
        "inbox_limit": st.integers(1, 4),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("ab"), st.sampled_from([None, "1", "2", "3"])),
        st.tuples(st.just("lose")),
        st.tuples(st.just("run"), st.integers(1, 8)),
        st.tuples(st.just("end"), st.integers(0, 1)),
    ),
    max_size=40,
)


async def play(kinds: list[dict[str, Any]], steps: list[tuple[Any, ...]]) -> None:
    broker, consumers = FakeBroker(), []
    everything: list[HandlerSettings] = []
    for kind in kinds:
        consumer = Consumer(kind["ack"], kind["outcomes"])
        own = HandlerSettings(1, kind["inbox_limit"], consumer.bury, asyncio.get_running_loop(), lambda *_, **__: None)
        window = Window() if kind["has_window"] else None
        broker.inboxes.append(
            Inbox(Filter("t"), own, kind["ack"], consumer, kind["concurrency"], kind["ordered"], window)
        )
        consumers.append(consumer)
        everything.append(own)
    has_lost = False
    for what, *arguments in steps:
        if what == "publish":
            broker.publish(*arguments)
        elif what == "lose":
            broker.lose()
            has_lost = True
        elif what == "run":
            for _ in range(arguments[0]):
                await asyncio.sleep(0)
        elif arguments[0] < len(broker.inboxes):
            broker.inboxes[arguments[0]].close()
            broker.inboxes[arguments[0]].discard()
    for _ in range(3000):
        await asyncio.sleep(0)
        if not broker.unacknowledged and not any(each.tasks for each in everything):
            break
    assert (broker.unacknowledged, len(broker.queue)) == ({}, 0)
    for kind, inbox, consumer in zip(kinds, broker.inboxes, consumers, strict=True):
        assert all(inbox.window is None or not inbox.window._claimed for inbox in broker.inboxes)
        ended = Counter(message.payload for message in (*consumer.handled, *consumer.dead))
        if kind["has_window"]:
            ids = Counter(message.id for message in (*consumer.handled, *consumer.dead) if message.id is not None)
            assert all(count == 1 for count in ids.values())
        elif not has_lost:
            assert all(count == 1 for count in ended.values())
        if not inbox.is_closed and not kind["has_window"]:
            assert len(ended) == broker.published
        if kind["ordered"] or kind["concurrency"] == 1:
            assert consumer.most_at_a_topic <= 1


@given(st.lists(KINDS, min_size=1, max_size=2), STEPS)
@settings(max_examples=500, deadline=None)
def test_acknowledgements(kinds: list[dict[str, Any]], steps: list[tuple[Any, ...]]) -> None:
    """Everything is acknowledged in order and once; nothing is left out; an id in a window is handled once."""
    before, receiver.log.disabled, module.RETRY_DELAY = module.RETRY_DELAY, True, 0
    try:
        asyncio.run(play(kinds, steps))
    finally:
        receiver.log.disabled, module.RETRY_DELAY = False, before
