"""MQTT CONNECT under a client id of our own, and a message there and back. Does I/O through the driver."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from switchgear.cause import Cause
from switchgear.credentials import Credentials
from switchgear.delivery import Delivery
from switchgear.doctor.finding import failed, passed, warned
from switchgear.drivers.base import AttemptFailed, DeafListener, Filter
from switchgear.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from switchgear.cause import Failure
    from switchgear.doctor.finding import Finding
    from switchgear.drivers.base import Connection, Driver
    from switchgear.endpoint import Endpoint
    from switchgear.message import Message
    from switchgear.profile import Profile

T = TypeVar("T")

REFUSED: Final = 0x80
"""From here on a reason code is a refusal (MQTT 5, 2.4)."""


class Ear(DeafListener):
    """Hears what becomes of one message."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.connection: Connection | None = None
        self.payload = secrets.token_hex(16).encode()
        self.acknowledged: asyncio.Future[int] = loop.create_future()
        self.arrived: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Failure] = loop.create_future()

    def on_acknowledged(self, _delivery: Delivery, code: int) -> None:
        """Part of `Listener`."""
        if not self.acknowledged.done():
            self.acknowledged.set_result(code)

    def on_message(self, message: Message, token: object) -> None:
        """Part of `Listener`."""
        if token is not None and self.connection is not None:
            self.connection.acknowledge(token)
        if message.payload == self.payload and not self.arrived.done():
            self.arrived.set_result(None)

    def on_lost(self, failure: Failure) -> None:
        """Part of `Listener`."""
        if not self.lost.done():
            self.lost.set_result(failure)


async def connect(
    driver: Driver, endpoint: Endpoint, profile: Profile, client_id: str, timeout: float
) -> tuple[Finding, Connection | None, Ear]:
    """CONNECT to *endpoint*, clean and without a will: the line, and the connection if there is one."""
    ear = Ear()
    started = time.monotonic()
    try:
        request = await Credentials(profile).visit(endpoint, timeout=timeout)
        link = await driver.dial(endpoint)
        connection = await driver.connect(link, request, ear)
    except AttemptFailed as error:
        shows = profile.tls is not None and profile.tls.has_certificate
        return _refused(error.failure, endpoint, client_id, shows_certificate=shows), None, ear
    ear.connection = connection
    seconds = time.monotonic() - started
    limits = connection.limits
    found = f"accepted {client_id!r} in {seconds * 1000:.0f} ms (reason 0x00)"
    facts = {
        "client_id": client_id,
        "code": 0,
        "seconds": seconds,
        "receive_maximum": limits.receive_maximum,
        "maximum_qos": limits.maximum_qos,
        "maximum_packet_size": limits.maximum_packet_size,
        "keepalive": limits.keepalive,
    }
    if limits.keepalive is not None:
        found += f", wants a keepalive of {limits.keepalive} s"
    return passed("mqtt.connect", found, **facts), connection, ear


def _refused(failure: Failure, endpoint: Endpoint, client_id: str, *, shows_certificate: bool) -> Finding:
    way_out = failure.advice
    if failure.cause in {Cause.CLIENT_ID_REFUSED, Cause.NOT_AUTHORIZED}:
        way_out += f"; this was tried as {client_id!r}: name another that this broker allows with --probe-client-id"
    if failure.cause in {Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST} and not endpoint.is_tls:
        way_out = "check that this port speaks MQTT without TLS; mqtts:// is with it"
    elif failure.cause in {Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST}:
        certificate = "not know our certificate" if shows_certificate else "want a certificate of ours (--cert-file)"
        way_out = f"the broker ended it without a word: it may {certificate}, or not allow this client id"
    code = f" (reason 0x{failure.code:02X})" if failure.code is not None else ""
    detail = f": {failure.detail}" if failure.detail else ""
    is_refusal = failure.cause in {Cause.PORT_REFUSED, Cause.BROKER_UNAVAILABLE}
    facts = {"client_id": client_id, "cause": failure.cause.value, "code": failure.code, "is_refusal": is_refusal}
    return failed("mqtt.connect", f"{failure.cause.value}{code}{detail}", way_out, **facts)


async def round_trip(connection: Connection, ear: Ear, topic: str, *, is_own: bool, timeout: float) -> Finding:
    """Subscribe to *topic*, publish to it, and wait for the message, *timeout* seconds in all.

    *is_own* says that the topic is a random one of ours: that a user may not use it says nothing of its own topics.
    """
    check = "mqtt.round_trip"
    judged = warned if is_own else failed
    name = "name a topic that this user may use with --topic"
    facts: dict[str, object] = {"topic": topic}
    step = "SUBACK"
    started = time.monotonic()
    qos = min(1, connection.limits.maximum_qos)
    try:
        async with asyncio.timeout(timeout):
            codes = await _unless_lost(connection.subscribe([Filter(topic, qos)]), ear)
            if codes[0] >= REFUSED:
                return judged(check, f"SUBSCRIBE to {topic} refused (reason 0x{codes[0]:02X})", name, **facts)
            step = "PUBACK"
            connection.send(Delivery(Waits(), 1, topic, ear.payload, qos, False))
            code = await _unless_lost(ear.acknowledged, ear) if qos else 0
            if code >= REFUSED:
                return judged(check, f"PUBLISH to {topic} refused (reason 0x{code:02X})", name, **facts)
            step = "message"
            await _unless_lost(ear.arrived, ear)
    except TimeoutError:
        if step == "message":
            found = f"the broker took the message to {topic}, and did not send it back in {timeout:g} s"
            way_out = f"it may forget what this user may not publish or read: {name}"
            return judged(check, found, way_out, **facts)
        found = f"no {step} in {timeout:g} s"
        return failed(check, found, "the broker is overloaded, or its disk is full: see its log", **facts)
    except ConnectionError as error:
        after = "SUBSCRIBE" if step == "SUBACK" else "PUBLISH"
        found = f"the broker closed the connection after {after} to {topic}: {error}"
        return judged(check, found, f"some brokers do so when it is not allowed: {name}", **facts)
    seconds = time.monotonic() - started
    return passed(check, f"{topic}, QoS {qos}, there and back in {seconds * 1000:.0f} ms", **facts, seconds=seconds)


async def _unless_lost(work: Awaitable[T], ear: Ear) -> T:
    """What *work* gives; raise ``ConnectionError`` when the connection is lost before."""
    task = asyncio.ensure_future(work)
    try:
        waited: set[asyncio.Future[Any]] = {task, ear.lost}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        task.cancel()
    raise ConnectionError(ear.lost.result().cause.value)
