from __future__ import annotations

import asyncio
import json
import os
import signal
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from switchgear.cli import demo_acts
from switchgear.cli.app import build
from switchgear.cli.demo_acts import CannotPlay, Outcome, Show
from typer.testing import CliRunner

if TYPE_CHECKING:
    from typer.testing import Result

GOOD = Outcome(
    lost=0, facts={"lost": 0}, summary=("three lines",), head=("a", "b"), rows=(("1", "2"),), verdict="all is well"
)


async def good(show: Show) -> Outcome:
    """An act in which nothing is lost."""
    show.note("curtain up")
    return GOOD


async def bad(_show: Show) -> Outcome:
    """An act that loses two messages."""
    return evolve(GOOD, lost=2, facts={"lost": 2}, rows=(), verdict="2 were LOST")


async def impossible(_show: Show) -> Outcome:
    """An act that needs what is not here."""
    raise CannotPlay("it needs a moon: wait for one")


async def interrupted(show: Show) -> Outcome:
    """An act whose user presses Ctrl-C at once."""
    assert await show.pause(0)
    os.kill(os.getpid(), signal.SIGINT)
    goes_on = await show.pause(60)
    return evolve(GOOD, facts={"goes_on": goes_on})


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What is installed, by name."""
    installed: dict[str, object] = {}

    class Installed(EntryPoint):
        def load(self) -> object:
            if installed[self.name] is None:
                raise ImportError("No module named 'moon'", name="moon")
            return installed[self.name]

    def find() -> dict[str, EntryPoint]:
        return {name: Installed(name, "somewhere:play", demo_acts.GROUP) for name in sorted(installed)}

    monkeypatch.setattr(demo_acts, "find", find)
    return installed


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(build(), ["demo", *arguments])


def test_one_act(acts: dict[str, object]) -> None:
    """An act that is asked for is played alone, and its table and its last word are printed."""
    acts["moonrise"] = good
    ended = demo("--act", "moonrise")
    assert (ended.exit_code, ended.stderr) == (0, "")
    lines = ["", "switchgear demo, act moonrise", "three lines", "", "a  b", "1  2", "", "all is well"]
    assert ended.stdout.splitlines() == lines


def test_all_acts(acts: dict[str, object]) -> None:
    """Without a choice the first act is followed by all others, and JSON holds every ledger."""
    acts.update(moonset=good, moonrise=good)
    ended = demo("--seconds", "1", "--json")
    told = json.loads(ended.stdout)
    assert ended.exit_code == 0
    assert told["published"] == told["delivered"] > 0
    assert told["acts"] == {"moonrise": {"lost": 0}, "moonset": {"lost": 0}}
    assert list(told["acts"]) == ["moonrise", "moonset"]


def test_a_loss_in_any_act(acts: dict[str, object]) -> None:
    """A message that is lost in a later act fails the demo."""
    acts.update(eclipse=bad, moonrise=good)
    assert demo("--seconds", "1").exit_code == 1


@pytest.mark.parametrize(("act", "why"), [(impossible, "it needs a moon"), (None, "No module named 'moon'")])
def test_an_act_that_cannot_be_played(acts: dict[str, object], act: object, why: str) -> None:
    """It is left out with its reason; that is wrong usage only when it was asked for."""
    acts.update(moonrise=act, moonset=good)
    ended = demo("--seconds", "1", "--json")
    told = json.loads(ended.stdout)
    assert ended.exit_code == 0
    assert f"act moonrise is left out: {why}" in ended.stderr
    assert why in told["acts"]["moonrise"]["left_out"]
    assert told["acts"]["moonset"] == {"lost": 0}
    assert demo("--act", "moonrise").exit_code == 2


def test_an_unknown_act(acts: dict[str, object]) -> None:
    """A name that no act has is wrong usage, and those that there are, are named."""
    acts["moonrise"] = good
    ended = demo("--act", "sunrise")
    assert ended.exit_code == 2
    assert "standby, moonrise" in " ".join(ended.output.split())


def test_an_interrupt_ends_an_act_in_order(acts: dict[str, object]) -> None:
    """The first Ctrl-C is told to the act, which comes to its end."""
    acts["moonrise"] = interrupted
    ended = demo("--act", "moonrise", "--json")
    assert json.loads(ended.stdout) == {"acts": {"moonrise": {"goes_on": False}}}


def test_notes_are_for_those_who_watch(capsys: pytest.CaptureFixture[str]) -> None:
    """On a pipe nothing is told while an act is played."""

    async def whisper() -> None:
        Show(is_watched=False).note("to nobody")
        Show(is_watched=True).note("to you")

    asyncio.run(whisper())
    out = capsys.readouterr().out
    assert "to nobody" not in out
    assert "to you" in out


def test_the_acts_of_plugins_are_found() -> None:
    """The act of switchgear-iot-dns is installed under its name."""
    assert demo_acts.find()["region-switch"].value == "switchgear_iot_dns.demo:play"
