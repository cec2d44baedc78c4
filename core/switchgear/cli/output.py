"""What goes to standard output, one line at a time: raw bytes or JSON, flushed, from any thread."""

from __future__ import annotations

import base64
import json
import queue
import sys
import threading
from typing import TYPE_CHECKING, Self

from switchgear.cli.app import silence_stdout
from switchgear.cli.visible import escaped_in_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


def write_line(line: bytes) -> None:
    """Write *line* and a line feed, and flush.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    out = sys.stdout.buffer
    out.write(line + b"\n")
    out.flush()


def as_json(facts: Mapping[str, object]) -> bytes:
    """*facts* as one line of JSON in UTF-8."""
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return escaped_in_json(text).encode("utf-8", "backslashreplace")


def payload_facts(payload: bytes) -> dict[str, object]:
    """A payload for JSON: ``payload`` when it is UTF-8, else ``payload_base64``."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode("ascii")}


class JsonLines:
    """Writes JSON lines from a thread of its own, so that a slow reader never holds up the event loop.

    When nobody reads any more the rest is dropped; *is_on* false drops everything.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._lines: queue.SimpleQueue[Mapping[str, object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="switchgear-output", daemon=True)

    def __enter__(self) -> Self:
        if self._is_on:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._is_on:
            self._lines.put(None)
            self._thread.join()

    def put(self, **facts: object) -> None:
        """Write one object, soon."""
        if self._is_on:
            self._lines.put(facts)

    def _run(self) -> None:
        is_read = True
        while (facts := self._lines.get()) is not None:
            if is_read:
                try:
                    write_line(as_json(facts))
                except OSError:
                    is_read = False
                    silence_stdout()
