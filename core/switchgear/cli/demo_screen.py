"""What the demo shows: a moving display on a terminal, and the ledger at the end."""

from __future__ import annotations

import statistics
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from switchgear.cli.screen import print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.aio import AsyncTransport
    from switchgear.cli.demo import Stage


@contextmanager
def display(stage: Stage) -> Iterator[None]:
    """Show *stage* on the terminal while it runs, eight times a second, and take it away afterwards."""
    with Live(get_renderable=lambda: render(stage), console=Console(), refresh_per_second=8, transient=True):
        yield


def render(stage: Stage) -> RenderableType:
    """One picture of the stage."""
    ledger = stage.ledger
    brokers = Table.grid(padding=(0, 2))
    for broker in sorted(stage.pair.brokers, key=lambda b: b.name):
        is_up = broker.is_listening
        words = Text("active", "green") if is_up else Text("refuses connections", "red")
        brokers.add_row(f"broker {broker.name}", broker.uri, words)
    links = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "state", "endpoint", "attempts", "connections", "outbox"):
        links.add_column(title, min_width=8)
    for who, transport in stage.transports.items():
        links.add_row(who, *(Text(cell) for cell in describe(transport)))
    counts = Text.assemble(
        ("published ", "dim"), (f"{ledger.published:<8}", "bold"),
        ("delivered ", "dim"), (f"{ledger.delivered:<8}", "bold"),
        ("on the way ", "dim"), (f"{ledger.lost:<7}", "bold yellow" if ledger.lost > stage.plan.rate / 4 else "bold"),
        ("duplicates ", "dim"), (f"{ledger.duplicates:<5}", "bold"),
        ("switches ", "dim"), (f"{len(ledger.switches)}", "bold"),
    )  # fmt: skip
    log = Text("\n".join(stage.log), "dim", overflow="ellipsis", no_wrap=True)
    title = f"switchgear demo  {stage.elapsed:.0f} s  {stage.pair.doing}"
    return Panel(Group(brokers, Text(), links, Text(), counts, Text(), log), title=title, title_align="left")


def describe(transport: AsyncTransport) -> tuple[str, str, str, str, str]:
    """State, endpoint, attempts and connections so far, and outbox depth of a transport."""
    stats = transport.stats
    endpoint = str(transport.endpoint or "-")
    return transport.state.value, endpoint, str(stats.attempts), str(stats.connections), str(stats.waiting)


def print_ledger(stage: Stage) -> None:
    """Print what was counted."""
    ledger, plan = stage.ledger, stage.plan
    protocol = f"MQTT {plan.protocol}"
    typer.echo(f"switchgear demo: {stage.elapsed:.1f} s, {protocol}, {plan.rate:g} messages a second, seed {plan.seed}")
    typer.echo(f"connected to {stage.where}")
    typer.echo()
    for name in ("published", "delivered", "lost", "duplicates"):
        typer.echo(f"{name:<12}{getattr(ledger, name):>9}")
    typer.echo(f"{'switches':<12}{len(ledger.switches):>9}")
    if ledger.switches:
        typer.echo()
        rows = [
            (str(s.number), f"{s.killed_at:.2f} s", f"{s.down * 1000:.0f} ms", f"{s.first_message * 1000:.0f} ms")
            for s in ledger.switches
        ]
        print_table(("switch", "killed at", "no broker for", "port open to first message"), rows)
        times = ledger.reconnect_ms
        typer.echo()
        typer.echo(f"port open to first message: median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms")
    typer.echo()
    if ledger.lost:
        typer.echo(f"{ledger.lost} message(s) were LOST. Please report it, with the seed.", file=sys.stdout)
    else:
        typer.echo("Every accepted message arrived.")
