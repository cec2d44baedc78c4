"""What the end of an image does with what it has, in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from switchgear_sdk_restart import process

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import logging, os, signal, sys, threading
if "SWITCHGEAR_SDK_RESTARTS" in os.environ:
    print(signal.getitimer(signal.ITIMER_REAL))
    sys.exit(7)
from switchgear_sdk_restart import process
"""

WAYS = {"reexec": "process.reexec('')", "exit": "process.leave(7)"}


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A process that runs *code*; its second image says what timer it has, and ends with 7."""
    return subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("way", WAYS)
def test_a_daemon_has_no_streams(way: str) -> None:
    """A process whose standard streams were closed when it was started can be replaced and ended like another."""
    ended = run(f"sys.stdout = sys.stderr = None\n{WAYS[way]}")
    assert (ended.returncode, ended.stderr) == (7, "")


@pytest.mark.parametrize("way", WAYS)
def test_a_log_that_hangs(way: str) -> None:
    """A log or a stream that nobody reads any more does not keep a wedged process alive."""
    stuck = (
        "class Stuck(logging.Handler):\n"
        "    def flush(self): threading.Event().wait()\n"
        "process.FLUSH = 0.05\n"
        "logging.root.addHandler(Stuck())\n"
    )
    assert run(f"{stuck}{WAYS[way]}").returncode == 7


def test_an_alarm_of_the_old_image() -> None:
    """A timer that the old image has set does not kill the new one, which has no handler for it."""
    ended = run(f"signal.setitimer(signal.ITIMER_REAL, 3600)\n{WAYS['reexec']}")
    assert (ended.returncode, ended.stdout) == (7, "(0.0, 0.0)\n")


def test_an_alarm_when_the_exec_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that could not be replaced keeps its timers."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    signal.setitimer(signal.ITIMER_VIRTUAL, 3600, 60)
    try:
        with pytest.raises(FileNotFoundError):
            process.reexec("")
        left, interval = signal.getitimer(signal.ITIMER_VIRTUAL)
        assert (left > 3000, interval) == (True, 60)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
