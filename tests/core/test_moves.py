"""Planned moves on virtual time, with embedded brokers: fail-back, a warm spare, redirection."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from switchgear import GaveUp, GiveUpAfter
from switchgear.backoff import fleet
from switchgear.endpoint import Group, SessionKind, parse_uri
from switchgear.failback import Failback
from switchgear.hook_runner import InlineRunner
from switchgear.hookspecs import Context, Move, Recheck, hookimpl
from switchgear.moves import LONGEST_STAY, REDIRECTS
from switchgear.profile import Profile
from switchgear.testing import Broker, Ledger, MemoryNetwork, run_virtual
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.endpoint import Endpoint
    from switchgear.report import Event

WHERE = ["mqtt://first:1883?priority=0", "mqtt://second:1883?priority=1"]
QUICK = Failback(every=1, successes=3, over=2, stay=3, window=2, drain=1)


class Stage:
    """Two brokers that share nothing but a ledger, and a transport to them."""

    def __init__(self, **options: object) -> None:
        self.ledger = Ledger()
        self.first = Broker(name="first", ledger=self.ledger)
        self.second = Broker(name="second", ledger=self.ledger)
        self.network = MemoryNetwork({"first:1883": self.first, "second:1883": self.second})
        self.events: list[Event] = []
        options = {
            "client_id": "press-7",
            "on_event": self.events.append,
            "backoff": fleet(clients=1, connects_per_second=50),
            **options,
        }
        where = options.pop("where", WHERE)
        self.transport = AsyncTransport(
            Profile.of(where, **options),  # type: ignore[arg-type]  # a URI or a list of them
            make_driver=self.network.make_driver,
            runner=InlineRunner(),
            rng=random.Random(5),
        )

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def dialled(self, authority: str) -> int:
        return sum(dial.authority == authority for dial in self.network.dials)

    def fail_first(self) -> None:
        self.network.refuse("first:1883")
        self.network.cut("first:1883")

    async def until(self, host: str) -> None:
        async with asyncio.timeout(100):
            while not self.is_at(host):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.01)

    def is_at(self, host: str) -> bool:
        endpoint = self.transport.endpoint
        return self.transport.is_connected and endpoint is not None and endpoint.host == host


def test_fail_back() -> None:
    """When a preferred endpoint is back for long enough the transport moves there, and no message is lost or doubled."""

    async def scenario() -> None:
        stage = Stage(failback=QUICK)
        async with stage.transport as transport:
            await stage.until("first")
            stage.fail_first()
            await stage.until("second")
            left = asyncio.get_running_loop().time()
            stage.network.restore("first:1883")
            sent = 0
            while transport.endpoint is None or transport.endpoint.host == "second":
                transport.publish(f"t/{sent}")
                sent += 1
                await asyncio.sleep(0.05)
            waited = asyncio.get_running_loop().time() - left
            await transport.drain(10)
        assert 3 <= waited <= 3 + 2 + 1 + 3 * 1.25
        topics = [published.topic for published in stage.ledger.published()]
        assert topics == [f"t/{i}" for i in range(sent)]
        assert [connect.client_id for connect in stage.ledger.connects() if connect.client_id != "press-7"] == [
            "press-7-probe"
        ] * len([event for event in stage.told("probed") if event.facts["result"] == "CONNACK"])
        assert len(stage.told("move_scheduled")) == 1

    run_virtual(scenario())


def test_listening_port_is_no_broker() -> None:
    """A preferred endpoint that accepts connections and never answers CONNECT is not gone back to."""

    async def scenario() -> None:
        stage = Stage(failback=QUICK, connect_timeout=0.5)
        async with stage.transport as transport:
            await stage.until("first")
            stage.first.faults.silence()
            stage.network.cut("first:1883")
            await stage.until("second")
            await asyncio.sleep(60)
            assert str(transport.endpoint) == "mqtt://second:1883"
        assert len(stage.told("probed")) > 10
        assert all("did not answer CONNECT" in str(event.facts["result"]) for event in stage.told("probed"))

    run_virtual(scenario())


def test_fail_back_switched_off() -> None:
    """With failback=False a transport stays where it is, however good the preferred endpoint is."""

    async def scenario() -> None:
        stage = Stage(failback=False)
        async with stage.transport as transport:
            await stage.until("first")
            stage.fail_first()
            await stage.until("second")
            stage.network.restore("first:1883")
            await asyncio.sleep(1000)
            assert str(transport.endpoint) == "mqtt://second:1883"
        assert stage.told("probed") == []

    run_virtual(scenario())


def test_move_waits_for_what_is_in_flight() -> None:
    """Before a move new messages are held, and the acknowledgements of those in flight are awaited within the bound."""

    async def scenario() -> list[bool]:
        stage = Stage(failback=QUICK)
        async with stage.transport as transport:
            await stage.until("first")
            stage.fail_first()
            await stage.until("second")
            stage.second.faults.withhold_acks()
            stage.network.restore("first:1883")
            early = transport.publish("early")
            while not stage.told("move_scheduled"):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.01)
            await asyncio.sleep(float(str(stage.told("move_scheduled")[0].facts["delay"])) + 0.1)
            held = transport.publish("held")
            stage.second.faults.clear()
            await early
            await held
        published = stage.ledger.published()
        assert [p.topic for p in published] == ["early", "held"]
        return [p.broker == "first" for p in published]

    assert run_virtual(scenario()) == [False, True]


class Elsewhere:
    """A plugin that says at which address the host ``first`` is, as one that follows its DNS record does."""

    def __init__(self, address: str) -> None:
        self.address = address

    @hookimpl
    def select_endpoint(self, context: Context) -> Endpoint:
        best = context.candidates[0]
        return evolve(best, address=self.address) if best.host == "first" else best


def test_fail_back_follows_the_name() -> None:
    """A preferred endpoint that has moved is probed, and gone back to, where a plugin says that it is now."""

    async def scenario() -> None:
        plugin = Elsewhere("old")
        stage = Stage(failback=QUICK, plugins=[plugin])
        moved = Broker(name="moved", ledger=stage.ledger)
        stage.network.add("old:1883", stage.first)
        stage.network.add("new:1883", moved)
        async with stage.transport as transport:
            await stage.until("first")
            stage.network.refuse("old:1883")
            stage.network.cut("old:1883")
            await stage.until("second")
            plugin.address = "new"
            await stage.until("first")
            await transport.publish("back")
        assert [each.broker for each in stage.ledger.published()] == ["moved"]

    run_virtual(scenario())


def test_warm_spare_follows_the_name() -> None:
    """A spare is dialled where a plugin says that its endpoint is now, and is used when the connection is lost."""

    async def scenario() -> None:
        plugin = Elsewhere("old")
        stage = Stage(spare=True, failback=False, plugins=[plugin])
        moved = Broker(name="moved", ledger=stage.ledger)
        stage.network.add("old:1883", stage.first)
        stage.network.add("new:1883", moved)
        async with stage.transport as transport:
            await stage.until("first")
            stage.network.cut("old:1883")
            stage.network.refuse("old:1883")
            await stage.until("second")
            plugin.address = "new"
            await asyncio.sleep(10)
            dials = stage.dialled("new:1883")
            assert dials == 1
            stage.network.refuse("second:1883")
            stage.network.cut("second:1883")
            await transport.publish("after")
            assert stage.dialled("new:1883") == dials
        assert [each.broker for each in stage.ledger.published()] == ["moved"]

    run_virtual(scenario())


def test_warm_spare_is_used() -> None:
    """With spare=True the next endpoint is dialled beforehand, and the first message after a loss goes over that link."""

    async def scenario() -> None:
        stage = Stage(spare=True, failback=False, where=["mqtt://first:1883", "mqtt://second:1883"])
        async with stage.transport as transport:
            await transport.wait_connected(5)
            await asyncio.sleep(1)
            assert transport.endpoint is not None
            here = transport.endpoint.authority
            there = next(place for place in ("first:1883", "second:1883") if place != here)
            assert [event.facts["endpoint"] for event in stage.told("spare_ready")] == [f"mqtt://{there}"]
            dials = stage.dialled(there)
            stage.network.refuse(here)
            stage.network.cut(here)
            await transport.publish("after")
            assert stage.dialled(there) == dials
        assert [p.topic for p in stage.ledger.published()] == ["after"]

    run_virtual(scenario())


@pytest.mark.parametrize("is_permanent", [False, True])
def test_redirection(is_permanent: bool) -> None:  # noqa: FBT001 - a table
    """A server reference is followed when the profile allows it; after "moved" the old place is forgotten."""

    async def scenario() -> None:
        stage = Stage(where="mqtt://first:1883", protocol="5", follow_redirects=True)
        stage.first.faults.redirect("second:1883", is_permanent=is_permanent)
        async with stage.transport as transport:
            await transport.publish("here")
            assert str(transport.endpoint) == "mqtt://second:1883"
            changed = str(stage.told("endpoints_changed")[0].facts["endpoints"])
            assert ("first" in changed) is not is_permanent
        assert [p.broker for p in stage.ledger.published()] == ["second"]

    run_virtual(scenario())


def test_redirection_is_not_followed_unasked() -> None:
    """Without follow_redirects nobody sends a transport to a place that its user did not name."""

    async def scenario() -> None:
        stage = Stage(where="mqtt://first:1883", protocol="5")
        stage.first.faults.redirect("second:1883", times=3)
        async with stage.transport as transport:
            await transport.publish("here")
            assert str(transport.endpoint) == "mqtt://first:1883"
        assert stage.told("endpoints_changed") == []

    run_virtual(scenario())


def test_redirection_in_a_circle_ends() -> None:
    """Brokers that send a client to each other for ever are followed a bounded number of times."""

    async def scenario() -> None:
        stage = Stage(where="mqtt://first:1883", protocol="5", follow_redirects=True)
        stage.first.faults.redirect("second:1883")
        stage.second.faults.redirect("first:1883")
        async with stage.transport:
            await asyncio.sleep(100)
        assert len(stage.told("endpoints_changed")) <= REDIRECTS

    run_virtual(scenario())


class Watcher:
    """A plugin that sees the same twice, fails once, sees something else, and then wants to move."""

    def __init__(self) -> None:
        self.answers: list[Callable[[], Recheck | Move | None]] = [
            lambda: Recheck(10, "east"),
            lambda: Recheck(10, "east"),
            lambda: Recheck(10, f"{1 / 0}"),
            lambda: Recheck(10, "west, once"),
            lambda: Move("west", window=5, drain=2),
        ]
        self.asked: list[tuple[float, int]] = []

    @hookimpl
    def while_connected(self, context: Context) -> Recheck | Move | None:
        self.asked.append((round(context.now), context.generation))
        return self.answers.pop(0)() if self.answers else None


def test_plugin_moves_a_usable_connection() -> None:
    """A plugin is asked while connected as it wants, each new sight is told once, and its move loses no message."""

    async def scenario() -> None:
        watcher = Watcher()
        stage = Stage(where="mqtt://first", plugins=[watcher])
        async with stage.transport as transport:
            await stage.until("first")
            began = round(asyncio.get_running_loop().time())
            sent = 0
            while len(stage.told("connected")) == 1:
                transport.publish(f"t/{sent}")
                sent += 1
                await asyncio.sleep(0.05)
            await transport.drain(10)
            await asyncio.sleep(60)
        assert watcher.asked[:5] == [(began + seconds, 1) for seconds in (0, 10, 20, 30, 40)]
        assert [generation for _, generation in watcher.asked[5:]] == [2]
        assert [event.facts["why"] for event in stage.told("watched")] == ["east", "the last call failed", "west, once"]
        [move] = stage.told("move_scheduled")
        assert move.facts["why"] == "plugin 'Watcher': west"
        assert 0 <= float(str(move.facts["delay"])) <= 5
        assert [published.topic for published in stage.ledger.published()] == [f"t/{i}" for i in range(sent)]

    run_virtual(scenario())


class MovingList:
    """A plugin with a list that changes while the transport is connected, and that then moves there."""

    SCHEMES = ("moving",)
    places: tuple[str, ...] = ("mqtt://first",)
    is_watching = True

    @hookimpl
    def provide_endpoints(self, where: str) -> list[Group] | None:
        if not where.startswith("moving:"):
            return None
        return [Group([parse_uri(place) for place in self.places], SessionKind.HUNT, dynamic=True)]

    @hookimpl
    def select_endpoint(self) -> None:
        """No opinion, so what is chosen is told as ever."""

    @hookimpl
    def while_connected(self, context: Context) -> Recheck | Move | None:
        if context.endpoint is None or not self.is_watching:
            return None
        return Recheck(5) if parse_uri(self.places[0]).key == context.endpoint.key else Move("the list changed")


def test_a_plugin_moves_to_a_broker_that_is_new_in_its_list() -> None:
    """A list that changes is asked for again before a planned move, so the move reaches what is new in it."""

    async def scenario() -> None:
        plugin = MovingList()
        stage = Stage(where="moving:", plugins=[plugin])
        async with stage.transport:
            await stage.until("first")
            plugin.places = ("mqtt://second",)
            await stage.until("second")
            await asyncio.sleep(60)
        assert {event.facts["why"] for event in stage.told("endpoint_selected")} == {"first in order"}
        [move] = stage.told("move_scheduled")
        assert 0 < float(str(move.facts["delay"])) <= Failback().window  # a fleet with the same list moves apart
        assert len(stage.told("connected")) == 2

    run_virtual(scenario())


def test_a_reconnect_reaches_what_is_new_in_the_list() -> None:
    """A list that changes is asked for before a reconnect that the user wants, as well while connected as after giving up."""

    async def scenario() -> None:
        plugin = MovingList()
        plugin.is_watching = False
        stage = Stage(where="moving:", plugins=[plugin], give_up_after=GiveUpAfter(sweeps=1))
        async with stage.transport as transport:
            await stage.until("first")
            plugin.places = ("mqtt://second",)
            transport.reconnect("elsewhere")
            await transport.wait_connected(10)
            assert stage.is_at("second")
            stage.network.refuse("second:1883")
            stage.network.cut("second:1883")
            with pytest.raises(GaveUp):
                await transport.publish("t", b"", qos=1)
            plugin.places = ("mqtt://first",)
            transport.reconnect("again")
            await transport.wait_connected(10)
            assert stage.is_at("first")

    run_virtual(scenario())


def test_priorities_that_come_later_lead_back() -> None:
    """A list that had no priorities when the transport was made may get them: then it goes back to the better endpoint."""

    async def scenario() -> None:
        plugin = MovingList()
        plugin.is_watching = False
        stage = Stage(where="moving:", plugins=[plugin])
        async with stage.transport:
            await stage.until("first")
            plugin.places = ("mqtt://first?priority=1", "mqtt://second")
            stage.network.refuse("second:1883")
            stage.network.cut("first:1883")
            await asyncio.sleep(10)
            assert stage.is_at("first")
            stage.network.restore("second:1883")
            await stage.until("second")
        assert [event.facts["why"] for event in stage.told("move_scheduled")] == ["fail-back to mqtt://second:1883"]

    run_virtual(scenario())


class Restless:
    """A plugin that wants to leave each of its first connections at once, until it is content."""

    def __init__(self, moves: int) -> None:
        self.moves = moves

    @hookimpl
    def while_connected(self, context: Context) -> Recheck | Move:
        if context.generation > self.moves:
            return Recheck(1)
        return Move("away", window=0)


def test_a_plugin_that_never_stays_is_slowed_down() -> None:
    """Moves that follow each other come ever more slowly, at last once in half a minute to a minute."""

    async def scenario() -> None:
        stage = Stage(where="mqtt://first", plugins=[Restless(10**9)])
        async with stage.transport:
            await asyncio.sleep(600)
        times = [event.at for event in stage.told("connected")]
        stays = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert stays[0] < 0.5  # the first move is nobody's repetition
        for number, stay in enumerate(stays[1:]):
            longest = min(LONGEST_STAY, 2**number)
            assert 0.5 * longest <= stay < longest + 0.5
        assert len(stays) > 10
        assert "it is too soon to move again: away" in {event.facts["why"] for event in stage.told("watched")}

    run_virtual(scenario())


def test_a_plugin_that_was_content_may_move_at_once_again() -> None:
    """Once a plugin has stayed on a stable connection, its earlier moves no longer count."""

    async def scenario() -> None:
        plugin = Restless(5)
        stage = Stage(where="mqtt://first", plugins=[plugin])
        async with stage.transport:
            await asyncio.sleep(100)
            assert len(stage.told("connected")) == 6
            plugin.moves = 7
            await asyncio.sleep(10)
        stays = [b.at - a.at for a, b in itertools.pairwise(stage.told("connected")[6:])]
        assert len(stays) == 1
        assert 0.5 <= stays[0] < 1.5

    run_virtual(scenario())


def test_a_loss_ends_the_watch() -> None:
    """A plugin is asked for the present connection only: after a loss the watch begins again with the next."""

    async def scenario() -> None:
        watcher = Watcher()
        watcher.answers = [lambda: Recheck(10)] * 100
        stage = Stage(where="mqtt://first", plugins=[watcher])
        async with stage.transport:
            await stage.until("first")
            await asyncio.sleep(15)
            stage.network.cut("first:1883")
            await asyncio.sleep(15)
        assert [generation for _, generation in watcher.asked] == [1, 1, 2, 2]
        assert stage.told("watched") == []

    run_virtual(scenario())
