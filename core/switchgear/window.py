"""Which messages were handled already: a bounded window of message ids. Touches nothing but memory; thread-safe.

At-least-once delivery repeats a message whose acknowledgement was lost. An id that a publisher gave it (``message_id``)
tells the repetition from a new message, also when another broker delivers it.
"""

from __future__ import annotations

import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, Final

from switchgear import checks
from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Later = Callable[[bool], None]

DEFAULT_SIZE: Final = 100_000
"""Message ids that a window remembers: at a hundred messages a second, the last quarter of an hour."""

LONGEST_KEY: Final = 256
"""Bytes of a key that windows keep as it is. Publishers choose ids, of up to 65 535 bytes."""


class Window:
    """The last ``size`` message ids that were handled, in memory. Since: 0.1.

    Give it to ``deduplicate``. Subscriptions that share a window and a topic filter count as one consumer, also those
    of several transports: each message is handled once among them. An id takes about 150 bytes, however long it is.

    A process that ends forgets it; `FileWindow` does not.
    """

    outlives: ClassVar[bool] = False
    """Whether it outlives the process: then `keep` comes before `finish`."""

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        if not checks.is_whole(size) or size < 1:
            raise InvalidOption("size", f"{checks.show(size)} is no whole number of at least 1")
        self.size = size
        self._handled: dict[bytes, None] = {}
        self._claimed: dict[str, list[Later]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} of {self.size}>"

    def __len__(self) -> int:
        return len(self._handled)

    def claim(self, key: str, later: Later) -> bool | None:
        """Whether *key* is new, and the caller's to handle; False: it was handled; None: somebody is at it.

        In the last case *later* is called when that ends, with whether it was handled.
        """
        with self._lock:
            if _digest(key) in self._handled:
                return False
            waiting = self._claimed.get(key)
            if waiting is not None:
                waiting.append(later)
                return None
            self._claimed[key] = []
            return True

    def keep(self, keys: Sequence[str]) -> None:
        """Write down that *keys* were handled, where the window outlives the process; it may block."""

    def finish(self, key: str, *, was_handled: bool) -> None:
        """The holder of *key* is done with it, or gives it back."""
        with self._lock:
            waiting = self._claimed.pop(key, [])
            if was_handled:
                self._remember((key,))
        for later in waiting:
            later(was_handled)

    def _remember(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._handled[_digest(key)] = None
        while len(self._handled) > self.size:
            del self._handled[next(iter(self._handled))]

    def close(self) -> None:
        """Release what it holds open."""


def shortened(key: str) -> str:
    """*key* as windows keep it: no longer than `LONGEST_KEY` and sound UTF-8; what is longer, as its digest."""
    if len(key) <= LONGEST_KEY and key.isascii():
        return key
    data = key.encode(errors="backslashreplace")  # an envelope may find lone surrogates, which no file takes
    return data.decode() if len(data) <= LONGEST_KEY else f"blake2b:{blake2b(data).hexdigest()}"


def _digest(key: str) -> bytes:
    return blake2b(shortened(key).encode(), digest_size=16).digest()
