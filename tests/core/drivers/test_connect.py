"""CONNECT goes out when it is handed over, in a fleet to the moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from switchgear.drivers.base import ConnectRequest, DeafListener, DriverSettings
from switchgear.drivers.paho import PahoDriver
from switchgear.endpoint import parse_uri
from switchgear.testing import Broker

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


async def test_every_connect_is_counted() -> None:
    """Where MQTT 3.1.1 takes three CONNECTs to begin a session that lasts, the budget of a fleet knows of one."""
    settings = DriverSettings(client_id="press-7", protocol="3.1.1", keepalive=60, connect_timeout=30.0)
    turns: list[int] = []
    async with Broker() as broker:
        endpoint = parse_uri(f"mqtt://127.0.0.1:{await broker.start()}")

        async def turn() -> None:
            turns.append(len(broker.ledger.connects()))

        for expected in ([], [2, 3]):
            driver = PahoDriver(settings)
            request = ConnectRequest(endpoint=endpoint, clean_start=True, keeps_session=True, turn=turn)
            await (await driver.connect(await driver.dial(endpoint), request, DeafListener())).disconnect()
            assert turns == expected
        assert len(broker.ledger.connects()) == 4
