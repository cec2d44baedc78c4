"""What a command tells people about its connection, on standard error: bounded for each outage, or everything."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from switchgear.cli.visible import visible
from switchgear.report import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.report import Event

ALWAYS: Final = frozenset(
    {
        "connection_lost",
        "flapping",
        "quarantined",
        "subscription_refused",
        "message_refused",
        "message_dropped",
        "message_expired",
        "plugin_failed",
        "outbox_recovered",
        "outbox_quarantined",
        "outbox_unwritable",
        "outbox_writable",
    }
)
"""Told whenever it happens; none of them happens more often than a reconnect, a failed message or a failing disk."""


def write_note(text: str) -> None:
    """One line on standard error."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"switchgear: {visible(text)}\n")
        sys.stderr.flush()


class Notes:
    """Hears every event and writes down some: with *everything* all, when *quiet* none.

    Of one outage it tells the loss, the first failed attempt and the return. ``write`` may be replaced while a
    moving display owns the terminal.
    """

    def __init__(self, *, everything: bool = False, quiet: bool = False) -> None:
        self.everything = everything
        self.quiet = quiet
        self.write: Callable[[str], object] = write_note
        self._told_failure = False

    def __call__(self, event: Event) -> None:
        """Hear *event*."""
        if not self.quiet and (self.everything or self._matters(event.name)):
            self.write(visible(words(event)))

    def _matters(self, name: str) -> bool:
        if name == "attempt_failed":
            was_told, self._told_failure = self._told_failure, True
            return not was_told
        if name == "connection_lost":
            self._told_failure = True
        if name == "connected":
            was_told, self._told_failure = self._told_failure, False
            return was_told
        return name in ALWAYS


def words(event: Event) -> str:
    """*event* in words; its bare facts where the words do not fit them."""
    try:
        return str(event)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        facts = ", ".join(f"{name}={value}" for name, value in event.facts.items())
        return f"{event.name if event.name in WORDS else 'event ' + event.name} {facts}"
