"""Where a name leads, asked of real DNS servers on the loopback, and of the system's resolver in disguise."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.nameserver
import dns.resolver
import dns.rrset
import pytest
from switchgear.testing.dns import ThreadedDnsServer
from switchgear_iot_dns import lookup
from switchgear_iot_dns.lookup import agreed, ask_authoritative, ask_os, ask_servers, look
from switchgear_iot_dns.settle import Answer, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME, EAST, WEST = "mqtt1.example.com", "east-ats.iot.test", "west-ats.iot.test"
TIME = 30.0


@pytest.fixture
def server() -> Iterator[ThreadedDnsServer]:
    """A name server with the custom domain and both regions."""
    with ThreadedDnsServer() as running:
        running.set_a(EAST, "127.0.0.2")
        running.set_a(WEST, "127.0.0.3")
        running.set_cname(NAME, EAST)
        yield running


def stub(server: ThreadedDnsServer) -> dns.resolver.Resolver:
    """A resolver that asks *server* for everything."""
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = [dns.nameserver.Do53Nameserver(server.host, server.port)]
    return made


class Ways:
    """Both ways of asking name servers, so that each case is tested with each."""

    def __init__(self, server: ThreadedDnsServer) -> None:
        self.ways: dict[str, Callable[[float], Answer]] = {
            "servers": lambda timeout: ask_servers(NAME, (server.address,), timeout),
            "authoritative": lambda timeout: ask_authoritative(NAME, timeout, stub=stub(server), port=server.port),
        }

    def ask(self, way: str, timeout: float = TIME) -> Answer:
        return self.ways[way](timeout)


@pytest.fixture
def ways(server: ThreadedDnsServer) -> Ways:
    """Ways to ask *server*."""
    return Ways(server)


both = pytest.mark.parametrize("way", ["servers", "authoritative"])


@both
def test_the_switch_is_seen_at_once(server: ThreadedDnsServer, ways: Ways, way: str) -> None:
    """The end of the chain is the target, and the question after a flip has the new one."""
    assert ways.ask(way) == Answer(Kind.TARGET, EAST)
    server.set_cname(NAME, WEST)
    assert ways.ask(way) == Answer(Kind.TARGET, WEST)


@both
def test_a_longer_chain_has_one_end(server: ThreadedDnsServer, ways: Ways, way: str) -> None:
    """An alias of an alias leads to the last of them, and other addresses of the same target are no other target."""
    server.set_cname("active.example.com", WEST)
    server.set_cname(NAME, "active.example.com")
    assert ways.ask(way) == Answer(Kind.TARGET, WEST)
    server.set_a(WEST, "127.0.0.4", "127.0.0.5")
    assert ways.ask(way) == Answer(Kind.TARGET, WEST)


@both
def test_a_name_without_alias_is_its_own_target(server: ThreadedDnsServer, ways: Ways, way: str) -> None:
    """Where there is no CNAME the name itself is what it leads to."""
    server.set_a(NAME, "127.0.0.2")
    assert ways.ask(way) == Answer(Kind.TARGET, NAME)


@both
@pytest.mark.parametrize("how", ["missing", "loop"])
def test_no_answer(server: ThreadedDnsServer, ways: Ways, way: str, how: str) -> None:
    """A name that does not exist, or leads in a circle, is no answer and says which."""
    if how == "missing":
        server.remove(NAME)
    else:
        server.set_cname("other.example.com", NAME)
        server.set_cname(NAME, "other.example.com")
    answer = ways.ask(way)
    assert answer.kind is Kind.NO_ANSWER
    assert ("NXDOMAIN" if how == "missing" else "circle") in answer.detail


@both
@pytest.mark.parametrize("how", ["servfail", "refused"])
def test_a_failed_query_is_unknown(server: ThreadedDnsServer, ways: Ways, way: str, how: Any) -> None:
    """A server that answers with an error has told nothing."""
    server.fail(NAME, how)
    answer = ways.ask(way)
    assert (answer.kind, how.upper() in answer.detail.upper()) == (Kind.UNKNOWN, True)


@both
def test_silence_is_unknown(server: ThreadedDnsServer, ways: Ways, way: str) -> None:
    """A server that never answers has told nothing, and the look-up ends within its time."""
    server.fail(NAME, "silent")
    assert ways.ask(way, 0.3).kind is Kind.UNKNOWN


def test_a_dead_server_is_passed_over(server: ThreadedDnsServer) -> None:
    """With several name servers the next one is asked when the first is silent."""
    with ThreadedDnsServer() as dead:
        dead.fail("*", "silent")
        assert ask_servers(NAME, (dead.address, server.address), 4.0) == Answer(Kind.TARGET, EAST)


def test_a_name_with_only_ipv6(server: ThreadedDnsServer) -> None:
    """A name without A records but with AAAA records leads somewhere; one with neither does not."""
    server.set_a(NAME, "::1")
    assert ask_servers(NAME, (server.address,), TIME) == Answer(Kind.TARGET, NAME)
    server.set_ns(NAME, "ns.example.com")
    server.remove(NAME)
    assert ask_servers(NAME, (server.address,), TIME).kind is Kind.NO_ANSWER


def test_a_stale_server_does_not_outvote_the_zone() -> None:
    """Authoritative servers that do not agree have not settled; nor have they when half of them are silent."""
    east, west = Answer(Kind.TARGET, EAST), Answer(Kind.TARGET, WEST)
    dead = Answer(Kind.UNKNOWN, detail="time-out")
    assert agreed({"ns1": west, "ns2": west}) == west
    assert agreed({"ns1": west, "ns2": west, "ns3": dead}) == west
    halfway = agreed({"ns1": west, "ns2": east})
    assert (halfway.kind, halfway.detail) == (
        Kind.UNKNOWN,
        f"the authoritative servers do not agree yet: ns1 says {WEST}, ns2 says {EAST}",
    )
    assert agreed({"ns1": west, "ns2": dead}).detail == "1 of 2 authoritative servers answered; ns2: time-out"
    assert agreed({}).kind is Kind.UNKNOWN


def test_two_authoritative_servers_in_flight() -> None:
    """While only one of two name servers of the zone has the flip, the answer is unknown; with both it is the new target."""
    with ThreadedDnsServer() as first, ThreadedDnsServer(host="127.0.0.2", port=first.port) as second:
        for server in (first, second):
            server.set_a(EAST, "127.0.0.2")
            server.set_cname(NAME, EAST)
            server.set_ns("example.com", "ns1.example.com", "ns2.example.com")
            server.set_a("ns1.example.com", "127.0.0.1")
            server.set_a("ns2.example.com", "127.0.0.2")

        def ask() -> Answer:
            return ask_authoritative(NAME, TIME, stub=stub(first), port=first.port)

        assert ask() == Answer(Kind.TARGET, EAST)
        first.set_cname(NAME, WEST)
        assert ask().kind is Kind.UNKNOWN
        second.set_cname(NAME, WEST)
        assert ask() == Answer(Kind.TARGET, WEST)


@pytest.mark.parametrize("dead", ["2001:db8::53", "127.0.0.9"])
def test_one_address_of_a_server_is_dead(server: ThreadedDnsServer, dead: str) -> None:
    """An authoritative server with an address that cannot be reached, such as IPv6 where there is none, is asked at the other."""
    server.set_ns("example.com", "ns1.example.com")
    server.set_a("ns1.example.com", dead, "127.0.0.1")
    assert ask_authoritative(NAME, 6.0, stub=stub(server), port=server.port) == Answer(Kind.TARGET, EAST)


def test_a_server_without_an_address_is_a_silent_one(server: ThreadedDnsServer) -> None:
    """A name server whose own name does not resolve is left out as long as most of the others answer."""
    server.set_ns("example.com", "ns1.example.com", "ns2.example.com", "gone.example.com")
    for name in ("ns1.example.com", "ns2.example.com"):
        server.set_a(name, "127.0.0.1")
    assert ask_authoritative(NAME, TIME, stub=stub(server), port=server.port) == Answer(Kind.TARGET, EAST)
    server.remove("ns2.example.com")
    answer = ask_authoritative(NAME, TIME, stub=stub(server), port=server.port)
    assert (answer.kind, "it has no address" in answer.detail) == (Kind.UNKNOWN, True)


def test_a_server_whose_name_is_not_answered_for(server: ThreadedDnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One name server whose own name is asked for in vain, as where another provider is down, takes the time of all others."""
    server.set_ns("example.com", "ns1.example.com", "ns2.example.com", "a.gone.test")
    for name in ("ns1.example.com", "ns2.example.com"):
        server.set_a(name, "127.0.0.1")
    server.fail("a.gone.test", "silent")
    patient = stub(server)
    patient.timeout = 60
    ask = functools.partial(ask_authoritative, stub=patient, port=server.port)
    monkeypatch.setattr(lookup, "ask_authoritative", ask)
    assert look(NAME, "authoritative", 8.0) == Answer(Kind.TARGET, EAST)


def test_the_target_is_the_first_name_outside_the_zone(server: ThreadedDnsServer) -> None:
    """Asked of the authoritative servers, the chain ends where it leaves the zone: another zone's records are not theirs."""
    server.set_ns("example.com", "ns1.example.com")
    server.set_a("ns1.example.com", "127.0.0.1")
    server.set_cname("further.example.com", "switched.elsewhere.test")
    server.set_cname("switched.elsewhere.test", WEST)
    server.set_cname(NAME, "further.example.com")
    answer = ask_authoritative(NAME, TIME, stub=stub(server), port=server.port)
    assert answer == Answer(Kind.TARGET, "switched.elsewhere.test")


@contextlib.contextmanager
def speaking(answer: Callable[[dns.message.Message], dns.message.Message | None]) -> Iterator[int]:
    """A name server of ours on 127.0.0.1 that says what no good one says; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served:
        served.bind(("127.0.0.1", 0))

        def serve() -> None:
            while query := served.recvfrom(4096):
                if not query[0]:
                    return
                if (reply := answer(dns.message.from_wire(query[0]))) is not None:
                    served.sendto(reply.to_wire(), query[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield served.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", served.getsockname())
            thread.join()


def replying(flags: int, *authority: str) -> Callable[[dns.message.Message], dns.message.Message]:
    """Replies without an answer; *authority* are the fields of a record in that section."""

    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= flags
        if authority:
            name, kind, value = authority
            reply.authority.append(dns.rrset.from_text(name, 60, "IN", kind, value))
        return reply

    return answer


SOA = ("example.com.", "SOA", "ns.example.com. h.example.com. 1 60 60 60 0")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # Records below it, such as that which ACM checks a certificate by, keep the name in the zone.
        (replying(dns.flags.AA, *SOA), "no answer (the name has no address)"),
        (replying(0, "com.", "NS", "a.gtld-servers.net."), "it has not that zone"),
        (replying(0, "example.com.", "NS", "ns2.example.com."), "it has not that zone"),
        (replying(0), "it has not that zone"),
        (replying(0, "mqtt1.example.com.", "NS", "ns.other.test."), "it refers to the servers of a zone below"),
    ],
)
def test_a_name_that_has_nothing_leads_nowhere(
    server: ThreadedDnsServer, reply: Callable[[dns.message.Message], dns.message.Message], expected: str
) -> None:
    """An empty answer of an authoritative server, or of one that has lost the zone, is taken for a switch to the name itself."""
    with speaking(reply) as port:
        answer = ask_authoritative(NAME, TIME, stub=stub(server), port=port)
    assert (answer.kind is Kind.TARGET, expected in str(answer)) == (False, True), answer


def test_a_chain_ends_at_a_zone_below(server: ThreadedDnsServer) -> None:
    """A name that other servers have, in a zone below, is not the target that the chain ends with."""
    refer = replying(0, "further.example.com.", "NS", "ns.other.test.")

    def answer(query: dns.message.Message) -> dns.message.Message:
        if query.question[0].name.to_text() != f"{NAME}.":
            return refer(query)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        reply.answer.append(dns.rrset.from_text(f"{NAME}.", 0, "IN", "CNAME", "switched.further.example.com."))
        return reply

    with speaking(answer) as port:
        found = ask_authoritative(NAME, TIME, stub=stub(server), port=port)
    assert found == Answer(Kind.TARGET, "switched.further.example.com")


@both
def test_the_root_is_no_target(server: ThreadedDnsServer, ways: Ways, way: str) -> None:
    """An alias of the root, which is how a name says that it has no service, is taken for a target without a name."""
    server.set_cname(NAME, ".")
    assert ways.ask(way) == Answer(Kind.NO_ANSWER, detail="the name has no address")


@both
@pytest.mark.parametrize("address", ["127.0.0.2", "::1"])
def test_a_name_with_addresses_of_its_own(server: ThreadedDnsServer, ways: Ways, way: str, address: str) -> None:
    """A name that is no alias, with addresses of one family only, leads nowhere."""
    server.set_a(NAME, address)
    assert ways.ask(way) == Answer(Kind.TARGET, NAME)


def resolve_as(monkeypatch: pytest.MonkeyPatch, resolve: Callable[..., object]) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_the_system_tells_the_end_of_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canonical name of getaddrinfo is the target, in lower case and without a dot; without one it is the name."""
    family, kind = socket.AF_INET, socket.SOCK_STREAM
    rows: list[Any] = [
        (family, kind, 6, "West-ATS.iot.test.", ("127.0.0.3", 0)),
        (family, kind, 6, "", ("127.0.0.4", 0)),
    ]
    resolve_as(monkeypatch, lambda *_, **__: rows)
    assert ask_os(NAME) == Answer(Kind.TARGET, WEST)
    resolve_as(monkeypatch, lambda *_, **__: rows[1:])
    assert ask_os(NAME) == Answer(Kind.TARGET, NAME)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (socket.EAI_NONAME, Kind.NO_ANSWER),
        (socket.EAI_NODATA, Kind.NO_ANSWER),
        (socket.EAI_AGAIN, Kind.UNKNOWN),
        (socket.EAI_FAIL, Kind.UNKNOWN),
    ],
)
def test_the_systems_errors(monkeypatch: pytest.MonkeyPatch, code: int, kind: Kind) -> None:
    """A name that does not exist is no answer; a resolver that failed is unknown."""

    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "as the system says")

    resolve_as(monkeypatch, resolve)
    assert ask_os(NAME) == Answer(kind, detail="the system's resolver: as the system says")


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that hangs is unknown when its time is up; the next joins it, and takes no thread of its own."""
    release, called, calls = threading.Event(), threading.Event(), []

    def resolve(*_: object, **__: object) -> list[Any]:
        calls.append(1)
        called.set()
        assert release.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, EAST, ("127.0.0.2", 0))]

    resolve_as(monkeypatch, resolve)
    try:
        for _ in range(3):
            answer = look(NAME, "os", 0.05)
            assert answer.kind is Kind.UNKNOWN
            assert answer.detail == "the resolver has not answered in time"
        assert called.wait(60)
        assert len(calls) == 1
        waiting: list[Answer] = []
        joined = threading.Thread(target=lambda: waiting.append(look(NAME, "os", 60)))
        joined.start()
    finally:
        release.set()
    joined.join()
    assert waiting == [Answer(Kind.TARGET, EAST)]
    assert look(NAME, "os", 60) == Answer(Kind.TARGET, EAST)


def test_a_resolver_that_hangs_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look-up that never ends keeps its name unknown for ever; or another is begun each time that the name is asked for."""
    release, calls, now = threading.Event(), [], [1000.0]
    called = threading.Semaphore(0)

    def resolve(*_: object, **__: object) -> list[Any]:
        calls.append(now[0])
        called.release()
        if len(calls) < 4:
            assert release.wait(60)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, EAST, ("127.0.0.2", 0))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, WEST, ("127.0.0.3", 0))]

    resolve_as(monkeypatch, resolve)
    with monkeypatch.context() as patch:
        patch.setattr(lookup, "time", SimpleNamespace(monotonic=lambda: now[0]))
        try:
            while now[0] < 1213.0:
                running = lookup._board.running.get((NAME, "os"))
                assert look(NAME, "os", 0.0).kind is Kind.UNKNOWN
                if lookup._board.running[NAME, "os"] is not running:
                    assert called.acquire(timeout=60)  # its thread has begun
                now[0] += 1.0
            assert look(NAME, "os", 60.0) == Answer(Kind.TARGET, WEST)
        finally:
            release.set()
    assert calls == [1000.0, 1031.0, 1092.0, 1213.0]


def test_hanging_look_ups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When as many names hang as may, one more is unknown at once, and no thread is started for it."""
    release = threading.Event()

    def resolve(*_: object, **__: object) -> list[Any]:
        assert release.wait(60)
        return []

    resolve_as(monkeypatch, resolve)
    monkeypatch.setattr(lookup, "MOST", 2)
    try:
        for number in range(2):
            look(f"{number}.example.com", "os", 0.01)
        assert look("one-more.example.com", "os", 60).detail == "2 look-ups hang already"
    finally:
        release.set()


def test_what_nobody_foresaw_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody expects from a resolver is told, and is no switch."""

    def resolve(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of somebody's")

    resolve_as(monkeypatch, resolve)
    assert look(NAME, "os", 60) == Answer(Kind.UNKNOWN, detail="RuntimeError: a bug of somebody's")


def test_a_forked_child_looks_up_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that hung in the parent is not waited for in the child, where its thread is not."""
    release = threading.Event()

    def resolve(*_: object, **__: object) -> list[Any]:
        assert release.wait(60)
        return []

    resolve_as(monkeypatch, resolve)
    try:
        look(NAME, "os", 0.01)
        child = os.fork()
        if child == 0:
            resolve_as(monkeypatch, lambda *_, **__: [(2, 1, 6, EAST, ("127.0.0.2", 0))])
            os._exit(0 if look(NAME, "os", 60) == Answer(Kind.TARGET, EAST) else 1)
        _, status = os.waitpid(child, 0)
    finally:
        release.set()
    assert os.waitstatus_to_exitcode(status) == 0
