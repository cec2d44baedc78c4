"""Subscription, for synchronous code: its messages are taken in the thread that asks for them. Touches threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.drivers.base import Filter
    from switchgear.errors import SubscriptionRefused
    from switchgear.message import Message
    from switchgear.subscription import Subscription as AsyncSubscription
    from switchgear.sync import Transport


class Subscription:
    """One subscription of a `Transport`: iterate it, when it has no handler. Since: 0.1."""

    def __init__(self, transport: Transport, inner: AsyncSubscription) -> None:
        self._transport = transport
        self._inner = inner
        self._arrived = threading.Event()
        inner._inbox.on_arrival = self._arrived.set

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def topic_filter(self) -> str:
        """What was subscribed to."""
        return self._inner.topic_filter

    @property
    def filter(self) -> Filter:
        """What was subscribed to, with its options."""
        return self._inner.filter

    @property
    def refusal(self) -> SubscriptionRefused | None:
        """Why the broker last refused it; None when it did not."""
        return self._inner.refusal

    def __iter__(self) -> Iterator[Message]:
        """The messages, in order, until it is unsubscribed or the transport is closed."""
        return self

    def __next__(self) -> Message:
        message = self.get()
        if message is None:
            raise StopIteration
        return message

    def get(self, timeout: float | None = None) -> Message | None:
        """The next message; None when there will be none. Asking acknowledges the one before (``ack="after"``).

        *timeout* is in seconds. Raises `TimeoutError` when it runs out, `WouldDeadlock` in a hook or on the loop.
        """
        inbox = self._inner._inbox
        inbox.take_back()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            arrival = inbox.lend()
            if arrival is not None:
                return arrival.message
            if inbox.is_closed:
                return None
            self._transport._check_blocking("subscription.get()")
            self._arrived.clear()
            if inbox._waiting or inbox.is_closed:
                continue  # it came between the look and the clearing
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or not self._arrived.wait(left):
                raise TimeoutError(f"no message for {self.topic_filter!r} in {timeout:g} s")

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the broker has granted it; *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out.
            SubscriptionRefused: the broker said no (it is asked again later).
        """
        self._transport._wait(self._inner.ready(timeout), "subscription.wait_ready()")

    def unsubscribe(self) -> None:
        """No more messages."""
        self._transport._on_loop(self._inner.unsubscribe)
