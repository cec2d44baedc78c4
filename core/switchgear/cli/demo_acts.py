"""The acts of the demo that other distributions bring, behind entry points of the group ``switchgear.demo``.

Each names a coroutine function that takes a `Show` and returns an `Outcome`. Its name is what ``--act`` takes.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from typing import TYPE_CHECKING, Final

import typer
from attrs import define, field, frozen

from switchgear.cli.app import complain
from switchgear.cli.interrupts import Interrupts
from switchgear.cli.screen import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP: Final = "switchgear.demo"


class CannotPlay(Exception):
    """An act cannot be played on this machine; the text says why, and what would help."""


@frozen(kw_only=True)
class Outcome:
    """What came of an act.

    Attributes:
        lost: Messages that were accepted and have not arrived; with any, the demo has failed.
        facts: For JSON.
        summary: Lines before the table.
        head: Titles of the table.
        rows: Its cells.
        verdict: The last line.
    """

    lost: int
    facts: Mapping[str, object]
    summary: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    verdict: str


@define(eq=False)
class Show:
    """What an act talks to.

    Attributes:
        is_watched: Whether somebody sits before a terminal and hears the notes.
        ending: Set when the user has seen enough.
    """

    is_watched: bool
    ending: asyncio.Event = field(factory=asyncio.Event)
    _started: float = field(factory=time.monotonic)

    def note(self, text: str) -> None:
        """Tell what happens now, while it happens."""
        if self.is_watched:
            typer.secho(f"{time.monotonic() - self._started:6.2f} s  {text}", dim=True)

    async def pause(self, seconds: float) -> bool:
        """Wait so long, or until the user has seen enough; whether to go on."""
        try:
            async with asyncio.timeout(seconds):
                await self.ending.wait()
        except TimeoutError:
            return True
        return False


def find() -> dict[str, importlib.metadata.EntryPoint]:
    """The acts that are installed, by name, sorted."""
    found = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry for entry in sorted(found, key=lambda entry: (entry.name, entry.value))}


@define
class Played:
    """What came of several acts: facts by their names, messages lost in all, and the names of those left out."""

    facts: dict[str, object] = field(factory=dict)
    lost: int = 0
    left_out: list[str] = field(factory=list)


def play_all(acts: Mapping[str, importlib.metadata.EntryPoint], *, is_watched: bool, prints: bool) -> Played:
    """Play *acts* one after the other, printing what came of each when *prints*; one that cannot be played is left out."""
    played = Played()
    for name, entry in acts.items():
        try:
            outcome = play(entry, is_watched=is_watched)
        except CannotPlay as error:
            complain(f"act {name} is left out: {error}")
            played.left_out.append(name)
            played.facts[name] = {"left_out": str(error)}
            continue
        played.facts[name] = dict(outcome.facts)
        played.lost += outcome.lost
        if prints:
            print_outcome(name, outcome)
    return played


def play(entry: importlib.metadata.EntryPoint, *, is_watched: bool) -> Outcome:
    """Play one act on a loop of its own; the first Ctrl-C ends it in order.

    Raises:
        CannotPlay: something that it needs is missing.
    """
    try:
        act = entry.load()
    except ImportError as error:
        raise CannotPlay(f"{error}; install what the act needs") from error

    async def perform() -> Outcome:
        show, loop = Show(is_watched), asyncio.get_running_loop()
        with Interrupts(lambda: loop.call_soon_threadsafe(show.ending.set)):
            outcome: Outcome = await act(show)
        return outcome

    return asyncio.run(perform())


def print_outcome(name: str, outcome: Outcome) -> None:
    """Print what came of an act, for people."""
    typer.echo()
    typer.echo(f"switchgear demo, act {name}")
    for text in outcome.summary:
        typer.echo(text)
    if outcome.rows:
        typer.echo()
        print_table(outcome.head, outcome.rows)
    typer.echo()
    typer.echo(outcome.verdict)
