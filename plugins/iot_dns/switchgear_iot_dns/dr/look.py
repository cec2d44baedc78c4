"""The checks of a target region before anything is changed. Opens connections; changes nothing."""

from __future__ import annotations

import math
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

from switchgear_iot_dns.dr.errors import AwsTrouble, InvalidPlanFile, MissingPermission
from switchgear_iot_dns.dr.plan import Check
from switchgear_iot_dns.dr.settings import host_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear_iot_dns.dr.aws import Aws
    from switchgear_iot_dns.dr.plan import Move
    from switchgear_iot_dns.dr.record import ZoneFacts
    from switchgear_iot_dns.dr.settings import Settings

CONNECT_QUOTA: Final = "connect requests per second per account"
DISCONNECT_QUOTA: Final = "deleteconnection"
"""What the names of the quotas hold, in lower case; they are adjustable and have no lasting codes in the documents."""

LEAST_DAYS: Final = 7
"""Days that a certificate should be valid for; fewer are told."""


def zone_checks(zone: ZoneFacts, moves: tuple[Move, ...]) -> Iterator[Check]:
    """Protections, accelerated recovery and visibility of the zone."""
    if zone.protected is None:
        yield Check(
            what="protection", where=zone.name, state="unknown", text="unknown; this boto3 or policy cannot tell"
        )
    else:
        for move in moves:
            if move.domain in zone.protected:
                text = "Route 53 protects the record, and would refuse to change it; delete the protection first"
                yield Check(what="protection", where=move.domain, state="failed", text=text)
        if not any(move.domain in zone.protected for move in moves):
            yield Check(what="protection", where=zone.name, state="ok", text="none of the records is protected")
    recovery = zone.accelerated_recovery
    text = "unknown" if recovery is None else recovery
    if recovery != "ENABLED":
        text += "; without it records cannot be changed while us-east-1 is down"
    yield Check(
        what="accelerated recovery",
        where=zone.name,
        state="unknown" if recovery is None else "ok" if recovery == "ENABLED" else "note",
        text=text,
    )
    if zone.is_private:
        yield Check(what="visibility", where=zone.name, state="note", text="private: only its VPCs see it")


def domain_checks(settings: Settings, move: Move, aws: Aws, *, now: float) -> Iterator[Check]:
    """Domain configuration, certificate and TLS handshake of *move*'s target, at *now* in seconds since 1970."""
    where = f"{move.domain} in {move.target}"
    try:
        configuration = _configuration(settings, move, aws)
    except AwsTrouble as error:
        yield Check(what="domain configuration", where=where, state="failed", text=error.why)
    else:
        yield from _of_configuration(configuration, where, move, aws, now)
    yield handshake(settings, move)


def _configuration(settings: Settings, move: Move, aws: Aws) -> dict[str, Any] | None:
    iot = aws.client("iot", move.target)
    name = settings.domains[move.domain].configuration
    if name is not None:
        try:
            return dict(aws.call(iot, "describe_domain_configuration", domainConfigurationName=name))
        except AwsTrouble as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise
    more: dict[str, Any] = {}
    while True:
        told = aws.call(iot, "list_domain_configurations", **more)
        for each in told.get("domainConfigurations", ()):
            found = aws.call(
                iot, "describe_domain_configuration", domainConfigurationName=each["domainConfigurationName"]
            )
            if host_name(found.get("domainName") or "") == move.domain:
                return dict(found)
        if not told.get("nextMarker"):
            return None
        more = {"marker": told["nextMarker"]}


def _of_configuration(told: dict[str, Any] | None, where: str, move: Move, aws: Aws, now: float) -> Iterator[Check]:
    what = "domain configuration"
    if told is None:
        yield Check(what=what, where=where, state="failed", text="there is none")
        return
    status, name = told.get("domainConfigurationStatus"), told.get("domainName") or ""
    if name and host_name(name) != move.domain:
        yield Check(what=what, where=where, state="failed", text=f"it is for {name}")
    elif status != "ENABLED":
        yield Check(what=what, where=where, state="failed", text=f"it is {status}")
    else:
        yield Check(what=what, where=where, state="ok", text=f"{told['domainConfigurationName']}, ENABLED")
    for each in told.get("serverCertificates", ()):
        state = each.get("serverCertificateStatus")
        detail = each.get("serverCertificateStatusDetail")
        if state == "INVALID":
            yield Check(what="certificate", where=where, state="failed", text=f"AWS IoT says {state}: {detail}")
        elif ":acm:" in each.get("serverCertificateArn", ""):
            yield _certificate(each["serverCertificateArn"], where, move.target, aws, now=now)


def _certificate(arn: str, where: str, region: str, aws: Aws, *, now: float) -> Check:
    try:
        told = aws.call(aws.client("acm", region), "describe_certificate", CertificateArn=arn)["Certificate"]
    except (AwsTrouble, MissingPermission) as error:
        return Check(what="certificate", where=where, state="unknown", text=str(error))
    status, end = told.get("Status"), told.get("NotAfter")
    days = math.floor((end.timestamp() - now) / 86_400) if end is not None else None
    if status != "ISSUED" or (days is not None and days < 0):
        return Check(what="certificate", where=where, state="failed", text=f"ACM says {status}, valid to {end}")
    text = "ISSUED" if days is None else f"ISSUED, {days} days left"
    return Check(
        what="certificate", where=where, state="note" if days is not None and days < LEAST_DAYS else "ok", text=text
    )


def handshake(settings: Settings, move: Move) -> Check:
    """A TLS handshake with the target under the custom domain's name, as a device makes it after the switch."""
    region = settings.region(move.target)
    target = region.handshake_to or f"{move.after.target}:{settings.handshake.port}"
    host, _, port = target.rpartition(":")
    what, where = "TLS handshake", f"{move.domain} at {target}"
    try:
        context = ssl.create_default_context(cafile=settings.handshake.ca_file)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidPlanFile(settings.path, "handshake.ca_file", f"{settings.handshake.ca_file}: {why}") from error
    try:
        with (
            socket.create_connection((host, int(port)), timeout=settings.waits.handshake) as plain,
            context.wrap_socket(plain, server_hostname=move.domain) as connection,
        ):
            return Check(what=what, where=where, state="ok", text=f"{connection.version()}, the certificate is trusted")
    except ssl.SSLCertVerificationError as error:
        text = error.verify_message or str(error.reason)
    except TimeoutError:
        text = f"no answer in {settings.waits.handshake:g} s"
    except (OSError, UnicodeError) as error:
        text = str(getattr(error, "strerror", None) or error)
    return Check(what=what, where=where, state="failed", text=text)


def quotas(settings: Settings, region: str, aws: Aws) -> tuple[float | None, float | None]:
    """The CONNECT and the DeleteConnection quota of *region*, a second; where AWS does not say, the plan file's."""
    written = settings.region(region)
    connects, disconnects = written.connects_per_second, written.disconnects_per_second
    try:
        told = _quotas(region, aws)
    except (AwsTrouble, MissingPermission):
        return connects, disconnects
    for name, value in told:
        if CONNECT_QUOTA in name:
            connects = value
        elif DISCONNECT_QUOTA in name.replace(" ", ""):
            disconnects = value
    return connects, disconnects


def _quotas(region: str, aws: Aws) -> Iterator[tuple[str, float]]:
    client = aws.client("service-quotas", region)
    found: list[tuple[str, float]] = []
    more: dict[str, str] = {}
    while True:
        told = aws.call(client, "list_service_quotas", ServiceCode="iotcore", **more)
        found += [(each["QuotaName"].lower(), float(each["Value"])) for each in told.get("Quotas", ())]
        if not told.get("NextToken"):
            return iter(found)
        more = {"NextToken": told["NextToken"]}


def data_endpoint(settings: Settings, region: str, aws: Aws, cached: str | None) -> str | None:
    """The iot-data endpoint of *region*: the plan file's, else the region's own answer, else *cached*."""
    written = settings.region(region).data_endpoint
    if written is not None:
        return written
    if cached is not None:
        return cached
    try:
        told = aws.call(aws.client("iot", region), "describe_endpoint", endpointType="iot:Data-ATS")
    except (AwsTrouble, MissingPermission):
        return None
    return str(told["endpointAddress"])
