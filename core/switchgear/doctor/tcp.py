"""Which addresses of an endpoint take a connection, and how fast. Does I/O: one TCP connection to each address."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from attrs import frozen

from switchgear.cause import Cause, Failure, from_exception
from switchgear.doctor.finding import failed, passed, warned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.doctor.finding import Finding
    from switchgear.endpoint import Endpoint


@frozen
class Try:
    """One address: how long it took in seconds, or why it failed."""

    address: str
    seconds: float
    failure: Failure | None = None

    def __str__(self) -> str:
        if self.failure is None:
            return f"{self.address} in {self.seconds * 1000:.1f} ms"
        return f"{self.address} {_SHORT.get(self.failure.cause, self.failure.cause.value)}"


_SHORT = {Cause.PORT_REFUSED: "refused", Cause.CONNECT_TIMEOUT: "did not answer"}


async def connect(addresses: Sequence[str], port: int, timeout: float) -> list[Try]:
    """Connect to every address at once, and close again; *timeout* seconds for each."""
    return list(await asyncio.gather(*(_connect(address, port, timeout) for address in addresses)))


async def _connect(address: str, port: int, timeout: float) -> Try:
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
    except OSError as error:  # a time-out is one
        return Try(address, time.monotonic() - started, from_exception(error))
    transport.abort()
    return Try(address, time.monotonic() - started)


def judge(endpoint: Endpoint, tries: Sequence[Try], *, who: str = "the broker") -> Finding:
    """The line for what became of *tries* to reach *endpoint*, where *who* should listen."""
    shown = "; ".join(str(each) for each in tries)
    facts = {
        "port": endpoint.port,
        "addresses": [
            {"address": t.address, "seconds": t.seconds, "error": t.failure.cause.value if t.failure else None}
            for t in tries
        ],
    }
    lost = [each.failure for each in tries if each.failure is not None]
    if not lost:
        return passed("tcp", shown, **facts)
    if len(lost) < len(tries):
        if all(":" in t.address and t.failure.cause is Cause.UNREACHABLE for t in tries if t.failure is not None):
            return passed("tcp", f"{shown}; there is no IPv6 here, which costs clients nothing", **facts)
        way_out = "clients try these addresses too: take the record away, or start what should listen there"
        return warned("tcp", f"{shown}; {len(tries) - len(lost)} of {len(tries)} addresses answer", way_out, **facts)
    is_refusal = all(each.cause is Cause.PORT_REFUSED for each in lost)
    if is_refusal:
        way_out = f"nothing listens on port {endpoint.port}: start {who}, or correct the port"
    else:
        way_out = lost[0].advice
    return failed("tcp", shown, way_out, **facts, is_refusal=is_refusal)
