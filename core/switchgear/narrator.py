"""What a transport says of itself: events to plugins, lines to the log, the last decisions in words. Logs, no other I/O."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from switchgear.report import Event

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("switchgear.manager")

LEVELS: Final[dict[str, int]] = {
    "connected": logging.INFO,
    "connection_lost": logging.WARNING,
    "flapping": logging.WARNING,
    "quarantined": logging.WARNING,
    "all_quarantined": logging.ERROR,
    "gave_up": logging.ERROR,
    "driver_restarted": logging.WARNING,
    "process_restarting": logging.WARNING,
    "process_restart_refused": logging.ERROR,
    "process_restart_failed": logging.ERROR,
    "subscription_refused": logging.WARNING,
    "message_refused": logging.WARNING,
    "message_dropped": logging.WARNING,
    "message_expired": logging.WARNING,
    "deduplication_failed": logging.ERROR,
    "outbox_recovered": logging.ERROR,
    "outbox_clock_back": logging.WARNING,
    "outbox_quarantined": logging.ERROR,
    "outbox_unwritable": logging.ERROR,
    "outbox_writable": logging.INFO,
    "endpoints_changed": logging.INFO,
}
"""Levels of the log lines; an event that is not listed is logged at debug level."""

KEPT: Final = 200
"""Decisions that `explain` remembers."""


@define(eq=False)
class Narrator:
    """Tells each event once to everybody."""

    clock: Callable[[], float]
    client_id: str
    on_event: Callable[[Event], None]
    _told: list[Event] = field(factory=list)
    _outage_began: float | None = None
    _next_line: float = 0.0

    def emit(self, name: str, /, **facts: Any) -> None:
        """*name* happened; *facts* are what the reference lists for it."""
        event = Event(name, self.clock(), facts)
        if name != "state_changed":  # the decisions say it in better words
            self._told.append(event)
            if len(self._told) >= 2 * KEPT:
                del self._told[:-KEPT]
        level = self._level(event)
        if log.isEnabledFor(level):
            log.log(level, "switchgear.%s", name, extra={"client_id": self.client_id, **_fields(facts)})
        self.on_event(event)

    def _level(self, event: Event) -> int:
        """An outage makes a bounded number of lines: one ``reconnect_scheduled`` for each doubling of it."""
        if event.name == "reconnect_scheduled":
            if self._outage_began is None:
                self._outage_began = event.at
                self._next_line = event.at
            if event.at >= self._next_line:
                self._next_line = event.at + max(1.0, event.at - self._outage_began)
                return logging.WARNING
        elif event.name == "connected":
            self._outage_began = None
        return LEVELS.get(event.name, logging.DEBUG)

    def explain(self) -> str:
        """The last decisions in words, oldest first, one a line, with seconds before now."""
        now = self.clock()
        return "\n".join(f"{event.at - now:+10.3f} s  {event}" for event in self._told[-KEPT:])


_RESERVED: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime"}


def _fields(facts: dict[str, Any]) -> dict[str, Any]:
    """*facts* as fields of a log record, whose own names must not be used."""
    return {f"{name}_" if name in _RESERVED else name: value for name, value in facts.items()}
