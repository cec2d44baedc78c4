"""Values that never show: passwords, and where they come from. ``env`` and ``file`` read when they are asked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from switchgear.errors import ConfigurationError, InvalidOption, UnreadableFile, redact

if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER: Final = re.compile(r"(Invalid header value) .*", re.DOTALL)
"""What http.client says of a header with a line feed, and then shows it: AWS's session token is one."""


def in_one_line(error: object) -> str:
    """*error* of an HTTP client in one line, and without the header that http.client shows when it refuses it."""
    text = " ".join(str(error).split())
    return _HEADER.sub(r"\1: there is a line feed in the credentials or in the session token", text)


@frozen
class Secret:
    """A text or a callable that gives one, hidden in ``repr``, ``str`` and comparisons of messages.

    A callable is asked before each connect, on a worker thread: tokens expire.
    """

    _source: str | bytes | Callable[[], str | bytes] = field(repr=False)

    def reveal(self) -> bytes:
        """The secret as bytes (text in UTF-8). May block when it comes from a callable, and raises what that raises.

        Raises:
            ConfigurationError: it is a text that no UTF-8 can hold.
        """
        value = self._source() if callable(self._source) else self._source
        try:
            return value.encode() if isinstance(value, str) else bytes(value)
        except UnicodeEncodeError:  # it holds the secret
            raise ConfigurationError("a secret holds a lone surrogate, which is no UTF-8; give it as bytes") from None

    @property
    def is_dynamic(self) -> bool:
        """Whether asking may block, and may answer otherwise the next time."""
        return callable(self._source)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


def env(name: str) -> Secret:
    """The secret in the environment variable *name*, read before each connect.

    Raises:
        ConfigurationError: the variable is not set, or is no text (when it is asked).

    Since: 0.1.
    """

    def read() -> bytes:
        value = os.environ.get(name)
        if value is None:
            raise ConfigurationError(
                f"environment variable {redact(name) or repr(name)} is not set; it should hold a secret"
            )
        try:
            return value.encode()
        except UnicodeEncodeError:  # it holds the secret
            raise ConfigurationError(f"environment variable {name} is no UTF-8 text; it should hold a secret") from None

    return Secret(read)


def file(path: str | os.PathLike[str]) -> Secret:
    """The secret in the first line of the file *path*, read before each connect.

    Raises:
        UnreadableFile: it cannot be read (when it is asked).

    Since: 0.1.
    """

    def read() -> str:
        try:
            return (Path(path).read_text(encoding="utf-8").splitlines() or [""])[0]
        except OSError as error:
            raise UnreadableFile(str(path), "secret file", error.strerror or str(error)) from error
        except UnicodeDecodeError:  # its text quotes the secret
            raise UnreadableFile(str(path), "secret file", "it is not UTF-8 text") from None

    return Secret(read)


def as_secret(value: str | bytes | Secret | Callable[[], str | bytes] | None) -> Secret | None:
    """*value* as a `Secret`; None stays None."""
    return value if value is None or isinstance(value, Secret) else Secret(value)


def taken_as_secret(value: str | bytes | Secret | Callable[[], str | bytes] | None) -> Secret | None:
    """As `as_secret`, for an option: what can be no secret is left as it is, for `check_secret` to refuse."""
    if value is None or isinstance(value, str | bytes | Secret) or callable(value):
        return as_secret(value)
    return value


def check_secret(name: str, value: object) -> None:
    """Refuse a *value* of the option *name* that is neither None nor a `Secret`; it is not shown."""
    if value is not None and not isinstance(value, Secret):
        why = f"a value of type {type(value).__name__} is no secret; give a text, bytes, a callable, switchgear.env() or file()"
        raise InvalidOption(name, why)
