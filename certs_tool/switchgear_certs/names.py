"""Names that certificates may carry, and the file names made from them. Pure.

Rules: RFC 1123 section 2.1 and RFC 5890 (letters, digits, hyphens; 63 octets a label, 253 in all), RFC 6125 section
6.4.3 (a wildcard is the whole leftmost label), RFC 5280 appendix A (a common name has at most 64 characters), AWS IoT
Core (a server certificate has at most four domain names: developer guide, "Configurable endpoints").
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

import idna
from attrs import frozen
from cryptography import x509

from switchgear_certs.errors import InvalidName

if TYPE_CHECKING:
    from collections.abc import Iterable

AWS_NAMES: Final = 4
COMMON_NAME: Final = 64
AUTHORITY_STEMS: Final = ("ca", "issuing")
"""File names of the authority; no other certificate may be called so."""

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")


@frozen
class Name:
    """One name of a server, as it stands in the certificate: lower case, IDN as A-labels, addresses canonical."""

    text: str
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every name with one more label."""
        return self.text.startswith("*.")

    @property
    def general_name(self) -> x509.GeneralName:
        """Its form in a subject alternative name."""
        return x509.DNSName(self.text) if self.ip is None else x509.IPAddress(self.ip)

    @property
    def stem(self) -> str:
        """Its file name without the ending. The underscore cannot be in a DNS name, so no two names share a stem."""
        return self.text.replace("*", "_wildcard").replace(":", "_")


def server_name(text: str) -> Name:
    """The name that *text* means: a DNS name, also internationalized or a wildcard, or an IP address.

    Raises:
        InvalidName: it is none of these; the message says why.
    """
    _refuse_blanks(text)
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return Name(_dns(text))
    if getattr(address, "scope_id", None):
        raise InvalidName(f"{text}: an address with a zone means something on one machine only; leave out %...")
    return Name(str(address), address)


def server_names(texts: Iterable[str], *, aws_limits: bool = True) -> tuple[Name, ...]:
    """The names that *texts* mean, each once, in their order.

    Raises:
        InvalidName: one is invalid, there is none, or with *aws_limits* there are more than AWS IoT takes.
    """
    names = tuple(dict.fromkeys(server_name(text) for text in texts))
    if not names:
        raise InvalidName("a server certificate needs at least one name")
    if aws_limits and len(names) > AWS_NAMES:
        raise InvalidName(
            f"{len(names)} names in one certificate: AWS IoT takes at most {AWS_NAMES}; make several certificates,"
            " use a wildcard, or lift the limit with --beyond-aws"
        )
    return names


def client_name(text: str) -> str:
    """*text*, checked: it becomes the common name, which brokers may take for the user name, and the file name.

    Raises:
        InvalidName: it is empty, too long, or holds anything but letters, digits and ``. _ @ -``.
    """
    _refuse_blanks(text)
    if len(text) > COMMON_NAME:
        raise InvalidName(f"{_short(text)}: {len(text)} characters; a common name has at most {COMMON_NAME} (RFC 5280)")
    if not _CLIENT.fullmatch(text):
        raise InvalidName(
            f"{_show(text)}: a client's name has ASCII letters, digits and . _ @ - only, and begins with one of the first two"
        )
    if text.casefold() in AUTHORITY_STEMS:
        raise InvalidName(f"{text}: its files would be those of the authority; take another name")
    return text


def authority_name(text: str) -> str:
    """*text*, checked: the common name of a CA; spaces inside are fine.

    Raises:
        InvalidName: it is empty, too long, holds control characters, or begins or ends with a space.
    """
    if not text.strip():
        raise InvalidName("the authority's name is empty")
    if text != text.strip() or not text.isprintable():
        raise InvalidName(f"{_show(text)}: control characters, or spaces at an end, do not belong in a name")
    limit = COMMON_NAME - len(" issuing")
    if len(text) > limit:
        raise InvalidName(f"{_short(text)}: {len(text)} characters; an authority's name has at most {limit} here")
    return text


def covers(pattern: str, host: str) -> bool:
    """Whether the DNS name *pattern* of a certificate stands for *host*; a wildcard stands for exactly one label."""
    pattern, host = pattern.lower(), host.lower()
    if pattern.startswith("*."):
        label, _, rest = host.partition(".")
        return bool(label) and "*" not in label and rest == pattern[2:]
    return pattern == host


def _dns(text: str) -> str:
    if text.endswith("."):
        raise InvalidName(f"{_short(text)}: leave out the dot at the end")
    if "_" in text:
        raise InvalidName(f"{_show(text)}: an underscore is in no host name (RFC 1123)")
    star, plain = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    if "*" in plain:
        raise InvalidName(f"{_show(text)}: a wildcard is the whole first label, as in *.example.com")
    name = plain.lower() if plain.isascii() else _a_labels(plain)
    labels = name.split(".")
    for label in labels:
        if len(label) > 63:
            raise InvalidName(f"{_short(text)}: the label {_short(label)} has {len(label)} characters; at most 63")
        if not _LABEL.fullmatch(label):
            what = "an empty label" if not label else f"{_show(label)}"
            raise InvalidName(f"{_show(text)}: {what}; labels have letters, digits and inner hyphens only")
        if label[2:4] == "--":
            _check_a_label(text, label)
    if labels[-1].isdigit():
        raise InvalidName(f"{_show(text)}: neither an IP address nor a DNS name, whose last label is no number")
    if len(star + name) > 253:
        raise InvalidName(f"{_short(text)}: {len(star + name)} characters; a DNS name has at most 253")
    if star and len(labels) < 2:
        raise InvalidName(f"{text}: no client takes a wildcard for a whole top-level domain; name at least two labels")
    if not star and name in AUTHORITY_STEMS:
        raise InvalidName(f"{text}: its files would be those of the authority; use a longer name")
    return star + name


def _a_labels(text: str) -> str:
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as error:
        raise InvalidName(f"{_show(text)}: no internationalized name (IDNA 2008): {error}") from error


def _check_a_label(text: str, label: str) -> None:
    try:
        idna.ulabel(label)
    except UnicodeError as error:
        raise InvalidName(f"{_show(text)}: the label {label} is no valid A-label (IDNA 2008): {error}") from error


def _refuse_blanks(text: str) -> None:
    if not text:
        raise InvalidName("the name is empty")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise InvalidName(f"{_show(text)}: spaces and control characters are in no name")


def _show(text: str) -> str:
    return _short(repr(text) if not text.isprintable() or " " in text else text)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}..."
