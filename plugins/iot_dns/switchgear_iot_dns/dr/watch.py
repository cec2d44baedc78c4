"""``switchgear dr watch``: lifecycle events of a region, collected through a Switchgear transport into a file."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path  # noqa: TC003 - Typer needs it when it reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import switchgear
import typer
from attrs import evolve
from switchgear.cli.app import OK, UNDELIVERED, complain
from switchgear.cli.interrupts import Interrupts
from switchgear.cli.notes import Notes
from switchgear.cli.options import Connection, connecting

from switchgear_iot_dns.dr.client_ids import presence_line
from switchgear_iot_dns.dr.errors import InvalidPlanFile
from switchgear_iot_dns.dr.settings import is_region

if TYPE_CHECKING:
    from switchgear.message import Message

FILTERS: Final = ("$aws/events/presence/connected/+", "$aws/events/presence/disconnected/+")
"""Topics of lifecycle events; there are none for client ids with # or + (developer guide, "Lifecycle events")."""

TICK: Final = 1.0


class Collector:
    """Appends events to a file, each with one write, so that several processes may share it."""

    def __init__(self, region: str, out: Path) -> None:
        self._region = region
        try:
            self._file = out.open("ab", buffering=0)
        except OSError as error:
            raise InvalidPlanFile(str(out), "", error.strerror or str(error)) from error
        self.written = 0
        self.failed = threading.Event()

    def __call__(self, message: Message) -> None:
        """Write one event; what is none is left out."""
        try:
            event = json.loads(message.payload)
        except ValueError:
            return
        line = presence_line(self._region, event) if isinstance(event, dict) else None
        if line is None:
            return
        try:
            self._file.write(line.encode() + b"\n")
        except OSError as error:
            complain(f"{self._file.name}: {error.strerror or error}")
            self.failed.set()
            return
        self.written += 1
        message.ack()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@connecting
def watch(
    connection: Connection,
    region: Annotated[str, typer.Argument(help="The region whose events come.", metavar="REGION")],
    where: Annotated[str | None, typer.Argument(help="URI to connect to.", metavar="WHERE", show_default=False)] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The presence file; it grows.", metavar="FILE")],
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="End after so long; default: never.", min=0)
    ] = None,
) -> int:
    """Collect who connects and disconnects in a region, for the client source presence."""
    if not is_region(region):
        raise typer.BadParameter(f"{region!r} is no region such as us-east-1")
    profile, rest = connection.profile([where] if where is not None else [])
    if rest:
        raise typer.BadParameter("give WHERE or --profile, not both")
    notes = Notes(everything=connection.shows_events, quiet=connection.is_quiet)
    collector = Collector(region, out)
    stop = threading.Event()
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        with Interrupts(stop.set), switchgear.connect(evolve(profile, on_event=notes)) as transport:
            for topic in FILTERS:
                transport.subscribe(topic, collector, qos=1, ack="manual")
            while not stop.is_set() and not collector.failed.is_set():
                if transport.state is switchgear.State.GAVE_UP:
                    transport.wait_connected(TICK)  # it raises at once
                left = TICK if deadline is None else min(TICK, deadline - time.monotonic())
                if left <= 0:
                    break
                stop.wait(left)
                _show(collector)
    finally:
        collector.close()
    return UNDELIVERED if collector.failed.is_set() else OK


def _show(collector: Collector) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{collector.written} events")
        sys.stderr.flush()
