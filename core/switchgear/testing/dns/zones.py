"""The records of a DNS server, and what it answers from them. Pure: values of dnspython, no sockets."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal, TypeAlias

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Fault: TypeAlias = Literal["servfail", "silent", "nxdomain", "refused"]
"""How a name can fail: three answers, or none."""

CHAIN: Final = 16
"""CNAME records that one answer follows at most; BIND and dnspython draw the line there too."""

_Sets: TypeAlias = "dict[dns.rdatatype.RdataType, dns.rrset.RRset]"
_APEX: Final = (dns.rdatatype.SOA, dns.rdatatype.NS)


class Zones:
    """Record sets by name and type. *address* is where the name servers that were made up are said to be.

    A name that lies in no zone yet gets one: its parent domain, or the name itself where it has only two labels. Each
    zone has a SOA and an NS record from the start, so that ``dns.resolver.zone_for_name`` finds it.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._records: dict[dns.name.Name, _Sets] = {}

    def copy(self) -> Zones:
        """The same records, untouched by later changes here."""
        other = Zones(self._address)
        other._records = {name: dict(sets) for name, sets in self._records.items()}
        return other

    # Records

    def set_cname(self, name: str, target: str, ttl: int) -> None:
        """Make *name* an alias, in place of all that it was.

        Raises:
            ValueError: it is the top of a zone, where no alias may be (RFC 1034, 3.6.2).
        """
        owner = self._in_zone(name)
        if dns.rdatatype.SOA in self._records.get(owner, {}):
            raise ValueError(f"{name!r} is the top of a zone, which cannot be a CNAME (RFC 1034, 3.6.2)")
        self._records[owner] = {}
        self._put(owner, ttl, "CNAME", _absolute(target).to_text())

    def set_a(self, name: str, addresses: tuple[str, ...], ttl: int) -> None:
        """Give *name* A and AAAA records, in place of its addresses or its CNAME.

        Raises:
            ValueError: no address is given, or something that is none.
        """
        if not addresses:
            raise ValueError(f"{name!r} needs an address; remove({name!r}) takes the name away")
        by_type: dict[str, list[str]] = {}
        for each in addresses:
            by_type.setdefault("AAAA" if ipaddress.ip_address(each).version == 6 else "A", []).append(each)
        owner = self._in_zone(name)
        sets = self._records.setdefault(owner, {})
        for kind in (dns.rdatatype.CNAME, dns.rdatatype.A, dns.rdatatype.AAAA):
            sets.pop(kind, None)
        for kind_name, texts in by_type.items():
            self._put(owner, ttl, kind_name, *texts)

    def set_ns(self, zone: str, servers: tuple[str, ...], ttl: int) -> None:
        """Make *zone* a zone, and say which servers it has."""
        apex = self._zone_at(_absolute(zone))
        self._put(apex, ttl, "NS", *(_absolute(each).to_text() for each in servers))

    def set_soa(self, zone: str, *, serial: int, primary: str | None, negative_ttl: int, ttl: int) -> None:
        """Make *zone* a zone, and set its SOA record."""
        apex = self._zone_at(_absolute(zone))
        server = _absolute(primary) if primary else _child("ns", apex)
        self._put(apex, ttl, "SOA", f"{server} {_child('hostmaster', apex)} {serial} 3600 600 86400 {negative_ttl}")

    def remove(self, name: str) -> None:
        """Take away what *name* has; the SOA and NS records of a zone stay."""
        owner = _absolute(name)
        left = {kind: rrset for kind, rrset in self._records.pop(owner, {}).items() if kind in _APEX}
        if left:
            self._records[owner] = left

    def _put(self, owner: dns.name.Name, ttl: int, kind: str, *texts: str) -> None:
        rrset = dns.rrset.from_text(owner, ttl, dns.rdataclass.IN, kind, *texts)
        self._records.setdefault(owner, {})[rrset.rdtype] = rrset

    def _in_zone(self, name: str) -> dns.name.Name:
        owner = _absolute(name)
        if self._zone_of(owner) is None:
            self._zone_at(owner.parent() if len(owner) > 3 else owner)  # the root label counts
        return owner

    def _zone_at(self, apex: dns.name.Name) -> dns.name.Name:
        if dns.rdatatype.SOA not in self._records.get(apex, {}):
            self._records.setdefault(apex, {}).pop(dns.rdatatype.CNAME, None)
            self._begin(apex)
        return apex

    def _begin(self, apex: dns.name.Name) -> None:
        server = _child("ns", apex)
        self._put(apex, 60, "SOA", f"{server} {_child('hostmaster', apex)} 1 3600 600 86400 0")
        self._put(apex, 60, "NS", server.to_text())
        if server not in self._records:
            self._put(server, 60, "AAAA" if ":" in self._address else "A", self._address)

    def _zone_of(self, name: dns.name.Name) -> dns.name.Name | None:
        while True:
            if dns.rdatatype.SOA in self._records.get(name, {}):
                return name
            if name == dns.name.root:
                return None
            name = name.parent()

    # Answers

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """What an authoritative server with these records answers.

        CNAME records are followed as long as the target is in a zone that is here. A loop, or a chain longer than `CHAIN`, is
        answered with its records, each once, and no error, as BIND did before it had ``max-query-restarts``. A name that is
        nowhere gives NXDOMAIN with the SOA record of its zone, a type that it lacks no answer with it (RFC 2308).
        """
        reply = dns.message.make_response(query, our_payload=1232)
        if query.opcode() != dns.opcode.QUERY:
            reply.set_rcode(dns.rcode.NOTIMP)
            return reply
        if len(query.question) != 1:
            reply.set_rcode(dns.rcode.FORMERR)
            return reply
        question = query.question[0]
        name, zone = question.name, self._zone_of(question.name)
        if zone is None or question.rdclass != dns.rdataclass.IN:
            reply.set_rcode(dns.rcode.REFUSED)
            return reply
        reply.flags |= dns.flags.AA
        seen: set[dns.name.Name] = set()
        while zone is not None and name not in seen and len(seen) < CHAIN:
            seen.add(name)
            sets = self._records.get(name, {})
            if question.rdtype in sets:
                reply.answer.append(sets[question.rdtype])
                return reply
            if dns.rdatatype.CNAME not in sets:
                if not sets and not any(each.is_subdomain(name) for each in self._records):
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                reply.authority.append(self._negative(zone))
                return reply
            reply.answer.append(sets[dns.rdatatype.CNAME])
            name = sets[dns.rdatatype.CNAME][0].target
            zone = self._zone_of(name)
        return reply

    def _negative(self, zone: dns.name.Name) -> dns.rrset.RRset:
        """The SOA record as it stands in a negative answer: its TTL is at most its last field (RFC 2308, 3)."""
        soa = self._records[zone][dns.rdatatype.SOA]
        ttl = min(soa.ttl, soa[0].minimum)
        return dns.rrset.from_rdata_list(zone, ttl, list(soa))


def failed(query: dns.message.Message, fault: Fault) -> dns.message.Message | None:
    """The answer of a server that fails so; `None` for silence."""
    if fault == "silent":
        return None
    reply = dns.message.make_response(query, our_payload=1232)
    reply.set_rcode(dns.rcode.from_text(fault))
    return reply


def canonical(name: str) -> str:
    """A name as the log and the faults spell it: lower case, no dot at the end."""
    return _absolute(name).canonicalize().to_text(omit_final_dot=True)


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name)


def _child(label: str, parent: dns.name.Name) -> dns.name.Name:
    return dns.name.from_text(label, parent)
