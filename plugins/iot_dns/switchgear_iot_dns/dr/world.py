"""The plan of a mode as things stand now. Opens connections; changes nothing."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

from attrs import evolve

from switchgear_iot_dns.dr import client_ids, clients, look
from switchgear_iot_dns.dr.errors import AwsTrouble, RegionSwitchError
from switchgear_iot_dns.dr.name_servers import disagreement
from switchgear_iot_dns.dr.plan import Check, Move, Plan, check_mode, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear_iot_dns.dr.aws import Aws
    from switchgear_iot_dns.dr.clock import Clock
    from switchgear_iot_dns.dr.name_servers import NameServers
    from switchgear_iot_dns.dr.record import Records
    from switchgear_iot_dns.dr.settings import Settings


def operator() -> str:
    """Who is at work, for locks and reports."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        name = "unknown"
    return f"{name}@{socket.gethostname()}".encode(errors="backslashreplace").decode()


class World:
    """Reads what there is, and makes plans of it."""

    def __init__(
        self,
        settings: Settings,
        *,
        aws: Aws,
        records: Records,
        name_servers: Callable[[tuple[str, ...]], NameServers],
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.aws = aws
        self.records = records
        self.name_servers = name_servers
        self._clock = clock

    def decided(self, mode: str) -> Plan:
        """What *mode* changes in the records, without a look at the regions: what a saved plan is compared with."""
        check_mode(self.settings, mode)
        zone = self.records.zone()
        settings = self.settings
        # A name outside the zone is refused by `decide`; it is not asked for, for the zone cannot have it.
        present = {
            domain: self.records.read(domain) if domain.endswith(f".{zone.name}") else () for domain in settings.domains
        }
        moves = decide(settings, mode, zone, present)
        plan = Plan(
            mode=mode,
            zone=settings.zone.id.removeprefix("/hostedzone/"),
            zone_name=zone.name,
            digest=settings.digest,
            made_at=round(self._clock.now(), 3),
            operator=operator(),
            moves=moves,
            endpoints={},
            connects={},
            disconnects={},
            name_servers=settings.zone.name_servers or zone.name_servers,
        )
        return evolve(plan, checks=tuple(look.zone_checks(zone, plan.changing)) if plan.changing else ())

    def plan(self, mode: str, *, cached: Plan | None = None) -> Plan:
        """The whole plan of *mode*; *cached* helps out where the old region no longer answers."""
        return self.complete(self.decided(mode), cached=cached)

    def complete(self, plan: Plan, *, cached: Plan | None = None) -> Plan:
        """*plan* with the checks of its targets, the clients, the quotas and the endpoints."""
        if not plan.changing:
            return plan
        checks = [*plan.checks, *self._answers(plan)]
        for move in plan.changing:
            checks += look.domain_checks(self.settings, move, self.aws, now=self._clock.now())
        sources = {move.source for move in plan.leading if move.source is not None}
        targets = {move.target for move in plan.leading}
        endpoints = {
            region: look.data_endpoint(
                self.settings, region, self.aws, None if cached is None else cached.endpoints.get(region)
            )
            for region in sorted(sources | targets)
        }
        quotas = {region: look.quotas(self.settings, region, self.aws) for region in sorted(sources | targets)}
        moves = []
        for move in plan.moves:
            led, told = self._clients(move, cached) if move.leads else (move, [])
            moves.append(led)
            checks += told
        for region in sorted(targets):
            connects = quotas[region][0]
            text = "unknown; it does not bound the pace" if connects is None else f"{connects:g} a second"
            state = "unknown" if connects is None else "ok" if connects else "failed"
            checks.append(Check(what="CONNECT quota", where=region, state=state, text=text))
        return evolve(
            plan,
            moves=tuple(moves),
            checks=tuple(checks),
            endpoints=endpoints,
            connects={region: quotas[region][0] for region in sorted(targets)},
            disconnects={region: quotas[region][1] for region in sorted(sources)},
        )

    def _answers(self, plan: Plan) -> list[Check]:
        """Whether the name servers can be asked, and agree with the records."""
        if self.settings.zone.authoritative == "off":
            return []
        servers = self.name_servers(plan.name_servers)
        checks = []
        for move in plan.changing:
            wrong = disagreement(servers.ask(move.domain), move.before.target if move.before else "")
            text = wrong or "every name server agrees"
            checks.append(Check(what="name servers", where=move.domain, state="failed" if wrong else "ok", text=text))
        return checks

    def _clients(self, move: Move, cached: Plan | None) -> tuple[Move, list[Check]]:
        """*move* with its clients; those of *cached* where the old region cannot list them."""
        assert move.source is not None
        where = f"{move.domain} in {move.source}"
        try:
            found = clients.ids_of(self.settings, move.domain, move.source, self.aws)
        except AwsTrouble as error:
            if not error.is_silence:
                raise
            known = next((m.clients for m in cached.moves if m.domain == move.domain), ()) if cached else ()
            text = f"{error.why}; {len(known)} known from the saved plan" if known else f"{error.why}; nobody is known"
            return evolve(move, clients=known), [Check(what="clients", where=where, state="unknown", text=text)]
        if found and not self.aws.has("iot-data", "delete_connection", region=move.source):
            raise RegionSwitchError(
                "this boto3 has no DeleteConnection of iot-data: pip install --upgrade boto3 (1.40.6 or newer);"
                " nothing was changed"
            )
        source = self.settings.domains[move.domain].clients.source
        named = tuple(filter(client_ids.is_nameable, found))
        text = f"{len(named)} to disconnect" if source != "none" else "none named: nobody will be disconnected"
        checks = [Check(what="clients", where=where, state="ok" if named else "note", text=text)]
        if len(named) < len(found):
            text = f"{len(found) - len(named)} called . or .., which no request can name: left alone"
            checks.append(Check(what="client ids", where=where, state="note", text=text))
        if remark := client_ids.remark(named):
            checks.append(Check(what="client ids", where=where, state="note", text=remark))
        return evolve(move, clients=named), checks
