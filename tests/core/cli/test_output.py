from __future__ import annotations

import base64
import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.cli.output import JsonLines, as_json, payload_facts, write_line


class Stdout:
    """A standard output that counts flushes, or that nobody reads."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self.buffer = self
        self.is_broken = is_broken
        self.written = io.BytesIO()
        self.flushed = b""

    def write(self, data: bytes) -> None:
        if self.is_broken:
            raise BrokenPipeError
        self.written.write(data)

    def flush(self) -> None:
        self.flushed = self.written.getvalue()

    def fileno(self) -> int:
        raise io.UnsupportedOperation


@given(st.binary())
def test_payloads_survive_json(payload: bytes) -> None:
    """A payload is text where it is UTF-8, else base64, and can be had back from either."""
    facts = json.loads(as_json(payload_facts(payload)))
    assert len(facts) == 1
    assert payload == (
        facts["payload"].encode() if "payload" in facts else base64.b64decode(facts["payload_base64"], validate=True)
    )


def test_json_is_one_line() -> None:
    """Line feeds and lone surrogates in values do not break the line."""
    line = as_json({"a": "x\ny", "b": "\udc80"})
    assert b"\n" not in line
    assert json.loads(line)["a"] == "x\ny"


def test_lines_are_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is flushed when it has been written."""
    out = Stdout()
    monkeypatch.setattr(sys, "stdout", out)
    write_line(b"a")
    assert out.flushed == b"a\n"


def test_json_lines_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that was put is written, in order, before the block is left."""
    out = Stdout()
    monkeypatch.setattr(sys, "stdout", out)
    with JsonLines(is_on=True) as lines:
        for i in range(1000):
            lines.put(number=i)
    assert [json.loads(line)["number"] for line in out.flushed.splitlines()] == list(range(1000))


@pytest.mark.parametrize("is_on", [True, False])
def test_json_lines_that_nobody_reads_are_dropped(monkeypatch: pytest.MonkeyPatch, *, is_on: bool) -> None:
    """A closed pipe, and being switched off, drops the lines and disturbs nobody."""
    out = Stdout(is_broken=is_on)
    monkeypatch.setattr(sys, "stdout", out)
    with JsonLines(is_on=is_on) as lines:
        lines.put(a=1)
        lines.put(a=2)
    assert out.flushed == b""
