"""What both processes under test have: ears for commands, and eyes for errors of ours. Touches stdin and the log."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switchgear_chaos.journal import Journal


class InternalErrors(logging.Handler):
    """Writes what only a bug of ours logs, an exception nobody expected, into the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.ERROR)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.getMessage() != "switchgear.handler_failed":
            self._journal.write("internal", record.getMessage(), repr(record.exc_info[1]).replace("\n", " "))


def commands() -> deque[str]:
    """What is read from stdin, by a thread that ends the process with it."""
    heard: deque[str] = deque()

    def listen() -> None:
        for line in sys.stdin:
            heard.append(line.strip())
        os._exit(3)

    threading.Thread(target=listen, name="commands", daemon=True).start()
    return heard
