"""The URI ``iot+dns://name[:port]?options``. Pure: no I/O."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

from switchgear.endpoint import OPTIONS, Group, SessionKind, parse_uri, scheme_of
from switchgear.errors import InvalidOption, InvalidURI

from switchgear_iot_dns import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.endpoint import Endpoint

SCHEME: Final = "iot+dns"


def read(uri: str, plugin_options: Mapping[str, object]) -> tuple[Endpoint, options.Settings] | None:
    """The endpoint of *uri* and how its name is watched; None when the scheme is another.

    What the query says goes before *plugin_options*. The endpoint's own options may stand there too, but for ``address``.

    Raises:
        InvalidURI: it cannot be read, or names an address, which no DNS can switch.
        InvalidOption: an option is unknown or has an impossible value.

    Since: 0.1.
    """
    if scheme_of(uri) != SCHEME:
        return None
    rest, mark, query = uri.strip()[len(SCHEME) + 1 :].partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    ours = {name: value for name, value in pairs if name in options.NAMES}
    theirs = [(name, value) for name, value in pairs if name not in options.NAMES]
    settings = options.read(ours, options.read(plugin_options))
    if any(name == "address" for name, _ in theirs):
        raise InvalidURI(uri, "address= pins the place; leave it out, DNS says where the name is")
    try:
        endpoint = parse_uri(f"mqtts:{rest}{mark and '?'}{urlencode(theirs)}")
    except InvalidURI as error:
        raise InvalidURI(uri, error.why) from None
    except InvalidOption as error:
        if error.name not in OPTIONS:
            known = {*OPTIONS, *options.NAMES} - {"address"}
            raise InvalidOption(error.name, f"is unknown in {InvalidURI(uri, '').uri!r}", valid=known) from None
        raise
    if not is_name(endpoint.host):
        raise InvalidURI(uri, f"{endpoint.host!r} is an address; DNS switches names")
    return endpoint, settings


def group(endpoint: Endpoint) -> Group:
    """The group of one name: sessions are regional, so another target means a new one."""
    return Group((endpoint,), SessionKind.HUNT, best_protocol="5")  # 3.1.1 does not say why a connection is ended


def is_name(host: str) -> bool:
    """Whether *host* is a name and not an IP address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False


def canonical(name: str) -> str:
    """*name* as names are compared: in lower case, without the dot at the end."""
    return name.rstrip(".").lower()
