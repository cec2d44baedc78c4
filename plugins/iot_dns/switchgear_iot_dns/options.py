"""What can be set: one table for the plugin's options and for the query of an ``iot+dns://`` URI. Pure: no I/O."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen
from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Mapping

OS: Final = "os"
"""The resolver that every program of this machine uses."""

AUTHORITATIVE: Final = "authoritative"
"""Every name server of the zone; they must agree."""

MOST_SERVERS: Final = 8
"""Servers in a list. Each may take its share of the time-out, and a share of a moment is none."""


@frozen(kw_only=True)
class Settings:
    """How one name is watched. Times are in seconds.

    Attributes:
        resolver: ``"os"``, ``"authoritative"``, or name servers to ask, as ``address`` or ``address:port``.
        poll: Time between two look-ups while something is to be settled. Half of what people wait by hand, so that three
            answers that agree take little more than a second.
        answers: Answers in a row that must name the same target.
        wait: How long the name may still point to the region that sent us away before we believe it.
        bound: After how long we go on without a settled answer.
        timeout: What one look-up may take; an answer that comes later is none.
        watch: Time between two look-ups while connected, at most; 0: none.
        window: Time within which a move that the watch decides on begins.
        drain: What finishing the messages in flight may take before such a move.
    """

    resolver: str | tuple[str, ...] = OS
    poll: float = 0.5
    answers: int = 3
    wait: float = 5.0
    bound: float = 30.0
    timeout: float = 2.0
    watch: float = 0.0
    window: float = 10.0
    drain: float = 5.0


_SECONDS: Final[dict[str, tuple[float, float]]] = {
    # option: the least and the most. A poll below 0.1 s is a load test of the name server.
    "poll": (0.1, 60.0),
    "wait": (0.0, 3600.0),
    "bound": (0.0, 86400.0),
    "timeout": (0.1, 60.0),
    "watch": (0.0, 86400.0),
    "window": (0.0, 86400.0),
    "drain": (0.0, 3600.0),
}

NAMES: Final = ("resolver", "answers", *_SECONDS)
"""Every option, for the plugin and for the query of a URI."""


def read(options: Mapping[str, object], base: Settings | None = None) -> Settings:
    """*base*, or the defaults, with *options* applied; texts, as a URI has them, are read as numbers.

    Raises:
        InvalidOption: a name is unknown, or a value is out of range; the message says what is valid.

    Since: 0.1.
    """
    made = base or Settings()
    for name, value in options.items():
        if name == "resolver":
            made = evolve(made, resolver=_resolver(value))
        elif name == "answers":
            made = evolve(made, answers=_whole(name, value, 1, 20))
        elif name in _SECONDS:
            seconds: dict[str, Any] = {name: _seconds(name, value)}
            made = evolve(made, **seconds)
        else:
            raise InvalidOption(name, "the plugin iot_dns has no such option", valid=NAMES)
    return made


def _seconds(name: str, value: object) -> float:
    least, most = _SECONDS[name]
    number = _number(value)
    if number is None or not least <= number <= most:
        raise InvalidOption(name, f"{value!r} is no number of seconds from {least:g} to {most:g}")
    return number


def _whole(name: str, value: object, least: int, most: int) -> int:
    number = _number(value)
    if number is None or not number.is_integer() or not least <= number <= most:
        raise InvalidOption(name, f"{value!r} is no whole number from {least} to {most}")
    return int(number)


def _number(value: object) -> float | None:
    """*value* as a number; None when it is none, or not a finite one."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e9 < value < 1e9 and math.isfinite(value) else None


def _resolver(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str):
        if value in {OS, AUTHORITATIVE}:
            return value
        value = value.split(",")
    if not isinstance(value, list | tuple) or not value:
        why = f'{value!r} is neither "{OS}" nor "{AUTHORITATIVE}" nor a list of name servers'
        raise InvalidOption("resolver", why)
    if len(value) > MOST_SERVERS:
        raise InvalidOption("resolver", f"{len(value)} name servers are more than the {MOST_SERVERS} that can be asked")
    for server in value:
        place(server)
    return tuple(value)


def place(server: object) -> tuple[str, int]:
    """Address and port of a name server; IPv6 addresses with a port stand in brackets.

    Raises:
        InvalidOption: it is no IP address with or without a port.
    """
    text = str(server)
    match = re.fullmatch(
        r"\[(?P<v6>[^\]]+)\](?::(?P<port6>[0-9]{1,5}))?|(?P<v4>[0-9.]+)(?::(?P<port4>[0-9]{1,5}))?", text
    )
    address = text if match is None else match["v6"] or match["v4"]
    port = 53 if match is None else int(match["port6"] or match["port4"] or 53)
    try:
        ipaddress.ip_address(address)
    except ValueError:
        hint = f'write "{OS}", "{AUTHORITATIVE}", or addresses as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353'
        raise InvalidOption("resolver", f"{text!r} is no IP address of a name server; {hint}") from None
    if not 0 < port < 65536:
        raise InvalidOption("resolver", f"{text!r} has no port from 1 to 65535")
    return address, port
