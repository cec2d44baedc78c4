from __future__ import annotations

import asyncio
from typing import Any

import pytest
from switchgear.cause import Cause, Failure
from switchgear.drivers.base import AttemptFailed, DriverSettings
from switchgear.endpoint import Endpoint, parse_uri
from switchgear.testing import Broker, MemoryNetwork, Wire, connect_wire
from switchgear.testing.wire import CAPACITY

SETTINGS = DriverSettings(client_id="c", protocol="5", keepalive=0, connect_timeout=5.0)
HERE = parse_uri("mqtt://b:1883")


class Noted(asyncio.Protocol):
    """Notes what asyncio calls."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.calls: list[Any] = []
        self.keeps_open = keeps_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(type(exc).__name__ if exc else "lost")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


def pair(*, latency: float = 0.0, keeps_open: bool = False) -> tuple[Noted, Noted, Wire]:
    near, far = Noted(), Noted(keeps_open=keeps_open)
    return near, far, connect_wire(near, far, latency=latency)


def now() -> float:
    return asyncio.get_running_loop().time()


async def cause(network: MemoryNetwork, endpoint: Endpoint = HERE) -> Cause:
    with pytest.raises(AttemptFailed) as caught:
        await network.open(endpoint, SETTINGS)
    return caught.value.failure.cause


# Wires. --------------------------------------------------------------------------------------------------------------


async def test_bytes_arrive_in_order_and_in_time() -> None:
    """What is written arrives after the latency, in order, also when the latency shrinks meanwhile."""
    near, far, wire = pair(latency=1.0)
    near.transport.write(b"1")
    wire.set_latency(0.1)
    near.transport.writelines([b"2", b"3"])
    await asyncio.sleep(0.9)
    assert far.calls == []
    await asyncio.sleep(0.2)
    assert far.calls == [b"1", b"23"]


async def test_close_flushes() -> None:
    """Closing delivers what was written, then the end, to both; what comes later is dropped."""
    near, far, wire = pair(latency=0.1)
    near.transport.write(b"last")
    near.transport.close()
    near.transport.write(b"too late")
    assert near.transport.is_closing()
    await asyncio.sleep(1)
    assert (near.calls, far.calls) == (["lost"], [b"last", "eof", "lost"])
    assert wire.is_over


async def test_abort_resets() -> None:
    """Aborting loses what is under way, and the other end sees a reset."""
    near, far, _ = pair(latency=0.1)
    near.transport.write(b"never")
    near.transport.abort()
    await asyncio.sleep(1)
    assert (near.calls, far.calls) == (["lost"], ["ConnectionResetError"])


async def test_half_close() -> None:
    """After write_eof the other direction still works, where the protocol keeps it open; writing on is an error."""
    near, far, _ = pair(keeps_open=True)
    near.transport.write_eof()
    await asyncio.sleep(0.1)
    far.transport.write(b"still here")
    await asyncio.sleep(0.1)
    assert (near.calls, far.calls) == ([b"still here"], ["eof"])
    with pytest.raises(RuntimeError, match="write_eof"):
        near.transport.write(b"x")
    far.transport.close()
    await asyncio.sleep(0.1)
    assert (near.calls[1:], far.calls[1:]) == (["eof", "lost"], ["lost"])


async def test_back_pressure() -> None:
    """A reader that pauses pauses the writer at the capacity; both go on, and nothing is lost, when it reads again."""
    near, far, _ = pair()
    far.transport.pause_reading()
    near.transport.write(bytes(CAPACITY))
    assert near.calls == []
    near.transport.write(b"more")
    assert near.calls == ["pause"]
    assert near.transport.get_write_buffer_size() == 4
    near.transport.close()
    await asyncio.sleep(1)
    assert (near.calls, far.calls) == (["pause"], [])
    far.transport.resume_reading()
    await asyncio.sleep(1)
    assert (near.calls, far.calls) == (["pause", "lost"], [bytes(CAPACITY), b"more", "eof", "lost"])


async def test_writing_to_nobody_is_answered_by_a_reset() -> None:
    """Bytes for an end that has closed come back as a reset."""
    near, far, wire = pair(keeps_open=True)
    wire.far.hold()
    near.transport.close()
    await asyncio.sleep(0.1)
    far.transport.write(b"x")
    await asyncio.sleep(0.1)
    wire.far.release()
    await asyncio.sleep(0.1)
    assert far.calls == ["eof", "ConnectionResetError"]


# Networks. -----------------------------------------------------------------------------------------------------------


async def test_dials() -> None:
    """Each kind of failing dial has its cause and its time, and all are noted."""
    broker = Broker()
    network = MemoryNetwork({"b:1883": broker}, latency=0.1)
    began = now()
    assert await cause(network, parse_uri("mqtt://nowhere:1883")) is Cause.NAME_NOT_RESOLVED
    assert now() == began
    network.refuse("b:1883")
    assert await cause(network) is Cause.PORT_REFUSED
    assert now() == pytest.approx(began + 0.2)
    network.refuse("b:1883", Failure(Cause.CERTIFICATE_EXPIRED))
    assert await cause(network) is Cause.CERTIFICATE_EXPIRED
    network.restore("b:1883")
    network.blackhole("b:1883")
    began = now()
    assert await cause(network) is Cause.CONNECT_TIMEOUT
    assert now() == pytest.approx(began + 5.0)
    network.restore("b:1883")
    await broker.kill()
    assert await cause(network) is Cause.PORT_REFUSED
    await broker.restart()
    link = await network.open(HERE, SETTINGS)
    assert [dial.failure is None for dial in network.dials] == [False] * 5 + [True]
    assert len(network.wires("b:1883")) == 1
    link.abort()
    await asyncio.sleep(1)
    assert network.wires("b:1883") == []
    with pytest.raises(KeyError, match="nothing is at 'x:1'"):
        network.cut("x:1")


async def test_pinned_address() -> None:
    """A pinned address leads where the network has that address, else where it has the name."""
    named, pinned = list[Noted](), list[Noted]()

    def note(made: list[Noted]) -> Any:
        def make() -> Noted:
            made.append(Noted())
            return made[-1]

        return make

    network = MemoryNetwork({"b:1883": note(named), "10.0.0.1:1883": note(pinned)})
    await network.open(parse_uri("mqtt://b:1883?address=10.0.0.1"), SETTINGS)
    assert (len(named), len(pinned)) == (0, 1)
    await network.open(parse_uri("mqtt://b:1883?address=10.0.0.2"), SETTINGS)
    assert (len(named), len(pinned)) == (1, 1)


async def test_blackhole_and_half_close_on_live_wires() -> None:
    """A blackhole holds what is sent until it is restored; a half-close is the end for a link that reads it."""
    far = Noted()
    network = MemoryNetwork({"b:1883": lambda: far})
    link = await network.open(HERE, SETTINGS)
    network.blackhole("b:1883")
    link.write(b"late")
    await asyncio.sleep(60)
    assert far.calls == []
    network.restore("b:1883")
    await asyncio.sleep(0.1)
    assert far.calls == [b"late"]
    network.half_close("b:1883")
    await asyncio.sleep(0.1)
    assert far.calls == [b"late", "eof", "lost"]


async def test_websocket() -> None:
    """A broker on the network speaks WebSocket with ws:// endpoints."""
    network = MemoryNetwork({"b:80": Broker()})
    link = await network.make_driver(SETTINGS).dial(parse_uri("ws://b"))
    link.abort()
    await asyncio.sleep(0.1)
    assert network.wires("b:80") == []
