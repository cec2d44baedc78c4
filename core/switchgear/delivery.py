"""One accepted message's whole life, and the waiting for its end. Touches threads' events, clocks and the log.

A `Delivery` is the outbox's own record of the message: one small object, no copy, no lock on the way of a message
that nobody waits for.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from switchgear.deadline import Deadline
from switchgear.waits import is_interrupt, waker, watch_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from switchgear.message import Properties
    from switchgear.waits import Waits

log = logging.getLogger("switchgear.delivery")


class DeliveryState(enum.StrEnum):
    """Where a message is in its life."""

    ACCEPTED = "accepted"
    """In the outbox; for a durable outbox: not yet on disk."""
    STORED = "stored"
    """Safe in the outbox."""
    SENT = "sent"
    """Handed to a connection; not yet acknowledged."""
    ACKNOWLEDGED = "acknowledged"
    """A broker has it (QoS 0: a usable connection took it)."""
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    DROPPED = "dropped"

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to the message."""
        return self not in _LIVING


LOOK: Final = 1.0
"""Seconds between two looks of a waiting thread at what nobody tells it: the end of a loop whose transport was not closed."""

_LIVING = frozenset({DeliveryState.ACCEPTED, DeliveryState.STORED, DeliveryState.SENT})


class Delivery:
    """The life of one accepted message, from `publish` to its acknowledgement or other end.

    It can be waited for from any thread but the loop's (`wait`), awaited in ``switchgear.aio`` (``await delivery``),
    looked at (`state`, `done`) or forgotten: the outbox keeps the message, whoever holds this object. Since: 0.1.
    """

    __slots__ = (
        "_error",
        "_state",
        "_waits",
        "_watchers",
        "expires_at",
        "losses",
        "packet_id",
        "payload",
        "phase",
        "properties",
        "qos",
        "retain",
        "sequence",
        "topic",
    )

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties | None
    sequence: int
    expires_at: float | None
    packet_id: int
    """The driver's: the MQTT packet identifier in the present session; 0 when it has none."""
    phase: int
    """The driver's: 0 unsent, 1 PUBLISH sent, 2 PUBREL sent (QoS 2)."""
    losses: int
    """How many connections were lost while this message was in flight, and were got back at once."""

    def __init__(  # noqa: PLR0917 - positional for speed: one is made for each message
        self,
        waits: Waits,
        sequence: int,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,  # noqa: FBT001 - the same
        properties: Properties | None = None,
        expires_at: float | None = None,
    ) -> None:
        self._waits = waits
        self.sequence = sequence
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires_at = expires_at
        self.packet_id = 0
        self.phase = 0
        self.losses = 0
        self._state = DeliveryState.STORED
        self._error: BaseException | None = None
        self._watchers: list[Callable[[], None]] | None = None

    def __repr__(self) -> str:
        return f"<Delivery {self.sequence} {self.state.value} {self.topic!r} qos={self.qos} {len(self.payload)} bytes>"

    @property
    def state(self) -> DeliveryState:
        """Where the message is in its life."""
        return self._state

    @property
    def error(self) -> BaseException | None:
        """What ended it other than an acknowledgement; None while it lives and after an acknowledgement."""
        return self._error

    def done(self) -> bool:
        """Whether nothing more can happen to the message."""
        return self._state.is_final

    def add_done_callback(self, callback: Callable[[Delivery], object]) -> None:
        """Have *callback* called with this delivery when it has ended; at once when it already has.

        It runs where the message ends, most often on the event loop's thread, and must not block; an exception in it is
        logged.
        """
        self._watch(lambda: self._call_back(callback))

    def _call_back(self, callback: Callable[[Delivery], object]) -> None:
        if self._state.is_final:
            try:
                callback(self)
            except BaseException as error:  # the user's: whoever ended the message has others to tell
                if is_interrupt(error):
                    raise
                log.exception("switchgear.callback_failed", extra={"topic": self.topic})
        else:
            self._watch(lambda: self._call_back(callback))

    def wait(self, timeout: float | None = None) -> None:
        """Block until a broker has acknowledged the message (QoS 0: until a usable connection took it).

        *timeout* is in seconds, None waits for ever.

        Raises:
            TimeoutError: it ran out; the message stays accepted and goes on.
            TransportClosed: a durable outbox kept it when the transport was closed; or its event loop has ended.
            MessageError: what ended the message otherwise: `Expired`, `Cancelled`, `Refused`, `Dropped`.
            GaveUp: the transport has stopped trying; the message stays in the outbox.
            WouldDeadlock: called from a hook, a handler or the event loop.
        """
        self._block(timeout, "delivery.wait()", lambda: self._state.is_final)
        if self._error is not None:
            raise self._error

    def wait_stored(self, timeout: float | None = None) -> None:
        """Block until the message is safe in the outbox: on disk when it is durable. *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out.
            MessageError: the message ended without having been stored.
        """
        self._block(timeout, "delivery.wait_stored()", self._is_settled)
        if self._error is not None:
            raise self._error

    async def stored(self, timeout: float | None = None) -> None:
        """`wait_stored` for ``switchgear.aio``: return when the message is safe in the outbox. *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out.
            MessageError: the message ended without having been stored.
            OutboxUnwritable: a durable outbox cannot write it now; the message stays accepted.
        """
        async with Deadline(timeout, lambda: f"delivery.stored(): the message is {self.state.value}"):
            while not self._is_settled():
                await self._news()
        if self._error is not None:
            raise self._error

    def _is_settled(self) -> bool:
        """Whether the message is stored, or has ended."""
        return self._state is not DeliveryState.ACCEPTED

    async def _news(self) -> None:
        """Something may have become of its storing."""

    def _block(self, timeout: float | None, call: str, is_met: Callable[[], bool]) -> None:
        waits = self._waits
        if is_met():
            return
        waits.check(call)
        deadline = None if timeout is None else time.monotonic() + timeout
        event = threading.Event()
        waits.park(event.set)
        try:
            while True:
                self._unwatch(event.set)
                self._watch(event.set)  # anew each time: whoever wakes us forgets us, and a reconnect wakes us too
                if is_met():
                    break
                if waits.failure is not None:
                    raise waits.failure
                waits.check_loop(call)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"{call}: not yet after {timeout:g} s; the message is {self.state.value}")
                event.wait(LOOK if left is None else min(left, LOOK))
                event.clear()
        finally:
            waits.unpark(event.set)
            self._unwatch(event.set)

    def __await__(self) -> Generator[Any, None, None]:
        """Wait, on any event loop, as `wait` does in threads."""
        waits = self._waits
        while not self._state.is_final:
            waits.check_process("await delivery")
            if waits.failure is not None:
                raise waits.failure
            waits.check_loop("await delivery")
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            wake = waker(future)
            waits.park(wake)
            self._watch(wake)
            try:
                yield from future
            finally:
                waits.unpark(wake)
                self._unwatch(wake)
        if self._error is not None:
            raise self._error

    # What the outbox and the drivers call. ------------------------------------------------------------------------

    def _set(self, state: DeliveryState, error: BaseException | None = None) -> None:
        """Move on to *state*; wake whoever watches when that is a change they wait for."""
        self._error = error
        self._state = state
        if self._watchers is not None and state is not DeliveryState.SENT:
            self._wake()

    def _wake(self) -> None:
        with watch_lock():
            watchers, self._watchers = self._watchers or [], None
        for watcher in watchers:
            watcher()

    def _watch(self, watcher: Callable[[], None]) -> None:
        with watch_lock():
            if self._watchers is None:
                self._watchers = [watcher]
            else:
                self._watchers.append(watcher)
        if self._state.is_final:  # it ended while we were adding: nobody else will wake us
            self._wake()

    def _unwatch(self, watcher: Callable[[], None]) -> None:
        with watch_lock():
            if self._watchers is not None and watcher in self._watchers:
                self._watchers.remove(watcher)
