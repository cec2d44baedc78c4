"""Every error that Switchgear raises. Pure values: nothing here does I/O.

The tree::

    SwitchgearError
    ├── ConfigurationError (also ValueError)      you can fix it before starting
    │   ├── InvalidURI
    │   ├── InvalidOption
    │   ├── InvalidProfile
    │   ├── InvalidTopic
    │   ├── UnknownDriver
    │   ├── UnknownPlugin
    │   ├── UnreadableFile
    │   └── OutboxLocked
    ├── PluginError                               names the plugin, its distribution and the hook
    ├── ConnectionFailed (also ConnectionError)   why there is no connection; carries the cause
    │   └── GaveUp                                the transport has stopped trying
    ├── MessageError                              what ended one message
    │   ├── OutboxFull
    │   ├── OutboxUnwritable
    │   ├── MessageTooLarge
    │   ├── Expired
    │   ├── Cancelled
    │   ├── Dropped
    │   └── Refused
    ├── SubscriptionRefused                       the broker answered SUBACK with a failure code
    ├── TransportClosed                           a call after ``close``, or after its event loop has ended
    ├── WouldDeadlock                             a blocking call from a hook, a handler or the event loop
    ├── WrongLoop                                 a call of an AsyncTransport from another thread or loop
    ├── Forked                                    a call in a child process of ``fork``
    └── InternalError                             a bug of ours: please report it

A wait that runs out of time raises the built-in ``TimeoutError``.
Facts are attributes; the message is built from them and says what to do next.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from switchgear.cause import Failure


class SwitchgearError(Exception):
    """The base of every error that Switchgear raises on purpose."""


class ConfigurationError(SwitchgearError, ValueError):
    """Something that was configured cannot work; it can be fixed before starting."""


class InvalidURI(ConfigurationError):
    """A URI could not be read. ``uri`` is shown without its credentials."""

    def __init__(self, uri: str, why: str) -> None:
        self.uri = redact(uri)
        self.why = why
        super().__init__(f"cannot read the URI {self.uri!r}: {why}")


class InvalidOption(ConfigurationError):
    """An option has no such name, or a value that it cannot have."""

    def __init__(self, name: str, why: str, *, valid: Iterable[str] = ()) -> None:
        self.name = name
        self.why = why
        self.valid = tuple(sorted(valid))
        hint = f"; valid options: {', '.join(self.valid)}" if self.valid else ""
        super().__init__(f"option {name!r}: {why}{hint}")


class InvalidProfile(ConfigurationError):
    """A profile holds a wrong type, an unknown key or an impossible value."""

    def __init__(self, where: str, why: str, *, valid: Iterable[str] = ()) -> None:
        self.where = where
        self.why = why
        self.valid = tuple(sorted(valid))
        hint = f"; valid keys: {', '.join(self.valid)}" if self.valid else ""
        super().__init__(f"profile, {where}: {why}{hint}")


class InvalidTopic(ConfigurationError):
    """A topic name or topic filter that MQTT, or the broker behind the transport, does not take."""

    def __init__(self, topic: str, why: str) -> None:
        self.topic = topic
        self.why = why
        shown = redact(topic) if "//" in topic else topic  # a URI may have got into its place
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"topic {shown!r}: {why}")


class UnknownDriver(ConfigurationError):
    """No plugin provides a driver of this name; ``why`` tells of a plugin of that name which was skipped."""

    def __init__(self, name: str, known: Iterable[str], *, why: str = "") -> None:
        self.name = name
        self.known = tuple(sorted(known))
        self.why = why
        super().__init__(
            f"no driver is called {redact(name)!r}; drivers here: {', '.join(self.known) or 'none'}; "
            + (f"plugin {name!r}: {why}" if why else "install the plugin that provides it (see `switchgear plugins`)")
        )


class UnknownPlugin(ConfigurationError):
    """A transport names a plugin that is not installed, or that was skipped."""

    def __init__(self, name: str, known: Iterable[str], *, why: str = "it is not installed") -> None:
        self.name = name
        self.known = tuple(sorted(known))
        self.why = why
        super().__init__(f"plugin {redact(name)!r}: {why}; plugins here: {', '.join(self.known) or 'none'}")


class UnreadableFile(ConfigurationError):
    """A file that the configuration names is missing, unreadable or not what it should be."""

    def __init__(self, path: str, role: str, why: str) -> None:
        self.path = path
        self.role = role
        self.why = why
        super().__init__(f"{role} {redact(path)!r}: {why}")


class OutboxLocked(ConfigurationError):
    """Another transport has this file, an outbox or a window; ``pid`` is its process, None when that is not known."""

    def __init__(self, path: str, pid: int | None, what: str = "outbox") -> None:
        self.path = path
        self.pid = pid
        who = "another process" if pid is None else f"this process ({pid})" if pid == os.getpid() else f"process {pid}"
        super().__init__(
            f"{what} {path!r}: a transport in {who} has it, and a file belongs to one transport at a time; "
            "close that one, or name another file"
        )


class PluginError(SwitchgearError):
    """A plugin could not be loaded or registered, or answered what it must not answer."""

    def __init__(self, plugin: str, why: str, *, hook: str | None = None, distribution: str | None = None) -> None:
        self.plugin = plugin
        self.hook = hook
        self.distribution = distribution
        self.why = why
        place = f" (from {distribution})" if distribution else ""
        called = f", hook {hook}" if hook else ""
        super().__init__(f"plugin {plugin!r}{place}{called}: {why}")


class ConnectionFailed(SwitchgearError, ConnectionError):
    """A connection or an attempt ended. ``failure`` holds the cause, ``endpoint`` where, ``attempt`` which try."""

    def __init__(self, failure: Failure, *, endpoint: str | None = None, attempt: int | None = None) -> None:
        self.failure = failure
        self.cause = failure.cause
        self.reason_code = failure.code
        self.endpoint = endpoint
        self.attempt = attempt
        at = f"{endpoint}: " if endpoint else ""
        super().__init__(f"{at}{failure}")


class GaveUp(ConnectionFailed):
    """The transport has stopped trying; ``why`` says which limit was reached. ``reconnect()`` starts it again."""

    def __init__(self, failure: Failure, why: str, *, endpoint: str | None = None, attempt: int | None = None) -> None:
        super().__init__(failure, endpoint=endpoint, attempt=attempt)
        self.why = why
        self.args = (f"gave up: {why}; last: {self.args[0]}; reconnect() starts again",)


class MessageError(SwitchgearError):
    """What ended one message other than its acknowledgement."""


class OutboxFull(MessageError):
    """The outbox is at its bound and its policy is to say so."""

    def __init__(self, what: str, limit: int) -> None:
        self.what = what
        self.limit = limit
        super().__init__(
            f"the outbox is full: it holds its limit of {limit} {what}; wait for ready(), drain(), "
            "raise the limit, or choose another overflow policy"
        )


class OutboxUnwritable(MessageError):
    """A durable outbox cannot write, so nothing more is accepted; what was accepted is kept, and written later."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(
            f"outbox {path!r} cannot be written: {why}; free or mend the disk: it is tried again every second, and "
            "nothing that was accepted is lost meanwhile"
        )


class MessageTooLarge(MessageError):
    """A message is larger than MQTT, the outbox or the broker takes."""

    def __init__(self, topic: str, size: int, limit: int, *, whose: str) -> None:
        self.topic = topic
        self.size = size
        self.limit = limit
        self.whose = whose
        super().__init__(f"message for {topic!r} has {size} bytes; {whose} takes at most {limit}; send it in parts")


class Expired(MessageError):
    """The message's time to live was over before a broker acknowledged it."""


class Cancelled(MessageError):
    """The publisher took the message back before it was sent, or its transport closed before a broker had it."""


class Dropped(MessageError):
    """The outbox was full and its policy dropped this message."""


class Refused(MessageError):
    """A broker refused the message for ever; ``reason_code`` is its answer where it gave one."""

    def __init__(self, topic: str, why: str, *, reason_code: int | None = None) -> None:
        self.topic = topic
        self.why = why
        self.reason_code = reason_code
        super().__init__(f"message for {topic!r} was refused: {why}")


class SubscriptionRefused(SwitchgearError):
    """The broker refused a topic filter; it is tried again after the next connection and from time to time."""

    def __init__(self, topic_filter: str, reason_code: int, why: str) -> None:
        self.topic_filter = topic_filter
        self.reason_code = reason_code
        super().__init__(
            f"the broker refused the filter {topic_filter!r} (reason 0x{reason_code:02X}, {why}); "
            "check what this user may read"
        )


class TransportClosed(SwitchgearError):
    """The transport was closed; make a new one. ``kept`` is the outbox file that messages stay in, if there is one."""

    def __init__(self, call: str, *, kept: str | None = None, what: str = "this transport is closed") -> None:
        self.call = call
        self.kept = kept
        where = f"; its messages stay in {kept!r}, for the next transport on that file" if kept else ""
        super().__init__(f"{call}: {what}{where}; make a new one with switchgear.connect()")


class WouldDeadlock(SwitchgearError):
    """A blocking call was made where it would wait for itself."""

    def __init__(self, call: str, where: str) -> None:
        self.call = call
        self.where = where
        super().__init__(f"{call} would wait for itself: it was called from {where}; do it from a thread of your own")


class WrongLoop(SwitchgearError):
    """An `AsyncTransport` was used from a thread or an event loop that is not its own. Since: 0.1."""

    def __init__(self, call: str) -> None:
        self.call = call
        super().__init__(
            f"{call}: this transport belongs to the event loop that it was started on, and to the thread of that loop; "
            "go there with loop.call_soon_threadsafe() or asyncio.run_coroutine_threadsafe(), or use a transport of "
            "switchgear.connect(), which any thread may use"
        )


class Forked(SwitchgearError):
    """A transport was used in a child process of fork; connections and threads do not survive a fork."""

    def __init__(self, call: str, parent: int) -> None:
        self.call = call
        self.parent = parent
        super().__init__(
            f"{call}: this transport belongs to process {parent} and does not survive a fork; "
            "connect after the fork, or start the child with the 'spawn' method"
        )


class InternalError(SwitchgearError):
    """A bug in Switchgear: please report it with the message and explain()."""


def redact(uri: str) -> str:
    """The text of a URI, or of a list of them, with every password, and every query value named like one, hidden.

    It works on text that is no valid URI too, for that is when it is shown: from the ``//`` of one URI to that of the
    next, all from the first colon to the last ``@`` counts as password, whatever stands there.
    """
    starts = [m.end() for m in re.finditer(r"(?:^|[^\w.+:@/-])(?:[A-Za-z][A-Za-z0-9+.-]*:)*//", uri)]
    pieces = [uri[a:b] for a, b in zip([0, *starts], [*starts, len(uri)], strict=True)]
    for i, piece in enumerate(pieces):
        before, at, after = piece.rpartition("@")
        match = re.match(r"[^:]*:", before) if i else re.search(r"(?:^|[(,])[^/?#@:\s(),]*:", before)
        if at and match:
            pieces[i] = f"{before[: match.end()]}***@{after}"
    hidden = re.sub(r"(?i)(%2f%2f[^&\s%]*%3a)[^&\s,]*%40", r"\1***%40", "".join(pieces))
    return re.sub(r"(?i)\b((?:password|passwd|secret|token|signature)=)[^&\s)]*", r"\1***", hidden)
