from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.cli.notes import ALWAYS, Notes, words, write_note
from switchgear.report import WORDS, Event

if TYPE_CHECKING:
    import pytest


def heard(names: list[str], *, everything: bool = False, quiet: bool = False) -> list[str]:
    told: list[str] = []
    notes = Notes(everything=everything, quiet=quiet)
    notes.write = told.append
    for name in names:
        notes(Event(name, 0.0, {}))
    return [text.split()[0] for text in told]


OUTAGE = ["connected", "stable", "connection_lost", "attempt_started", "attempt_failed", "attempt_failed", "connected"]


def test_one_outage_is_bounded() -> None:
    """Of an outage the loss and the return are told; failed attempts are not, for the loss says enough."""
    assert heard(OUTAGE) == ["connection_lost", "connected"]


def test_start_without_broker() -> None:
    """When the broker is not there at the start, the first failure and the first connection are told."""
    assert heard(["attempt_failed", "attempt_failed", "connected", "connected"]) == ["attempt_failed", "connected"]


def test_everything_and_nothing() -> None:
    """Everything is told when it was asked for, and nothing when it is to be quiet."""
    assert heard(OUTAGE, everything=True) == OUTAGE
    assert heard(OUTAGE, everything=True, quiet=True) == []


def test_names_exist() -> None:
    """Every event that is always told is one that transports report."""
    assert set(WORDS) >= ALWAYS


def test_words() -> None:
    """An event is told in its words, and by its facts where the words do not fit them."""
    assert words(Event("state_changed", 0.0, {"was": "waiting", "state": "connected"})) == "waiting -> connected"
    assert words(Event("connected", 0.0, {"endpoint": "mqtt://h"})) == "connected endpoint=mqtt://h"
    assert words(Event("from_the_future", 0.0, {"a": 1})) == "event from_the_future a=1"


def test_what_befalls_an_outbox_is_told() -> None:
    """A file of accepted messages that was broken, or cannot be written, is no secret of --events."""
    names = ["outbox_recovered", "outbox_quarantined", "outbox_unwritable", "outbox_writable"]
    assert heard(names) == names


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """A note is one line on standard error."""
    write_note("hello")
    assert capsys.readouterr() == ("", "switchgear: hello\n")
