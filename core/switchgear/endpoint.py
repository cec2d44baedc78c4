"""Where to connect: endpoints, groups of them, and the URIs that name them. Pure: no I/O."""

from __future__ import annotations

import enum
import ipaddress
import itertools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import evolve, field, frozen

from switchgear import checks
from switchgear.errors import InvalidOption, InvalidURI
from switchgear.secrets import Secret, as_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.backoff import Backoff, GiveUpAfter
    from switchgear.failback import Failback

# scheme: (canonical scheme, default port). tcp and ssl are ActiveMQ's and Paho's names, mqtt+ssl is Amazon MQ's.
SCHEMES: Final[dict[str, tuple[str, int]]] = {
    "mqtt": ("mqtt", 1883),
    "tcp": ("mqtt", 1883),
    "mqtts": ("mqtts", 8883),
    "ssl": ("mqtts", 8883),
    "mqtt+ssl": ("mqtts", 8883),
    "ws": ("ws", 80),
    "wss": ("wss", 443),
}

OPTIONS: Final = ("address", "connect_timeout", "priority")


class SessionKind(enum.StrEnum):
    """What the brokers of a group share."""

    SHARED = "shared"
    """One session behind all of them (an HA pair, or one broker that keeps it): resume it."""
    HUNT = "hunt"
    """Independent brokers: another endpoint means a new session; subscribe again, send again."""
    CLEAN = "clean"
    """No session outlives its connection."""


def session_kind(value: SessionKind | Literal["shared", "hunt", "clean"]) -> SessionKind:
    """The kind that *value* is or names. Raises `InvalidOption` for anything else."""
    kinds = {kind.value: kind for kind in SessionKind}
    if not isinstance(value, str) or value not in kinds:
        raise InvalidOption("session", f"{checks.show(value)} is none of {', '.join(map(repr, kinds))}")
    return kinds[value]


def _canonical(scheme: str) -> str:
    """*scheme* as `SCHEMES` has it: what is encrypted is told by it, so no other spelling may remain."""
    known = SCHEMES.get(scheme.lower()) if isinstance(scheme, str) else None
    if known is None:
        raise InvalidOption("scheme", f"{checks.show(scheme)} is none of {', '.join(SCHEMES)}")
    return known[0]


@frozen
class Endpoint:
    """One place where a broker may answer. Credentials in it are hidden in ``repr`` and ``str``.

    Attributes:
        scheme: ``mqtt``, ``mqtts``, ``ws`` or ``wss`` (other spellings are read and made one of these).
        host: Name or address, without brackets; TLS checks this name.
        port: 1 to 65535; 0 while it is not known, as before a listener starts.
        path: The WebSocket path; empty for TCP.
        priority: Smaller is preferred; counted from 0.
        address: An IP address, or another name, to dial in place of ``host``; TLS still checks ``host``.
        connect_timeout: Seconds for each step of an attempt here; None: the transport's.
        group: Name of the group that it belongs to.
    """

    scheme: str = field(converter=_canonical)
    host: str = field(validator=checks.text(optional=False))
    port: int = field(validator=checks.whole(0, 65535))
    path: str = field(default="", kw_only=True)
    priority: int = field(default=0, kw_only=True)
    address: str | None = field(default=None, kw_only=True)
    connect_timeout: float | None = field(default=None, kw_only=True)
    group: str = field(default="", kw_only=True)
    username: str | None = field(default=None, kw_only=True, repr=False)
    password: Secret | None = field(default=None, kw_only=True, repr=False, converter=as_secret)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in {"mqtts", "wss"}

    @property
    def is_websocket(self) -> bool:
        """Whether MQTT travels in WebSocket frames."""
        return self.scheme in {"ws", "wss"}

    @property
    def key(self) -> str:
        """The identity for health, sessions and budgets: scheme, host, port, path and pinned address; no credentials."""
        pinned = f"@{self.address}" if self.address else ""
        return f"{self.scheme}://{self.authority}{self.path}{pinned}"

    @property
    def authority(self) -> str:
        """``host:port``, with brackets round an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def _endpoints(given: Iterable[Endpoint | str]) -> tuple[Endpoint, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidOption("endpoints", f"{checks.show(given)} is not a list of endpoints and URIs")
    found = tuple(parse_uri(each) if isinstance(each, str) else each for each in given)
    for each in found:
        if not isinstance(each, Endpoint):
            raise InvalidOption("endpoints", f"{checks.show(each)} is neither an endpoint nor a URI")
    return found


@frozen
class Group:
    """Endpoints that belong together, with what their brokers share and how to go round them.

    Attributes:
        endpoints: At least one; a URI stands for the endpoint that it names.
        session: What the brokers share.
        name: Unique within a transport; filled in when it is empty.
        randomize: Whether equals are shuffled; False keeps the listed order.
        dynamic: Whether to ask the plugin again before each sweep and each planned move.
        backoff: Replaces the transport's policy, when not None.
        give_up_after: Replaces the transport's limits, when not None.
        startup_give_up_after: Limits while no connection has ever succeeded, when not None.
        protocol: ``"3.1.1"`` or ``"5"`` when the brokers speak that, as far as is known; the transport's own choice wins.
        best_protocol: The version to speak where nobody asks for one; None: 3.1.1.
        failback: How to return to the preferred of them; None: the transport's choice.
        spare: Whether a warm connection to the next one is kept.
        check_topic: Called with each topic of a publish and each filter; raises `InvalidTopic` to refuse it.
    """

    endpoints: tuple[Endpoint, ...] = field(converter=_endpoints)
    session: SessionKind = field(default=SessionKind.HUNT, converter=session_kind)
    name: str = field(default="", kw_only=True)
    randomize: bool = field(default=True, kw_only=True)
    dynamic: bool = field(default=False, kw_only=True)
    backoff: Backoff | None = field(default=None, kw_only=True)
    give_up_after: GiveUpAfter | None = field(default=None, kw_only=True)
    startup_give_up_after: GiveUpAfter | None = field(default=None, kw_only=True)
    protocol: str | None = field(default=None, kw_only=True)
    best_protocol: str | None = field(default=None, kw_only=True)
    failback: Failback | None = field(default=None, kw_only=True)
    spare: bool = field(default=False, kw_only=True)
    check_topic: Callable[[str], None] | None = field(default=None, kw_only=True, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.endpoints:
            raise InvalidURI("", "a list of endpoints must hold at least one")

    def named(self, name: str) -> Group:
        """The same group under *name*, its endpoints carrying that name."""
        return evolve(self, name=name, endpoints=tuple(evolve(e, group=name) for e in self.endpoints))


def scheme_of(uri: str) -> str:
    """The scheme of *uri* in lower case, or an empty string where there is none."""
    match = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*):", uri)
    return match.group(1).lower() if match else ""


def parse_uri(uri: str) -> Endpoint:
    """The endpoint that *uri* names: ``scheme://[user[:password]@]host[:port][/path][?options]``.

    Options are ``priority`` (0 is preferred), ``address`` (an IP address to dial, TLS still checks the host name)
    and ``connect_timeout`` (seconds). User and password are percent-decoded.

    Raises:
        InvalidURI: the text is no such URI; the message names the part and never shows a password.
        InvalidOption: an option is unknown or has an impossible value.

    Since: 0.1.
    """
    text = uri.strip()
    if any(ord(c) < 0x21 or ord(c) == 0x7F for c in text):
        raise InvalidURI(uri, "it holds a space or a control character")
    scheme = scheme_of(text)
    if scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        if not scheme or "://" not in text:
            raise InvalidURI(uri, f"write it as scheme://host:port, with one of the schemes {known}")
        raise InvalidURI(uri, f"the scheme {scheme!r} is none of {known}, and no installed plugin owns it")
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:  # its text may quote the password
        raise InvalidURI(uri, "host, user or password cannot be read; percent-encode what is unusual in them") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise InvalidURI(uri, "an @ stands after the host; percent-encode / ? # and @ in user and password")
    try:
        port = parts.port
    except ValueError:
        why = "the port is no number from 1 to 65535"
        if _is_bare_ipv6(parts.netloc.rpartition("@")[2]):
            why = "an IPv6 address needs brackets, as in [::1]:1883"
        raise InvalidURI(uri, why) from None
    if parts.fragment:
        raise InvalidURI(uri, "a fragment (#...) means nothing here")
    if not host:
        raise InvalidURI(uri, "the host is missing")
    if port == 0:
        raise InvalidURI(uri, "port 0 is no port to connect to; use 1 to 65535")
    canonical, default_port = SCHEMES[scheme]
    path = parts.path
    if canonical in {"mqtt", "mqtts"}:
        if path not in {"", "/"}:
            raise InvalidURI(uri, f"a path ({path!r}) needs ws:// or wss://")
        path = ""
    elif path in {"", "/"}:
        path = "/mqtt"
    endpoint = Endpoint(
        canonical,
        _check_host(uri, unquote(host)),
        port or default_port,
        path=path,
        username=_credential(uri, parts.username),
        password=None if parts.password is None else Secret(_credential(uri, parts.password) or ""),
    )
    return _with_options(uri, endpoint, parts.query)


def _credential(uri: str, text: str | None) -> str | None:
    """User name or password, percent-decoded; neither is shown."""
    if text is None:
        return None
    try:
        plain = unquote(text, errors="strict")
        checks.check_utf8("", plain)
    except (UnicodeDecodeError, InvalidOption):
        why = "user or password, percent-decoded, is no UTF-8 without U+0000 of at most 65535 bytes, which MQTT wants"
        raise InvalidURI(uri, why) from None
    return plain


def _check_host(uri: str, host: str) -> str:
    """*host* when a resolver could take it. Length: RFC 1035, 2.3.4; labels of 63 bytes, 253 in all."""
    if ":" in host:
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise InvalidURI(uri, f"{host!r} is no IPv6 address") from None
        return host
    try:
        ascii_host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        raise InvalidURI(uri, f"{host!r} cannot be a host name") from None
    bare = ascii_host.rstrip(".")
    labels = bare.split(".")
    if len(bare) > 253 or any(not label or len(label) > 63 for label in labels):
        raise InvalidURI(uri, f"{host!r} cannot be a host name: labels have 1 to 63 characters, a name at most 253")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bare):
        raise InvalidURI(uri, f"{host!r} cannot be a host name")
    return ascii_host


def _with_options(uri: str, endpoint: Endpoint, query: str) -> Endpoint:
    """*endpoint* with the options of *query* applied; the last of two equal names wins."""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "priority":
            if not re.fullmatch(r"[0-9]{1,6}", value):
                raise InvalidOption(name, f"{value!r} is no whole number from 0 to 999999")
            endpoint = evolve(endpoint, priority=int(value))
        elif name == "address":
            try:
                endpoint = evolve(endpoint, address=str(ipaddress.ip_address(value)))
            except ValueError:
                raise InvalidOption(name, f"{value!r} is no IP address") from None
        elif name == "connect_timeout":
            endpoint = evolve(endpoint, connect_timeout=_seconds(name, value))
        else:
            raise InvalidOption(name, f"is unknown in {InvalidURI(uri, '').uri!r}", valid=OPTIONS)
    return endpoint


def _is_bare_ipv6(authority: str) -> bool:
    """Whether *authority* is an IPv6 address without brackets, with or without a port."""
    for text in (authority, authority.rpartition(":")[0]):
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            continue
        return True
    return False


def _seconds(name: str, value: str) -> float:
    """*value* as a number of seconds above zero and at most an hour."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or not 0 < float(value) <= 3600:
        raise InvalidOption(name, f"{value!r} is no number of seconds above 0, up to 3600")
    return float(value)


def name_groups(groups: Iterable[Group]) -> tuple[Group, ...]:
    """The groups, each under a name of its own, with every endpoint marked by it.

    Raises:
        InvalidOption: two of them have the same name: their sessions and orders would be taken for one another's.
    """
    listed = tuple(groups)
    given = [group.name for group in listed if group.name]
    for name in given:
        if given.count(name) > 1:
            raise InvalidOption("where", f"two groups have the name {name!r}; leave names out, or make them differ")
    names: list[str] = []
    for number, group in enumerate(listed, 1):
        free = (name for i in itertools.count(number) if (name := f"group{i}") not in {*given, *names})
        names.append(group.name or next(free))
    return tuple(group.named(name) for group, name in zip(listed, names, strict=True))
