"""One plugin implements every hook, and hears a whole life: connect, outage, fail-over, fail-back, stop."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import typer
from switchgear.endpoint import Group, SessionKind, parse_uri
from switchgear.failback import Failback
from switchgear.hook_runner import InlineRunner
from switchgear.hookspecs import Context, Delay, Recheck, Verdict, hookimpl
from switchgear.loaded_plugin import HOOKS, load_object
from switchgear.message import Message
from switchgear.plugins import Registry
from switchgear.profile import Profile
from switchgear.testing import Broker, Ledger, MemoryNetwork, Store, run_virtual
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.drivers.base import Driver, DriverSettings
    from switchgear.endpoint import Endpoint
    from switchgear.report import Event

FACTS = {
    # of each event: what is written down. No random delays.
    "state_changed": ("was", "state"),
    "endpoint_selected": ("endpoint", "why"),
    "attempt_started": ("attempt", "sweep", "endpoint", "generation"),
    "attempt_failed": ("attempt", "endpoint"),
    "connected": ("endpoint", "session_present", "generation"),
    "connection_lost": ("endpoint", "generation"),
    "reconnect_scheduled": ("why", "attempt"),
    "probed": ("endpoint", "result"),
    "watched": ("why",),
    "move_scheduled": ("why",),
    "stable": ("endpoint",),
    "stopped": (),
}


class Witness:
    """Implements every hook and writes down what it is told."""

    DRIVERS = ("memory",)
    SCHEMES = ("site",)

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.lines: list[str] = []
        self.sweep_failed = asyncio.Event()

    def note(self, hook: str, *facts: object) -> None:
        self.lines.append(" ".join([hook, *(str(fact) for fact in facts)]))

    @hookimpl
    def register_commands(self, app: typer.Typer) -> None:
        self.note("register_commands", type(app).__name__)

    @hookimpl
    def provide_endpoints(self, where: str, options: Mapping[str, object]) -> list[Group] | None:
        self.note("provide_endpoints", where, dict(options))
        places = [parse_uri("mqtt://a"), parse_uri("mqtt://b?priority=1")]
        back = Failback(every=5, successes=2, over=3, stay=7, window=2, drain=1)
        return [Group(places, SessionKind.SHARED, name="site", failback=back)]

    @hookimpl
    def provide_driver(self, name: str, settings: DriverSettings) -> Driver | None:
        self.note("provide_driver", name, settings.client_id)
        return self.network.make_driver(settings)

    @hookimpl
    def check_options(self, options: Mapping[str, object]) -> None:
        self.note("check_options", dict(options))

    @hookimpl
    def select_endpoint(self, context: Context) -> Endpoint | None:
        self.note("select_endpoint", *(e.host for e in context.candidates), f"after {context.attempt} attempts")
        return None

    @hookimpl
    def on_connected(self, context: Context) -> None:
        assert context.endpoint is not None
        session = "session present" if context.session_present else "no session"
        self.note("on_connected", context.endpoint.host, f"generation {context.generation}", session)

    @hookimpl
    def on_disconnect(self, context: Context) -> None:
        assert context.endpoint is not None
        assert context.failure is not None
        what = "connection" if context.was_connected else "attempt"
        self.note("on_disconnect", what, context.generation, context.endpoint.host, context.failure.cause.name)

    @hookimpl
    def before_reconnect(self, context: Context) -> Verdict | None:
        waiting = f"{context.outbox_depth} waiting"
        if context.sweep:
            self.sweep_failed.set()
        since = "still out" if context.outage else "just lost"
        self.note("before_reconnect", f"sweeps {context.sweep}", since, waiting)
        return Delay(0.2, "the witness says so") if context.outage == 0 else None

    @hookimpl
    def while_connected(self, context: Context) -> Recheck:
        assert context.endpoint is not None
        context.notes["looks"] = looks = int(str(context.notes.get("looks", 0))) + 1
        self.note("while_connected", context.endpoint.host, f"generation {context.generation}", f"look {looks}")
        return Recheck(15, "all is well")

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.note("on_event", event.name, *(f"{event.facts[fact]}".replace(" ", "_") for fact in FACTS[event.name]))


TRANSCRIPT = """
register_commands Typer
provide_endpoints site:main {}
check_options {}
provide_driver memory press-7
-- start
on_event state_changed stopped selecting
select_endpoint a b after 0 attempts
on_event endpoint_selected mqtt://a:1883 first_in_order
on_event state_changed selecting connecting
on_event attempt_started 1 1 mqtt://a:1883 1
on_event state_changed connecting restoring
on_event state_changed restoring connected
on_event connected mqtt://a:1883 False 1
on_connected a generation 1 no session
while_connected a generation 1 look 1
on_event watched all_is_well
on_event stable mqtt://a:1883
while_connected a generation 1 look 2
-- a dies
on_event connection_lost mqtt://a:1883 1
on_disconnect connection 1 a CONNECTION_LOST
on_event state_changed connected deciding
before_reconnect sweeps 0 just lost 1 waiting
on_event reconnect_scheduled plugin_'witness':_the_witness_says_so 1
on_event state_changed deciding waiting
on_event state_changed waiting selecting
select_endpoint b a after 0 attempts
on_event endpoint_selected mqtt://b:1883 first_in_order
on_event state_changed selecting connecting
on_event attempt_started 1 1 mqtt://b:1883 2
on_event attempt_failed 1 mqtt://b:1883
on_disconnect attempt 2 b PORT_REFUSED
on_event state_changed connecting waiting
on_event state_changed waiting selecting
select_endpoint a after 1 attempts
on_event endpoint_selected mqtt://a:1883 first_in_order
on_event state_changed selecting connecting
on_event attempt_started 2 1 mqtt://a:1883 3
on_event attempt_failed 2 mqtt://a:1883
on_disconnect attempt 3 a PORT_REFUSED
on_event state_changed connecting deciding
before_reconnect sweeps 1 still out 1 waiting
on_event reconnect_scheduled back-off 3
on_event state_changed deciding waiting
-- b takes over
on_event state_changed waiting selecting
select_endpoint b a after 2 attempts
on_event endpoint_selected mqtt://b:1883 first_in_order
on_event state_changed selecting connecting
on_event attempt_started 3 2 mqtt://b:1883 4
on_event state_changed connecting restoring
on_event state_changed restoring connected
on_event connected mqtt://b:1883 True 4
on_connected b generation 4 session present
while_connected b generation 4 look 3
on_event watched all_is_well
-- a is back
on_event stable mqtt://b:1883
select_endpoint a after 0 attempts
provide_driver memory press-7-probe
on_event probed mqtt://a:1883 CONNACK
select_endpoint a after 0 attempts
provide_driver memory press-7-probe
on_event probed mqtt://a:1883 CONNACK
on_event move_scheduled fail-back_to_mqtt://a:1883
on_disconnect connection 4 b REQUESTED
on_event state_changed connected selecting
select_endpoint a b after 0 attempts
on_event endpoint_selected mqtt://a:1883 first_in_order
on_event state_changed selecting connecting
on_event attempt_started 1 1 mqtt://a:1883 5
on_event state_changed connecting restoring
on_event state_changed restoring connected
on_event connected mqtt://a:1883 True 5
on_connected a generation 5 session present
while_connected a generation 5 look 4
on_event watched all_is_well
while_connected a generation 5 look 5
on_event stable mqtt://a:1883
-- stop
on_disconnect connection 5 a STOPPED
on_event state_changed connected stopped
on_event stopped
"""


async def live(witness: Witness, registry: Registry, a: Broker, b: Broker) -> None:
    """Connect, lose a, fail over to b, fail back to a, stop."""
    profile = Profile("site:main", client_id="press-7", driver="memory", plugins=["witness"], stable_after=3)
    transport = AsyncTransport(profile, registry=registry, rng=random.Random(7), runner=InlineRunner())
    witness.note("--", "start")
    async with transport:
        transport.subscribe("orders/#", list[Message]().append)
        await transport.wait_connected(10)
        await transport.publish("orders/1", b"one")
        await asyncio.sleep(20)
        witness.note("--", "a dies")
        await a.kill()
        delivery = transport.publish("orders/2", b"two")
        await witness.sweep_failed.wait()
        await asyncio.sleep(0.001)  # the back-off is at least 25 ms
        witness.note("--", "b takes over")
        await b.promote()
        await delivery
        witness.note("--", "a is back")
        await a.restart()
        await asyncio.sleep(30)
        assert transport.endpoint is not None
        assert transport.endpoint.host == "a"
        await transport.publish("orders/3", b"three")
        witness.note("--", "stop")


def test_every_hook_hears_a_whole_life() -> None:
    """The calls of all hooks, in their order and with their facts, are exactly these."""
    store, ledger = Store(), Ledger()
    a = Broker(name="a", ledger=ledger, store=store)
    b = Broker(name="b", ledger=ledger, store=store, standby=True)
    network = MemoryNetwork({"a:1883": a, "b:1883": b}, latency=0.01)
    witness = Witness(network)
    built_in = Registry.load(entry_points=[]).loaded
    registry = Registry((*built_in, load_object(witness, name="witness")))
    registry.register_commands(typer.Typer())
    run_virtual(live(witness, registry, a, b))
    assert witness.lines == TRANSCRIPT.strip().splitlines()
    assert {line.split()[0] for line in witness.lines} - {"--"} == set(HOOKS)
