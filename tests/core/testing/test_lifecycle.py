from __future__ import annotations

import asyncio

import pytest
from switchgear.testing.broker import (
    Acked,
    Broker,
    Connected,
    Ledger,
    Peer,
    Properties,
    Published,
    Store,
    Subscribed,
    Unsubscribed,
)
from switchgear.testing.broker import packets as p

SESSION = Properties(session_expiry_interval=600)


async def client(broker: Broker, client_id: str, *, clean: bool = False, will: p.Will | None = None) -> Peer:
    """A connected peer with a session that outlives the connection."""
    peer = Peer(broker)
    await peer.connect(p.Connect(client_id=client_id, version=5, clean=clean, will=will, properties=SESSION))
    return peer


async def test_pair() -> None:
    """What the active broker acknowledged before it was killed, its standby delivers exactly once after promotion."""
    store, ledger = Store(), Ledger()
    a = Broker(name="a", store=store, ledger=ledger)
    b = Broker(name="b", store=store, ledger=ledger, standby=True)
    assert Peer(b).is_closed
    sub, pub = await client(a, "sub"), await client(a, "pub")
    await sub.ask(p.Subscribe(1, (p.Subscription("#", 2),)))
    await sub.lose()
    assert await pub.ask(p.Publish("t", b"1", 1, 1), p.Publish("t", b"2", 2, 2)) == [p.Puback(1), p.Pubrec(2)]
    await a.kill()
    assert pub.transport.is_aborted
    assert Peer(a).is_closed
    await b.promote()
    pub = await client(b, "pub")
    assert ledger.connects("pub")[-1].session_present
    assert await pub.ask(p.Publish("t", b"2", 2, 2, dup=True), p.Pubrel(2)) == [p.Pubrec(2), p.Pubcomp(2)]
    sub = await client(b, "sub")
    assert await sub.received() == [p.Publish("t", b"1", 1, 1), p.Publish("t", b"2", 2, 2)]
    assert [(entry.broker, entry.payload) for entry in ledger.published()] == [("a", b"1"), ("a", b"2")]


async def test_kill() -> None:
    """A killed broker says nothing, publishes no will, forgets sessions without expiry and keeps the others."""
    broker = Broker()
    watcher = await client(broker, "watcher")
    await watcher.ask(p.Subscribe(1, (p.Subscription("will", 1),)))
    doomed = await client(broker, "doomed", will=p.Will("will", b"gone", 1))
    brief = Peer(broker)
    await brief.connect(p.Connect(client_id="brief", version=5))
    doomed.send(p.Publish("t", b"x", 1, 1))
    await broker.kill()
    assert await doomed.received() == []
    assert sorted(broker.store.sessions) == ["doomed", "watcher"]
    assert [entry.how for entry in broker.ledger.ends()] == ["killed"] * 3
    await broker.restart()
    watcher = await client(broker, "watcher")
    assert await watcher.received() == []


async def test_killed_will_delay() -> None:
    """A will that waits for its delay dies with the broker."""
    broker = Broker()
    watcher = await client(broker, "watcher")
    await watcher.ask(p.Subscribe(1, (p.Subscription("will", 1),)))
    await (await client(broker, "d", will=p.Will("will", properties=Properties(will_delay_interval=5)))).lose()
    await broker.kill()
    await broker.restart()
    await asyncio.sleep(10)
    assert await (await client(broker, "watcher")).received() == []


async def test_stop() -> None:
    """An orderly stop tells clients of MQTT 5 0x8B and publishes wills to those who will be back."""
    broker = Broker()
    watcher = await client(broker, "watcher")
    await watcher.ask(p.Subscribe(1, (p.Subscription("will", 1),)))
    doomed = await client(broker, "doomed", will=p.Will("will", b"gone", 1))
    await broker.stop()
    assert await doomed.received() == [p.Disconnect(0x8B)]
    assert not broker.is_listening
    await broker.restart()
    assert await (await client(broker, "watcher")).received() == [p.Publish("will", b"gone", 1, 1)]


async def test_stop_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not take its farewell within a second is aborted."""
    broker = Broker()
    stuck = await client(broker, "stuck")
    monkeypatch.setattr(stuck.transport, "close", lambda: None)
    start = asyncio.get_running_loop().time()
    await broker.stop()
    assert stuck.transport.is_aborted
    assert asyncio.get_running_loop().time() - start == 1


async def test_lost_and_broken() -> None:
    """The ledger tells a client that closed without DISCONNECT from a network that failed."""
    broker = Broker()
    await (await client(broker, "c")).lose()
    await (await client(broker, "c")).lose(OSError("no route"))
    assert [entry.how for entry in broker.ledger.ends("c")] == ["lost", "broken"]


async def test_hidden_topics() -> None:
    """The ledger's "#" is everything, while a client's "#" leaves out topics that begin with $."""
    broker = Broker()
    peer = await client(broker, "c")
    await peer.ask(p.Subscribe(1, (p.Subscription("#"),)))
    assert await peer.ask(p.Publish("$aws/t", b"x")) == []
    assert broker.ledger.payloads() == [b"x"]
    assert broker.ledger.payloads("+/t") == []


async def test_takeover_across_the_pair() -> None:
    """A client that reaches the other broker of the pair takes over the session that the first one holds."""
    store = Store()
    a, b = Broker(name="a", store=store), Broker(name="b", store=store)
    old = await client(a, "c")
    new = await client(b, "c")
    assert await old.received() == [p.Disconnect(0x8E)]
    assert b.ledger.connects("c")[0].session_present
    assert await new.ask(p.Pingreq()) == [p.Pingresp()]


async def test_restart_as_standby() -> None:
    """A broker that comes back as a standby takes no connections until it is promoted."""
    broker = Broker()
    await broker.kill()
    await broker.restart(standby=True)
    assert not broker.is_listening
    assert Peer(broker).is_closed
    await broker.promote()
    assert broker.is_listening
    assert not Peer(broker).is_closed


async def test_connection_of_an_earlier_life() -> None:
    """A connection that was accepted before a kill and is made after the restart is not served."""
    broker = Broker()
    protocol = broker.protocol_factory()
    await broker.kill()
    await broker.restart()
    peer = Peer(broker)
    peer.transport.is_aborted = False
    protocol.connection_made(peer.transport)
    assert peer.transport.is_aborted


async def test_ledger_helpers() -> None:
    """The ledger keeps every kind of entry in order, and its helpers select by filter and by client."""
    broker = Broker(name="a")
    peer = await client(broker, "c", clean=True)
    await peer.ask(p.Subscribe(1, (p.Subscription("a/#", 1),)), p.Publish("a/1", b"x", 1, 7), p.Publish("b", b"y"))
    await peer.ask(p.Puback(1), p.Unsubscribe(2, ("a/#",)), p.Disconnect())
    ledger = broker.ledger
    assert [entry.topic for entry in ledger.published("a/+")] == ["a/1"]
    assert ledger.payloads() == [b"x", b"y"]
    assert [(entry.topic, entry.packet_id) for entry in ledger.delivered(client_id="c")] == [("a/1", 1)]
    assert ledger.delivered(client_id="nobody") == []
    assert ledger.duplicates() == []
    assert [entry.clean for entry in ledger.connects("c")] == [True]
    assert [entry.filter for entry in ledger.subscribes()] == ["a/#"]
    assert [(entry.how, entry.code) for entry in ledger.ends("c")] == [("disconnect", 0)]
    acks = [(entry.packet, entry.packet_id, entry.is_sent) for entry in ledger.entries if isinstance(entry, Acked)]
    assert acks == [("PUBACK", 7, True), ("PUBACK", 1, False)]
    assert ledger.counts[Unsubscribed] == ledger.counts[Subscribed] == 1
    ledger.clear()
    assert (ledger.entries, ledger.counts.total()) == ([], 0)


async def test_counting_only() -> None:
    """A ledger that keeps nothing still counts every entry."""
    broker = Broker(ledger=Ledger(keep=False))
    peer = await client(broker, "c")
    await peer.ask(p.Subscribe(1, (p.Subscription("#", 1),)), *(p.Publish("t", b"", 1, n) for n in (1, 2, 3)))
    assert broker.ledger.entries == []
    assert [broker.ledger.counts[kind] for kind in (Connected, Published, Acked)] == [1, 3, 3]


async def test_until() -> None:
    """`until` returns when its condition comes true, at once if it is, and raises what the condition raises."""
    broker = Broker()
    ledger = broker.ledger
    task = asyncio.create_task(ledger.until(lambda: len(ledger.published()) == 2))
    failing = asyncio.create_task(ledger.until(lambda: bool(ledger.published()[0])))
    peer = await client(broker, "c")
    with pytest.raises(IndexError):
        await failing
    await peer.ask(p.Publish("t"))
    assert not task.done()
    await peer.ask(p.Publish("t"))
    await task
    await ledger.until(lambda: True)


def test_no_listener() -> None:
    """Asking a broker without listeners for its address is an error that says what to do."""
    with pytest.raises(RuntimeError, match="call start"):
        _ = Broker().uri
