"""A small disk of a publisher's own, that can be filled. Touches mounts, where this process may; Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 64 * 2**20
"""Bytes of each disk: more than the longest backlog of a run."""

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS, <linux/sched.h>


def can_mount() -> bool:
    """Give this process mounts of its own, which end with it; whether it may. Before it has threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(_NEW_MOUNTS) != 0:
        return False
    private = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return private.returncode == 0


class Disk:
    """A file system in memory at *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "chaos", str(folder)], check=True)

    def fill(self, outbox: Path) -> None:
        """Leave no space: the next commit of *outbox* fails.

        An outbox that has written before owns a write-ahead log that it may write over; so that is emptied first, as
        a backup program would do it.
        """
        for _ in range(3):  # the publisher goes on writing meanwhile
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(outbox, timeout=2)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            with self._ballast.open("ab") as ballast, contextlib.suppress(OSError):
                while True:
                    free = os.statvfs(self.folder)
                    os.posix_fallocate(
                        ballast.fileno(), os.fstat(ballast.fileno()).st_size, max(1, free.f_bavail) * free.f_frsize
                    )

    def empty(self) -> None:
        """There is space again."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Take the disk away, with all that is on it."""
        subprocess.run(["umount", "-l", str(self.folder)], check=False)
