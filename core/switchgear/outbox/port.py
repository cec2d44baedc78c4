"""The port behind which every outbox stands: what the sender and the transports know of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable, Iterator

    from switchgear.delivery import Delivery
    from switchgear.errors import OutboxFull, TransportClosed
    from switchgear.message import DeliveryState, Properties


class Queue(Protocol):
    """The messages in memory that may be sent next."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __iter__(self) -> Iterator[Delivery]:
        """What was sent once comes before all that was not."""
        ...

    def append(self, delivery: Delivery, /) -> None:
        """One more was accepted."""
        ...

    def popleft(self) -> Delivery:
        """The next to be sent. Raises ``IndexError`` when there is none."""
        ...

    def appendleft(self, delivery: Delivery, /) -> None:
        """*delivery* is the next to be sent after all."""
        ...

    def extendleft(self, deliveries: Iterator[Delivery], /) -> None:
        """`appendleft` for each."""
        ...

    def clear(self) -> None:
        """None is left."""
        ...


class Outbox(Protocol):
    """Messages that no broker has acknowledged. Publishers call `accept` from any thread, the rest is the loop's."""

    pending: Queue
    """Not handed to the present connection. Entries that have ended are skipped by the sender."""
    sent: dict[int, Delivery]
    """By sequence: handed to the present connection, not acknowledged."""
    unreported_drops: int
    lock: threading.RLock
    room: threading.Condition
    on_room: Callable[[], None] | None
    wants_room: bool

    def __len__(self) -> int:
        """Messages accepted and not ended."""
        ...

    @property
    def accepted(self) -> int:
        """Messages accepted so far, by this transport."""
        ...

    @property
    def size(self) -> int:
        """Bytes of their payloads and topics."""
        ...

    @property
    def starts_clean(self) -> bool:
        """Whether the first CONNECT must end the broker's session: it may know packet ids that we do not."""
        ...

    def start(
        self, loop: asyncio.AbstractEventLoop, *, emit: Callable[..., None], on_change: Callable[[], None]
    ) -> None:
        """The transport runs on *loop*: tell events to *emit*, and call *on_change* there when messages have come."""
        ...

    def accept(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        *,
        retain: bool = False,
        properties: Properties | None = None,
        expires_at: float | None = None,
    ) -> Delivery | None:
        """The delivery of one more message, or None when there is no room and the policy is to wait.

        Raises:
            OutboxFull: there is no room and the policy is to say so.
            MessageTooLarge: it would not fit into an empty outbox.
            OutboxUnwritable: a durable outbox cannot write.
        """
        ...

    def full(self, size: int = 0) -> OutboxFull:
        """The error that says which bound is reached."""
        ...

    def has_room(self) -> bool:
        """Whether one more small message would be accepted."""
        ...

    def end(self, delivery: Delivery, state: DeliveryState, error: BaseException | None = None) -> None:
        """*delivery* leaves, as *state*."""
        ...

    def give_room(self) -> None:
        """Wake the publishers that wait for room."""
        ...

    def requeue(self) -> list[Delivery]:
        """The connection is gone: what was sent and not acknowledged waits again, before all else; in order."""
        ...

    def forget_session(self) -> None:
        """The broker has no session of ours: packet ids mean nothing any more."""
        ...

    def session_began(self) -> None:
        """A broker has accepted our CONNECT."""
        ...

    def cancel(self, delivery: Delivery) -> bool:
        """Take *delivery* back when it was never sent; whether that was possible."""
        ...

    def expire(self, now: float) -> tuple[int, float | None]:
        """End what is past its time; how many that were, and when the next may be."""
        ...

    def hold(self) -> None:
        """Take nothing more until `release`: publishers wait for room. From any thread."""
        ...

    def flush(self, timeout: float) -> int:
        """Have what is held written, within *timeout* seconds; how many messages would still end with this process.

        Called on a thread that may block.
        """
        ...

    def release(self) -> None:
        """The process goes on: take messages again. Called on a thread that may block."""
        ...

    async def close(self) -> int:
        """The transport closes: what cannot be kept ends as `Cancelled`; how many that were."""
        ...

    def close_now(self) -> None:
        """The same for a transport that was never started."""
        ...

    def closed(self) -> TransportClosed:
        """The error for those who still wait."""
        ...
