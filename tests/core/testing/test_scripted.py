from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from switchgear.cause import Cause, Failure
from switchgear.errors import Refused, SubscriptionRefused
from switchgear.hook_runner import InlineRunner
from switchgear.hookspecs import Restart, Verdict, hookimpl
from switchgear.profile import Profile
from switchgear.testing import Accept, Call, Fail, Hang, Script, Step
from switchgear.transport import AsyncTransport

BUSY = Failure(Cause.BROKER_BUSY)


def on(script: Script, **options: Any) -> AsyncTransport:
    profile = Profile.of("mqtt://b:1883", **options)
    return AsyncTransport(profile, make_driver=script.make_driver, runner=InlineRunner(), rng=random.Random(1))


async def test_everything_is_accepted_and_noted() -> None:
    """Without a script everything works, and each call is noted with its time, place and argument."""
    script = Script()
    async with on(script, client_id="c") as transport:
        subscription = transport.subscribe("a/#", qos=1)
        await subscription.ready(1)
        await transport.publish("a/b", b"x")
        [connection] = script.live
        token = connection.receive("a/b", b"y", qos=1)
        message = await subscription.get()
        assert message is not None
        assert message.payload == b"y"
        subscription.unsubscribe()
        await asyncio.sleep(0.1)
        assert connection.acknowledged == [token]
    assert [call.step for call in script.calls] == [
        Step.DIAL,
        Step.CONNECT,
        Step.SUBSCRIBE,
        Step.SEND,
        Step.UNSUBSCRIBE,
    ]
    assert {call.endpoint.authority for call in script.calls} == {"b:1883"}
    assert connection.ended_by == "disconnect"
    assert [driver.is_closed for driver in script.drivers] == [True]


async def test_answers_in_order_then_decided() -> None:
    """Answers that were queued come first, in order, then those of the function."""
    decided: list[Call] = []

    def decide(call: Call) -> Accept | None:
        decided.append(call)
        return None

    script = Script(decide).then(Step.DIAL, Fail(BUSY, after=1.0), Hang(), Accept(after=2.0))
    async with on(script, connect_timeout=5.0) as transport:
        began = asyncio.get_running_loop().time()
        await transport.wait_connected()
        assert 8.0 < asyncio.get_running_loop().time() - began < 10.0
    assert [call.step for call in decided] == [Step.CONNECT]
    assert len(script.called(Step.DIAL)) == 3


async def test_silent_connack_meets_its_deadline() -> None:
    """A CONNECT without an answer ends at the request's time-out, with the cause."""
    script = Script().then(Step.CONNECT, Hang())
    async with on(script, connect_timeout=3.0) as transport:
        await asyncio.sleep(3.001)
        assert transport.last_error is not None
        assert transport.last_error.failure.cause is Cause.CONNACK_TIMEOUT


async def test_refusals() -> None:
    """Codes of 0x80 and above refuse a filter and a message."""
    script = Script().then(Step.SUBSCRIBE, Accept(code=0x87)).then(Step.SEND, Accept(code=0x87))
    async with on(script) as transport:
        with pytest.raises(SubscriptionRefused):
            await transport.subscribe("a").ready(1)
        with pytest.raises(Refused, match="0x87"):
            await transport.publish("a", b"")


async def test_losses() -> None:
    """A connection is lost on demand, after CONNACK, while subscribing or while sending, and the next one goes on."""
    script = Script().then(Step.CONNECT, Accept(lose_after=0.5), Accept(), Accept(), Accept(session_present=True))
    script.then(Step.SUBSCRIBE, Accept(), Fail(BUSY)).then(Step.SEND, Fail(BUSY), Hang())
    async with on(script, client_id="c") as transport:
        transport.subscribe("a")
        await asyncio.sleep(3)
        delivery = transport.publish("a", b"x")
        await asyncio.sleep(3)
        assert script.lose() == 1
        await delivery
        assert len(script.live) == 1
    assert [connection.ended_by for connection in script.connections] == ["lost"] * 4 + ["disconnect"]


async def test_restart_shares_the_script() -> None:
    """A driver that a plugin has restarted is a new one of the same script."""

    class Restarting:
        @hookimpl
        def before_reconnect(self) -> Verdict:
            return Restart("rebuild", "wedged")

    script = Script()
    async with on(script, plugins=[Restarting()]) as transport:
        await transport.wait_connected()
        script.lose()
        await asyncio.sleep(1)
        await transport.wait_connected()
    assert [driver.is_closed for driver in script.drivers] == [True, True]
