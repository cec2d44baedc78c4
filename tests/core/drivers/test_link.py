from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import TLS
from switchgear.cause import Cause
from switchgear.drivers import link as link_module
from switchgear.drivers.base import AttemptFailed, DriverSettings
from switchgear.drivers.link import StreamLink, _lookup, open_link
from switchgear.endpoint import parse_uri
from switchgear.testing import Broker
from switchgear.workers import Workers
from switchgear_certs import Authority

if TYPE_CHECKING:
    import threading


async def test_a_key_that_does_not_come(gate: threading.Event) -> None:
    """A function that hangs where it should give the key is not taken for an MQTT library that hangs."""
    mine = Authority.create().client("press-7")

    def ask() -> bytes:
        gate.wait()
        return mine.key_pem

    tls = TLS(cert_pem=mine.certificate_pem, key_pem=ask)
    settings = DriverSettings(client_id="c", protocol="5", keepalive=60, connect_timeout=0.01, tls=tls)
    with pytest.raises(AttemptFailed, match=r"certificates and key could not be read in 0\.01 s") as caught:
        await open_link(parse_uri("mqtts://localhost:1"), settings)
    assert caught.value.failure.cause is Cause.CREDENTIALS_UNAVAILABLE


async def test_look_ups_that_never_end(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups that hang for ever, more than there are threads for them, keep a name from being looked up ever again."""
    calls: list[str] = []
    loop, begun = asyncio.get_running_loop(), asyncio.Queue[str]()

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        calls.append(host)
        loop.call_soon_threadsafe(begun.put_nowait, host)
        if len(calls) <= 6:
            gate.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(link_module, "LOOKUPS", Workers("lost", 4, idle=0.01))
    waiting = [asyncio.ensure_future(_lookup("joined.test", 1)) for _ in range(2)]
    assert (await begun.get(), calls) == ("joined.test", ["joined.test"])
    monkeypatch.setattr(link_module, "LOST_AFTER", -1.0)
    for _ in range(5):
        waiting.append(asyncio.ensure_future(_lookup("lost.test", 1)))
        assert await begun.get() == "lost.test"
    expected = [(socket.AF_INET, ("127.0.0.1", 1))]
    assert await _lookup("lost.test", 1) == expected
    gate.set()
    assert await asyncio.gather(*waiting) == [expected] * 7


class LikeATransport:
    """What uvloop hands over: it has asyncio's methods, and is no subclass of its classes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append

    def get_extra_info(self, _name: str) -> None:
        """There is nothing more to know."""


def test_a_transport_that_only_looks_like_one() -> None:
    """A loop that is not asyncio's own, as uvloop, serves: its transports are taken for what they can."""
    link, transport = StreamLink(), LikeATransport()
    made: Any = transport
    link.connection_made(made)
    link.write(b"x")
    assert transport.written == [b"x"]


async def test_uvloop() -> None:
    """On uvloop, where it is installed, a message goes round."""
    uvloop = pytest.importorskip("uvloop")

    def elsewhere() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(go_round())

    await asyncio.to_thread(elsewhere)


async def go_round() -> None:
    async with Broker() as broker:
        await broker.start()
        async with switchgear.aio.connect(broker.uri, client_id="c") as transport:
            subscription = transport.subscribe("t")
            await subscription.ready(5)
            await transport.publish("t", "x")
            message = await subscription.get()
            assert message is not None
            assert message.text == "x"
