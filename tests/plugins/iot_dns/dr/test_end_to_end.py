"""The whole thing: two regions with TLS, devices that follow DNS, and `switchgear dr` that leads them."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.nameserver
import pytest
import switchgear
from attrs import define, evolve, field
from switchgear.cli.app import main
from switchgear.drivers.link import open_link
from switchgear.drivers.paho import PahoDriver
from switchgear.hookspecs import hookimpl
from switchgear.testing import ThreadedBroker
from switchgear.testing.broker import Closed
from switchgear_iot_dns.dr.testing import BrokerFleet
from switchgear_iot_dns.dr.testing.bench import EAST, MODES, ONE, TARGETS, TWO, WEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.drivers.base import Driver, DriverSettings
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint
    from switchgear.testing.dns import ThreadedDnsServer
    from switchgear_certs import Authority
    from switchgear_iot_dns.dr.testing import Bench

PLACES = {EAST: "127.0.0.2", WEST: "127.0.0.3"}
DEVICES = {ONE: ["press-1", "press-2", "press/3"], TWO: ["lathe-1", "lathe 2"]}


def has(address: str) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


needs_two = pytest.mark.skipif(not has(PLACES[EAST]), reason=f"this machine has no {PLACES[EAST]}")


@define
class Lab:
    """Two regions on one port, and devices that publish all the time."""

    bench: Bench
    brokers: dict[str, ThreadedBroker]
    port: int
    transports: dict[str, switchgear.Transport] = field(factory=dict)
    published: dict[str, int] = field(factory=dict)
    stop: threading.Event = field(factory=threading.Event)
    publishing: threading.Thread = field(init=False)

    def where(self) -> dict[str, list[str]]:
        return {region: sorted(broker.clients) for region, broker in self.brokers.items()}

    def wanted(self, mode: str) -> dict[str, list[str]]:
        return {
            region: sorted(device for name in (ONE, TWO) if MODES[mode][name] == region for device in DEVICES[name])
            for region in (EAST, WEST)
        }

    def dr(self, *command: str) -> None:
        """Run a command of `switchgear dr`, which has to succeed."""
        code = main(["dr", *command, "--yes", "--json", "--file", str(self.bench.folder / "dr.toml")])
        assert code == 0

    def publish(self) -> None:
        """Publish numbers from every device until the end."""
        while not self.stop.wait(0.01):
            for device, transport in self.transports.items():
                number = self.published.setdefault(device, 0)
                transport.publish(f"lab/{device.replace('/', '-')}", b"%d" % number, qos=1)
                self.published[device] = number + 1

    def arrived(self, device: str) -> set[int]:
        """The numbers that one region or the other has accepted."""
        topic = f"lab/{device.replace('/', '-')}"
        return {int(each.payload) for b in self.brokers.values() for each in b.ledger.published(topic)}


@define(eq=False)
class Resolved:
    """Brings a driver that asks the lab's DNS server for addresses, for this machine's resolver does not know it."""

    dns: ThreadedDnsServer

    @hookimpl
    def provide_driver(self, name: str, settings: DriverSettings) -> Driver | None:
        return PahoDriver(settings, opener=self._open) if name == "lab" else None

    async def _open(self, endpoint: Endpoint, settings: DriverSettings) -> ByteLink:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(self.dns.host, self.dns.port)]
        found = await resolver.resolve_name(endpoint.address or endpoint.host)
        return await open_link(evolve(endpoint, address=next(iter(found.addresses()))), settings)


@pytest.fixture
def lab(bench: Bench, authority: Authority) -> Iterator[Lab]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.server(ONE, TWO).configure(context)
    with ExitStack() as stack:
        brokers = {region: stack.enter_context(ThreadedBroker(name=region)) for region in (EAST, WEST)}
        port = listen(brokers, context)
        for region, broker in brokers.items():
            bench.aws.fleets[region] = BrokerFleet(broker)
            for name in (ONE, TWO):
                bench.dns.set_a(TARGETS[name][region], PLACES[region])
            bench.more[f"regions.{region}"] = (
                f'data_endpoint = "{bench.aws.url}"\nhandshake_to = "{PLACES[region]}:{port}"'
            )
        bench.clients = DEVICES
        bench.more["waits"] = "resolvers = 0\ncanary = 60\nverify = 60\nrequest = 30"
        bench.write()
        made = Lab(bench, brokers, port)
        for name, devices in DEVICES.items():
            for device in devices:
                made.transports[device] = stack.enter_context(
                    switchgear.connect(
                        f"iot+dns://{name}:{port}?resolver={bench.dns.address}&poll=0.1&answers=2",
                        client_id=device,
                        protocol="5",
                        driver="lab",
                        plugins=[Resolved(bench.dns)],
                        tls=switchgear.TLS(ca_file=bench.folder / "ca.pem"),
                    )
                )
        for transport in made.transports.values():
            transport.wait_connected(60)
        made.publishing = threading.Thread(target=made.publish)
        made.publishing.start()
        try:
            yield made
        finally:
            made.stop.set()
            made.publishing.join()


def listen(brokers: dict[str, ThreadedBroker], context: ssl.SSLContext) -> int:
    """Have both listen on one port, each at its address."""
    for _ in range(20):
        east, west = brokers[EAST], brokers[WEST]
        port = east.do(east.broker.start(host=PLACES[EAST], ssl=context))
        try:
            west.do(west.broker.start(host=PLACES[WEST], port=port, ssl=context))
        except OSError:
            continue
        return port
    raise AssertionError("no port is free at both addresses")


@needs_two
def test_every_mode_in_turn_and_back(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A device is not where its record leads, or an accepted message is in neither region."""
    assert lab.where() == lab.wanted("east")
    for mode in ("split", "west", "swapped", "east"):
        lab.dr("apply", mode)
        told = json.loads(capsys.readouterr().out)
        assert (told["outcome"], told["clients"]["failed"]) == ("done", 0)
        assert told["clients"]["arrived"] == told["clients"]["ended"] == told["clients"]["planned"] > 0
        assert lab.where() == lab.wanted(mode), mode
    lab.dr("rollback")
    assert lab.where() == lab.wanted("swapped")
    lab.stop.set()
    lab.publishing.join()
    for transport in lab.transports.values():
        transport.drain(60)
    for device, count in lab.published.items():
        assert lab.arrived(device) == set(range(count)), device
    closed = [each for broker in lab.brokers.values() for each in broker.ledger.entries if isinstance(each, Closed)]
    kicked = [each for each in closed if each.how == "kicked"]
    assert {each.code for each in kicked} == {0x98}
    assert len(kicked) == 2 + 3 + 2 + 3 + 3  # who moves: lathes, presses, lathes, presses; and back
