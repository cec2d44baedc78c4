"""``switchgear demo``: the main job on brokers of our own. An active broker dies again and again; nothing is lost.

That is the first act; plugins bring others, see `switchgear.cli.demo_acts`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import typer
from attrs import define, field, frozen

import switchgear
import switchgear.aio
from switchgear.cli import demo_acts
from switchgear.cli.app import OK, UNDELIVERED, USAGE
from switchgear.cli.demo_ledger import DemoLedger
from switchgear.cli.demo_pair import Pair
from switchgear.cli.interrupts import Interrupts
from switchgear.cli.notes import words
from switchgear.cli.output import as_json, write_line
from switchgear.errors import OutboxFull
from switchgear.plugins import registry
from switchgear.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.message import Message
    from switchgear.report import Event

EPILOG = """
Act standby: two brokers of our own on 127.0.0.1 share one store, as an active-standby pair does. A publisher and a subscriber
find them as applications do. The active broker is killed at random moments; its standby opens its port after 0.2 to
1.5 seconds; the killed one comes back as the standby. At the end a ledger compares what was published with what
arrived, and says how long each switch took: from the standby's port opening to the first message that it accepted.

Plugins bring further acts, which follow it: region-switch, of switchgear-iot-dns, moves two clients of an AWS IoT custom
domain between two regions by DNS. One that cannot be played here says why, and is left out.

Needs no root, no account and no network. With --seed the moments of the first act are the same again.

Exit codes: 0 nothing was lost, 1 something was lost, 2 wrong usage, or the act that was asked for cannot be played here.
"""

FIRST_ACT: Final = "standby"

TOPIC: Final = "demo/messages"
TURN: Final = 0.01
"""Seconds between two looks of the publisher at the clock: the rate is kept in steps of this."""
LAST_WORDS: Final = 10.0
"""Seconds for the last acknowledgements, and then for the last arrivals."""
SHOWN: Final = frozenset({"connected", "connection_lost", "gave_up", "flapping", "quarantined", "message_refused"})


@frozen(kw_only=True)
class Plan:
    """What the user asked for. *switches* None: as many as fit into *seconds*; *seconds* None: no limit."""

    seconds: float | None
    switches: int | None
    rate: float
    seed: int
    protocol: str


@define(eq=False)
class Stage:
    """Everything that the display shows; written on the loop, read by the display's thread."""

    plan: Plan
    ledger: DemoLedger
    pair: Pair
    started: float = field(factory=time.monotonic)
    transports: dict[str, switchgear.aio.AsyncTransport] = field(factory=dict)
    log: deque[str] = field(factory=lambda: deque(maxlen=8))
    where: str = ""
    was_ended: bool = False
    """Whether the user had seen enough."""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def note(self, text: str) -> None:
        """Remember *text* among the last events."""
        self.log.append(f"{self.elapsed:6.2f} s  {text}")

    def hear(self, who: str) -> Callable[[Event], None]:
        """What listens to the events of one transport."""

        def on_event(event: Event) -> None:
            if event.name in SHOWN:
                said = words(event)
                self.note(f"{who}: {said.partition(';')[0] if event.name == 'connection_lost' else said}")

        return on_event


def demo(
    *,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="How long to go on; 20, or until --switches are done.", min=1, max=86400),
    ] = None,
    switches: Annotated[int | None, typer.Option("--switches", help="End after so many switches.", min=1)] = None,
    rate: Annotated[float, typer.Option("--rate", help="Messages a second.", min=1, max=100000)] = 200.0,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes the random moments repeatable.", min=0)] = None,
    protocol: Annotated[str, typer.Option("--protocol", "-V", help="MQTT version: 3.1.1 or 5.")] = "3.1.1",
    act: Annotated[
        str | None, typer.Option("--act", metavar="NAME", help="Play this act only; default: all that are installed.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Write the ledgers as one JSON object, and nothing else.")
    ] = False,
) -> None:
    """Kill brokers, switch regions, and count what publishers and subscribers lose meanwhile: nothing."""
    Profile.of("mqtt://127.0.0.1", protocol=protocol)
    others = demo_acts.find()
    if act not in {None, FIRST_ACT, *others}:
        here = ", ".join((FIRST_ACT, *others))
        raise typer.BadParameter(
            f"no act is called {act!r}; acts here: {here}; switchgear-iot-dns brings region-switch"
        )
    if seconds is None and switches is None:
        seconds = 20.0
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    plan = Plan(seconds=seconds, switches=switches, rate=rate, seed=seed, protocol=protocol)
    shows = sys.stdout.isatty() and not json
    told: dict[str, object] = {}
    lost, goes_on = 0, True
    if act in {None, FIRST_ACT}:
        stage = asyncio.run(play(plan, shows=shows))
        told |= {**stage.ledger.facts(), "seconds": round(stage.elapsed, 1), **facts(stage)}
        lost, goes_on = stage.ledger.lost, not stage.was_ended
        if not json:
            from switchgear.cli.demo_screen import print_ledger

            print_ledger(stage)
    wanted = {name: entry for name, entry in others.items() if goes_on and act in {None, name}}
    played = demo_acts.play_all(wanted, is_watched=shows, prints=not json)
    if json:
        write_line(as_json({**told, "acts": played.facts}))
    if act is not None and played.left_out:
        raise typer.Exit(USAGE)
    raise typer.Exit(OK if lost + played.lost == 0 else UNDELIVERED)


def facts(stage: Stage) -> dict[str, object]:
    """What was run, for JSON."""
    plan = stage.plan
    return {"where": stage.where, "seed": plan.seed, "rate": plan.rate, "protocol": plan.protocol}


async def play(plan: Plan, *, shows: bool) -> Stage:
    """Run the whole demo, with the moving display when *shows*."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    async with Pair(random.Random(plan.seed)) as pair:
        stage = Stage(plan, DemoLedger(), pair)
        with Interrupts(lambda: loop.call_soon_threadsafe(ending.set)):
            if shows:
                from switchgear.cli.demo_screen import display

                with display(stage):
                    await perform(stage, ending)
            else:
                await perform(stage, ending)
    stage.was_ended = ending.is_set()
    return stage


async def perform(stage: Stage, ending: asyncio.Event) -> None:
    """Publish, subscribe and switch until it is time; then wait for the last messages."""
    ledger = stage.ledger
    where, session = places(stage.pair.uris, stage.plan.protocol)
    stage.where = where if isinstance(where, str) else " ".join(where)
    arrived = asyncio.Event()

    async def take(message: Message) -> None:
        ledger.arrive(message.payload)
        arrived.set()

    def connect(who: str) -> switchgear.aio.AsyncTransport:
        return switchgear.aio.connect(
            where,
            client_id=f"demo-{who}",
            session=session,
            protocol=stage.plan.protocol,
            backoff=switchgear.fleet(clients=2, connects_per_second=50),
            on_event=stage.hear(who),
        )

    async with connect("subscriber") as subscriber, connect("publisher") as publisher:
        stage.transports = {"subscriber": subscriber, "publisher": publisher}
        await subscriber.subscribe(TOPIC, take, qos=1).ready(LAST_WORDS)
        await publisher.wait_connected(LAST_WORDS)
        publishing = asyncio.create_task(publish(publisher, ledger, stage.plan.rate))
        try:
            await switch(stage, ending, publishing)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        stage.note("stopped publishing; waiting for the last messages")
        await finish(publisher, ledger, arrived)


def places(uris: list[str], protocol: str) -> tuple[str | list[str], str | None]:
    """Where to connect, and the session to ask for: a ``failover:`` URI when a plugin takes it, else a list."""
    failover = f"failover:({','.join(uris)})"
    groups, _ = registry().provide_endpoints(failover, {}) or ((), "")
    if groups and all(group.protocol in {None, protocol} for group in groups):  # ActiveMQ speaks only 3.1.1
        return failover, None
    return uris, "shared"  # a list alone would mean independent brokers


async def switch(stage: Stage, ending: asyncio.Event, publishing: asyncio.Task[None]) -> None:
    """Kill and promote until the plan is fulfilled, Ctrl-C was pressed, or publishing has failed."""
    plan, ledger = stage.plan, stage.ledger
    since = asyncio.get_running_loop().time()
    while plan.switches is None or len(ledger.switches) < plan.switches:
        if ending.is_set() or (plan.seconds is not None and stage.elapsed >= plan.seconds):
            return
        if publishing.done():
            await publishing  # raises what ended it
        ledger.switches.append(await stage.pair.switch(len(ledger.switches) + 1, since, stage.note))


async def publish(publisher: switchgear.aio.AsyncTransport, ledger: DemoLedger, rate: float) -> None:
    """Publish numbered messages, *rate* a second, until cancelled; outages are not noticed here."""
    loop = asyncio.get_running_loop()
    started, due = loop.time(), 0
    while True:
        while due <= (loop.time() - started) * rate:
            try:
                publisher.publish(TOPIC, ledger.accept(), qos=1)
            except OutboxFull:
                await publisher.ready()
                continue
            ledger.accepted()
            due += 1
            if due % 1000 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(TURN)


async def finish(publisher: switchgear.aio.AsyncTransport, ledger: DemoLedger, arrived: asyncio.Event) -> None:
    """Wait until everything is acknowledged and has arrived, each for a bounded time."""
    with suppress(TimeoutError):
        await publisher.drain(LAST_WORDS)
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS):
            while ledger.lost:
                arrived.clear()
                await arrived.wait()
