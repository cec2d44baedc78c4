"""``switchgear pub``: publish from the command line, a file or standard input, and wait for every acknowledgement."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path  # noqa: TC003 - Typer needs it when it reads the annotations
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from attrs import define, evolve, field

import switchgear
from switchgear.cli.app import INTERRUPTED, OK, UNDELIVERED, complain, exit_code
from switchgear.cli.interrupts import Interrupts
from switchgear.cli.notes import Notes
from switchgear.cli.options import Connection, connecting
from switchgear.cli.output import JsonLines
from switchgear.errors import MessageError, SwitchgearError, UnreadableFile
from switchgear.message import check_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.delivery import Delivery

EPILOG = """
WHERE is a URI (mqtt, mqtts, ws, wss, tcp, ssl, or a scheme that a plugin owns, such as failover); with --endpoint or
--profile it is left out. Without MESSAGE and --file each line of standard input is one message.

Ctrl-C stops reading and waits for acknowledgements up to --drain-timeout seconds; a second one quits at once.

Exit codes: 0 every message was acknowledged, 1 some were not delivered, 2 wrong usage or configuration,
3 no connection and no hope of one, 130 interrupted with messages left.

Example: switchgear pub mqtt://broker.example orders/1 hello
"""


@define
class Tally:
    """Counts what happens to the messages; called from the main thread and from the event loop's."""

    lines: JsonLines
    accepted: int = 0
    refused: int = 0
    """Messages that ``publish`` did not take."""
    failed: int = 0
    """These, and those that ended otherwise than acknowledged."""
    first_error: BaseException | None = None
    is_closed: bool = False
    """From when on nothing is counted."""
    pending: dict[Delivery, int] = field(factory=dict)
    _acknowledged: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def accept(self, delivery: Delivery) -> None:
        """`publish` took a message."""
        self.accepted += 1
        number = self.accepted
        self.pending[delivery] = number
        size = len(delivery.payload)
        self.lines.put(event="accepted", number=number, topic=delivery.topic, qos=delivery.qos, bytes=size)
        delivery.add_done_callback(self._done)

    def refuse(self, error: MessageError) -> None:
        """`publish` did not take a message."""
        with self._lock:
            self.refused += 1
            self.failed += 1
            self.first_error = self.first_error or error
        self.lines.put(event="failed", error=str(error))

    def _done(self, delivery: Delivery) -> None:
        with self._lock:
            if self.is_closed:
                return
            number = self.pending.pop(delivery)
            if delivery.error is None:
                self._acknowledged += 1
                self.lines.put(event="acknowledged", number=number)
                return
            self.failed += 1
            self.first_error = self.first_error or delivery.error
            self.lines.put(event="failed", number=number, error=str(delivery.error))

    @property
    def given(self) -> int:
        """Messages that were read from the source."""
        return self.accepted + self.refused

    @property
    def left(self) -> int:
        """Messages that have not ended."""
        return len(self.pending)

    @property
    def acknowledged(self) -> int:
        """Messages that a broker has."""
        return self._acknowledged

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.accepted} accepted, {self.acknowledged} acknowledged{failed}, {self.left} waiting"


@connecting
def pub(
    connection: Connection,
    where: Annotated[str | None, typer.Argument(metavar="WHERE", help="URI to connect to.", show_default=False)] = None,
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Topic to publish to.", show_default=False)
    ] = None,
    message: Annotated[str | None, typer.Argument(metavar="MESSAGE", help="The payload.", show_default=False)] = None,
    *,
    qos: Annotated[int, typer.Option("--qos", help="0, 1 or 2.", min=0, max=2)] = 1,
    retain: Annotated[bool, typer.Option("--retain", help="Make it the retained message of its topic.")] = False,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Send this file as one message; - is standard input.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", "-l", help="With --file: send each line as a message.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write a JSON object for every step to stdout.")] = False,
    drain_timeout: Annotated[
        float, typer.Option("--drain-timeout", help="Seconds to wait for acknowledgements after Ctrl-C.", min=0)
    ] = 5.0,
) -> int:
    """Publish messages and wait until a broker has acknowledged every one of them."""
    profile, rest = connection.profile([given for given in (where, topic, message) if given is not None])
    if not 1 <= len(rest) <= 2:
        raise typer.BadParameter("give WHERE, a TOPIC and at most one MESSAGE (no WHERE with --endpoint or --profile)")
    topic, message = rest[0], rest[1] if len(rest) == 2 else None
    if message is not None and (file is not None or lines):
        raise typer.BadParameter("give a MESSAGE, or --file, or --lines, not two of them")
    check_topic(topic)
    source = open_source(message, file, lines=lines)
    notes = Notes(everything=connection.shows_events, quiet=connection.is_quiet)
    profile = evolve(profile, on_event=notes)
    shows_progress = sys.stderr.isatty() and not json and not (message is None and sys.stdin.isatty())
    with JsonLines(is_on=json) as out, Interrupts() as interrupts:
        tally = Tally(out)
        error: SwitchgearError | None = None
        with switchgear.connect(profile) as transport:
            try:
                with progress(tally, transport, notes) if shows_progress else nullcontext():
                    for payload in source:
                        send(tally, transport, topic, payload, qos=qos, retain=retain)
                    transport.drain()
            except KeyboardInterrupt:
                error = drain(transport, tally, drain_timeout)
            except SwitchgearError as ended:
                error = ended
            tally.is_closed = True  # what ends now was ended by closing
            transport.close()
        code = INTERRUPTED if interrupts.count else UNDELIVERED
        return conclude(tally, profile.outbox, code if error is None else exit_code(error), error)


def drain(transport: switchgear.Transport, tally: Tally, timeout: float) -> SwitchgearError | None:
    """After Ctrl-C, wait for acknowledgements up to *timeout* seconds; why that is hopeless, or None."""
    if tally.left:
        complain(f"interrupted; waiting up to {timeout:g} s for {tally.left} acknowledgement(s)")
    try:
        transport.drain(timeout)
    except TimeoutError:
        return None
    except SwitchgearError as error:
        return error
    return None


def send(tally: Tally, transport: switchgear.Transport, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
    """Publish one message; one that cannot be accepted counts as failed."""
    try:
        delivery = transport.publish(topic, payload, qos=qos, retain=retain)
    except MessageError as error:
        tally.refuse(error)
    else:
        tally.accept(delivery)


def conclude(tally: Tally, outbox: str | None, code_when_left: int, error: SwitchgearError | None) -> int:
    """Say what is left or failed and why, and return the exit code."""
    facts = {"accepted": tally.accepted, "acknowledged": tally.acknowledged, "failed": tally.failed, "left": tally.left}
    tally.lines.put(event="summary", **facts)
    if error is not None:
        complain(error)
    if tally.left:
        kept = f"they stay in {outbox} and go out next time" if outbox else "they are gone; --outbox FILE keeps them"
        complain(f"{tally.left} of {tally.given} message(s) were not acknowledged: {kept}")
    if tally.failed:
        complain(f"{tally.failed} of {tally.given} message(s) were not delivered; the first: {tally.first_error}")
    if tally.left or error is not None:
        return code_when_left
    return UNDELIVERED if tally.failed else OK


def open_source(message: str | None, file: Path | None, *, lines: bool) -> Iterator[bytes]:
    """The payloads to send, opened now and read while they are sent.

    Raises:
        UnreadableFile: *file* cannot be opened.
    """
    if message is not None:
        return iter([os.fsencode(message)])
    if file is None or (str(file) == "-" and lines):
        return _lines(sys.stdin.buffer)
    try:
        if str(file) == "-":
            return iter([sys.stdin.buffer.read()])
        return _lines(file.open("rb")) if lines else iter([file.read_bytes()])
    except OSError as error:
        raise UnreadableFile(str(file), "message file", error.strerror or str(error)) from None


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of *stream* without their line feeds.

    Raises:
        UnreadableFile: reading failed half-way.
    """
    try:
        with stream:
            for line in stream:
                yield line.removesuffix(b"\n")
    except OSError as error:
        raise UnreadableFile(str(stream.name), "message file", error.strerror or str(error)) from None


@contextmanager
def progress(tally: Tally, transport: switchgear.Transport, notes: Notes) -> Iterator[None]:
    """Show on standard error, a terminal, how far we are; what the notes says appears above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)

    def line() -> Text:
        return Text(f"{tally} - {transport.state.value} {transport.endpoint or ''}", style="dim", overflow="ellipsis")

    notes.write = lambda text: console.print(Text(f"switchgear: {text}"))
    with Live(get_renderable=line, console=console, refresh_per_second=5, transient=True):
        yield
