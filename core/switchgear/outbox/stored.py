"""The delivery of a durable outbox: it knows whether it is on disk. Touches its store's condition only."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from switchgear.delivery import Delivery
from switchgear.errors import OutboxUnwritable
from switchgear.message import DeliveryState

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.message import Properties
    from switchgear.outbox.writer import Writer
    from switchgear.waits import Waits

QUEUED: Final = 0
"""Not on disk; the writer has not taken it, or failed with it."""
TAKEN: Final = 1
"""In the writer's hands."""
WRITTEN: Final = 2
"""On disk."""

_STORED: Final = DeliveryState.STORED


class StoredDelivery(Delivery):
    """A `Delivery` whose message is `ACCEPTED` until it is on disk.

    Inside, ``_state`` says STORED for all that waits, as in memory: a message may be sent before it is on disk.
    """

    __slots__ = ("__weakref__", "_writer", "disk")

    disk: int
    """`QUEUED`, `TAKEN` or `WRITTEN`; set by the writer."""

    def __init__(  # noqa: PLR0917 - positional for speed: one is made for each message
        self,
        writer: Writer,
        waits: Waits,
        sequence: int,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,  # noqa: FBT001 - the same
        properties: Properties | None = None,
        expires_at: float | None = None,
    ) -> None:
        self._waits = waits  # as Delivery does it; calling that costs as much again
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
        self._state = _STORED
        self._error: BaseException | None = None
        self._watchers: list[Callable[[], None]] | None = None
        self._writer = writer
        self.disk = QUEUED

    @property
    def state(self) -> DeliveryState:
        """Where the message is in its life."""
        state = self._state
        return DeliveryState.ACCEPTED if state is _STORED and self.disk != WRITTEN else state

    def wait_stored(self, timeout: float | None = None) -> None:
        """Block until the message is on disk, or a broker has it. *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out.
            MessageError: the message ended without having been stored.
            OutboxUnwritable: the disk is full or broken; the message stays accepted, and is written when it can be.
            WouldDeadlock: called from a hook, a handler or the event loop.
        """
        writer = self._writer
        if not self._is_settled():
            self._waits.check("delivery.wait_stored()")
            if not writer.wait(lambda: self._is_settled() or writer.failure is not None, timeout):
                limit = 0.0 if timeout is None else timeout
                raise TimeoutError(
                    f"delivery.wait_stored(): not yet after {limit:g} s; the message is {self.state.value}"
                )
        if self._error is not None:
            raise self._error
        if not self._is_settled() and writer.failure is not None:
            raise OutboxUnwritable(writer.path, writer.failure)

    async def _news(self) -> None:
        """The writer has done something, or the message has ended."""
        writer = self._writer
        if writer.failure is not None:
            raise OutboxUnwritable(writer.path, writer.failure)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def news() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(news)

        self._watch(wake)
        writer.watch(wake)
        try:
            if not self._is_settled() and writer.failure is None:  # it may have come before we looked out for it
                await future
        finally:
            self._unwatch(wake)
            writer.unwatch(wake)

    def _is_settled(self) -> bool:
        return self.disk == WRITTEN or self._state.is_final
