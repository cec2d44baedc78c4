"""Peers that vanish without a word, on virtual time: each is noticed within its documented bound and passed over.

The bounds are those of docs/explanation/dead-peers.md, with the options at their defaults.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from switchgear.backoff import fleet
from switchgear.cause import Cause
from switchgear.hook_runner import InlineRunner
from switchgear.profile import Profile
from switchgear.testing import Broker, MemoryNetwork, run_virtual
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from switchgear.report import Event

SLACK = 0.2
"""Seconds for the first sweep of the small fleet and the connection itself."""


def transport_to(network: MemoryNetwork, events: list[Event], **options: object) -> AsyncTransport:
    where = ["mqtt://dead:1883?priority=0", "mqtt://alive:1883?priority=1"]
    options = {
        "client_id": "press-7",
        "on_event": events.append,
        "backoff": fleet(clients=1, connects_per_second=50),
        "failback": False,
        **options,
    }
    return AsyncTransport(
        Profile.of(where, **options), make_driver=network.make_driver, runner=InlineRunner(), rng=random.Random(3)
    )


def causes(events: list[Event]) -> list[str]:
    return [str(event.facts["failure"]) for event in events if event.name == "connection_lost"]


async def _loses(peer: str, *, publishes: bool, protocol: str = "3.1.1") -> tuple[float, list[str]]:
    """Seconds from the death of the connected peer to the usable connection elsewhere, and how it was told."""
    events: list[Event] = []
    dead, alive = Broker(name="dead", enforces_keepalive=False), Broker(name="alive")
    network = MemoryNetwork({"dead:1883": dead, "alive:1883": alive})
    async with transport_to(network, events, protocol=protocol) as transport:
        await transport.wait_connected(5)
        assert str(transport.endpoint) == "mqtt://dead:1883"
        await transport.publish("before")
        died = asyncio.get_running_loop().time()
        if peer == "half-closed":
            network.half_close("dead:1883")
        else:
            network.blackhole("dead:1883")
        delivery = transport.publish("after") if publishes else None
        while str(transport.endpoint) != "mqtt://alive:1883" or not transport.is_connected:  # noqa: ASYNC110 - virtual
            await asyncio.sleep(0.01)
        noticed = asyncio.get_running_loop().time() - died
        if delivery is not None:
            await delivery
            assert [published.topic for published in alive.ledger.published()] == ["after"]
    return noticed, causes(events)


@pytest.mark.parametrize("keepalive", [1, 2, 3, 5, 30])
def test_a_quiet_connection_is_kept(keepalive: int) -> None:
    """A broker that counts keeps a connection without traffic, however short its keepalive: PINGREQ is never late."""

    async def rest() -> tuple[int, list[str]]:
        events: list[Event] = []
        network = MemoryNetwork({"dead:1883": Broker(name="dead")})
        async with transport_to(network, events, keepalive=keepalive) as transport:
            await transport.wait_connected(5)
            await asyncio.sleep(120)
            return transport.stats.connections, causes(events)

    assert run_virtual(rest()) == (1, [])


def test_forgotten_by_a_nat_while_publishing() -> None:
    """With a message on its way a link that swallows everything is left after ack_timeout and the ping's deadline."""
    noticed, told = run_virtual(_loses("forgotten", publishes=True))
    assert 10 <= noticed <= 10 + 5 + 0.3 + SLACK
    assert Cause.KEEPALIVE_TIMEOUT.value in told[0]


def test_forgotten_by_a_nat_while_idle() -> None:
    """Without traffic such a link is left after three quarters of the keepalive and the ping's deadline."""
    noticed, told = run_virtual(_loses("forgotten", publishes=False))
    assert noticed <= 30 * 0.75 + 5 + 0.3 + SLACK
    assert Cause.KEEPALIVE_TIMEOUT.value in told[0]


@pytest.mark.parametrize("publishes", [False, True])
def test_half_closed(publishes: bool) -> None:  # noqa: FBT001 - a table
    """A link whose other side has stopped sending is left at once."""
    noticed, told = run_virtual(_loses("half-closed", publishes=publishes))
    assert noticed <= SLACK
    assert Cause.CLOSED_BY_BROKER.value in told[0]


@pytest.mark.parametrize("kind", ["blackholed", "silent"])
def test_first_of_the_list(kind: str) -> None:
    """A first endpoint that does not answer costs its dial-ahead, or its CONNACK deadline, and the next one is used."""

    async def scenario() -> float:
        events: list[Event] = []
        dead, alive = Broker(name="dead"), Broker(name="alive")
        network = MemoryNetwork({"dead:1883": dead, "alive:1883": alive})
        if kind == "blackholed":
            network.blackhole("dead:1883")
        else:
            dead.faults.silence()
        start = asyncio.get_running_loop().time()
        async with transport_to(network, events) as transport:
            await transport.wait_connected(30)
            assert str(transport.endpoint) == "mqtt://alive:1883"
            return asyncio.get_running_loop().time() - start

    bound = 0.3 if kind == "blackholed" else 5.0
    assert run_virtual(scenario()) <= bound + SLACK
