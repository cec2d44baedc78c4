"""Replacing the whole process: its transports stop in order, what they hold is written, then somebody ends it. Threads.

One thread of its own does it: what comes last may block, and the event loops have to go on meanwhile. Where messages
would be lost, or the process is still there afterwards, every transport goes on as before.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear.hook_line import describe
from switchgear.waits import mark_thread

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from switchgear.hookspecs import Restart
    from switchgear.transport import AsyncTransport

log = logging.getLogger("switchgear.manager")

SUSPEND: Final = 20.0
"""Seconds that the transports together may take to stop; an event loop that hangs must not hold the process."""

FLUSH: Final = 10.0
"""Seconds that each outbox may take to be written. The writer of a healthy disk needs milliseconds."""


@define(eq=False)
class _Process:
    """What this process has."""

    lock: threading.Lock = field(factory=threading.Lock)
    loops: weakref.WeakKeyDictionary[AsyncTransport, asyncio.AbstractEventLoop] = field(
        factory=weakref.WeakKeyDictionary
    )
    """Of each transport that was started and not closed."""
    under_way: Replacement | None = None


@define(eq=False)
class Replacement:
    """One try to replace the process; *result* is why it is still there."""

    request: Restart
    plugin: str
    asker: AsyncTransport
    result: concurrent.futures.Future[str] = field(factory=concurrent.futures.Future, init=False)
    is_called_off: bool = field(default=False, init=False)

    def run(self) -> None:
        """Replace the process, or set `result`. In a thread of its own."""
        mark_thread("the restart of this process")
        why = self._refusal()
        if why is None:
            try:
                why, was_tried = self._replace()
            except Exception as error:  # a bug of ours, and no reason for the transports to stay as they are
                log.exception("switchgear.internal_error", extra={"client_id": self.asker.client_id})
                why, was_tried = describe(error), False
            for transport, _ in _started():
                transport._outbox.release()
                self._resume(transport, why, was_tried=was_tried)
        with _process.lock:
            _process.under_way = None
        self.result.set_result(why)

    def _refusal(self) -> str | None:
        """Why not even to try: messages would be lost that no waiting can save. Nothing was touched yet."""
        cut_off = [t for t, _ in _started() if t.profile.outbox is None and not t.is_connected]
        lost = 0 if self.request.may_lose else sum(t.depth for t in cut_off)
        if not lost:
            return None
        why = _would_lose(lost)
        self._resume(self.asker, why, was_tried=False)
        return why

    def _replace(self) -> tuple[str, bool]:
        """Why the process is still there, and whether it was tried."""
        stopping = [
            _on_loop(loop, transport.suspend(self.request.why, self.plugin, stops=transport is not self.asker))
            for transport, loop in _started()
        ]
        concurrent.futures.wait([future for future in stopping if future is not None], timeout=SUSPEND)
        held = [transport for transport, _ in _started()]  # one may be new
        for transport in held:
            transport._outbox.hold()
        lost = sum(transport._outbox.flush(FLUSH) for transport in held)
        if lost and not self.request.may_lose:
            return _would_lose(lost), False
        if self.is_called_off:
            return "the transport that asked for it was closed", False
        return self._go(), True

    def _go(self) -> str:
        assert self.request.then is not None
        try:
            self.request.then()
        except (Exception, SystemExit) as error:  # the process goes on, and says why
            return describe(error)
        return "it was to be replaced, and was not"

    def _resume(self, transport: AsyncTransport, why: str, *, was_tried: bool) -> None:
        with _process.lock:
            loop = _process.loops.get(transport)
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(lambda: transport.resume(why, self.plugin, was_tried=was_tried))


_process = _Process()


def _would_lose(count: int) -> str:
    return f"{count} message(s) would be lost with this process; a durable outbox would keep them"


def _started() -> list[tuple[AsyncTransport, asyncio.AbstractEventLoop]]:
    with _process.lock:
        return list(_process.loops.items())


def _on_loop(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]
) -> concurrent.futures.Future[None] | None:
    if not loop.is_running():
        work.close()
        return None
    try:
        return asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:  # it has ended meanwhile
        work.close()
        return None


def add(transport: AsyncTransport, loop: asyncio.AbstractEventLoop) -> None:
    """*transport* has started, on *loop*."""
    with _process.lock:
        _process.loops[transport] = loop
        if _process.under_way is not None:
            transport._outbox.hold()


def remove(transport: AsyncTransport) -> None:
    """*transport* was closed."""
    with _process.lock:
        _process.loops.pop(transport, None)


async def replace(asker: AsyncTransport, request: Restart, plugin: str) -> str:
    """Why the process is still there; where all goes well, this never answers.

    A second transport that asks meanwhile hears what came of the first one's try.
    """
    with _process.lock:
        present = _process.under_way
        is_first = present is None
        if present is None:
            present = _process.under_way = Replacement(request, plugin, asker)
    if is_first:
        try:
            threading.Thread(target=present.run, name="switchgear-restart", daemon=True).start()
        except RuntimeError as error:  # the system has no thread for us
            with _process.lock:
                _process.under_way = None
            present.result.set_result(describe(error))
    try:
        return await asyncio.shield(asyncio.wrap_future(present.result))
    except asyncio.CancelledError:
        if is_first:
            present.is_called_off = True  # it is being closed
        raise


def _forked() -> None:
    global _process  # noqa: PLW0603 - a fork changes what is true of the whole process
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
