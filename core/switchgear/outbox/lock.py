"""A lock file: one transport at a time. Does I/O on that file only.

The operating system frees the lock when its holder ends, however it ends; the file itself stays.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from pathlib import Path

from switchgear.errors import OutboxLocked

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """The lock of the file *path*, held until `release`; *note*: say in it who holds it; *what* the file is.

    Raises:
        OutboxLocked: another transport holds it, here or in another process.
        OSError: the lock file cannot be made.
    """

    def __init__(self, path: str, *, note: bool = True, what: str = "outbox") -> None:
        self._fd: int | None = None
        name = f"{path}.lock"
        fd = os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if sys.platform == "win32":
                os.lseek(fd, 1 << 20, os.SEEK_SET)  # beside the pid, which others must be able to read
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
                os.lseek(fd, 0, os.SEEK_SET)
            else:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise OutboxLocked(path, holder(path), what) from None
        if note:
            with contextlib.suppress(OSError):  # a full disk: it is held all the same, by somebody who has no name
                os.ftruncate(fd, 0)
                os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd
        _held.add(self)

    def release(self) -> None:
        """Others may have it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        self.release()


def holder(path: str) -> int | None:
    """The process that last held the lock of the outbox *path*; None when that cannot be read."""
    try:
        return int(Path(f"{path}.lock").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _forked() -> None:
    for lock in list(_held):
        lock.release()  # else the child would keep it for as long as it lives, in its parent's name


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
