"""Lines and tables on standard output: with Rich on a terminal, plain columns on a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import typer

from switchgear.cli.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence


NARROW: Final = 40
"""Columns of a terminal below which a table would leave out cells; there it is written as on a pipe."""


def say(text: str = "") -> None:
    """Print one line on standard output; what would control a terminal is shown instead."""
    typer.echo(visible(text))


def is_wide_terminal() -> bool:
    """Whether standard output is a terminal on which a table has room."""
    if not sys.stdout.isatty():
        return False
    from rich.console import Console

    return Console().width >= NARROW


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* under *head*. On a pipe columns are separated by at least two spaces, and nothing is cut."""
    rows = [[visible(cell) for cell in row] for row in rows]
    if is_wide_terminal():
        _print_rich(head, rows)
        return
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
