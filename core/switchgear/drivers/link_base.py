"""What every link has in common: bytes that wait for a sink, and an end that is told once. Pure but for the loop."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Sink(Protocol):
    """Who takes what arrives on a link."""

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        ...

    def link_lost(self, error: BaseException | None) -> None:
        """The link is over; None: the peer closed it in order."""
        ...

    def link_writable(self) -> None:
        """The write buffer takes more again."""
        ...


class ByteLink(Protocol):
    """A connection for bytes: TCP, TLS on it, WebSocket on either."""

    @property
    def is_open(self) -> bool:
        """Whether the peer has not closed it, as far as is known."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether the write buffer takes more."""
        ...

    def progress(self) -> tuple[int, int]:
        """Bytes written so far, and how many of them the peer's system has taken, as far as is known."""
        ...

    def attach(self, sink: Sink) -> None:
        """From now on *sink* takes what arrives; what came before is handed over on the next turn of the loop."""
        ...

    def write(self, data: bytes) -> None:
        """Send *data*, or buffer it; nothing after the link is over."""
        ...

    def abort(self) -> None:
        """Drop the connection at once; the sink hears nothing more."""
        ...

    def abandon(self) -> None:
        """Send what is buffered, then drop, without waiting; the sink hears nothing more."""
        ...

    async def close(self) -> None:
        """Flush and close in order; the sink hears nothing more."""
        ...


class LinkBase:
    """Keeps what arrives, and the end, until somebody takes them."""

    def __init__(self) -> None:
        self._sink: Sink | None = None
        self._early: list[bytes] = []
        self._is_over = False
        self._error: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether the peer has not closed it, as far as is known."""
        return not self._is_over

    def attach(self, sink: Sink) -> None:
        """Part of `ByteLink`."""
        self._sink = sink
        if self._early or self._is_over:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        early, self._early = self._early, []
        for data in early:
            if self._sink is not None:
                self._sink.data_received(data)
        if self._is_over and self._sink is not None:
            self._sink.link_lost(self._error)

    def _deliver(self, data: bytes) -> None:
        if self._sink is None or self._early:
            self._early.append(data)
        else:
            self._sink.data_received(data)

    def _end(self, error: BaseException | None) -> None:
        """The link is over; told at once, or after what waits."""
        if self._is_over:
            return
        self._is_over = True
        self._error = error
        if self._sink is not None and not self._early:
            self._sink.link_lost(error)


class LayeredLink(LinkBase):
    """A link that speaks its own protocol on the link below it."""

    def __init__(self, below: ByteLink) -> None:
        super().__init__()
        self._below = below

    @property
    def is_writable(self) -> bool:
        """Whether the write buffer takes more."""
        return self._below.is_writable

    def progress(self) -> tuple[int, int]:
        """Part of `ByteLink`: those of the link below."""
        return self._below.progress()

    def abort(self) -> None:
        """Part of `ByteLink`."""
        self._sink = None
        self._below.abort()

    def abandon(self) -> None:
        """Part of `ByteLink`."""
        self._sink = None
        self._below.abandon()

    async def close(self) -> None:
        """Part of `ByteLink`: say goodbye first."""
        self._sink = None
        if not self._is_over:
            self._say_goodbye()
        await self._below.close()

    def _say_goodbye(self) -> None:
        """Send what this protocol says before the link below is closed."""

    def link_writable(self) -> None:
        """The link below takes more. Part of `Sink`."""
        if self._sink is not None:
            self._sink.link_writable()
