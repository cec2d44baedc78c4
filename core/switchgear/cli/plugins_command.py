"""``switchgear plugins``: what is loaded, what was skipped and why; and the sub-commands that plugins add."""

from __future__ import annotations

from typing import Annotated

import typer

from switchgear.cli.app import OK
from switchgear.cli.output import as_json, write_line
from switchgear.cli.screen import print_table
from switchgear.endpoint import SCHEMES
from switchgear.plugins import Registry, registry

EPILOG = """
A plugin is used by transports that name it (--plugin, a profile) or use one of its URI schemes.
SWITCHGEAR_DISABLE_PLUGINS holds names to leave out, separated by commas.

Exit codes: 0, also when plugins were skipped.
"""


def plugins(
    *,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Show the plugins, the drivers and the URI schemes, and what was skipped and why."""
    known = registry()
    if json:
        write_line(as_json(facts(known)))
    else:
        show(known)
    raise typer.Exit(OK)


def add_plugin_commands(app: typer.Typer) -> None:
    """Let every plugin add its sub-commands to *app*; one that fails is skipped."""
    registry().register_commands(app)


def facts(known: Registry) -> dict[str, object]:
    """What is installed, for JSON."""
    loaded = [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "hooks": list(plugin.hooks),
            "drivers": list(plugin.lists("DRIVERS")),
            "schemes": list(plugin.lists("SCHEMES")),
        }
        for plugin in known.loaded
    ]
    skipped = [{"name": s.name, "distribution": s.distribution, "why": s.why} for s in known.skipped]
    schemes = [*SCHEMES, *known.known_schemes()]
    return {"loaded": loaded, "skipped": skipped, "drivers": list(known.known_drivers()), "schemes": schemes}


def show(known: Registry) -> None:
    """What is installed, for people."""
    print_table(
        ("plugin", "from", "version", "hooks"),
        [(p.name, p.distribution or "-", p.version or "-", ", ".join(p.hooks)) for p in known.loaded],
    )
    if known.skipped:
        typer.echo()
        print_table(("skipped", "from", "why"), [(s.name, s.distribution or "-", s.why) for s in known.skipped])
    typer.echo()
    typer.echo(f"drivers: {', '.join(known.known_drivers()) or 'none'}")
    typer.echo(f"schemes: {', '.join([*SCHEMES, *known.known_schemes()])}")
