from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from switchgear.cli.app import complain
from switchgear.cli.doctor import line, show
from switchgear.cli.notes import Notes
from switchgear.cli.output import as_json
from switchgear.cli.screen import print_table
from switchgear.cli.visible import visible, visible_payload
from switchgear.doctor import Report
from switchgear.doctor.finding import failed
from switchgear.report import Event

if TYPE_CHECKING:
    import pytest

EVIL = "a\x1b]0;owned\x07b\x9b31mc\u202ed"
SHOWN = r"a\x1b]0;owned\x07b\x9b31mc\u202ed"


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    """What controls a terminal is written out; every other character stays as it is."""
    shown = visible(text)
    assert not any(unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"} for each in shown)
    if text.isprintable():
        assert shown == text


@given(st.binary())
def test_payloads_on_a_terminal(payload: bytes) -> None:
    """A payload of any bytes becomes a text with lines and tabs, and no other control characters."""
    text = visible_payload(payload).decode()
    assert not any(unicodedata.category(each) == "Cc" and each not in "\n\t" for each in text)


def test_words_from_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors, notes, tables and the doctor's lines show what others wrote, and hand none of it to the terminal."""
    complain(EVIL)
    Notes(everything=True)(Event("attempt_failed", 0.0, {"detail": EVIL}))
    print_table(("name",), [(EVIL,)])
    finding = failed("tcp", EVIL, EVIL)
    show(Report((finding,)))
    print(line(finding))
    written = "".join(capsys.readouterr())
    assert not any(each in written for each in "\x1b\x07\x9b\u202e")
    assert written.replace("\n", "").replace(" ", "").count(SHOWN) == 7


@given(st.text())
def test_json_means_the_same(text: str) -> None:
    """JSON holds no control character, not even one that JSON allows, and gives the same text back."""
    written = as_json({"a": text})
    assert not any(unicodedata.category(each) == "Cc" for each in written.decode())
    assert json.loads(written)["a"] == text
