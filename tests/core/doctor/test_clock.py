from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from switchgear.doctor import Verdict, clock
from switchgear.endpoint import parse_uri

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = dt.datetime(2026, 11, 22, 9, 0, tzinfo=dt.UTC)
YESTERDAY = NOW - dt.timedelta(days=1)


@asynccontextmanager
async def http_server(answer: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("ahead", "least", "most"), [(0, -2, 2), (3600, 3598, 3602), (-3600, -3602, -3598)])
async def test_a_server_that_tells_its_time(ahead: float, least: float, most: float) -> None:
    """The skew to the Date header of an HTTP server is measured to about a second, with its sign."""
    theirs = email.utils.format_datetime(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ahead), usegmt=True)
    async with http_server(f"HTTP/1.1 426 Upgrade Required\r\nDate: {theirs}\r\n\r\n".encode()) as port:
        measured = await clock.skew(parse_uri(f"ws://127.0.0.1:{port}"), "127.0.0.1", 5)
    assert measured is not None
    assert least <= measured <= most


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n"])
async def test_a_server_that_does_not(answer: bytes) -> None:
    """No answer, no Date and a Date that is none are no measurement."""
    async with http_server(answer) as port:
        assert await clock.skew(parse_uri(f"ws://127.0.0.1:{port}"), "127.0.0.1", 5) is None


async def test_a_server_that_is_gone() -> None:
    """A closed port is no measurement."""
    assert await clock.skew(parse_uri("ws://127.0.0.1:1"), "127.0.0.1", 5) is None


@pytest.mark.parametrize(
    ("skew", "verdict", "said"),
    [
        (0.4, Verdict.PASS, "0 s ahead of"),
        (-20.0, Verdict.PASS, "20 s behind"),
        (31.0, Verdict.WARN, "31 s ahead of"),
        (-301.0, Verdict.FAIL, "301 s behind"),
    ],
)
def test_skew(skew: float, verdict: Verdict, said: str) -> None:
    """Half a minute of skew is a warning, five minutes are a failure, and the way out is NTP."""
    line = clock.judge(NOW, YESTERDAY, [], [0.1, skew])
    assert line.verdict is verdict
    assert said in line.found
    assert (verdict is Verdict.PASS) == ("NTP" not in line.way_out)


def test_a_clock_that_is_far_behind() -> None:
    """A clock before the installation of this program fails whatever else is known."""
    line = clock.judge(NOW, NOW + dt.timedelta(days=400), [YESTERDAY], [])
    assert line.verdict is Verdict.FAIL
    assert line.found == "2026-11-22 09:00:00 UTC is before this program was installed (2027-12-27)"


def test_a_certificate_from_the_future() -> None:
    """A certificate that begins later is a hint that the clock is behind."""
    line = clock.judge(NOW, YESTERDAY, [YESTERDAY, NOW + dt.timedelta(hours=2)], [])
    assert line.verdict is Verdict.WARN
    assert "2026-11-22 11:00 UTC" in line.found


def test_nothing_to_compare_with() -> None:
    """Where no server tells its time the line says what was checked, and that skew was not."""
    line = clock.judge(NOW, YESTERDAY, [YESTERDAY], [])
    assert line.verdict is Verdict.PASS
    assert line.found.endswith("and after 1 certificate(s) began; no server told its time to compare")
