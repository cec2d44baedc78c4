"""Switchgear: a resilient MQTT transport. It keeps the connection alive, and the messages safe, while brokers move.

Example::

    import switchgear

    with switchgear.connect("mqtts://broker.example.com", client_id="press-7") as transport:
        transport.subscribe("orders/#", print)
        transport.publish("orders/1", b"hello").wait(10)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from switchgear import aio
from switchgear.backoff import GiveUpAfter, exponential, fleet
from switchgear.cause import Cause, Failure, Policy
from switchgear.delivery import Delivery
from switchgear.drivers.base import Filter
from switchgear.endpoint import Endpoint, Group, SessionKind, parse_uri
from switchgear.envelope import Envelope, LineEnvelope
from switchgear.errors import (
    Cancelled,
    ConfigurationError,
    ConnectionFailed,
    Dropped,
    Expired,
    Forked,
    GaveUp,
    InternalError,
    InvalidOption,
    InvalidProfile,
    InvalidTopic,
    InvalidURI,
    MessageError,
    MessageTooLarge,
    OutboxFull,
    OutboxLocked,
    OutboxUnwritable,
    PluginError,
    Refused,
    SubscriptionRefused,
    SwitchgearError,
    TransportClosed,
    UnknownDriver,
    UnknownPlugin,
    UnreadableFile,
    WouldDeadlock,
    WrongLoop,
)
from switchgear.failback import Failback
from switchgear.health import EndpointHealth
from switchgear.hookspecs import Context, Delay, GiveUp, Move, Proceed, Recheck, Restart, Verdict, hookimpl
from switchgear.message import DeliveryState, Message, Properties, Will, topic_matches
from switchgear.profile import OutboxLimits, Profile
from switchgear.report import Event
from switchgear.secrets import Secret, env, file
from switchgear.states import State
from switchgear.stats import Stats
from switchgear.sync import Transport
from switchgear.sync_subscription import Subscription
from switchgear.tls import TLS
from switchgear.transport import AsyncTransport
from switchgear.window import Window
from switchgear.window_file import FileWindow, HandledTable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "TLS",
    "AsyncTransport",
    "Cancelled",
    "Cause",
    "ConfigurationError",
    "ConnectionFailed",
    "Context",
    "Delay",
    "Delivery",
    "DeliveryState",
    "Dropped",
    "Endpoint",
    "EndpointHealth",
    "Envelope",
    "Event",
    "Expired",
    "Failback",
    "Failure",
    "FileWindow",
    "Filter",
    "Forked",
    "GaveUp",
    "GiveUp",
    "GiveUpAfter",
    "Group",
    "HandledTable",
    "InternalError",
    "InvalidOption",
    "InvalidProfile",
    "InvalidTopic",
    "InvalidURI",
    "LineEnvelope",
    "Message",
    "MessageError",
    "MessageTooLarge",
    "Move",
    "OutboxFull",
    "OutboxLimits",
    "OutboxLocked",
    "OutboxUnwritable",
    "PluginError",
    "Policy",
    "Proceed",
    "Profile",
    "Properties",
    "Recheck",
    "Refused",
    "Restart",
    "Secret",
    "SessionKind",
    "State",
    "Stats",
    "Subscription",
    "SubscriptionRefused",
    "SwitchgearError",
    "Transport",
    "TransportClosed",
    "UnknownDriver",
    "UnknownPlugin",
    "UnreadableFile",
    "Verdict",
    "Will",
    "Window",
    "WouldDeadlock",
    "WrongLoop",
    "__version__",
    "aio",
    "connect",
    "env",
    "exponential",
    "file",
    "fleet",
    "hookimpl",
    "parse_uri",
    "topic_matches",
]

__version__ = "0.1.0"

# A library stays silent unless the application asks; without this, Python prints bare event names to stderr.
logging.getLogger("switchgear").addHandler(logging.NullHandler())


def connect(where: str | Endpoint | Group | Sequence[str | Endpoint | Group] | Profile, **options: object) -> Transport:
    """A transport to *where*. It returns at once; connecting goes on behind it (`Transport.wait_connected`).

    *where* is a URI (``mqtt mqtts tcp ssl ws wss``, or a scheme that a plugin owns, such as ``failover:``), an
    `Endpoint`, a `Group`, a list of these, or a `Profile`. *options* are the fields of `Profile`; with a profile they
    replace its own.

    Raises:
        ConfigurationError: something that was given cannot work; the message says what and the way out.

    Since: 0.1.
    """
    return Transport(Profile.of(where, **options))
