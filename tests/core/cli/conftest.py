from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from attrs import frozen
from switchgear.testing.broker import Broker

T = TypeVar("T")


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
        """Wait for its end, at most 30 s."""
        try:
            out, err = await asyncio.wait_for(self.process.communicate(given), 30)
        except TimeoutError:
            self.process.kill()
            out, err = await self.process.communicate()
            pytest.fail(f"still running after 30 s; stdout: {out!r}, stderr: {err!r}")
        assert self.process.returncode is not None
        text = err.decode()
        assert "Traceback" not in text
        assert "Exception ignored" not in text
        return Ended(self.process.returncode, out, text)

    async def line(self) -> bytes:
        """The next line of standard output."""
        assert self.process.stdout is not None
        return await asyncio.wait_for(self.process.stdout.readline(), 30)

    async def error_line(self) -> str:
        """The next line of standard error."""
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.readline(), 30)).decode()


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
                return await asyncio.wait_for(scenario(broker), 60)

        return asyncio.run(main())

    return run
