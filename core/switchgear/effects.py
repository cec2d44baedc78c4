"""What the machine wants done: its effects, in the imperative. Pure values; `ConnectionManager` carries them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.cause import Failure
    from switchgear.endpoint import Endpoint
    from switchgear.events import Timer


@frozen
class SetTimer:
    """Send `TimerFired` at ``at``; it replaces an earlier one of the same name."""

    timer: Timer
    at: float


@frozen
class ClearTimer:
    """Forget the timer."""

    timer: Timer


@frozen
class AskVerdict:
    """Ask ``before_reconnect``; answer with `VerdictGiven`."""

    ask: int


@frozen
class AskSelection:
    """Ask ``select_endpoint``; answer with `EndpointSelected`. The candidates are in order, best first."""

    ask: int
    candidates: tuple[Endpoint, ...]


@frozen
class Dial:
    """Open a connection; answer with `DialSucceeded` or `AttemptFailed`."""

    generation: int
    endpoint: Endpoint


@frozen
class SendConnect:
    """Speak MQTT on the dialled connection; answer with `ConnectSucceeded` or `AttemptFailed`.

    ``clean_start``: the broker is to forget a session that it may have.
    """

    generation: int
    endpoint: Endpoint
    clean_start: bool


@frozen
class RestoreSession:
    """Bring the subscriptions back; answer with `SessionRestored` or `ConnectionLost`.

    ``session_present``: the broker still has them, and the packet ids of messages in flight.
    """

    generation: int
    session_present: bool


@frozen
class OpenGate:
    """The connection is usable: the outbox may flow."""

    generation: int


@frozen
class Close:
    """End this connection or attempt, without a report; politely: with DISCONNECT, flushed."""

    generation: int
    politely: bool = False


@frozen
class ReportConnected:
    """Tell ``on_connected``."""

    generation: int
    session_present: bool


@frozen
class ReportDisconnect:
    """Tell ``on_disconnect``: the one and only report of this connection or attempt."""

    generation: int
    endpoint: Endpoint
    failure: Failure
    was_connected: bool


@frozen
class RestartDriver:
    """Replace the driver by a new one."""

    how: str
    why: str


@frozen
class Emit:
    """Tell the world: a `switchgear.report.Event`."""

    name: str
    facts: Mapping[str, object] = field(factory=dict)


@frozen
class FailWaiters:
    """Waiting is hopeless now: it gave up, or (``is_final`` False) every endpoint is quarantined."""

    failure: Failure
    why: str
    is_final: bool


Effect = (
    SetTimer
    | ClearTimer
    | AskVerdict
    | AskSelection
    | Dial
    | SendConnect
    | RestoreSession
    | OpenGate
    | Close
    | ReportConnected
    | ReportDisconnect
    | RestartDriver
    | Emit
    | FailWaiters
)
