"""The end of this process: executed again in place, or ended with a code. Does I/O on everything that is open."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final, NoReturn

from switchgear_sdk_restart.program import STARTED_IN, directory

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE: Final = "SWITCHGEAR_SDK_RESTARTS"
"""The environment variable that carries the restarts from one image of the process to the next."""

MOST_DESCRIPTORS: Final = 65536
"""How far to look where the system does not list what is open."""

FLUSH: Final = 2.0
"""Seconds that the log and the standard streams may take; whoever reads their pipe may hang."""

_TIMERS: Final = tuple(getattr(signal, name) for name in dir(signal) if name.startswith("ITIMER_"))


def reexec(restarts: str) -> NoReturn:
    """Execute this process again: its interpreter, all of its arguments, its environment and directory.

    Every descriptor but the standard three is closed by it: aws-c-io leaves its sockets inheritable, so that an exec
    would keep the old connection open, silent, in the new image (seen; its O_CLOEXEC goes to the wrong call). Timers of
    ``signal.alarm`` are stopped: an exec keeps them, and takes their handlers, so that they would kill the new image (seen).

    Raises:
        OSError: it cannot be executed; all is as it was.
    """
    _flush()
    before = directory()
    changed = close_on_exec()
    timers = [(timer, *signal.setitimer(timer, 0)) for timer in _TIMERS]
    try:
        if STARTED_IN is not None:
            os.chdir(STARTED_IN)
        # The interpreter by its path, for a virtual environment is found by it, and PATH may have changed.
        os.execve(  # noqa: S606 - what was started by the user, with the user's own arguments
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: restarts}
        )
    finally:  # it failed
        for timer, seconds, interval in timers:
            signal.setitimer(timer, seconds, interval)
        for descriptor in changed:
            with contextlib.suppress(OSError):  # closed meanwhile
                os.set_inheritable(descriptor, True)
        if before is not None:
            os.chdir(before)


def leave(code: int) -> NoReturn:
    """End this process with *code*, at once: no ``finally``, no ``atexit`` of the application is run."""
    _flush()
    os._exit(code)


def close_on_exec() -> list[int]:
    """Have an exec close every descriptor above 2; which of them it would have left open."""
    changed = []
    for descriptor in _open_descriptors():
        with contextlib.suppress(OSError):  # not open, or closed meanwhile
            if os.get_inheritable(descriptor):
                os.set_inheritable(descriptor, False)
                changed.append(descriptor)
    return changed


def _open_descriptors() -> Iterator[int]:
    for place in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return (int(name) for name in os.listdir(place) if int(name) > 2)  # noqa: PTH208 - numbers, not paths
    return iter(range(3, min(MOST_DESCRIPTORS, os.sysconf("SC_OPEN_MAX"))))


def _flush() -> None:
    """Write out what is buffered of the log and of the standard streams, in `FLUSH` seconds."""
    thread = threading.Thread(target=_flush_all, name="switchgear-flush", daemon=True)
    with contextlib.suppress(RuntimeError):  # the system has no thread for us
        thread.start()
        thread.join(FLUSH)


def _flush_all() -> None:
    for each in (*logging.root.handlers, sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or None: there is nobody left to be told
            each.flush()
