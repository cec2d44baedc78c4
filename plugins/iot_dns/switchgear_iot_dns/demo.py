"""Act ``region-switch`` of ``switchgear demo``: two clients follow their names from region to region, and lose nothing.

Two brokers are the regions, each at an address of its own and on one port, for DNS names no port. They speak MQTT 5 with
mutual TLS. A DNS server is both the zone of the clients' names and that of the regions'. Only one thing is not as it is in
the field: this machine's resolver does not know that server, so the driver of the act asks it for the regions' addresses.
Network on loopback, files in a temporary folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import switchgear
import switchgear.aio
from attrs import define, evolve, field
from switchgear.cli.demo_acts import CannotPlay, Outcome, Show
from switchgear.drivers.link import open_link
from switchgear.drivers.paho import PahoDriver
from switchgear.errors import OutboxFull
from switchgear.hookspecs import hookimpl
from switchgear.plugins import registry
from switchgear.testing.broker import Broker

from switchgear_iot_dns.demo_ledger import FIRST, Counts, Move, Step, first_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from switchgear.drivers.base import Driver, DriverSettings
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint
    from switchgear.message import Message
    from switchgear.report import Event
    from switchgear.testing.dns import DnsServer

PLACES: Final = (("127.0.0.2", "127.0.0.3"), ("127.0.0.1", "::1"))
"""Two addresses of this machine that can have the same port: Linux has all of 127.0.0.0/8, macOS one of each family."""

RATE: Final = 100.0
"""Messages a second, of each client."""

STAY: Final = 2.0
"""Seconds for which each pattern is left alone."""

LATE: Final = 1.5
"""Seconds by which the record comes after the disconnect, where it comes late."""

PATIENCE: Final = 20.0
"""Seconds to wait for the first message in the new region; past it the move has failed."""

_TRIES: Final = 20  # ports, until one is free at both addresses
_ADMINISTRATIVE: Final = 0x98  # DISCONNECT reason (MQTT 5, 3.14.2.1): what AWS IoT's DeleteConnection sends
_SHOWN: Final = frozenset({"connected", "connection_lost", "reconnect_scheduled", "recheck_scheduled"})

STEPS: Final = (
    Step(pattern="split", client="mqtt2", to="west"),
    Step(pattern="both west", client="mqtt1", to="west", is_late=True),
    Step(pattern="split the other way", client="mqtt2", to="east"),
)
"""From `FIRST` through the other three patterns."""


@define(eq=False)
class Client:
    """One device: its transport, what it has published, and the commands that reached it."""

    name: str
    region: str
    published: int = 0
    commands: int = 0
    transport: switchgear.aio.AsyncTransport | None = None

    async def publish(self) -> None:
        """Publish numbered messages, `RATE` a second, until cancelled; outages are not noticed here."""
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        started, due = loop.time(), 0
        while True:
            while due <= (loop.time() - started) * RATE:
                try:
                    self.transport.publish(f"demo/{self.name}", b"%d" % self.published, qos=1)
                except OutboxFull:
                    await self.transport.ready()
                    continue
                self.published += 1
                due += 1
            await asyncio.sleep(0.01)


@define(eq=False)
class Act:
    """Everything that is on the stage."""

    show: Show
    dns: DnsServer
    regions: dict[str, Broker]
    folder: Path
    clients: dict[str, Client] = field(factory=dict)
    moves: list[Move] = field(factory=list)
    sent: int = 0
    """Commands that regions sent to clients after their return."""

    # The zone. ---------------------------------------------------------------------------------------------------

    def lead(self, client: str, region: str) -> None:
        """Point the record of *client* to *region*."""
        self.dns.set_cname(host(client), target(region), ttl=0)
        self.show.note(f"DNS: {host(client)} is {target(region)} from now on")

    @hookimpl
    def provide_driver(self, name: str, settings: DriverSettings) -> Driver | None:
        """paho, asking our DNS server for the addresses of regions."""
        return PahoDriver(settings, opener=self._open) if name == "region-switch" else None

    async def _open(self, endpoint: Endpoint, settings: DriverSettings) -> ByteLink:
        import dns.asyncresolver
        import dns.nameserver

        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(self.dns.host, self.dns.port)]
        found = await resolver.resolve_name(endpoint.address or endpoint.host)
        return await open_link(evolve(endpoint, address=next(iter(found.addresses()))), settings)

    # The clients. ------------------------------------------------------------------------------------------------

    def connect(self, client: Client) -> switchgear.aio.AsyncTransport:
        """The transport of *client*; what is asked of DNS is asked of our server, and nothing else is set."""
        port = next(iter(self.regions.values())).port
        return switchgear.aio.connect(
            f"iot+dns://{host(client.name)}:{port}?resolver={self.dns.address}",
            client_id=client.name,
            protocol="5",
            driver="region-switch",
            plugins=[self],
            tls=switchgear.TLS(ca_file=self.folder / "ca.pem", cert_file=self.folder / f"{client.name}.pem"),
            on_event=lambda event: self._hear(client.name, event),
        )

    def _hear(self, name: str, event: Event) -> None:
        if event.name in _SHOWN:
            said = str(event)
            self.show.note(f"{name}: {said.partition(';')[0] if event.name == 'connection_lost' else said}")

    async def enter(self, stack: contextlib.AsyncExitStack) -> None:
        """Connect every client to its first region, and have it publish."""
        for client in self.clients.values():
            self.lead(client.name, client.region)
            client.transport = await stack.enter_async_context(self.connect(client))

            async def obey(_message: Message, client: Client = client) -> None:
                client.commands += 1

            await client.transport.subscribe(f"commands/{client.name}", obey, qos=1).ready(PATIENCE)
            publishing = asyncio.create_task(client.publish())
            stack.push_async_callback(_end, publishing)

    # The moves. --------------------------------------------------------------------------------------------------

    async def take(self, step: Step) -> None:
        """Change the record and disconnect the client, in the order of *step*, and see it come back."""
        loop, client = asyncio.get_running_loop(), self.clients[step.client]
        old, new = self.regions[client.region], self.regions[step.to]
        self.show.note(f"pattern: {step.pattern}")
        if not step.is_late:
            self.lead(client.name, step.to)
        disconnected = loop.time()
        old.kick(client.name, _ADMINISTRATIVE)
        if step.is_late:
            await asyncio.sleep(LATE)
            self.lead(client.name, step.to)
        settled = loop.time()
        try:
            async with asyncio.timeout(PATIENCE):
                await new.ledger.until(lambda: first_message(new.ledger, client.name, disconnected) is not None)
        except TimeoutError:
            self.show.note(f"{client.name} did not come back within {PATIENCE:g} s")
        first = first_message(new.ledger, client.name, disconnected) or loop.time()
        self.moves.append(
            Move(
                step=step,
                came_from=client.region,
                after_disconnect=first - disconnected,
                after_settled=first - settled,
            )
        )
        client.region = step.to
        new.publish(f"commands/{client.name}", b"report", qos=1)
        self.sent += 1

    def counts(self) -> Counts:
        """What is known now."""
        ledgers = {name: region.ledger for name, region in self.regions.items()}
        published = {client.name: client.published for client in self.clients.values()}
        arrived = sum(client.commands for client in self.clients.values())
        return Counts(ledgers, published, self.moves, self.sent, arrived)


async def play(show: Show) -> Outcome:
    """Walk through the four patterns: both east, split, both west, split the other way.

    Raises:
        CannotPlay: no two addresses of this machine can be had, or something is not installed.
    """
    try:
        from switchgear.testing.dns import DnsServer
        from switchgear_certs import Authority
    except ImportError as error:
        raise CannotPlay(f"{error.name} is missing: pip install 'switchgear-iot-dns[demo]'") from error
    if "iot+dns" not in registry().known_schemes():
        raise CannotPlay("the plugin iot_dns was skipped (see `switchgear plugins`)")
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="switchgear-demo-")))
        authority = Authority.create(name="Demo CA")
        (folder / "ca.pem").write_bytes(authority.ca_pem)
        act = Act(show, await stack.enter_async_context(DnsServer()), {}, folder)
        for name in ("mqtt1", "mqtt2"):
            shown = authority.client(name, days=1)
            (folder / f"{name}.pem").write_bytes(shown.certificate_pem + shown.key_pem)
            act.clients[name] = Client(name, "east")
        contexts = {}
        for region in ("east", "west"):
            contexts[region] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.server(*(host(name) for name in act.clients), days=1).configure(contexts[region])
            contexts[region].verify_mode = ssl.CERT_REQUIRED
        act.regions = await stack.enter_async_context(_regions(contexts))
        for region, broker in act.regions.items():
            act.dns.set_a(target(region), broker.uri.partition("://")[2].rpartition(":")[0].strip("[]"))
        show.note(f"pattern: {FIRST}")
        async with contextlib.AsyncExitStack() as living:
            await act.enter(living)
            goes_on = await show.pause(STAY)
            for step in STEPS if goes_on else ():
                await act.take(step)
                if not await show.pause(STAY):
                    break
            show.note("stopped publishing; waiting for the last messages")
        return act.counts().outcome()


@contextlib.asynccontextmanager
async def _regions(contexts: dict[str, ssl.SSLContext]) -> AsyncIterator[dict[str, Broker]]:
    """A broker for each region, on one port at addresses of their own."""
    last: OSError | None = None
    for addresses in PLACES:
        for _ in range(_TRIES):
            brokers = {name: Broker(name=name) for name in contexts}
            async with contextlib.AsyncExitStack() as stack:
                port = 0
                try:
                    for (name, broker), address in zip(brokers.items(), addresses, strict=True):
                        await stack.enter_async_context(broker)
                        port = await broker.start(host=address, port=port, ssl=contexts[name])
                except OSError as error:
                    last = error
                    if port:
                        continue  # the port is taken at the second address: another one
                    break
                yield brokers
                return
    wanted = ", or ".join(" and ".join(pair) for pair in PLACES)
    raise CannotPlay(f"the regions need two addresses of this machine, {wanted}: {last}")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def host(client: str) -> str:
    """The custom domain of *client*."""
    return f"{client}.example.com"


def target(region: str) -> str:
    """Where a region's broker is, as AWS IoT calls its endpoints."""
    return f"{region}.iot.example"
