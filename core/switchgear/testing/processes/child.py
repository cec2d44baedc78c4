"""One program started by us, which does not outlive us."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Reads "+PID" and "-PID" lines; when our end of the pipe is gone, however we ended, it kills what is still listed.
_GUARD = """
import os, signal, sys
pids = set()
for line in sys.stdin:
    (pids.add if line[0] == "+" else pids.discard)(int(line[1:]))
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class BrokerMissing(Exception):
    """The broker's program is not on this machine; the message says what to install."""


class Child:
    """A process that can be started, killed, stopped and frozen; every method may be called in any state."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._is_frozen = False

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._running() is not None

    @property
    def is_frozen(self) -> bool:
        """Whether `freeze` was the last of `freeze`, `thaw` and `start` on a process that exists."""
        return self._is_frozen and self.is_running

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        process = self._running()
        return None if process is None else process.pid

    def start(self, arguments: Sequence[str], *, folder: Path, output: Path) -> None:
        """Start the program in *folder* and append what it prints to *output*."""
        with output.open("ab") as out:
            self._process = subprocess.Popen(
                arguments,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._is_frozen = False
        _guard.add(self)

    def kill(self) -> None:
        """End the process with SIGKILL and return when it is gone."""
        if (process := self._process) is not None:
            process.kill()
            process.wait()
            self._forget(process)

    def stop(self, timeout: float = 10) -> None:
        """End the process with SIGTERM, or with SIGKILL if it is still there after *timeout* seconds."""
        self.terminate()
        if (process := self._process) is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
        self.kill()

    def terminate(self) -> None:
        """Send SIGTERM and do not wait."""
        if (process := self._process) is not None:
            process.terminate()
        self.thaw()

    def freeze(self) -> None:
        """Stop the process with SIGSTOP, keeping its connections open, and return when it stands still."""
        if (process := self._running()) is not None:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._is_frozen = True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        if (process := self._process) is not None:
            process.send_signal(signal.SIGCONT)
        self._is_frozen = False

    def _running(self) -> subprocess.Popen[bytes] | None:
        process = self._process  # another thread may be ending it
        if process is None or process.poll() is None:
            return process
        self._forget(process)
        return None

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        if self._process is process:
            _guard.remove(self, process.pid)
            self._process = None
            self._is_frozen = False


class _Guard:
    """Ends what we started: at a normal exit by itself, and by a watching process when we are killed."""

    def __init__(self) -> None:
        self._children: set[Child] = set()
        self._watcher: subprocess.Popen[bytes] | None = None

    def add(self, child: Child) -> None:
        self._children.add(child)
        if self._watcher is None or self._watcher.poll() is not None:
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for other in self._children:
                self._tell("+", other.pid)
        else:
            self._tell("+", child.pid)

    def remove(self, child: Child, pid: int) -> None:
        self._children.discard(child)
        self._tell("-", pid)

    def _tell(self, sign: str, pid: int | None) -> None:
        if pid is not None and self._watcher is not None and self._watcher.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # somebody ended the watcher; the normal exit still cleans up
                self._watcher.stdin.write(f"{sign}{pid}\n".encode("ascii"))
                self._watcher.stdin.flush()

    def end_all(self) -> None:
        for child in list(self._children):
            child.kill()
        if self._watcher is not None and self._watcher.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._watcher.stdin.close()
            self._watcher.wait()
            self._watcher = None


_guard = _Guard()
atexit.register(_guard.end_all)
