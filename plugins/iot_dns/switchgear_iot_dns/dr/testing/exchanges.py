"""Requests to the AWS of a test, its answers, and faults on demand. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attrs import define, frozen

if TYPE_CHECKING:
    import re
    from collections.abc import Callable


@frozen
class Seen:
    """A request: ``what`` is the method and the path, or the target of a JSON call."""

    service: str
    region: str
    what: str


@frozen
class Answer:
    """A status and a body."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@define
class Fault:
    """What some requests get instead of an answer; ``left`` is how often, None for always."""

    service: str
    region: str | None
    what: re.Pattern[str]
    act: Callable[[Seen, Callable[[], Answer]], Answer | None]
    left: int | None

    def strikes(self, seen: Seen) -> bool:
        """Whether it is *seen*'s turn to fail; it counts."""
        if self.left == 0 or seen.service != self.service or self.region not in {None, seen.region}:
            return False
        if not self.what.search(seen.what):
            return False
        if self.left is not None:
            self.left -= 1
        return True


@frozen
class Request:
    """A request as it came."""

    method: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]


def error(service: str, code: str, status: int, message: str) -> Answer:
    """An error as *service* words it."""
    if service == "route53":
        body = (
            '<?xml version="1.0"?><ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error>'
            f"<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        )
        return Answer(status, body.encode(), "text/xml")
    return Answer(
        status,
        json.dumps({"message": message, "__type": code}).encode(),
        headers=(("x-amzn-errortype", code),),
    )
