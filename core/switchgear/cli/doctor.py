"""``switchgear doctor``: look at every layer between here and the brokers, and say what is wrong and what to do."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import evolve

from switchgear import checks
from switchgear.cli.app import CONNECTION, OK, UNDELIVERED, USAGE
from switchgear.cli.options import Connection, connecting
from switchgear.cli.output import as_json, write_line
from switchgear.cli.screen import is_wide_terminal
from switchgear.cli.visible import visible
from switchgear.doctor import Asker, Finding, Report, Verdict, Wishes, examine
from switchgear.doctor.asking import parse_server
from switchgear.doctor.finding import failed
from switchgear.errors import ConfigurationError, PluginError
from switchgear.message import check_topic
from switchgear.plugins import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EPILOG = """
Every endpoint is looked at, side by side: its name (the operating system's answer, the CNAME chain with its TTLs, and whether
the zone's own name servers agree), TCP to each address, TLS (trust, name, dates, serverAuth), MQTT CONNECT, and a message
there and back. A check that fails skips those that need it. A standby that refuses while another serves is a warning.

It connects under a client id of its own, so that the client that runs is not disconnected, and publishes to a random topic
of its own. DNS and certificates are looked into with the libraries of switchgear[doctor].

Exit codes: 0 nothing failed (there may be warnings), 1 something failed, but a broker accepts MQTT, 2 wrong usage, profile
or plugins, 3 no broker accepts MQTT, 130 interrupted.

Example: switchgear doctor mqtts://broker.example --ca-file ca.pem
"""

_STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIP: "dim"}


@connecting
def doctor(
    connection: Connection,
    where: Annotated[str | None, typer.Argument(metavar="WHERE", help="URI to look at.", show_default=False)] = None,
    *,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            help="Seconds for each step; default: the profile's connect_timeout.",
            min=0.1,
            max=600,
            show_default=False,
        ),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option("--topic", help="Topic for the round trip; default: a random one.", show_default=False),
    ] = None,
    no_round_trip: Annotated[bool, typer.Option("--no-round-trip", help="Publish and subscribe to nothing.")] = False,
    probe_client_id: Annotated[
        str | None,
        typer.Option("--probe-client-id", metavar="ID", help="Connect under this client id.", show_default=False),
    ] = None,
    dns_server: Annotated[
        list[str] | None,
        typer.Option(
            "--dns-server",
            metavar="ADDRESS[:PORT]",
            help="Ask this name server, not those of the zone; may be repeated.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> int:
    """Say what is wrong between here and the brokers, layer by layer, and what to do about it."""
    servers = tuple(parse_server(each) for each in dns_server or ())
    if probe_client_id is not None:
        checks.check_utf8("probe-client-id", probe_client_id)
    if topic is not None:
        check_topic(topic)
        if no_round_trip:
            raise typer.BadParameter("give --topic or --no-round-trip, not both")
    shows_progress = sys.stderr.isatty() and not json and not connection.is_quiet
    try:
        profile, rest = connection.profile([where] if where is not None else [])
        if rest:
            raise typer.BadParameter(f"{rest[0]!r}: WHERE is left out with --endpoint or --profile")
        step = timeout if timeout is not None else profile.connect_timeout
        wishes = Wishes(
            timeout=step,
            topic=topic,
            does_round_trip=not no_round_trip,
            client_id=probe_client_id,
            asker=Asker(servers=servers, timeout=step),
        )
        with progress(is_on=shows_progress) as tell:
            report = asyncio.run(examine(evolve(profile, on_event=None), registry(), wishes, tell))
    except (ConfigurationError, PluginError) as error:
        report = Report((failed("profile", str(error), "correct the profile or the options"),))
    code = exit_code(report)
    if json:
        write_line(as_json(facts(report, code)))
    elif is_wide_terminal():
        show(report)
    else:
        for finding in report.findings:
            typer.echo(line(finding))
        typer.echo(summary(report))
    return code


def exit_code(report: Report) -> int:
    """The exit code that *report* means."""
    if not report.is_configured:
        return USAGE
    if report.verdict is not Verdict.FAIL:
        return OK
    return UNDELIVERED if report.is_usable else CONNECTION


def facts(report: Report, code: int) -> dict[str, object]:
    """*report* for JSON."""
    findings = [
        {
            "endpoint": finding.endpoint or None,
            "check": finding.check,
            "verdict": finding.verdict.value,
            "found": finding.found,
            "way_out": finding.way_out or None,
            "facts": dict(finding.facts),
        }
        for finding in report.findings
    ]
    return {"verdict": report.verdict.value, "exit_code": code, "findings": findings}


def line(finding: Finding) -> str:
    """*finding* as one line of plain text: fields are separated by two spaces, nothing is cut."""
    where = f"{finding.endpoint}  " if finding.endpoint else ""
    way_out = f" -> {finding.way_out}" if finding.way_out else ""
    return visible(f"{finding.verdict.value}  {where}{finding.title}  {' '.join(finding.found.split())}{way_out}")


def summary(report: Report) -> str:
    """The last line."""
    counts = [(report.count(verdict), verdict.value) for verdict in Verdict]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def show(report: Report) -> None:
    """*report* for people: a table, endpoint by endpoint, with the way out below what was found."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for endpoint, findings in by_endpoint(report.findings):
        if endpoint:
            table.add_row("", "")
            table.add_row("", "", Text(visible(endpoint), style="bold"))
        for finding in findings:
            said = Text(visible(" ".join(finding.found.split())))
            if finding.way_out:
                said.append(f"\n-> {visible(finding.way_out)}", style=_STYLES[finding.verdict])
            table.add_row(Text(finding.verdict.value, style=_STYLES[finding.verdict]), finding.title, said)
        if endpoint:
            table.add_row("", "")
    console = Console()
    console.print(table)
    console.print(Text(summary(report), style=_STYLES[report.verdict]))


def by_endpoint(findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Findings that follow each other and are about the same endpoint, together."""
    together: list[Finding] = []
    for finding in findings:
        if together and together[0].endpoint != finding.endpoint:
            yield together[0].endpoint, together
            together = []
        together.append(finding)
    if together:
        yield together[0].endpoint, together


@contextmanager
def progress(*, is_on: bool) -> Iterator[Callable[[str], object]]:
    """Shows what is being looked at, on standard error."""
    if not is_on:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(visible(text), style="dim"))
