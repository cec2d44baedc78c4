"""The hooks of this plugin, and its options."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from switchgear.endpoint import scheme_of
from switchgear.errors import InvalidOption
from switchgear.hookspecs import hookimpl

from switchgear_activemq.failover import plan
from switchgear_activemq.uri import read

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer
    from switchgear.endpoint import Group

OPTIONS: Final = ("topics",)
TOPICS: Final = ("any", "safe")

logger = logging.getLogger("switchgear.plugins.activemq")


@hookimpl
def provide_endpoints(where: str, options: Mapping[str, object]) -> list[Group] | None:
    """The group behind a ``failover:`` URI; None for any other.

    Options: ``topics``, ``"safe"`` (topics that ActiveMQ would change are refused) or ``"any"``.
    Each option of the URI that changes nothing is one warning in the log.

    Raises:
        InvalidURI: the URI is wrong; see `switchgear_activemq.read`.
        InvalidOption: an option of the URI, or of the plugin, is wrong.

    Since: 0.1.
    """
    if scheme_of(where) != "failover":
        return None
    for name in options:
        if name not in OPTIONS:
            raise InvalidOption(name, "the plugin activemq has no such option", valid=OPTIONS)
    topics = options.get("topics", "safe")
    if topics not in TOPICS:
        raise InvalidOption("topics", f"{topics!r} is none of its values", valid=TOPICS)
    made = plan(read(where), checks_topics=topics == "safe")
    for note in made.notes:
        if note.is_option:
            logger.warning("switchgear.activemq.option_ignored", extra={"option": note.part, "why": note.why})
        else:
            logger.warning("switchgear.activemq.uri_adjusted", extra={"part": note.part, "why": note.why})
    return [made.group]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add ``activemq explain``. Since: 0.1."""
    from switchgear_activemq.commands import app as commands

    app.add_typer(commands, name="activemq")
