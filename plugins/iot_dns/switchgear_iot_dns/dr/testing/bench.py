"""A whole account, the plan file for it, and the operations on a clock that jumps; for the tests of ``switchgear dr``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import define, field

from switchgear_iot_dns.dr.aws import Aws
from switchgear_iot_dns.dr.name_servers import DnsNameServers
from switchgear_iot_dns.dr.operations import Operations
from switchgear_iot_dns.dr.plan_file import load
from switchgear_iot_dns.dr.route53 import Route53Records
from switchgear_iot_dns.dr.settings import host_name
from switchgear_iot_dns.dr.show import Quiet
from switchgear_iot_dns.dr.testing.clock import SteppingClock
from switchgear_iot_dns.dr.testing.fleets import ListedFleet
from switchgear_iot_dns.dr.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from switchgear.testing.dns import ThreadedDnsServer

    from switchgear_iot_dns.dr.plan import Plan
    from switchgear_iot_dns.dr.record import Record
    from switchgear_iot_dns.dr.testing.batches import Change
    from switchgear_iot_dns.dr.testing.fake_aws import FakeAws

EAST, WEST = "us-east-1", "ap-northeast-1"
ONE, TWO = "mqtt1.example.com", "mqtt2.example.com"
EVERYBODY = ["lathe-1", "press-1", "press-2"]
"""The clients of both names."""
CHANGE = "POST .*/rrset"
DELETE = "DELETE /connections/(?!.*probe)"
"""What requests of the switch are told by: a change of records, and a disconnect."""
TARGETS = {
    ONE: {EAST: "one-ats.iot.us-east-1.amazonaws.com", WEST: "one-ats.iot.ap-northeast-1.amazonaws.com"},
    TWO: {EAST: "two-ats.iot.us-east-1.amazonaws.com", WEST: "two-ats.iot.ap-northeast-1.amazonaws.com"},
}
MODES = {
    "east": {ONE: EAST, TWO: EAST},
    "split": {ONE: EAST, TWO: WEST},
    "west": {ONE: WEST, TWO: WEST},
    "swapped": {ONE: WEST, TWO: EAST},
}


class Hearing(Quiet):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """See `Show.note`."""
        self.notes.append(text)


@define(eq=False)
class Bench:
    """Everything that a test of ``switchgear dr`` needs."""

    aws: FakeAws
    dns: ThreadedDnsServer
    folder: Path
    tls_port: int
    clock: SteppingClock = field(factory=SteppingClock)
    shown: Hearing = field(factory=Hearing)
    confirmed: list[str] = field(factory=list)
    answer: bool = True
    clients: dict[str, list[str]] = field(factory=lambda: {ONE: ["press-1", "press-2"], TWO: ["lathe-1"]})
    more: dict[str, str] = field(factory=dict)
    zone: str = field(init=False)
    _leads: dict[str, str] = field(factory=dict, init=False)
    _records: Route53Records | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        made = self.aws.client("route53").create_hosted_zone(Name="example.com", CallerReference="test")
        self.zone = made["HostedZone"]["Id"].removeprefix("/hostedzone/")
        for region in (EAST, WEST):
            iot = self.aws.client("iot", region)
            for number, name in enumerate((ONE, TWO), 1):
                iot.create_domain_configuration(domainConfigurationName=f"mqtt{number}", domainName=name)
        self.home()
        self.set_records({ONE: EAST, TWO: EAST})
        self.aws.on_change = self.mirror
        self.write()

    # The scene

    def home(self) -> None:
        """The devices are where the records lead, and come back to where they lead."""
        now = self.clock.now
        fleets = {region: ListedFleet(home=self._home, now=now, since=now() - 3600) for region in (EAST, WEST)}
        for ids in self.clients.values():
            for each in ids:
                fleets[EAST]._connected[each] = now() - 3600
        self.aws.fleets.update(fleets)

    def _home(self, client_id: str) -> Any:
        domain = next(name for name, ids in self.clients.items() if client_id in ids)
        return self.aws.fleets[self._leads[domain]]

    def set_records(self, mode: dict[str, str], *, ttl: int = 0) -> None:
        """Put CNAMEs there, by force."""
        for name, region in mode.items():
            self.upsert(name, "CNAME", [TARGETS[name][region]], ttl=ttl)

    def upsert(self, name: str, kind: str, values: list[str], *, ttl: int = 60, **more: Any) -> None:
        """Put a record set there, by force and as somebody else would."""
        self.change("UPSERT", name, kind, values, ttl=ttl, **more)
        if kind == "CNAME":
            self._lead(name, values[0], ttl)

    def change(self, action: str, name: str, kind: str, values: list[str], *, ttl: int = 60, **more: Any) -> None:
        """One change of a record set, as somebody else would make it."""
        each = {"Name": name, "Type": kind, **more}
        if values:
            each |= {"TTL": ttl, "ResourceRecords": [{"Value": value} for value in values]}
        self.aws.client("route53").change_resource_record_sets(
            HostedZoneId=self.zone, ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": each}]}
        )

    def mirror(self, changes: list[Change]) -> None:
        """The name servers learn what Route 53 was told."""
        for each in changes:
            if each.type == "CNAME" and each.action != "DELETE":
                self._lead(each.name, each.values[0], each.ttl or 0)

    def _lead(self, name: str, target: str, ttl: int) -> None:
        self.dns.set_cname(name, target, ttl=ttl)
        region = next((region for region, host in TARGETS.get(name, {}).items() if host == host_name(target)), None)
        if region is not None:
            self._leads[name] = region

    def records(self, name: str) -> tuple[Record, ...]:
        """All record sets at *name*."""
        if self._records is None:
            self._records = Route53Records(self.client_of_aws(), self.zone)
        return self._records.read(name)

    def region_of(self, name: str) -> str:
        """Where Route 53 leads *name*."""
        told = self.aws.client("route53").list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]
        target = next(e["ResourceRecords"][0]["Value"] for e in told if e["Name"].rstrip(".") == name)
        return next(region for region, host in TARGETS[name].items() if host == target.rstrip("."))

    def regions(self) -> dict[str, str]:
        """Where Route 53 leads both domains."""
        return {name: self.region_of(name) for name in (ONE, TWO)}

    def listed(self, region: str) -> ListedFleet:
        """The clients in *region*, which `home` has put there."""
        fleet = self.aws.fleets[region]
        assert isinstance(fleet, ListedFleet)
        return fleet

    def connected(self, region: str) -> list[str]:
        """Who is connected in *region*."""
        everybody = {each for ids in self.clients.values() for each in ids}
        return sorted(each for each in everybody if self.aws.fleets[region].since(each) is not None)

    # The plan file

    def write(self, **replaced: str) -> Path:
        """Write the plan file; *replaced* are whole tables, in TOML, by their name."""
        tables = {
            "zone": f'id = "{self.zone}"\nname_servers = ["{self.dns.host}:{self.dns.port}"]',
            "pace": "canary_share = 0.1",
            "waits": "request = 5",
            "handshake": f'ca_file = "{self.folder / "ca.pem"}"',
            **{
                f"regions.{region}": f'data_endpoint = "{self.aws.url}"\nhandshake_to = "127.0.0.1:{self.tls_port}"'
                for region in (EAST, WEST)
            },
            **{
                f'domains."{name}".targets': "\n".join(f'{region} = "{host}"' for region, host in hosts.items())
                for name, hosts in TARGETS.items()
            },
            **{
                f'domains."{name}".clients': f'source = "list"\nids = {json.dumps(ids)}'
                for name, ids in self.clients.items()
            },
            **{
                f"modes.{mode}": "\n".join(f'"{name}" = "{region}"' for name, region in wanted.items())
                for mode, wanted in MODES.items()
            },
            **self.more,
            **replaced,
        }
        path = self.folder / "dr.toml"
        path.write_text("".join(f"[{name}]\n{text}\n\n" for name, text in tables.items() if text))
        return path

    # The tool

    def client_of_aws(self) -> Aws:
        """The tool's own way to this AWS."""
        return Aws(zone=self.zone, request=5.0)

    def operations(self, *, clock: Any = None) -> Operations:
        """The operations on the plan file as it is now."""
        settings = load(self.folder / "dr.toml")
        aws = Aws(zone=self.zone, request=settings.waits.request, workers=settings.pace.workers)
        clock = clock or self.clock
        world = World(
            settings, aws=aws, records=Route53Records(aws, self.zone), name_servers=DnsNameServers, clock=clock
        )
        return Operations(settings, world, clock, self.shown, self._confirm)

    def locked_by(self) -> str | None:
        """Who holds the lock of the plan; None: nobody."""
        found: str | None = self.operations().status()["lock"]
        return found

    def _confirm(self, _plan: Plan, takes: str) -> bool:
        self.confirmed.append(takes)
        return self.answer

    def journals(self) -> list[Path]:
        """The journals, the newest last."""
        return sorted((self.folder / "dr-journal").glob("*.jsonl"))

    def entries(self) -> list[dict[str, Any]]:
        """The last run's journal."""
        return [json.loads(line) for line in self.journals()[-1].read_text().splitlines()]


def environment(aws: FakeAws, folder: Path) -> dict[str, str]:
    """What boto3 has to find in the environment, so that it talks to *aws* and to nobody else."""
    return {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": EAST,
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
