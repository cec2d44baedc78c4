"""Attempt: one try at one endpoint, and how far it is. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from attrs import define

from switchgear import events as ev

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.endpoint import Endpoint


class Phase(enum.Enum):
    """How far an attempt is."""

    DIALLING = "dialling"
    DIALLED = "dialled"
    HANDSHAKING = "handshaking"
    ESTABLISHED = "established"


@define
class Attempt:
    """One try at one endpoint, or the connection that came of it."""

    generation: int
    endpoint: Endpoint
    number: int
    phase: Phase = Phase.DIALLING


PHASES: Final[Mapping[type, frozenset[Phase]]] = {
    ev.DialSucceeded: frozenset({Phase.DIALLING}),
    ev.ConnectSucceeded: frozenset({Phase.HANDSHAKING}),
}
"""How far an attempt is when these events come."""
