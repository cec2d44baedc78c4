"""One worker, as the runner sees it: a process that is started, killed, restarted and told things. Touches processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from switchgear_chaos.journal import CLOCK, Reader


class Worker:
    """A process of the module *module*, with the journal ``NAME.journal`` in *folder*, over all its lives."""

    def __init__(self, name: str, module: str, folder: Path, options: dict[str, Any]) -> None:
        self.name = name
        self.journal = folder / f"{name}.journal"
        self.wrong = 0.0
        """Seconds by which its machine's wall clock is wrong."""
        self._output = folder / f"{name}.out"
        self._command = [
            sys.executable,
            "-m",
            f"switchgear_chaos.{module}",
            json.dumps({**options, "journal": str(self.journal)}),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.is_wanted = False
        self._reader = Reader(self.journal)
        self._noted: Counter[str] = Counter()
        self._at_start: Counter[str] = Counter()

    @property
    def is_dead(self) -> bool:
        """Whether it has ended although nobody ended it."""
        return self.is_wanted and self._process is not None and self._process.poll() is not None

    @property
    def said(self) -> str:
        """The end of what it printed."""
        return self._output.read_text(encoding="utf-8", errors="replace")[-2000:].strip()

    def start(self) -> None:
        """Start it, or start it again."""
        self._at_start = self.noted.copy()
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, CLOCK: repr(self.wrong), "PYTHONPATH": path},
                start_new_session=True,
            )
        self.is_wanted = True

    @property
    def noted(self) -> Counter[str]:
        """What it has written down so far, over all its lives: how often each first word, or event."""
        for words in self._reader:
            self._noted[words[2] if words[0] == "event" else words[0]] += 1
        return self._noted

    @property
    def is_at_work(self) -> bool:
        """Whether it lives, and has stored or handled a message in this life."""
        done = self.noted - self._at_start
        is_alive = self._process is not None and self._process.poll() is None
        return is_alive and done["stored"] + done["handled"] > 0

    def kill(self) -> bool:
        """End it with SIGKILL; whether it was there."""
        self.is_wanted = False
        was_there = False
        if self._process is not None:
            was_there = self._process.poll() is None
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
        return was_there

    def tell(self, *words: object) -> None:
        """Send it a command; one that is not there hears nothing."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                process.stdin.write((" ".join(map(str, words)) + "\n").encode())
                process.stdin.flush()

    def jump(self, seconds: float) -> None:
        """Set its clock further by *seconds*, now and for its later lives."""
        self.wrong += seconds
        self.tell("clock", seconds)

    def stop(self, timeout: float, how: str = "stop") -> bool:
        """Tell it to end, by the command *how*; whether it did within *timeout* seconds, and with success."""
        self.is_wanted = False
        if self._process is None:
            return True
        self.tell(how)
        try:
            return self._process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.kill()
