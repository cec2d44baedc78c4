from __future__ import annotations

import socket
from typing import Any

import pytest
from switchgear.cause import Cause
from switchgear.drivers.base import AttemptFailed
from switchgear.endpoint import parse_uri
from switchgear.testing.broker import Broker

EAST, WEST = "127.0.0.2", "127.0.0.3"


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
async def test_a_name_that_moves(crt: Any, party: Any, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Each connection goes where the name points now: the SDK, which remembers an answer for 30 s, is never asked."""
    answers = iter((EAST, WEST, WEST, EAST))

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "mqtt1.example.test"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    context = party.server("mqtt1.example.test") if scheme == "mqtts" else None
    async with Broker(name="east") as east, Broker(name="west") as west:
        port = await east.start(host=EAST, ssl=context)
        await west.start(host=WEST, port=port, ssl=context)
        endpoint = parse_uri(f"{scheme}://mqtt1.example.test:{port}")
        driver = crt.driver(tls=party.tls)
        for _ in range(4):
            await (await crt.connect(driver, endpoint)).disconnect()
        assert (len(east.ledger.connects()), len(west.ledger.connects())) == (2, 2)


async def test_a_name_that_nobody_knows(crt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that fails is named as such, by our own look-up."""

    def look_up(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(AttemptFailed) as caught:
        await crt.driver().dial(parse_uri("mqtts://nowhere.invalid"))
    assert caught.value.failure.cause is Cause.NAME_NOT_RESOLVED
