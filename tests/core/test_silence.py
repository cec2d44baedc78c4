"""A driver that reports nothing although it owes an answer is found out; one that is only slow is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from switchgear import AsyncTransport, Cause, DeliveryState, Profile
from switchgear.drivers.base import DriverFeatures
from switchgear.errors import ConnectionFailed
from switchgear.testing import Accept, Hang, Script, Step, run_virtual
from switchgear.testing.wedge import Wedge

if TYPE_CHECKING:
    from switchgear.drivers.base import Driver, DriverSettings, Filter
    from switchgear.testing import VirtualLoop


def on(script: Script, wedge: Wedge, **options: Any) -> AsyncTransport:
    """A transport whose driver can be wedged; silent means: 10 s, and 25 or 60 more."""

    def make_driver(settings: DriverSettings) -> Driver:
        return wedge.around(script.make_driver(settings))

    return AsyncTransport(Profile("mqtt://b", client_id="press-7", **options), make_driver=make_driver)


def endings(transport: AsyncTransport) -> list[str]:
    """How connections and attempts ended, oldest first."""
    return [line for line in transport.explain().splitlines() if "failed:" in line or "lost mqtt" in line]


@pytest.mark.parametrize("step", ["dial", "connect"])
def test_an_attempt_without_an_end_is_silent(step: str) -> None:
    """A driver that never answers a dial, or a CONNECT, ends the attempt after five connect timeouts as DRIVER_SILENT."""
    script, wedge = Script(), Wedge(is_lasting=True)

    async def main() -> None:
        async with on(script, wedge, connect_timeout=2) as transport:
            if step == "dial":
                wedge.on()
            else:  # it is wedged when it has dialled
                script.decide = lambda call: wedge.on() if call.step is Step.DIAL else None
            await asyncio.sleep(9.9)
            assert transport.last_error is None
            await asyncio.sleep(0.2)
            assert transport.last_error is not None
            assert transport.last_error.failure.cause is Cause.DRIVER_SILENT
            assert "kept no deadline of its own in 10 s" in str(transport.last_error)

    run_virtual(main())


def test_a_time_out_of_the_driver_itself_is_no_silence() -> None:
    """A driver that raises TimeoutError has answered: the attempt ends as CONNECT_TIMEOUT."""

    class Slow:
        name = "slow"
        features = DriverFeatures()

        async def dial(self, endpoint: object) -> Any:
            raise TimeoutError(f"{endpoint} is slow")

        async def connect(self, *_: object) -> Any: ...

        def close(self) -> None: ...

    async def main() -> None:
        async with AsyncTransport(Profile("mqtt://b"), make_driver=lambda _: Slow()) as transport:
            with pytest.raises(TimeoutError, match="mqtt://b:1883 is slow"):
                await transport.wait_connected(1)
            error = transport.last_error
            assert isinstance(error, ConnectionFailed)
            assert error.failure.cause is Cause.CONNECT_TIMEOUT

    run_virtual(main())


@pytest.mark.parametrize(("keepalive", "after"), [(0, 35), (30, 70)])
def test_a_connection_that_owes_acknowledgements_is_silent(keepalive: int, after: float) -> None:
    """Without a report for ack_timeout it is pinged; after 5 connect timeouts or 2 keepalives more it is over."""
    script, wedge = Script(), Wedge()

    async def main() -> None:
        async with on(script, wedge, keepalive=keepalive) as transport:
            await transport.publish("a")
            wedge.on()
            delivery = transport.publish("b")
            await asyncio.sleep(after - 1)
            assert transport.is_connected
            await asyncio.sleep(12)  # the watch looks every 10 s
            assert "driver reported nothing in time" in endings(transport)[0]
            assert "1 acknowledgements are due" in endings(transport)[0]
            assert script.connections[0].ended_by == "abort"
            # the same driver is still wedged: the next attempt finds that out, nobody restarts anything unasked
            assert len(script.drivers) == 1
            assert not delivery.done()

    run_virtual(main())


@pytest.mark.parametrize("what", ["idle", "QoS 0", "a slow broker", "messages come", "acknowledgements trickle"])
def test_silence_where_nothing_is_due_proves_nothing(what: str) -> None:
    """A connection on which nothing is due, or on which anything at all is reported, lives on for an hour."""
    script = Script()

    async def main() -> None:
        async with on(script, Wedge()) as transport:
            await transport.wait_connected(1)
            if what == "QoS 0":
                await transport.publish("a", qos=0)
            elif what == "messages come":
                script.then(Step.PING, *[Hang()] * 1000)
            if what == "acknowledgements trickle":
                script.then(Step.PING, *[Hang()] * 1000)
                script.then(Step.SEND, *[Accept(after=30 * n) for n in range(1, 120)])
                for _ in range(119):
                    transport.publish("a")
            elif what not in {"idle", "QoS 0"}:
                script.then(Step.SEND, Hang())
                transport.publish("a")
            for _ in range(60):
                await asyncio.sleep(60)
                if what == "messages come":
                    script.connections[0].receive("news")
            assert len(script.connections) == 1

    run_virtual(main())


@pytest.mark.parametrize("step", [Step.DIAL, Step.CONNECT])
def test_an_attempt_while_the_loop_stood_still_is_not_silent(step: Step) -> None:
    """A process that was stopped, or whose loop was blocked, during an attempt hears of the driver's own deadline."""
    script = Script().then(step, Hang())

    async def main() -> None:
        async with on(script, Wedge(), connect_timeout=2) as transport:
            await asyncio.sleep(1)
            cast("VirtualLoop", asyncio.get_running_loop()).jump(500)
            await transport.wait_connected(60)
            cause = Cause.CONNECT_TIMEOUT if step is Step.DIAL else Cause.CONNACK_TIMEOUT
            assert [cause.value in line for line in endings(transport)] == [True]

    run_virtual(main())


def test_an_attempt_is_found_silent_after_a_standstill() -> None:
    """A driver that is wedged is found out on a loop that stood still once, at most one connect timeout later."""
    script, wedge = Script(), Wedge(is_lasting=True)

    async def main() -> None:
        async with on(script, wedge, connect_timeout=2) as transport:
            wedge.on()
            await asyncio.sleep(1)
            cast("VirtualLoop", asyncio.get_running_loop()).jump(500)
            await asyncio.sleep(10.1)
            assert "kept no deadline of its own in 10 s" in str(transport.last_error)

    run_virtual(main())


@pytest.mark.parametrize("is_wedged", [False, True])
def test_a_connection_while_the_loop_stood_still_is_not_silent(is_wedged: bool) -> None:  # noqa: FBT001 - a parameter
    """What was due before a standstill is waited for anew: a driver that works lives on, a wedged one is found out."""
    script, wedge = Script().then(Step.SEND, Accept(after=900)), Wedge()

    async def main() -> None:
        async with on(script, wedge) as transport:
            await transport.wait_connected(1)
            delivery = transport.publish("a")
            await asyncio.sleep(1)
            if is_wedged:
                wedge.on()
            cast("VirtualLoop", asyncio.get_running_loop()).jump(500)
            await asyncio.sleep(60)
            assert transport.is_connected
            await asyncio.sleep(440)
            assert delivery.done() is not is_wedged
            assert [Cause.DRIVER_SILENT.value in line for line in endings(transport)][:1] == [True] * is_wedged

    run_virtual(main())


def test_silence_is_not_watched_for_without_ack_timeout() -> None:
    """ack_timeout=None switches it off."""
    script, wedge = Script(), Wedge()

    async def main() -> None:
        async with on(script, wedge, ack_timeout=None) as transport:
            await transport.wait_connected(1)
            wedge.on()
            transport.publish("a")
            await asyncio.sleep(3600)
            assert transport.is_connected

    run_virtual(main())


def test_messages_are_not_blamed_for_a_silent_driver() -> None:
    """A message that was in flight at ten silences in a row is sent again and acknowledged, never refused."""
    script, wedge = Script(), Wedge()

    async def main() -> None:
        async with on(script, wedge) as transport:
            await transport.wait_connected(1)
            script.then(Step.SEND, *[Hang()] * 10)
            script.then(Step.PING, *[Hang()] * 1000)
            delivery = transport.publish("a")
            await delivery
            assert delivery.state is DeliveryState.ACKNOWLEDGED
            assert len(script.connections) == 11

    run_virtual(main())


def test_a_library_that_raises_when_it_is_dropped_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """An abort that raises is logged, and the next connection is made."""
    script = Script()

    async def main() -> None:
        async with on(script, Wedge()) as transport:
            await transport.wait_connected(1)
            script.connections[0].abort = lambda: 1 / 0  # type: ignore[assignment]  # a broken library
            script.then(Step.SEND, Hang())
            script.then(Step.PING, *[Hang()] * 100)
            await transport.publish("a")
            assert len(script.connections) == 2

    run_virtual(main())
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == ["switchgear.driver_failed"]


@pytest.mark.parametrize("step", [Step.SUBSCRIBE, Step.UNSUBSCRIBE])
def test_a_subscribe_without_an_answer_ends_a_usable_connection(step: Step) -> None:
    """A SUBSCRIBE or UNSUBSCRIBE that is never answered ends the connection after two connect timeouts, and is made good on the next."""
    script = Script()

    async def main() -> None:
        async with on(script, Wedge(), connect_timeout=2) as transport:
            first = transport.subscribe("first", print)
            await first.ready(1)
            await asyncio.sleep(60)
            script.then(step, Hang())
            second, before = None, len(script.called(Step.SUBSCRIBE)) + (step is Step.SUBSCRIBE)
            if step is Step.SUBSCRIBE:
                second = transport.subscribe("second", print)
            else:
                transport.unsubscribe("first")
            await asyncio.sleep(3.9)
            assert transport.is_connected
            await asyncio.sleep(0.2)
            assert "broker did not answer SUBSCRIBE in time: nothing came in 4 s" in endings(transport)[-1]
            assert script.connections[0].ended_by == "abort"
            await transport.wait_connected(5)
            if second is not None:
                await second.ready(1)
            asked = [
                each for call in script.called(Step.SUBSCRIBE)[before:] for each in cast("list[Filter]", call.argument)
            ]
            assert {each.topic_filter for each in asked} == ({"first", "second"} if second is not None else set())

    run_virtual(main())
