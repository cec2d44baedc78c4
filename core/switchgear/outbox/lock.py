"""A lock file: one transport at a time. Does I/O on that file, and looks at what it locks.

The operating system frees the lock when its holder ends, however it ends; the file itself stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
import weakref
from pathlib import Path
from typing import Final

from switchgear.errors import OutboxLocked

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

GLIMPSE: Final = 0.02
"""Seconds until a lock that is held is tried again: ``switchgear outbox show`` holds it for a moment to see whether it is free."""

_MAGIC: Final = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat2.html, 1.3.1

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """The lock of the file *path*, held until `release`; *note*: say in it who holds it; *what* the file is.

    Raises:
        OutboxLocked: another transport holds it, here or in another process.
        OSError: the lock file cannot be made, or its file system knows no locks.
    """

    def __init__(self, path: str, *, note: bool = True, what: str = "outbox") -> None:
        self._fd: int | None = None
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        fd = os.open(lock_file(path), flags, 0o600)
        try:
            try:
                _lock(fd)
            except OSError:
                time.sleep(GLIMPSE)
                _lock(fd)
        except OSError as error:
            os.close(fd)
            if error.errno not in {errno.EACCES, errno.EAGAIN}:
                raise
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


def _lock(fd: int) -> None:
    if sys.platform == "win32":
        os.lseek(fd, 1 << 20, os.SEEK_SET)  # beside the pid, which others must be able to read
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_file(path: str) -> str:
    """Where the lock of *path* is; a link to a file has the file's own."""
    return f"{os.path.realpath(path)}.lock"


def is_strange(path: str) -> bool:
    """Whether the file *path* holds something that is no SQLite database, and nothing beside it says that it ever was one of ours.

    Such a file is somebody's, named by mistake; one of ours that broke has its lock, which stays.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        return False
    return head not in {b"", _MAGIC} and not any(map(os.path.lexists, (lock_file(path), f"{path}-wal")))


def holder(path: str) -> int | None:
    """The process that last held the lock of the outbox *path*; None when that cannot be read."""
    try:
        return int(Path(lock_file(path)).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _forked() -> None:
    for lock in list(_held):
        lock.release()  # else the child would keep it for as long as it lives, in its parent's name


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
