"""Batches of ChangeResourceRecordSets as Route 53 takes them: as a whole, DELETE exactly, CREATE where nothing is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPACE: Final = {"r": "https://route53.amazonaws.com/doc/2013-04-01/"}


class Refused(Exception):
    """The batch is refused."""


@frozen
class Change:
    """One change; values are in their order."""

    action: str
    name: str
    type: str
    ttl: int | None
    values: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What there can be one of."""
        return (self.name, self.type)


def parse(body: bytes) -> list[Change]:
    """The changes of a request."""
    root = ET.fromstring(body)  # noqa: S314 - what our own client wrote
    changes = []
    for each in root.iterfind(".//r:Change", _SPACE):
        ttl = each.findtext(".//r:TTL", None, _SPACE)
        changes.append(
            Change(
                action=each.findtext("r:Action", "", _SPACE),
                name=each.findtext(".//r:Name", "", _SPACE).rstrip(".").lower(),
                type=each.findtext(".//r:Type", "", _SPACE),
                ttl=None if ttl is None else int(ttl),
                values=tuple(value.text or "" for value in each.iterfind(".//r:Value", _SPACE)),
            )
        )
    return changes


def present(route53: Any, zone: str) -> dict[tuple[str, str], tuple[int | None, tuple[str, ...]]]:
    """What the zone holds: TTL and values by name and type."""
    told = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return {
        (each["Name"].rstrip(".").lower(), each["Type"]): (
            each.get("TTL"),
            tuple(value["Value"] for value in each.get("ResourceRecords", ())),
        )
        for each in told
    }


def check(
    changes: Sequence[Change],
    now: dict[tuple[str, str], tuple[int | None, tuple[str, ...]]],
    protected: set[str],
) -> None:
    """Raise `Refused` unless Route 53 would take the batch."""
    for change in changes:
        if change.name in protected:
            raise Refused(f"the record {change.name}. {change.type} is protected")
        if change.action == "CREATE":
            if change.key in now:
                raise Refused(f"tried to create {change.name}. {change.type} but it already exists")
            if change.type == "CNAME" and any(name == change.name for name, _ in now):
                raise Refused(f"RRSet of type CNAME with DNS name {change.name}. is not permitted beside others")
            now[change.key] = (change.ttl, change.values)
        elif change.action == "DELETE":
            if change.key not in now:
                raise Refused(f"tried to delete {change.name}. {change.type} but it was not found")
            if now[change.key] != (change.ttl, change.values):
                raise Refused(f"tried to delete {change.name}. {change.type} but the values provided do not match")
            del now[change.key]
        else:
            now[change.key] = (change.ttl, change.values)
