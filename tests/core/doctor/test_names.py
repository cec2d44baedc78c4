from __future__ import annotations

import socket
from typing import Any

import pytest
from switchgear.doctor import Asker, SystemAnswer, Verdict, system_lookup
from switchgear.doctor.asking import parse_server
from switchgear.doctor.names import judge_answer
from switchgear.errors import InvalidOption
from switchgear.testing import Broker
from switchgear.testing.dns import DnsServer

NAME = "mqtt1.example.com"


def at(server: DnsServer) -> tuple[str, int]:
    return server.host, server.port


async def test_no_such_name(bench: Any) -> None:
    """NXDOMAIN fails in the answer and in the chain, says to check the record, and skips all that comes after."""
    async with bench() as b:
        report = await b.look("mqtt://mqtt9.example.com:1883")
        answer, chain = b.line(report, "dns.answer"), b.line(report, "dns.chain")
        assert (answer.verdict, chain.verdict) == (Verdict.FAIL, Verdict.FAIL)
        assert answer.found == "mqtt9.example.com: there is no such name, or it has no address"
        assert answer.way_out == "check the spelling, and the record at your DNS provider"
        assert "there is no such name (NXDOMAIN)" in chain.found
        assert b.verdicts(report)["tcp"] == "skip"
        assert b.line(report, "mqtt.connect").found == "not checked: DNS answer failed"


async def test_a_target_that_is_gone(bench: Any) -> None:
    """A CNAME to a name that does not exist says which target is missing."""
    async with bench() as b:
        b.names.remove("east.iot.example")
        line = b.line(await b.look(f"mqtt://{NAME}:1883"), "dns.chain")
        assert line.found.startswith(f"{NAME} -> east.iot.example (CNAME, TTL 0): there is no such name (NXDOMAIN)")
        assert line.way_out == "check the target of the CNAME, east.iot.example"


async def test_a_name_without_an_address(bench: Any) -> None:
    """A name that exists and has no address is told from one that does not exist."""
    async with bench() as b:
        b.names.set_a("below.bare.example.com", "127.0.0.1")
        line = b.line(await b.look("mqtt://bare.example.com:1883"), "dns.chain")
        assert (line.verdict, line.way_out) == (Verdict.FAIL, "add a record for bare.example.com, or correct the name")


@pytest.mark.parametrize(
    ("how", "code", "way_out"),
    [
        (
            "servfail",
            "SERVFAIL",
            "its zone cannot be served or validated: look at the zone's name servers (delegation, DNSSEC)",
        ),
        (
            "refused",
            "REFUSED",
            "it does not serve this name to us: look at the zone's name servers (delegation, DNSSEC)",
        ),
    ],
)
async def test_a_server_that_fails(bench: Any, how: Any, code: str, way_out: str) -> None:
    """SERVFAIL and REFUSED have a line with the code and what it means."""
    async with bench() as b:
        b.names.fail(NAME, how)
        report = await b.look(f"mqtt://{NAME}:1883")
        line = b.line(report, "dns.chain")
        assert line.verdict is Verdict.FAIL
        assert f"{code}, says 127.0.0.1:{b.names.port}" in line.found
        assert line.way_out == way_out
        assert "try again" in b.line(report, "dns.answer").way_out


async def test_a_loop(bench: Any) -> None:
    """CNAME records that lead in a circle are shown as such."""
    async with bench() as b:
        b.names.set_cname("east.iot.example", NAME)
        line = b.line(await b.look(f"mqtt://{NAME}:1883"), "dns.chain")
        assert line.verdict is Verdict.FAIL
        path = f"{NAME} -> east.iot.example (CNAME, TTL 0) -> {NAME} (CNAME, TTL 0): a loop"
        assert line.found.startswith(path)
        assert line.way_out == "the CNAME records lead in a circle: point one of them to the broker"


async def test_silence(bench: Any) -> None:
    """A name server that does not answer fails within its bound, and says how to name another."""
    async with bench() as b:
        b.names.fail("*", "silent")
        asker = Asker(recursive=(at(b.names),), timeout=0.3)
        report = await b.look(f"mqtt://{NAME}:1883", asker=asker, wishes={"timeout": 0.3})
        answer, chain = b.line(report, "dns.answer"), b.line(report, "dns.chain")
        assert answer.found == f"{NAME}: no answer in time"
        assert (chain.verdict, chain.found) == (Verdict.FAIL, f"no answer from {b.names.address}")
        assert "--dns-server" in chain.way_out


async def test_a_stale_resolver(bench: Any) -> None:
    """A resolver that goes on with the old target after a flip is a warning that names both targets."""
    async with bench() as b, DnsServer() as zone, Broker() as broker:
        port = await broker.start()
        b.names.freeze(NAME)  # what this machine goes on to hear
        zone.set_cname(NAME, "west.iot.example")
        b.names.set_a("west.iot.example", "127.0.0.3")
        asker = Asker(servers=(at(zone),), timeout=20.0)
        report = await b.look(f"mqtt://{NAME}:{port}", asker=asker)
        line = b.line(report, "dns.authority")
        assert line.verdict is Verdict.WARN
        assert line.found.startswith("this machine says east.iot.example, but the servers given say west.iot.example")
        assert line.way_out.startswith("wait for the record's TTL, empty the cache")
        assert line.facts["is_stale"]
        zone.set_cname(NAME, "east.iot.example")
        report = await b.look(f"mqtt://{NAME}:{port}", asker=asker)
        assert b.line(report, "dns.authority").verdict is Verdict.PASS


async def test_a_stale_address(bench: Any) -> None:
    """Without a CNAME the addresses are compared."""
    async with bench() as b, DnsServer() as zone:
        zone.set_a("east.iot.example", "127.0.0.7")
        line = b.line(await b.look("mqtt://east.iot.example:1", asker=Asker(servers=(at(zone),))), "dns.authority")
        assert "this machine says 127.0.0.1, but the servers given say 127.0.0.7" in line.found


async def test_a_target_with_many_addresses(bench: Any) -> None:
    """An answer with other addresses behind the same target is no difference, and neither is a longer chain here."""
    async with bench() as b, DnsServer() as zone:
        zone.set_cname(NAME, "east.iot.example")
        zone.set_a("east.iot.example", "127.0.0.4", "127.0.0.5")
        b.names.set_cname("east.iot.example", "pool-7.iot.example")
        b.names.set_a("pool-7.iot.example", *(f"127.0.1.{n}" for n in range(1, 9)))
        report = await b.look(f"mqtt://{NAME}:1", asker=Asker(servers=(at(zone),)))
        assert b.line(report, "dns.authority").verdict is Verdict.PASS
        assert "and 4 more" in b.line(report, "dns.answer").found


async def test_servers_that_disagree(bench: Any) -> None:
    """Name servers of one zone with different targets are a change under way."""
    async with bench() as b, DnsServer() as one, DnsServer() as two:
        one.set_cname(NAME, "east.iot.example")
        two.set_cname(NAME, "west.iot.example")
        report = await b.look(f"mqtt://{NAME}:1", asker=Asker(servers=(at(one), at(two))))
        line = b.line(report, "dns.authority")
        assert line.verdict is Verdict.WARN
        assert f"{one.address} says east.iot.example; {two.address} says west.iot.example" in line.found
        assert line.way_out == "a change is under way: wait, and ask again"


async def test_the_zones_own_servers_cannot_be_asked(bench: Any) -> None:
    """Name servers that are out of reach, or not to be found, are a warning and no verdict on the name."""
    async with bench() as b, DnsServer() as elsewhere:
        port = elsewhere.port
        await elsewhere.stop()
        asker = Asker(recursive=(at(b.names),), authority_port=port, timeout=2.0)
        line = b.line(await b.look(f"mqtt://{NAME}:1", asker=asker), "dns.authority")
        assert line.verdict is Verdict.WARN
        assert line.found == "not checked: the name servers of example.com did not answer"
        assert "port 53" in line.way_out
        report = await b.look(f"mqtt://{NAME}:1", asker=Asker(recursive=()))
        assert b.line(report, "dns.authority").verdict is Verdict.WARN
        assert b.line(report, "dns.chain").way_out == "name one with --dns-server"


async def test_who_is_asked_for_recursion(bench: Any) -> None:
    """Resolvers are asked to recurse; the zone's own servers, who may be resolvers too, are asked what they know themselves."""
    async with bench() as b, DnsServer() as zone:
        b.names.set_a("ns.example.com", "127.0.0.1")
        zone.set_cname(NAME, "east.iot.example")
        await b.look(f"mqtt://{NAME}:1", asker=Asker(recursive=(at(b.names),), authority_port=zone.port))
        assert [query.wants_recursion for query in zone.queries] == [False, False]
        assert all(query.wants_recursion for query in b.names.queries)


async def test_a_long_ttl(bench: Any) -> None:
    """A CNAME that caches keep for long makes a switch late."""
    async with bench() as b:
        b.names.set_cname(NAME, "east.iot.example", ttl=3600)
        line = b.line(await b.look(f"mqtt://{NAME}:1"), "dns.chain")
        assert line.verdict is Verdict.WARN
        assert line.way_out == "a switch is seen up to 3600 s late; set the CNAME's TTL to 60 s or less"


async def test_a_name_from_elsewhere(bench: Any) -> None:
    """A name that only this machine knows, as from its hosts file, is a warning about the others."""

    async def hosts_file(host: str) -> SystemAnswer:
        return SystemAnswer(("127.0.0.1",), host, 0.0)

    async with bench() as b:
        report = await b.look("mqtt://mqtt9.example.com:1", wishes={"lookup": hosts_file})
        line = b.line(report, "dns.chain")
        assert line.verdict is Verdict.WARN
        assert "hosts file" in line.found


async def test_name_servers_are_not_needed(bench: Any) -> None:
    """When asking name servers breaks, that is a line, and the connection is looked at all the same."""

    class Broken(Asker):
        async def chain(self, host: str) -> Any:
            raise ZeroDivisionError

    async with bench() as b, Broker() as broker:
        port = await broker.start()
        report = await b.look(f"mqtt://{NAME}:{port}", asker=Broken(servers=(at(b.names),)))
        assert b.line(report, "dns.chain").verdict is Verdict.FAIL
        assert b.line(report, "mqtt.round_trip").verdict is Verdict.PASS


async def test_only_ipv6(bench: Any) -> None:
    """Addresses of IPv6 are found where there are none of IPv4."""
    async with bench() as b:
        b.names.set_a("six.example.com", "::1")
        told = await Asker(servers=(at(b.names),)).chain("six.example.com")
        assert told is not None
        assert (told.code, told.addresses) == ("NOERROR", ("::1",))


async def test_the_second_server_is_asked(bench: Any) -> None:
    """A dead first name server does not hide the second."""
    async with bench() as b, DnsServer() as dead:
        dead.fail("*", "silent")
        told = await Asker(recursive=(at(dead), at(b.names)), timeout=4.0).chain(NAME)
        assert told is not None
        assert told.end == "east.iot.example"


async def test_without_dnspython(bench: Any) -> None:
    """Without dnspython the answer is judged all the same, and the other lines say what to install."""
    async with bench() as b, Broker() as broker:
        port = await broker.start()
        report = await b.look(f"mqtt://{NAME}:{port}", asker=Asker(is_able=False))
        verdicts = b.verdicts(report)
        assert (verdicts["dns.answer"], verdicts["mqtt.round_trip"]) == ("pass", "pass")
        for check in ("dns.chain", "dns.authority"):
            line = b.line(report, check)
            assert line.verdict is Verdict.WARN
            assert line.found == "not checked: dnspython is not installed"
            assert line.way_out == "pip install 'switchgear[doctor]'"


async def test_names_that_dns_does_not_know(bench: Any) -> None:
    """Nobody is asked about names of this machine, addresses and pinned addresses."""
    async with bench() as b, Broker() as broker:
        port = await broker.start()
        for where in (
            f"mqtt://127.0.0.1:{port}",
            f"mqtt://localhost:{port}",
            f"mqtt://{NAME}:{port}?address=127.0.0.1",
        ):
            report = await b.look(where, wishes={"lookup": system_lookup})
            assert report.verdict is Verdict.PASS
            assert not {"dns.chain", "dns.authority"} & set(b.verdicts(report))
        assert b.names.queries == []


async def test_the_system_answers() -> None:
    """getaddrinfo is asked, and each address is named once."""
    answer = await system_lookup("127.0.0.1")
    assert (answer.addresses, answer.canonical) == (("127.0.0.1",), "127.0.0.1")


def test_a_slow_answer() -> None:
    """An answer that took more than a second says that a name server may be dead."""
    line = judge_answer(NAME, SystemAnswer(("127.0.0.1",), NAME, 5.1))
    assert (line.verdict, line.found) == (Verdict.WARN, f"{NAME}: 127.0.0.1, in 5100 ms")
    assert "/etc/resolv.conf" in line.way_out


def test_an_error_that_is_no_errors() -> None:
    """An unknown error of the resolver is shown as the system words it."""
    line = judge_answer(NAME, socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"))
    assert line.found == f"{NAME}: Non-recoverable failure in name resolution"


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
    ],
)
def test_servers_as_people_write_them(text: str, server: tuple[str, int]) -> None:
    """Addresses of both families are read with and without a port."""
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "ns1.example.com", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:70000", "[::1]x", "[::1"]
)
def test_servers_that_cannot_be(text: str) -> None:
    """A name, and a port that cannot be, are refused with the text that was given."""
    with pytest.raises(InvalidOption, match="dns-server"):
        parse_server(text)
