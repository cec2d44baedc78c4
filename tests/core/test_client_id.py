"""Sessions of a transport that was given no client id."""

from __future__ import annotations

import pytest
import switchgear
from switchgear.testing.broker import Broker


@pytest.mark.parametrize("session", [None, "hunt", "shared"])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_random_client_id_leaves_no_session(protocol: str, session: str | None) -> None:
    """Without a client id a session lives over losses, declared or not, and none is left behind at the close."""
    async with Broker() as broker:
        await broker.start()
        where = [broker.uri, "mqtt://127.0.0.1:1"]
        async with switchgear.aio.connect(where, protocol=protocol, session=session) as transport:
            await transport.wait_connected(10)
            broker.faults.reset()
            await transport.publish("a")
            assert [connect.session_present for connect in broker.ledger.connects()] == [False, True]
        assert broker.store.sessions == {}
