"""Client ids: which ones AWS IoT has, and how files hold them. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear_iot_dns.dr.errors import InvalidClientId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST: Final = 128
"""Characters of a client id at AWS IoT (API reference, DeleteConnection)."""

_ODD: Final = re.compile(r"[/%$?#\s]")
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")


def check(client_id: str, where: str) -> str:
    """*client_id*, when a request can name it; *where* says in errors where it stood.

    Slashes, percent signs, dollar signs within and spaces within are sent as they are, encoded once: encoding is
    botocore's work (measured 2026-11-21: an id that is encoded already ends the session of another id).

    Raises:
        InvalidClientId: it cannot be an id at AWS IoT, or would be another one in the request's path.
    """
    if not client_id:
        why = "is empty"
    elif client_id != client_id.strip():
        why = "has white space at an end; take it away"
    elif client_id.startswith("$"):
        why = "begins with $, which AWS IoT does not take"
    elif len(client_id) > LONGEST:
        why = f"has {len(client_id)} characters; AWS IoT takes at most {LONGEST}"
    elif not client_id.isprintable():
        why = "holds a control character"
    elif not is_nameable(client_id):
        why = "is a step in a path, so that no request can name it"
    else:
        return client_id
    raise InvalidClientId(client_id, where, why)


def is_nameable(client_id: str) -> bool:
    """Whether a request can name *client_id*, whatever else it holds: its path must not lead elsewhere."""
    return client_id not in {"", ".", ".."}


def remark(client_ids: Sequence[str]) -> str | None:
    """What somebody should know of ids that mean something else in a path; None when there are none."""
    odd = [each for each in client_ids if _ODD.search(each)]
    if not odd:
        return None
    text = f"{len(odd)} with slash, %, $, ?, # or a space, such as {odd[0]!r}: sent as written here, encoded once"
    encoded = next((each for each in odd if _ENCODED.search(each)), None)
    return text if encoded is None else f"{text}; {encoded!r} looks encoded already: write the id that the device has"


def unique(client_ids: Iterable[str]) -> tuple[str, ...]:
    """*client_ids* without repetitions, in their order."""
    return tuple(dict.fromkeys(client_ids))


def from_lines(text: str, where: str) -> tuple[str, ...]:
    """The ids of a file with one id a line; empty lines and lines that begin with ``# `` are skipped."""
    return unique(
        check(line, f"{where}, line {number}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("# ")
    )


@define
class Presence:
    """Who is connected where, from lifecycle events in any order, with duplicates.

    Events of one client in one region are ordered by their ``versionNumber``, and by their time where it began anew
    (it does after about an hour without a connection; developer guide, "Lifecycle events").
    """

    _last: dict[tuple[str, str], tuple[float, int, bool]] = field(factory=dict)

    def see(self, region: str, client_id: str, *, at: float, version: int, connected: bool) -> None:
        """Take one event; *at* is in seconds since 1970."""
        known = self._last.get((region, client_id))
        if known is not None and not _is_newer((at, version), known[:2]):
            return
        self._last[region, client_id] = (at, version, connected)

    def since(self, region: str, client_id: str) -> float | None:
        """When the client connected to *region*, in seconds since 1970; None when it is not connected there."""
        at, _, is_connected = self._last.get((region, client_id), (0.0, 0, False))
        return at if is_connected else None

    def connected(self, region: str) -> tuple[str, ...]:
        """The clients that are connected in *region*."""
        return tuple(sorted(c for (r, c), (_, _, is_on) in self._last.items() if r == region and is_on))


def _is_newer(event: tuple[float, int], known: tuple[float, int]) -> bool:
    hour = 3600.0
    if abs(event[0] - known[0]) > hour:
        return event[0] > known[0]
    return (event[1], event[0]) > (known[1], known[0])


def presence_line(region: str, event: dict[str, object]) -> str | None:
    """A lifecycle event as a line of a presence file; None for what is none."""
    client_id, kind = event.get("clientId"), event.get("eventType")
    at, version = event.get("timestamp"), event.get("versionNumber", 0)
    if not isinstance(client_id, str) or kind not in {"connected", "disconnected"} or not isinstance(at, int | float):
        return None
    facts = {
        "region": region,
        "client_id": client_id,
        "connected": kind == "connected",
        "at": at / 1000,  # lifecycle events count milliseconds
        "version": version if isinstance(version, int) else 0,
    }
    return json.dumps(facts, ensure_ascii=False)


def from_presence(text: str, where: str) -> Presence:
    """What a presence file holds; its last line may be torn, for `dr watch` may be writing.

    Raises:
        InvalidClientId: a line before the last is no event.
    """
    presence = Presence()
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            facts = json.loads(line)
            str(facts["client_id"]).encode()  # a lone surrogate is in no id, and in no journal
            presence.see(
                str(facts["region"]),
                str(facts["client_id"]),
                at=float(facts["at"]),
                version=int(facts["version"]),
                connected=bool(facts["connected"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            if number == len(lines):
                break
            raise InvalidClientId(line[:80], f"{where}, line {number}", "is no line of `dr watch`") from None
    return presence
