from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import AsyncTransport, DeliveryState, Profile, State, TransportClosed
from switchgear.loop_thread import LOOP
from switchgear.testing import Broker, InlineRunner, MemoryNetwork, ThreadedBroker, run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from switchgear import Delivery, Message
    from switchgear.drivers.base import DriverSettings, Link
    from switchgear.drivers.paho import PahoDriver

DEAD = "mqtt://127.0.0.1:1"


def virtual(network: MemoryNetwork, **options: Any) -> AsyncTransport:
    """A transport to ``b:1883`` of *network*, without threads."""
    profile = Profile.of("mqtt://b:1883", **{"client_id": "c", **options})
    return AsyncTransport(profile, make_driver=network.make_driver, runner=InlineRunner())


# Cancellation.

CALLS: dict[str, Callable[[AsyncTransport], Awaitable[object]]] = {
    "wait_connected": lambda transport: transport.wait_connected(),
    "drain": lambda transport: transport.drain(),
    "delivery": lambda transport: transport.publish("t", "its own"),
    "ready": lambda transport: transport.subscribe("u").ready(),
    "get": lambda transport: transport.subscribe("t").get(),
    "request": lambda transport: transport.request("nobody"),
    "close": lambda transport: transport.close(drain=5),
    "close_at_once": lambda transport: transport.close(),
}


@pytest.mark.parametrize("call", CALLS)
def test_cancelled_anywhere(call: str) -> None:
    """A call that is cancelled after any number of turns leaves a transport that works, or that close() still ends."""

    async def cancel_after(turns: int) -> bool:
        async with Broker() as broker:
            transport = virtual(MemoryNetwork({"b:1883": broker}), protocol="5").start()
            first = transport.publish("t", "accepted before")
            task = asyncio.ensure_future(CALLS[call](transport))
            for _ in range(turns):
                await asyncio.sleep(0)
            was_done = task.done()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if not transport._is_closed:
                await transport.publish("t", "after")
                await first
            await transport.close()
            assert first.done()
            assert (transport.state, broker.clients) == (State.STOPPED, [])
            with pytest.raises(TransportClosed):
                transport.publish("t")
            timers = [repr(handle) for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]  # asyncio's own
            assert [timer for timer in timers if "testing" not in timer] == []
            return was_done

    for turns in range(201):
        if run_virtual(cancel_after(turns)):
            return
    assert call in {"get", "request"}  # nobody answers these


async def test_cancelled_close_of_a_file(tmp_path: Path) -> None:
    """However soon close() is cancelled, the next one waits for its end: the outbox is free, all tasks are gone."""
    for turns in range(12):
        path = str(tmp_path / f"{turns}.outbox")
        transport = switchgear.aio.connect(DEAD, client_id="c", outbox=path)
        delivery = transport.publish("t", "kept")
        closing = asyncio.ensure_future(transport.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closing
        await transport.close()
        with pytest.raises(TransportClosed, match="stay in"):
            await delivery
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with switchgear.aio.connect(DEAD, client_id="c", outbox=path) as following:
            assert following.depth == 1
            await following.close()


def test_loop_that_ends_while_closing(tmp_path: Path) -> None:
    """A program that ends in the middle of close(), as by Ctrl-C, leaves no locked file and no unsaid end."""
    path = str(tmp_path / "outbox")
    kept: list[AsyncTransport] = []

    async def main() -> None:
        transport = switchgear.aio.connect(DEAD, client_id="c", outbox=path)
        kept.append(transport)
        transport.publish("t", "kept")
        asyncio.ensure_future(transport.close())  # noqa: RUF006 - asyncio.run cancels it
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())

    async def later() -> None:
        async with switchgear.aio.connect(DEAD, client_id="c", outbox=path) as following:
            assert following.depth == 1
            await following.close()

    asyncio.run(later())


@pytest.mark.parametrize("durable", [False, True])
async def test_two_who_close(durable: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """Who closes at once ends the draining of who closed before; both return, without an error."""
    options: dict[str, Any] = {"outbox": str(tmp_path / "outbox")} if durable else {}
    transport = switchgear.aio.connect(DEAD, client_id="c", **options)
    transport.publish("t", "x")
    patient = asyncio.ensure_future(transport.close(drain=60))
    await asyncio.sleep(0.01)
    await asyncio.gather(transport.close(), transport.close())
    await asyncio.wait_for(patient, 30)


def test_driver_that_breaks_at_the_end() -> None:
    """A driver that will not be cancelled, and raises when it is closed, keeps nobody from closing; the rest is done."""
    is_released = False

    async def dial(_endpoint: object) -> Link:
        while not is_released:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        raise OSError("released")

    def close() -> None:
        raise OSError("broken")

    def make_driver(settings: DriverSettings) -> PahoDriver:
        driver = MemoryNetwork().make_driver(settings)
        driver.dial, driver.close = dial, close  # type: ignore[method-assign, assignment]  # a broken library
        return driver

    async def main() -> None:
        nonlocal is_released
        profile = Profile.of("mqtt://b:1883", client_id="c")
        transport = AsyncTransport(profile, make_driver=make_driver, runner=InlineRunner())
        delivery = transport.start().publish("t")
        await asyncio.sleep(1)
        await transport.close()
        assert delivery.state is DeliveryState.CANCELLED
        is_released = True

    run_virtual(main())


# The loop that synchronous transports share.


def test_calls_that_come_too_late() -> None:
    """A call that was under way when another thread closed the transport raises TransportClosed: no hang, no other error."""
    transport = switchgear.connect(DEAD, client_id="c")
    subscription = transport.subscribe("t")
    transport.close()
    transport._is_closed = False  # as the call found it a moment ago
    calls: list[Callable[[], object]] = [
        lambda: transport.subscribe("t"),
        lambda: transport.unsubscribe("t"),
        transport.reconnect,
        transport.drain,
        transport.ready,
        transport.wait_connected,
        subscription.wait_ready,
        subscription.unsubscribe,
    ]
    for call in calls:
        with pytest.raises(TransportClosed):
            call()
    assert transport.stats.connections == 0
    assert "stopped" in transport.explain()


def test_wait_that_the_end_cuts() -> None:
    """A wait that is still there when the last transport's loop ends raises TransportClosed."""
    loop = LOOP.acquire()
    future = LOOP.run(loop, asyncio.sleep(3600))
    assert future is not None
    LOOP.release()
    assert future.cancelled()
    never = asyncio.sleep(0)
    assert LOOP.run(loop, never) is None
    assert not LOOP.call(loop, lambda: None)
    never.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_callback_that_raises_anything(
    error: type[BaseException], switchgear_broker: ThreadedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback raises is logged, whatever it is; the shared loop and the connection go on."""

    def callback(_delivery: Delivery) -> None:
        raise error("boom")

    with switchgear.connect(switchgear_broker.uri, client_id="c") as transport:
        first = transport.publish("t", "1")
        first.add_done_callback(callback)
        first.wait(30)
        transport.publish("t", "2").wait(30)
        assert transport.stats.connections == 1
    assert "switchgear.callback_failed" in caplog.messages


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_coroutine_that_ends_loops(
    error: type[BaseException], switchgear_broker: ThreadedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine handler that raises what ends an asyncio loop does not end the one that all transports share."""

    async def handle(_message: Message) -> None:
        raise error("boom")

    with switchgear.connect(switchgear_broker.uri, client_id="c", handler_retries=0) as transport:
        transport.subscribe("t", handle).wait_ready(30)
        transport.publish("t", "1").wait(30)
        transport.publish("u", "2").wait(30)
        assert transport.stats.handler_errors == 1
    assert "switchgear.handler_failed" in caplog.messages


def test_loop_survives_what_ends_loops(caplog: pytest.LogCaptureFixture) -> None:
    """A SystemExit that reaches the shared loop, say from a task that a handler made, is logged and ends nothing."""

    def boom() -> None:
        raise SystemExit("boom")

    with switchgear.connect(DEAD, client_id="c") as transport:
        LOOP.call(transport._loop, boom)
        assert transport.stats.connections == 0
    assert "switchgear.loop_interrupted" in caplog.messages


def test_no_thread_for_the_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the system has no thread for the shared loop, connect() says so and holds nothing; the next one works."""
    path = str(tmp_path / "outbox")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            switchgear.connect(DEAD, client_id="c", outbox=path)
    with switchgear.connect(DEAD, client_id="c", outbox=path) as transport:
        assert transport.depth == 0
    assert LOOP.loop is None


def _no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
