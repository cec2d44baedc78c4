from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
from switchgear.testing.dns import DnsServer, ThreadedDnsServer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from switchgear.testing.dns import Fault

T = TypeVar("T")

PATIENCE = 60.0


@pytest.fixture
def server() -> Iterator[ThreadedDnsServer]:
    with ThreadedDnsServer() as server:
        server.set_cname("mqtt1.example.com", "east.iot.example")
        server.set_a("east.iot.example", "127.0.0.2", "::1")
        yield server


def ask(
    server: ThreadedDnsServer, name: str, kind: str = "A", *, timeout: float = PATIENCE, edns: bool = False
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=edns)
    return dns.query.udp(query, server.host, timeout=timeout, port=server.port)


def texts(message: dns.message.Message) -> list[str]:
    return [line for rrset in message.answer for line in rrset.to_text().split("\n")]


def resolver(server: ThreadedDnsServer) -> dns.resolver.Resolver:
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = [dns.nameserver.Do53Nameserver(server.host, server.port)]
    made.lifetime = PATIENCE
    return made


def run(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, PATIENCE))


def test_a_resolver_follows_the_chain_and_sees_the_flip(server: ThreadedDnsServer) -> None:
    """dnspython's resolver finds the end of a CNAME and its TTL 0, and the new end as soon as it is set."""
    first = resolver(server).resolve("mqtt1.example.com", "A")
    assert first.canonical_name.to_text() == "east.iot.example."
    assert [rdata.to_text() for rdata in first] == ["127.0.0.2"]
    assert first.chaining_result.minimum_ttl == 0
    server.set_a("west.iot.example", "127.0.0.3")
    server.set_cname("mqtt1.example.com", "west.iot.example")
    again = resolver(server).resolve("mqtt1.example.com", "A")
    assert [rdata.to_text() for rdata in again] == ["127.0.0.3"]


def test_the_whole_chain_stands_in_one_authoritative_answer(server: ThreadedDnsServer) -> None:
    """The answer holds each CNAME in its order and then the addresses of the type that was asked for, with their TTLs."""
    server.set_cname("www.example.com", "MQTT1.example.com", ttl=7)
    answer = ask(server, "WWW.example.com", "AAAA")
    assert texts(answer) == [
        "WWW.example.com. 7 IN CNAME MQTT1.example.com.",
        "MQTT1.example.com. 0 IN CNAME east.iot.example.",
        "east.iot.example. 60 IN AAAA ::1",
    ]
    assert answer.flags & dns.flags.AA
    assert not answer.flags & dns.flags.RA
    assert answer.question[0].name.to_text() == "WWW.example.com."
    assert texts(ask(server, "www.example.com", "CNAME")) == ["www.example.com. 7 IN CNAME MQTT1.example.com."]


def test_a_chain_that_leaves_the_zones_ends_there(server: ThreadedDnsServer) -> None:
    """The CNAME alone is answered when its target is another server's, and NXDOMAIN with it when it should be here."""
    server.set_cname("away.example.com", "elsewhere.invalid")
    away = ask(server, "away.example.com")
    assert (away.rcode(), texts(away)) == (dns.rcode.NOERROR, ["away.example.com. 0 IN CNAME elsewhere.invalid."])
    server.remove("east.iot.example")
    lost = ask(server, "mqtt1.example.com")
    assert (lost.rcode(), texts(lost)) == (dns.rcode.NXDOMAIN, ["mqtt1.example.com. 0 IN CNAME east.iot.example."])


def test_a_loop_is_answered_with_each_record_once(server: ThreadedDnsServer) -> None:
    """Two names that lead to each other, and one that leads to itself, give a short answer without an address."""
    server.set_cname("a.example.com", "b.example.com")
    server.set_cname("b.example.com", "a.example.com")
    server.set_cname("c.example.com", "c.example.com")
    answer = ask(server, "a.example.com")
    assert answer.rcode() == dns.rcode.NOERROR
    assert texts(answer) == ["a.example.com. 0 IN CNAME b.example.com.", "b.example.com. 0 IN CNAME a.example.com."]
    assert texts(ask(server, "c.example.com")) == ["c.example.com. 0 IN CNAME c.example.com."]
    with pytest.raises(dns.exception.DNSException):
        resolver(server).resolve("a.example.com", "A")


def test_a_chain_without_end_is_cut(server: ThreadedDnsServer) -> None:
    """Sixteen CNAME records are followed, no more."""
    for n in range(40):
        server.set_cname(f"n{n}.example.com", f"n{n + 1}.example.com")
    assert len(texts(ask(server, "n0.example.com", edns=True))) == 16


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nobody.example.com", "A", "NXDOMAIN"),
        ("east.iot.example", "TXT", "NOERROR"),
        ("deep.example.com", "A", "NOERROR"),  # it has no record, only a name below it has
        ("example.org", "A", "REFUSED"),
    ],
)
def test_what_it_does_not_have(server: ThreadedDnsServer, name: str, kind: str, rcode: str) -> None:
    """A missing name, a missing type and a name of other servers' zones are told apart as RFC 2308 says."""
    server.set_a("very.deep.example.com", "127.0.0.9")
    answer = ask(server, name, kind)
    assert (dns.rcode.to_text(answer.rcode()), texts(answer)) == (rcode, [])
    assert [rrset.rdtype for rrset in answer.authority] == ([] if rcode == "REFUSED" else [dns.rdatatype.SOA])


def test_zones_can_be_found_and_described(server: ThreadedDnsServer) -> None:
    """A resolver finds the zone of a name and its servers, those that were made up and those that were set."""
    zone = dns.resolver.zone_for_name("mqtt1.example.com", resolver=resolver(server))
    assert zone.to_text() == "example.com."
    assert texts(ask(server, "example.com", "NS")) == ["example.com. 60 IN NS ns.example.com."]
    assert texts(ask(server, "ns.example.com")) == ["ns.example.com. 60 IN A 127.0.0.1"]
    server.set_ns("example.com", "one.example.com", "two.example.com", ttl=9)
    assert sorted(texts(ask(server, "example.com", "NS"))) == [
        "example.com. 9 IN NS one.example.com.",
        "example.com. 9 IN NS two.example.com.",
    ]
    server.set_soa("eu.example.com", serial=5, primary="one.example.com", negative_ttl=3)
    missing = ask(server, "mqtt1.eu.example.com")
    assert [line.to_text() for line in missing.authority] == [
        "eu.example.com. 3 IN SOA one.example.com. hostmaster.eu.example.com. 5 3600 600 86400 3"
    ]


def test_records_that_cannot_be(server: ThreadedDnsServer) -> None:
    """A CNAME at the top of a zone, a name without an address and an address that is none are errors."""
    with pytest.raises(ValueError, match="top of a zone"):
        server.set_cname("example.com", "east.iot.example")
    with pytest.raises(ValueError, match="needs an address"):
        server.set_a("east.iot.example")
    with pytest.raises(ValueError, match="localhost"):
        server.set_a("east.iot.example", "localhost")
    with pytest.raises(ValueError, match="no fault is called 'dead'; faults: servfail"):
        server.fail("east.iot.example", "dead")  # type: ignore[arg-type] # that it is wrong is the test


def test_a_name_is_either_alias_or_address(server: ThreadedDnsServer) -> None:
    """Addresses take the place of a CNAME and the other way round, and a family that is not named again is gone."""
    server.set_a("mqtt1.example.com", "127.0.0.7")
    assert texts(ask(server, "mqtt1.example.com")) == ["mqtt1.example.com. 60 IN A 127.0.0.7"]
    server.set_cname("mqtt1.example.com", "east.iot.example")
    server.set_a("east.iot.example", "::2")
    assert texts(ask(server, "mqtt1.example.com", "A")) == ["mqtt1.example.com. 0 IN CNAME east.iot.example."]
    assert texts(ask(server, "east.iot.example", "AAAA")) == ["east.iot.example. 60 IN AAAA ::2"]


@pytest.mark.parametrize(("how", "rcode"), [("servfail", 2), ("nxdomain", 3), ("refused", 5)])
def test_failures(server: ThreadedDnsServer, how: Fault, rcode: int) -> None:
    """A name fails as told, others and chains over it do not, and it is well again afterwards."""
    server.fail("MQTT1.example.com.", how)
    assert ask(server, "mqtt1.example.com").rcode() == rcode
    server.set_cname("mqtt2.example.com", "mqtt1.example.com")
    assert ask(server, "mqtt2.example.com").rcode() == 0
    server.fail("*", "refused")
    assert ask(server, "mqtt1.example.com").rcode() == rcode
    assert ask(server, "mqtt2.example.com").rcode() == dns.rcode.REFUSED
    server.fail("mqtt1.example.com", None)
    server.fail("*", None)
    assert ask(server, "mqtt1.example.com").rcode() == 0


def test_silence_and_delay(server: ThreadedDnsServer) -> None:
    """A silent name gets no answer and is in the log; a delayed one gets its answer after the delay."""
    server.fail("mqtt1.example.com", "silent")
    with pytest.raises(dns.exception.Timeout):
        ask(server, "mqtt1.example.com", timeout=0.1)
    server.wait_until(lambda: bool(server.server.queries), PATIENCE)
    assert [(query.name, query.type, query.transport) for query in server.queries] == [
        ("mqtt1.example.com", "A", "udp")
    ]
    server.fail("mqtt1.example.com", None)
    server.delay("mqtt1.example.com", 0.2)
    assert ask(server, "mqtt1.example.com").time >= 0.19
    server.delay("mqtt1.example.com", 60)
    with pytest.raises(dns.exception.Timeout):
        ask(server, "mqtt1.example.com", timeout=0.1)
    server.delay("mqtt1.example.com", 0)
    assert texts(ask(server, "mqtt1.example.com"))


def test_a_frozen_name_is_stale(server: ThreadedDnsServer) -> None:
    """A frozen name goes on with its old chain, a fresh one sees the new records, and so does the name once thawed."""
    server.freeze("mqtt1.example.com")
    before = texts(ask(server, "mqtt1.example.com"))
    server.set_cname("mqtt1.example.com", "west.iot.example")
    server.set_a("east.iot.example", "127.0.0.9")
    assert texts(ask(server, "mqtt1.example.com")) == before
    assert texts(ask(server, "east.iot.example")) == ["east.iot.example. 60 IN A 127.0.0.9"]
    server.thaw("mqtt1.example.com")
    assert texts(ask(server, "mqtt1.example.com")) == ["mqtt1.example.com. 0 IN CNAME west.iot.example."]


def test_what_is_too_long_for_udp_comes_over_tcp(server: ThreadedDnsServer) -> None:
    """Without EDNS 512 bytes are answered over UDP, with it 1232; more is marked as cut, and complete over TCP."""
    server.set_a("many.example.com", *(f"127.1.0.{n}" for n in range(1, 51)))
    query = dns.message.make_query("many.example.com", "A")
    cut = dns.query.udp(query, server.host, PATIENCE, server.port)
    assert cut.flags & dns.flags.TC
    whole, over_tcp = dns.query.udp_with_fallback(query, server.host, PATIENCE, server.port)
    assert over_tcp
    assert len(whole.answer[0]) == 50
    large = ask(server, "many.example.com", edns=True)
    assert (large.edns, len(large.answer[0])) == (0, 50)
    assert [query.transport for query in server.queries] == ["udp", "udp", "tcp", "udp"]


def test_two_questions_on_one_connection(server: ThreadedDnsServer) -> None:
    """TCP carries several questions, cut at any byte, and answers each."""
    wires = [
        dns.message.make_query(name, "A", id=n).to_wire() for n, name in enumerate(("a.example.com", "example.com"))
    ]
    stream = b"".join(struct.pack("!H", len(wire)) + wire for wire in wires)
    with socket.create_connection((server.host, server.port), PATIENCE) as sock:
        for byte in stream:
            sock.sendall(bytes([byte]))
        answers = [dns.query.receive_tcp(sock)[0] for _ in wires]
    assert [(answer.id, answer.rcode()) for answer in answers] == [(0, dns.rcode.NXDOMAIN), (1, dns.rcode.NOERROR)]


@pytest.mark.parametrize(
    ("wire", "rcode"),
    [
        (b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07short", dns.rcode.FORMERR),
        (b"\x12\x34\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", dns.rcode.FORMERR),
        (b"\x12\x34\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00", dns.rcode.NOTIMP),
    ],
)
def test_what_it_cannot_read(server: ThreadedDnsServer, wire: bytes, rcode: dns.rcode.Rcode) -> None:
    """A broken question, none at all and an update get an answer with the right code."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        for nonsense in (b"", b"x", b"\x12\x34\x81\x00" + bytes(8), wire):
            sock.sendto(nonsense, (server.host, server.port))
        answer = sock.recv(512)
    assert (answer[:2], answer[3] & 0xF) == (b"\x12\x34", rcode)
    assert texts(ask(server, "mqtt1.example.com"))


def test_several_in_one_loop() -> None:
    """Two servers of one zone answer each for itself, stop and come back on their ports, and wait for questions."""

    async def asked(server: DnsServer) -> None:
        await server.until(lambda: len(server.queries) == 1)

    async def scene() -> None:
        async with DnsServer() as one, DnsServer() as two:
            one.set_a("a.example.com", "127.0.0.1")
            two.set_a("a.example.com", "127.0.0.2")
            found = []
            for server in (one, two):
                asker = dns.asyncresolver.Resolver(configure=False)
                asker.nameservers = [dns.nameserver.Do53Nameserver(server.host, server.port)]
                waiting = asyncio.create_task(asked(server))
                found += [rdata.to_text() for rdata in await asker.resolve("a.example.com", "A")]
                await waiting
            assert found == ["127.0.0.1", "127.0.0.2"]
            port = one.port
            await one.stop()
            await one.stop()
            assert repr(one) == f"<DnsServer 127.0.0.1:{port} down>"
            await one.start()
            await one.start()
            assert repr(one) == f"<DnsServer 127.0.0.1:{port} listening>"
            with pytest.raises(OSError, match="in use"):
                await DnsServer(port=port).start()

    run(scene())


def test_a_stop_ends_what_is_under_way() -> None:
    """A server that stops drops its connections and the answers that are still delayed."""

    async def scene() -> None:
        async with DnsServer() as server:
            server.delay("*", 60)
            reader, writer = await asyncio.open_connection(server.host, server.port)
            wire = dns.message.make_query("a.example.com", "A").to_wire()
            writer.write(struct.pack("!H", len(wire)) + wire)
            await server.until(lambda: bool(server.queries))
            server.clear_queries()
            assert server.queries == []
            await server.stop()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()

    run(scene())


def test_a_server_in_a_thread(server: ThreadedDnsServer) -> None:
    """It waits for questions, stops, starts on its port, says what it is, and a port that is taken is an error."""
    ask(server, "mqtt1.example.com")
    server.wait_until(lambda: len(server.server.queries) == 1, PATIENCE)
    server.clear_queries()
    server.stop()
    with pytest.raises((dns.exception.Timeout, OSError)):
        ask(server, "mqtt1.example.com", timeout=0.1)
    server.start()
    assert texts(ask(server, "mqtt1.example.com"))
    assert repr(server) == f"<ThreadedDnsServer 127.0.0.1:{server.port} listening>"
    assert server.address == f"127.0.0.1:{server.port}"
    with pytest.raises(OSError, match="in use"):
        ThreadedDnsServer(port=server.port)
    server.close()


def test_without_dnspython_it_says_what_to_install() -> None:
    """The testing kit works without dnspython; only this part asks for it, by name."""
    program = (
        "import sys; sys.modules['dns'] = None\n"
        "import switchgear.testing, switchgear.cli\n"
        "try: import switchgear.testing.dns\n"
        "except ImportError as error: print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "switchgear.testing.dns needs dnspython: pip install 'switchgear[doctor]'\n"
