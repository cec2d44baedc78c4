"""Requests that wait for their reply, and the answering of requests, over MQTT 5. Runs on the loop of its transport.

A request carries a response topic and correlation data (MQTT 5, 4.10). While it waits, the connection may move: where
the next broker has no session of ours it also has neither the request nor our replies, so the request is sent again, with
the same correlation data, until the reply comes or the deadline passes. A responder remembers its last replies, so a
request that comes again gets the same one.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from attrs import define, evolve, field

from switchgear import checks
from switchgear.deadline import Deadline
from switchgear.errors import Expired, InvalidOption, InvalidTopic, MessageError, TransportClosed
from switchgear.handling import is_coroutine_function
from switchgear.message import Properties, check_properties, check_topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.acceptance import Payload
    from switchgear.delivery import Delivery
    from switchgear.message import Message
    from switchgear.subscription import Subscription
    from switchgear.transport import AsyncTransport

log = logging.getLogger("switchgear.requests")

Key = tuple[str, bytes]

REPEATS: Final = (1.0, 8.0)
"""Seconds between two sendings of a request after its session was lost, doubled each time, and the longest: the
responder may come to the new broker later than we do."""

REPLIES_KEPT: Final = 1024
"""Replies that a responder remembers, for requests that come again."""

LARGEST_KEPT: Final = 8_000_000
"""Bytes of replies that a responder remembers."""


@define(eq=False)
class _Request:
    """One request that has no reply yet."""

    topic: str
    payload: Payload
    qos: int
    properties: Properties
    deadline: float
    reply: asyncio.Future[Message]
    delivery: Delivery | None = None
    repeating: asyncio.Task[None] | None = None


@define(eq=False)
class Requests:
    """The requests of one transport."""

    transport: AsyncTransport
    loop: asyncio.AbstractEventLoop
    topic: str
    _waiting: dict[bytes, _Request] = field(factory=dict, init=False)
    _subscription: Subscription | None = field(default=None, init=False)
    _lost_session: bool = field(default=False, init=False)

    async def ask(
        self, topic: str, payload: Payload, *, qos: int, timeout: float, properties: Properties | None
    ) -> Message:
        """Send a request and return its reply; what `AsyncTransport.request` says."""
        if not checks.is_number(timeout) or not 0 < timeout <= checks.LONGEST:
            raise InvalidOption("timeout", f"{checks.show(timeout)} is no number of seconds above 0, up to a year")
        if qos not in {1, 2}:
            raise InvalidOption(
                "qos", f"{checks.show(qos)} is neither 1 nor 2: a request that may be lost is no request"
            )
        if properties is not None:
            check_properties(properties)
        check_topic(topic)
        number = secrets.token_bytes(16)
        about = evolve(properties or Properties(), response_topic=self.topic, correlation_data=number)
        request = _Request(topic, payload, qos, about, self.loop.time() + timeout, self.loop.create_future())
        waits = self.transport._waits
        if not self._waiting:
            waits.park(self._check_hope)  # once for all of them
        self._waiting[number] = request
        try:
            async with Deadline(timeout, f"no reply to the request on {topic!r}"):
                self._check_hope()
                await self._hear_replies()
                self._send(request)
                return await request.reply
        finally:
            del self._waiting[number]
            if not self._waiting:
                waits.unpark(self._check_hope)
            if request.repeating is not None:
                request.repeating.cancel()
            if request.delivery is not None and not request.delivery.done():
                self.transport.cancel(request.delivery)
            if not request.reply.cancel() and not request.reply.cancelled():
                request.reply.exception()  # seen, or asyncio complains of a failure that came with the deadline

    async def _hear_replies(self) -> None:
        if self._subscription is None or self._subscription._inbox.is_closed:
            self._subscription = self.transport.subscribe(
                self.topic, self._replied, qos=1, retain_handling=2, deduplicate=False
            )
        await self._subscription.ready()

    async def _replied(self, message: Message) -> None:
        number = None if message.properties is None else message.properties.correlation_data
        request = self._waiting.get(number or b"")
        if request is None:
            log.debug("switchgear.reply_without_request", extra={"topic": message.topic})
        elif not request.reply.done():
            request.reply.set_result(message)

    def _send(self, request: _Request) -> None:
        left = request.deadline - self.loop.time()
        if left <= 0:
            return
        request.delivery = self.transport.publish(
            request.topic, request.payload, qos=request.qos, properties=request.properties, expires_after=left
        )
        request.delivery.add_done_callback(lambda delivery: self._sent(request, delivery))

    def _sent(self, request: _Request, delivery: Delivery) -> None:
        """The request was acknowledged, or ended: then there will be no reply."""
        error = delivery.error
        if error is not None and not isinstance(error, Expired) and not request.reply.done():
            request.reply.set_exception(error)

    def _check_hope(self) -> None:
        failure = self.transport._waits.failure
        if failure is not None:
            for request in self._waiting.values():
                if not request.reply.done():
                    request.reply.set_exception(failure)

    # Through a switch. -------------------------------------------------------------------------------------------

    def lose_session(self) -> None:
        """The broker has no session of ours: neither requests nor replies that were under way."""
        self._lost_session = True

    def open(self) -> None:
        """A connection is usable, the subscription for replies is back."""
        if not self._lost_session:
            return
        self._lost_session = False
        for request in self._waiting.values():
            if request.delivery is not None:
                if request.repeating is not None:
                    request.repeating.cancel()
                request.repeating = self.loop.create_task(self._repeat(request))

    async def _repeat(self, request: _Request) -> None:
        delay, longest = REPEATS
        while not request.reply.done():
            if request.delivery is None or request.delivery.done():
                with suppress(MessageError):  # such as a full outbox: the next time, then
                    self._send(request)
            await asyncio.sleep(delay)
            delay = min(longest, 2 * delay)

    def close(self) -> None:
        """The transport ends."""
        for request in self._waiting.values():
            if not request.reply.done():
                request.reply.set_exception(TransportClosed("request()"))


@define(eq=False)
class Responder:
    """Answers requests with what *answer* returns, a request that comes again with the same reply as before.

    Called on the threads where handlers run.
    """

    transport: AsyncTransport
    answer: Callable[[Message], Any]
    _replies: dict[Key, bytes] = field(factory=dict, init=False)
    _size: int = field(default=0, init=False)
    _at_work: set[Key] = field(factory=set, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def handler(self) -> Callable[[Message], Any]:
        """What the subscription is given."""
        return self._handle_async if is_coroutine_function(self.answer) else self._handle

    def _handle(self, message: Message) -> Awaitable[None] | None:
        key = _key(message)
        if not self._begin(key):
            self._repeat(key, message)
            return None
        try:
            answer = self.answer(message)
            if not inspect.isawaitable(answer):
                reply = self._keep(key, _as_reply(answer))
        except BaseException:
            self._end(key)
            raise
        if inspect.isawaitable(answer):
            return self._wait_for(answer, key, message)
        self._end(key)
        self._send(message, reply)
        return None

    async def _handle_async(self, message: Message) -> None:
        waiting = self._handle(message)
        if waiting is not None:
            await waiting

    async def _wait_for(self, answer: Awaitable[Any], key: Key | None, message: Message) -> None:
        try:
            reply = self._keep(key, _as_reply(await answer))
        finally:
            self._end(key)
        self._send(message, reply)

    def _begin(self, key: Key | None) -> bool:
        """Whether the answer must be made: it is not known, and nobody is at it."""
        with self._lock:
            if key is None:
                return True
            if key in self._replies or key in self._at_work:
                return False
            self._at_work.add(key)
            return True

    def _end(self, key: Key | None) -> None:
        with self._lock:
            if key is not None:
                self._at_work.discard(key)

    def _keep(self, key: Key | None, reply: bytes) -> bytes:
        if key is not None:
            with self._lock:
                self._replies[key] = reply
                self._size += len(reply)
                while len(self._replies) > REPLIES_KEPT or (self._size > LARGEST_KEPT and len(self._replies) > 1):
                    self._size -= len(self._replies.pop(next(iter(self._replies))))
        return reply

    def _repeat(self, key: Key | None, message: Message) -> None:
        reply = None if key is None else self._replies.get(key)
        if reply is not None:  # else it is being made, and is sent by the one who makes it
            self._send(message, reply)

    def _send(self, message: Message, reply: bytes) -> None:
        """Accept the reply into the outbox, before the request is acknowledged; from any thread."""
        about = message.properties
        if about is None or not about.response_topic:
            return
        transport = self.transport
        mine = Properties(correlation_data=about.correlation_data)
        qos, expiry = max(1, message.qos), about.message_expiry or None
        try:
            delivery = transport.accept(about.response_topic, reply, qos, False, mine, expiry)
        except InvalidTopic as error:
            log.warning("switchgear.unusable_response_topic", extra={"topic": message.topic, "why": str(error)})
            return
        if delivery is None:
            raise transport._outbox.full(len(reply))  # the handler is called again, and finds the reply
        loop = transport._loop
        assert loop is not None
        loop.call_soon_threadsafe(transport._sender.wake)
        if expiry is not None:
            loop.call_soon_threadsafe(transport._sender.watch_expiry)


def _key(message: Message) -> Key | None:
    """What tells a request from others, when its sender may send it again; else None."""
    about = message.properties
    if about is None or not about.response_topic or not about.correlation_data:
        return None
    return about.response_topic, about.correlation_data


def _as_reply(value: object) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a responder returned a {type(value).__name__}; a reply is bytes, str or None")
