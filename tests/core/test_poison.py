"""Messages whose sending ends the connection, and those that only were in flight when it ended. Mostly on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import Delivery, DeliveryState, Profile, Refused
from switchgear.cause import MESSAGE_MAY_BE_WHY, Cause
from switchgear.hook_runner import InlineRunner
from switchgear.testing import Broker, MemoryNetwork, run_virtual
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from pathlib import Path

S = DeliveryState
Scene = Callable[[Broker, AsyncTransport], Awaitable[None]]


def play(scene: Scene, **options: Any) -> None:
    """*scene* with a broker that kills the connection that publishes to a topic with "poison" in it."""

    async def main() -> None:
        broker = Broker()
        broker.faults.poison(lambda topic: "poison" in topic)
        network = MemoryNetwork({"b:1883": broker})
        profile = Profile.of("mqtt://b:1883", client_id="c", max_in_flight=1000, **options)
        async with AsyncTransport(
            profile, make_driver=network.make_driver, runner=InlineRunner(), rng=random.Random(1)
        ) as transport:
            await transport.wait_connected(10)
            await scene(broker, transport)

    run_virtual(main())


def publish(transport: AsyncTransport, topics: list[str], qos: int = 1) -> list[Delivery]:
    return [transport.publish(topic, b"%d" % number, qos=qos) for number, topic in enumerate(topics)]


def judged(deliveries: list[Delivery]) -> None:
    """The poisonous ones ended as refused, and all the others arrived."""
    for delivery in deliveries:
        assert delivery.state is (S.REFUSED if "poison" in delivery.topic else S.ACKNOWLEDGED), delivery


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("place", [0, 1, 500, 999])
def test_one_among_a_thousand(qos: int, place: int) -> None:
    """It ends as refused at its third loss, or the fourth, wherever it stood among 1000, and soon all others have arrived."""

    async def scene(broker: Broker, transport: AsyncTransport) -> None:
        deliveries = publish(transport, ["poison" if n == place else "t" for n in range(1000)], qos)
        started = asyncio.get_running_loop().time()
        await transport.drain(60)
        judged(deliveries)
        with pytest.raises(Refused, match=rf"connections in a row.*its size \({len(str(place))} bytes\)"):
            await deliveries[place]
        assert broker.faults.hits["poison"] == (3 if place == 0 else 4)
        assert asyncio.get_running_loop().time() - started < 5
        first = list(dict.fromkeys(int(payload) for payload in broker.ledger.payloads()))
        assert first == [n for n in range(1000) if n != place]

    play(scene)


@pytest.mark.parametrize("seed", range(5))
def test_several(seed: int) -> None:
    """Each of several is found, next to each other too; none of the others ends as refused."""
    rng = random.Random(seed)
    places = {*rng.sample(range(300), 3), 150, 151}

    async def scene(broker: Broker, transport: AsyncTransport) -> None:
        deliveries = publish(transport, ["poison" if n in places else "t" for n in range(300)])
        await transport.drain(300)
        judged(deliveries)
        assert broker.faults.hits["poison"] <= 4 * len(places)

    play(scene)


def test_qos_0() -> None:
    """At QoS 0 it is sent once, so it cannot come again; QoS 1 messages that it took with it are not refused for it."""

    async def scene(broker: Broker, transport: AsyncTransport) -> None:
        deliveries: list[Delivery] = []
        for _ in range(8):
            deliveries += publish(transport, ["t"] * 20)
            transport.publish("poison", b"", qos=0)
            await asyncio.sleep(1)
        await transport.drain(60)
        judged(deliveries)
        assert broker.faults.hits["poison"] == 8

    play(scene)


def test_innocents_are_not_slowed() -> None:
    """After two losses that no message caused, 500 suspects are acquitted in some ten round trips, not in 500."""

    async def scene(broker: Broker, transport: AsyncTransport) -> None:
        broker.faults.withhold_acks()
        deliveries = publish(transport, ["t"] * 500)
        for _ in range(2):
            await asyncio.sleep(1)
            broker.faults.reset()
        await asyncio.sleep(0.001)
        broker.faults.lift("withhold_acks")
        broker.faults.slow(0.1)
        await transport.wait_connected(10)
        started = asyncio.get_running_loop().time()
        await transport.drain(60)
        judged(deliveries)
        assert asyncio.get_running_loop().time() - started < 4

    play(scene)


def test_our_own_reconnects_accuse_nobody() -> None:
    """Messages that were in flight at reconnects that were asked for are sent again as often as it takes."""

    async def scene(broker: Broker, transport: AsyncTransport) -> None:
        broker.faults.withhold_acks()
        deliveries = publish(transport, ["t"])
        for _ in range(6):
            await asyncio.sleep(1)
            transport.reconnect()
        await asyncio.sleep(1)
        broker.faults.clear()
        await transport.drain(60)
        judged(deliveries)

    play(scene)


def test_a_second_client_with_our_id_accuses_nobody() -> None:
    """Messages that were in flight whenever another client took the session over are not refused (MQTT 5 says why)."""

    async def scene(broker: Broker, transport: AsyncTransport) -> None:
        broker.faults.withhold_acks()
        deliveries = publish(transport, ["t"])
        for _ in range(6):
            await asyncio.sleep(1)
            broker.kick("c", 0x8E)
        await asyncio.sleep(1)
        broker.faults.clear()
        await transport.drain(60)
        judged(deliveries)

    play(scene, protocol="5")


def test_causes_that_accuse() -> None:
    """Only a broker's own ending of a connection, for a reason that a message may give, makes suspects."""
    innocent = {Cause.SESSION_TAKEN_OVER, Cause.SHUTTING_DOWN, Cause.ADMINISTRATIVE, Cause.KEEPALIVE_TIMEOUT}
    innocent |= {Cause.REQUESTED, Cause.RESTARTED, Cause.DRIVER_SILENT, Cause.MESSAGE_RATE, Cause.SERVER_MOVED}
    assert not innocent & MESSAGE_MAY_BE_WHY
    assert {Cause.CONNECTION_LOST, Cause.CLOSED_BY_BROKER, Cause.NOT_AUTHORIZED} <= MESSAGE_MAY_BE_WHY


async def test_over_processes(tmp_path: Path) -> None:
    """In a durable outbox it is found by the process that lives for three losses, and no later one has it."""
    path = tmp_path / "outbox"
    async with Broker() as broker:
        await broker.start()
        broker.faults.poison(lambda topic: topic == "poison")

        def transport() -> AsyncTransport:
            return switchgear.aio.connect(
                broker.uri, client_id="c", outbox=path, backoff=switchgear.exponential(cap=0.05)
            )

        first = transport()
        publish(first, ["a", "poison", "b"])
        while broker.faults.hits["poison"] < 2:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.002)
        await first.close()  # too soon
        struck = broker.faults.hits["poison"]
        async with transport() as second:
            await second.drain(10)
            assert second.stats.refused == (1 if struck == 2 else 0)
        assert broker.faults.hits["poison"] <= struck + 4
        async with transport() as third:
            assert third.depth == 0
        assert sorted(set(broker.ledger.payloads())) == [b"0", b"2"]
