"""Outages that come again and again, and those that never end, on virtual time: the whole transport, no thread, no socket."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest
from switchgear.backoff import GiveUpAfter
from switchgear.cause import Cause, Failure
from switchgear.errors import GaveUp
from switchgear.hook_runner import InlineRunner
from switchgear.profile import Profile
from switchgear.states import State
from switchgear.testing import Accept, Broker, Fail, Hang, MemoryNetwork, Script, Step, run_virtual
from switchgear.testing.broker import packets
from switchgear.testing.broker.codec import encode
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from switchgear.report import Event

REFUSED = Fail(Failure(Cause.PORT_REFUSED))
HERE = "mqtt://b:1883"


class Stage:
    """A transport on a script or a network, and what it told."""

    def __init__(self, world: Script | MemoryNetwork, where: Any = HERE, seed: int = 1, **options: Any) -> None:
        self.events: list[Event] = []
        self.world = world
        options = {"client_id": "press-7", "on_event": self.events.append, **options}
        self.transport = AsyncTransport(
            Profile.of(where, **options),
            make_driver=world.make_driver,
            runner=InlineRunner(),
            rng=random.Random(seed),
        )

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    async def hears(self, name: str, times: int = 1) -> None:
        """Wait until the event *name* was told so often."""
        for _ in range(100_000):
            if len(self.told(name)) >= times:
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"{name} was not told {times} times")

    def outages(self) -> list[float]:
        """Seconds of each outage that has ended, the first one (the start) left out."""
        return [float(str(event.facts["outage"])) for event in self.told("connected")[1:]]


def now() -> float:
    return asyncio.get_running_loop().time()


# Connections that do not last. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lasts", [0.0, 0.5, 5.0])
def test_accept_then_drop(lasts: float) -> None:
    """A broker that accepts and drops raises `flapping` at each doubling, and the outages grow without bound but the cap."""

    async def main() -> None:
        stage = Stage(Script(lambda call: Accept(lose_after=lasts) if call.step is Step.CONNECT else None))
        async with stage.transport:
            await asyncio.sleep(3600)
        flaps = [event.facts["flaps"] for event in stage.told("flapping")]
        assert flaps[:4] == [3, 4, 8, 16]
        assert all(later == 2 * earlier for earlier, later in itertools.pairwise(flaps[1:]))  # type: ignore[operator]
        outages = stage.outages()
        assert max(outages[:5]) < 0.1
        assert min(outages[-10:]) > 10.0
        assert max(outages) <= 30.0
        assert not stage.told("stable")
        assert len(outages) < 250

    run_virtual(main())


def test_drop_right_after_connack() -> None:
    """A broker that drops right after CONNACK, before SUBACK, is a failing broker: attempts thin out up to the cap."""

    async def main() -> None:
        broker = Broker()
        broker.faults.drop_after_connack()
        network = MemoryNetwork({"b:1883": broker})
        stage = Stage(network)
        async with stage.transport as transport:
            transport.subscribe("orders/#")
            await asyncio.sleep(3600)
        assert not stage.told("connected")
        gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(network.dials)]
        assert min(gaps[-20:]) >= 15.0
        assert max(gaps) <= 30.1

    run_virtual(main())


def test_connack_and_disconnect_in_one_read() -> None:
    """CONNACK and DISCONNECT that arrive together are one failed attempt, told with the broker's reason."""

    class Rude(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            answer: list[packets.Packet] = [packets.Connack(code=0), packets.Disconnect(code=0x98)]
            self.transport.write(b"".join(encode(packet, version=5) for packet in answer))

    async def main() -> None:
        stage = Stage(MemoryNetwork({"b:1883": Rude}), protocol="5")
        async with stage.transport as transport:
            await asyncio.sleep(1)
            assert transport.last_error is not None
            assert transport.last_error.failure.cause is Cause.ADMINISTRATIVE
        assert len(stage.told("attempt_failed")) > 1

    run_virtual(main())


def test_dead_broker_is_no_flapping() -> None:
    """A broker that dies for some seconds, again and again, does not count as flapping, and is found soon each time."""

    async def main() -> None:
        broker = Broker()
        stage = Stage(MemoryNetwork({"b:1883": broker}))
        async with stage.transport as transport:
            for _ in range(12):
                await transport.wait_connected()
                await asyncio.sleep(1)
                await broker.kill()
                await asyncio.sleep(5)
                await broker.restart()
        assert not stage.told("flapping")
        assert len(stage.outages()) == 11
        assert max(stage.outages()) < 7.0

    run_virtual(main())


# Stability. ----------------------------------------------------------------------------------------------------------


def test_reset_needs_age_and_proof() -> None:
    """Without an acknowledgement or a PINGRESP no connection counts as stable, however old; with one, an old one does."""

    async def main() -> None:
        script = Script()
        stage = Stage(script, stable_after=10.0)
        async with stage.transport as transport:
            await asyncio.sleep(3600)
            assert not stage.told("stable")
            await transport.publish("t", b"x")
            await asyncio.sleep(0)
            assert [event.at for event in stage.told("stable")] == [now()]
        stage = Stage(script, stable_after=10.0)
        async with stage.transport as transport:
            began = now()
            await transport.publish("t", b"x")
            await asyncio.sleep(9.9)
            assert not stage.told("stable")
            await asyncio.sleep(0.2)
            assert [event.at for event in stage.told("stable")] == [pytest.approx(began + 10.0, abs=0.01)]

    run_virtual(main())


def test_back_off_is_reset_by_a_stable_connection() -> None:
    """After a run of flaps one stable connection brings the first, short delay back."""

    async def main() -> None:
        script = Script()
        script.then(Step.CONNECT, *[Accept(lose_after=0.1)] * 60)
        stage = Stage(script, stable_after=10.0)
        async with stage.transport as transport:
            await stage.hears("connected", 61)
            assert stage.outages()[-1] > 1.0
            await transport.publish("t", b"x")
            await stage.hears("stable")
            script.lose()
            await asyncio.sleep(1)
            assert stage.outages()[-1] <= 0.06

    run_virtual(main())


# Giving up. ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "words", "attempts"),
    [
        (GiveUpAfter(attempts=3), "3 attempts", 3),
        (GiveUpAfter(sweeps=3), "3 sweeps", 6),
        (GiveUpAfter(seconds=30), "30 seconds", None),
    ],
)
def test_giving_up_ends_every_wait(limit: GiveUpAfter, words: str, attempts: int | None) -> None:
    """Each limit, reached after a loss, ends `wait_connected` and deliveries with GaveUp; `reconnect` starts again."""

    async def main() -> None:
        script = Script()
        stage = Stage(script, ["mqtt://b:1883", "mqtt://c:1883"], give_up_after=limit)
        async with stage.transport as transport:
            await transport.wait_connected(5)
            script.decide = lambda call: REFUSED if call.step is Step.DIAL else None
            dials, lost_at = len(script.called(Step.DIAL)), now()
            script.lose()
            waits = [
                asyncio.ensure_future(transport.wait_connected()),
                asyncio.ensure_future(_await(transport.publish("t", b"1"))),
                asyncio.ensure_future(transport.drain()),
            ]
            for error in await asyncio.gather(*waits, return_exceptions=True):
                assert isinstance(error, GaveUp)
                assert words in str(error)
                assert "connection refused" in str(error)
            assert transport.state is State.GAVE_UP
            if attempts is not None:
                assert len(script.called(Step.DIAL)) - dials == attempts
            else:
                assert now() - lost_at == pytest.approx(30.0)
            with pytest.raises(GaveUp):
                transport.publish("t", b"2")
            dials = len(script.called(Step.DIAL))
            await asyncio.sleep(3600)
            assert len(script.called(Step.DIAL)) == dials
            script.decide = None
            transport.reconnect("the broker is repaired")
            await transport.wait_connected(1)
            await transport.drain(1)
            assert transport.stats.acknowledged == 1

    run_virtual(main())


async def _await(delivery: Any) -> None:
    await delivery


def test_limit_passes_while_an_attempt_hangs() -> None:
    """The time limit is noticed no later than the attempt that hangs across it ends."""

    async def main() -> None:
        script = Script(lambda call: Hang() if call.step is Step.CONNECT else None)
        stage = Stage(script, give_up_after=GiveUpAfter(seconds=7.0), connect_timeout=5.0)
        async with stage.transport as transport:
            began = now()
            with pytest.raises(GaveUp, match="did not answer CONNECT"):
                await transport.wait_connected()
            assert 7.0 <= now() - began <= 12.0

    run_virtual(main())


# Two clients with one name. ------------------------------------------------------------------------------------------


def test_two_transports_with_one_client_id() -> None:
    """Two transports that throw each other out settle into growing intervals, say so, and lose no message."""

    async def main() -> None:
        broker = Broker()
        network = MemoryNetwork({"b:1883": broker}, latency=0.005)
        one, two = Stage(network, seed=1), Stage(network, seed=2)
        ids = []
        async with one.transport as first, two.transport as second:
            for minute in range(60):
                for name, transport in (("1", first), ("2", second)):
                    payload = f"{name}/{minute}".encode()
                    ids.append(payload)
                    transport.publish("t", payload)
                await asyncio.sleep(60)
            await first.drain(600)
            await second.drain(600)
        assert set(broker.ledger.payloads()) == set(ids)
        for stage in (one, two):
            assert stage.told("flapping")
            hours = [event.at for event in stage.told("connected")]
            early = [at for at in hours if at < 1000 + 60]
            late = [at for at in hours if 1000 + 3000 <= at < 1000 + 3060]
            assert len(late) <= 6 < len(early)

    run_virtual(main())


# One broker of a pair. -----------------------------------------------------------------------------------------------


def test_fail_over_and_nothing_lost() -> None:
    """A pair that fails over every ten seconds on one store loses nothing that was acknowledged or accepted."""

    async def main() -> None:
        first = Broker(name="a")
        second = Broker(name="b", store=first.store, ledger=first.ledger, standby=True)
        network = MemoryNetwork({"a:1883": first, "b:1883": second}, latency=0.001)
        stage = Stage(network, ["mqtt://a:1883", "mqtt://b:1883"], session="shared")
        sent = []
        async with stage.transport as transport:
            await transport.wait_connected(5)
            active, standby = first, second
            for number in range(300):
                sent.append(b"%d" % number)
                transport.publish("t", sent[-1], qos=1 + number % 2)
                await asyncio.sleep(0.1)
                if number % 100 == 50:
                    await active.kill()
                    await asyncio.sleep(2)
                    await standby.promote()
                    await active.restart(standby=True)
                    active, standby = standby, active
            await transport.drain(60)
        assert set(first.ledger.payloads()) == set(sent)
        assert len(stage.outages()) == 3
        assert max(stage.outages()) < 3.5

    run_virtual(main())
