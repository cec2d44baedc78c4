"""The hook that adds ``switchgear dr``; it loads nothing else until the command line starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.hookspecs import hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add ``switchgear dr``. Since: 0.1."""
    from switchgear_iot_dns.dr.commands import app as commands

    app.add_typer(commands, name="dr")
