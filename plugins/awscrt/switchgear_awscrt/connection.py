"""One MQTT connection on the SDK: one ``mqtt5.Client``, from its start to its first failure. Its I/O is the SDK's.

The client is stopped at the first failure or loss, and the door that it came through is closed: it cannot try again.
What it has not delivered by then it drops; the outbox sends it on the next connection.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Final

from switchgear.cause import Cause, Failure, from_exception
from switchgear.drivers.base import AttemptFailed, Limits
from switchgear.drivers.flow import LARGEST
from switchgear.drivers.heartbeat import allowance
from switchgear.errors import InvalidOption, MessageTooLarge

from switchgear_awscrt.causes import VAGUE, failure_of
from switchgear_awscrt.mailbox import Mailbox, log
from switchgear_awscrt.packets import (
    UNKNOWN,
    codes_of,
    limits_of,
    message_of,
    publish_size,
    subscribe_packet,
)
from switchgear_awscrt.publisher import publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from switchgear.delivery import Delivery
    from switchgear.drivers.base import DriverSettings, Filter, Listener

    from switchgear_awscrt.publisher import Done
    from switchgear_awscrt.relay import Relay

GATHER: Final = 262_144
"""Bytes that may wait inside the SDK before it takes no more; it sends 4 KB at a time (aws-c-mqtt)."""

LARGE: Final = LARGEST - 200_000
"""Bytes of payload above which a packet's size is looked at though the broker has no limit: topic and properties count."""

BULKY: Final = 65_536
"""Bytes of a message from which on its size counts for how long an answer behind it may take."""

PING_FILTER: Final = "switchgear/ping/nobody-subscribes-to-this"
"""The SDK sends PINGREQ when it thinks fit, and does not tell of the answer. An UNSUBSCRIBE of a filter that nobody has
is answered by every broker (MQTT 5, 3.10.4), changes nothing, and needs no permission."""

LAST_WORDS: Final = 1.0
"""Seconds that the SDK gets, after the end of a connection, to say why; it has read all of it by then."""


class CrtConnection:
    """A connection through *relay*; see `switchgear.drivers.base.Connection`."""

    def __init__(self, sdk: Any, relay: Relay, settings: DriverSettings, listener: Listener) -> None:
        self.session_present = False
        self.limits = Limits()
        self.in_flight = 0
        self._sdk = sdk
        self._mqtt5 = sdk.mqtt5
        self._relay = relay
        self._settings = settings
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._mail = Mailbox(self._batch_end)
        self._client: Any = None
        self._publish: Callable[[Delivery, Done], None] = _nothing
        self._is_open = True
        self._is_leaving = False
        self._is_established = False
        self._was_writable = True
        self.attempted: asyncio.Future[None] = self._loop.create_future()
        self.acknowledged: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] | None = None
        self._answers: list[asyncio.Future[Any]] = []
        self._opened_at = self._loop.time()
        self._keepalive = settings.keepalive
        self._is_proved = False
        self._ping_sent: float | None = None
        self._allowed = 0.0  # seconds for its answer
        self._taken = 0  # bytes that the peer's system had taken at the last look
        self._largest = 0  # bytes of the largest message in flight, if it is bulky
        self._timer: asyncio.TimerHandle | None = None
        self._sent_0 = 0  # QoS 0 messages handed to the SDK, and those that it has written
        self._written_0 = 0
        relay.on_room = self._room
        relay.on_end = self._relay_ended

    def __repr__(self) -> str:
        return f"<CrtConnection {'open' if self._is_open else 'closed'} {self.in_flight} in flight>"

    def callbacks(self) -> dict[str, Any]:
        """What the SDK's client calls, on its thread."""
        return {
            "on_publish_callback_fn": self._published,
            "on_lifecycle_event_attempting_connect_fn": self._attempt,
            "on_lifecycle_event_connection_success_fn": self._success,
            "on_lifecycle_event_connection_failure_fn": self._failure,
            "on_lifecycle_event_disconnection_fn": self._disconnection,
            "on_lifecycle_event_stopped_fn": self._stop,
        }

    def start(self, client: Any) -> None:
        """Send CONNECT through *client*: `attempted` is done when the SDK begins, `acknowledged` when CONNACK is there."""
        self._client = client
        self._publish = publisher(self._sdk, client)
        client.start()

    # Sending. ----------------------------------------------------------------------------------------------------

    @property
    def is_writable(self) -> bool:
        """Whether the connection takes more."""
        self._was_writable = self._relay.is_writable and self._relay.waiting < GATHER
        return self._was_writable

    def send(self, delivery: Delivery) -> None:
        """Send *delivery*, always as new: a new client has packet ids of its own. Raises `MessageTooLarge`."""
        if not self._is_open or self._is_leaving:
            return
        size = len(delivery.payload)
        limit = self.limits.maximum_packet_size
        if limit is not None or size > LARGE:
            self._check_size(delivery, limit)
        if size > BULKY:
            self._largest = max(self._largest, size)
        qos = delivery.qos
        if qos == 1:
            self._publish(delivery, functools.partial(self._puback, delivery))
            self.in_flight += 1
            if self.in_flight == 1:
                self._watch()
        elif qos == 0:
            self._publish(delivery, self._wrote)
            self._sent_0 += 1
        else:
            raise InvalidOption("qos", "AWS's SDK carries no QoS 2; publish with qos=1, or choose driver='paho'")
        self._relay.waiting += size

    def _check_size(self, delivery: Delivery, limit: int | None) -> None:
        size = publish_size(delivery, self._loop.time())
        if size > (limit or LARGEST):
            whose = "the broker" if limit is not None else "MQTT"
            raise MessageTooLarge(delivery.topic, size, limit or LARGEST, whose=whose)

    def _wrote(self, *_: Any) -> None:
        """A QoS 0 message is out. On the SDK's thread, the only one that counts here."""
        self._written_0 += 1

    def _puback(self, delivery: Delivery, error: int, _qos: int, code: int, *_: Any) -> None:
        """PUBACK, or the SDK's error code. On the SDK's thread."""
        self._mail.post(self._acknowledged, delivery, error, code)

    def _acknowledged(self, delivery: Delivery, error: int, code: int) -> None:
        if not self._is_open:
            return
        if error:
            failure = failure_of(self._sdk.exceptions.from_code(error))
            if failure.cause is not Cause.DRIVER_FAILED:
                return  # the connection is ending, and the outbox has the message
            log.warning("switchgear.message_not_sent", extra={"topic": delivery.topic, "error": failure.detail})
            code = UNKNOWN
        self.in_flight -= 1
        if not self.in_flight:
            self._largest = 0
        self._is_proved = True
        self._listener.on_acknowledged(delivery, code)

    async def subscribe(self, filters: Sequence[Filter]) -> list[int]:
        """One SUBSCRIBE; its SUBACK codes."""
        if any(each.qos == 2 for each in filters):
            raise InvalidOption("qos", "AWS's SDK carries no QoS 2; subscribe with qos=1, or choose driver='paho'")
        codes = codes_of(await self._ask("subscribe", subscribe_packet(self._mqtt5, filters)))
        self._healthy()
        return codes

    async def unsubscribe(self, topic_filters: Sequence[str]) -> list[int]:
        """One UNSUBSCRIBE; its UNSUBACK codes."""
        packet = self._mqtt5.UnsubscribePacket(topic_filters=list(topic_filters))
        codes = codes_of(await self._ask("unsubscribe", packet))
        self._healthy()
        return codes

    async def _ask(self, call: str, packet: Any) -> Any:
        if not self._is_open or self._is_leaving:
            raise ConnectionError("the connection is closed")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._answers.append(answer)
        getattr(self._client, call)(packet).add_done_callback(
            lambda done: self._mail.post(self._answered, answer, done)
        )
        try:
            return await answer
        finally:
            self._answers.remove(answer)

    def _answered(self, answer: asyncio.Future[Any], done: Any) -> None:
        if answer.done():
            return
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(ConnectionError(f"the SDK says {failure_of(error).detail}"))

    def acknowledge(self, token: object) -> None:
        """PUBACK for a received message."""
        if token is None or not self._is_open or self._client is None:
            return
        try:
            self._client.invoke_publish_acknowledgement(token)
        except Exception as error:  # the connection has just ended for the SDK; the broker sends the message again
            log.debug("switchgear.acknowledgement_too_late", extra={"error": str(error)})

    # Receiving. --------------------------------------------------------------------------------------------------

    def _published(self, data: Any) -> None:
        """A message came. On the SDK's thread: it only takes the right to acknowledge it, and leaves a note."""
        take = data.acquire_publish_acknowledgement_control
        self._mail.post(self._message, data.publish_packet, None if take is None else take())

    def _message(self, packet: Any, token: Any) -> None:
        if self._is_open:
            self._listener.on_message(message_of(packet), token)

    def _batch_end(self) -> None:
        if self._is_open and self._is_established:
            self._listener.on_batch_end()

    def _room(self) -> None:
        if not self._was_writable and self._is_open and self.is_writable:
            self._listener.on_writable()

    # Is it alive? ------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Ask the broker for a sign of life, unless one is awaited."""
        if self._ping_sent is None and self._is_open and not self._is_leaving:
            self._ping_sent = self._loop.time()
            self._allowed = allowance(self._settings, self._largest, self._keepalive)
            _, self._taken = self._relay.progress()
            packet = self._mqtt5.UnsubscribePacket(topic_filters=[PING_FILTER])
            self._client.unsubscribe(packet).add_done_callback(lambda done: self._mail.post(self._pong, done))
            self._watch()

    def _pong(self, done: Any) -> None:
        if self._is_open and done.exception() is None:
            self._ping_sent = None
            self._healthy()

    def _healthy(self) -> None:
        self._is_proved = True
        if self._is_open:
            self._listener.on_healthy()

    def _watch(self) -> None:
        """Set the timer to the next moment at which something may be overdue; none when nothing can be."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        moments = []
        if self._ping_sent is not None:
            moments.append(max(self._ping_sent, self._relay.heard_at) + self._allowed)
        else:
            patience = self._settings.ack_timeout
            if patience is not None and self.in_flight:
                moments.append(max(self._relay.heard_at, self._loop.time() - patience / 2) + patience)
            if not self._is_proved and self._keepalive:
                moments.append(self._opened_at + 0.75 * self._keepalive)
        if moments and self._is_open:
            self._timer = self._loop.call_at(min(moments), self._tick)

    def _tick(self) -> None:
        """Ping for an overdue acknowledgement, and for the first proof of health; a missing answer is the end."""
        self._timer = None
        now = self._loop.time() + 1e-3  # a timer may fire a little early
        patience = self._settings.ack_timeout
        if self._ping_sent is not None:
            if now >= max(self._ping_sent, self._relay.heard_at) + self._allowed:
                before, (_, self._taken) = self._taken, self._relay.progress()
                if self._taken == before:
                    self._lose(Failure(Cause.KEEPALIVE_TIMEOUT, f"no answer to a ping in {self._allowed:g} s"))
                    return
                self._ping_sent = now  # a large message on a slow link: the ping has not arrived either
        elif (patience is not None and self.in_flight and now >= self._relay.heard_at + patience) or (
            not self._is_proved and self._keepalive and now >= self._opened_at + 0.75 * self._keepalive
        ):
            self.ping()
        self._watch()

    # What the SDK says. ------------------------------------------------------------------------------------------

    def _attempt(self, _data: Any) -> None:
        """It begins. On the SDK's thread, as the four that follow."""
        self._mail.post(self._has_begun)

    def _success(self, data: Any) -> None:
        self._mail.post(self._succeeded, data)

    def _failure(self, data: Any) -> None:
        self._mail.post(self._failed, data)

    def _disconnection(self, data: Any) -> None:
        self._mail.post(self._disconnected, data)

    def _stop(self, _data: Any) -> None:
        self._mail.post(self._has_stopped)

    def _has_begun(self) -> None:
        if not self.attempted.done():
            self.attempted.set_result(None)

    def _succeeded(self, data: Any) -> None:
        if self.acknowledged.done():
            return
        connack = data.connack_packet
        self.session_present = bool(connack.session_present)
        self.limits = limits_of(connack, data.negotiated_settings)
        if self.limits.keepalive is not None:
            self._keepalive = self.limits.keepalive
        self._opened_at = self._loop.time()
        self._is_established = True
        self.acknowledged.set_result(None)
        self._watch()

    def _failed(self, data: Any) -> None:
        self._lose(self._known(failure_of(data.exception, data.connack_packet)))

    def _disconnected(self, data: Any) -> None:
        self._lose(self._known(failure_of(data.exception, data.disconnect_packet)))

    def _known(self, failure: Failure) -> Failure:
        """*failure*, with what the socket knows where the SDK is vague."""
        if failure.code is None and failure.cause in VAGUE and self._relay.is_over:
            error = self._relay.error
            return Failure(Cause.CLOSED_BY_BROKER) if error is None else from_exception(error)
        return failure

    def _relay_ended(self) -> None:
        """The socket is gone: the SDK is about to say why; if it does not, we do."""
        if self._is_open and not self._is_leaving:
            self._loop.call_later(LAST_WORDS, self._lose, self._known(Failure(Cause.CONNECTION_LOST)))

    def _has_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    # The end. ----------------------------------------------------------------------------------------------------

    async def disconnect(self) -> None:
        """DISCONNECT after all that was sent, flushed: otherwise the broker publishes the will."""
        if not self._is_open or self._is_leaving:
            return
        self._is_leaving = True
        client = self._client
        while self._is_open and not self._all_written(client):  # noqa: ASYNC110 - the SDK tells nobody
            await asyncio.sleep(0.002)
        if self._is_open:
            self._client = None  # stopped once, and in order
            self._stopped = self._loop.create_future()
            client.stop(self._mqtt5.DisconnectPacket())
            await self._stopped
            await self._relay.flushed()
        self.abort()

    def _all_written(self, client: Any) -> bool:
        """Whether all that was handed to the SDK has gone to its socket: stopping drops what has not."""
        return self._written_0 >= self._sent_0 and client.get_stats().unacked_operation_count >= self.in_flight

    def abort(self) -> None:
        """Drop it at once."""
        if not self._is_open:
            return
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(ConnectionError("the connection was lost"))
        if not self.acknowledged.done():
            self.acknowledged.cancel()
        self._relay.abort()
        self._publish = _nothing  # it holds the client, whose callbacks hold us; the SDK's part of that circle is in C
        client, self._client = self._client, None
        if client is not None:
            client.stop()

    def _lose(self, failure: Failure) -> None:
        if not self._is_open or failure.cause is Cause.REQUESTED:
            return  # we have ended it, or are about to
        if not self._is_established:
            if not self.acknowledged.done():
                self.acknowledged.set_exception(AttemptFailed(failure))
            return
        is_leaving = self._is_leaving
        self.abort()
        if not is_leaving:
            self._listener.on_lost(failure)


def _nothing(_delivery: Delivery, _done: Done) -> None:
    """Where messages go when the client is gone: they stay in the outbox."""
