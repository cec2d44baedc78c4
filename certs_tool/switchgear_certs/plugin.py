"""The plugin for Switchgear: ``switchgear certs``. Needs neither Switchgear nor pluggy to be imported.

pluggy finds an implementation by the attribute that ``HookimplMarker("switchgear")`` sets; it is set here by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def register_commands(app: typer.Typer) -> None:
    """Add ``certs`` to Switchgear's command line. Since: 0.1."""
    from switchgear_certs.cli import build

    app.add_typer(build(), name="certs")


register_commands.switchgear_impl = {  # type: ignore[attr-defined]  # what pluggy's marker does, pluggy.HookimplOpts
    "wrapper": False,
    "hookwrapper": False,
    "optionalhook": False,
    "tryfirst": False,
    "trylast": False,
    "specname": None,
}
