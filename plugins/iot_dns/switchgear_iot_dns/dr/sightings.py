"""Where a client is connected, by GetConnection or by the events of `dr watch`. Opens connections, or reads a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from switchgear_iot_dns.dr import client_ids
from switchgear_iot_dns.dr.errors import AwsTrouble, MissingPermission

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear_iot_dns.dr.aws import Aws


@frozen
class Sighting:
    """What a region knows of a client; ``since`` is when it connected, in seconds since 1970, None where unknown."""

    is_connected: bool
    since: float | None = None


class Sightings(Protocol):
    """Looks where clients are; safe on any thread, and may block. ``trouble`` says why it cannot."""

    @property
    def trouble(self) -> str:
        """Why it cannot, in words."""

    def refresh(self) -> None:
        """Bring what is known up to date, before a round of looking."""

    def look(self, region: str, client_id: str) -> Sighting | None:
        """What *region* knows of the client; None when it cannot be told."""


class ConnectionSightings:
    """Asks GetConnection of iot-data; *pace* is called before each request with the region."""

    def __init__(self, data: Callable[[str], Any], aws: Aws, pace: Callable[[str], None]) -> None:
        self._data = data
        self._aws = aws
        self._pace = pace
        self._trouble: MissingPermission | AwsTrouble | None = None

    @property
    def trouble(self) -> str:
        """See `Sightings.trouble`."""
        return "this boto3 has no GetConnection" if self._trouble is None else str(self._trouble)

    def refresh(self) -> None:
        """See `Sightings.refresh`; each look asks anew."""

    def look(self, region: str, client_id: str) -> Sighting | None:
        """See `Sightings.look`."""
        client = self._data(region)
        if not hasattr(client, "get_connection"):
            return None
        self._pace(region)
        try:
            told = self._aws.call(client, "get_connection", clientId=client_id)
        except AwsTrouble as error:
            if error.code == "ResourceNotFoundException":
                return Sighting(is_connected=False)
            self._trouble = error
            return None
        except MissingPermission as error:
            self._trouble = error
            return None
        since = told.get("connectedSince")
        return Sighting(is_connected=bool(told.get("connected")), since=None if since is None else since / 1000)


class PresenceSightings:
    """Reads what `dr watch` has collected in *file*, anew for each `refresh`."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._presence: client_ids.Presence | None = None

    @property
    def trouble(self) -> str:
        """See `Sightings.trouble`."""
        return f"{self._file} cannot be read"

    def refresh(self) -> None:
        """See `Sightings.refresh`."""
        try:
            text = Path(self._file).read_text(encoding="utf-8", errors="replace")  # the end may be torn in a letter
        except OSError:
            self._presence = None
        else:
            self._presence = client_ids.from_presence(text, self._file)

    def look(self, region: str, client_id: str) -> Sighting | None:
        """See `Sightings.look`."""
        if self._presence is None:
            return None
        since = self._presence.since(region, client_id)
        return Sighting(is_connected=since is not None, since=since)
