"""AsyncTransport: what an asyncio application holds. It runs on the caller's loop; all I/O is its manager's.

It joins the parts: outbox and sender, subscriptions and receiver, manager and machine, plugins and narrator.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Self

from switchgear import events as ev
from switchgear import process_restart
from switchgear.acceptance import Acceptance, Payload, check_ids, unsupported_qos
from switchgear.checks import no_generator_function
from switchgear.deadline import Deadline
from switchgear.drivers.base import DriverSettings, Filter
from switchgear.ears import EventCallback
from switchgear.errors import (
    ConnectionFailed,
    GaveUp,
    InvalidOption,
    TransportClosed,
)
from switchgear.gate import Gate
from switchgear.manager import ConnectionManager
from switchgear.message import (
    Message,
    Properties,
    check_filter,
)
from switchgear.narrator import Narrator
from switchgear.outbox import open_outbox
from switchgear.plan import make_plan
from switchgear.plugins import Registry
from switchgear.plugins import registry as installed
from switchgear.receiver import HandlerSettings, Inbox
from switchgear.requests import Requests, Responder
from switchgear.sender import Sender
from switchgear.silence import answers_within
from switchgear.states import State
from switchgear.stats import Stats
from switchgear.subscriber import Subscriber
from switchgear.subscription import Subscription
from switchgear.waits import Waits
from switchgear.window_file import open_window

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from switchgear.delivery import Delivery
    from switchgear.drivers.base import Driver
    from switchgear.endpoint import Endpoint
    from switchgear.hook_runner import Runner
    from switchgear.profile import Profile
    from switchgear.window import Window

DRAIN = 5.0
"""Seconds that leaving a ``with`` block waits for acknowledgements."""

ACKS = ("after", "at_once", "manual")

_RNG = random.SystemRandom()  # one for all: a generator of its own would take 2.5 KB of each transport


class AsyncTransport:
    """A resilient MQTT transport on the running event loop; made by `switchgear.aio.connect`. Since: 0.1.

    `publish`, `unsubscribe` and `reconnect` are plain calls that never wait, from any thread: plain handlers have one of
    their own. `subscribe` is made on the loop's thread. What waits is awaited there: `drain`, `ready`, `wait_connected`,
    `close`; a delivery on any loop. In the wrong place they raise `WrongLoop`.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        registry: Registry | None = None,
        rng: random.Random | None = None,
        runner: Runner | None = None,
        make_driver: Callable[[DriverSettings], Driver] | None = None,
    ) -> None:
        self.profile = profile
        self._registry = registry or installed()
        self._rng = rng or _RNG
        self._runner = runner
        self._make_driver = make_driver
        if profile.tls is not None:
            profile.tls.check()
        self._plan = make_plan(profile, self._registry)
        self.client_id = profile.client_id or f"switchgear-{self._rng.getrandbits(48):012x}"
        self._waits = Waits()
        self._is_closed = False
        self._is_suspended = False
        self._changed: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        # Names of plugins and of the driver are checked here, before anything is started.
        extra = (EventCallback(profile.on_event),) if profile.on_event is not None else ()
        self._strategies = self._registry.strategies(
            self._plan.strategies,
            extra=extra,
            disabled=profile.disable_plugins,
            hook_timeout=profile.hook_timeout,
            on_problem=self._plugin_problem,
            runner=runner,
            options=profile.plugin_options,
        )
        self._first_driver: Driver | None = self._new_driver()
        check_ids(profile, self._plan.protocol)
        # Files come last: nothing that is refused above leaves one open.
        self._window = open_window(profile.deduplicate)
        try:
            self._outbox = open_outbox(profile, self._waits)
        except BaseException:
            self._close_window()
            raise
        prefix = uuid.UUID(int=self._rng.getrandbits(128)).hex[:16] if profile.message_id else ""
        self._acceptance = Acceptance(
            self._outbox, self._waits, self._plan.checks, self._first_driver, prefix, profile.envelope
        )
        self._accept = self._acceptance.accept

    def _close_window(self) -> None:
        if self._window is not None and self._window is not self.profile.deduplicate:
            self._window.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client_id} {self.state.value} {self.endpoint or ''} waiting={self.depth}>"

    def __del__(self) -> None:
        if getattr(self, "_loop", None) is not None and not self._is_closed and not self._waits.is_foreign:
            what = f"unclosed {self!r}; leave it with `async with`, or await its close()"
            warnings.warn(what, ResourceWarning, source=self, stacklevel=1)

    # Starting. ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin to connect, on the running loop; `switchgear.aio.connect` and ``async with`` do it."""
        if self._loop is not None:
            return self
        loop = self._loop = self._waits.loop = asyncio.get_running_loop()
        self._narrator = Narrator(loop.time, self.client_id, self._strategies.on_event)
        self._sender = Sender(
            self._outbox,
            loop,
            self.profile.max_in_flight,
            self.profile.drain_rate,
            self._narrator.emit,
            self.profile.drain_bytes,
        )
        self._outbox.on_room = self._outbox.give_room
        self._handlers = HandlerSettings(
            self.profile.handler_retries, self.profile.inbox_limit, self.profile.dead_letter, loop, self._narrator.emit
        )
        self._gate = Gate(self, self._outbox, self._sender, self._waits)
        self._manager = self._gate.manager = ConnectionManager(
            self.profile,
            self._plan,
            self.client_id,
            self._strategies,
            self._narrator,
            self._gate,
            self._next_driver,
            self._new_driver,
            self._rng,
            loop,
        )
        carries_ids = self._plan.protocol == "5" or self.profile.envelope is not None
        self._subscriber = self._gate.subscriber = Subscriber(
            loop,
            self._narrator.emit,
            self._manager.spawn,
            answers_within(self.profile.connect_timeout),
            self._manager.unanswered,
            self.profile.envelope,
            self._window,
            carries_ids,
        )
        self._requests = self._gate.requests = Requests(
            self, loop, self.profile.reply_topic or f"replies/{_as_level(self.client_id)}"
        )
        self._outbox.start(loop, emit=self._narrator.emit, on_change=self._outbox_changed)
        process_restart.add(self, loop)
        self._manager.feed(ev.StartRequested())
        return self

    def _outbox_changed(self) -> None:
        """Messages came from the disk, or expired there."""
        if not self._is_closed:
            self._sender.pump()
            self._sender.watch_expiry()

    def _new_driver(self, probe_client_id: str | None = None) -> Driver:
        settings = DriverSettings(
            client_id=probe_client_id or self.client_id,
            protocol=self._plan.protocol,
            keepalive=self.profile.keepalive,
            connect_timeout=self.profile.connect_timeout,
            tls=self.profile.tls,
            will=None if probe_client_id else self.profile.will,
            session_expiry=self.profile.session_expiry,
            receive_maximum=self.profile.receive_maximum,
            maximum_packet_size=self.profile.max_packet_size,
            ack_timeout=self.profile.ack_timeout,
        )
        if self._make_driver is not None:
            return self._make_driver(settings)
        driver = self._registry.provide_driver(
            self.profile.driver, settings, options=self.profile.plugin_options, extra=self.profile.plugins
        )
        spoken = self._plan.spoken_by(driver)
        if spoken is not self._plan:
            driver.close()
            self._plan = spoken
            return self._new_driver(probe_client_id)
        if settings.will is not None and settings.will.qos not in driver.features.qos:
            raise unsupported_qos("will.qos", driver, settings.will.qos)
        return driver

    def _next_driver(self) -> Driver:
        driver, self._first_driver = self._first_driver, None
        return driver or self._new_driver()

    def __await__(self) -> Generator[Any, None, Self]:
        """``await switchgear.aio.connect(...)`` starts it and gives the transport."""
        yield from asyncio.sleep(0).__await__()
        return self.start()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self.close(drain=DRAIN if kind is None else 0)

    def _check_open(self, call: str) -> None:
        if self._is_closed:
            raise TransportClosed(call)
        self._waits.check_process(call)
        self._waits.check_home(call)
        if self._loop is None:
            self.start()

    def _sent_home(self, call: str, function: Callable[[], object]) -> bool:
        """From another thread, such as a plain handler's, have *function* called on our loop; whether it is one."""
        if self._is_closed and self._waits.is_elsewhere:
            raise TransportClosed(call)
        return self._waits.send_home(call, function)

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

        *payload* is bytes or text (sent as UTF-8). *expires_after* is in seconds; what no broker has by then ends as
        `Expired` (on MQTT 5 the broker is told the rest of the time).

        Raises:
            InvalidTopic: it cannot be published to, or the brokers behind this transport would change it.
            InvalidOption: another argument has an impossible value, or a QoS that the driver does not carry.
            OutboxFull: there is no room (await `ready` first, or choose another ``when_full``).
            OutboxUnwritable: a durable outbox cannot write: the disk is full, or broken.
            MessageTooLarge: larger than MQTT or the outbox takes.
            GaveUp: the transport has stopped trying.
            TransportClosed: it was closed, or its event loop has ended.
        """
        is_elsewhere = asyncio._get_running_loop() is not self._loop and self._loop is not None
        if is_elsewhere:
            self._waits.check_loop("publish()")
        delivery = self.accept(topic, payload, qos, retain, properties, expires_after)
        if delivery is None:
            raise self._outbox.full(len(payload or b""))
        sender = self._sender
        if is_elsewhere:
            self._sent_home("publish()", sender.wake if expires_after is None else sender.wake_expiring)
            return delivery
        if not sender._is_due:
            sender.schedule()
        if expires_after is not None:
            sender.watch_expiry()
        return delivery

    def accept(  # noqa: PLR0917 - positional for speed
        self,
        topic: str,
        payload: Payload,
        qos: int,
        retain: bool,  # noqa: FBT001 - the same
        properties: Properties | None,
        expires_after: float | None,
    ) -> Delivery | None:
        """What `publish` does before it tells the loop; None where it would block. From any thread."""
        if self._is_closed or self._loop is None or self._waits.is_foreign:
            self._check_open("publish()")
        return self._accept(topic, payload, qos, retain, properties, expires_after)

    def cancel(self, delivery: Delivery) -> bool:
        """Take *delivery* back, when it was never sent; whether that was possible."""
        self._waits.check_home("cancel()")
        return self._outbox.cancel(delivery)

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until the outbox has room; *timeout* is in seconds. Raises `TimeoutError`, `GaveUp`."""
        self._check_open("ready()")
        async with Deadline(timeout, "ready()"):
            while not self._outbox.has_room():
                self._outbox.wants_room = True
                await self._news("ready()")

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until every accepted message has ended: acknowledged, or otherwise; *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out; the message says how many are left.
            GaveUp: the transport has stopped trying.
        """
        self._check_open("drain()")
        async with Deadline(timeout, lambda: f"drain(): {self.depth} messages are not yet acknowledged"):
            while self.depth:
                if self._waits.failure is not None:
                    raise self._waits.failure
                await self._change()

    async def _news(self, call: str) -> None:
        """As `_change`, for *call*, which the end of the transport and its giving up end."""
        if self._is_closed:
            raise TransportClosed(call)
        if self._waits.failure is not None:
            raise self._waits.failure
        await self._change()

    def _tell(self) -> None:
        """Something has changed that somebody may wait for."""
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    async def _change(self) -> None:
        """Wait until something has changed that somebody may wait for."""
        if self._changed is None:
            self._changed = asyncio.Event()  # only while somebody waits: it takes 900 bytes
        self._sender.on_progress = self._tell
        self._outbox.on_room = self._room
        await self._changed.wait()

    def _room(self) -> None:
        self._outbox.give_room()
        self._tell()

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
        """Receive what matches *topic_filter*: *handler* is called with each message, or iterate the result.

        A plain function runs on a worker thread, a coroutine function on the loop; ``concurrency`` of them at a time:
        one handles all in order of arrival, several in any order, or, ``ordered``, those of each topic in order.
        ``ack`` says when a message is acknowledged: ``"after"`` the handler has returned (or the iterator asked for
        the next), ``"at_once"`` while the inbox has room, or ``"manual"`` by ``message.ack()``. ``deduplicate`` says
        what was handled already: a `Window`, True for one of its own, False for none; None: as the profile says.

        Raises:
            InvalidTopic: it is no topic filter, or the brokers behind this transport would change it.
            InvalidOption: another argument has an impossible value.
            TransportClosed: it was closed.
        """
        self._check_open("subscribe()")
        check_filter(topic_filter)
        for check in self._plan.checks:
            check(topic_filter)
        self._acceptance.check_qos(qos)
        if ack not in ACKS:
            raise InvalidOption("ack", f"{ack!r} is unknown", valid=ACKS)
        if handler is not None and not callable(handler):
            raise InvalidOption("handler", f"a {type(handler).__name__} cannot be called")
        if handler is not None:
            no_generator_function("handler", handler)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidOption("concurrency", f"{concurrency!r} is no whole number of at least 1")
        if not isinstance(ordered, bool):
            raise InvalidOption("ordered", f"{ordered!r} is neither True nor False")
        window = self._subscriber.window_for(topic_filter, deduplicate)
        if retain_handling not in {0, 1, 2}:
            raise InvalidOption("retain_handling", f"{retain_handling!r} is none of 0, 1, 2 (MQTT 5, 3.8.3.1)")
        wanted = Filter(
            topic_filter,
            qos,
            no_local=no_local,
            retain_as_published=retain_as_published,
            retain_handling=retain_handling,
        )
        inbox = Inbox(wanted, self._handlers, ack, handler, concurrency, ordered, window)
        subscription = Subscription(self, inbox)
        self._subscriber.add(subscription)
        return subscription

    def unsubscribe(self, what: str | Subscription) -> None:
        """End a subscription, or all subscriptions to a topic filter. Unknown ones are no error.

        Messages that arrived and were not handled yet are dropped, and acknowledged; `close` leaves them to the broker.
        Handlers that are at work go on.
        """
        if not self._sent_home("unsubscribe()", lambda: self._unsubscribe(what)):
            self._check_open("unsubscribe()")
            self._unsubscribe(what)

    def _unsubscribe(self, what: str | Subscription) -> None:
        for subscription in self._subscriber.wanted.named(what) if isinstance(what, str) else [what]:
            self._subscriber.remove(subscription)

    # Requests and replies. ---------------------------------------------------------------------------------------

    async def request(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        timeout: float = 10.0,
        qos: int = 1,
        properties: Properties | None = None,
    ) -> Message:
        """Send a request to *topic* and return the reply. MQTT 5 only; *timeout*, in seconds, is the deadline.

        The reply comes to the option ``reply_topic``. A switch in the middle is survived: where the next broker has no
        session, the request is sent again until the reply comes, so a responder may see it more than once, with the
        same correlation data. After the deadline the request expires, at the broker too.

        Raises:
            TimeoutError: there was no reply in time.
            SubscriptionRefused: the broker does not let us hear replies.
            MessageError: the request was not accepted, or ended otherwise.
            InvalidTopic, InvalidOption: an argument cannot be used.
            GaveUp: the transport has stopped trying.
            TransportClosed: it was closed.
        """
        self._check_open("request()")
        self._check_requests("request()")
        return await self._requests.ask(topic, payload, qos=qos, timeout=timeout, properties=properties)

    def respond(
        self, topic_filter: str, answer: Callable[[Message], Any], *, qos: int = 1, concurrency: int = 1
    ) -> Subscription:
        """Answer requests that match *topic_filter* with what *answer* returns: bytes, text, or None for nothing.

        MQTT 5 only. *answer* is called as a handler of `subscribe` is, also for a message that wants no reply. The reply
        is in the outbox before the request is acknowledged. The last 1 024 replies are remembered: a request that comes
        again gets the same one, and *answer* is not called.

        Raises:
            InvalidTopic, InvalidOption: as `subscribe`.
            TransportClosed: it was closed.
        """
        self._check_open("respond()")
        self._check_requests("respond()")
        if not callable(answer):
            raise InvalidOption("answer", f"a {type(answer).__name__} cannot be called")
        no_generator_function("answer", answer)
        handler = Responder(self, answer).handler()
        return self.subscribe(topic_filter, handler, qos=qos, concurrency=concurrency, deduplicate=False)

    def _check_requests(self, call: str) -> None:
        if self._plan.protocol != "5":
            raise InvalidOption("protocol", f"{call} needs response topics, which MQTT 3.1.1 has not; set protocol='5'")

    # Looking at it, and moving it. -------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the transport is."""
        return State.STOPPED if self._loop is None or self._loop.is_closed() else self._manager.machine.state

    @property
    def is_connected(self) -> bool:
        """Whether a usable connection exists: subscriptions are back."""
        return self.state is State.CONNECTED

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it is connected, or being connected; None otherwise."""
        current = None if self._loop is None else self._manager.machine.current
        return None if current is None else current.endpoint

    @property
    def last_error(self) -> ConnectionFailed | None:
        """Why there is no connection: how the last attempt or connection ended; None while connected."""
        if self._loop is None:
            return None
        machine = self._manager.machine
        if machine.state is State.CONNECTED or machine.last_failure is None:
            return None
        return ConnectionFailed(machine.last_failure, endpoint=str(machine.last_endpoint), attempt=machine.attempts)

    @property
    def depth(self) -> int:
        """Messages in the outbox."""
        return len(self._outbox)

    @property
    def stats(self) -> Stats:
        """Counters; a snapshot."""
        started = self._loop is not None
        machine = self._manager.machine if started else None
        return Stats(
            accepted=self._outbox.accepted,
            acknowledged=self._sender.acknowledged if started else 0,
            refused=self._sender.refused if started else 0,
            expired=self._sender.expired if started else 0,
            dropped=(self._sender.dropped if started else 0) + self._outbox.unreported_drops,
            waiting=self.depth,
            waiting_bytes=self._outbox.size,
            received=self._subscriber.received if started else 0,
            inbox_dropped=self._handlers.dropped if started else 0,
            handler_errors=self._handlers.failed if started else 0,
            duplicates=self._handlers.duplicates if started else 0,
            connections=self._gate.connections if started else 0,
            attempts=machine.generation if machine else 0,
            outage=machine.outage(self._loop.time()) if machine and self._loop else 0.0,
            plugin_problems=dict(self._strategies.problems),
        )

    def explain(self) -> str:
        """The last decisions in words, one a line: when, what, why."""
        return "" if self._loop is None else self._narrator.explain()

    def reconnect(self, why: str = "") -> None:
        """Make a new connection now: without back-off, with every quarantine lifted, also after giving up.

        Lists that change are asked for first.
        """
        if not self._sent_home("reconnect()", lambda: self._reconnect(why)):
            self._check_open("reconnect()")
            self._reconnect(why)

    def _reconnect(self, why: str) -> None:
        if self._is_closed:  # since another thread asked for it
            return
        self._waits.fail(None)
        self._gate.fatal = None
        if not self._is_suspended:  # else it comes back by itself, or with the next process
            self._manager.questions.lists_are_old = True
            self._manager.feed(ev.ReconnectRequested(why))

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Wait for a usable connection; *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out; the message says how the last attempt ended.
            ConnectionFailed: every endpoint is quarantined, for a reason that time does not mend.
            GaveUp: the transport has stopped trying.
        """
        self._check_open("wait_connected()")
        async with Deadline(timeout, lambda: f"wait_connected(): {self.last_error or 'no attempt has ended yet'}"):
            while self.state is not State.CONNECTED:
                if self._is_closed:
                    raise TransportClosed("wait_connected()")
                failure = self._waits.failure or self._gate.fatal
                if failure is not None:
                    raise failure
                await self._change()

    async def close(self, drain: float = 0) -> None:
        """Stop: wait *drain* seconds for acknowledgements, say goodbye, leave nothing behind. Again: wait for that.

        Cancelled while it drains, the transport stays open; cancelled later, the closing goes on behind.
        Messages that are left then end as `Cancelled`: an outbox in memory ends with its transport. A durable one keeps
        them in its file, and whoever still waits for one hears `TransportClosed`.
        """
        if self._waits.is_foreign:
            return
        if self._loop is None or self._loop.is_closed():
            self.close_now()
            return
        self._waits.check_home("close()")
        if drain and self.depth and not self._is_closed and self._waits.failure is None:
            # What is left is told to each delivery below; closed: somebody else did not want to wait.
            with contextlib.suppress(TimeoutError, GaveUp, TransportClosed):
                await self.drain(drain)
        if self._ending is None:
            self._is_closed = True
            self._ending = self._loop.create_task(self._end(asyncio.current_task()))
        await asyncio.shield(self._ending)  # whoever waits may be cancelled; the end goes on, and the next one waits

    def close_now(self) -> None:
        """What `close` does where there is no loop yet, or no longer; it waits for the disk."""
        if not self._is_closed:
            self._is_closed = True
            self._outbox.close_now()
            process_restart.remove(self)
            self._close_window()
            self._waits.fail(self._outbox.closed())

    async def _end(self, closer: asyncio.Task[Any] | None) -> None:
        """The rest of `close`, once, for *closer*. Where the loop itself ends meanwhile, what needs no loop is done."""
        self._requests.close()
        self._subscriber.close()
        self._handlers.close(closer)
        count, was_cut = 0, True
        try:
            await self._manager.close()
            count = await self._outbox.close()
            was_cut = False
        finally:
            self._sender.close()
            if was_cut:
                self._outbox.close_now()
            process_restart.remove(self)
            self._close_window()
            if count:
                self._narrator.emit("message_dropped", count=count, why="the transport was closed")
            self._waits.fail(self._outbox.closed())
            self._tell()

    # What a restart of the process calls. ------------------------------------------------------------------------

    async def suspend(self, why: str, plugin: str, *, stops: bool) -> None:
        """Part of `switchgear.process_restart`: finish what is under way; with *stops*, close the connection.

        What is published meanwhile is accepted.
        """
        self._narrator.emit("process_restarting", why=why, plugin=plugin)
        if stops and self.state not in {State.STOPPED, State.GAVE_UP}:
            self._is_suspended = True
            if self.is_connected:
                if self.profile.outbox is None:
                    with contextlib.suppress(TimeoutError, GaveUp, TransportClosed):
                        await self.drain(DRAIN)
                await self._gate.quiesce(DRAIN)
            await self._manager.pause()
        await self._strategies.settle(self.profile.hook_timeout)

    def resume(self, why: str, plugin: str, *, was_tried: bool) -> None:
        """Part of `switchgear.process_restart`: the process goes on, for *why*; undo `suspend`."""
        if was_tried:
            self._narrator.emit("process_restart_failed", why=why, plugin=plugin)
        else:
            self._narrator.emit("process_restart_refused", why=why, plugin=plugin)
        if self._is_suspended and not self._is_closed:
            self._manager.resume()
        self._is_suspended = False

    def _plugin_problem(self, plugin: str, hook: str, why: str) -> None:
        if self._loop is not None:
            self._narrator.emit("plugin_failed", plugin=plugin, hook=hook, why=why)


def _as_level(client_id: str) -> str:
    """*client_id* as one level of a topic."""
    return "".join("-" if character in "+#/$" else character for character in client_id)
