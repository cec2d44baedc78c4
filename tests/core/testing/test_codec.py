from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.testing.broker import Decoder, MalformedPacket, Properties, decode, encode
from switchgear.testing.broker import packets as p
from switchgear.testing.broker import properties as kinds
from switchgear.testing.broker.wire import varint

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
TOPICS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=30)
BLOBS = st.binary(max_size=40)
IDS = st.integers(1, 0xFFFF)
CODES = st.integers(0, 0xFF)
HIGHEST = {"byte": 0xFF, "two": 0xFFFF, "four": 0xFFFF_FFFF, "varint": 268_435_455}


def values(kind: kinds.Kind) -> st.SearchStrategy[Any]:
    if kind.type == "text":
        return TEXTS
    if kind.type == "blob":
        return BLOBS
    if kind.type == "pair":
        return st.tuples(TEXTS, TEXTS)
    return st.integers(kind.lowest, HIGHEST[kind.type] if kind.highest is None else kind.highest)


def properties(packet: int) -> st.SearchStrategy[Properties]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for kind in kinds.KINDS:
        if packet in kind.packets:
            one = values(kind)
            most = 1 if packet == kinds.SUBSCRIBE and kind.type == "varint" else 3
            fields[kind.name] = st.lists(one, max_size=most).map(tuple) if kind.is_repeated else st.none() | one
    return st.just(kinds.NO_PROPERTIES) | st.builds(Properties, **fields)


@st.composite
def packets(draw: st.DrawFn, version: int) -> p.Packet:
    def about(packet: int) -> st.SearchStrategy[Properties]:
        return properties(packet) if version == 5 else st.just(kinds.NO_PROPERTIES)

    is_5 = version == 5
    code = CODES if is_5 else st.just(0)
    qos = draw(st.integers(0, 2))
    username = draw(st.none() | TEXTS)
    options: dict[str, st.SearchStrategy[Any]] = {}
    if is_5:
        options = {
            "no_local": st.booleans(),
            "retain_as_published": st.booleans(),
            "retain_handling": st.integers(0, 2),
        }
    wills = st.builds(p.Will, TOPICS, BLOBS, st.integers(0, 2), st.booleans(), about(kinds.WILL))
    choices: list[st.SearchStrategy[Any]] = [
        st.builds(
            p.Connect,
            client_id=TEXTS,
            version=st.just(version),
            clean=st.booleans(),
            keepalive=st.integers(0, 0xFFFF),
            username=st.just(username),
            password=st.none() | BLOBS if is_5 or username is not None else st.none(),
            will=st.none() | wills,
            properties=about(kinds.CONNECT),
        ),
        st.builds(p.Connack, CODES, st.booleans(), about(kinds.CONNACK)),
        st.builds(
            p.Publish,
            TOPICS,
            BLOBS | st.binary(min_size=100, max_size=20_000),
            st.just(qos),
            IDS if qos else st.just(0),
            st.booleans(),
            st.booleans() if qos else st.just(value=False),
            about(kinds.PUBLISH),
        ),
        st.builds(p.Puback, IDS, code, about(kinds.PUBACK)),
        st.builds(p.Pubrec, IDS, code, about(kinds.PUBREC)),
        st.builds(p.Pubrel, IDS, code, about(kinds.PUBREL)),
        st.builds(p.Pubcomp, IDS, code, about(kinds.PUBCOMP)),
        st.builds(
            p.Subscribe,
            IDS,
            st.lists(st.builds(p.Subscription, TEXTS, st.integers(0, 2), **options), min_size=1, max_size=4).map(tuple),
            about(kinds.SUBSCRIBE),
        ),
        st.builds(p.Suback, IDS, st.lists(CODES, max_size=4).map(tuple), about(kinds.SUBACK)),
        st.builds(p.Unsubscribe, IDS, st.lists(TEXTS, min_size=1, max_size=4).map(tuple), about(kinds.UNSUBSCRIBE)),
        st.builds(
            p.Unsuback, IDS, st.lists(CODES, max_size=4).map(tuple) if is_5 else st.just(()), about(kinds.UNSUBACK)
        ),
        st.just(p.Pingreq()),
        st.just(p.Pingresp()),
        st.builds(p.Disconnect, code, about(kinds.DISCONNECT)),
    ]
    if is_5:
        choices.append(st.builds(p.Auth, CODES, about(kinds.AUTH)))
    packet: p.Packet = draw(st.one_of(choices))
    return packet


@given(st.data(), st.sampled_from([4, 5]), st.integers(1, 50))
def test_round_trip(data: st.DataObject, version: int, cut: int) -> None:
    """Any packets come out of the decoder as they went into the encoder, however the stream is cut."""
    sent = data.draw(st.lists(packets(version), max_size=4))
    stream = b"".join(encode(packet, version=version) for packet in sent)
    decoder = Decoder(version=version)
    came = [packet for at in range(0, len(stream), cut) for packet in decoder.feed(stream[at : at + cut])]
    assert sent == came


@given(st.binary(max_size=200), st.sampled_from([4, 5]))
def test_any_stream(stream: bytes, version: int) -> None:
    """A stream of any bytes gives packets or `MalformedPacket`, never another exception."""
    try:
        for packet in Decoder(version=version).feed(stream):
            assert isinstance(packet, p.Packet)
    except MalformedPacket as error:
        assert error.reason_code >= 0x80  # noqa: PT017 (either outcome is right)


@given(st.integers(0, 15).map(lambda kind: kind << 4) | st.integers(0, 255), st.binary(max_size=60), st.integers(4, 5))
def test_any_body(first: int, body: bytes, version: int) -> None:
    """Any body behind any first byte is a packet or `MalformedPacket`; a packet survives another round."""
    try:
        packet = decode(first, body, version=version)
    except MalformedPacket:
        return
    again = list(Decoder(version=version).feed(encode(packet, version=version)))
    assert [packet] == again


@given(st.data(), st.sampled_from([4, 5]))
def test_damaged(data: st.DataObject, version: int) -> None:
    """A valid packet with one byte changed gives packets or `MalformedPacket`, never another exception."""
    stream = bytearray(encode(data.draw(packets(version)), version=version))
    stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        count = len(list(Decoder(version=version).feed(bytes(stream))))
    except MalformedPacket:
        return
    assert count <= len(stream)


@pytest.mark.parametrize(
    ("stream", "version", "reason"),
    [
        (b"\x30\x80\x80\x80\x80\x01", 5, 0x81),  # a remaining length of five bytes
        (b"\x36\x05\x00\x01a\x00\x01", 4, 0x81),  # QoS 3
        (b"\x38\x03\x00\x01a", 4, 0x81),  # DUP at QoS 0
        (b"\x32\x05\x00\x01a\x00\x00", 4, 0x82),  # packet id 0
        (b"\x30\x03\x00\x01#", 4, 0x81),  # a wildcard
        (b"\x30\x02\x00\x00", 4, 0x82),  # no topic
        (b"\x30\x06\x00\x00\x03\x23\x00\x01", 5, 0x94),  # a topic alias in its place
        (b"\x30\x04\x00\x02\xc0\x80", 4, 0x81),  # overlong UTF-8
        (b"\x80\x00", 4, 0x81),  # SUBSCRIBE with wrong flags
        (b"\x82\x02\x00\x01", 4, 0x82),  # no filter
        (b"\x82\x06\x00\x01\x00\x01a\x03", 4, 0x82),  # QoS 3 asked for
        (b"\x82\x06\x00\x01\x00\x01a\x04", 4, 0x82),  # an option of 5 in 3.1.1
        (b"\xc0\x01\x00", 4, 0x81),  # PINGREQ with a body
        (b"\xf0\x00", 4, 0x81),  # AUTH in 3.1.1
        (b"\x10\x0c\x00\x06MQIsdp\x03\x02\x00\x3c", 4, 0x84),  # MQTT 3.1
        (b"\x10\x0c\x00\x04MQTT\x04\x01\x00\x3c\x00\x00", 4, 0x81),  # the reserved flag
        (b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01", 5, None),  # a session expiry interval is fine here
        (b"\xe0\x0c\x00\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01", 5, 0x82),  # twice is not
        (b"\xe0\x05\x00\x03\x21\x00\x01", 5, 0x81),  # a receive maximum does not belong here
        (b"\x20\x06\x00\x00\x03\x21\x00\x00", 5, 0x82),  # a receive maximum of 0
        (b"\x20\x02\x02\x00", 4, 0x81),  # an unknown flag in CONNACK
        (b"\xe0\x03\x00\x80\x00", 5, 0x81),  # a length longer than it needs to be
        (b"\xe0\x06\x00\x80\x80\x80\x80\x01", 5, 0x81),  # a length of five bytes
        (b"\x30\x04\x00\x02a\x00", 4, 0x81),  # U+0000
        (b"\x82\x0b\x00\x01\x04\x0b\x01\x0b\x02\x00\x01a\x00", 5, 0x82),  # two subscription identifiers
        (b"\xa2\x02\x00\x01", 4, 0x82),  # no filter to unsubscribe
        (b"\x10\x0d\x00\x04MQTT\x04\x42\x00\x3c\x00\x00\x00", 4, 0x81),  # a password without a user
    ],
)
def test_rules(stream: bytes, version: int, reason: int | None) -> None:
    """What the specification forbids is refused with the reason code that it names."""
    try:
        list(Decoder(version=version).feed(stream))
        found = None
    except MalformedPacket as error:
        found = error.reason_code
    assert reason == found


def test_too_large() -> None:
    """A packet above the maximum is refused by its header, before its body has come."""
    decoder = Decoder(maximum_packet_size=100)
    assert list(decoder.feed(b"\x30\x61")) == []
    with pytest.raises(MalformedPacket) as caught:
        list(Decoder(maximum_packet_size=98).feed(b"\x30\x61"))
    assert caught.value.reason_code == 0x95


def test_before_the_break() -> None:
    """Packets in front of a broken one are delivered before the error is raised."""
    stream = Decoder().feed(b"\xc0\x00\xc1\x00")
    assert next(stream) == p.Pingreq()
    with pytest.raises(MalformedPacket):
        next(stream)


def test_varint() -> None:
    """A variable byte integer has one to four bytes, and nothing outside its range is written."""
    assert [varint(n) for n in (0, 127, 128, 268_435_455)] == [b"\0", b"\x7f", b"\x80\x01", b"\xff\xff\xff\x7f"]
    for number in (-1, 268_435_456):
        with pytest.raises(ValueError):
            varint(number)


def test_secret() -> None:
    """The password does not show in the `repr` of a CONNECT."""
    assert "s3cret" not in repr(p.Connect(client_id="c", username="u", password=b"s3cret"))


@pytest.mark.parametrize(
    "packet",
    [
        p.Auth(),
        p.Suback(70_000, ()),
        p.Publish("t" * 70_000),
        p.Connect(client_id="c" * 70_000),
        p.Subscribe(1, (p.Subscription("s" * 65_536),)),
    ],
)
def test_cannot_be_said(packet: p.Packet) -> None:
    """A value that does not fit its field, or a packet that the version lacks, is a `ValueError`."""
    with pytest.raises(ValueError):
        encode(packet, version=4)
