"""What can happen to the machine: its events, in the past tense. Pure values.

An event with a ``generation`` belongs to one connection or attempt; one with an ``ask`` answers one question. The
machine ignores those that are older than what it is doing.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from switchgear.cause import Failure
    from switchgear.endpoint import Endpoint
    from switchgear.hookspecs import Verdict


class Timer(enum.Enum):
    """The machine's three clocks."""

    RETRY = "retry"
    """Runs exactly in WAITING."""
    AHEAD = "ahead"
    """Runs in CONNECTING, until a second endpoint is asked for."""
    STABLE = "stable"
    """Runs in CONNECTED, until the connection is old enough to count as stable."""


@frozen
class StartRequested:
    """The user wants a connection."""


@frozen
class StopRequested:
    """The user wants none any more."""


@frozen
class ReconnectRequested:
    """Somebody wants a new connection now: no back-off, no quarantine.

    A planned one (``is_planned``) leaves quarantines and penalties as they are.
    """

    why: str = ""
    is_planned: bool = False


@frozen
class TimerFired:
    """A timer that the machine set has run out."""

    timer: Timer


@frozen
class VerdictGiven:
    """The plugins answered ``before_reconnect``."""

    ask: int
    verdict: Verdict
    plugin: str = ""


@frozen
class EndpointSelected:
    """The plugins answered ``select_endpoint``; None: nobody had an opinion."""

    ask: int
    endpoint: Endpoint | None
    plugin: str = ""


@frozen
class DialSucceeded:
    """The connection is open; no MQTT was spoken."""

    generation: int


@frozen
class AttemptFailed:
    """A dial or a CONNECT failed."""

    generation: int
    failure: Failure


@frozen
class ConnectSucceeded:
    """CONNACK accepted us."""

    generation: int
    session_present: bool


@frozen
class SessionRestored:
    """The subscriptions are back: the connection is usable."""

    generation: int


@frozen
class ConnectionLost:
    """A connection after its CONNACK ended."""

    generation: int
    failure: Failure


@frozen
class HealthProved:
    """The broker acknowledged something, or answered a ping, on this connection."""

    generation: int


@frozen
class EndpointProved:
    """A probe of an endpoint other than the present one reached CONNACK."""

    key: str


@frozen
class CredentialsChanged:
    """What endpoints were quarantined for may be mended: files or secrets are others now."""


@frozen
class EndpointsChanged:
    """The list of candidates is another now."""

    endpoints: tuple[Endpoint, ...]


Event = (
    StartRequested
    | StopRequested
    | ReconnectRequested
    | TimerFired
    | VerdictGiven
    | EndpointSelected
    | DialSucceeded
    | AttemptFailed
    | ConnectSucceeded
    | SessionRestored
    | ConnectionLost
    | HealthProved
    | EndpointProved
    | CredentialsChanged
    | EndpointsChanged
)
