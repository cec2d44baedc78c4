"""The hooks of this plugin: when an SDK is wedged, it decides what is restarted. Keeps its counts in this process."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from attrs import define, field
from switchgear.cause import Cause
from switchgear.hookspecs import Proceed, Restart, hookimpl
from switchgear.silence import bound_of

from switchgear_sdk_restart import process, program
from switchgear_sdk_restart.budget import Restarted, Streak, carried, decide, recent, taken_over
from switchgear_sdk_restart.options import read_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.hookspecs import Context, Verdict

    from switchgear_sdk_restart.options import Options

STABLE_AFTER: Final = 10.0
"""Seconds that a connection must last for its rebuild to have helped, where no profile says ``stable_after``."""

MOST: Final = 10_000
"""Restarts that are remembered: more than any budget, for as many transports as a process has wedged ones."""

logger = logging.getLogger("switchgear.plugins.sdk_restart")


@define(eq=False)
class Book:
    """The restarts of this process and of those before it. Guarded by its lock.

    Attributes:
        history: The oldest first.
        unreadable: Why what an earlier process left cannot be read: it may have been restarted any number of times.
        is_greeted: Whether it was told that this process was executed again, or it was not.
        is_warned: Whether it was told that it cannot be.
    """

    history: list[Restarted] = field(factory=list)
    unreadable: str | None = None
    is_greeted: bool = True
    is_warned: bool = False
    lock: threading.Lock = field(factory=threading.Lock)

    @classmethod
    def open(cls) -> Book:
        """What the environment says of the processes before this one; the variable is taken out for our children."""
        text = os.environ.pop(process.VARIABLE, None)
        if text is None:
            return cls()
        try:
            history = taken_over(text, os.getpid())
        except ValueError as error:
            return cls(unreadable=f"{process.VARIABLE} in its environment cannot be read ({error})")
        return cls(history, is_greeted=not history)


BOOK: Final = Book.open()


def _forked() -> None:
    BOOK.lock = threading.Lock()  # the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def history() -> tuple[Restarted, ...]:
    """Every restart of this process, the oldest first, and before them those of earlier images of it that still count.

    These are, of the window of the transport that had the process executed again, its own and those of the process.

    Since: 0.1.
    """
    with BOOK.lock:
        return tuple(BOOK.history)


@hookimpl
def check_options(options: Mapping[str, object]) -> None:
    """Refuse options that cannot be right, and warn where they cannot be kept. Raises `InvalidOption`. Since: 0.1."""
    read = read_options(options)
    why = _obstacle(read)
    with BOOK.lock:
        is_news, BOOK.is_warned = why is not None and not BOOK.is_warned, BOOK.is_warned or why is not None
    if is_news:
        logger.warning("switchgear.sdk_restart.cannot_reexec", extra={"why": why})


@hookimpl
def on_connected(context: Context) -> None:
    """Note since when a connection works, and greet after a re-execution. Since: 0.1."""
    _streak(context).connected_at = context.now
    with BOOK.lock:
        told, BOOK.is_greeted = BOOK.is_greeted, True
    if not told:
        before = history()
        logger.warning("switchgear.sdk_restart.reexecuted", extra={"count": len(before), "why": before[-1].why})


@hookimpl
def on_disconnect(context: Context) -> None:
    """Judge whether the last rebuilds helped. Since: 0.1."""
    if context.was_connected:
        stable_after = STABLE_AFTER if context.profile is None else context.profile.stable_after
        _streak(context).judge(context.now - context.outage - _silence(context), stable_after)


def _streak(context: Context) -> Streak:
    """What this transport went through; only its own hooks touch it, one at a time."""
    streak = context.notes.setdefault("streak", Streak())
    assert isinstance(streak, Streak)
    return streak


def _silence(context: Context) -> float:
    """Seconds that the driver had been silent, at most, when that was found out: the watch looks each ``ack_timeout``."""
    profile, failure = context.profile, context.failure
    if profile is None or profile.ack_timeout is None or failure is None or failure.cause is not Cause.DRIVER_SILENT:
        return 0.0
    return 2 * profile.ack_timeout + bound_of(connect_timeout=profile.connect_timeout, keepalive=profile.keepalive)


@hookimpl
def before_reconnect(context: Context) -> Verdict | None:
    """`Restart` when the SDK is wedged and the budget allows it; None when it is not wedged. Since: 0.1."""
    options = read_options(context.options)
    failure = context.failure
    if failure is None or failure.cause.name not in options.causes:
        return None
    streak = _streak(context)
    if streak.is_known(context.generation):
        return None
    stops = _obstacle(options)
    now = time.time()
    with BOOK.lock:
        decision = decide(options, BOOK.history, context.client_id, streak.rebuilds, now=now, obstacle=stops)
        if decision.way is not None:
            noted = Restarted(now, decision.way, decision.why, context.client_id)
            BOOK.history = [*BOOK.history[1 - MOST :], noted]
        used = recent(BOOK.history, context.client_id, now=now, window=options.window)
    is_first = streak.note(decision.way)
    if decision.way is None:
        level = logging.ERROR if is_first else logging.DEBUG
        logger.log(level, "switchgear.sdk_restart.budget_exhausted", extra={"why": decision.why})
        return Proceed(decision.why)
    why = f"{decision.why}; last: {failure}"
    if decision.way == "rebuild":
        return Restart("rebuild", why)
    then = (
        functools.partial(process.leave, options.exit_code)
        if decision.way == "exit"
        else functools.partial(process.reexec, carried(used, os.getpid()))
    )
    return Restart("process", why, then=then, may_lose=options.allow_loss)


def _obstacle(options: Options) -> str | None:
    """Why this process cannot be replaced, where *options* want that."""
    if options.escalate_to != "reexec":
        return None
    return BOOK.unreadable or program.obstacle(program.facts())
