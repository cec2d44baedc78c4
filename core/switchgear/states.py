"""The states of a transport and where each event may lead: the literal table. Pure values.

The diagram in the reference is generated from `TRANSITIONS`; `switchgear.machine` can do nothing that it does not list.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from switchgear import events as ev

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(enum.StrEnum):
    """Where the transport is. CONNECTED means usable: the subscriptions are back."""

    STOPPED = "stopped"
    DECIDING = "deciding"
    WAITING = "waiting"
    SELECTING = "selecting"
    CONNECTING = "connecting"
    RESTORING = "restoring"
    CONNECTED = "connected"
    GAVE_UP = "gave up"


S = State
_HERE_OR_ON: Final = {S.DECIDING, S.WAITING, S.SELECTING, S.GAVE_UP}
"""Where a decision about the next sweep may lead: each answer may come at once."""

# state: {event: the states it may lead to}. What is not listed is a bug, and says so.
TRANSITIONS: Final[Mapping[State, Mapping[type, set[State]]]] = {
    S.STOPPED: {
        ev.StartRequested: {S.WAITING, S.SELECTING, S.DECIDING, S.GAVE_UP},
        ev.StopRequested: {S.STOPPED},
        ev.EndpointsChanged: {S.STOPPED},
        ev.CredentialsChanged: {S.STOPPED},
    },
    S.DECIDING: {
        ev.VerdictGiven: _HERE_OR_ON,
        ev.ReconnectRequested: _HERE_OR_ON,
        ev.EndpointsChanged: {S.DECIDING},
        ev.CredentialsChanged: {S.DECIDING},
        ev.StopRequested: {S.STOPPED},
    },
    S.WAITING: {
        ev.TimerFired: _HERE_OR_ON,
        ev.ReconnectRequested: _HERE_OR_ON,
        ev.EndpointsChanged: {S.WAITING} | _HERE_OR_ON,
        ev.CredentialsChanged: {S.WAITING} | _HERE_OR_ON,
        ev.StopRequested: {S.STOPPED},
    },
    S.SELECTING: {
        ev.EndpointSelected: {S.CONNECTING, S.DECIDING, S.GAVE_UP},
        ev.ReconnectRequested: {S.SELECTING},
        ev.EndpointsChanged: {S.SELECTING},
        ev.CredentialsChanged: {S.SELECTING},
        ev.StopRequested: {S.STOPPED},
    },
    S.CONNECTING: {
        ev.DialSucceeded: {S.CONNECTING},
        ev.AttemptFailed: {S.CONNECTING} | _HERE_OR_ON,
        ev.EndpointSelected: {S.CONNECTING},
        ev.TimerFired: {S.CONNECTING},
        ev.ConnectSucceeded: {S.RESTORING},
        ev.ConnectionLost: {S.CONNECTING} | _HERE_OR_ON,
        ev.ReconnectRequested: {S.CONNECTING},
        ev.EndpointsChanged: {S.CONNECTING},
        ev.CredentialsChanged: {S.CONNECTING},
        ev.StopRequested: {S.STOPPED},
    },
    S.RESTORING: {
        ev.SessionRestored: {S.CONNECTED},
        ev.ConnectionLost: _HERE_OR_ON,
        ev.HealthProved: {S.RESTORING},
        ev.ReconnectRequested: _HERE_OR_ON,
        ev.EndpointsChanged: {S.RESTORING},
        ev.CredentialsChanged: {S.RESTORING},
        ev.StopRequested: {S.STOPPED},
    },
    S.CONNECTED: {
        ev.TimerFired: {S.CONNECTED},
        ev.HealthProved: {S.CONNECTED},
        ev.ConnectionLost: {S.DECIDING, S.GAVE_UP},
        ev.ReconnectRequested: _HERE_OR_ON,
        ev.EndpointsChanged: {S.CONNECTED},
        ev.CredentialsChanged: {S.CONNECTED},
        ev.EndpointProved: {S.CONNECTED},
        ev.StopRequested: {S.STOPPED},
    },
    S.GAVE_UP: {
        ev.StartRequested: {S.WAITING, S.SELECTING, S.DECIDING, S.GAVE_UP},
        ev.ReconnectRequested: _HERE_OR_ON,
        ev.EndpointsChanged: {S.GAVE_UP},
        ev.CredentialsChanged: {S.GAVE_UP},
        ev.StopRequested: {S.STOPPED},
    },
}
