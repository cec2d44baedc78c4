from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import AsyncTransport, Group, Message, Properties, Window, exponential
from switchgear.drivers.flow import PahoConnection
from switchgear.testing.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from switchgear.subscription import Subscription

QUICK: dict[str, Any] = {"backoff": exponential(cap=0.05), "connect_timeout": 20.0, "protocol": "5"}


def open_to(one: Broker | Group, **options: Any) -> AsyncTransport:
    return switchgear.aio.connect(
        one.uri if isinstance(one, Broker) else one, **{"client_id": "consumer", **QUICK, **options}
    )


def with_id(message_id: str) -> Properties:
    return Properties(user=(("message-id", message_id),))


async def until_settled(transport: AsyncTransport) -> None:
    """Nothing that arrived waits for its acknowledgement any more."""
    async with asyncio.timeout(30):
        while len(transport._gate.ears.acks):  # noqa: ASYNC110 - acknowledgements tell nobody
            await asyncio.sleep(0.002)


async def test_unsubscribed_while_it_is_handled() -> None:
    """A coroutine handler whose subscription ends goes on to its end, and its message holds up no acknowledgement."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as transport:
            begun, gate, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def handle(_: Message) -> None:
                begun.set()
                await gate.wait()
                ended.set()

            subscription = transport.subscribe("a", handle)
            other = transport.subscribe("b")
            transport.publish("a")
            transport.publish("b")
            await begun.wait()
            subscription.unsubscribe()
            await other.get()
            gate.set()
            await asyncio.wait_for(ended.wait(), 30)
            other.unsubscribe()
            await until_settled(transport)


async def test_closed_while_it_is_handled_after_unsubscribing() -> None:
    """Closing the transport also ends the handler of a subscription that has ended before: nothing is left behind."""
    async with Broker() as one:
        await one.start()
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def handle(_: Message) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        transport = open_to(one)
        subscription = transport.subscribe("a", handle)
        transport.publish("a")
        await begun.wait()
        subscription.unsubscribe()
        await transport.close()
        await asyncio.wait_for(cancelled.wait(), 30)


async def test_repetition_in_an_ended_subscription() -> None:
    """A repetition that waits for the one who has the message holds up nothing once its subscription has ended."""
    async with Broker() as one:
        await one.start()
        window = Window()
        async with open_to(one) as mine, open_to(one, client_id="other") as theirs:
            has, waits = (each.subscribe("a", deduplicate=window) for each in (mine, theirs))
            await has.ready(30)
            await waits.ready(30)
            mine.publish("a", properties=with_id("7"))
            async with asyncio.timeout(30):
                while not (len(mine._gate.ears.acks) and len(theirs._gate.ears.acks)):  # noqa: ASYNC110 - arrivals tell nobody
                    await asyncio.sleep(0.002)
            loser, winner = (waits, has) if len(has._inbox) else (has, waits)
            loser.unsubscribe()
            winner.unsubscribe()  # it gives the message back
            await until_settled(mine)
            await until_settled(theirs)


@pytest.mark.parametrize("ends_with", ["an error", "a return"])
async def test_iterator_that_does_not_ask_again(ends_with: str) -> None:
    """A message that an iterator was at when its transport was closed was not handled: the next process gets it."""

    async def iterate(subscription: Subscription) -> None:
        async for _ in subscription:
            if ends_with == "an error":
                raise ZeroDivisionError
            return

    async with Broker() as one:
        await one.start()
        with suppress(ZeroDivisionError):
            async with open_to(one) as transport:
                subscription = transport.subscribe("a")
                await subscription.ready(30)
                await transport.publish("a", "precious")
                await iterate(subscription)
        async with open_to(one) as transport:
            message = await asyncio.wait_for(transport.subscribe("a").get(), 30)
            assert message is not None
            assert message.text == "precious"


@pytest.mark.parametrize("ack", ["after", "manual"])
async def test_iterator_gives_back_what_it_had(ack: str) -> None:
    """What an iterator was at when its transport was closed is handled by another one that shares the window."""
    async with Broker() as one:
        await one.start()
        window = Window()
        async with open_to(one, client_id="other") as theirs:
            mine = open_to(one)
            first = mine.subscribe("a", deduplicate=window, ack=ack)
            theirs.publish("a", "kept", retain=True, properties=with_id("7"))
            assert await asyncio.wait_for(first.get(), 30) is not None
            second = theirs.subscribe("a", deduplicate=window)
            await second.ready(30)
            await theirs.publish("b")
            assert len(second._inbox) == 0
            await mine.close()
            assert await asyncio.wait_for(second.get(), 30) is not None


@pytest.mark.parametrize("is_async", [True, False])
async def test_handler_that_fails_as_its_transport_is_closed(is_async: bool) -> None:  # noqa: FBT001 - a parameter
    """A handler that fails because its transport was closed has no dead letter: the next process gets the message."""
    dead: list[str] = []
    async with Broker() as one:
        await one.start()
        begun, closed = threading.Event(), threading.Event()
        transport = open_to(one, dead_letter=lambda message: dead.append(message.text))

        def handle(message: Message) -> None:
            begun.set()
            closed.wait(30)
            transport.accept("b", message.payload, 1, False, None, None)

        async def handle_async(message: Message) -> None:
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            transport.publish("b", message.payload)

        subscription = transport.subscribe("a", handle_async if is_async else handle)
        await subscription.ready(30)
        await transport.publish("a", "precious")
        await asyncio.to_thread(begun.wait, 5)
        await transport.close()
        closed.set()
        async with open_to(one) as transport:
            message = await asyncio.wait_for(transport.subscribe("a").get(), 30)
            assert message is not None
            assert message.text == "precious"
    assert dead == []


async def test_empty_ids() -> None:
    """An id of a stranger that is empty is none: two messages that have it are two messages."""
    async with Broker() as one:
        await one.start()
        async with open_to(one, message_id=False) as transport:
            subscription = transport.subscribe("a", deduplicate=True)
            for text in "12":
                transport.publish("a", text, properties=with_id(""))
            async with asyncio.timeout(30):
                found = [await subscription.get() for _ in range(2)]
            assert [message and message.text for message in found] == ["1", "2"]


class Nonsense:
    """An envelope of an application with a bug."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def wrap(self, message_id: str, payload: bytes) -> bytes:
        return payload

    def unwrap(self, payload: bytes) -> Any:
        if isinstance(self._found, BaseException):
            raise self._found
        return self._found


@pytest.mark.parametrize(
    "found", [None, "text", (7, b"x"), ("7", "x"), ("7",), ("7", None), ValueError(), SystemExit(3)]
)
async def test_envelope_that_is_broken(found: Any) -> None:
    """Whatever an envelope's code gives or raises, the message is handled as it came."""
    async with Broker() as one:
        await one.start()
        async with open_to(one, envelope=Nonsense(found)) as transport:
            subscription = transport.subscribe("a")
            transport.publish("a", "as it came")
            message = await asyncio.wait_for(subscription.get(), 30)
            assert message is not None
            assert (message.payload, message.id) == (b"as it came", None)


async def test_waiting_messages_do_not_multiply() -> None:
    """What waits in an inbox when its connection is lost is delivered again by the session: it is kept once, in order."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as transport:
            subscription = transport.subscribe("a")
            await subscription.ready(30)
            for text in "123":
                await transport.publish("a", text)
            taken = await subscription.get()
            assert taken is not None
            for _ in range(5):
                connections = transport.stats.connections
                one.faults.reset("consumer")
                while transport.stats.connections == connections:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.002)
                await transport.publish("b")  # what the session held has come before its acknowledgement
            found = []
            async with asyncio.timeout(30):
                while len(subscription._inbox):
                    message = await subscription.get()
                    assert message is not None
                    found.append(message.text)
            assert taken.text == "1"
            assert found[-2:] == ["2", "3"]
            assert found.count("2") == found.count("3") == 1


async def test_unsubscribed_during_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to the next broker, eight in a packet, although that one says that it has no session.

    ActiveMQ says so at every connection, and would keep what comes for the durable subscription for ever.
    """
    told: list[list[str]] = []
    unsubscribe = PahoConnection.unsubscribe

    def listen(flow: PahoConnection, filters: Sequence[str]) -> Coroutine[Any, Any, list[int]]:
        told.append(list(filters))
        return unsubscribe(flow, filters)

    monkeypatch.setattr(PahoConnection, "unsubscribe", listen)
    async with Broker() as one, Broker() as two:
        await one.start()
        await two.start()
        async with open_to(Group([one.uri, two.uri], "shared")) as transport:
            subscriptions = [transport.subscribe(f"a/{n:02}") for n in range(20)]
            await asyncio.gather(*(subscription.ready(30) for subscription in subscriptions))
            await (one if one.clients else two).kill()
            while transport.is_connected:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.002)
            for subscription in subscriptions[1:]:
                subscription.unsubscribe()
            await transport.publish("b")
    assert [len(filters) for filters in told] == [8, 8, 3]
    assert [f"a/{n:02}" for n in range(1, 20)] == [name for filters in told for name in filters]


async def test_what_still_comes_after_unsubscribing() -> None:
    """Soon after the start, too, what the broker had queued for an ended subscription holds up no acknowledgement."""
    async with Broker() as one:
        await one.start()
        async with open_to(one, receive_maximum=2) as transport, open_to(one, client_id="publisher") as publisher:
            ended, other = transport.subscribe("a/+"), transport.subscribe("b")
            await ended.ready(30)
            for number in range(20):
                publisher.publish(f"a/{number}")
            await publisher.publish("b")
            assert await ended.get() is not None
            ended.unsubscribe()
            assert await asyncio.wait_for(other.get(), 30) is not None
            other.unsubscribe()
            await until_settled(transport)


async def test_retained_messages_and_windows() -> None:
    """A retained message is handled once, however often its subscription is made or brought back."""
    async with Broker() as one:
        await one.start()
        async with open_to(one, deduplicate=True) as transport:
            handled: list[str] = []

            async def handle(message: Message) -> None:
                handled.append(message.text)

            await transport.publish("a", "kept", retain=True, properties=with_id("7"))
            for _ in range(3):
                subscription = transport.subscribe("a", handle)
                await subscription.ready(30)
                await transport.publish("b")
                await until_settled(transport)
                subscription.unsubscribe()
            assert handled == ["kept"]


async def test_shared_subscriptions_and_windows() -> None:
    """Two consumers of one shared subscription, with one window, handle each id once between them."""
    async with Broker() as one:
        await one.start()
        window, handled = Window(), list[str]()

        async def handle(message: Message) -> None:
            await asyncio.sleep(0)
            handled.append(message.text)

        async with open_to(one) as mine, open_to(one, client_id="other") as theirs:
            for each in (mine, theirs):
                await each.subscribe("$share/g/a", handle, deduplicate=window, concurrency=3).ready(30)
            for number in [*range(20), *range(20)]:
                await mine.publish("a", str(number), properties=with_id(str(number)))
            await until_settled(mine)
            await until_settled(theirs)
            assert sorted(handled, key=int) == [str(number) for number in range(20)]
            assert mine.stats.duplicates + theirs.stats.duplicates == 20


async def test_handler_that_closes_its_transport() -> None:
    """A coroutine handler may close its own transport: the goodbye is said, and the handler goes on after it."""
    async with Broker() as one:
        await one.start()
        transport, after = open_to(one), asyncio.Event()

        async def handle(_: Message) -> None:
            await transport.close()
            after.set()

        transport.subscribe("a", handle)
        transport.publish("a")
        await asyncio.wait_for(after.wait(), 30)
        async with asyncio.timeout(30):
            while one.clients:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.002)


@pytest.mark.parametrize(("kept", "expected"), [(1000, 5), (3, 3)])
async def test_qos_0_before_it_is_claimed(monkeypatch: pytest.MonkeyPatch, kept: int, expected: int) -> None:
    """What a resumed session delivers at QoS 0 before the application has subscribed waits for it, within a bound."""
    monkeypatch.setattr("switchgear.subscriber.UNCLAIMED_QOS_0", kept)
    async with Broker() as one:
        await one.start()
        async with open_to(one) as first:
            await first.subscribe("early/#", qos=0).ready(30)
        async with open_to(one) as again, open_to(one, client_id="writer") as writer:
            await again.wait_connected(30)
            for number in range(5):
                await writer.publish("early/1", str(number), qos=0)
            async with asyncio.timeout(30):
                while again.stats.received < 5:  # noqa: ASYNC110 - an arrival that nobody wants tells nobody
                    await asyncio.sleep(0.002)
            messages = again.subscribe("early/#", qos=0)
            texts = [message.text for message in [await messages.get() for _ in range(expected)] if message]
            assert texts == [str(number) for number in range(expected)]
