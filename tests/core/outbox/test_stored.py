"""``await delivery.stored()``: `wait_stored` for asyncio, which never blocks the loop."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest
import switchgear
from switchgear import DeliveryState, Expired, OutboxUnwritable
from switchgear.outbox import SqliteOutbox
from switchgear.outbox.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = "mqtt://127.0.0.1:1"


async def test_on_disk_when_it_returns(tmp_path: Path) -> None:
    """Many that wait at once all return, and then every message is in the file; the loop goes on meanwhile."""
    path = tmp_path / "outbox"
    async with switchgear.aio.connect(NOBODY, outbox=path) as transport:
        deliveries = [transport.publish("t", b"%d" % n) for n in range(200)]
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        await asyncio.gather(*(delivery.stored(60) for delivery in deliveries))
        counting.cancel()
        assert {d.state for d in deliveries} == {DeliveryState.STORED}
        db = sqlite3.connect(path)
        assert db.execute("SELECT count(*) FROM message").fetchone() == (200,)
        db.close()
        assert turns > 1
        await transport.close()


async def test_in_memory() -> None:
    """Without a file a message is stored as soon as it is accepted."""
    async with switchgear.aio.connect(NOBODY) as transport:
        await transport.publish("t").stored(0)
        await transport.close()


async def test_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that hangs ends the waiting at its bound, and the message stays accepted."""
    async with switchgear.aio.connect(NOBODY, outbox=tmp_path / "outbox") as transport:
        monkeypatch.setattr(Writer, "kick", lambda _self: None)
        delivery = transport.publish("t")
        with pytest.raises(TimeoutError, match=r"delivery.stored\(\): the message is accepted"):
            await delivery.stored(0.01)
        monkeypatch.undo()
        await delivery.stored(60)
        await transport.close()


async def test_ended_first(tmp_path: Path) -> None:
    """A message that ends before it was written raises what ended it; one that a broker has is as good as stored."""
    async with switchgear.aio.connect(NOBODY, outbox=tmp_path / "outbox") as transport:
        assert isinstance(transport._outbox, SqliteOutbox)
        one, other = transport.publish("t"), transport.publish("t")
        waiting = [asyncio.ensure_future(d.stored(60)) for d in (one, other)]
        transport._outbox.end(one, DeliveryState.EXPIRED, Expired("too late"))
        transport._outbox.end(other, DeliveryState.ACKNOWLEDGED)
        with pytest.raises(Expired):
            await waiting[0]
        await waiting[1]
        await transport.close()


async def test_unwritable(tmp_path: Path) -> None:
    """With the disk full it raises `OutboxUnwritable` at once, and works again when there is room."""
    async with switchgear.aio.connect(NOBODY, outbox=tmp_path / "outbox") as transport:
        assert isinstance(transport._outbox, SqliteOutbox)
        writer = transport._outbox.writer
        writer.retry = 0.01
        await transport.publish("t").stored(60)
        pages = writer.file.db.execute("PRAGMA page_count").fetchone()[0]
        writer.file.db.execute(f"PRAGMA max_page_count = {pages}")
        delivery = transport.publish("t", bytes(50_000))
        with pytest.raises(OutboxUnwritable, match="full"):
            await delivery.stored(60)
        writer.file.db.execute("PRAGMA max_page_count = 1000000")
        for _ in range(1000):
            if writer.failure is None:
                break
            await asyncio.sleep(0.01)
        await delivery.stored(60)
        await transport.close()
