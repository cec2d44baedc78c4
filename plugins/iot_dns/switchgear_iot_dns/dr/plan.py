"""What a mode would change: the difference between the present and the wanted records, hashed. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from switchgear_iot_dns.dr.errors import InvalidPlanFile, RegionSwitchError, StalePlan
from switchgear_iot_dns.dr.record import Record, cname

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from switchgear_iot_dns.dr.record import ZoneFacts
    from switchgear_iot_dns.dr.settings import Settings

VERSION: Final = 1
NO_PLAN: Final = "it is no plan that `switchgear dr plan --out` saved"
DEFAULT_TTL: Final = 60
"""Seconds of a new record whose TTL the plan file leaves out; AWS recommends 60 to 120 for records that fail over."""

TYPICAL_INSYNC: Final = 60.0
"""Seconds that a change takes to reach all of Route 53's servers, as AWS puts it; for the estimate only."""


@frozen(kw_only=True)
class Check:
    """One thing that was looked at: ``state`` is ok, failed, unknown or note."""

    what: str
    where: str
    state: str
    text: str

    def __str__(self) -> str:
        return f"{self.what} of {self.where}: {self.text}"

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"what": self.what, "where": self.where, "state": self.state, "text": self.text}


@frozen(kw_only=True)
class Move:
    """What happens to one domain. ``source`` is the region that it leads to now, None where there is no record yet.

    ``clients`` are the ids to disconnect in ``source``.
    """

    domain: str
    before: Record | None
    after: Record
    source: str | None
    target: str
    clients: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether the record changes."""
        return self.before != self.after

    @property
    def leads(self) -> bool:
        """Whether clients have to go to another region."""
        return self.source is not None and self.source != self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return {
            "domain": self.domain,
            "before": self.before.as_dict() if self.before else None,
            "after": self.after.as_dict(),
            "source": self.source,
            "target": self.target,
            "clients": list(self.clients),
        }

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Move:
        """What `as_dict` gave."""
        return cls(
            domain=facts["domain"],
            before=Record.from_dict(facts["before"]) if facts["before"] else None,
            after=Record.from_dict(facts["after"]),
            source=facts["source"],
            target=facts["target"],
            clients=tuple(facts["clients"]),
        )


@frozen(kw_only=True)
class Plan:
    """A mode, and everything that applying it needs to know.

    ``endpoints`` are the iot-data endpoints by region (None: the common one), ``connects`` and ``disconnects`` the
    quotas by region, a second (None: unknown). ``digest`` is that of the plan file.
    """

    mode: str
    zone: str
    zone_name: str
    digest: str
    made_at: float
    operator: str
    moves: tuple[Move, ...]
    endpoints: Mapping[str, str | None]
    connects: Mapping[str, float | None]
    disconnects: Mapping[str, float | None]
    checks: tuple[Check, ...] = ()
    name_servers: tuple[str, ...] = ()

    @property
    def changing(self) -> tuple[Move, ...]:
        """The moves whose records change."""
        return tuple(move for move in self.moves if move.changes)

    @property
    def leading(self) -> tuple[Move, ...]:
        """The moves that clients have to follow."""
        return tuple(move for move in self.moves if move.leads)

    @property
    def old_ttl(self) -> int:
        """Seconds that resolvers may keep what they were told before."""
        return max((move.before.ttl or 0 for move in self.changing if move.before), default=0)

    def failed(self) -> tuple[str, ...]:
        """The checks that failed, in words."""
        return tuple(str(each) for each in self.checks if each.state == "failed")

    def basis(self) -> dict[str, Any]:
        """What has to be as it was for the plan to be applied."""
        moves = [{**move.as_dict(), "clients": None} for move in self.moves]
        return {"mode": self.mode, "zone": self.zone, "digest": self.digest, "moves": moves}

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with its hash; `from_dict` reads it back."""
        facts = {
            "version": VERSION,
            "mode": self.mode,
            "zone": self.zone,
            "zone_name": self.zone_name,
            "digest": self.digest,
            "made_at": self.made_at,
            "operator": self.operator,
            "moves": [move.as_dict() for move in self.moves],
            "endpoints": dict(self.endpoints),
            "connects_per_second": dict(self.connects),
            "disconnects_per_second": dict(self.disconnects),
            "checks": [check.as_dict() for check in self.checks],
            "name_servers": list(self.name_servers),
        }
        return {**facts, "hash": _hash(facts)}

    @classmethod
    def from_dict(cls, facts: dict[str, Any], where: str) -> Plan:
        """What `as_dict` gave; *where* names the file in errors.

        Raises:
            InvalidPlanFile: it is no saved plan.
            StalePlan: it was edited since it was saved.
        """
        if not isinstance(facts, dict) or "hash" not in facts:
            raise InvalidPlanFile(where, "", NO_PLAN)
        told = dict(facts)
        told_hash, version = told.pop("hash"), told.get("version")
        if version != VERSION:
            raise InvalidPlanFile(where, "version", f"{version!r} is not {VERSION}, this program's")
        if told_hash != _hash(told):
            raise StalePlan(f"{where} was edited or damaged after it was saved")
        try:
            return cls(
                mode=told["mode"],
                zone=told["zone"],
                zone_name=told["zone_name"],
                digest=told["digest"],
                made_at=told["made_at"],
                operator=told["operator"],
                moves=tuple(Move.from_dict(each) for each in told["moves"]),
                endpoints=dict(told["endpoints"]),
                connects=dict(told["connects_per_second"]),
                disconnects=dict(told["disconnects_per_second"]),
                checks=tuple(Check(**each) for each in told["checks"]),
                name_servers=tuple(told["name_servers"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidPlanFile(where, "", NO_PLAN) from error


def _hash(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_mode(settings: Settings, mode: str) -> None:
    """Refuse a *mode* that the plan file does not have, before anybody is asked. Raises `InvalidPlanFile`."""
    if mode not in settings.modes:
        raise InvalidPlanFile(
            settings.path, f"modes.{mode}", f"there is no such mode; modes: {_listed(settings.modes)}"
        )


def decide(settings: Settings, mode: str, zone: ZoneFacts, present: Mapping[str, Sequence[Record]]) -> tuple[Move, ...]:
    """What *mode* does to each domain, when *present* are the record sets at each domain's name.

    Raises:
        InvalidPlanFile: a domain is not in the zone or is its apex.
        RegionSwitchError: a record is there that we would have to guess about.
    """
    return tuple(
        _move(settings, domain, region, zone, present[domain]) for domain, region in settings.modes[mode].items()
    )


def _move(settings: Settings, domain: str, target: str, zone: ZoneFacts, present: Sequence[Record]) -> Move:
    check_name(settings, domain, zone)
    wish = settings.domains[domain]
    before = _only_cname(domain, present)
    source = None
    if before is not None:
        source = wish.region_of(before.target)
        if source is None:
            raise RegionSwitchError(
                f"{domain} leads to {before.target}, which is none of its targets; "
                f"add it to domains.{domain}.targets in {settings.path}, or change the record by hand"
            )
    ttl = wish.ttl if wish.ttl is not None else before.ttl if before is not None else DEFAULT_TTL
    after = cname(domain, wish.targets[target], DEFAULT_TTL if ttl is None else ttl)
    return Move(domain=domain, before=before, after=after, source=source, target=target)


def check_name(settings: Settings, domain: str, zone: ZoneFacts) -> None:
    """Raise `InvalidPlanFile` unless *domain* is a name within *zone* that may have a CNAME."""
    if domain == zone.name:
        raise InvalidPlanFile(
            settings.path, f"domains.{domain}", "it is the apex of the zone, where no CNAME may be (RFC 1034, 3.6.2)"
        )
    if not domain.endswith(f".{zone.name}"):
        raise InvalidPlanFile(settings.path, f"domains.{domain}", f"it is not in the zone {zone.name}; check zone.id")


def _only_cname(domain: str, present: Sequence[Record]) -> Record | None:
    for record in present:
        if record.is_alias:
            raise RegionSwitchError(f"{domain} has an alias record ({record}); make it a CNAME first")
        if record.identifier is not None:
            raise RegionSwitchError(
                f"{domain} has a record with a routing policy ({record}); this tool changes simple records only"
            )
        if record.type != "CNAME":
            raise RegionSwitchError(f"{domain} has a record beside which no CNAME may be ({record}); delete it first")
        if len(record.values) != 1:
            raise RegionSwitchError(f"{domain} has a CNAME with {len(record.values)} values; make it one")
    return present[0] if present else None


def rates(plan: Plan, settings: Settings) -> dict[tuple[str, str], float]:
    """How many a second each budget takes: ("disconnect", source region) and ("connect", target region).

    A quota that is unknown, or 0, does not bound; the pace of the plan file always does.
    """
    budgets: dict[tuple[str, str], float] = {}
    for move in plan.leading:
        assert move.source is not None
        quota = plan.disconnects.get(move.source)
        pace = settings.pace.disconnects_per_second
        budgets["disconnect", move.source] = min(pace, quota) if quota else pace
        connects = plan.connects.get(move.target)
        if connects:
            budgets["connect", move.target] = connects * settings.pace.connect_share
    return budgets


def estimate(plan: Plan, settings: Settings) -> float:
    """Seconds that applying *plan* is likely to take: the DNS change, the old TTL, the waits and the disconnecting."""
    if not plan.changing:
        return 0.0
    budgets = rates(plan, settings)
    needed: dict[tuple[str, str], int] = {}
    for move in plan.leading:
        for key in (("disconnect", move.source or ""), ("connect", move.target)):
            needed[key] = needed.get(key, 0) + len(move.clients)
    kicking = max((count / budgets[key] for key, count in needed.items() if key in budgets), default=0.0)
    canary = min(settings.waits.canary, 10.0) if kicking else 0.0
    return TYPICAL_INSYNC + plan.old_ttl + settings.waits.resolvers + canary + kicking


def takes(plan: Plan, settings: Settings) -> str:
    """The estimate in words, and what follows where it is longer than the run may last."""
    seconds, total = estimate(plan, settings), settings.waits.total
    more = f", and stops after the {total:g} s of waits.total; apply again goes on then" if seconds > total else ""
    return f"about {min(seconds, 1e9):.0f} s{more}"


def check_fresh(saved: Plan, now: Plan) -> None:
    """Raise `StalePlan`, naming the first difference, unless *saved* still says what *now* says."""
    if saved.digest != now.digest:
        raise StalePlan("the plan file was edited since")
    if saved.zone != now.zone:
        raise StalePlan(f"it is for the zone {saved.zone}, not {now.zone}")
    for was, is_now in zip(saved.moves, now.moves, strict=False):  # another number of them differs below
        if was.before != is_now.before:
            raise StalePlan(f"{was.domain} was '{was.before or 'absent'}' and is '{is_now.before or 'absent'}' now")
    if saved.basis() != now.basis():
        raise StalePlan("it was made by another version of this program")


def inverse(plan: Plan, clients: Mapping[str, tuple[str, ...]]) -> Plan:
    """The plan that undoes *plan*: each record becomes what it was; *clients* by domain go back.

    A record that *plan* created stays: without it the domain would lead nowhere.
    """
    moves = tuple(
        Move(
            domain=move.domain,
            before=move.after,
            after=move.before,
            source=move.target,
            target=move.source,
            clients=clients.get(move.domain, ()),
        )
        for move in plan.moves
        if move.changes and move.before is not None and move.source is not None
    )
    return evolve(plan, mode=f"undo {plan.mode}", moves=moves, checks=())


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names))
