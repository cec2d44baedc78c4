"""What a drill shows: a moving display on a terminal, and the ledger at the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from switchgear.cli.demo_screen import describe
from switchgear.cli.screen import print_table, say
from switchgear.cli.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear_activemq.amazon_mq.drill import Drill


@contextmanager
def display(drill: Drill) -> Iterator[None]:
    """Show *drill* on standard error, a terminal, four times a second, and take it away afterwards."""
    console = Console(stderr=True)
    with Live(get_renderable=lambda: render(drill), console=console, refresh_per_second=4, transient=True):
        yield


def render(drill: Drill) -> RenderableType:
    """One picture of the drill."""
    links = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "state", "endpoint", "attempts", "connections", "outbox"):
        links.add_column(title, min_width=8)
    for side in drill.sides:
        if side.transport is not None:
            links.add_row(side.name, *(Text(cell) for cell in describe(side.transport)))
    ledger = drill.ledger
    counts = Text.assemble(
        ("accepted ", "dim"), (f"{ledger.published:<8}", "bold"),
        ("arrived ", "dim"), (f"{ledger.delivered:<8}", "bold"),
        ("on the way ", "dim"), (f"{ledger.lost:<7}", "bold"),
        ("duplicates ", "dim"), (f"{ledger.duplicates}", "bold"),
    )  # fmt: skip
    log = Text("\n".join(map(visible, drill.log)), "dim", overflow="ellipsis", no_wrap=True)
    title = f"switchgear activemq drill  {drill.elapsed:.0f} s  {drill.doing}"
    return Panel(Group(links, Text(), counts, Text(), log), title=title, title_align="left")


def print_ledger(drill: Drill) -> None:
    """Print what was counted."""
    facts = drill.facts()
    say(f"switchgear activemq drill: {facts['deed']}; {drill.elapsed:.1f} s, {drill.plan.rate:g} messages a second")
    say()
    for name in ("accepted", "arrived", "lost", "duplicates"):
        say(f"{name:<12}{facts[name]!s:>9}")
    say()
    now = drill.started + drill.elapsed
    rows = [(side.name, str(len(side.outages)), f"{side.without_connection(now):.2f} s") for side in drill.sides]
    print_table(("", "outages", "without a connection"), rows)
    say()
    if drill.ledger.lost:
        say(f"{drill.ledger.lost} message(s) were LOST.")
    elif drill.ledger.published:
        say("Every accepted message arrived.")
    if drill.why_unfinished is not None:
        say(f"The drill did not finish: {drill.why_unfinished}.")
