"""Messenger: takes what the thread of the writer has to say to the event loop. Touches the loop only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


@define(eq=False)
class Messenger:
    """From any thread to the loop; before there is one, it keeps what is to be told."""

    kept: list[tuple[str, dict[str, Any]]] = field(factory=list, init=False)
    """Events, in order, that wait for a loop."""
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _narrate: Callable[..., None] | None = field(default=None, init=False)
    _on_change: Callable[[], None] | None = field(default=None, init=False)

    def start(
        self, loop: asyncio.AbstractEventLoop, *, emit: Callable[..., None], on_change: Callable[[], None]
    ) -> None:
        """There is a loop; called on it. *emit* is told events, *on_change* that there are messages to be sent."""
        self._loop, self._narrate, self._on_change = loop, emit, on_change
        for name, facts in self.kept:
            emit(name, **facts)
        self.kept.clear()
        on_change()

    def emit(self, name: str, **facts: Any) -> None:
        """Tell an event."""
        narrate = self._narrate
        if narrate is None:
            self.kept.append((name, facts))
        else:
            self.call(lambda: narrate(name, **facts))

    def call(self, function: Callable[[], object]) -> None:
        """Call *function* on the loop; here, when there is none yet."""
        if self._loop is None:
            function()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is there to be told
                self._loop.call_soon_threadsafe(function)

    def on_change(self) -> None:
        """Messages came, or left; called on the loop."""
        if self._on_change is not None:
            self._on_change()
