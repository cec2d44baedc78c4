from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from switchgear.testing.broker import Broker, Decoder, Ledger, Store, encode
from switchgear.testing.broker import packets as p
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on a real loop, for at most ten seconds."""

    async def limited() -> None:
        async with asyncio.timeout(10):
            await main

    asyncio.run(limited())


@contextlib.contextmanager
def paho(
    broker: Broker, client_id: str, *, version: int = 5, transport: str = "tcp", tls: ssl.SSLContext | None = None
) -> Iterator[Client]:
    """A connected paho client with a thread of its own, which is gone at the end."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTv5 if version == 5 else MQTTv311,
        transport=transport,  # type: ignore[arg-type] # one of three literals
    )
    if tls is not None:
        client.tls_set_context(tls)
    client.connect_async("127.0.0.1", broker.port, keepalive=30)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the broker, and for a client that trusts it."""
    authority = Authority.create()
    server, user = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.server("127.0.0.1").configure(server)
    authority.configure(user)
    return server, user


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("transport", ["tcp", "websockets"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_paho(version: int, transport: str, is_tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:  # noqa: FBT001 (a table)
    """The real paho client subscribes, and receives what it publishes at each QoS, over each kind of connection."""

    async def main() -> None:
        server, user = contexts if is_tls else (None, None)
        async with Broker() as broker:
            await broker.start(ssl=server, websocket=transport == "websockets")
            scheme = ("ws" if transport == "websockets" else "mqtt") + ("s" if is_tls else "")
            assert broker.uri == f"{scheme}://127.0.0.1:{broker.port}"
            ledger = broker.ledger
            large = b"x" * 300_000
            came: list[bytes] = []
            with paho(broker, "c", version=version, transport=transport, tls=user) as client:
                client.on_message = lambda _client, _data, message: came.append(bytes(message.payload))
                await ledger.until(lambda: len(ledger.connects("c")) == 1)
                client.subscribe("t/#", 2)
                await ledger.until(lambda: len(ledger.subscribes("c")) == 1)
                for qos in range(3):
                    client.publish("t/x", large[qos:], qos=qos)
                acks = [("PUBACK", False), ("PUBCOMP", False)]
                await ledger.until(
                    lambda: (
                        set(acks) <= {(getattr(e, "packet", ""), getattr(e, "is_sent", True)) for e in ledger.entries}
                    )
                )
            assert came == [large, large[1:], large[2:]]
            assert ledger.payloads() == came

    run(main())


def test_failover() -> None:
    """A paho client that publishes through a fail-over of the pair has each message accepted, QoS 2 exactly once."""

    async def main() -> None:
        store, ledger = Store(), Ledger()
        a = Broker(name="a", store=store, ledger=ledger)
        b = Broker(name="b", store=store, ledger=ledger, standby=True)
        port = await a.start()
        await b.start()
        with paho(a, "c") as client:
            client.reconnect_delay_set(1, 1)
            for number in range(10):
                client.publish("t", b"%d" % number, qos=2)
            await ledger.until(lambda: len(ledger.published()) == 10)
            await a.kill()
            assert not a.is_listening
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await b.promote()
            client._port = b.port
            for number in range(10, 20):
                client.publish("t", b"%d" % number, qos=2)
            await ledger.until(lambda: len(set(ledger.payloads())) == 20)
        await a.stop()
        await b.stop()

    run(main())


def test_ports() -> None:
    """A killed or stopped broker and a standby refuse connections; each keeps its port and opens it again."""

    async def main() -> None:
        async def accepts(port: int) -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return False
            writer.close()
            return True

        broker, standby = Broker(), Broker(standby=True)
        ports = [await broker.start(), await broker.start(websocket=True)]
        waiting = await standby.start()
        assert [uri.split(":")[0] for uri in broker.uris] == ["mqtt", "ws"]
        for end in (broker.kill, broker.stop, broker.kill):
            assert [await accepts(port) for port in ports] == [True, True]
            await end()
            assert [await accepts(port) for port in ports] == [False, False]
            await broker.restart()
        assert not await accepts(waiting)
        await standby.promote()
        assert await accepts(waiting)
        assert "listening" in repr(standby)
        await broker.stop()
        await standby.stop()

    run(main())


def test_reset_and_half_close() -> None:
    """A client sees a reset as a reset, and a half-close as the end of the stream while it can still send."""

    async def main() -> None:
        async with Broker() as broker:
            await broker.start()
            login = encode(p.Connect(client_id="c", version=5), version=5)
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(login)
            assert isinstance(next(Decoder(version=5).feed(await reader.read(100))), p.Connack)
            broker.faults.half_close()
            assert await reader.read() == b""
            writer.write(encode(p.Publish("t", b"x", 1, 1), version=5))
            await broker.ledger.until(lambda: broker.ledger.payloads() == [b"x"])
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(login)
            await reader.read(100)
            broker.faults.reset()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(main())


def test_half_close_tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Over TLS a half-close ends the stream below it, and the broker still reads."""

    async def main() -> None:
        server, user = contexts
        async with Broker() as broker:
            await broker.start(ssl=server)
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port, ssl=user)
            writer.write(encode(p.Connect(client_id="c"), version=4))
            assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
            broker.faults.half_close()
            assert await reader.read() == b""
            writer.close()

    run(main())


@pytest.mark.parametrize(
    ("request_head", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 426 "),
        (
            (
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            ),
            b"HTTP/1.1 400 ",
        ),
        (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\r\n\r\n", b""),
    ],
)
def test_no_websocket(request_head: bytes, answer: bytes) -> None:
    """What is no WebSocket handshake, or does not offer the subprotocol mqtt, is refused and closed."""

    async def main() -> None:
        async with Broker() as broker:
            await broker.start(websocket=True)
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(request_head)
            assert (await reader.read()).startswith(answer)
            writer.close()

    run(main())


def test_text_frame() -> None:
    """A text frame ends a WebSocket connection with close code 1003."""

    async def main() -> None:
        async with Broker() as broker:
            await broker.start(websocket=True)
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(
                b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
            )
            assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x81\x82\0\0\0\0hi")
            assert (await reader.read())[:4] == b"\x88\x10\x03\xeb"
            writer.close()

    run(main())
