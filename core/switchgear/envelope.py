"""Message ids where the protocol has no place for them: inside the payload. Pure: no I/O.

MQTT 3.1.1 has no user properties. An envelope wraps payload and id into one payload; both sides must agree on it.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, runtime_checkable

from switchgear import checks
from switchgear.errors import InvalidOption

LONGEST_ID: Final = 256
"""Bytes of an id that an envelope is searched for."""


@runtime_checkable
class Envelope(Protocol):
    """How an id travels inside a payload. Since: 0.1."""

    def wrap(self, message_id: str, payload: bytes) -> bytes:
        """One payload that holds both."""
        ...

    def unwrap(self, payload: bytes) -> tuple[str | None, bytes]:
        """The id and the payload that were wrapped; None and *payload* as it is when it is not of this kind."""
        ...


class LineEnvelope:
    """The id in a line of its own before the payload: ``message-id: ID`` and a line feed. Since: 0.1."""

    def __init__(self, name: str = "message-id") -> None:
        if not isinstance(name, str) or not name.isascii() or not name.isprintable() or not 0 < len(name) < 64:
            raise InvalidOption("name", f"{checks.show(name)} is no name of 1 to 63 printable ASCII characters")
        self._start = f"{name}: ".encode()

    def wrap(self, message_id: str, payload: bytes) -> bytes:
        """Part of `Envelope`."""
        line = message_id.encode()
        if not line or len(line) > LONGEST_ID or b"\n" in line:
            why = f"{checks.show(message_id)} is no line of 1 to {LONGEST_ID} bytes, which this envelope needs"
            raise InvalidOption("message-id", why)
        return self._start + line + b"\n" + payload

    def unwrap(self, payload: bytes) -> tuple[str | None, bytes]:
        """Part of `Envelope`."""
        if not payload.startswith(self._start):
            return None, payload
        begin = len(self._start)
        end = payload.find(b"\n", begin, begin + LONGEST_ID + 1)
        try:
            return (payload[begin:end].decode(), payload[end + 1 :]) if end > begin else (None, payload)
        except UnicodeDecodeError:
            return None, payload


def as_envelope(value: Envelope | Literal["line"] | None) -> Envelope | None:
    """The envelope that an option names; what is wrong passes, for the validator to refuse."""
    return LineEnvelope() if value == "line" else value
