from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Self

import pytest
import switchgear
from switchgear.testing import FaultProxy, ThreadedBroker, ThreadedProxy
from switchgear.testing.proxy import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from switchgear.testing.proxy import Way


class End(asyncio.Protocol):
    """One end of a connection: what it heard, and how that ended ("eof", "reset" or "")."""

    def __init__(self, made: Callable[[End], None] | None = None) -> None:
        self._made = made
        self.got = b""
        self.ended = ""
        self.out: Any = None
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.out = transport
        if self._made is not None:
            self._made(self)

    def data_received(self, data: bytes) -> None:
        self.got += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.ended = "eof"
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or ("reset" if exc else "closed")
        self._changed.set()

    async def hears(self, size: int) -> bytes:
        """What it got, once that is *size* bytes, or it ended."""
        while len(self.got) < size and not self.ended:
            self._changed.clear()
            await self._changed.wait()
        return self.got

    async def hears_end(self) -> str:
        """How it ended."""
        while not self.ended:
            self._changed.clear()
            await self._changed.wait()
        return self.ended


class Stage:
    """A proxy, and the server behind it."""

    def __init__(self) -> None:
        self.proxy = FaultProxy("127.0.0.1:1")
        self.taken: asyncio.Queue[End] = asyncio.Queue()
        self._ends: list[End] = []

    def _far(self) -> End:
        end = End(self.taken.put_nowait)
        self._ends.append(end)
        return end

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._far, "127.0.0.1", 0)
        self.proxy.target = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        await self.proxy.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.stop()
        for end in self._ends:
            if end.out is not None:
                end.out.abort()
        self._server.close()
        await turns(3)

    async def dial(self) -> End:
        """The client's end of a new connection."""
        _, end = await asyncio.get_running_loop().create_connection(End, "127.0.0.1", self.proxy.port)
        self._ends.append(end)
        return end

    async def join(self) -> tuple[End, End]:
        """Both ends of a new connection: the client's and the broker's."""
        return await self.dial(), await self.taken.get()


async def turns(count: int = 100) -> None:
    """Let the loop look at its sockets *count* times: enough for what loopback carries at once."""
    for _ in range(count):
        await asyncio.sleep(0)


def on_real_loop(test: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
    """The proxy has real sockets: its tests run on a real loop, bounded, in this folder of virtual time."""

    def run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(100):
                await test()

        asyncio.run(bounded())

    run.__name__, run.__doc__ = test.__name__, inspect.getdoc(test)
    return run


@on_real_loop
async def test_everything_passes_both_ways_and_is_counted() -> None:
    """A megabyte comes through unchanged in each direction, then both ends, and every byte is counted."""
    sent = bytes(range(256)) * 4096
    async with Stage() as stage:
        near, far = await stage.join()
        near.out.write(sent)
        near.out.write_eof()
        assert await far.hears_end() == "eof"
        assert far.got == sent
        far.out.write(sent)
        far.out.write_eof()
        assert await near.hears_end() == "eof"
        assert near.got == sent
        assert stage.proxy.counts == Counts(accepted=1, to_broker=len(sent), to_client=len(sent))
        assert stage.proxy.open == 0


@on_real_loop
async def test_refuse_and_restore() -> None:
    """New connections are refused on the same port until it is restored, and the open one goes on."""
    async with Stage() as stage:
        port = stage.proxy.port
        near, far = await stage.join()
        stage.proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await stage.dial()
        near.out.write(b"x")
        assert await far.hears(1) == b"x"
        await stage.proxy.restore()
        await stage.join()
        assert (stage.proxy.port, stage.proxy.counts.accepted) == (port, 2)


@on_real_loop
async def test_unreachable_target_resets_the_client() -> None:
    """A client whose broker cannot be reached is reset, and counted as such."""
    async with Stage() as stage:
        stage.proxy.target = "mqtt://127.0.0.1:1"
        near = await stage.dial()
        assert await near.hears_end() == "reset"
        assert stage.proxy.counts == Counts(accepted=1, undialled=1)


@on_real_loop
async def test_silence() -> None:
    """A silent connection is taken and never led to the broker, as often as told; the next one is."""
    async with Stage() as stage:
        stage.proxy.silence(times=1)
        silent = await stage.dial()
        silent.out.write(b"hello?")
        near, far = await stage.join()
        near.out.write(b"x")
        assert await far.hears(1) == b"x"
        await turns()
        assert (stage.taken.empty(), silent.ended) == (True, "")
        assert stage.proxy.counts == Counts(accepted=2, to_broker=1)


@on_real_loop
async def test_blackhole_holds_and_restore_lets_pass() -> None:
    """Nothing passes a black hole in either direction and nobody hears of an end; then all of it arrives."""
    async with Stage() as stage:
        near, far = await stage.join()
        stage.proxy.blackhole()
        near.out.write(b"there")
        far.out.write(b"back")
        far.out.write_eof()
        late = await stage.dial()
        late.out.write(b"late")
        await turns()
        assert (near.got, far.got, near.ended) == (b"", b"", "")
        await stage.proxy.restore()
        assert await far.hears(5) == b"there"
        assert await near.hears_end() == "eof"
        assert near.got == b"back"
        assert await (await stage.taken.get()).hears(4) == b"late"


@on_real_loop
async def test_forgotten_connections_stay_so() -> None:
    """What a NAT forgot carries nothing even after a restore, and is still open; a new connection carries."""
    async with Stage() as stage:
        near, far = await stage.join()
        assert stage.proxy.forget() == 1
        await stage.proxy.restore()
        near.out.write(b"there")
        far.out.write_eof()
        second, second_far = await stage.join()
        second.out.write(b"x")
        assert await second_far.hears(1) == b"x"
        await turns()
        assert (near.got, far.got, near.ended) == (b"", b"", "")
        assert stage.proxy.open == 2


@on_real_loop
async def test_slow_link_keeps_the_order_and_the_rate() -> None:
    """At 20 000 bytes a second 4 000 bytes take 0.2 s and 50 ms of delay, in order, the end behind them."""
    sent = bytes(range(250)) * 16
    async with Stage() as stage:
        stage.proxy.slow(0.05, rate=20_000)
        near, far = await stage.join()
        clock = asyncio.get_running_loop().time
        began = clock()
        near.out.write(sent)
        near.out.write_eof()
        await far.hears(1)
        assert clock() - began >= 0.05
        assert await far.hears_end() == "eof"
        assert clock() - began >= 0.249
        assert far.got == sent


@on_real_loop
async def test_slow_link_is_bounded() -> None:
    """Of what is sent into a link that carries nearly nothing the proxy takes less than a megabyte."""
    async with Stage() as stage:
        stage.proxy.slow(rate=1000)
        near, _ = await stage.join()
        near.out.write(bytes(32 * 2**20))
        await turns(300)
        [pipe] = stage.proxy._pipes
        assert 0 < pipe.client.flow._size < 2**20


@pytest.mark.parametrize("to", ["broker", "client"])
def test_cut_after_bytes(to: Way) -> None:
    """Exactly so many bytes pass that way, over two connections, before the second is reset; the third lives."""

    @on_real_loop
    async def run() -> None:
        async with Stage() as stage:
            stage.proxy.cut_after(7, to)
            sinks = []
            for size in (5, 2, 5):
                near, far = await stage.join()
                source, sink = (near, far) if to == "broker" else (far, near)
                source.out.write(b"12345")
                await sink.hears(size)
                sinks.append(sink)
            assert await sinks[1].hears_end() == "reset"
            assert [sink.got for sink in sinks] == [b"12345", b"12", b"12345"]
            assert (stage.proxy.counts.cut, stage.proxy.open) == (1, 2)

    run()


@on_real_loop
async def test_cut_resets_both_sides() -> None:
    """A cut is a reset at both ends, and drops what a slow link still holds."""
    async with Stage() as stage:
        near, far = await stage.join()
        stage.proxy.slow(60)
        near.out.write(b"lost")
        await turns()
        assert stage.proxy.cut() == 1
        assert [await near.hears_end(), await far.hears_end(), far.got] == ["reset", "reset", b""]
        assert (stage.proxy.open, stage.proxy.counts.cut, stage.proxy.cut()) == (0, 1, 0)


@on_real_loop
async def test_half_close_and_close_all() -> None:
    """The side that was told hears an end while the other direction goes on; closing all is an end without a reset."""
    async with Stage() as stage:
        near, far = await stage.join()
        assert stage.proxy.half_close("client") == 1
        assert await near.hears_end() == "eof"
        far.out.write(b"lost")
        near.out.write(b"there")
        assert await far.hears(5) == b"there"
        second, second_far = await stage.join()
        stage.proxy.half_close("broker")
        assert [await far.hears_end(), await second_far.hears_end(), second.ended] == ["eof", "eof", ""]
        third, third_far = await stage.join()
        assert stage.proxy.close_all() == 3
        assert [await third.hears_end(), await third_far.hears_end()] == ["eof", "eof"]
        assert near.got == b""


def test_uri_keeps_the_name_that_tls_checks() -> None:
    """The URI of a proxy keeps scheme, path and, with TLS, the host name beside the address to dial."""
    shown = [FaultProxy(target).uri for target in ("ws://h:1/x", "ssl://h:1", "wss://h:1/y", "mqtts://127.0.0.9:1")]
    assert shown == [
        "ws://127.0.0.1:0/x",
        "mqtts://h:0?address=127.0.0.1",
        "wss://h:0/y?address=127.0.0.1",
        "mqtts://127.0.0.1:0",
    ]


@pytest.mark.parametrize("arguments", [(-1, None), (0, 0), (0, -5)])
def test_impossible_links_are_refused(arguments: tuple[float, float | None]) -> None:
    """A negative delay or a rate of nothing is refused, as is a cut after no byte."""
    proxy = FaultProxy("127.0.0.1:1")
    with pytest.raises(ValueError, match="impossible"):
        proxy.slow(arguments[0], rate=arguments[1])
    with pytest.raises(ValueError, match="counted from 1"):
        proxy.cut_after(0)


def test_threaded_proxy_has_every_method() -> None:
    """What `FaultProxy` offers, `ThreadedProxy` offers with the same signature, but for starting and stopping."""
    renamed = {"start", "stop", "delay", "rate", "is_blackhole"}
    for name, value in vars(FaultProxy).items():
        if name.startswith("_") or name in renamed:
            continue
        own = getattr(ThreadedProxy, name)
        if inspect.isfunction(value):
            assert inspect.signature(own) == inspect.signature(value), name


def test_a_transport_survives_each_fault_of_a_threaded_proxy() -> None:
    """Messages published around a cut, a refusal, a half-close and a lost link all arrive, from synchronous code."""
    with ThreadedBroker() as broker, ThreadedProxy(broker.uri) as proxy:
        with switchgear.connect(proxy.uri, client_id="press-7", ack_timeout=0.2, connect_timeout=2) as transport:
            transport.publish("t", b"first").wait(60)
            for fault in (proxy.cut, proxy.half_close, proxy.close_all, proxy.forget):
                assert fault() == 1
                transport.publish("t", fault.__name__.encode()).wait(60)
            proxy.refuse()
            proxy.cut()
            delivery = transport.publish("t", b"refused")
            proxy.restore()
            delivery.wait(60)
        assert list(dict.fromkeys(broker.ledger.payloads())) == [
            b"first",
            b"cut",
            b"half_close",
            b"close_all",
            b"forget",
            b"refused",
        ]


def test_target_can_be_changed() -> None:
    """New connections go where the target points now."""
    with ThreadedBroker(name="one") as one, ThreadedBroker(name="two") as two, ThreadedProxy(one.uri) as proxy:
        with switchgear.connect(proxy.uri, client_id="press-7") as transport:
            transport.publish("t", b"1").wait(60)
            proxy.target = two.uri
            proxy.cut()
            transport.publish("t", b"2").wait(60)
        assert (one.ledger.payloads(), two.ledger.payloads()) == ([b"1"], [b"2"])


def test_repr() -> None:
    """A proxy's repr says where it leads to and whether it listens."""
    assert repr(FaultProxy("mqtt://127.0.0.1:1")) == "<FaultProxy 127.0.0.1:0 to 127.0.0.1:1 refusing open=0>"
