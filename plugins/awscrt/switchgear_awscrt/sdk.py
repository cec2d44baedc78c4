"""The one door to AWS's SDK: imported when it is first needed, with what all drivers of a process share. Starts threads.

The SDK has no types, so all of it is `Any` behind this door. One event loop of the SDK's, and so one native thread,
serves all connections: their callbacks need Python's lock anyway (measured: a second thread adds no message a second).
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from typing import Any, Final

from attrs import frozen
from switchgear.errors import InvalidOption

THREADS: Final = 1
"""Event-loop threads of the SDK's in this process, whatever the number of connections."""

_ONCE: Final = threading.RLock()  # two threads may build a transport; and a script called awscrt.py is imported in here


@frozen
class Sdk:
    """The modules of the SDK that are used here; ``native`` is its part in C."""

    native: Any
    auth: Any
    exceptions: Any
    http: Any
    io: Any
    mqtt5: Any
    builder: Any


@frozen(eq=False)
class Stack:
    """What every connection of the process uses. The resolver is never asked: connections are dialled by ours."""

    group: Any
    bootstrap: Any


_current: Final[list[Stack]] = []
"""The stack that new connections use, when there is one."""

_users: Final[set[int]] = set()
"""The process in which a stack was first made; a child of fork finds its parent here."""


def sdk() -> Sdk:
    """The SDK.

    Raises:
        InvalidOption: it is not installed, or cannot be loaded; the message says what to install. Or this process was
            forked from one that had used it: its threads are gone here, and new ones hang (seen; awscrt's README).
    """
    if _users - {os.getpid()}:
        why = (
            f"'awscrt' was used in process {min(_users)}, from which this one was forked, and AWS's SDK does not survive a fork; "
            "start the child with the 'spawn' method, or fork before anything connects, or choose driver='paho'"
        )
        raise InvalidOption("driver", why)
    with _ONCE:
        return _sdk()


def stack() -> Stack:
    """The event loop and what is built on it, made at the first call, and at the first after `discard`."""
    made = sdk()
    with _ONCE:
        if not _current:
            group = made.io.EventLoopGroup(THREADS)
            _users.add(os.getpid())
            _current.append(Stack(group, made.io.ClientBootstrap(group, made.io.DefaultHostResolver(group))))
        return _current[0]


def discard(used: Stack) -> None:
    """Have the next connections use another stack than *used*, whose thread ends when its last connection has."""
    with _ONCE:
        if _current == [used]:  # else somebody else, who used it too, has done so
            _current.clear()


@functools.cache
def _sdk() -> Sdk:
    names = ("_awscrt", "awscrt.auth", "awscrt.exceptions", "awscrt.http", "awscrt.io", "awscrt.mqtt5")
    try:
        modules = [importlib.import_module(name) for name in (*names, "awsiot.mqtt5_client_builder")]
    except ImportError as error:
        why = f"'awscrt' needs AWS's SDK, which cannot be imported ({error}); pip install awsiotsdk"
        raise InvalidOption("driver", why) from error
    return Sdk(*modules)
