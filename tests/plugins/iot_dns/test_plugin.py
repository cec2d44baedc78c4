"""Whole outages with the plugin, on virtual time: two regions behind one name, and what the name leads to is scripted."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from switchgear.backoff import fleet
from switchgear.cause import Cause
from switchgear.errors import ConnectionFailed
from switchgear.hook_runner import InlineRunner
from switchgear.profile import Profile
from switchgear.testing import Broker, Ledger, MemoryNetwork, run_virtual
from switchgear.transport import AsyncTransport
from switchgear_iot_dns import plugin
from switchgear_iot_dns.settle import Answer, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from switchgear.report import Event

NAME, EAST, WEST = "mqtt1.example.com", "east-ats.iot.test", "west-ats.iot.test"
ADMINISTRATIVE, TAKEN_OVER = 0x98, 0x8E
FAILED = Answer(Kind.UNKNOWN, detail="SERVFAIL")
GONE = Answer(Kind.NO_ANSWER, detail="no such name (NXDOMAIN)")


class Stage:
    """Two regions, a name, and a transport to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: str = f"iot+dns://{NAME}", **options: object) -> None:
        self.ledger = Ledger()
        self.regions = {host: Broker(name=host, ledger=self.ledger) for host in (EAST, WEST)}
        self.network = MemoryNetwork({f"{host}:8883": broker for host, broker in self.regions.items()}, latency=0.001)
        self.events: list[Event] = []
        self.leads_to: Callable[[], Answer] = lambda: Answer(Kind.TARGET, EAST)
        self.looks: list[float] = []
        self.transport = AsyncTransport(
            Profile.of(
                where,
                **{"client_id": "press-7", "protocol": "5", "on_event": self.events.append, **options},
            ),
            make_driver=self.network.make_driver,
            runner=InlineRunner(),
            rng=random.Random(5),
        )
        monkeypatch.setattr(plugin, "look", self.look)
        monkeypatch.setattr(plugin, "_rng", random.Random(5))

    def look(self, host: str, resolver: object, timeout: float) -> Answer:
        assert (host, resolver) == (NAME, "os")
        assert timeout <= 3.0  # well within hook_timeout
        self.looks.append(self.now)
        return self.leads_to()

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def region(self) -> str | None:
        """Where the transport is connected."""
        endpoint = self.transport.endpoint
        return endpoint.address or endpoint.host if self.transport.is_connected and endpoint is not None else None

    async def until(self, region: str, within: float = 100) -> float:
        """Seconds until the transport is connected to *region*."""
        began = self.now
        async with asyncio.timeout(within):
            while self.region != region:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.001)
        return self.now - began

    async def until_seen(self, words: str) -> None:
        """Return when the watch has said *words*."""
        while not any(words in why for why in self.told("watched")):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)

    def flip(self, target: str = WEST) -> None:
        self.leads_to = lambda: Answer(Kind.TARGET, target)

    async def kick(self, region: str = EAST, code: int = ADMINISTRATIVE) -> None:
        assert self.regions[region].kick("press-7", code)
        while self.region == region:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.001)

    def told(self, name: str, fact: str = "why") -> list[str]:
        return [str(event.facts[fact]) for event in self.events if event.name == name]


def run(
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[Stage], Coroutine[Any, Any, None]],
    where: str = f"iot+dns://{NAME}",
    **options: object,
) -> Stage:
    """*scenario* on a stage that is connected to EAST."""
    stage = Stage(monkeypatch, where, **options)

    async def main() -> None:
        async with stage.transport:
            await stage.until(EAST)
            await scenario(stage)

    run_virtual(main())
    return stage


def test_it_dials_the_target_and_checks_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt looks once and dials what the name leads to; the endpoint stays the name."""

    async def scenario(stage: Stage) -> None:
        endpoint = stage.transport.endpoint
        assert endpoint is not None
        assert (endpoint.host, endpoint.address, str(endpoint)) == (NAME, EAST, f"mqtts://{NAME}:8883")

    stage = run(monkeypatch, scenario)
    assert len(stage.looks) == 1
    assert stage.told("endpoint_selected") == [f"plugin 'iot_dns'; dialled at {EAST}"]


def test_flip_and_kick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kicked after a flip, it is in the new region at once, with a clean session, and loses no message."""

    async def scenario(stage: Stage) -> None:
        stage.flip()
        for number in range(10):
            stage.transport.publish("t", f"{number}".encode())
        await stage.kick()
        for number in range(10, 20):
            stage.transport.publish("t", f"{number}".encode())
        assert await stage.until(WEST) < 0.2
        await stage.transport.drain(10)

    stage = run(monkeypatch, scenario)
    assert sorted({int(payload) for payload in stage.ledger.payloads()}) == list(range(20))
    assert stage.told("recheck_scheduled") == []
    assert (
        f"the name leads to {WEST} now, not to {EAST}: the region sent us away" in stage.told("reconnect_scheduled")[0]
    )
    assert [connect.clean for connect in stage.ledger.connects()] == [False, True]


def test_a_blip_returns_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset connection and an unchanged name: back in the same region within the first back-off, and the session is kept."""

    async def scenario(stage: Stage) -> None:
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(0.001)
        assert await stage.until(EAST) < 0.1

    stage = run(monkeypatch, scenario)
    assert [connect.clean for connect in stage.ledger.connects()] == [False, False]
    assert stage.told("recheck_scheduled") == []


@pytest.mark.parametrize("answer", [FAILED, GONE])
def test_a_blip_while_the_dns_is_down(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Where the name cannot be asked after a blip, it goes back to the region that it knows, at once."""

    async def scenario(stage: Stage) -> None:
        stage.leads_to = lambda: answer
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(0.001)
        assert await stage.until(EAST) < 0.1

    stage = run(monkeypatch, scenario)
    assert answer.detail in stage.told("reconnect_scheduled")[0]


def test_a_blip_with_another_target_must_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network loss and a name that leads elsewhere: three answers, each of them told; then at once.

    A region that is switched off may reset its connections instead of closing them, and a reset overtakes the packet that
    says why: even then all of it takes less than the 1.5 s that a switch may take.
    """

    async def scenario(stage: Stage) -> None:
        stage.flip()
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(0.001)
        took = await stage.until(WEST)
        assert took - (stage.looks[-1] - stage.looks[-3]) < 0.2
        assert took < 1.5

    stage = run(monkeypatch, scenario)
    assert [why.rpartition(": ")[2] for why in stage.told("recheck_scheduled")] == ["1 of 3 answers", "2 of 3 answers"]


@pytest.mark.parametrize("code", [ADMINISTRATIVE, TAKEN_OVER])
def test_sent_away_before_the_flip(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Kicked or taken over while the name still leads to the old region: it waits, and goes when the name changes."""

    async def scenario(stage: Stage) -> None:
        await stage.kick(code=code)
        await asyncio.sleep(2.5)
        assert stage.region is None
        stage.flip()
        assert await stage.until(WEST) < 0.7  # the next look, half a second after the last

    stage = run(monkeypatch, scenario)
    assert [connect.broker for connect in stage.ledger.connects()] == [EAST, WEST]


def test_sent_away_without_a_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kicked and the name never changes: after five seconds and three answers it goes back, and not before."""

    async def scenario(stage: Stage) -> None:
        await stage.kick()
        assert 5.0 <= await stage.until(EAST) <= 6.3

    run(monkeypatch, scenario)


def test_sent_away_while_the_dns_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kicked and the name cannot be asked: it goes back to the only region it knows at its bound, and says so."""

    async def scenario(stage: Stage) -> None:
        stage.leads_to = lambda: FAILED
        await stage.kick()
        assert 8.0 <= await stage.until(EAST) <= 9.5

    stage = run(monkeypatch, scenario, f"iot+dns://{NAME}?bound=8")
    assert "not settled after" in stage.told("reconnect_scheduled")[-1]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_closed_connection_is_a_kick_only_where_nothing_else_can_tell(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """MQTT 3.1.1 has no DISCONNECT from the broker: there an end of the stream is taken for a kick, in MQTT 5 it is not."""

    async def scenario(stage: Stage) -> None:
        stage.regions[EAST].faults.half_close()
        await asyncio.sleep(0.01)
        took = await stage.until(EAST)
        assert (took > 4) == (protocol == "3.1.1")

    run(monkeypatch, scenario, protocol=protocol)


def test_a_dead_region_and_a_late_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes into an outage the flip is found within the look-ups' pace, and back-off does not hold it up."""

    async def scenario(stage: Stage) -> None:
        stage.network.refuse(f"{EAST}:8883")
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(600)
        stage.flip()
        assert await stage.until(WEST) <= 15 * 1.1 + 0.2

    stage = run(monkeypatch, scenario)
    sweeps = [event for event in stage.events if event.name == "attempt_started"]
    assert len(sweeps) < 100  # asking the name is no attempt
    assert "the last attempt failed" in stage.told("reconnect_scheduled")[-1]


def test_a_flip_within_the_first_minute_of_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute into an outage the flip is found within about three seconds, whatever the back-off has grown to."""

    async def scenario(stage: Stage) -> None:
        stage.network.refuse(f"{EAST}:8883")
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(60)
        stage.flip()
        assert await stage.until(WEST) <= 3 * 1.1 + 0.2

    run(monkeypatch, scenario)


def test_a_flip_lifts_the_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region that refuses our certificate for good holds nothing up once the name leads to another one."""

    async def scenario(stage: Stage) -> None:
        stage.regions[EAST].faults.refuse(0x87, times=1000)
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(30)
        with pytest.raises(ConnectionFailed) as caught:
            await stage.transport.wait_connected(5)
        assert caught.value.failure.cause is Cause.NOT_AUTHORIZED
        stage.flip()
        assert await stage.until(WEST) <= 3 * 1.1 + 0.2

    run(monkeypatch, scenario)


def test_two_regions_that_refuse_make_no_storm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that flaps between two dead regions does not keep back-off from growing."""

    async def scenario(stage: Stage) -> None:
        answers = [Answer(Kind.TARGET, EAST), Answer(Kind.TARGET, WEST)]
        stage.leads_to = lambda: answers[len(stage.looks) % 2]
        for region in (EAST, WEST):
            stage.network.refuse(f"{region}:8883")
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(600)

    stage = run(monkeypatch, scenario)
    assert (
        len([event for event in stage.events if event.name == "attempt_started"]) < 120
    )  # as when only one refuses; one a second would be 600


def test_the_watch_moves_without_a_kick(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the watch on, a flip is followed within its interval and the window, drained; the steady state is told once."""
    sent = 0

    async def scenario(stage: Stage) -> None:
        nonlocal sent
        await asyncio.sleep(200)
        seen = list(stage.told("watched"))
        assert seen == ["where the name leads, every 20 s", f"the name leads to {EAST}, where we are"]
        stage.flip()
        began = stage.now
        while stage.region != WEST:
            stage.transport.publish("t", f"{sent}".encode())
            sent += 1
            await asyncio.sleep(0.05)
        assert stage.now - began <= 20 + 6
        await stage.transport.drain(10)
        await asyncio.sleep(100)

    stage = run(monkeypatch, scenario, f"iot+dns://{NAME}?watch=20&window=6")
    assert [int(payload) for payload in stage.ledger.payloads()] == list(range(sent))
    assert [connect.broker for connect in stage.ledger.connects()] == [EAST, WEST]
    assert stage.told("move_scheduled") == [
        f"plugin 'iot_dns': the name leads to {WEST} now, not to {EAST}: 3 of 3 answers"
    ]
    assert stage.told("watched")[-1] == f"the name leads to {WEST}, where we are"


def test_a_switch_that_is_taken_back_moves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is asked once more when the window is over: who has not moved by then stays when it leads back."""

    async def scenario(stage: Stage) -> None:
        stage.flip(WEST)
        await stage.until_seen("moving in")
        stage.flip(EAST)
        await asyncio.sleep(3600)
        assert stage.region == EAST

    stage = run(monkeypatch, scenario, f"iot+dns://{NAME}?watch=20&window=600")
    assert stage.told("move_scheduled") == []


def test_the_dns_fails_while_a_move_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A move that is decided on waits for one more answer, however many queries fail, and then takes place."""

    async def scenario(stage: Stage) -> None:
        stage.flip(WEST)
        await stage.until_seen("moving in")
        stage.leads_to = lambda: FAILED
        await asyncio.sleep(30)
        assert stage.region == EAST
        stage.flip(WEST)
        assert await stage.until(WEST) < 1.2

    run(monkeypatch, scenario, f"iot+dns://{NAME}?watch=20&window=5")


def test_the_watch_is_not_fooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flapping answers, failed queries and missing names, for an hour, move nobody who is connected."""

    async def scenario(stage: Stage) -> None:
        answers = [Answer(Kind.TARGET, EAST), Answer(Kind.TARGET, WEST), FAILED, Answer(Kind.TARGET, WEST), GONE]
        stage.leads_to = lambda: answers[len(stage.looks) % 5]
        await asyncio.sleep(3600)
        assert stage.region == EAST

    stage = run(monkeypatch, scenario, f"iot+dns://{NAME}?watch=20")
    assert stage.told("move_scheduled") == []
    assert len(stage.looks) > 200
    assert any("SERVFAIL" in why for why in stage.told("watched"))


def test_without_the_watch_nothing_is_looked_up_while_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the name is asked when something is to be decided, and not otherwise."""

    async def scenario(stage: Stage) -> None:
        await asyncio.sleep(3600)

    assert len(run(monkeypatch, scenario).looks) == 1


def test_there_and_back_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """East, west, east: each region gets a clean start, for the old one's session knows nothing of what came since."""

    async def scenario(stage: Stage) -> None:
        stage.flip(WEST)
        await stage.kick(EAST)
        await stage.until(WEST)
        stage.flip(EAST)
        await stage.kick(WEST)
        await stage.until(EAST)

    stage = run(monkeypatch, scenario)
    assert [(c.broker, c.clean) for c in stage.ledger.connects()] == [(EAST, False), (WEST, True), (EAST, True)]


def test_a_plain_endpoint_with_the_plugin_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any endpoint whose host is a name can be followed, with the plugin's options, and its sessions are regional."""

    async def scenario(stage: Stage) -> None:
        stage.flip()
        await stage.kick()
        assert await stage.until(WEST) < 0.2

    options = {"plugins": ["iot_dns"], "plugin_options": {"iot_dns": {"wait": 1}}}
    stage = run(monkeypatch, scenario, f"mqtts://{NAME}", **options)
    assert [(c.broker, c.clean) for c in stage.ledger.connects()] == [(EAST, False), (WEST, True)]


def test_a_pinned_address_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint with an address of the user's, or an address as host, is none of the plugin's business."""
    stage = Stage(monkeypatch, [f"mqtts://{NAME}?address=192.0.2.1", "mqtts://192.0.2.1"], plugins=["iot_dns"])  # type: ignore[arg-type]  # a list
    stage.network.add("192.0.2.1:8883", stage.regions[EAST])

    async def main() -> None:
        async with stage.transport:
            await stage.transport.wait_connected(10)
            stage.network.cut("192.0.2.1:8883")
            await asyncio.sleep(1)
            assert stage.transport.is_connected

    run_virtual(main())
    assert stage.looks == []


def test_a_fleet_is_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy for a fleet holds after a flip too: the first attempt has its slot in the period, not the first moment.

    The slot is drawn once: the name is asked again before it comes, which must not draw another one.
    """

    async def scenario(stage: Stage) -> None:
        stage.network.refuse(f"{EAST}:8883")
        stage.network.cut(f"{EAST}:8883")
        await asyncio.sleep(300 + 7 * len(waited))
        stage.flip()
        began = stage.now
        await stage.until(WEST, 200)
        settled = next(at for at in stage.looks if at >= began)
        assert stage.now - settled <= policy.period + 0.2
        waited.append(stage.now - settled)

    waited: list[float] = []
    policy = fleet(clients=10_000, connects_per_second=500)
    for _ in range(6):
        run(monkeypatch, scenario, backoff=policy)
    assert max(waited) > 10


def test_reconnect_asks_the_name_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconnect that the user asks for goes where the name leads now; with the DNS down, where it was."""

    async def scenario(stage: Stage) -> None:
        stage.flip()
        stage.transport.reconnect()
        await stage.until(WEST)
        stage.leads_to = lambda: FAILED
        stage.transport.reconnect()
        await asyncio.sleep(1)
        assert stage.region == WEST

    run(monkeypatch, scenario)


def test_one_odd_answer_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that the watch saw once is not gone to when the DNS fails later and a reconnect is asked for."""

    async def scenario(stage: Stage) -> None:
        stage.flip(WEST)
        await stage.until_seen("1 of 3 answers")
        stage.leads_to = lambda: FAILED
        stage.transport.reconnect()
        await asyncio.sleep(1)
        assert stage.region == EAST

    run(monkeypatch, scenario, f"iot+dns://{NAME}?watch=20")


def test_a_move_is_made_though_the_dns_fails_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a move has begun it leads to what was settled, also when the name cannot be asked again."""

    async def scenario(stage: Stage) -> None:
        stage.flip(WEST)
        while not stage.told("move_scheduled"):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.01)
        stage.leads_to = lambda: FAILED
        stage.transport.publish("t", b"x")
        await stage.until(WEST, 10)

    run(monkeypatch, scenario, f"iot+dns://{NAME}?watch=20")


def test_a_way_that_the_driver_found_is_known_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look-up failed and the driver's did not: the target is learned while connected, and a kick leads on at once."""
    stage = Stage(monkeypatch)
    stage.network.add(f"{NAME}:8883", stage.regions[EAST])
    stage.leads_to = lambda: FAILED

    async def main() -> None:
        async with stage.transport:
            await stage.until(NAME)
            await asyncio.sleep(60)
            stage.flip(EAST)  # the name server is back
            await asyncio.sleep(20)
            asked = len(stage.looks)
            await asyncio.sleep(600)
            assert len(stage.looks) == asked  # it is known: nothing is asked any more
            stage.flip(WEST)
            assert stage.regions[EAST].kick("press-7", ADMINISTRATIVE)
            assert await stage.until(WEST) < 0.2

    run_virtual(main())
    assert "asked until it is known" in stage.told("watched")[0]
