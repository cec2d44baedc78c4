"""One subscription of an `AsyncTransport`, as its holder sees it. Runs on the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switchgear.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from switchgear.drivers.base import Filter
    from switchgear.errors import SubscriptionRefused
    from switchgear.message import Message
    from switchgear.receiver import Inbox
    from switchgear.transport import AsyncTransport


class Subscription:
    """One subscription of an `AsyncTransport`: iterate it, when it has no handler. Since: 0.1."""

    def __init__(self, transport: AsyncTransport, inbox: Inbox) -> None:
        self._transport = transport
        self._inbox = inbox
        self._arrived = asyncio.Event()
        self._is_answered = False
        inbox.on_arrival = self._arrived.set

    def __repr__(self) -> str:
        return f"<Subscription {self.topic_filter!r} {len(self._inbox)} waiting>"

    @property
    def topic_filter(self) -> str:
        """What was subscribed to."""
        return self._inbox.filter.topic_filter

    @property
    def filter(self) -> Filter:
        """What was subscribed to, with its options."""
        return self._inbox.filter

    @property
    def refusal(self) -> SubscriptionRefused | None:
        """Why the broker last refused it; None when it did not."""
        return self._inbox.refusal

    def __aiter__(self) -> AsyncIterator[Message]:
        """The messages, in order, until it is unsubscribed or the transport is closed."""
        return self

    async def __anext__(self) -> Message:
        message = await self.get()
        if message is None:
            raise StopAsyncIteration
        return message

    async def get(self) -> Message | None:
        """The next message; None when there will be none. Asking acknowledges the one before (``ack="after"``)."""
        self._inbox.take_back()
        while True:
            arrival = self._inbox.lend()
            if arrival is not None:
                return arrival.message
            if self._inbox.is_closed:
                return None
            self._transport._waits.check_home("subscription.get()")
            self._arrived.clear()
            await self._arrived.wait()

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until the broker has granted it; *timeout* is in seconds. After `unsubscribe` it returns at once.

        Raises:
            TimeoutError: it ran out.
            SubscriptionRefused: the broker said no (it is asked again later).
            GaveUp: the transport has stopped trying.
            TransportClosed: it was closed.
        """
        async with Deadline(timeout, f"subscription to {self.topic_filter!r}"):
            while not self._is_answered and not self._inbox.is_closed:
                await self._transport._news("subscription.ready()")
        if not self._is_answered:
            self._transport._check_open("subscription.ready()")
        if self._inbox.refusal is not None:
            raise self._inbox.refusal

    def unsubscribe(self) -> None:
        """No more messages."""
        if not self._transport._sent_home("subscription.unsubscribe()", self._end):
            self._end()

    def _end(self) -> None:
        self._transport._subscriber.remove(self)

    def _answered(self, refusal: SubscriptionRefused | None) -> None:
        self._inbox.refusal = refusal
        self._is_answered = True
        self._transport._tell()

    def _close(self) -> None:
        self._inbox.close()
        self._transport._tell()
