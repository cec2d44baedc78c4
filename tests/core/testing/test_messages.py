from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.testing.broker import Broker, Peer, Properties, encode
from switchgear.testing.broker import packets as p


async def client(broker: Broker, client_id: str, *filters: p.Subscription, version: int = 5, **about: int) -> Peer:
    """A connected peer with these subscriptions."""
    peer = Peer(broker, version=version)
    await peer.connect(p.Connect(client_id=client_id, version=version, properties=Properties(**about)))  # type: ignore[arg-type] # integers only
    if filters:
        await peer.ask(p.Subscribe(1, filters))
    return peer


async def test_gathered() -> None:
    """Everything that the broker answers in one turn of the loop is one write."""
    peer = await client(Broker(), "c", p.Subscription("#", 1))
    peer.send(*(p.Publish("t", b"", 1, number) for number in range(1, 50)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(peer.transport.written) == 1
    assert len(await peer.received()) == 98


async def test_retained() -> None:
    """A retained message meets later subscribers with the retain flag, and present ones without; an empty one removes it."""
    broker = Broker()
    early = await client(broker, "early", p.Subscription("r/#", 1))
    pub = await client(broker, "pub")
    await pub.ask(p.Publish("r/1", b"x", 1, 1, is_retained=True))
    assert await early.received() == [p.Publish("r/1", b"x", 1, 1)]
    late = await client(broker, "late")
    assert await late.ask(p.Subscribe(9, (p.Subscription("r/+", 0),))) == [
        p.Suback(9, (0,)),
        p.Publish("r/1", b"x", is_retained=True),
    ]
    await pub.ask(p.Publish("r/1", b"", is_retained=True))
    assert await late.ask(p.Subscribe(9, (p.Subscription("r/+", 0),))) == [p.Publish("r/1"), p.Suback(9, (0,))]


async def test_retain_options() -> None:
    """Retain as published keeps the flag; retain handling 1 sends for new subscriptions only, and 2 never."""
    broker = Broker()
    broker.publish("r", b"x", retain=True)
    peer = await client(broker, "c")
    for handling, counts in ((0, (1, 1)), (1, (1, 0)), (2, (0, 0))):
        for count in counts:
            wish = p.Subscription("r", 0, retain_as_published=True, retain_handling=handling)
            answers = await peer.ask(p.Subscribe(1, (wish,)))
            assert [type(answer) for answer in answers] == [p.Suback, p.Publish][: 1 + count]
        assert await peer.ask(p.Unsubscribe(2, ("r",))) == [p.Unsuback(2, (0,))]
    await peer.ask(p.Subscribe(1, (p.Subscription("r", retain_as_published=True, retain_handling=2),)))
    broker.publish("r", b"y", retain=True)
    broker.publish("r", b"z")
    assert await peer.received() == [p.Publish("r", b"y", is_retained=True), p.Publish("r", b"z")]


async def test_no_local() -> None:
    """A client with no-local does not get its own messages, and gets those of others."""
    broker = Broker()
    one = await client(broker, "one", p.Subscription("t", no_local=True))
    two = await client(broker, "two")
    assert await one.ask(p.Publish("t", b"own")) == []
    await two.ask(p.Publish("t", b"other"))
    assert await one.received() == [p.Publish("t", b"other")]


async def test_overlap() -> None:
    """Overlapping subscriptions give one message, with the highest QoS and every subscription identifier."""
    broker = Broker()
    peer = await client(broker, "c")
    for identifier, wish in ((3, p.Subscription("a/#", 1)), (4, p.Subscription("a/+", 2)), (5, p.Subscription("b", 2))):
        await peer.ask(p.Subscribe(1, (wish,), Properties(subscription_identifiers=(identifier,))))
    broker.publish("a/b", b"x", qos=2)
    (message,) = await peer.received()
    assert isinstance(message, p.Publish)
    assert message.qos == 2
    assert set(message.properties.subscription_identifiers) == {3, 4}


async def test_shared() -> None:
    """Each message of a shared subscription goes to one member, by turns, and not to one that is away."""
    broker = Broker()
    wish = p.Subscription("$share/g/t", 1)
    one, two = await client(broker, "one", wish), await client(broker, "two", wish, session_expiry_interval=60)
    for number in range(4):
        broker.publish("t", b"%d" % number, qos=1)
    assert [message.payload for message in await one.received() if isinstance(message, p.Publish)] == [b"0", b"2"]
    assert [message.payload for message in await two.received() if isinstance(message, p.Publish)] == [b"1", b"3"]
    await two.lose()
    broker.publish("t", b"4", qos=1)
    broker.publish("t", b"5", qos=1)
    assert len(await one.received()) == 2
    (refusal,) = await one.ask(p.Subscribe(1, (p.Subscription("$share/g/t", no_local=True),)))
    assert isinstance(refusal, p.Disconnect)
    assert refusal.code == 0x82


async def test_unsubscribe() -> None:
    """After UNSUBSCRIBE nothing comes; the code says whether there was a subscription."""
    broker = Broker()
    peer = await client(broker, "c", p.Subscription("t"))
    assert await peer.ask(p.Unsubscribe(2, ("t", "u"))) == [p.Unsuback(2, (0, 0x11))]
    broker.publish("t")
    assert await peer.received() == []


async def test_invalid_subscription() -> None:
    """An invalid filter is refused in SUBACK, and the others of the same SUBSCRIBE are granted."""
    for version, code in ((4, 0x80), (5, 0x8F)):
        peer = await client(Broker(), "c", version=version)
        assert await peer.ask(p.Subscribe(3, (p.Subscription("a#"), p.Subscription("b", 2)))) == [
            p.Suback(3, (code, 2))
        ]


async def test_receive_maximum_of_client() -> None:
    """No more messages are under way to a client than its receive maximum; QoS 0 does not count."""
    broker = Broker()
    peer = await client(broker, "c", p.Subscription("#", 2), receive_maximum=2)
    for number in range(4):
        broker.publish("t", b"%d" % number, qos=1 + number % 2)
    broker.publish("t", b"free")
    first, second, free = await peer.received()
    assert (first, second, free) == (p.Publish("t", b"0", 1, 1), p.Publish("t", b"1", 2, 2), p.Publish("t", b"free"))
    assert await peer.ask(p.Puback(1)) == [p.Publish("t", b"2", 1, 3)]
    assert await peer.ask(p.Pubrec(2)) == [p.Pubrel(2)]
    assert await peer.ask(p.Pubcomp(2)) == [p.Publish("t", b"3", 2, 4)]
    assert await peer.ask(p.Pubrec(4, 0x97)) == []
    assert await peer.ask(p.Pubrec(4)) == [p.Pubrel(4, 0x92)]


async def test_receive_maximum_of_broker() -> None:
    """A client that sends more than the announced receive maximum before an answer can have come is told 0x93."""
    broker = Broker(receive_maximum=2)
    peer = Peer(broker)
    answer = await peer.connect(p.Connect(client_id="c", version=5))
    assert answer.properties.receive_maximum == 2
    fine = [p.Publish("t", b"", 1, number) for number in (1, 2)]
    assert await peer.ask(*fine) == [p.Puback(1), p.Puback(2)]
    assert await peer.ask(p.Publish("t", b"", 2, 3), p.Publish("t", b"", 1, 4)) == [p.Pubrec(3), p.Puback(4)]
    *_, last = await peer.ask(p.Publish("t", b"", 1, 5), p.Publish("t", b"", 1, 6))
    assert isinstance(last, p.Disconnect)
    assert last.code == 0x93


async def test_maximum_packet_size() -> None:
    """The broker announces and enforces its maximum packet size, and drops what is too large for the client."""
    broker = Broker(maximum_packet_size=100)
    small = await client(broker, "small", p.Subscription("#", 1), maximum_packet_size=30)
    pub = Peer(broker)
    answer = await pub.connect(p.Connect(client_id="pub", version=5))
    assert answer.properties.maximum_packet_size == 100
    assert await pub.ask(p.Publish("t", b"x" * 60, 1, 1), p.Publish("t", b"x", 1, 2)) == [p.Puback(1), p.Puback(2)]
    assert await small.received() == [p.Publish("t", b"x", 1, 2)]
    (last,) = await pub.ask(p.Publish("t", b"x" * 100))
    assert isinstance(last, p.Disconnect)
    assert last.code == 0x95


async def test_message_expiry() -> None:
    """A message waits no longer than its expiry interval, and one that waited says what is left of it."""
    broker = Broker()
    sub = await client(broker, "sub", p.Subscription("#", 1), session_expiry_interval=100)
    await sub.lose()
    pub = await client(broker, "pub")
    for seconds in (10, 30):
        about = Properties(message_expiry_interval=seconds)
        await pub.ask(p.Publish("t", b"%d" % seconds, 1, 1, is_retained=seconds == 10, properties=about))
    await asyncio.sleep(20)
    sub = Peer(broker)
    await sub.connect(p.Connect(client_id="sub", version=5, clean=False))
    assert await sub.received() == [p.Publish("t", b"30", 1, 1, properties=Properties(message_expiry_interval=10))]
    assert await sub.ask(p.Subscribe(1, (p.Subscription("t", 1),))) == [p.Suback(1, (1,))]


async def test_properties_pass() -> None:
    """User properties, content type, response topic, correlation data and format reach a subscriber unchanged."""
    broker = Broker()
    sub, old = (
        await client(broker, "sub", p.Subscription("#")),
        await client(broker, "old", p.Subscription("#"), version=4),
    )
    about = Properties(
        payload_format_indicator=1,
        content_type="text/plain",
        response_topic="answers",
        correlation_data=b"\x00\x01",
        user_properties=(("a", "1"), ("a", "2"), ("", "")),
    )
    await (await client(broker, "pub")).ask(p.Publish("t", b"x", properties=about))
    assert await sub.received() == [p.Publish("t", b"x", properties=about)]
    assert await old.received() == [p.Publish("t", b"x")]


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (p.Connect(client_id="again", version=5), 0x82),
        (p.Connack(), 0x82),
        (p.Pingresp(), 0x82),
        (p.Auth(0x18), 0x82),
        (p.Publish("t", properties=Properties(topic_alias=1)), 0x94),
        (p.Publish("t", properties=Properties(subscription_identifiers=(1,))), 0x82),
    ],
)
async def test_protocol_errors(packet: p.Packet, code: int) -> None:
    """What a client may not send ends its connection with the reason that the specification names."""
    broker = Broker()
    peer = await client(broker, "c")
    (last,) = await peer.ask(packet)
    assert isinstance(last, p.Disconnect)
    assert (last.code, last.properties.reason_string is not None) == (code, True)
    assert peer.is_closed
    assert [(entry.how, entry.code) for entry in broker.ledger.ends()] == [("protocol error", code)]


async def test_first_packet() -> None:
    """A connection that does not begin with CONNECT is closed without a word, one of MQTT 3.1 with code 1."""
    broker = Broker()
    peer = Peer(broker)
    assert await peer.ask(p.Pingreq()) == []
    assert peer.is_closed
    peer = Peer(broker, version=4)
    peer.send_bytes(b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03old")
    assert await peer.received() == [p.Connack(1)]
    assert peer.is_closed


async def test_enhanced_authentication() -> None:
    """A CONNECT with an authentication method is refused with 0x8C."""
    about = Properties(authentication_method="SCRAM-SHA-1")
    assert (await Peer(Broker()).connect(p.Connect(client_id="c", version=5, properties=about))).code == 0x8C


@given(st.lists(st.binary(max_size=60), max_size=5), st.integers(4, 5))
def test_any_bytes(pieces: list[bytes], version: int) -> None:
    """No bytes, after a CONNECT or instead of one, make the protocol raise or the broker fail inside."""

    async def main() -> list[str]:
        broker = Broker()
        good, bad = Peer(broker), Peer(broker, version=version)
        await good.connect(p.Connect(client_id="good", version=5))
        await bad.connect(p.Connect(client_id="bad", version=version))
        fresh = Peer(broker)
        for piece in pieces:
            bad.send_bytes(piece)
            fresh.send_bytes(piece)
        await bad.received()
        assert await good.ask(p.Pingreq()) == [p.Pingresp()]
        return [entry.how for entry in broker.ledger.ends()]

    assert "internal error" not in asyncio.run(main())


@given(
    st.lists(
        st.sampled_from(
            [
                p.Publish("a", b"x", 1, 1),
                p.Publish("a", b"x", 2, 2),
                p.Publish("a", b"", is_retained=True),
                p.Puback(1),
                p.Pubrec(1),
                p.Pubrec(2, 0x80),
                p.Pubrel(2),
                p.Pubcomp(1),
                p.Pubcomp(2),
                p.Subscribe(1, (p.Subscription("#", 2), p.Subscription("$share/g/+", 1))),
                p.Unsubscribe(1, ("#",)),
                p.Disconnect(),
            ]
        ),
        max_size=30,
    ),
    st.integers(4, 5),
    st.integers(1, 3),
)
def test_any_order(packets: list[p.Packet], version: int, window: int) -> None:
    """Valid packets in any order never make the broker fail inside, nor exceed the client's receive maximum."""

    async def main() -> list[str]:
        broker = Broker()
        about = Properties(receive_maximum=window, session_expiry_interval=9)
        for _ in range(2):
            peer = Peer(broker, version=version)
            await peer.connect(p.Connect(client_id="c", version=version, clean=False, properties=about))
            for packet in packets:
                peer.send_bytes(encode(packet, version=version))
            await peer.received()
            session = broker.store.sessions["c"]
            # A PUBREL sent again on a new connection takes nothing from its quota (MQTT 5, 4.9).
            waiting = [outgoing for outgoing in session.inflight.values() if not outgoing.is_released]
            assert version == 4 or len(waiting) <= window
            await peer.lose()
        return [entry.how for entry in broker.ledger.ends()]

    assert "internal error" not in asyncio.run(main())
