"""``switchgear dr watch``: lifecycle events of a region, collected through a Switchgear transport into a file."""

from __future__ import annotations

import errno
import json
import os
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

from switchgear_iot_dns.dr.client_ids import from_presence, presence_line
from switchgear_iot_dns.dr.errors import InvalidClientId, InvalidPlanFile
from switchgear_iot_dns.dr.settings import is_region

if TYPE_CHECKING:
    from switchgear.message import Message

FILTERS: Final = ("$aws/events/presence/connected/+", "$aws/events/presence/disconnected/+")
"""Topics of lifecycle events; there are none for client ids with # or + (developer guide, "Lifecycle events")."""

TICK: Final = 1.0

_LONGEST: Final = 4096
"""Bytes that no line of a presence file has: a client id has at most 128 characters."""


class Collector:
    """Appends events to a file, each with one write, so that several processes may share it."""

    def __init__(self, region: str, out: Path) -> None:
        """Open *out*, made if it is missing, and cut a torn last line off: what comes behind it could not be read.

        Raises:
            InvalidPlanFile: it cannot be written, or holds something else than events.
        """
        self._region = region
        try:
            if out.is_file():
                torn = _torn(out)
                if torn is not None:
                    os.truncate(out, torn)
            self._file = out.open("ab", buffering=0)
        except InvalidClientId as error:
            raise InvalidPlanFile(str(out), "", f"{error}; choose another --out") from error
        except OSError as error:
            raise InvalidPlanFile(str(out), "", error.strerror or str(error)) from error
        self.written = 0
        self.failed = threading.Event()

    def __call__(self, message: Message) -> None:
        """Write one event; what is none is left out."""
        try:
            event = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        line = presence_line(self._region, event) if isinstance(event, dict) else None
        if line is None:
            return
        data = line.encode() + b"\n"
        try:
            why = None if self._file.write(data) == len(data) else os.strerror(errno.ENOSPC)
        except OSError as error:
            why = error.strerror or str(error)
        if why is not None:
            complain(f"{self._file.name}: {why}")
            self.failed.set()
            return
        self.written += 1
        message.ack()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _torn(out: Path) -> int | None:
    """How many bytes of the presence file *out* are whole lines, where its last one is torn; None where none is.

    Raises:
        InvalidClientId: its first line is no event, so that it is another file.
    """
    with out.open("rb") as file:
        first = file.readline(_LONGEST)
        if first.endswith(b"\n"):
            from_presence(f"{first.decode(errors='replace')}\n", str(out))
        elif len(first) == _LONGEST or first[:1] not in {b"", b"{"}:
            raise InvalidClientId(first[:80].decode(errors="replace"), f"{out}, line 1", "is no line of `dr watch`")
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - _LONGEST))
        tail = file.read()
    return None if not tail or tail.endswith(b"\n") else start + tail.rfind(b"\n") + 1


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
