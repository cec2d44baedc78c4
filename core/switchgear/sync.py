"""Transport: the same thing for synchronous code, over one background loop thread that the process shares.

A publish from another thread costs one append and, when the loop sleeps, one wake-up. Touches threads.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from switchgear.errors import TransportClosed, WouldDeadlock
from switchgear.loop_thread import LOOP
from switchgear.sync_subscription import Subscription
from switchgear.transport import DRAIN, AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from switchgear.acceptance import Payload
    from switchgear.delivery import Delivery
    from switchgear.endpoint import Endpoint
    from switchgear.errors import ConnectionFailed
    from switchgear.message import Message, Properties
    from switchgear.profile import Profile
    from switchgear.states import State
    from switchgear.stats import Stats
    from switchgear.window import Window

T = TypeVar("T")


_open: Final[set[Transport]] = set()

os.register_at_fork(after_in_child=_open.clear)


AT_EXIT: Final = 30.0
"""Seconds that the end of the process waits for all transports together: `DRAIN`, goodbyes, and plugins that are slow. A
loop that a coroutine handler blocks would hold it for ever."""


@atexit.register
def _close_all() -> None:
    """The process ends with transports open: what was accepted is sent while that is possible, then goodbye is said.

    To all at the same time: each whose broker is gone takes the whole of `DRAIN`.
    """
    closing = {transport: LOOP.run(transport._loop, transport._inner.close(DRAIN)) for transport in list(_open)}
    ends = {end for end in closing.values() if end is not None}
    concurrent.futures.wait(ends, AT_EXIT)
    for transport, end in closing.items():
        if end is not None and end.done():
            with contextlib.suppress(Exception):  # the interpreter is going; nobody is left to tell
                transport.close()


class Transport:
    """A resilient MQTT transport for synchronous code; made by `switchgear.connect`. Every method is thread-safe.

    Since: 0.1.
    """

    def __init__(self, profile: Profile) -> None:
        self._inner = AsyncTransport(profile)  # refuses a wrong configuration before anything is started
        self._is_closed = False
        self._closing = threading.RLock()  # a signal handler may close what is being closed
        try:
            self._loop = LOOP.acquire()
        except BaseException:  # no thread is left, say
            self._inner.close_now()
            raise
        _open.add(self)
        try:
            self._on_loop(self._inner.start)
        except BaseException:  # such as KeyboardInterrupt: nobody would get to close it
            self.close()
            raise

    def __repr__(self) -> str:
        return repr(self._inner).replace("AsyncTransport", "Transport")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(drain=DRAIN if kind is None else 0)

    # Crossing to the loop. ---------------------------------------------------------------------------------------

    def _on_loop(self, function: Callable[[], T], call: str = "this call") -> T:
        """What *function* returns or raises on the loop's thread."""
        if LOOP.is_current():
            return function()
        self._inner._waits.check_process(call)
        self._check_open(call)
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # raised again in the thread that asked
                future.set_exception(error)

        if not LOOP.call(self._loop, run):
            raise TransportClosed(call)
        with self._inner._waits.let_go():
            return future.result()

    def _wait(self, work: Coroutine[Any, Any, T], call: str) -> T:
        """What *work* returns or raises, from a thread that may block."""
        try:
            self._check_blocking(call)
        except BaseException:
            work.close()
            raise
        return self._result(work, call)

    def _result(self, work: Coroutine[Any, Any, T], call: str) -> T:
        """As `_wait`, unchecked."""
        future = None if self._is_closed else LOOP.run(self._loop, work)
        if future is None:
            work.close()
            raise TransportClosed(call)
        try:
            with self._inner._waits.let_go():
                return future.result()
        except concurrent.futures.CancelledError:  # the loop has ended: another thread closed the transport
            raise TransportClosed(call) from None
        except BaseException:  # such as KeyboardInterrupt: nobody waits any more
            future.cancel()
            raise

    def _check_open(self, call: str) -> None:
        if self._is_closed:
            raise TransportClosed(call)

    def _check_blocking(self, call: str) -> None:
        self._inner._waits.check(call)

    # Publishing. -------------------------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
        expires_after: float | None = None,
    ) -> Delivery:
        """Accept a message; what becomes of it is the `Delivery`'s to tell. It never waits for the network.

        It waits only while the outbox is full and ``when_full`` is ``"block"``. *payload* is bytes or text (sent as
        UTF-8). *expires_after* is in seconds.

        Raises:
            InvalidTopic: it cannot be published to, or the brokers behind this transport would change it.
            OutboxFull: there is no room, with ``when_full="raise"``.
            OutboxUnwritable: a durable outbox cannot write: the disk is full, or broken.
            MessageTooLarge: larger than MQTT or the outbox takes.
            GaveUp: the transport has stopped trying.
            TransportClosed: it was closed.
        """
        inner = self._inner
        delivery = inner.accept(topic, payload, qos, retain, properties, expires_after)
        while delivery is None:
            self._wait_for_room()
            delivery = inner.accept(topic, payload, qos, retain, properties, expires_after)
        sender = inner._sender
        if not sender._is_due:
            sender._is_due = True
            try:
                self._wake(sender.wake)
            except BaseException:  # such as KeyboardInterrupt: the next one wakes it
                sender._is_due = False
                raise
        if expires_after is not None:
            self._wake(sender.watch_expiry)
        return delivery

    def _wake(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # closed meanwhile, which has told the delivery, or kept it in its file
            self._loop.call_soon_threadsafe(function)

    def _wait_for_room(self) -> None:
        inner, outbox = self._inner, self._inner._outbox
        self._check_blocking("publish() on a full outbox")
        with outbox.lock:
            while not outbox.has_room() and inner._waits.failure is None and not inner._is_closed:
                outbox.wants_room = True
                outbox.room.wait(0.2)  # a wake-up may be missed between the look and the wait

    def cancel(self, delivery: Delivery) -> bool:
        """Take *delivery* back, when it was never sent; whether that was possible."""
        return self._on_loop(lambda: self._inner.cancel(delivery), "cancel()")

    def ready(self, timeout: float | None = None) -> None:
        """Wait until the outbox has room; *timeout* is in seconds. Raises `TimeoutError`, `GaveUp`."""
        self._wait(self._inner.ready(timeout), "ready()")

    def drain(self, timeout: float | None = None) -> None:
        """Wait until every accepted message has ended: acknowledged, or otherwise; *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out; the message says how many are left.
            GaveUp: the transport has stopped trying.
            WouldDeadlock: called from a hook, a handler or the event loop.
        """
        self._wait(self._inner.drain(timeout), "drain()")

    # Subscribing. ------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        topic_filter: str,
        handler: Callable[[Message], Any] | None = None,
        *,
        qos: int = 1,
        ack: str = "after",
        concurrency: int = 1,
        ordered: bool = False,
        deduplicate: Window | bool | None = None,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> Subscription:
        """Receive what matches *topic_filter*: *handler* is called on a worker thread, or iterate the result.

        See `AsyncTransport.subscribe` for the arguments and errors.
        """
        return self._on_loop(
            lambda: Subscription(
                self,
                self._inner.subscribe(
                    topic_filter,
                    handler,
                    qos=qos,
                    ack=ack,
                    concurrency=concurrency,
                    ordered=ordered,
                    deduplicate=deduplicate,
                    no_local=no_local,
                    retain_as_published=retain_as_published,
                    retain_handling=retain_handling,
                ),
            ),
            "subscribe()",
        )

    def unsubscribe(self, what: str | Subscription) -> None:
        """End a subscription, or all subscriptions to a topic filter. Unknown ones are no error."""
        if isinstance(what, Subscription):
            what.unsubscribe()
        else:
            self._on_loop(lambda: self._inner.unsubscribe(what), "unsubscribe()")

    # Requests and replies. ---------------------------------------------------------------------------------------

    def request(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        timeout: float = 10.0,
        qos: int = 1,
        properties: Properties | None = None,
    ) -> Message:
        """Send a request to *topic* and return the reply; see `AsyncTransport.request`.

        Raises:
            WouldDeadlock: called from a hook, a handler or the event loop; and what `AsyncTransport.request` raises.
        """
        work = self._inner.request(topic, payload, timeout=timeout, qos=qos, properties=properties)
        return self._wait(work, "request()")

    def respond(
        self, topic_filter: str, answer: Callable[[Message], Any], *, qos: int = 1, concurrency: int = 1
    ) -> Subscription:
        """Answer requests that match *topic_filter* with what *answer* returns; see `AsyncTransport.respond`."""
        return self._on_loop(
            lambda: Subscription(self, self._inner.respond(topic_filter, answer, qos=qos, concurrency=concurrency)),
            "respond()",
        )

    # Looking at it, and moving it. -------------------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        """What it was made from."""
        return self._inner.profile

    @property
    def client_id(self) -> str:
        """The MQTT client id."""
        return self._inner.client_id

    @property
    def state(self) -> State:
        """Where the transport is."""
        return self._inner.state

    @property
    def is_connected(self) -> bool:
        """Whether a usable connection exists: subscriptions are back."""
        return self._inner.is_connected

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it is connected, or being connected; None otherwise."""
        return self._inner.endpoint

    @property
    def last_error(self) -> ConnectionFailed | None:
        """Why there is no connection; None while connected."""
        return self._inner.last_error

    @property
    def depth(self) -> int:
        """Messages in the outbox."""
        return self._inner.depth

    @property
    def stats(self) -> Stats:
        """Counters; a snapshot."""
        return self._look(lambda: self._inner.stats, "stats")

    def explain(self) -> str:
        """The last decisions in words, one a line: when, what, why."""
        return self._look(self._inner.explain, "explain()")

    def _look(self, function: Callable[[], T], call: str) -> T:
        """What *function* returns: on the loop's thread while there is one."""
        with contextlib.suppress(TransportClosed):
            return self._on_loop(function, call)
        return function()

    def reconnect(self, why: str = "") -> None:
        """Make a new connection now: without back-off, with every quarantine lifted, also after giving up.

        Lists that change are asked for first.
        """
        self._on_loop(lambda: self._inner.reconnect(why), "reconnect()")

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait for a usable connection; *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out; the message says how the last attempt ended.
            ConnectionFailed: every endpoint is quarantined, for a reason that time does not mend.
            GaveUp: the transport has stopped trying.
        """
        self._wait(self._inner.wait_connected(timeout), "wait_connected()")

    def close(self, drain: float = 0) -> None:
        """Stop: wait *drain* seconds for acknowledgements, say goodbye, leave nothing behind. Again: nothing."""
        if self._inner._waits.is_foreign:
            return
        if LOOP.is_current():
            raise WouldDeadlock("close()", "the event loop")
        if self._is_closed:
            return
        self._inner._waits.check_thread("close()")
        with self._closing:
            if self._is_closed:
                return
            try:
                self._result(self._inner.close(drain), "close()")
            except TransportClosed:
                return  # a signal handler has closed it meanwhile
            except BaseException:  # such as KeyboardInterrupt while it drains: no more draining, but a goodbye
                with contextlib.suppress(Exception):
                    self._result(self._inner.close(), "close()")
                raise
            finally:
                if not self._is_closed:
                    self._is_closed = True
                    _open.discard(self)
                    LOOP.release()
