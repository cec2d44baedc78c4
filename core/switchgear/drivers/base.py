"""The port between the transport and an MQTT library: what a driver must do. No I/O here.

A driver does not reconnect, queue, or decide; it dials when it is told, speaks MQTT, and reports. All its calls are
made on the event loop's thread, and all its reports must be made there. What its library and the broker say it maps onto
causes with `switchgear.cause.from_exception`, `from_return_code` and `from_reason_code`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.cause import Failure
    from switchgear.delivery import Delivery
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint
    from switchgear.message import Message, Will
    from switchgear.tls import TLS


@frozen(kw_only=True)
class DriverSettings:
    """What stays the same for all connections of a transport.

    Attributes:
        client_id: The MQTT client identifier; never empty.
        protocol: ``"3.1.1"`` or ``"5"``.
        keepalive: Seconds; whole on the wire; 0 switches it off. The driver pings within it, or within what the broker
            wants instead, and ends the connection as KEEPALIVE_TIMEOUT when no answer comes.
        connect_timeout: Seconds, each: for resolving and TCP, for TLS, for the WebSocket upgrade, for CONNACK.
        tls: For encrypted endpoints.
        will: What the broker publishes when we vanish.
        session_expiry: Seconds that the broker keeps the session after a loss (MQTT 5, 3.1.2.11.2).
        receive_maximum: How many QoS 1 and 2 messages we take before acknowledging (MQTT 5, 3.1.2.11.3).
        maximum_packet_size: Bytes; the largest packet that we take; None: MQTT's own limit.
        ack_timeout: Seconds; an acknowledgement overdue for so long has the driver ping of its own accord; None: never.
    """

    client_id: str
    protocol: str
    keepalive: int
    connect_timeout: float
    tls: TLS | None = None
    will: Will | None = None
    session_expiry: int = 3600
    receive_maximum: int = 1000
    maximum_packet_size: int | None = None
    ack_timeout: float | None = 10.0


Turn = Callable[[], Awaitable[None]]
"""Waits until one more CONNECT may go."""


@frozen(kw_only=True)
class ConnectRequest:
    """What one CONNECT says.

    Attributes:
        endpoint: Where it goes.
        clean_start: Whether the broker is to forget a session that it may have.
        keeps_session: Whether the session is to outlive the connection. With ``clean_start``, MQTT 3.1.1 has no CONNECT
            that says both (3.1.2.4): an old session is wiped by a connection that keeps none, and CONNECT sent again.
        username: None: no credentials.
        password: Hidden in ``repr``.
        timeout: Seconds until CONNACK.
        turn: To be awaited right before CONNECT goes on the wire: the budget of a fleet is kept to the moment then. None: there
            is none. A driver that dials up to that (`DriverFeatures.dials_tls`) is called in its turn, and awaits this before each
            further CONNECT only.
    """

    endpoint: Endpoint
    clean_start: bool
    keeps_session: bool
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    timeout: float = 5.0
    turn: Turn | None = field(default=None, repr=False, eq=False)


@frozen(kw_only=True)
class Limits:
    """What the broker said of itself in CONNACK (MQTT 5, 3.2.2.3); on MQTT 3.1.1 all is allowed.

    Attributes:
        receive_maximum: Unacknowledged QoS 1 and 2 messages that it takes.
        maximum_packet_size: Bytes; None: MQTT's own limit of 268 435 455 and the header.
        maximum_qos: 0, 1 or 2.
        retain_available: Whether it takes retained messages.
        session_expiry: Seconds it really keeps the session; None: what we asked for.
        keepalive: Seconds that it wants in place of ours; None: ours.
        wildcards_available: Whether filters may hold + and #.
        shared_available: Whether ``$share`` filters are taken.
    """

    receive_maximum: int = 65535
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True
    session_expiry: int | None = None
    keepalive: int | None = None
    wildcards_available: bool = True
    shared_available: bool = True


@frozen
class Filter:
    """One topic filter with what MQTT lets us ask for with it (MQTT 5, 3.8.3.1; on 3.1.1 only the QoS is sent)."""

    topic_filter: str
    qos: int = 0
    no_local: bool = field(default=False, kw_only=True)
    retain_as_published: bool = field(default=False, kw_only=True)
    retain_handling: int = field(default=0, kw_only=True)


@frozen
class DriverFeatures:
    """What a driver can do; "no" is a useful answer. The reference shows one row each.

    Attributes:
        protocols: The MQTT versions that it speaks. A transport that needs another one is refused when it is built.
        qos: The qualities of service that it carries. A message or filter that asks for another one is refused.
        websockets: Whether it takes ``ws://`` and ``wss://``.
        dials_ahead: Whether it can dial a second endpoint while the first one is slow.
        dials_tls: Whether dialling goes up to the end of TLS and of the WebSocket upgrade; else only TCP is dialled ahead.
        pins_address: Whether it can dial a given IP address and still check the host name.
        manual_ack: Whether a message is acknowledged when we say so, and not before.
        resumes_packet_ids: Whether a message that was sent and not acknowledged is sent again under its packet id, marked
            as a repetition, on a resumed session; else it is sent as a new one, and a subscriber may get it twice.
        sends_pingreq: Whether a ping of ours is PINGREQ; else it is an UNSUBSCRIBE of a filter that nobody has.
        reports_duplicates: Whether a received message says that it may have been sent before.
        checks_packet_size: Whether a packet above the size that we announced ends the connection.
        checks_text: Whether a received text that is no UTF-8 ends the connection; else that message is dropped.
    """

    protocols: frozenset[str] = frozenset({"3.1.1", "5"})
    qos: frozenset[int] = frozenset({0, 1, 2})
    websockets: bool = True
    dials_ahead: bool = True
    dials_tls: bool = True
    pins_address: bool = True
    manual_ack: bool = True
    resumes_packet_ids: bool = True
    sends_pingreq: bool = True
    reports_duplicates: bool = True
    checks_packet_size: bool = True
    checks_text: bool = True


class AttemptFailed(Exception):
    """Raised by a driver when a dial or a CONNECT fails; ``failure`` holds the cause. Never shown to users."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(str(failure))


class Listener(Protocol):
    """To whom a connection reports; on the loop's thread, never after `on_lost` or ``abort``, or once it is disconnected."""

    def on_acknowledged(self, delivery: Delivery, code: int) -> None:
        """The broker has *delivery* (code below 0x80), or refuses it for ever (0x80 and above)."""
        ...

    def on_message(self, message: Message, token: object) -> None:
        """A message arrived; acknowledge it with ``connection.acknowledge(token)``; None: it needs no answer."""
        ...

    def on_batch_end(self) -> None:
        """All reports of one read have been made: a good moment to send more."""
        ...

    def on_writable(self) -> None:
        """More may be written after ``is_writable`` was False."""
        ...

    def on_healthy(self) -> None:
        """The broker answered something (PUBREC, SUBACK, UNSUBACK, PINGRESP); `on_acknowledged` says it of the others."""
        ...

    def on_lost(self, failure: Failure) -> None:
        """The connection is over. Called once, and not after ``abort`` or ``disconnect``.

        A packet that MQTT does not allow ends it too, as PROTOCOL_ERROR.
        """
        ...


class DeafListener:
    """Hears a connection and does nothing: for those that only have to reach CONNACK."""

    def on_acknowledged(self, delivery: Delivery, code: int) -> None:
        """Part of `Listener`."""

    def on_message(self, message: Message, token: object) -> None:
        """Part of `Listener`."""

    def on_batch_end(self) -> None:
        """Part of `Listener`."""

    def on_writable(self) -> None:
        """Part of `Listener`."""

    def on_healthy(self) -> None:
        """Part of `Listener`."""

    def on_lost(self, failure: Failure) -> None:
        """Part of `Listener`."""


class Link(Protocol):
    """A dialled connection (TCP, TLS, WebSocket) on which no MQTT was spoken yet."""

    @property
    def is_open(self) -> bool:
        """Whether the peer has not closed it, as far as is known."""
        ...

    def abort(self) -> None:
        """Drop it at once."""
        ...


class Connection(Protocol):
    """An MQTT connection from its CONNACK on.

    Calls on one that is over do nothing, but for `subscribe` and `unsubscribe`, which raise `ConnectionError`, also when
    it ends while they wait.
    """

    @property
    def session_present(self) -> bool:
        """Whether the broker had our session."""
        ...

    @property
    def limits(self) -> Limits:
        """What the broker said of itself."""
        ...

    @property
    def in_flight(self) -> int:
        """QoS 1 and 2 messages that were sent and are not yet acknowledged."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether the write buffer takes more."""
        ...

    def send(self, delivery: Delivery) -> None:
        """Send *delivery*: for the first time, or again (DUP, or PUBREL) when it has a packet id of this session.

        A driver that cannot resume packet ids (`DriverFeatures.resumes_packet_ids`) gives none, and sends it as new.

        The caller keeps within ``limits``. QoS 0 is not reported by ``on_acknowledged``.

        Raises:
            MessageTooLarge: the packet passes ``limits.maximum_packet_size``.

        Anything else that it raises while the connection stands ends the message as `switchgear.Refused`.
        """
        ...

    async def subscribe(self, filters: Sequence[Filter]) -> list[int]:
        """Subscribe with one packet; the SUBACK codes, in order (0x80 and above: refused)."""
        ...

    async def unsubscribe(self, topic_filters: Sequence[str]) -> list[int]:
        """Unsubscribe with one packet; the UNSUBACK codes, in order (on 3.1.1 zeros)."""
        ...

    def acknowledge(self, token: object) -> None:
        """Acknowledge the received message that came with *token*; None: do nothing."""
        ...

    def ping(self) -> None:
        """Send PINGREQ now, or (`DriverFeatures.sends_pingreq`) what else the broker must answer."""
        ...

    async def disconnect(self) -> None:
        """Send DISCONNECT, flush, close; does not raise. Bounded by the caller."""
        ...

    def abort(self) -> None:
        """Drop the connection at once, without DISCONNECT (the broker publishes the will)."""
        ...


class Driver(Protocol):
    """One MQTT library, for one transport. It keeps what belongs to the MQTT session from one connection to the next."""

    @property
    def name(self) -> str:
        """As users write it in ``driver=``."""
        ...

    @property
    def features(self) -> DriverFeatures:
        """What it can do."""
        ...

    async def dial(self, endpoint: Endpoint) -> Link:
        """Open a connection to *endpoint*, up to where MQTT begins, each step within ``connect_timeout``.

        Cancelled when another endpoint answered sooner.

        Raises:
            AttemptFailed: with the cause.
        """
        ...

    async def connect(self, link: Link, request: ConnectRequest, listener: Listener) -> Connection:
        """Send CONNECT on *link* and wait for CONNACK.

        A session that is not present in CONNACK, or a clean start, ends the session that this driver kept: packet ids
        and received QoS 2 ids are forgotten.

        Raises:
            AttemptFailed: refused, silent for ``request.timeout`` seconds, or lost.
        """
        ...

    def close(self) -> None:
        """Release what the driver holds; its connections are closed before."""
        ...


@frozen
class Route:
    """How a driver reaches an endpoint.

    Attributes:
        first: What is dialled: the endpoint, or the proxy in its place, which then looks up the endpoint's name.
        alpn: The protocols that TLS offers.
    """

    first: Endpoint
    alpn: tuple[str, ...]


@runtime_checkable
class Routed(Protocol):
    """What a driver is too, where its options lead it another way than the profile says: ``switchgear doctor`` looks along it."""

    def route_to(self, endpoint: Endpoint) -> Route:
        """The way to *endpoint*."""
        ...

    async def open(self, endpoint: Endpoint) -> ByteLink:
        """Open a connection that way, up to where TLS begins; as `Driver.dial` otherwise."""
        ...


@runtime_checkable
class Discardable(Protocol):
    """What a driver is too, where its library shares something between the drivers of a process, such as its threads."""

    def discard(self) -> None:
        """Release what the driver holds, and what it shares: the next driver is to have none of it.

        Called in place of `Driver.close` when a plugin has the driver restarted. Others that use what is shared go on with it.
        """
        ...
