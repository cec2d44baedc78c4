"""``switchgear sub``: write what arrives to standard output, a message a line."""

from __future__ import annotations

import base64
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import asdict, define, evolve, field

import switchgear
from switchgear.cli.app import INTERRUPTED, OK, UNDELIVERED, complain, silence_stdout
from switchgear.cli.interrupts import Interrupts
from switchgear.cli.notes import Notes
from switchgear.cli.options import Connection, connecting
from switchgear.cli.output import as_json, payload_facts, write_line
from switchgear.cli.visible import visible, visible_payload
from switchgear.message import check_filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.message import Message, Properties

EPILOG = """
WHERE is a URI (mqtt, mqtts, ws, wss, tcp, ssl, or a scheme that a plugin owns, such as failover); with --endpoint or
--profile it is left out. Payloads are written as they are, each followed by a line feed; on a terminal, which they could
control, control characters are shown, an escape as \\x1b.

A message is acknowledged after it was written, so none is lost when the reader goes away. With --client-id the broker
keeps what arrives meanwhile.

Exit codes: 0 all that was asked for arrived, the reader closed the pipe, the time was over (without --count), or
Ctrl-C (without --count); 1 fewer than --count messages arrived in time, or they could not be written; 2 wrong usage or configuration;
3 no connection and no hope of one; 130 interrupted before --count messages arrived.

Example: switchgear sub mqtt://broker.example 'orders/#' --topics
"""

TICK = 0.2
"""Seconds between two looks at the connection, the clock and the pipe."""


@define(eq=False)
class Printer:
    """Writes messages, one at a time from any thread, and acknowledges each that was written.

    Once it is finished it neither writes nor acknowledges: the broker keeps what comes too late.
    """

    count: int | None
    line: Callable[[Message], bytes]
    written: int = 0
    has_failed: bool = False
    finished: threading.Event = field(factory=threading.Event)
    _lock: threading.Lock = field(factory=threading.Lock)

    def __call__(self, message: Message) -> None:
        """Write *message*."""
        with self._lock:
            if self.finished.is_set():
                return
            try:
                write_line(self.line(message))
            except OSError as error:
                if not isinstance(error, BrokenPipeError):
                    self.has_failed = True
                    complain(f"cannot write to standard output: {error.strerror or error}")
                silence_stdout()
                self.finished.set()
                return
            self.written += 1
            message.ack()
            if self.written == self.count:
                self.finished.set()

    @property
    def is_short(self) -> bool:
        """Whether fewer messages were written than were asked for."""
        return self.count is not None and self.written < self.count


@connecting
def sub(
    connection: Connection,
    where: Annotated[str | None, typer.Argument(metavar="WHERE", help="URI to connect to.", show_default=False)] = None,
    filters: Annotated[
        list[str] | None, typer.Argument(metavar="FILTER", help="Topic filters.", show_default=False)
    ] = None,
    *,
    qos: Annotated[int, typer.Option("--qos", help="0, 1 or 2: the highest to be delivered with.", min=0, max=2)] = 1,
    count: Annotated[int | None, typer.Option("--count", "-n", help="End after so many messages.", min=1)] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", "-t", help="End after so many seconds.", min=0)] = None,
    json: Annotated[bool, typer.Option("--json", help="Write each message as a JSON object.")] = False,
    topics: Annotated[bool, typer.Option("--topics", "-v", help="Write the topic before each payload.")] = False,
) -> int:
    """Subscribe, and write what arrives to standard output, a message a line."""
    profile, filters = connection.profile([*([where] if where is not None else []), *(filters or [])])
    if not filters:
        raise typer.BadParameter("give WHERE and at least one FILTER (no WHERE with --endpoint or --profile)")
    for topic_filter in filters:
        check_filter(topic_filter)
    notes = Notes(everything=connection.shows_events, quiet=connection.is_quiet)
    printer = Printer(count, line_maker(json=json, topics=topics, for_people=sys.stdout.isatty()))
    deadline = None if timeout is None else time.monotonic() + timeout
    with Interrupts(printer.finished.set) as interrupts:
        with switchgear.connect(evolve(profile, on_event=notes)) as transport:
            for topic_filter in dict.fromkeys(filters):
                transport.subscribe(topic_filter, printer, qos=qos, ack="manual")
            is_in_time = wait(printer, transport, deadline)
            transport.close()
        if printer.has_failed:
            return UNDELIVERED
        if interrupts.count:
            return INTERRUPTED if printer.is_short else OK
    if not is_in_time and printer.is_short:
        complain(f"{printer.written} of {printer.count} message(s) arrived in {timeout:g} s")
        return UNDELIVERED
    return OK


def wait(printer: Printer, transport: switchgear.Transport, deadline: float | None) -> bool:
    """Wait until the printer is finished or the pipe is closed (True), or until the time is over (False).

    Raises:
        GaveUp: the transport has stopped trying.
    """
    while not printer.finished.is_set():
        left = TICK if deadline is None else min(TICK, deadline - time.monotonic())
        if left <= 0:
            return False
        if printer.finished.wait(left) or reader_is_gone():
            break
        if transport.state is switchgear.State.GAVE_UP:
            transport.wait_connected(TICK)  # it raises at once
    return True


def reader_is_gone() -> bool:
    """Whether standard output is a pipe whose other end was closed."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    except (OSError, ValueError, AttributeError):  # no descriptor, or no poll() on this system
        return False


def line_maker(*, json: bool, topics: bool, for_people: bool) -> Callable[[Message], bytes]:
    """What makes the line of a message, as the user wants it; *for_people* on a terminal."""
    if json:
        return json_line
    if for_people:
        return shown_topic_line if topics else shown_line
    return topic_line if topics else payload_line


def payload_line(message: Message) -> bytes:
    """The payload as it is."""
    return message.payload


def topic_line(message: Message) -> bytes:
    """The topic, a space and the payload."""
    return message.topic.encode() + b" " + message.payload


def shown_line(message: Message) -> bytes:
    """The payload for a terminal."""
    return visible_payload(message.payload)


def shown_topic_line(message: Message) -> bytes:
    """The topic, a space and the payload, for a terminal."""
    return visible(message.topic).encode() + b" " + shown_line(message)


def json_line(message: Message) -> bytes:
    """All that is known of the message, as JSON."""
    return as_json(
        {
            "topic": message.topic,
            **payload_facts(message.payload),
            "qos": message.qos,
            "retain": message.retain,
            "duplicate": message.duplicate,
            "properties": _properties(message.properties),
        }
    )


def _properties(properties: Properties | None) -> dict[str, object]:
    """The MQTT 5 properties that the message has."""
    if properties is None:
        return {}
    facts = asdict(properties, recurse=False)
    given = {name: value for name, value in facts.items() if value is not None and value is not False and value != ()}
    if properties.correlation_data is not None:
        del given["correlation_data"]
        given["correlation_data_base64"] = base64.b64encode(properties.correlation_data).decode("ascii")
    return given
