from __future__ import annotations

import asyncio
import random

import pytest
from switchgear.testing.broker import Broker, Closed, Peer, Properties
from switchgear.testing.broker import packets as p


async def client(broker: Broker, client_id: str, *, version: int = 5, expiry: int = 0, clean: bool = True) -> Peer:
    """A connected peer; *expiry* above 0 asks for a session that outlives the connection."""
    peer = Peer(broker, version=version)
    about = Properties(session_expiry_interval=expiry) if version == 5 else Properties()
    answer = await peer.connect(p.Connect(client_id=client_id, version=version, clean=clean, properties=about))
    assert answer.code == 0
    return peer


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("version", [4, 5])
async def test_qos_0_1_2(version: int) -> None:
    """A message arrives with the lower of both QoS, each acknowledged as its QoS demands."""
    broker = Broker()
    sub, pub = await client(broker, "sub", version=version), await client(broker, "pub", version=version)
    wishes = tuple(p.Subscription(f"q/{qos}", qos) for qos in range(3))
    assert await sub.ask(p.Subscribe(1, wishes)) == [p.Suback(1, (0, 1, 2))]
    assert await pub.ask(p.Publish("q/0", b"0", 2, 7)) == [p.Pubrec(7)]
    assert await pub.ask(p.Pubrel(7)) == [p.Pubcomp(7)]
    assert await sub.received() == [p.Publish("q/0", b"0")]
    assert await pub.ask(p.Publish("q/1", b"1", 1, 8)) == [p.Puback(8)]
    assert await sub.received() == [p.Publish("q/1", b"1", 1, 1)]
    assert await sub.ask(p.Puback(1)) == []
    assert await pub.ask(p.Publish("q/2", b"2", 2, 8)) == [p.Pubrec(8)]
    assert await sub.received() == [p.Publish("q/2", b"2", 2, 2)]
    assert await sub.ask(p.Pubrec(2)) == [p.Pubrel(2)]
    assert await sub.ask(p.Pubcomp(2)) == []
    assert await pub.ask(p.Publish("q/2", b"3")) == []
    assert await sub.received() == [p.Publish("q/2", b"3")]


@pytest.mark.parametrize("version", [4, 5])
async def test_exactly_once(version: int) -> None:
    """A QoS 2 message that is sent again with the same packet id, on a resumed session, is passed on once."""
    broker = Broker()
    pub = await client(broker, "pub", version=version, clean=False, expiry=60)
    await pub.ask(p.Publish("t", b"x", 2, 5))
    await pub.lose()
    pub = await client(broker, "pub", version=version, clean=False, expiry=60)
    assert await pub.ask(p.Publish("t", b"x", 2, 5, dup=True)) == [p.Pubrec(5)]
    assert await pub.ask(p.Pubrel(5)) == [p.Pubcomp(5)]
    assert broker.ledger.payloads() == [b"x"]
    code = 0x92 if version == 5 else 0
    assert await pub.ask(p.Pubrel(5)) == [p.Pubcomp(5, code)]
    await pub.ask(p.Publish("t", b"x", 2, 5))
    assert broker.ledger.payloads() == [b"x", b"x"]
    assert [entry.payload for entry in broker.ledger.duplicates()] == [b"x"]


@pytest.mark.parametrize("version", [4, 5])
async def test_resume(version: int) -> None:
    """After a resume the broker sends PUBREL and unacknowledged PUBLISHes again, with DUP, then what it queued."""
    broker = Broker()
    sub = await client(broker, "sub", version=version, clean=False, expiry=60)
    await sub.ask(p.Subscribe(1, (p.Subscription("#", 2),)))
    broker.publish("a", b"1", qos=1)
    broker.publish("b", b"2", qos=2)
    broker.publish("c", b"3", qos=2)
    assert len(await sub.ask(p.Pubrec(2))) == 4
    await sub.lose()
    broker.publish("d", b"4", qos=1)
    broker.publish("e", b"5", qos=0)
    sub = Peer(broker, version=version)
    about = Properties(session_expiry_interval=60) if version == 5 else Properties()
    answer = await sub.connect(p.Connect(client_id="sub", version=version, clean=False, properties=about))
    assert answer.session_present
    assert await sub.received() == [
        p.Pubrel(2),
        p.Publish("a", b"1", 1, 1, dup=True),
        p.Publish("c", b"3", 2, 3, dup=True),
        p.Publish("d", b"4", 1, 4),
    ]


async def test_clean_3_1_1() -> None:
    """A clean session of 3.1.1 leaves nothing behind, and wipes what a persistent one left."""
    broker = Broker()
    sub = await client(broker, "c", version=4, clean=False)
    await sub.ask(p.Subscribe(1, (p.Subscription("#", 1),)))
    await sub.ask(p.Disconnect())
    assert list(broker.store.sessions) == ["c"]
    sub = await client(broker, "c", version=4)
    assert not broker.ledger.connects("c")[-1].session_present
    await sub.ask(p.Disconnect())
    assert list(broker.store.sessions) == []


async def test_session_expiry() -> None:
    """A session of MQTT 5 is there until its expiry interval after the end of the connection, and no longer."""
    broker = Broker()
    for pause, is_present in ((29.0, True), (30.0, False)):
        sub = await client(broker, "c", expiry=30)
        await sub.ask(p.Subscribe(1, (p.Subscription("#", 1),)))
        await sub.lose()
        await asyncio.sleep(pause)
        broker.publish("t", b"x", qos=1)
        await client(broker, "c", clean=False)
        assert broker.ledger.connects("c")[-1].session_present is is_present


async def test_expiry_in_disconnect() -> None:
    """DISCONNECT can shorten the session's life to nothing, but cannot give life to one that has none."""
    broker = Broker()
    sub = await client(broker, "c", expiry=30)
    await sub.ask(p.Disconnect(properties=Properties(session_expiry_interval=0)))
    assert broker.store.sessions == {}
    sub = await client(broker, "c")
    (answer,) = await sub.ask(p.Disconnect(properties=Properties(session_expiry_interval=9)))
    assert isinstance(answer, p.Disconnect)
    assert answer.code == 0x82


@pytest.mark.parametrize("version", [4, 5])
async def test_takeover(version: int) -> None:
    """A second connection with the same client id ends the first, which in MQTT 5 is told 0x8E, and has its session."""
    broker = Broker()
    first = await client(broker, "c", version=version, expiry=60, clean=False)
    second = await client(broker, "c", version=version, expiry=60, clean=False)
    assert await first.received() == ([p.Disconnect(0x8E)] if version == 5 else [])
    assert first.is_closed
    assert not second.is_closed
    assert [entry.how for entry in broker.ledger.ends("c")] == ["takeover"]
    assert broker.clients == ["c"]
    assert broker.ledger.connects("c")[-1].session_present
    assert await second.ask(p.Pingreq()) == [p.Pingresp()]


async def test_will() -> None:
    """The will is published when the client vanishes, is taken over, or says 0x04, and not when it says 0x00."""
    broker = Broker()
    sub = await client(broker, "sub")
    await sub.ask(p.Subscribe(1, (p.Subscription("will", 1),)))

    async def doomed() -> Peer:
        peer = Peer(broker)
        await peer.connect(p.Connect(client_id="d", version=5, will=p.Will("will", b"gone", 1)))
        return peer

    await (await doomed()).ask(p.Disconnect())
    assert await sub.received() == []
    await (await doomed()).lose()
    assert await sub.received() == [p.Publish("will", b"gone", 1, 1)]
    await (await doomed()).ask(p.Disconnect(0x04))
    assert await sub.received() == [p.Publish("will", b"gone", 1, 2)]
    await doomed()
    await client(broker, "d")
    assert await sub.received() == [p.Publish("will", b"gone", 1, 3)]


async def test_will_delay() -> None:
    """A will waits for its delay or for the end of the session, and is not published when the client returns before."""
    broker = Broker()
    sub = await client(broker, "sub")
    await sub.ask(p.Subscribe(1, (p.Subscription("will", 1, retain_as_published=True),)))
    will = p.Will("will", b"gone", 0, is_retained=False, properties=Properties(will_delay_interval=10))

    async def doomed(expiry: int, *, clean: bool = True) -> Peer:
        peer = Peer(broker)
        about = Properties(session_expiry_interval=expiry)
        await peer.connect(p.Connect(client_id="d", version=5, clean=clean, will=will, properties=about))
        return peer

    await (await doomed(100)).lose()
    await asyncio.sleep(9)
    assert await sub.received() == []
    back = await doomed(100, clean=False)
    await asyncio.sleep(9)
    await back.lose()
    await asyncio.sleep(9)
    assert await sub.received() == []
    await asyncio.sleep(2)
    assert await sub.received() == [p.Publish("will", b"gone")]
    await (await doomed(5)).lose()
    await asyncio.sleep(6)
    assert await sub.received() == [p.Publish("will", b"gone")]
    await (await doomed(100)).lose()
    await doomed(100)
    assert await sub.received() == [p.Publish("will", b"gone")]


async def test_assigned_client_id() -> None:
    """A client without an id is given one: told it in MQTT 5, allowed in 3.1.1 only with a clean session."""
    broker = Broker(rng=random.Random(1))
    peer = Peer(broker)
    answer = await peer.connect(p.Connect(client_id="", version=5))
    assert [answer.properties.assigned_client_identifier] == broker.clients
    old = Peer(broker, version=4)
    assert (await old.connect(p.Connect(client_id=""))).code == 0
    assert len(set(broker.clients)) == 2
    old = Peer(broker, version=4)
    assert (await old.connect(p.Connect(client_id="", clean=False))).code == 2
    await old.received()
    assert old.is_closed


async def test_keepalive() -> None:
    """A client that is silent for one and a half times its keepalive is closed with 0x8D, and not earlier."""
    broker = Broker()
    peer = Peer(broker)
    await peer.connect(p.Connect(client_id="c", version=5, keepalive=10))
    await asyncio.sleep(14)
    assert await peer.ask(p.Pingreq()) == [p.Pingresp()]
    await asyncio.sleep(14)
    assert not peer.is_closed
    await asyncio.sleep(1.5)
    assert await peer.received() == [p.Disconnect(0x8D)]
    assert broker.ledger.ends()[0].how == "keepalive"


async def test_keepalive_off() -> None:
    """Keepalive 0, and a broker told not to enforce it, let a client be silent for ever."""
    for broker, keepalive in ((Broker(), 0), (Broker(enforces_keepalive=False), 1)):
        peer = Peer(broker)
        await peer.connect(p.Connect(client_id="c", version=5, keepalive=keepalive))
        await asyncio.sleep(1e6)
        assert not peer.is_closed


async def test_server_keepalive() -> None:
    """The server's keepalive is announced in MQTT 5 and counts instead of the client's."""
    broker = Broker(server_keep_alive=2)
    peer = Peer(broker)
    answer = await peer.connect(p.Connect(client_id="c", version=5, keepalive=1000))
    assert answer.properties.server_keep_alive == 2
    await asyncio.sleep(4)
    assert peer.is_closed


async def test_users() -> None:
    """Only a user with the right password gets in; others get 4 in 3.1.1 and 0x86 in MQTT 5."""
    broker = Broker(users={"publisher": "secret"})
    for username, password, codes in (
        ("publisher", b"secret", (0, 0)),
        ("publisher", b"wrong", (4, 0x86)),
        ("publisher", None, (4, 0x86)),
        ("nobody", b"secret", (4, 0x86)),
        (None, None, (4, 0x86)),
    ):
        for version, code in zip((4, 5), codes, strict=True):
            peer = Peer(broker, version=version)
            login = p.Connect(client_id="c", version=version, username=username, password=password)
            assert (await peer.connect(login)).code == code


async def test_authorize() -> None:
    """What `authorize` answers with False is not done, and is refused with 0x87 where the version can say so."""
    asked = []

    def authorize(user: str | None, action: str, topic: str) -> bool | None:
        asked.append((user, action, topic))
        return None if topic == "fine" else topic != "secret"

    for version in (4, 5):
        broker = Broker(authorize=authorize)
        peer = await client(broker, "c", version=version)
        code = 0x87 if version == 5 else 0
        assert await peer.ask(p.Publish("secret", b"", 1, 1)) == [p.Puback(1, code)]
        assert await peer.ask(p.Publish("secret", b"", 2, 1)) == [p.Pubrec(1, code)]
        assert await peer.ask(p.Publish("fine", b"", 1, 1)) == [p.Puback(1)]
        wishes = (p.Subscription("secret", 1), p.Subscription("open", 1))
        assert await peer.ask(p.Subscribe(2, wishes)) == [p.Suback(2, (0x87 if version == 5 else 0x80, 1))]
        assert [entry.topic for entry in broker.ledger.published()] == ["fine"]
    assert asked[0] == (None, "publish", "secret")


async def test_broken_predicate(caplog: pytest.LogCaptureFixture) -> None:
    """A predicate that raises ends the connection that asked and is logged; the broker lives on."""
    broker = Broker(authorize=lambda _user, _action, _topic: 1 / 0 > 0)
    peer, other = await client(broker, "c"), await client(broker, "other")
    assert await peer.ask(p.Publish("t")) == [p.Disconnect(0x80)]
    assert [entry.how for entry in broker.ledger.entries if isinstance(entry, Closed)] == ["internal error"]
    assert "switchgear.testing.broker_failed" in caplog.text
    assert await other.ask(p.Pingreq()) == [p.Pingresp()]


async def test_at() -> None:
    """Ledger entries carry the time of the loop, the broker's name and the number of the connection."""
    broker = Broker(name="a")
    await client(broker, "first")
    start = now()
    await asyncio.sleep(5)
    await client(broker, "second")
    entry = broker.ledger.connects("second")[0]
    assert (entry.at - start, entry.broker, entry.number) == (5, "a", 2)
