"""What a zone's own name servers answer. Sends DNS queries (dnspython)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.query
import dns.rdatatype
import dns.resolver

from switchgear_iot_dns.dr.settings import host_name

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT: Final = 2.0
"""Seconds for one answer of one server."""

_PAYLOAD: Final = 1232  # bytes that pass every path unfragmented (DNS flag day 2020)


class NameServers(Protocol):
    """The servers of a zone; a call may block, and is bounded."""

    def ask(self, name: str) -> dict[str, str | None]:
        """The target of *name*'s CNAME by server; "" for none, None where there was no answer."""


class DnsNameServers:
    """Asks every one of *servers*, host names or ADDRESS or ADDRESS:PORT, without recursion."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = tuple(servers)
        self._addresses: dict[str, tuple[str, int]] = {}

    def ask(self, name: str) -> dict[str, str | None]:
        """See `NameServers.ask`."""
        return {server: self._ask(server, name) for server in self._servers}

    def _ask(self, server: str, name: str) -> str | None:
        place = self._place(server)
        if place is None:
            return None
        query = dns.message.make_query(name, dns.rdatatype.CNAME, use_edns=0, payload=_PAYLOAD)
        query.flags &= ~dns.flags.RD
        try:
            answer, _ = dns.query.udp_with_fallback(query, place[0], timeout=TIMEOUT, port=place[1])
        except (dns.exception.DNSException, OSError):
            return None
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN} or not answer.flags & dns.flags.AA:
            return None
        for each in answer.answer:
            if each.rdtype == dns.rdatatype.CNAME and host_name(each.name.to_text()) == host_name(name):
                return host_name(each[0].target.to_text())
        return ""

    def _place(self, server: str) -> tuple[str, int] | None:
        if server not in self._addresses:
            host, _, port = server.rpartition(":") if server.count(":") == 1 else (server, "", "53")
            if not dns.inet.is_address(host):
                try:
                    host = dns.resolver.resolve(host, "A", lifetime=TIMEOUT)[0].to_text()
                except (dns.exception.DNSException, OSError):
                    return None
            self._addresses[server] = (host, int(port or 53))
        return self._addresses[server]


def disagreement(answers: dict[str, str | None], target: str) -> str | None:
    """What is wrong with *answers* when all should say *target*, in words; None when nothing is."""
    if not answers:
        return "there is no name server to ask"
    silent = [server for server, told in answers.items() if told is None]
    if silent:
        return f"{len(silent)} of {len(answers)} name servers did not answer ({', '.join(silent)})"
    others = {told for told in answers.values() if told != target}
    if others:
        return (
            f"name servers still answer {', '.join(sorted(each or 'nothing' for each in others if each is not None))}"
        )
    return None
