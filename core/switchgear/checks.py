"""What an option may hold: one validator for each kind of value. Pure: no I/O.

Each refuses with `InvalidOption`, naming the option, the value (credentials hidden) and what is valid.
"""

from __future__ import annotations

import inspect
import math
import reprlib
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import InvalidOption, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attrs import Attribute

    Validator = Callable[[Any, Attribute[Any], Any], None]

LONGEST: Final = 31_536_000.0
"""Seconds, a year. Far beyond it waiting calls of Python overflow (measured: threading, at 9.2e9 s)."""


class _Short(reprlib.Repr):
    """Short texts; credentials are hidden before anything is cut, for half a URI cannot be recognised."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(redact(x), level)


_short: Final = _Short()
_short.maxstring = _short.maxother = 80


def show(value: object) -> str:
    """A short text of *value* for an error message, credentials in URIs hidden; it never raises."""
    try:
        return redact(_short.repr(value))
    except Exception:  # repr of foreign objects, and of integers past 4300 digits, may raise anything
        return f"a {type(value).__name__}"


def refuse(name: str, value: object, valid: str) -> InvalidOption:
    """The error for *value*, where only *valid* will do."""
    return InvalidOption(name, f"{show(value)} is not a {valid}")


def is_whole(value: object) -> bool:
    """Whether *value* is an int and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether *value* is a finite int or float and no bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int past 1.8e308
        return False


def whole(least: int, most: int | None = None, *, optional: bool = False) -> Validator:
    """A validator for whole numbers from *least* to *most*."""
    words = f"whole number from {least} to {most}" if most is not None else f"whole number of at least {least}"

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if optional and value is None:
            return
        if not is_whole(value) or value < least or (most is not None and value > most):  # type: ignore[operator]  # it is an int here
            raise refuse(attribute.name, value, words)

    return check


def seconds(*, zero: bool = False, optional: bool = False, most: float = LONGEST) -> Validator:
    """A validator for seconds up to *most*, above zero, or from zero on."""
    words = f"number of seconds {'from 0' if zero else 'above 0'} to {most:.0f}"
    return _number(words, most=most, zero=zero, optional=optional)


def rate(*, optional: bool = False) -> Validator:
    """A validator for numbers a second, above zero."""
    return _number("number above 0", most=1e12, zero=False, optional=optional)


def _number(words: str, *, most: float, zero: bool, optional: bool) -> Validator:
    def check(_: object, attribute: Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        if not is_number(value) or not (0 <= value <= most) or (value == 0 and not zero):
            raise refuse(attribute.name, value, words)

    return check


def flag(_: object, attribute: Attribute[Any], value: object) -> None:
    """Refuse all but True and False."""
    if not isinstance(value, bool):
        raise InvalidOption(attribute.name, f"{show(value)} is neither True nor False")


def one_of(*values: str, optional: bool = False) -> Validator:
    """A validator for a few fixed texts."""

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if not (optional and value is None) and not (isinstance(value, str) and value in values):
            words = ", ".join(repr(v) for v in values)
            raise InvalidOption(attribute.name, f"{show(value)} is none of {words}{', None' if optional else ''}")

    return check


def function(_: object, attribute: Attribute[Any], value: object) -> None:
    """Refuse what is neither callable nor None, and generator functions."""
    if value is not None and not callable(value):
        raise InvalidOption(attribute.name, f"{show(value)} is not callable; give a function, or None")
    if value is not None:
        no_generator_function(attribute.name, value)


def no_generator_function(name: str, handler: Callable[..., object]) -> None:
    """Refuse, as the option *name*, what makes a generator when it is called: nobody would run a line of it."""
    for called in (handler, type(handler).__call__):
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise InvalidOption(name, "calling a generator function runs nothing of it; take the yield out")


def kind(wanted: type, *, optional: bool = True) -> Validator:
    """A validator for instances of *wanted*, and for None when that is allowed."""

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, wanted) and not (optional and value is None):
            words = f"switchgear.{wanted.__name__}{' (nor None)' if optional else ''}"
            raise refuse(attribute.name, value, words)

    return check


def text(*, optional: bool = True) -> Validator:
    """A validator for texts that MQTT can carry: not empty, UTF-8, without U+0000, 65535 bytes (MQTT 5, 1.5.4)."""

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if optional and value is None:
            return
        if not isinstance(value, str) or not value:
            why = "leave it out, or give a text of at least one character" if optional else "give a name"
            raise InvalidOption(attribute.name, f"{show(value)} is not a text; {why}")
        check_utf8(attribute.name, value)

    return check


def check_utf8(name: str, value: str) -> None:
    """Raise `InvalidOption` unless *value* can stand in an MQTT packet. Source: MQTT 5, 1.5.4."""
    if "\0" in value:
        raise InvalidOption(name, f"{show(value)} holds U+0000, which MQTT forbids")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidOption(name, f"{show(value)} holds a lone surrogate, which is no UTF-8") from None
    if size > 65535:
        raise InvalidOption(name, f"{show(value)} has {size} bytes; MQTT takes at most 65535")


def fit_password(value: bytes) -> bytes:
    """*value*, which is not shown; `InvalidOption` when it cannot stand in an MQTT packet. Source: MQTT 5, 1.5.6."""
    if len(value) > 65535:
        raise InvalidOption("password", f"it has {len(value)} bytes; MQTT takes at most 65535")
    return value


def check_names(known: Iterable[str], given: Iterable[str]) -> None:
    """Raise `InvalidOption`, listing all of *known*, at the first of *given* that is not among them."""
    valid = tuple(known)
    for name in given:
        if name not in valid:
            raise InvalidOption(name, "there is no such option", valid=valid)
