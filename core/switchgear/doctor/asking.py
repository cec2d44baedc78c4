"""Questions about names: to the operating system, to its name servers, to a zone's own. Does I/O (DNS).

Asking name servers needs dnspython; `Asker.is_able` says whether it is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from attrs import field, frozen

from switchgear.errors import InvalidOption, redact
from switchgear.workers import LOOKUPS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Server: TypeAlias = tuple[str, int]

DNS_PORT: Final = 53
_MOST_SERVERS: Final = 4  # of a zone that are asked; enough to see a change that is under way
_SERVER: Final = re.compile(
    r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[^:]*))(?::(?P<port>[0-9]{1,5}))?|(?P<bare>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)"
)
_TRIES: Final = 3  # a datagram may be lost


@frozen
class SystemAnswer:
    """What the operating system says of a name; ``canonical`` is the end of its CNAME chain where it tells it."""

    addresses: tuple[str, ...]
    canonical: str
    seconds: float


Lookup: TypeAlias = "Callable[[str], Awaitable[SystemAnswer]]"
"""As `system_lookup`."""


async def system_lookup(host: str) -> SystemAnswer:
    """What ``getaddrinfo`` says, as every program on this machine hears it: hosts file, caches and all.

    Raises:
        OSError: the name has no address, or nobody answered; ``socket.gaierror`` says which.
    """
    started = time.monotonic()
    flags = socket.AI_CANONNAME
    found = await LOOKUPS.run(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags))
    addresses = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
    canonical = next((name for *_, name, _ in found if name), host)
    return SystemAnswer(addresses, canonical.rstrip(".").lower(), time.monotonic() - started)


@frozen
class Hop:
    """One CNAME record; ``ttl`` is in seconds."""

    target: str
    ttl: int


@frozen(kw_only=True)
class Told:
    """What one name server said.

    Attributes:
        server: Its address and port.
        code: ``NOERROR``, ``NXDOMAIN``, ``SERVFAIL``, ``REFUSED``...; ``silent`` when no answer came.
        chain: The CNAME records, in order.
        is_loop: Whether they lead back to where they began.
        addresses: At the end of the chain, as far as this server knows it.
        ttl: Of the addresses, in seconds.
    """

    server: str
    code: str
    chain: tuple[Hop, ...] = ()
    is_loop: bool = False
    addresses: tuple[str, ...] = ()
    ttl: int = 0

    @property
    def end(self) -> str | None:
        """The last target of the chain."""
        return self.chain[-1].target if self.chain else None

    @property
    def says(self) -> object:
        """What makes two answers the same: the first target where there is one, else the addresses."""
        return self.code, self.chain[0].target if self.chain else frozenset(self.addresses)


@frozen(kw_only=True)
class Asker:
    """Asks name servers.

    Attributes:
        servers: To be asked in place of all others, as the user named them.
        recursive: In place of those that the operating system is configured with.
        authority_port: Where a zone's own servers listen.
        timeout: Seconds for each question, all servers that are tried for it included.
    """

    servers: tuple[Server, ...] = ()
    recursive: tuple[Server, ...] | None = None
    authority_port: int = DNS_PORT
    timeout: float = 5.0
    is_able: bool = field(factory=lambda: importlib.util.find_spec("dns") is not None)
    """Whether dnspython is here."""

    async def chain(self, host: str) -> Told | None:
        """What the first server that answers says of *host*; None: this machine has no name servers configured."""
        told = None
        servers = self.servers or self._recursive()
        for server in servers[:_TRIES]:
            told = await self._ask(server, host, timeout=self.timeout / min(len(servers), _TRIES), recursive=True)
            if told.code != "silent":
                break
        return told

    async def authority(self, host: str) -> tuple[str, list[Told]]:
        """Who was asked, and what each server of the user's, or of the zone of *host*, says of it.

        The list is empty when the zone's servers could not be found.
        """
        if self.servers:
            whose, servers, recursive = "the servers given", self.servers, True
        else:
            zone, servers = "", ()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.timeout / 2):
                    zone, servers = await self._zone_servers(host)
            whose, recursive = f"the name servers of {zone}" if zone else "no name server", False
        asked = (self._ask(server, host, timeout=self.timeout / 2, recursive=recursive) for server in servers)
        return whose, list(await asyncio.gather(*asked))

    def _recursive(self) -> tuple[Server, ...]:
        if self.recursive is not None:
            return self.recursive
        import dns.resolver

        try:
            configured = dns.resolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            return ()
        return tuple((server, configured.port) for server in configured.nameservers if isinstance(server, str))

    async def _zone_servers(self, host: str) -> tuple[str, tuple[Server, ...]]:
        """The zone that holds *host* and the addresses of its name servers; empty where they cannot be found."""
        import dns.asyncresolver
        import dns.exception
        import dns.nameserver
        import dns.resolver

        recursive = self._recursive()
        if not recursive:
            return "", ()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in recursive]
        resolver.lifetime = self.timeout / 2
        try:
            zone = await dns.asyncresolver.zone_for_name(host, resolver=resolver)
            names = [record.target.to_text() for record in await resolver.resolve(zone, "NS")]
        except dns.exception.DNSException:
            return "", ()
        addresses: list[str] = []
        for name in sorted(names)[:_MOST_SERVERS]:
            try:
                addresses += [record.to_text() for record in await resolver.resolve(name, "A")][:1]
            except dns.exception.DNSException:
                continue  # a server of IPv6 only, or one that is gone: the others are asked
        return zone.to_text(omit_final_dot=True), tuple((address, self.authority_port) for address in addresses)

    async def _ask(self, server: Server, host: str, *, timeout: float, recursive: bool) -> Told:
        """What *server* says of the addresses of *host*: IPv4, and IPv6 where there is none."""
        told = await self._ask_type(server, host, "A", timeout=timeout, recursive=recursive)
        if told.code == "NOERROR" and not told.addresses and not told.is_loop:
            other = await self._ask_type(server, host, "AAAA", timeout=timeout, recursive=recursive)
            return other if other.addresses else told
        return told

    async def _ask_type(self, server: Server, host: str, kind: str, *, timeout: float, recursive: bool) -> Told:
        import dns.asyncquery
        import dns.exception
        import dns.flags
        import dns.message
        import dns.rcode

        query = dns.message.make_query(host, kind, use_edns=0, payload=1232)
        if not recursive:
            query.flags &= ~dns.flags.RD
        address, port = server
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        for _ in range(_TRIES):
            try:
                answer, _tcp = await dns.asyncquery.udp_with_fallback(query, address, timeout / _TRIES, port)
            except (dns.exception.DNSException, OSError, EOFError):
                continue
            return _read(where, answer, host, kind, dns.rcode.to_text(answer.rcode()))
        return Told(server=where, code="silent")


def _read(server: str, answer: Any, host: str, kind: str, code: str) -> Told:
    """The chain and the addresses in a `dns.message.Message`."""
    aliases: dict[str, Hop] = {}
    addresses: dict[str, tuple[tuple[str, ...], int]] = {}
    for rrset in answer.answer:
        owner = _plain(rrset.name)
        type_name = rrset.rdtype.name
        if type_name == "CNAME":
            aliases[owner] = Hop(_plain(rrset[0].target), rrset.ttl)
        elif type_name == kind:
            addresses[owner] = tuple(record.to_text() for record in rrset), rrset.ttl
    chain: list[Hop] = []
    name = host.rstrip(".").lower()
    seen = {name}
    is_loop = False
    while name in aliases and not is_loop:
        hop = aliases[name]
        chain.append(hop)
        name = hop.target
        is_loop = name in seen
        seen.add(name)
    found, ttl = addresses.get(name, ((), 0))
    return Told(server=server, code=code, chain=tuple(chain), is_loop=is_loop, addresses=found, ttl=ttl)


def _plain(name: Any) -> str:
    text: str = name.to_text(omit_final_dot=True)
    return text.lower()


def is_address(host: str) -> bool:
    """Whether *host* is an IP address, and no name to be looked up."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def parse_server(text: str) -> Server:
    """The address and port in ``ADDRESS``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``.

    Raises:
        InvalidOption: it is none of these; a name server is given by its address, or its name would have to be looked up.
    """
    found = _SERVER.fullmatch(text)
    address = (found["v6"] or found["bare"] or found["v4"]) if found else ""
    if not is_address(address):
        raise InvalidOption("dns-server", f"{redact(text)!r} is no IP address, or ADDRESS:PORT, of a name server")
    port = int(found["port"] or DNS_PORT) if found else 0
    if not 1 <= port <= 65535:
        raise InvalidOption("dns-server", f"{text!r}: the port is no number from 1 to 65535")
    return address, port
