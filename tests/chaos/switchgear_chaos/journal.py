"""What a worker wrote down before it was killed: one line a fact, appended with one write. Touches its file only.

A line that was handed to the operating system survives SIGKILL; the last one may be cut short, and is then left out.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLOCK = "SWITCHGEAR_CHAOS_CLOCK"
"""The variable that says by how many seconds the wall clock of a process under test is wrong; see `clock`."""

LONGEST = 2**20
"""Bytes of a line, at most."""

BLOCK = 10_000
"""Numbers that a publisher sets aside at once, so that the one after it never uses them again."""


def qos_of(number: int) -> int:
    """The QoS at which the message *number* is published: 1, but for one in twenty at 0 and one in twenty at 2."""
    return {0: 0, 10: 2}.get(number % 20, 1)


def topic_of(publisher: int, number: int) -> str:
    """Where the message *number* of a publisher goes; brokers' logs name it."""
    return f"chaos/{publisher}/{number}"


def number_of(topic: str) -> tuple[int, int]:
    """The opposite of `topic_of`."""
    _, publisher, number = topic.split("/")
    return int(publisher), int(number)


def payload_of(publisher: int, number: int) -> bytes:
    """What the message *number* holds: mostly 128 bytes, at times up to 20 KB, so that packets are cut in the middle."""
    size = 128 if number % 250 else 128 + number * 7919 % 20_000
    return (f"{publisher}/{number} ".encode() * (size // 4))[:size]


def now() -> float:
    """Seconds since 1970 on the machine's clock, which no jump of the process under test moves."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Journal:
    """A journal that is written; any thread may `write`. What a kill left of a line is taken away, or ours would go on in it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(self._fd).st_size
        end = os.pread(self._fd, LONGEST, max(0, size - LONGEST)).rfind(b"\n") + 1
        os.ftruncate(self._fd, max(0, size - LONGEST) + end)

    def write(self, *words: object) -> None:
        """Append one line of *words*; it survives us when this returns."""
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())


class Reader:
    """A journal that is read while it is being written; a missing one is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def __iter__(self) -> Iterator[list[str]]:
        """The words of each whole line that has come since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            yield line.split(" ")


def as_ranges(numbers: Iterable[int]) -> str:
    """*numbers* as ``1-5,7-7``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" for first, last in parts)


def from_ranges(text: str) -> Iterator[int]:
    """The opposite of `as_ranges`."""
    for part in text.split(","):
        first, last = part.split("-")
        yield from range(int(first), int(last) + 1)


def held() -> tuple[int, int]:
    """Bytes of memory that this process holds now (Linux), and how many objects of Python's own allocator.

    The second shows one object kept for each message; the first only large ones, or very many.
    """
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), sys.getallocatedblocks()


Options = dict[str, Any]
"""What a worker is told, as JSON on its command line."""
