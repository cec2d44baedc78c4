"""The hooks of this plugin, and its options."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from attrs import define, evolve
from switchgear.endpoint import scheme_of
from switchgear.errors import ConfigurationError, InvalidOption
from switchgear.hookspecs import hookimpl

from switchgear_activemq.failover import plan
from switchgear_activemq.update import read_list
from switchgear_activemq.uri import read

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer
    from switchgear.endpoint import Group

    from switchgear_activemq.uri import Note, Reading

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
    made = plan(_updated(read(where)), checks_topics=topics == "safe")
    _warn(where, made.notes)
    return [made.group]


@define
class _Elsewhere:
    """What is known of the list that one URI names elsewhere.

    Attributes:
        components: The last list that could be used; None: none could yet.
        trouble: Why it could not be used the last time, as it was logged; empty: it could.
    """

    components: tuple[str, ...] | None = None
    trouble: str = ""


_elsewhere: Final[dict[str, _Elsewhere]] = {}


def _updated(reading: Reading) -> Reading:
    """*reading* with the list that its ``updateURIsURL`` names, as ActiveMQ does before each sweep.

    While that cannot be read, is empty or wrong, the last one that could be used stays in force, and until there is
    one the written list: a broken web server must not take the brokers with it. Each trouble is logged once.
    """
    where = reading.options["updateURIsURL"]
    if not isinstance(where, str) or not where:
        return reading
    known = _elsewhere.setdefault(reading.uri, _Elsewhere())
    try:
        listed = tuple(read_list(where))
        if listed:
            plan(evolve(reading, components=listed))  # refused as a whole when one of them is wrong
            known.components, known.trouble = listed, ""
    except ConfigurationError as error:
        if str(error) != known.trouble:  # it is read before each sweep, and an outage has many
            known.trouble = str(error)
            logger.warning("switchgear.activemq.list_not_used", extra={"why": known.trouble})
    return reading if known.components is None else evolve(reading, components=known.components)


_warned: Final[set[tuple[str, Note]]] = set()


def _warn(where: str, notes: tuple[Note, ...]) -> None:
    """Log each of *notes* once for each URI: a list that changes is read again and again."""
    for note in notes:
        if (where, note) in _warned or len(_warned) > 10_000:
            continue
        _warned.add((where, note))
        if note.is_option:
            logger.warning("switchgear.activemq.option_ignored", extra={"option": note.part, "why": note.why})
        else:
            logger.warning("switchgear.activemq.uri_adjusted", extra={"part": note.part, "why": note.why})


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add the commands of ``activemq``. Since: 0.1."""
    from switchgear_activemq.commands import app as commands

    app.add_typer(commands, name="activemq")
