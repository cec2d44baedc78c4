"""The DNS server: UDP and TCP on one port, and what a test does to it. Touches the loop and its sockets."""

from __future__ import annotations

import asyncio
import errno
import struct
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, cast, get_args

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
from attrs import frozen

from switchgear.testing.dns.zones import Fault, Zones, canonical, failed

if TYPE_CHECKING:
    from collections.abc import Callable

DnsTransport: TypeAlias = Literal["udp", "tcp"]

EVERY_NAME: Final = "*"
"""What `DnsServer.fail` and `DnsServer.delay` take in place of a name to mean all that have no setting of their own."""

_UDP_SIZE: Final = 512  # bytes that every client takes over UDP (RFC 1035, 2.3.4)
_EDNS_SIZE: Final = 1232  # bytes sent over UDP at most, whatever the client offers (DNS flag day 2020)
_TRIES: Final = 20  # ports to try until one is free for UDP and TCP both


@frozen
class Query:
    """A question as it came: loop time in seconds, name in lower case without the last dot, type (``A``), ``udp`` or ``tcp``.

    ``wants_recursion`` is its flag RD: set by those who ask a resolver, not by resolvers that ask an authoritative server.
    """

    at: float
    name: str
    type: str
    transport: DnsTransport
    wants_recursion: bool = True


class DnsServer:
    """A small authoritative DNS server on the running loop, for demos and tests, never for production. Since: 0.1.

    ``async with DnsServer() as dns`` starts and stops it; several may run in one loop. Port 0 lets the system choose one that is
    free for UDP and TCP. Names begin their zones themselves (see `Zones`); for names in no zone of its own it answers
    REFUSED. Records and faults may be set before it runs and while it runs. Everything is to be called from the loop's thread;
    `ThreadedDnsServer` may be called from any.

    Attributes:
        host: The address that it listens on.
        port: Its port, 0 before the first start.
        queries: Every question that came, in order, those that got no answer included.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.queries: list[Query] = []
        self._zones = Zones(host)
        self._frozen: dict[str, Zones] = {}
        self._faults: dict[str, Fault] = {}
        self._delays: dict[str, float] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.Transport] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<DnsServer {self.address} {'listening' if self._udp else 'down'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        """Where it is asked: host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port as before when it has had one.

        Raises:
            OSError: the address or the port cannot be had.
        """
        if self._udp is not None:
            return
        for tries_left in reversed(range(_TRIES)):
            try:
                await self._listen()
            except OSError as error:
                if self.port or error.errno != errno.EADDRINUSE or not tries_left:
                    raise
            else:
                return

    async def stop(self) -> None:
        """Close the port and every connection; records and faults stay. Again: nothing."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for connection in list(self._connections):
            connection.abort()
        if self._udp is not None and self._tcp is not None:
            self._udp.close()
            self._tcp.close()
            self._udp = self._tcp = None
            await asyncio.sleep(0)  # the loop closes the sockets on its next turn

    # Records

    def set_cname(self, name: str, target: str, *, ttl: int = 0) -> None:
        """Make *name* an alias of *target*, in place of all that it was; *ttl* is in seconds.

        Raises:
            ValueError: *name* is the top of a zone.
        """
        self._zones.set_cname(name, target, ttl)

    def set_a(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """Give *name* these addresses, IPv4 or IPv6, in place of its addresses or its CNAME; *ttl* is in seconds.

        Raises:
            ValueError: no address is given, or something that is none.
        """
        self._zones.set_a(name, addresses, ttl)

    def set_ns(self, zone: str, *servers: str, ttl: int = 60) -> None:
        """Say which name servers *zone* has; it becomes a zone if it was none. *ttl* is in seconds."""
        self._zones.set_ns(zone, servers, ttl)

    def set_soa(
        self, zone: str, *, serial: int = 1, primary: str | None = None, negative_ttl: int = 0, ttl: int = 60
    ) -> None:
        """Set the SOA record of *zone*; it becomes a zone if it was none.

        *negative_ttl* is how long "no such name" may be kept, in seconds; *primary* its first name server.
        """
        self._zones.set_soa(zone, serial=serial, primary=primary, negative_ttl=negative_ttl, ttl=ttl)

    def remove(self, name: str) -> None:
        """Take the name away: NXDOMAIN from now on. What makes a zone a zone stays."""
        self._zones.remove(name)

    # Faults

    def fail(self, name: str, how: Fault | None) -> None:
        """Fail questions for *name* (``*``: all others) so, until `None`. A chain that only leads over the name is unhurt.

        Raises:
            ValueError: there is no such fault.
        """
        if how is None:
            self._faults.pop(_key(name), None)
        elif how in get_args(Fault):
            self._faults[_key(name)] = how
        else:
            raise ValueError(f"no fault is called {how!r}; faults: {', '.join(get_args(Fault))}, None")

    def delay(self, name: str, seconds: float) -> None:
        """Answer questions for *name* (``*``: all others) so much later; 0 ends that."""
        if seconds:
            self._delays[_key(name)] = seconds
        else:
            self._delays.pop(_key(name), None)

    def freeze(self, name: str) -> None:
        """Go on answering questions for *name* as now, its whole chain, whatever is set later: a server that is stale."""
        self._frozen[_key(name)] = self._zones.copy()

    def thaw(self, name: str) -> None:
        """End `freeze`."""
        self._frozen.pop(_key(name), None)

    # The log

    def clear_queries(self) -> None:
        """Forget the log."""
        self.queries.clear()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as *condition* holds; it is asked now and after each question. No time limit of its own."""
        while not condition():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _note(self, query: Query) -> None:
        self.queries.append(query)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    # Serving

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self._serve), local_addr=(self.host, self.port))
        port = udp.get_extra_info("sockname")[1]
        try:
            self._tcp = await loop.create_server(lambda: _Tcp(self._serve, self._connections), self.host, port)
        except OSError:
            udp.close()
            raise
        self._udp, self.port = udp, port

    def _serve(self, wire: bytes, transport: DnsTransport, send: Callable[[bytes], None]) -> None:
        try:
            query = dns.message.from_wire(wire, ignore_trailing=True)
        except dns.exception.DNSException:
            if refusal := _malformed(wire):
                send(refusal)
            return
        if query.flags & dns.flags.QR:  # an answer: to answer it would be to talk to ourselves
            return
        name = query.question[0].name.canonicalize().to_text(omit_final_dot=True) if query.question else ""
        if query.question:
            kind = dns.rdatatype.to_text(query.question[0].rdtype)
            wants_recursion = bool(query.flags & dns.flags.RD)
            self._note(Query(asyncio.get_running_loop().time(), name, kind, transport, wants_recursion))
        fault = self._faults.get(name, self._faults.get(EVERY_NAME))
        reply = failed(query, fault) if fault else self._frozen.get(name, self._zones).answer(query)
        if reply is None:
            return
        size = 0xFFFF
        if transport == "udp":
            size = min(max(_UDP_SIZE, query.payload), _EDNS_SIZE) if query.edns >= 0 else _UDP_SIZE
        answer = reply.to_wire(max_size=size, prefer_truncation=True)
        if wait := self._delays.get(name, self._delays.get(EVERY_NAME, 0.0)):
            self._later(wait, send, answer)
        else:
            send(answer)

    def _later(self, wait: float, send: Callable[[bytes], None], answer: bytes) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            send(answer)

        timer = asyncio.get_running_loop().call_later(wait, fire)
        self._timers.add(timer)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, serve: Callable[[bytes, DnsTransport, Callable[[bytes], None]], None]) -> None:
        self._serve = serve

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        def send(answer: bytes) -> None:
            if not self._transport.is_closing():
                self._transport.sendto(answer, addr)

        self._serve(data, "udp", send)


class _Tcp(asyncio.Protocol):
    """Each message has its length before it, in two bytes (RFC 1035, 4.2.2); several may be under way at once."""

    def __init__(
        self,
        serve: Callable[[bytes, DnsTransport, Callable[[bytes], None]], None],
        connections: set[asyncio.Transport],
    ) -> None:
        self._serve = serve
        self._connections = connections
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2])
            if len(self._received) < end:
                return
            wire = bytes(self._received[2:end])
            del self._received[:end]
            self._serve(wire, "tcp", self._send)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(struct.pack("!H", len(answer)) + answer)


def _malformed(wire: bytes) -> bytes | None:
    """FORMERR to a question that cannot be read; nothing to what has no header or is an answer."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    return wire[:2] + bytes([0x80 | (wire[2] & 0x79), dns.rcode.FORMERR]) + bytes(8)


def _key(name: str) -> str:
    return name if name == EVERY_NAME else canonical(name)
