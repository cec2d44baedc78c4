"""A message that makes a real broker end the connection, among many that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import DeliveryState
from switchgear.testing.processes import Mosquitto

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

Start = Callable[..., Mosquitto]


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("qos", [1, 2])
async def test_larger_than_the_broker_takes(mosquitto: Start, tmp_path: Path, qos: int, *, durable: bool) -> None:
    """On MQTT 3.1.1 mosquitto drops who sends a packet above its limit, without a word: that message ends as refused."""
    broker = mosquitto(extra="max_packet_size 2000")
    outbox = tmp_path / "outbox" if durable else None
    options: dict[str, Any] = {
        "client_id": "c",
        "protocol": "3.1.1",
        "backoff": switchgear.exponential(cap=0.05),
        "outbox": outbox,
    }
    async with switchgear.aio.connect(broker.uri, **options) as transport:
        await transport.wait_connected(60)
        deliveries = [transport.publish(f"t/{n}", bytes(5000 if n == 150 else 50), qos=qos) for n in range(300)]
        await asyncio.wait_for(transport.drain(80), 90)
        states = [delivery.state for delivery in deliveries]
        assert states == [DeliveryState.REFUSED if n == 150 else DeliveryState.ACKNOWLEDGED for n in range(300)]
        assert transport.stats.connections <= 6
