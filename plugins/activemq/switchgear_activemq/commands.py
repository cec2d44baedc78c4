"""The commands of this plugin, and ``switchgear activemq explain``: what a ``failover:`` URI means, option by option."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from switchgear.cli.screen import print_table, say
from switchgear.cli.visible import escaped_in_json, visible
from switchgear.errors import ConfigurationError, redact

from switchgear_activemq.amazon_mq import commands as amazon_mq
from switchgear_activemq.failover import plan
from switchgear_activemq.uri import read

if TYPE_CHECKING:
    from switchgear.endpoint import Endpoint

    from switchgear_activemq.failover import Decision, Plan
    from switchgear_activemq.uri import Note, Reading

app = typer.Typer(help="ActiveMQ and Amazon MQ: failover: URIs, permissions, a pair, a drill.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """ActiveMQ and Amazon MQ: failover: URIs, permissions, a pair, a drill."""


@app.command()
def explain(
    uri: Annotated[str, typer.Argument(help="The failover: URI; quote it for the shell.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for a program to read.")] = False,
) -> None:
    """Show how a failover: URI is read: its endpoints, and what is done with each option.

    Passwords are hidden. Exit code 0: it can be used; 2: it cannot, and standard error says why in one line.
    """
    try:
        reading = read(uri)
        made = plan(reading)
    except ConfigurationError as error:
        typer.echo(visible(" ".join(str(error).split())), err=True)  # errors hide passwords themselves
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(escaped_in_json(json.dumps(as_dict(reading, made), indent=2)))
    else:
        _print(reading, made)


amazon_mq.add(app)


def as_dict(reading: Reading, made: Plan) -> dict[str, object]:
    """What ``explain --json`` writes; passwords are hidden. Since: 0.1."""
    group = made.group
    return {
        "uri": redact(reading.uri),
        "components": [redact(component) for component in reading.components],
        "endpoints": [_endpoint(endpoint) for endpoint in group.endpoints],
        "session": group.session.value,
        "protocol": group.protocol,
        "nested": {name: redact(value) for name, value in reading.nested},
        "options": [_option(decision) for decision in made.decisions],
        "notes": [_note(note) for note in made.notes],
    }


def _endpoint(endpoint: Endpoint) -> dict[str, object]:
    return {
        "endpoint": str(endpoint),
        "priority": endpoint.priority,
        "address": endpoint.address,
        "connect_timeout_s": endpoint.connect_timeout,
        "username": endpoint.username,
    }


def _option(decision: Decision) -> dict[str, object]:
    value = decision.value
    if isinstance(value, tuple):
        value = tuple(redact(part) for part in value)
    elif isinstance(value, str):
        value = redact(value)
    return {
        "option": decision.option,
        "value": value,
        "from": "URI" if decision.is_written else "default",
        "honoured": decision.is_honoured,
        "what": decision.what,
    }


def _note(note: Note) -> dict[str, object]:
    return {"part": redact(note.part), "why": note.why}


def _print(reading: Reading, made: Plan) -> None:
    shown = as_dict(reading, made)
    say(str(shown["uri"]))
    say(f"session {shown['session']}, MQTT {shown['protocol']}; endpoints:")
    for endpoint in made.group.endpoints:
        facts = [f"priority {endpoint.priority}"]
        if endpoint.address:
            facts.append(f"dialled at {endpoint.address}")
        if endpoint.connect_timeout:
            facts.append(f"connect timeout {endpoint.connect_timeout:g} s")
        if endpoint.username is not None:
            facts.append(f"user {endpoint.username}")
        say(f"  {endpoint} ({', '.join(facts)})")
    rows = []
    above = ""
    for decision in made.decisions:
        option = _option(decision)
        what = "(as above)" if decision.what == above else decision.what
        rows.append((decision.option, json.dumps(option["value"]), str(option["from"]), what))
        above = decision.what
    print_table(("option", "value", "from", "what is done with it"), rows)
    for note in made.notes:
        say(f"note: {redact(note.part)}: {note.why}")
