"""Where a name leads: asks the operating system, given name servers, or every authoritative one. Threads, DNS.

A look-up never takes longer than it is told to, and what goes wrong in it is an answer, not an exception. Look-ups of
one name that run at the same time are one; none is remembered.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from attrs import define, field
from switchgear.workers import LOST_AFTER

from switchgear_iot_dns.options import AUTHORITATIVE, OS, place
from switchgear_iot_dns.settle import Answer, Kind
from switchgear_iot_dns.uri import canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    import dns.name
    import dns.resolver

MOST: Final = 32
"""Names that are looked up at the same time in this process. A resolver that hangs holds a thread for each."""

CHAIN: Final = 16
"""CNAME records that are followed; dnspython and BIND draw the line there too."""

CIRCLE: Final = f"its CNAME records lead in a circle, or are more than {CHAIN}"
NO_ADDRESS: Final = "the name has no address"

logger = logging.getLogger("switchgear.plugins.iot_dns")


@define
class _Running:
    """One look-up under way; lost after *patience* seconds."""

    began: float
    patience: float
    ended: threading.Event = field(factory=threading.Event)
    answer: Answer | None = None


@define(eq=False)
class _Board:
    """Every look-up under way but those that are lost."""

    lock: threading.Lock = field(factory=threading.Lock)
    running: dict[tuple[object, ...], _Running] = field(factory=dict)

    def forget(self) -> None:
        """In a forked child: the threads are not there."""
        self.lock = threading.Lock()
        self.running.clear()


_board: Final = _Board()
os.register_at_fork(after_in_child=_board.forget)


def look(host: str, resolver: str | tuple[str, ...], timeout: float) -> Answer:
    """Where *host* leads, asked now; blocks for *timeout* seconds at most. Since: 0.1."""
    key = (host, resolver)
    with _board.lock:
        running, now = _board.running.get(key), time.monotonic()
        if running is None or now - running.began > running.patience:
            if running is None and len(_board.running) >= MOST:
                return Answer(Kind.UNKNOWN, detail=f"{MOST} look-ups hang already")
            running = _Running(now, LOST_AFTER if running is None else 2 * running.patience)
            work = threading.Thread(
                target=_work, args=(key, running, host, resolver, timeout), name=f"switchgear-dns-{host}", daemon=True
            )
            try:
                work.start()
            except RuntimeError as error:
                return Answer(Kind.UNKNOWN, detail=f"no thread for the look-up: {error}")
            _board.running[key] = running
    # One that hangs already is not waited for anew: many transports ask for one name, and hooks have few threads.
    running.ended.wait(max(0.0, running.began + timeout - time.monotonic()))
    if running.answer is None:
        return Answer(Kind.UNKNOWN, detail="the resolver has not answered in time")
    return running.answer


def _work(
    key: tuple[object, ...], running: _Running, host: str, resolver: str | tuple[str, ...], timeout: float
) -> None:
    try:
        if resolver == OS:
            running.answer = ask_os(host)
        elif resolver == AUTHORITATIVE:
            running.answer = ask_authoritative(host, timeout)
        else:
            running.answer = ask_servers(host, tuple(resolver), timeout)
    except Exception as error:  # whatever goes wrong in a look-up, the answer is unknown; it is told with it
        logger.debug("switchgear.iot_dns.lookup_failed", exc_info=True, extra={"host": host})
        running.answer = Answer(Kind.UNKNOWN, detail=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    finally:
        with _board.lock:
            if _board.running.get(key) is running:  # else another was begun in its place
                del _board.running[key]
        running.ended.set()


def ask_os(host: str) -> Answer:
    """Where the operating system says that *host* leads: ``AI_CANONNAME`` is the end of the chain of CNAME records."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except socket.gaierror as error:
        gone = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
        kind = Kind.NO_ANSWER if error.errno in gone else Kind.UNKNOWN
        return Answer(kind, detail=f"the system's resolver: {error.strerror}")
    except UnicodeError as error:
        return Answer(Kind.NO_ANSWER, detail=f"no host name: {error}")
    return Answer(Kind.TARGET, canonical(next((name for _, _, _, name, _ in found if name), host)))


def ask_servers(host: str, servers: tuple[str, ...], timeout: float) -> Answer:
    """Where the first of *servers* that answers says that *host* leads."""
    import dns.exception
    import dns.message
    import dns.nameserver
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(*place(server)) for server in servers]
    resolver.timeout = timeout / len(servers)
    try:
        for kind in ("A", "AAAA"):
            found = resolver.resolve(host, kind, search=False, lifetime=timeout, raise_on_no_answer=False)
            if found.canonical_name != found.qname or found.rrset is not None:
                return _end(found.canonical_name)
    except dns.resolver.NXDOMAIN:
        return Answer(Kind.NO_ANSWER, detail="no such name (NXDOMAIN)")
    except dns.exception.Timeout:
        return Answer(Kind.UNKNOWN, detail=f"{', '.join(servers)} did not answer in {timeout:g} s")
    except dns.resolver.NoNameservers as error:
        if any(isinstance(each[3], dns.message.ChainTooLong) for each in error.kwargs.get("errors", ())):
            return Answer(Kind.NO_ANSWER, detail=CIRCLE)
        return Answer(Kind.UNKNOWN, detail=_short(error))
    return Answer(Kind.NO_ANSWER, detail=NO_ADDRESS)


def ask_authoritative(
    host: str, timeout: float, *, stub: dns.resolver.Resolver | None = None, port: int = 53
) -> Answer:
    """Where the name servers of the zone of *host* say that it leads: all that answer must agree, and most must answer.

    The chain is followed to the first name outside the zone: that is the target. *stub* finds the zone and its servers; None:
    as the system is set up.
    """
    import dns.exception
    import dns.resolver

    deadline = time.monotonic() + timeout
    try:
        zone, servers = _zone_of(host, stub or dns.resolver.Resolver(), deadline)
    except dns.resolver.NXDOMAIN:
        return Answer(Kind.NO_ANSWER, detail="no such zone (NXDOMAIN)")
    except dns.exception.DNSException as error:
        return Answer(Kind.UNKNOWN, detail=f"the zone's name servers are not found: {_short(error)}")
    said: dict[str, Answer] = {}
    for number, (name, addresses) in enumerate(servers):
        until = time.monotonic() + (deadline - time.monotonic()) / (len(servers) - number)
        said[name] = _ask_one(host, zone, addresses, until, port)
    return agreed(said)


def _ask_one(host: str, zone: dns.name.Name, addresses: list[str], until: float, port: int) -> Answer:
    """What the server at *addresses* says: the first of them that answers. A machine may have no IPv6, or no IPv4."""
    import dns.exception

    answer = Answer(Kind.UNKNOWN, detail="it has no address")
    for number, address in enumerate(addresses):
        share = (until - time.monotonic()) / (len(addresses) - number)
        ask = functools.partial(_ask, zone=zone, address=address, port=port, until=time.monotonic() + share)
        try:
            return _follow(host, zone, ask)
        except (dns.exception.DNSException, OSError) as error:
            answer = Answer(Kind.UNKNOWN, detail=_short(error))
    return answer


def agreed(said: dict[str, Answer]) -> Answer:
    """What the answers of the authoritative servers, by their names, come to."""
    known = {name: answer for name, answer in said.items() if answer.kind is not Kind.UNKNOWN}
    if len(known) * 2 <= len(said):
        silent = "; ".join(f"{name}: {answer.detail}" for name, answer in said.items() if name not in known)
        return Answer(Kind.UNKNOWN, detail=f"{len(known)} of {len(said)} authoritative servers answered; {silent}")
    if len({(answer.kind, answer.target) for answer in known.values()}) > 1:
        views = ", ".join(f"{name} says {answer}" for name, answer in known.items())
        return Answer(Kind.UNKNOWN, detail=f"the authoritative servers do not agree yet: {views}")
    return next(iter(known.values()))


def _zone_of(
    host: str, stub: dns.resolver.Resolver, deadline: float
) -> tuple[dns.name.Name, list[tuple[str, list[str]]]]:
    """The zone that *host* is in, and the names and addresses of its servers, those of IPv4 first."""
    import dns.exception
    import dns.name
    import dns.resolver

    def left() -> float:
        return max(0.01, deadline - time.monotonic())

    name = dns.name.from_text(host)
    try:
        zone = dns.resolver.zone_for_name(name, resolver=stub, lifetime=left())
    except dns.resolver.NoNameservers:  # the name fails itself: what it fails with is asked of the zone above it
        zone = dns.resolver.zone_for_name(name.parent(), resolver=stub, lifetime=left())
    servers = []
    names = sorted(stub.resolve(zone, "NS", lifetime=left()), key=str)
    for number, server in enumerate(names):
        addresses: list[str] = []
        share = left() / (len(names) - number + 1)  # the last one is for asking them
        with contextlib.suppress(
            dns.exception.DNSException
        ):  # one name server without an address is one that is silent
            found = stub.resolve_name(server.target, lifetime=share)
            addresses = [*found.addresses(socket.AF_INET), *found.addresses(socket.AF_INET6)]
        servers.append((server.target.to_text(omit_final_dot=True), addresses))
    return zone, servers


class _NoAddress(Exception):
    """The name is in the zone, and has neither a CNAME nor an address."""


class _Delegated(Exception):
    """The name is in a zone below, which other servers have."""


def _follow(host: str, zone: dns.name.Name, ask: Callable[[dns.name.Name], dns.name.Name | None]) -> Answer:
    """The end of the chain from *host* within *zone*; *ask* gives the next name, or None at the end."""
    import dns.name
    import dns.resolver

    name = dns.name.from_text(host)
    seen = {name}
    while name.is_subdomain(zone):
        try:
            following = ask(name)
        except dns.resolver.NXDOMAIN:
            return Answer(Kind.NO_ANSWER, detail="no such name (NXDOMAIN)")
        except _NoAddress:
            return Answer(Kind.NO_ANSWER, detail=NO_ADDRESS)
        except _Delegated:
            if len(seen) == 1:  # the name itself: the zone that we were told of is not its own
                raise OSError("it refers to the servers of a zone below") from None
            break
        if following is None:
            break
        if following in seen or len(seen) > CHAIN:
            return Answer(Kind.NO_ANSWER, detail=CIRCLE)
        seen.add(following)
        name = following
    return _end(name)


def _end(name: dns.name.Name) -> Answer:
    """The answer that *name* is the end of the chain."""
    target = canonical(name.to_text())
    return Answer(Kind.TARGET, target) if target else Answer(Kind.NO_ANSWER, detail=NO_ADDRESS)  # the root: nowhere


def _ask(name: dns.name.Name, zone: dns.name.Name, address: str, port: int, until: float) -> dns.name.Name | None:
    """What the server at *address* has as the CNAME of *name*; None where it has an address. The question is not recursive.

    Raises:
        dns.resolver.NXDOMAIN, _NoAddress, _Delegated: it has none, as it says.
        dns.exception.DNSException, OSError: it does not answer, or not for *zone*: a server that has lost it (a lame
            delegation) answers no question and yet without an error.
    """
    import dns.exception
    import dns.flags
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rdatatype
    import dns.resolver

    for kind in (dns.rdatatype.CNAME, dns.rdatatype.A, dns.rdatatype.AAAA):  # few names are not an alias
        query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
        query.flags &= ~dns.flags.RD
        left = max(0.05, until - time.monotonic())
        reply, _ = dns.query.udp_with_fallback(query, address, timeout=left, port=port)
        if reply.rcode() == dns.rcode.NXDOMAIN:
            raise dns.resolver.NXDOMAIN
        if reply.rcode() != dns.rcode.NOERROR:
            raise OSError(f"it answers {dns.rcode.to_text(reply.rcode())}")
        for rrset in reply.answer:
            if rrset.name == name and rrset.rdtype == dns.rdatatype.CNAME:
                target: dns.name.Name = rrset[0].target
                return target
            if rrset.name == name and rrset.rdtype == kind:
                return None
        if not reply.flags & dns.flags.AA:
            below = (each.name for each in reply.authority if each.rdtype == dns.rdatatype.NS and each.name != zone)
            raise _Delegated if any(each.is_subdomain(zone) for each in below) else OSError("it has not that zone")
    raise _NoAddress


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
