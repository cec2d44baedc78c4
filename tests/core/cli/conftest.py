from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from attrs import frozen
from switchgear.testing.broker import Broker

T = TypeVar("T")

LONGEST = 90.0
"""Seconds that a process may take: it takes one or two, and more on a machine that others use."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests reaches the command line."""
    for name in list(os.environ):
        if name.startswith("SWITCHGEAR_") or name in {"FORCE_COLOR", "PY_COLORS", "NO_COLOR"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


@frozen
class Ended:
    """A process that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[bytes]:
        """Standard output, line by line."""
        return self.out.splitlines()


@frozen
class Process:
    """``python -m switchgear`` in a process of its own."""

    process: asyncio.subprocess.Process

    async def end(self, given: bytes | None = None) -> Ended:
        """Wait for its end, at most `LONGEST`."""
        try:
            out, err = await asyncio.wait_for(self.process.communicate(given), LONGEST)
        except TimeoutError:
            self.process.kill()
            out, err = await self.process.communicate()
            pytest.fail(f"still running after {LONGEST:g} s; stdout: {out!r}, stderr: {err!r}")
        assert self.process.returncode is not None
        text = err.decode()
        assert "Traceback" not in text
        assert "Exception ignored" not in text
        return Ended(self.process.returncode, out, text)

    async def handles_signals(self) -> None:
        """Return when it has handlers for signals of its own: before, a signal ends it with a traceback, or at once."""
        while not catches(self.process.pid, signal.SIGTERM):  # noqa: ASYNC110 - the kernel tells; Python has SIGINT anyway
            await asyncio.sleep(0.02)

    async def line(self) -> bytes:
        """The next line of standard output."""
        assert self.process.stdout is not None
        return await asyncio.wait_for(self.process.stdout.readline(), LONGEST)

    async def error_line(self) -> str:
        """The next line of standard error."""
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.readline(), LONGEST)).decode()


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for that signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
def start() -> Start:
    """Starts ``python -m switchgear`` with arguments; standard input is a pipe."""

    async def begin(*arguments: str) -> Process:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "switchgear", *arguments)
        return Process(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe))

    return begin


@pytest.fixture
def with_broker() -> Callable[[Callable[[Broker], Awaitable[T]]], T]:
    """Runs a scenario on a loop of its own, with a broker that listens."""

    def run(scenario: Callable[[Broker], Awaitable[T]]) -> T:
        async def main() -> T:
            async with Broker() as broker:
                await broker.start()
                return await asyncio.wait_for(scenario(broker), 2 * LONGEST)

        return asyncio.run(main())

    return run
