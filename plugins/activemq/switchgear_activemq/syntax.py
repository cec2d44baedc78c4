"""Which texts Java's ``java.net.URI`` takes, for ActiveMQ reads every URI through it first. Pure: no I/O.

Source: RFC 2396 and 2732, with the deviations that the documentation of ``java.net.URI`` lists (Java SE 17): other
than ASCII letters are allowed, the authority may be no host and port, an empty authority may precede a path.
Compared with Java 17 on random texts.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from attrs import frozen

_UNRESERVED: Final = r"A-Za-z0-9_\-!.~'()*"
# Every character beyond ASCII but control and space characters (Unicode categories Cc, Zs, Zl, Zp).
_OTHER: Final = r"[^\x00-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def _run(characters: str) -> re.Pattern[str]:
    """The longest run of *characters*, escapes (``%`` and two hexadecimal digits) and letters beyond ASCII."""
    return re.compile(rf"(?:[{characters}]|%[0-9A-Fa-f]{{2}}|{_OTHER})*")


_URIC: Final = _run(_UNRESERVED + r";/?:@&=+$,\[\]")
_PATH: Final = _run(_UNRESERVED + r":@&=+$,;/")
_REGISTRY: Final = _run(_UNRESERVED + r"$,;:@&=+")
_USER: Final = _run(_UNRESERVED + r";:&=+$,")
_BRACKETED: Final = re.compile(
    r"(?:(?P<user>[^@]*)@)?\[(?P<address>[^\]%]*)(?P<scope>%[^\]]*)?\](?::(?P<port>[0-9]*))?"
)


class MalformedError(Exception):
    """The text is no URI for Java; the message says why and where, and holds no more of it than one character."""


@frozen
class Parts:
    """A URI's scheme (None: relative), what follows it up to the fragment, and the fragment (None: none)."""

    scheme: str | None
    rest: str
    fragment: str | None


def split(text: str) -> Parts:
    """The parts of *text*.

    Raises:
        MalformedError: Java would refuse it.

    Since: 0.1.
    """
    scheme: str | None = None
    start = 0
    colon = _find(text, 0, "/?#:")
    if colon < len(text) and text[colon] == ":":
        if colon == 0:
            raise MalformedError("the scheme before the first colon is missing")
        match = re.match(r"[A-Za-z][A-Za-z0-9+\-.]*", text)
        end = match.end() if match else 0
        if end != colon:
            raise MalformedError(f"{text[end]!r} (character {end + 1}) cannot stand in a scheme")
        scheme = text[:colon]
        start = colon + 1
    hash_at = _find(text, start, "#")
    if scheme is not None and not text.startswith("/", start):
        if start == hash_at:
            raise MalformedError(f"nothing follows {scheme}:")
        _check(text, start, hash_at, _URIC, "after the scheme")
    else:
        _check_hierarchical(text, start, hash_at)
    fragment: str | None = None
    if hash_at < len(text):
        _check(text, hash_at + 1, len(text), _URIC, "in the fragment")
        fragment = text[hash_at + 1 :]
    return Parts(scheme, text[start:hash_at], fragment)


def _check_hierarchical(text: str, start: int, stop: int) -> None:
    if text.startswith("//", start):
        start += 2
        end = min(_find(text, start, "/?#"), stop)
        if end > start:
            _check_authority(text, start, end)
        elif end == len(text):
            raise MalformedError("nothing follows //")
        start = end
    query = min(_find(text, start, "?"), stop)
    _check(text, start, query, _PATH, "in a path")
    if query < stop:
        _check(text, query + 1, stop, _URIC, "in a query")


def _check_authority(text: str, start: int, end: int) -> None:
    authority = text[start:end]
    if "[" not in authority and "]" not in authority:
        _check(text, start, end, _REGISTRY, "in a host")
        return
    match = _BRACKETED.fullmatch(authority)
    if match is None:
        raise MalformedError("brackets stand only round an IPv6 address, as in [::1]:8883")
    user, address, scope, port = match["user"], match["address"], match["scope"], match["port"]
    if user is not None:
        _check(text, start, start + len(user), _USER, "in user and password")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise MalformedError("the text in brackets is no IPv6 address") from None
    if scope is not None and not re.fullmatch(r"%[A-Za-z0-9_.]+", scope):
        raise MalformedError("the scope of an IPv6 address (after %) is no name")
    if port and (len(port.lstrip("0")) > 10 or int(port.lstrip("0") or "0") > 2**31 - 1):
        raise MalformedError("the port is too large")


def _check(text: str, start: int, end: int, allowed: re.Pattern[str], where: str) -> None:
    match = allowed.match(text, start, end)
    at = match.end() if match else start
    if at == end:
        return
    if text[at] == "%":
        raise MalformedError(f"% (character {at + 1}) must be followed by two hexadecimal digits; write % as %25")
    hint = f"; write it as %{ord(text[at]):02X}" if ord(text[at]) < 0x80 else ""
    raise MalformedError(f"{text[at]!r} (character {at + 1}) cannot stand {where}{hint}")


def _find(text: str, start: int, characters: str) -> int:
    """The index of the first of *characters* at or after *start*; the length of *text* where there is none."""
    found = [at for at in (text.find(c, start) for c in characters) if at >= 0]
    return min(found, default=len(text))
