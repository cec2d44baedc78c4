from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import (
    AsyncTransport,
    GaveUp,
    GiveUpAfter,
    InvalidOption,
    InvalidTopic,
    Message,
    OutboxLimits,
    Properties,
    Refused,
    SubscriptionRefused,
    TransportClosed,
    WouldDeadlock,
    exponential,
)
from switchgear import requests as module
from switchgear.testing.broker import Broker
from switchgear.testing.threads import ThreadedBroker

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK: dict[str, Any] = {"backoff": exponential(cap=0.05), "connect_timeout": 20.0, "protocol": "5"}


def open_to(*brokers: Broker, **options: Any) -> AsyncTransport:
    """A transport to *brokers*, which share nothing when there are several."""
    return switchgear.aio.connect([one.uri for one in brokers], **{"client_id": "asker", **QUICK, **options})


async def double(message: Message) -> str:
    return message.text * 2


async def test_request_and_reply() -> None:
    """A request gets the reply of the responder, each its own, with one subscription for all."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker, open_to(one, client_id="answerer") as answerer:
            await answerer.respond("double/+", double).ready(30)
            replies = await asyncio.gather(*(asker.request("double/it", str(n), timeout=600) for n in range(20)))
            assert [reply.text for reply in replies] == [str(n) * 2 for n in range(20)]
            assert replies[0].topic == "replies/asker"
            assert len(one.ledger.published("double/it")) == 20
            asked = one.ledger.published("double/it")[0].properties
            assert asked.response_topic == "replies/asker"
            assert asked.message_expiry_interval in range(500, 601)


@pytest.mark.parametrize(
    ("answer", "reply"), [(lambda _: "yes", b"yes"), (lambda _: None, b""), (lambda _: bytearray(b"b"), b"b")]
)
async def test_plain_responder(answer: Callable[[Message], Any], reply: bytes) -> None:
    """A plain function answers from a worker thread with bytes, text, or nothing."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            await asker.respond("ask", answer).ready(30)
            assert (await asker.request("ask")).payload == reply


async def test_deadline() -> None:
    """Without a responder the request ends at its deadline, names its topic, and leaves nothing behind."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            with pytest.raises(TimeoutError, match=r"0\.05 s: no reply to the request on 'nobody'"):
                await asker.request("nobody", timeout=0.05)
            assert asker._requests._waiting == {}


async def test_deadline_without_a_connection() -> None:
    """While no broker is there a request waits no longer than its deadline, and is not sent afterwards."""
    async with Broker(standby=True) as one:
        await one.start()
        async with open_to(one) as asker:
            with pytest.raises(TimeoutError):
                await asker.request("t", timeout=0.05)
            assert asker.depth == 0


async def test_switch_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker dies with the request, its reply or both; on the next one the same request is answered in time."""
    monkeypatch.setattr(module, "REPEATS", (0.02, 0.05))
    async with Broker() as one, Broker(standby=True) as two:
        await one.start()
        await two.start()
        calls: list[str] = []
        fallen = asyncio.Event()

        async def answer(message: Message) -> str:
            calls.append(message.text)
            if len(calls) == 1:  # the reply to this one dies with the broker
                await one.kill()
                await two.promote()
                fallen.set()
            return message.text.upper()

        async with open_to(one, two) as asker, open_to(one, two, client_id="answerer") as answerer:
            await answerer.respond("ask", answer).ready(30)
            reply = await asker.request("ask", "hello", timeout=60)
            assert fallen.is_set()
            assert reply.text == "HELLO"
            assert asker.endpoint is not None
            assert asker.endpoint.port == two.port
            assert calls == ["hello"]  # it came again, and got the reply that was made the first time


async def test_repeated_request() -> None:
    """A request that comes twice is answered twice and handled once; one without correlation data each time."""
    calls: list[bytes] = []

    def answer(message: Message) -> str:
        calls.append(message.payload)
        return "done"

    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            heard: asyncio.Queue[Message] = asyncio.Queue()
            await asker.subscribe("mine", heard.put).ready(30)
            await asker.respond("ask", answer).ready(30)
            for data in (b"7", b"7", None, None):
                about = Properties(response_topic="mine", correlation_data=data)
                asker.publish("ask", data or b"-", properties=about)
            asker.publish("ask", b"no reply wanted")
            replies = [await heard.get() for _ in range(4)]
            assert [reply.text for reply in replies] == ["done"] * 4
            await asker.drain(30)
            while len(calls) < 4:  # noqa: ASYNC110 - the last wants no reply, so nobody tells
                await asyncio.sleep(0.002)
            assert calls == [b"7", b"-", b"-", b"no reply wanted"]


def test_memory_of_replies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A responder forgets the oldest replies by number and by size, but never the last."""
    monkeypatch.setattr(module, "REPLIES_KEPT", 3)
    monkeypatch.setattr(module, "LARGEST_KEPT", 100)
    responder = module.Responder(None, print)  # type: ignore[arg-type]  # it sends nothing here
    for number in range(5):
        responder._keep(("t", bytes([number])), b"x")
    assert [key[1] for key in responder._replies] == [b"\2", b"\3", b"\4"]
    responder._keep(("t", b"large"), b"x" * 200)
    assert [key[1] for key in responder._replies] == [b"large"]


async def test_response_topic_that_cannot_be() -> None:
    """A request whose response topic is no topic is handled and acknowledged; the next one is answered."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            await asker.respond("ask", double).ready(30)
            asker.publish("ask", "x", properties=Properties(response_topic="a/#", correlation_data=b"1"))
            assert (await asker.request("ask", "y")).text == "yy"


async def test_reply_into_a_full_outbox() -> None:
    """A reply that finds the outbox full is sent when there is room, without a second call of the handler."""
    calls = 0

    async def answer(message: Message) -> str:
        nonlocal calls
        calls += 1
        return message.text

    async with Broker() as one:
        await one.start()
        limits = OutboxLimits(max_messages=1)
        async with (
            open_to(one) as asker,
            open_to(one, client_id="answerer", outbox_limits=limits, handler_retries=6) as answerer,
        ):
            await answerer.respond("ask", answer).ready(30)
            one.faults.withhold_acks(times=1)
            answerer.publish("other", "x")
            asking = asyncio.ensure_future(asker.request("ask", "there"))
            while not answerer.stats.handler_errors:  # noqa: ASYNC110 - a handler's failure wakes nobody
                await asyncio.sleep(0.002)
            one.faults.lift("withhold_acks")
            assert (await asking).text == "there"
            assert calls == 1


async def test_refused_reply_topic() -> None:
    """A broker that lets nobody hear replies ends the request at once, with its reason."""
    async with Broker() as one:
        await one.start()
        one.faults.refuse_subscribe("replies/asker")
        async with open_to(one) as asker:
            with pytest.raises(SubscriptionRefused, match="replies/asker"):
                await asker.request("t")


async def test_refused_request() -> None:
    """A request that the broker refuses ends at once as refused: there will be no reply."""
    async with Broker(authorize=lambda _client, action, topic: action != "publish" or topic != "t") as one:
        await one.start()
        async with open_to(one) as asker:
            with pytest.raises(Refused):
                await asker.request("t")


async def test_end_of_the_transport() -> None:
    """Closing the transport, or its giving up, ends the requests that wait."""
    async with Broker() as one:
        await one.start()
        asker = open_to(one)
        waiting = asyncio.ensure_future(asker.request("t"))
        await asker.wait_connected(30)
        await asker.close()
        with pytest.raises(TransportClosed):
            await waiting
    async with open_to(one, give_up_after=GiveUpAfter(attempts=1)) as asker:
        with pytest.raises(GaveUp):
            await asker.request("t", timeout=5)


async def test_wrong_arguments() -> None:
    """What cannot be asked is refused before anything is sent."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            for wrong in ({"qos": 0}, {"qos": 3}, {"timeout": 0}, {"timeout": "soon"}, {"timeout": float("nan")}):
                with pytest.raises(InvalidOption, match=next(iter(wrong))):
                    await asker.request("t", **wrong)
            with pytest.raises(InvalidTopic):
                await asker.request("t/#")
            with pytest.raises(InvalidOption, match="answer"):
                asker.respond("t", "yes")  # type: ignore[arg-type]  # the same
            with pytest.raises(InvalidOption, match="'answer': calling a generator function runs nothing of it"):
                asker.respond("t", lambda message: (yield message))
        async with open_to(one, protocol="3.1.1") as asker:
            with pytest.raises(InvalidOption, match="protocol='5'"):
                await asker.request("t")
            with pytest.raises(InvalidOption, match="protocol='5'"):
                asker.respond("t", double)
    with pytest.raises(InvalidOption, match="reply_topic"):
        switchgear.aio.connect("mqtt://127.0.0.1:1", reply_topic="a/#")


async def test_client_id_that_is_no_level() -> None:
    """A client id with characters that topics give a meaning still makes a topic for replies."""
    async with Broker() as one:
        await one.start()
        async with open_to(one, client_id="a/b+c#") as asker:
            await asker.respond("ask", double).ready(30)
            assert (await asker.request("ask", "x")).topic == "replies/a-b-c-"


def test_synchronous() -> None:
    """Transport asks and answers as AsyncTransport does; asking from a handler is refused, for it would never end."""
    with (
        ThreadedBroker() as one,
        switchgear.connect(one.uri, client_id="a", reply_topic="mine", **QUICK) as asker,
        switchgear.connect(one.uri, client_id="b", **QUICK) as answerer,
    ):
        caught: list[type[BaseException]] = []

        def answer(message: Message) -> str:
            try:
                answerer.request("ask")
            except WouldDeadlock as error:
                caught.append(type(error))
            return message.text + "!"

        answerer.respond("ask", answer).wait_ready(30)
        reply = asker.request("ask", "hi", timeout=30)
        assert (reply.text, reply.topic, caught) == ("hi!", "mine", [WouldDeadlock])


async def test_giving_up_after_another_has_ended() -> None:
    """A request still hears that the transport gave up when another, asked beside it, has had its reply before."""
    async with Broker() as one:
        await one.start()
        async with open_to(one, give_up_after=GiveUpAfter(attempts=1)) as asker:
            await asker.respond("ask", double).ready(30)
            waiting = [asyncio.ensure_future(asker.request("nobody", timeout=30)) for _ in range(2)]
            assert (await asker.request("ask", "x")).text == "xx"
            await one.kill()
            for request in waiting:
                with pytest.raises(GaveUp):
                    await asyncio.wait_for(request, 10)
            assert asker._waits._parked == set()


async def test_cancelled_request() -> None:
    """A request whose task is cancelled leaves nothing behind, wherever it was; its late reply harms nobody."""
    async with Broker(standby=True) as one:
        await one.start()
        async with open_to(one) as asker:
            early = asyncio.ensure_future(asker.request("ask", "early"))
            await asyncio.sleep(0.01)
            early.cancel()
            with pytest.raises(asyncio.CancelledError):
                await early
            assert (asker._requests._waiting, asker._waits._parked, asker.depth) == ({}, set(), 0)
            await one.promote()
            asked, gate = asyncio.Event(), asyncio.Event()

            async def answer(message: Message) -> str:
                asked.set()
                await gate.wait()
                return message.text

            await asker.respond("ask", answer).ready(30)
            late = asyncio.ensure_future(asker.request("ask", "late"))
            await asked.wait()
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
            gate.set()
            assert (await asker.request("ask", "next")).text == "next"
            await asker.drain(30)
            assert (asker._requests._waiting, asker._waits._parked, asker.depth) == ({}, set(), 0)


async def test_session_that_goes_on() -> None:
    """A broker that still has our session has the request too: it is not sent again."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker, open_to(one, client_id="answerer") as answerer:
            gate = asyncio.Event()

            async def answer(message: Message) -> str:
                await gate.wait()
                return message.text

            await answerer.respond("ask", answer).ready(30)
            asking = asyncio.ensure_future(asker.request("ask", "x"))
            while not one.ledger.published("ask"):  # noqa: ASYNC110 - the ledger tells nobody
                await asyncio.sleep(0.002)
            await asker.drain(30)
            one.faults.reset("asker")
            while asker.stats.connections < 2:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.05)
            gate.set()
            assert (await asking).text == "x"
            assert len(one.ledger.published("ask")) == 1


async def test_replies_of_strangers() -> None:
    """A reply that comes twice, late, or with data that nobody asked under is dropped, and acknowledged."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            requests: asyncio.Queue[Message] = asyncio.Queue()
            await asker.subscribe("ask", requests.put).ready(30)
            asking = asyncio.ensure_future(asker.request("ask"))
            asked = (await requests.get()).properties
            assert asked is not None
            for data in (b"", None, b"x" * 65535, asked.correlation_data, asked.correlation_data):
                asker.publish("replies/asker", data or b"", properties=Properties(correlation_data=data))
            assert (await asking).payload == asked.correlation_data
            await asker.drain(30)
            async with asyncio.timeout(30):
                while len(asker._gate.ears.acks):  # noqa: ASYNC110 - acknowledgements tell nobody
                    await asyncio.sleep(0.002)


async def test_thousands_at_a_time() -> None:
    """Three thousand requests at a time get each its own reply, once answered, over one subscription."""
    calls = 0

    async def answer(message: Message) -> str:
        nonlocal calls
        calls += 1
        return message.text

    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker, open_to(one, client_id="answerer") as answerer:
            await answerer.respond("ask", answer, concurrency=20).ready(30)
            replies = await asyncio.gather(*(asker.request("ask", str(n), timeout=60) for n in range(3000)))
            assert [reply.text for reply in replies] == [str(n) for n in range(3000)]
            assert calls == 3000
            assert asker._requests._waiting == {}


@pytest.mark.parametrize("kind", ["partial", "function"])
async def test_responder_that_gives_a_coroutine(kind: str) -> None:
    """Whatever wraps a coroutine function, its answer is awaited."""
    answer = (
        functools.partial(double) if kind == "partial" else functools.partial(lambda f, message: f(message), double)
    )
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            await asker.respond("ask", answer).ready(30)
            assert (await asker.request("ask", "x", timeout=30)).text == "xx"


async def test_unsubscribed_by_the_application() -> None:
    """When the application ends the subscription for replies, the next request makes it again."""
    async with Broker() as one:
        await one.start()
        async with open_to(one) as asker:
            await asker.respond("ask", double).ready(30)
            for _ in range(2):
                assert (await asker.request("ask", "x", timeout=30)).text == "xx"
                asker.unsubscribe("replies/asker")
