"""One worker, as the runner sees it: a process that is started, killed, restarted and told things. Touches processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from switchgear_chaos.journal import CLOCK, resident


class Worker:
    """A process of the module *module*, with the journal ``NAME.journal`` in *folder*, over all its lives."""

    def __init__(self, name: str, module: str, folder: Path, options: dict[str, Any]) -> None:
        self.name = name
        self.journal = folder / f"{name}.journal"
        self.wrong = 0.0
        """Seconds by which its machine's wall clock is wrong."""
        self.peak = 0
        """Bytes of memory, the most that was seen."""
        self._output = folder / f"{name}.out"
        self._command = [
            sys.executable,
            "-m",
            f"switchgear_chaos.{module}",
            json.dumps({**options, "journal": str(self.journal)}),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.is_wanted = False

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
        path = str(Path(__file__).parents[1])
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

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.is_wanted = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()

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

    def resident(self) -> int:
        """Bytes of memory that it holds now; 0 when it is not there."""
        if self._process is None or self._process.poll() is not None:
            return 0
        with contextlib.suppress(OSError, IndexError):
            held = resident(self._process.pid)
            self.peak = max(self.peak, held)
            return held
        return 0

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
