"""Records in a Route 53 hosted zone. Opens connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from switchgear_iot_dns.dr.errors import AwsTrouble, MissingPermission, RegionSwitchError
from switchgear_iot_dns.dr.record import Record, ZoneFacts
from switchgear_iot_dns.dr.settings import host_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from switchgear_iot_dns.dr.aws import Aws
    from switchgear_iot_dns.dr.record import Swap

COMMENT: Final = 256
"""Characters that Route 53 keeps of a comment (API reference, ResourceDescription)."""


class Route53Records:
    """The record sets of one hosted zone; see `switchgear_iot_dns.dr.record.Records`.

    A change deletes the old record and creates the new one in one batch. Route 53 takes a batch as a whole, a DELETE
    only with the exact present values and a CREATE only where nothing is: together a compare-and-swap. Source: API
    reference, ChangeResourceRecordSets.
    """

    def __init__(self, aws: Aws, zone: str) -> None:
        self._aws = aws
        self._zone = zone.removeprefix("/hostedzone/")

    def zone(self) -> ZoneFacts:
        """See `Records.zone`."""
        try:
            told = self._call("get_hosted_zone", Id=self._zone)
        except AwsTrouble as error:
            if error.code in {"NoSuchHostedZone", "InvalidInput"}:
                raise RegionSwitchError(
                    f"the hosted zone {self._zone} is not in this account; check zone.id and the credentials"
                ) from error
            raise
        zone = told["HostedZone"]
        return ZoneFacts(
            name=host_name(zone["Name"]),
            is_private=bool(zone.get("Config", {}).get("PrivateZone")),
            name_servers=tuple(host_name(each) for each in told.get("DelegationSet", {}).get("NameServers", ())),
            accelerated_recovery=zone.get("Features", {}).get("AcceleratedRecoveryStatus"),
            protected=self._protected(),
        )

    def read(self, name: str) -> tuple[Record, ...]:
        """See `Records.read`."""
        return tuple(self._at(host_name(name)))

    def swap(self, swaps: Sequence[Swap], comment: str) -> str:
        """See `Records.swap`."""
        changes = [
            {"Action": action, "ResourceRecordSet": _as_request(record)}
            for each in swaps
            for action, record in (("DELETE", each.before), ("CREATE", each.after))
            if record is not None
        ]
        told = self._call(
            "change_resource_record_sets",
            HostedZoneId=self._zone,
            ChangeBatch={"Comment": comment[:COMMENT], "Changes": changes},
        )
        return str(told["ChangeInfo"]["Id"]).removeprefix("/change/")

    def is_insync(self, change: str) -> bool:
        """See `Records.is_insync`."""
        return bool(self._call("get_change", Id=change)["ChangeInfo"]["Status"] == "INSYNC")

    def _at(self, name: str) -> Iterator[Record]:
        start: dict[str, Any] = {"StartRecordName": name}
        while True:
            told = self._call("list_resource_record_sets", HostedZoneId=self._zone, MaxItems="100", **start)
            for each in told["ResourceRecordSets"]:
                if host_name(_plain(each["Name"])) != name:
                    return
                yield _as_record(each)
            if not told.get("IsTruncated"):
                return
            start = {
                f"Start{key}": told[f"Next{key}"]
                for key in ("RecordName", "RecordType", "RecordIdentifier")
                if f"Next{key}" in told
            }

    def _protected(self) -> frozenset[str] | None:
        """The names that are protected; None where this boto3, this endpoint or these permissions cannot tell."""
        if not self._aws.has("route53", "list_resource_record_set_protections"):
            return None
        names: set[str] = set()
        more: dict[str, str] = {}
        while True:
            try:
                told = self._call("list_resource_record_set_protections", HostedZoneId=self._zone, **more)
            except (AwsTrouble, MissingPermission):
                return None
            names |= {host_name(_plain(each["RecordName"])) for each in told["ResourceRecordSetProtections"]}
            if not told.get("NextToken"):
                return frozenset(names)
            more = {"NextToken": told["NextToken"]}

    def _call(self, method: str, **request: Any) -> Any:
        return self._aws.call(self._aws.client("route53", is_patient=True), method, **request)


def _plain(name: str) -> str:
    """*name* without Route 53's octal escapes, of which only that of the asterisk is met in host names."""
    return name.replace("\\052", "*")


def _as_record(told: dict[str, Any]) -> Record:
    alias = told.get("AliasTarget")
    written = (alias["DNSName"],) if alias else tuple(each["Value"] for each in told.get("ResourceRecords", ()))
    return Record(
        name=host_name(_plain(told["Name"])),
        type=told["Type"],
        ttl=told.get("TTL"),
        values=tuple(map(host_name, written)) if told["Type"] == "CNAME" else written,
        written=written,
        identifier=told.get("SetIdentifier"),
        is_alias=alias is not None,
    )


def _as_request(record: Record) -> dict[str, Any]:
    return {
        "Name": record.name,
        "Type": record.type,
        "TTL": record.ttl,
        "ResourceRecords": [{"Value": value} for value in record.written or record.values],
    }
