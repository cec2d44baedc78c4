"""A broker in a region of its own: names from a DNS server of ours, certificates made on the spot."""

from __future__ import annotations

import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import pytest
from attrs import define, field
from switchgear.doctor import Asker, Finding, Report, SystemAnswer, Wishes, examine
from switchgear.plugins import registry
from switchgear.profile import Profile
from switchgear.testing.dns import DnsServer
from switchgear.tls import TLS
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from switchgear_certs import Certificate

NAME = "mqtt1.example.com"


@define
class Bench:
    """A DNS server that is both the system's and the zone's, and what a test puts beside it."""

    names: DnsServer
    folder: Path
    authority: Authority = field(factory=Authority.create)

    @property
    def ca_file(self) -> str:
        """The authority's own certificate."""
        path = self.folder / "ca.pem"
        path.write_bytes(self.authority.ca_pem)
        return str(path)

    def tls(self, **settings: Any) -> TLS:
        """What trusts the authority."""
        return TLS(**{"ca_file": self.ca_file, **settings})

    def server_side(
        self, certificate: Certificate | None = None, *, names: tuple[str, ...] = (NAME,)
    ) -> ssl.SSLContext:
        """A broker's context, with a certificate for *names* or the given one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (certificate or self.authority.server(*names)).configure(context)
        return context

    async def lookup(self, host: str) -> SystemAnswer:
        """As getaddrinfo does it, from the DNS server."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(self.names.host, self.names.port)]
        resolver.lifetime = 20.0
        try:
            answer = await resolver.resolve(host, "A")
        except dns.resolver.NXDOMAIN:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        except dns.resolver.NoAnswer:
            raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname") from None
        except dns.exception.DNSException:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution") from None
        canonical = answer.canonical_name.to_text(omit_final_dot=True)
        return SystemAnswer(tuple(record.to_text() for record in answer), canonical, 0.001)

    async def look(self, where: Any, *, asker: Asker | None = None, wishes: Any = None, **options: Any) -> Report:
        """What the doctor says; the zone's own server is the DNS server too unless *asker* says otherwise."""
        own = (self.names.host, self.names.port)
        asked = asker or Asker(recursive=(own,), authority_port=self.names.port, timeout=20.0)
        settings = {"timeout": 20.0, "asker": asked, "lookup": self.lookup, **(wishes or {})}
        return await examine(Profile.of(where, **options), registry(), Wishes(**settings))

    def line(self, report: Report, check: str, endpoint: str = "") -> Finding:
        """The one line of *check*, of the endpoint whose key holds *endpoint*."""
        (found,) = [each for each in report.findings if each.check == check and endpoint in each.endpoint]
        return found

    def verdicts(self, report: Report) -> dict[str, str]:
        """Every check of a report on one endpoint, and its verdict."""
        return {each.check: each.verdict.value for each in report.findings}


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[], Any]:
    """Makes a `Bench` for ``async with``, whose names lead to 127.0.0.1."""

    @asynccontextmanager
    async def begin() -> AsyncIterator[Bench]:
        async with DnsServer() as names:
            names.set_cname(NAME, "east.iot.example")
            names.set_a("east.iot.example", "127.0.0.1")
            yield Bench(names, tmp_path)

    return begin
