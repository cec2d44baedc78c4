"""What a plan file says, as values. Pure: each checks itself, nothing here reads a file.

Field names are the keys of the file, so that an error names what the user wrote.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from attrs import Attribute, field, frozen
from switchgear import checks
from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES: Final = ("list", "file", "index", "presence")
"""Where client ids may come from."""

AUTHORITATIVE: Final = ("required", "off")

_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))+", re.IGNORECASE)
_PLACE: Final = re.compile(r"[^\s:/]+:(?P<port>\d{1,5})")
_ENDPOINT: Final = re.compile(r"(https?://)?[\w.-]+(:(?P<port>\d{1,5}))?/?", re.ASCII)
_SERVER: Final = re.compile(
    r"[\w.-]+(:(?P<port>\d{1,5}))?|[0-9a-f:]*:[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII | re.IGNORECASE
)


def host_name(text: str) -> str:
    """*text* as names are compared: in lower case, without the dot at the end."""
    return text.rstrip(".").lower()


def is_region(text: object) -> bool:
    """Whether *text* is written like an AWS region."""
    return isinstance(text, str) and _REGION.fullmatch(text) is not None


def is_host_name(text: object) -> bool:
    """Whether *text* is written like a DNS name of at least two labels; an IPv4 address is none."""
    if not isinstance(text, str) or len(text) > 253 or _NAME.fullmatch(host_name(text)) is None:
        return False
    return not host_name(text).rpartition(".")[2].isdigit()


def _is_place(pattern: re.Pattern[str], value: object) -> bool:
    """Whether *value* is written like *pattern*, with a port that there is or with none."""
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    return found is not None and 0 < int(found["port"] or 1) < 65536


def _place(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not _is_place(_PLACE, value):
        raise checks.refuse(attribute.name, value, "HOST:PORT")


def _endpoint(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not _is_place(_ENDPOINT, value):
        raise checks.refuse(attribute.name, value, "host name such as a1b2c3-ats.iot.us-east-1.amazonaws.com")


def _places(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, tuple) or not all(_is_place(_SERVER, each) for each in value):
        raise checks.refuse(attribute.name, value, "list of ADDRESS or ADDRESS:PORT")


def _texts(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
        raise checks.refuse(attribute.name, value, "list of texts")


def _share(_: object, attribute: Attribute[Any], value: object) -> None:
    if not checks.is_number(value) or not 0 <= value <= 1:  # type: ignore[operator]  # it is a number here
        raise checks.refuse(attribute.name, value, "share from 0 to 1")


@frozen(kw_only=True)
class Zone:
    """The table ``zone``: the hosted zone that the records are in.

    Attributes:
        id: The hosted zone's id, such as Z0123456789ABC.
        name_servers: Ask these servers, ADDRESS or ADDRESS:PORT, instead of the zone's own: for a private view of it.
        authoritative: required: the switch counts only when every name server answers with the new target; off: it is
            not asked, for port 53 is closed here or the zone is private.
    """

    id: str = field(validator=checks.text(optional=False))
    name_servers: tuple[str, ...] = field(default=(), validator=_places)
    authoritative: str = field(default="required", validator=checks.one_of(*AUTHORITATIVE))

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"(/hostedzone/)?[A-Z0-9]{1,32}", self.id):
            raise checks.refuse("id", self.id, "hosted zone id such as Z0123456789ABC")


@frozen(kw_only=True)
class Region:
    """A table ``regions.NAME``; every region that a domain names may have one.

    Attributes:
        data_endpoint: The account's iot:Data-ATS endpoint there. Written here or saved in a plan, the tool need not ask
            the region for it; without it and without an answer, the region's common endpoint is used.
        connects_per_second: The CONNECT quota there, when Service Quotas cannot be asked or does not know.
        disconnects_per_second: The DeleteConnection quota there, likewise.
        handshake_to: Make the TLS handshake with this HOST:PORT instead of the target: a tunnel.
    """

    data_endpoint: str | None = field(default=None, validator=_endpoint)
    connects_per_second: float | None = field(default=None, validator=checks.rate(optional=True))
    disconnects_per_second: float | None = field(default=None, validator=checks.rate(optional=True))
    handshake_to: str | None = field(default=None, validator=_place)


@frozen(kw_only=True)
class Clients:
    """A table ``domains.NAME.clients``: where the ids of the domain's clients come from.

    Attributes:
        source: list, file, index (fleet indexing with connectivity: client ids that are thing names) or presence (what
            `switchgear dr watch` collected); none: nobody is disconnected.
        ids: The ids, for list.
        file: For file: one id a line. For presence: what `dr watch` wrote. Relative to the plan file.
        query: For index: the query of SearchIndex.
    """

    source: str = field(default="none", validator=checks.one_of("none", *SOURCES))
    ids: tuple[str, ...] = field(default=(), validator=_texts)
    file: str | None = field(default=None, validator=checks.text())
    query: str = field(default="connectivity.connected:true", validator=checks.text(optional=False))

    def __attrs_post_init__(self) -> None:
        if self.source in {"file", "presence"} and self.file is None:
            raise InvalidOption("file", f"it is missing; the source {self.source} reads it")
        if self.source == "list" and not self.ids:
            raise InvalidOption("ids", "it is missing; the source list is it")


@frozen(kw_only=True)
class Domain:
    """A table ``domains.NAME``: one custom domain.

    Attributes:
        targets: A table of region and host name: the targets that the record may have.
        ttl: Seconds that resolvers may keep the record; left out, the record keeps what it has, a new one has 60.
        configuration: The name of the domain configuration, the same in each region; left out, it is looked for.
        clients: See the table below.
    """

    targets: dict[str, str]
    ttl: int | None = field(default=None, validator=checks.whole(0, 2**31 - 1, optional=True))
    configuration: str | None = field(default=None, validator=checks.text())
    clients: Clients = field(factory=Clients)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.targets, dict) or not self.targets:
            raise InvalidOption("targets", "it is missing; name the region and the host of each target")
        for region, host in self.targets.items():
            if not is_region(region):
                raise checks.refuse("targets", region, "region such as us-east-1")
            if not is_host_name(host):
                raise checks.refuse(f"targets.{region}", host, "host name")
        if len({host_name(host) for host in self.targets.values()}) < len(self.targets):
            raise InvalidOption("targets", "two regions have the same host")

    def region_of(self, target: str) -> str | None:
        """The region whose target is *target*; None where it is nobody's."""
        for region, host in self.targets.items():
            if host_name(host) == host_name(target):
                return region
        return None


@frozen(kw_only=True)
class Pace:
    """The table ``pace``: how fast clients are disconnected.

    Attributes:
        disconnects_per_second: At most so many; the quotas may lower it.
        connect_share: The share of the target's CONNECT quota that the returning clients may take.
        looks_per_second: At most so many GetConnection, which look where a client is.
        workers: Requests that may be under way at once.
        canary_share: The share of the clients that goes first.
        canary_least: The share of the canaries that must arrive in the target region before the rest is disconnected.
        arrived_least: The share of all disconnected clients that must arrive for exit code 0.
        prevent_will: Whether the wills of disconnected clients stay unpublished; false sends every device's last will.
    """

    disconnects_per_second: float = field(default=50.0, validator=checks.rate())
    connect_share: float = field(default=0.5, validator=_share)
    looks_per_second: float = field(default=100.0, validator=checks.rate())
    workers: int = field(default=16, validator=checks.whole(1, 256))
    canary_share: float = field(default=0.01, validator=_share)
    canary_least: float = field(default=0.9, validator=_share)
    arrived_least: float = field(default=0.95, validator=_share)
    prevent_will: bool = field(default=True, validator=checks.flag)

    def __attrs_post_init__(self) -> None:
        if not self.connect_share:
            raise checks.refuse("connect_share", self.connect_share, "share above 0")


@frozen(kw_only=True)
class Waits:
    """The table ``waits``: deadlines and pauses, in seconds.

    Attributes:
        request: For one request to AWS, for connecting and for the answer each; throttled ones are repeated.
        handshake: For the TLS handshake with a target.
        insync: Until Route 53 says INSYNC.
        authoritative: Until every name server answers with the new target.
        resolvers: After that, on top of the old record's TTL, for resolvers that keep answers for longer.
        canary: Until the canaries have arrived.
        disconnect: For disconnecting everybody, on top of twice the time that the pace takes.
        verify: Until everybody has arrived.
        total: For the whole run; what is left undone then is reported.
    """

    request: float = field(default=10.0, validator=checks.seconds(most=600))
    handshake: float = field(default=10.0, validator=checks.seconds(most=600))
    insync: float = field(default=180.0, validator=checks.seconds())
    authoritative: float = field(default=120.0, validator=checks.seconds())
    resolvers: float = field(default=30.0, validator=checks.seconds(zero=True))
    canary: float = field(default=60.0, validator=checks.seconds(zero=True))
    disconnect: float = field(default=120.0, validator=checks.seconds())
    verify: float = field(default=180.0, validator=checks.seconds(zero=True))
    total: float = field(default=7200.0, validator=checks.seconds())


@frozen(kw_only=True)
class Handshake:
    """The table ``handshake``: the TLS handshake with a target, under the custom domain's name.

    Attributes:
        port: Of the target.
        ca_file: PEM file of the CAs to trust instead of the system's; relative to the plan file.
    """

    port: int = field(default=8883, validator=checks.whole(1, 65535))
    ca_file: str | None = field(default=None, validator=checks.text())


@frozen(kw_only=True)
class Settings:
    """A whole plan file.

    Attributes:
        path: Of the file.
        digest: SHA-256 of its text, as hexadecimal digits.
        modes: Mode, then domain, then region.
        journal: The folder of the journals and reports.
    """

    path: str
    digest: str
    zone: Zone
    domains: Mapping[str, Domain]
    modes: Mapping[str, Mapping[str, str]]
    regions: Mapping[str, Region]
    journal: str
    pace: Pace = field(factory=Pace)
    waits: Waits = field(factory=Waits)
    handshake: Handshake = field(factory=Handshake)

    def region(self, name: str) -> Region:
        """The table of a region; an empty one where there is none."""
        return self.regions.get(name) or Region()
