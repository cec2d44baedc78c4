"""What becomes of a backlog on its way: rates, and the time that is left of its messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import DeliveryState, Expired, Profile
from switchgear.hook_runner import InlineRunner
from switchgear.testing import Broker, MemoryNetwork, run_virtual
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from switchgear import Event

HERE = "mqtt://b:1883"


async def drained(messages: list[bytes], later: list[bytes], **options: Any) -> list[tuple[float, int]]:
    """Seconds after the first and size of each message as it arrived: *messages* waited for the broker, *later* did not."""
    broker = Broker()
    network = MemoryNetwork({"b:1883": broker})
    await broker.kill()
    profile = Profile.of(HERE, client_id="c", **options)
    async with AsyncTransport(profile, make_driver=network.make_driver, runner=InlineRunner()) as transport:
        for payload in messages:
            transport.publish("t", payload)
        await asyncio.sleep(5)
        await broker.restart()
        await transport.drain(10_000)
        for payload in later:
            transport.publish("t", payload)
        await transport.drain(10_000)
    entries = broker.ledger.published()
    return [(entry.at - entries[0].at, len(entry.payload) + 1) for entry in entries]


def run(scenario: Coroutine[Any, Any, list[tuple[float, int]]]) -> list[tuple[float, int]]:
    return run_virtual(scenario)


@pytest.mark.parametrize("size", [10, 999, 50_000])
def test_drain_bytes(size: int) -> None:
    """A backlog is sent at so many bytes of payload and topic a second, also where one message is more than that."""
    arrived = run(drained([bytes(size - 1)] * 30, [], drain_bytes=10_000))
    assert len(arrived) == 30
    took = arrived[-1][0]
    assert took == pytest.approx((29 * size - 1) / 10_000, abs=0.12)  # a tenth of a second may be saved up


def test_drain_bytes_spares_what_comes_later() -> None:
    """Messages that were published after the backlog had drained go at once."""
    arrived = run(drained([bytes(999)] * 20, [bytes(999)] * 50, drain_bytes=10_000))
    assert arrived[-1][0] - arrived[20][0] < 0.01


def test_both_rates() -> None:
    """With both rates the slower one counts: many small messages wait for theirs, a few large ones for the other."""
    small = run(drained([b""] * 50, [], drain_rate=10, drain_bytes=10_000))[-1][0]
    large = run(drained([bytes(9999)] * 5, [], drain_rate=10, drain_bytes=10_000))[-1][0]
    assert small == pytest.approx(4.9, abs=0.2)
    assert large == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_the_time_that_is_left(tmp_path: Path, protocol: str) -> None:
    """MQTT 5 brokers are told the rest of a message's time, also that of the last process; of 3.1.1 nothing is sent."""
    path = tmp_path / "outbox"
    async with switchgear.aio.connect("mqtt://127.0.0.1:1", outbox=path) as transport:
        transport.publish("t", b"old", expires_after=1000)
        await transport.close()
    async with Broker() as broker:
        await broker.start()
        async with switchgear.aio.connect(broker.uri, outbox=path, protocol=protocol) as again:
            again.publish("t", b"new", expires_after=50)
            again.publish("t", b"never")
            await again.drain(60)
        told = [entry.properties.message_expiry_interval for entry in broker.ledger.published()]
    expected = [pytest.approx(1000, abs=20), pytest.approx(50, abs=20), None] if protocol == "5" else [None] * 3
    assert told == expected


@pytest.mark.parametrize("durable", [False, True])
async def test_expired_is_told(tmp_path: Path, *, durable: bool) -> None:
    """A message of the backlog that expires is reported by its delivery, by an event and by a counter, and is not sent."""
    events: list[Event] = []
    options: dict[str, Any] = {"outbox": tmp_path / "outbox"} if durable else {}
    async with Broker() as broker:
        await broker.start()
        await broker.kill()
        transport = switchgear.aio.connect(
            broker.uri, client_id="c", on_event=events.append, backoff=switchgear.exponential(cap=0.05), **options
        )
        async with transport:
            deliveries = [transport.publish("t", b"%d" % n, expires_after=0.02 if n % 2 else 600) for n in range(6)]
            with pytest.raises(Expired):
                await deliveries[1]
            await broker.restart()
            await transport.drain(60)
            assert transport.stats.expired == 3
        assert [d.state for d in deliveries] == [DeliveryState.ACKNOWLEDGED, DeliveryState.EXPIRED] * 3
        assert sum(int(str(e.facts["count"])) for e in events if e.name == "message_expired") == 3
        assert broker.ledger.payloads() == [b"0", b"2", b"4"]
