"""The control packets of MQTT 3.1.1 and 5, as values. Pure.

Fields that only MQTT 5 has (`properties`, the codes of acknowledgements) keep their defaults in 3.1.1.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from switchgear.testing.broker.properties import NO_PROPERTIES, Properties


@frozen
class Will:
    """The message that the broker publishes when the client is lost."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    is_retained: bool = False
    properties: Properties = NO_PROPERTIES


@frozen(kw_only=True)
class Connect:
    """A client's first packet; `version` is 4 for 3.1.1 and 5 for 5, `keepalive` is in seconds.

    `clean` is the clean session flag of 3.1.1 and the clean start flag of 5.
    """

    client_id: str
    version: int = 4
    clean: bool = True
    keepalive: int = 60
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    properties: Properties = NO_PROPERTIES


@frozen
class Connack:
    """The broker's answer to CONNECT; `code` is a return code (3.1.1) or a reason code (5)."""

    code: int = 0
    session_present: bool = False
    properties: Properties = NO_PROPERTIES


@frozen
class Publish:
    """A message on its way; `packet_id` is 0 exactly when `qos` is 0."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    packet_id: int = 0
    is_retained: bool = False
    dup: bool = False
    properties: Properties = NO_PROPERTIES


@frozen
class Puback:
    """QoS 1: the message is taken."""

    packet_id: int
    code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Pubrec:
    """QoS 2: the message is taken, and its packet id held."""

    packet_id: int
    code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Pubrel:
    """QoS 2: the sender has seen the PUBREC."""

    packet_id: int
    code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Pubcomp:
    """QoS 2: the packet id is free again."""

    packet_id: int
    code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Subscription:
    """One topic filter of a SUBSCRIBE with its options; 3.1.1 has none but the QoS."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@frozen
class Subscribe:
    """A request for messages."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NO_PROPERTIES


@frozen
class Suback:
    """One code for each filter of the SUBSCRIBE: the granted QoS, or 0x80 and above."""

    packet_id: int
    codes: tuple[int, ...]
    properties: Properties = NO_PROPERTIES


@frozen
class Unsubscribe:
    """A request for no more messages."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NO_PROPERTIES


@frozen
class Unsuback:
    """The answer to UNSUBSCRIBE; in 3.1.1 it has no codes."""

    packet_id: int
    codes: tuple[int, ...] = ()
    properties: Properties = NO_PROPERTIES


@frozen
class Pingreq:
    """Are you there?"""


@frozen
class Pingresp:
    """Yes."""


@frozen
class Disconnect:
    """The last packet of a connection; in 3.1.1 only a client sends it."""

    code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Auth:
    """A step of an enhanced authentication (MQTT 5)."""

    code: int = 0
    properties: Properties = NO_PROPERTIES


Ack: TypeAlias = Puback | Pubrec | Pubrel | Pubcomp
Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Ack
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
