from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from typing import Any, TypeAlias

import pytest
from rich.console import Console
from switchgear.cli.demo import Plan, Stage, places
from switchgear.cli.demo_ledger import DemoLedger, Switch
from switchgear.cli.demo_pair import DOWN, PATIENCE, Pair
from switchgear.cli.demo_screen import print_ledger, render
from switchgear.report import Event
from switchgear.testing import run_virtual
from switchgear.testing.broker import Broker, Published

Ended: TypeAlias = Any  # of conftest.py, which cannot be imported
Start: TypeAlias = Any  # of conftest.py, which cannot be imported
KEYS = {"published", "delivered", "lost", "duplicates", "switches", "reconnect_ms"}
PLAN = Plan(seconds=None, switches=1, rate=200, seed=7, protocol="3.1.1")


def run(start: Start, *arguments: str) -> Ended:
    async def scenario() -> Ended:
        return await (await start("demo", "--act", "standby", *arguments)).end()

    return asyncio.run(scenario())


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_two_switches(start: Start, protocol: str) -> None:
    """After two deaths of the active broker nothing is lost, and one JSON object says so."""
    began = time.monotonic()
    ended = run(start, "--switches", "2", "--json", "--seed", "1", "--protocol", protocol)
    took = 1000 * (time.monotonic() - began)
    assert (ended.code, ended.err, len(ended.lines)) == (0, "", 1)
    told = json.loads(ended.out)
    assert set(told) >= KEYS
    assert (told["lost"], told["switches"]) == (0, 2)
    assert told["published"] == told["delivered"] > 100
    assert len(told["reconnect_ms"]) == 2
    assert all(0 < ms < took for ms in told["reconnect_ms"])


def test_ledger_on_a_pipe(start: Start) -> None:
    """On a pipe the ledger is printed at the end, without escape sequences, with the seed that repeats the run."""
    ended = run(start, "--seconds", "1", "--rate", "50", "--seed", "11")
    out = ended.out.decode()
    assert (ended.code, ended.err) == (0, "")
    assert "seed 11" in out
    assert "\x1b" not in out
    assert out.endswith("Every accepted message arrived.\n")


def test_interrupt_ends_with_the_ledger(start: Start) -> None:
    """Ctrl-C ends the demo early, in order, with the ledger, and no other act begins."""

    async def scenario() -> Ended:
        process = await start("demo", "--seconds", "600", "--json")  # no act follows
        await process.handles_signals()
        await asyncio.sleep(1)
        process.process.send_signal(signal.SIGINT)
        return await process.end()

    ended = asyncio.run(scenario())
    assert ended.code == 0
    told = json.loads(ended.out)
    assert (told["lost"], told["acts"]) == (0, {})


def test_pair_switches() -> None:
    """A switch kills the active broker, promotes the standby, and ends with the first message accepted there."""

    async def scenario() -> tuple[Switch, list[str]]:
        notes: list[str] = []
        async with Pair(random.Random(1)) as pair:
            old, new = pair.brokers
            assert (old.is_listening, new.is_listening) == (True, False)
            switching = asyncio.create_task(pair.switch(1, 0.0, notes.append))
            while not new.is_listening:
                assert not switching.done()
                await asyncio.sleep(0.01)
            assert not old.is_listening
            new.ledger.count(Published)
            switch = await switching
            assert pair.active is new
            assert not old.is_listening
            assert pair.uris == [old.uri, new.uri]
        return switch, notes

    switch, notes = run_virtual(scenario())
    assert DOWN[0] <= switch.down <= DOWN[1]
    assert 0 <= switch.first_message < 0.1
    assert len(notes) == 2


def test_standby_that_nobody_uses() -> None:
    """When no message comes after a switch, the wait is bounded and the switch tells how long it was."""

    async def scenario() -> Switch:
        async with Pair(random.Random(1)) as pair:
            return await pair.switch(1, 0.0, lambda _: None)

    assert run_virtual(scenario()).first_message == pytest.approx(PATIENCE)


def test_places() -> None:
    """What speaks MQTT 5 is reached by a list with a shared session; failover: is used where a plugin takes it."""
    uris = ["mqtt://127.0.0.1:1", "mqtt://127.0.0.1:2"]
    assert places(uris, "5") == (uris, "shared")
    where, session = places(uris, "3.1.1")
    assert (where, session) in [("failover:(mqtt://127.0.0.1:1,mqtt://127.0.0.1:2)", None), (uris, "shared")]


def stage() -> Stage:
    return Stage(PLAN, DemoLedger(), Pair(random.Random(1)), where="mqtt://h")


def test_display_before_anything_runs() -> None:
    """The display can be drawn at any moment, also before there is a transport, and shows counts and last events."""

    async def scenario() -> str:
        async with Pair(random.Random(1)) as pair:
            shown = Stage(PLAN, DemoLedger(), pair)
            shown.ledger.accept()
            shown.ledger.accepted()
            shown.hear("publisher")(Event("connected", 0.0, {"endpoint": "mqtt://h"}))
            shown.hear("publisher")(Event("stable", 0.0, {}))
            console = Console(width=120, record=True, quiet=False, file=None, force_terminal=False)
            with console.capture() as captured:
                console.print(render(shown))
            return captured.get()

    text = asyncio.run(scenario())
    assert "published 1" in text
    assert "broker a" in text
    assert "publisher: connected" in text
    assert "stable" not in text


def test_lost_messages_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A loss is printed plainly, with the time of every switch."""
    played = stage()
    played.ledger.accept()
    played.ledger.accepted()
    played.ledger.switches.append(Switch(number=1, killed_at=1.0, opened_at=1.5, first_message=0.25))
    print_ledger(played)
    out = capsys.readouterr().out
    assert "1 message(s) were LOST" in out
    assert "median 250 ms" in out
    assert isinstance(played.pair.active, Broker)
