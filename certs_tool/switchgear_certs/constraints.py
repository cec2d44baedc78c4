"""Name constraints of an issuing CA: what it may name, and whether a name is within them. Pure.

They stand on the issuing CA and not on the root, for many verifiers ignore them on a trust anchor (RFC 5280 section
6.2). A kind of name that is not permitted at all is excluded as a whole, for RFC 5280 section 4.2.1.10 leaves kinds
that are not mentioned free.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from cryptography import x509

from switchgear_certs.errors import InvalidName, UnfitAuthority
from switchgear_certs.names import Name, server_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_EVERYTHING: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def constraints(permitted: Sequence[str]) -> x509.NameConstraints | None:
    """The extension that permits the domains (with all below them) and IP networks in *permitted*; None for none.

    Raises:
        InvalidName: one is neither a domain nor a network.
    """
    if not permitted:
        return None
    allowed = list(dict.fromkeys(_subtree(text) for text in permitted))
    excluded: list[x509.GeneralName] = []
    if not any(isinstance(each, x509.DNSName) for each in allowed):
        excluded.append(x509.DNSName(""))
    for everything in _EVERYTHING:
        versions = {each.value.version for each in allowed if isinstance(each, x509.IPAddress)}
        if everything.version not in versions:
            excluded.append(x509.IPAddress(everything))
    return x509.NameConstraints(allowed, excluded or None)


def check_names(authority: x509.Certificate, names: Iterable[Name]) -> None:
    """Return when *authority* may issue for all *names*.

    Raises:
        UnfitAuthority: its name constraints forbid one.
    """
    try:
        limits = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    permitted, excluded = list(limits.permitted_subtrees or ()), list(limits.excluded_subtrees or ())
    for name in names:
        kind = x509.DNSName if name.ip is None else x509.IPAddress
        own_kind = [each for each in permitted if isinstance(each, kind)]
        forbidden = any(_within(name, each) for each in excluded)
        if forbidden or (own_kind and not any(_within(name, each) for each in own_kind)):
            shown = ", ".join(str(each.value) for each in permitted) or "nothing"
            raise UnfitAuthority(f"{name} is outside what this authority may name: {shown}")


def _subtree(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(text))
    except ValueError:
        if "/" in text:
            raise InvalidName(f"{text}: no IP network; write 10.0.0.0/8 or 2001:db8::/32, without host bits") from None
    name = server_name(text)
    if name.is_wildcard:
        raise InvalidName(f"{text}: a permitted domain has no wildcard; {text[2:]} permits all names below it")
    return x509.DNSName(name.text)


def _within(name: Name, subtree: x509.GeneralName) -> bool:
    if isinstance(subtree, x509.IPAddress):
        network = subtree.value
        if name.ip is None or not isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
            return False
        return name.ip.version == network.version and name.ip in network
    if not isinstance(subtree, x509.DNSName) or name.ip is not None:
        return False
    domain = subtree.value.lower().removeprefix(".")
    text = name.text.removeprefix("*.")
    return not domain or text == domain or text.endswith("." + domain)
