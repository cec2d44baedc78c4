"""CONNECT goes out when it is handed over, in a fleet to the moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from switchgear.drivers.base import ConnectRequest, DeafListener, DriverSettings
from switchgear.drivers.paho import PahoDriver
from switchgear.endpoint import parse_uri

if TYPE_CHECKING:
    from switchgear.drivers.link_base import ByteLink, Sink


class Written:
    """A link that keeps what is written, and hears nothing."""

    is_writable = True

    def __init__(self) -> None:
        self.data = b""

    def attach(self, sink: Sink) -> None:
        """Nobody answers."""

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def progress(self) -> tuple[int, int]:
        """All is on its way."""
        return len(self.data), len(self.data)

    def abort(self) -> None:
        """Nothing is open."""


async def test_connect_is_sent_in_its_turn() -> None:
    """CONNECT waits for the next turn of the loop, before which all others of a fleet are served: their budget is broken."""
    settings = DriverSettings(client_id="press-7", protocol="5", keepalive=60, connect_timeout=5.0)
    request = ConnectRequest(endpoint=parse_uri("mqtt://h"), clean_start=True, keeps_session=True)
    link = Written()
    work = PahoDriver(settings).connect(cast("ByteLink", link), request, DeafListener())
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)  # its first step, and nothing more
    sent = link.data
    task.cancel()
    await asyncio.wait([task])
    assert sent[:1] == b"\x10"
    assert sent.endswith(b"press-7")
