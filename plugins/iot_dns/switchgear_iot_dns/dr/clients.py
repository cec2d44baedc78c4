"""Where the ids of a domain's clients come from: list, file, fleet index, presence file. Reads files and AWS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from switchgear_iot_dns.dr import client_ids
from switchgear_iot_dns.dr.errors import InvalidPlanFile

if TYPE_CHECKING:
    from switchgear_iot_dns.dr.aws import Aws
    from switchgear_iot_dns.dr.settings import Clients, Settings

PAGE = 100
"""Things of one page of SearchIndex; at most 100 where connectivity is asked for."""


def ids_of(settings: Settings, domain: str, region: str, aws: Aws) -> tuple[str, ...]:
    """The ids of *domain*'s clients in *region*, which the domain leads to now.

    What a person wrote is checked; what AWS IoT itself told is taken as it is.

    Raises:
        InvalidClientId: one that a person wrote cannot be an id at AWS IoT.
        InvalidPlanFile: a file cannot be read.
        AwsTrouble, MissingPermission: the index cannot be asked.
    """
    clients = settings.domains[domain].clients
    where = f"{settings.path}: domains.{domain}.clients"
    if clients.source == "list":
        return client_ids.unique(client_ids.check(each, f"{where}.ids") for each in clients.ids)
    if clients.source == "file":
        return client_ids.from_lines(_text(settings, domain), str(clients.file))
    if clients.source == "presence":
        found = client_ids.from_presence(_text(settings, domain, errors="replace"), str(clients.file))
        return found.connected(region)
    if clients.source == "index":
        return _indexed(clients, region, aws)
    return ()


def _text(settings: Settings, domain: str, *, errors: str = "strict") -> str:
    """What the file of the domain's clients holds; one that is being written may end within a letter."""
    path = Path(settings.domains[domain].clients.file or "")
    try:
        return path.read_text(encoding="utf-8-sig", errors=errors)  # editors of Windows begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidPlanFile(settings.path, f"domains.{domain}.clients.file", f"{path}: {why}") from error


def _indexed(clients: Clients, region: str, aws: Aws) -> tuple[str, ...]:
    """Client ids that fleet indexing knows; those of things without a connectivity record are left out."""
    found: list[str] = []
    more: dict[str, str] = {}
    iot = aws.client("iot", region)
    while True:
        told = aws.call(iot, "search_index", queryString=clients.query, maxResults=PAGE, **more)
        for thing in told.get("things", ()):
            told_id = (thing.get("connectivity") or {}).get("clientId") or thing.get("thingName")
            if told_id:
                found.append(str(told_id))
        if not told.get("nextToken"):
            return client_ids.unique(found)
        more = {"nextToken": told["nextToken"]}
