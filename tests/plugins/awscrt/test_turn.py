"""The SDK gets to CONNECT when it likes; the broker hears it in its turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from switchgear.cause import Cause
from switchgear.drivers.base import AttemptFailed, Filter
from switchgear.testing import Broker

pytestmark = pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])


class Turn:
    """A turn that comes when `come` is set."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.come = asyncio.Event()

    async def __call__(self) -> None:
        """Wait for it."""
        self.asked.set()
        await self.come.wait()


async def started(broker: Broker, crt: Any, party: Any, scheme: str) -> tuple[Any, Any]:
    """A driver, and an endpoint on *broker*."""
    is_tls = scheme == "mqtts"
    port = await broker.start(ssl=party.server()) if is_tls else await broker.start()
    return crt.driver(tls=party.tls if is_tls else None), crt.endpoint(scheme, port)


async def test_connect_waits_for_its_turn(crt: Any, party: Any, scheme: str) -> None:
    """CONNECT goes to the broker before the budget of a fleet allows it, or what the SDK sends next is lost."""
    async with Broker() as broker:
        driver, endpoint = await started(broker, crt, party, scheme)
        turn = Turn()
        task = asyncio.ensure_future(crt.connect(driver, endpoint, turn=turn))
        await turn.asked.wait()
        assert not broker.ledger.connects()
        turn.come.set()
        connection = await task
        assert len(broker.ledger.connects()) == 1
        assert await connection.subscribe([Filter("t", 1)]) == [1]  # and what it sends next goes through
        await connection.disconnect()


async def test_a_broker_that_goes_while_connect_waits(crt: Any, party: Any, scheme: str) -> None:
    """An attempt whose broker has gone meanwhile fails as a lost connection, and not by its deadline."""
    async with Broker() as broker:
        driver, endpoint = await started(broker, crt, party, scheme)
        turn = Turn()
        task = asyncio.ensure_future(crt.connect(driver, endpoint, turn=turn))
        await turn.asked.wait()
        await broker.stop()
        turn.come.set()
        with pytest.raises(AttemptFailed) as caught:
            await task
        assert caught.value.failure.cause not in {Cause.CONNACK_TIMEOUT, Cause.DRIVER_FAILED}
