from __future__ import annotations

import asyncio

import pytest
from switchgear.testing.broker import Broker, Peer, Properties
from switchgear.testing.broker import packets as p


async def client(broker: Broker, client_id: str = "c", *, version: int = 5) -> Peer:
    """A connected peer with a session that outlives the connection."""
    peer = Peer(broker, version=version)
    about = Properties(session_expiry_interval=60) if version == 5 else Properties()
    await peer.connect(p.Connect(client_id=client_id, version=version, clean=False, properties=about))
    return peer


@pytest.mark.parametrize(("asked", "codes"), [(3, (3, 0x88)), (0x87, (5, 0x87)), (0x89, (3, 0x89)), (0x86, (4, 0x86))])
async def test_refuse(asked: int, codes: tuple[int, int]) -> None:
    """CONNECT is refused with the code in the client's version as often as told, and accepted after that."""
    broker = Broker()
    for version, code in zip((4, 5), codes, strict=True):
        broker.faults.refuse(asked, times=2)
        for expected in (code, code, 0):
            peer = Peer(broker, version=version)
            assert (await peer.connect(p.Connect(client_id="c", version=version))).code == expected
            await peer.received()
            assert peer.is_closed is bool(expected)
    assert broker.faults.hits["refuse"] == 4
    assert [entry.code for entry in broker.ledger.connects()][:3] == [codes[0], codes[0], 0]


async def test_redirect() -> None:
    """A redirected client is told 0x9C or 0x9D and where to go; one of 3.1.1 only that the server is unavailable."""
    broker = Broker()
    broker.faults.redirect("other:1883", times=1)
    answer = await Peer(broker).connect(p.Connect(client_id="c", version=5))
    assert (answer.code, answer.properties.server_reference) == (0x9C, "other:1883")
    broker.faults.redirect("other:1883", is_permanent=True)
    assert (await Peer(broker).connect(p.Connect(client_id="c", version=5))).code == 0x9D
    assert (await Peer(broker, version=4).connect(p.Connect(client_id="c"))).code == 3


async def test_silence() -> None:
    """A silent broker answers nothing, keeps the connection open, and leaves the session where it was."""
    broker = Broker()
    first = await client(broker)
    broker.faults.silence(times=1)
    second = Peer(broker)
    assert await second.ask(p.Connect(client_id="c", version=5), p.Pingreq()) == []
    assert broker.ledger.connects()[-1].code is None
    assert broker.clients == ["c"]
    assert not first.is_closed
    await asyncio.sleep(1000)
    assert not second.is_closed
    assert broker.ledger.ends()[0].how == "keepalive"


async def test_delay_connack() -> None:
    """A delayed CONNECT is answered after its seconds, and what came meanwhile is handled after it, in order."""
    broker = Broker()
    broker.faults.delay_connack(5, times=1)
    peer = Peer(broker)
    assert await peer.ask(p.Connect(client_id="c", version=5), p.Pingreq(), p.Publish("t", b"", 1, 1)) == []
    peer.send(p.Pingreq())
    await asyncio.sleep(4.9)
    assert await peer.received() == []
    await asyncio.sleep(0.2)
    answers = await peer.received()
    assert [type(answer) for answer in answers] == [p.Connack, p.Pingresp, p.Puback, p.Pingresp]


async def test_delay_then_lost() -> None:
    """A client that goes away while its CONNECT is delayed is never connected."""
    broker = Broker()
    broker.faults.delay_connack(5)
    peer = Peer(broker)
    peer.send(p.Connect(client_id="c", version=5))
    await peer.lose()
    await asyncio.sleep(10)
    assert broker.ledger.connects() == []


async def test_drop_after_connack() -> None:
    """The connection is closed after a CONNACK that says success, as often as told."""
    broker = Broker()
    broker.faults.drop_after_connack(times=1)
    peer = Peer(broker)
    assert (await peer.connect(p.Connect(client_id="c", version=5))).code == 0
    assert await peer.received() == []
    assert peer.is_closed
    assert not peer.transport.is_aborted
    assert not (await client(broker)).is_closed


@pytest.mark.parametrize("is_stored", [True, False])
async def test_drop_after_publish(is_stored: bool) -> None:  # noqa: FBT001 (a parameter of the table)
    """The nth PUBLISH resets the connection without an acknowledgement, and is stored or lost as told."""
    broker = Broker()
    broker.faults.drop_after_publish(3, is_stored=is_stored)
    peer = await client(broker)
    messages = [p.Publish("t", b"%d" % number, 1, number) for number in range(1, 5)]
    assert await peer.ask(*messages) == []  # a reset loses what was not yet written
    assert peer.transport.is_aborted
    assert broker.ledger.payloads() == [b"1", b"2", b"3"][: 3 if is_stored else 2]
    assert broker.ledger.ends()[0].how == "drop_after_publish"
    peer = await client(broker)
    assert len(await peer.ask(*messages)) == 4
    assert len(broker.ledger.duplicates()) == (3 if is_stored else 2)


async def test_drop_after_pubrec() -> None:
    """The connection is closed after the PUBREC, and the message counts once when it is sent again."""
    broker = Broker()
    broker.faults.drop_after_pubrec()
    peer = await client(broker)
    assert await peer.ask(p.Publish("t", b"x", 2, 1)) == [p.Pubrec(1)]
    assert peer.is_closed
    peer = await client(broker)
    assert await peer.ask(p.Publish("t", b"x", 2, 1, dup=True)) == [p.Pubrec(1)]
    assert broker.ledger.payloads() == [b"x"]


async def test_withhold_acks() -> None:
    """Acknowledgements are held back, PINGREQ is still answered, and lifting the fault sends them in order."""
    broker = Broker()
    broker.faults.withhold_acks()
    peer = await client(broker)
    assert await peer.ask(p.Publish("t", b"1", 1, 1), p.Publish("t", b"2", 2, 2), p.Pingreq()) == [p.Pingresp()]
    assert broker.ledger.payloads() == [b"1", b"2"]
    broker.faults.clear()
    assert await peer.received() == [p.Puback(1), p.Pubrec(2)]
    assert await peer.ask(p.Publish("t", b"3", 1, 3)) == [p.Puback(3)]


async def test_swallow_pings() -> None:
    """As many PINGREQs as told get no answer; other packets do."""
    broker = Broker()
    broker.faults.swallow_pings(times=2)
    peer = await client(broker)
    assert await peer.ask(p.Pingreq(), p.Pingreq(), p.Publish("t", b"", 1, 1)) == [p.Puback(1)]
    assert await peer.ask(p.Pingreq()) == [p.Pingresp()]


async def test_slow() -> None:
    """Every write waits; the order is kept when the fault is lifted, and a close waits for what was written."""
    broker = Broker()
    peer = await client(broker)
    broker.faults.slow(3)
    assert await peer.ask(p.Pingreq()) == []
    broker.faults.lift("slow")
    assert await peer.ask(p.Publish("t", b"", 1, 1)) == []
    assert broker.kick("c")
    await asyncio.sleep(2.9)
    assert not peer.is_closed
    await asyncio.sleep(0.2)
    assert await peer.received() == [p.Pingresp(), p.Puback(1), p.Disconnect(0x98)]
    assert peer.is_closed


async def test_half_close() -> None:
    """After a half-close the broker writes no more, and still reads what the client sends."""
    broker = Broker()
    peer, other = await client(broker), await client(broker, "other")
    assert broker.faults.half_close("c") == 1
    assert await peer.ask(p.Publish("t", b"x", 1, 1)) == []
    assert peer.transport.is_half_closed
    assert not peer.is_closed
    assert broker.ledger.payloads() == [b"x"]
    assert await other.ask(p.Pingreq()) == [p.Pingresp()]


async def test_reset() -> None:
    """A reset ends all connections at once, and those that come after it are served."""
    broker = Broker()
    peers = [await client(broker, client_id) for client_id in "ab"]
    assert broker.faults.reset() == 2
    assert all(peer.transport.is_aborted for peer in peers)
    assert broker.clients == []
    assert [entry.how for entry in broker.ledger.ends()] == ["reset", "reset"]
    await client(broker, "a")
    assert broker.clients == ["a"]


async def test_refuse_subscribe() -> None:
    """The given filters are refused, and no others; without filters all are."""
    broker = Broker()
    for version, code in ((4, 0x80), (5, 0x87)):
        peer = await client(broker, version=version)
        broker.faults.refuse_subscribe("a", "b/#")
        wishes = tuple(p.Subscription(name) for name in ("a", "b/#", "c"))
        assert await peer.ask(p.Subscribe(1, wishes)) == [p.Suback(1, (code, code, 0))]
        broker.faults.refuse_subscribe(code=0x97, times=1)
        assert await peer.ask(p.Subscribe(1, wishes)) == [p.Suback(1, (0x97 if version == 5 else 0x80, 0, 0))]
    broker.publish("c", b"x")
    assert await peer.received() == [p.Publish("c", b"x")]


async def test_poison() -> None:
    """Publishing to a poisoned topic resets the connection, and the message reaches nobody."""
    broker = Broker()
    broker.faults.poison(lambda topic: topic.startswith("bad/"))
    peer = await client(broker)
    assert await peer.ask(p.Publish("good/1", b"1", 1, 1)) == [p.Puback(1)]
    assert await peer.ask(p.Publish("bad/1", b"2", 1, 2)) == []
    assert peer.is_closed
    assert broker.ledger.payloads() == [b"1"]
    assert broker.ledger.ends()[0].how == "poison"


async def test_settings() -> None:
    """`active` names what is set and how often it still strikes; a count below 1 is a `ValueError`."""
    broker = Broker()
    faults = broker.faults
    faults.silence(times=3)
    faults.swallow_pings()
    assert faults.active == {"silence": 3, "swallow_pings": None}
    assert "silence=3" in repr(faults)
    faults.lift("silence")
    assert list(faults.active) == ["swallow_pings"]
    faults.clear()
    assert faults.active == {}
    with pytest.raises(ValueError):
        faults.silence(times=0)


async def test_kick() -> None:
    """A kicked client of MQTT 5 hears the reason, one of 3.1.1 is closed, and an unknown one is not found."""
    broker = Broker()
    new, old = await client(broker, "new"), await client(broker, "old", version=4)
    assert broker.kick("new", 0x8B)
    assert broker.kick("old")
    assert not broker.kick("nobody")
    assert await new.received() == [p.Disconnect(0x8B)]
    assert await old.received() == []
    assert old.is_closed
