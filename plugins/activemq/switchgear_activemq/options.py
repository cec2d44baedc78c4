"""The options of ``failover:`` in ActiveMQ: their names, types and defaults, and how Java reads a value. Pure: no I/O.

Source: the setters of ``FailoverTransport`` in ActiveMQ 5.17.2 (an option is a setter's name without ``set``), and
``IntrospectionSupport`` and ``TypeConversionSupport``, which call them. The default of each is what a new
``FailoverTransport`` answers.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from attrs import frozen

from switchgear_activemq import syntax

Value = bool | int | float | str | tuple[str, ...] | None
"""What an option can hold, once it is read."""


class Kind(Enum):
    """The Java type of an option's setter."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    DOUBLE = "double"
    TEXT = "text"
    URIS = "URIs"


@frozen
class Option:
    """One option: its name, its type, and its value where the URI writes none."""

    name: str
    kind: Kind
    default: Value


OPTIONS: Final = {
    option.name: option
    for option in (
        Option("initialReconnectDelay", Kind.LONG, 10),
        Option("maxReconnectDelay", Kind.LONG, 30000),
        Option("useExponentialBackOff", Kind.BOOLEAN, default=True),
        Option("reconnectDelayExponent", Kind.DOUBLE, 2.0),
        Option("reconnectDelay", Kind.LONG, 10),
        Option("maxReconnectAttempts", Kind.INT, -1),
        Option("startupMaxReconnectAttempts", Kind.INT, -1),
        Option("randomize", Kind.BOOLEAN, default=True),
        Option("priorityBackup", Kind.BOOLEAN, default=False),
        Option("priorityURIs", Kind.URIS, ()),
        Option("backup", Kind.BOOLEAN, default=False),
        Option("backupPoolSize", Kind.INT, 1),
        Option("timeout", Kind.LONG, -1),
        Option("trackMessages", Kind.BOOLEAN, default=False),
        Option("maxCacheSize", Kind.INT, 131072),
        Option("trackTransactionProducers", Kind.BOOLEAN, default=True),
        Option("updateURIsSupported", Kind.BOOLEAN, default=True),
        Option("updateURIsURL", Kind.TEXT, None),
        Option("rebalanceUpdateURIs", Kind.BOOLEAN, default=True),
        Option("reconnectSupported", Kind.BOOLEAN, default=True),
        Option("warnAfterReconnectAttempts", Kind.INT, 10),
        Option("nestedExtraQueryOptions", Kind.TEXT, ""),
    )
}

VALID: Final = (*(name for name in OPTIONS if name != "nestedExtraQueryOptions"), "nested.*")
"""What an error lists. ``nestedExtraQueryOptions`` is a setter that ActiveMQ overwrites at once, so it is not offered."""

_DOUBLE: Final = re.compile(
    r"[+-]?(?:NaN|Infinity|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?"
    r"|0[xX](?:[0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+[fFdD]?)"
)
_BITS: Final = {Kind.INT: 31, Kind.LONG: 63}


def find(name: str) -> Option | None:
    """The option called *name*. The first letter may have either case, as for a Java setter; the others not."""
    return OPTIONS.get(name) or OPTIONS.get(name[:1].lower() + name[1:])


def convert(option: Option, text: str | None) -> Value:
    """*text* as a value of the option's type, read as Java reads it; None stands for a name without ``=``.

    Raises:
        ValueError: Java would not take it; the message says what would be.
    """
    if text is None:
        if option.kind is Kind.TEXT:
            return None
        raise ValueError("it needs a value: write NAME=VALUE")
    if option.kind is Kind.BOOLEAN:
        return text.lower() == "true"
    if option.kind is Kind.TEXT:
        return text
    if option.kind is Kind.URIS:
        return _uris(text)
    if option.kind is Kind.DOUBLE:
        return _double(text)
    return _whole(text, _BITS[option.kind])


def _whole(text: str, bits: int) -> int:
    why = f"it must be a whole number from {-(2**bits)} to {2**bits - 1}"
    if len(text) > 400 or not re.fullmatch(r"[+-]?\d+", text):  # int() itself stops at 4300 digits
        raise ValueError(why)
    number = int(text)
    if not -(2**bits) <= number < 2**bits:
        raise ValueError(why)
    return number


def _double(text: str) -> float:
    trimmed = text.strip("".join(map(chr, range(0x21))))  # what Java's String.trim takes for white space
    if not _DOUBLE.fullmatch(trimmed):
        raise ValueError("it must be a number")
    digits = trimmed.rstrip("fFdD")  # a type suffix, of which Java takes one
    if "x" not in digits.lower():
        return float(digits)
    try:
        return float.fromhex(digits)
    except OverflowError:
        return float("-inf" if digits.startswith("-") else "inf")


def _uris(text: str) -> tuple[str, ...]:
    """The URIs between commas; what is none is left out, as ActiveMQ does."""
    found: list[str] = []
    for part in filter(None, text.split(",")):
        try:
            syntax.split(part)
        except syntax.MalformedError:
            continue
        found.append(part)
    return tuple(found)
