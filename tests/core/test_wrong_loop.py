from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import AsyncTransport, Cancelled, State, TransportClosed, WrongLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from switchgear.testing import ThreadedBroker

DEAD = "mqtt://127.0.0.1:1"


def plain_calls(transport: AsyncTransport) -> list[Callable[[], object]]:
    """What does not wait."""
    return [
        lambda: transport.publish("t"),
        lambda: transport.subscribe("t"),
        lambda: transport.unsubscribe("t"),
        lambda: transport.respond("t", str),
        transport.reconnect,
    ]


def waits(transport: AsyncTransport) -> list[Callable[[], Coroutine[Any, Any, object]]]:
    """What is awaited."""
    return [transport.wait_connected, transport.drain, transport.ready, lambda: transport.request("t")]


async def wait_for(work: Awaitable[object]) -> object:
    """What *work* gives, within a bound."""
    async with asyncio.timeout(30):
        return await work


# Another thread, another loop.


async def test_what_a_plain_handler_may_do(switchgear_broker: ThreadedBroker) -> None:
    """A plain handler, on its thread, publishes and ends its subscription, and both come about."""
    async with switchgear.aio.connect(switchgear_broker.uri, client_id="c") as transport:
        replies: asyncio.Queue[bytes] = asyncio.Queue()

        def handle(message: switchgear.Message) -> None:
            transport.publish("reply", message.payload, expires_after=60)
            subscription.unsubscribe()
            transport.unsubscribe("nothing")

        async def reply(message: switchgear.Message) -> None:
            await replies.put(message.payload)

        subscription = transport.subscribe("question", handle)
        transport.subscribe("reply", reply)
        await transport.wait_connected(30)
        await transport.publish("question", "1")
        assert await wait_for(replies.get()) == b"1"
        await transport.publish("question", "2")
        await transport.publish("reply", "3")
        assert await wait_for(replies.get()) == b"3"


async def test_other_thread_while_all_is_quiet(switchgear_broker: ThreadedBroker) -> None:
    """What another thread publishes, or wants, comes about at once, and not when the loop happens to wake."""
    async with switchgear.aio.connect(switchgear_broker.uri, client_id="c", keepalive=0) as transport:
        await transport.wait_connected(30)
        await asyncio.to_thread(lambda: transport.publish("t", "x").wait(30))
        await asyncio.to_thread(transport.reconnect, "another thread wants it")
        async with asyncio.timeout(30):
            while transport.stats.connections < 2 or not transport.is_connected:  # noqa: ASYNC110 - statistics tell nobody
                await asyncio.sleep(0.01)


async def test_other_thread(switchgear_broker: ThreadedBroker) -> None:
    """What cannot be done from another thread is refused with the way out, changes nothing, and the transport goes on."""
    async with switchgear.aio.connect(switchgear_broker.uri, client_id="c", protocol="5") as transport:
        await transport.wait_connected(30)
        subscription = transport.subscribe("s")
        delivery = transport.publish("t", "before")

        def elsewhere() -> None:
            for call in (lambda: transport.subscribe("t"), lambda: transport.cancel(delivery)):
                with pytest.raises(WrongLoop, match="call_soon_threadsafe"):
                    call()
            for wait in (*waits(transport), transport.close, subscription.get):
                with pytest.raises(WrongLoop, match="run_coroutine_threadsafe"):
                    asyncio.run(wait_for(wait()))
            delivery.wait(30)

        await asyncio.to_thread(elsewhere)
        await delivery
        await transport.publish("t", "after")
        assert (transport.stats.accepted, transport.stats.connections) == (2, 1)
    assert switchgear_broker.do(switchgear_broker.ledger.payloads) == [b"before", b"after"]


def test_await_on_any_loop(switchgear_broker: ThreadedBroker) -> None:
    """A delivery of a synchronous transport can be awaited in an asyncio program, which wakes up when it ends."""
    switchgear_broker.faults.withhold_acks()

    async def main() -> None:
        with switchgear.connect(switchgear_broker.uri, client_id="c") as transport:
            delivery = transport.publish("t", "x")
            waiting = asyncio.ensure_future(wait_for(delivery))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            threading.Thread(target=transport.close).start()
            with pytest.raises(Cancelled):
                await waiting

    asyncio.run(main())


def test_no_loop_to_start_on() -> None:
    """A call on a transport that no loop has been given to says so, and not 'no running event loop'."""
    transport = switchgear.aio.connect(DEAD, client_id="c")
    for call in plain_calls(transport):
        with pytest.raises(WrongLoop):
            call()
    asyncio.run(transport.close())


# A loop that ends before its transport.


def abandoned(**options: Any) -> tuple[AsyncTransport, switchgear.Delivery]:
    """A transport that nobody closed, of a loop that has ended, and a message that it had accepted."""

    async def main() -> tuple[AsyncTransport, switchgear.Delivery]:
        transport = switchgear.aio.connect(DEAD, client_id="c", **options)
        return transport, transport.publish("t", "x")

    return asyncio.run(main())


@pytest.mark.parametrize("durable", [False, True])
def test_loop_that_ended(durable: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """After its loop has ended each call says so; none accepts anything or waits for ever; close() still gives all back."""
    path = str(tmp_path / "outbox")
    transport, delivery = abandoned(**({"outbox": path} if durable else {}), protocol="5")
    assert (transport.state, transport.is_connected) == (State.STOPPED, False)
    for call in [*plain_calls(transport), delivery.wait]:
        with pytest.raises(TransportClosed, match="loop"):
            call()
    for wait in waits(transport):
        with pytest.raises(TransportClosed, match="loop"):
            asyncio.run(wait_for(wait()))
    with pytest.raises(TransportClosed, match="loop"):
        asyncio.run(wait_for(_awaited(delivery)))
    assert transport.depth == 1
    asyncio.run(transport.close())
    with pytest.raises(TransportClosed if durable else Cancelled):
        delivery.wait()
    if durable:
        with switchgear.connect(DEAD, client_id="c", outbox=path) as following:
            assert following.depth == 1
            following.close()


async def _awaited(delivery: switchgear.Delivery) -> None:
    await delivery


def test_thread_that_waits_when_the_loop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for a delivery hears that the loop has ended, though nobody closed the transport."""
    monkeypatch.setattr("switchgear.delivery.LOOK", 0.01)
    said: list[str] = []

    def wait(delivery: switchgear.Delivery) -> None:
        try:
            delivery.wait()
        except TransportClosed as error:
            said.append(str(error))

    async def main() -> AsyncTransport:
        transport = switchgear.aio.connect(DEAD, client_id="c")
        delivery = transport.publish("t", "x")
        threads.append(threading.Thread(target=wait, args=(delivery,)))
        threads[0].start()
        return transport

    threads: list[threading.Thread] = []
    transport = asyncio.run(main())
    threads[0].join(30)
    assert said
    assert "event loop" in said[0]
    transport.close_now()


def test_unclosed_is_said() -> None:
    """A transport that is forgotten without having been closed warns, with what was waiting in it."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        abandoned()
        gc.collect()
    mine = [str(warning.message) for warning in caught if "AsyncTransport" in str(warning.message)]
    assert len(mine) == 1
    assert "waiting=1" in mine[0]


UNCLOSED = """
import asyncio, sys, switchgear
async def main():
    transport = switchgear.aio.connect("mqtt://127.0.0.1:1", client_id="c", outbox=sys.argv[1])
    for number in range(1000):
        transport.publish("t", str(number))
asyncio.run(main())
"""


def test_unclosed_outbox_is_written(tmp_path: Path) -> None:
    """An asyncio program that ends in order without closing its transport loses nothing that its durable outbox accepted."""
    path = str(tmp_path / "outbox")
    done = subprocess.run([sys.executable, "-I", "-c", UNCLOSED, path], capture_output=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    with switchgear.connect(DEAD, client_id="c", outbox=path) as following:
        assert following.depth == 1000
        following.close()
