"""The data types of the MQTT wire format, read and written. Pure: bytes in, values out.

Source: MQTT 5.0, section 1.5 (data representation); 3.1.1 has the same types, without the pair.
"""

from __future__ import annotations

from switchgear.testing.broker.reasons import MALFORMED_PACKET

MAXIMUM_VARINT = 268_435_455  # four bytes of seven bits: MQTT 5.0, 1.5.5


class MalformedPacket(ValueError):
    """The bytes are no MQTT packet, or one that breaks a rule of the protocol.

    Attributes:
        reason_code: what a server says in DISCONNECT, 0x81 (malformed) or 0x82 (protocol error) most often.
    """

    def __init__(self, message: str, *, reason_code: int = MALFORMED_PACKET) -> None:
        super().__init__(f"{message} (reason 0x{reason_code:02x})")
        self.reason_code = reason_code


class Reader:
    """Takes values off the front of one packet's body, and raises `MalformedPacket` where it ends too soon."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at
        self._end = len(data)

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self._end - self._at

    def take(self, size: int) -> bytes:
        """The next *size* bytes."""
        at = self._at
        if at + size > self._end:
            raise MalformedPacket(f"{size} bytes expected, {self._end - at} left")
        self._at = at + size
        return self._data[at : at + size]

    def rest(self) -> bytes:
        """Every byte that is left."""
        return self.take(self.left)

    def byte(self) -> int:
        """One byte, unsigned."""
        return self.take(1)[0]

    def two(self) -> int:
        """Two bytes, big-endian."""
        return int.from_bytes(self.take(2), "big")

    def four(self) -> int:
        """Four bytes, big-endian."""
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """A variable byte integer of one to four bytes; a longer encoding than needed is malformed."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if shift and not byte:
                    raise MalformedPacket("a variable byte integer is longer than it needs to be")
                return value
        raise MalformedPacket("a variable byte integer has more than four bytes")

    def blob(self) -> bytes:
        """Binary data with its length in front."""
        return self.take(self.two())

    def text(self) -> str:
        """A UTF-8 string with its length in front, without U+0000."""
        return read_text(self.blob())

    def pair(self) -> tuple[str, str]:
        """Two strings: a name and a value."""
        return self.text(), self.text()


def read_text(data: bytes) -> str:
    """The string that *data* encodes.

    Raises:
        MalformedPacket: it is not UTF-8, encodes a surrogate, or contains U+0000.

    Source: MQTT 5.0, 1.5.4.
    """
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedPacket("a string is not UTF-8") from error
    if "\0" in text:
        raise MalformedPacket("a string contains U+0000")
    return text


def varint(value: int) -> bytes:
    """*value* as a variable byte integer.

    Raises:
        ValueError: it is negative or above `MAXIMUM_VARINT`.
    """
    if 0 <= value < 0x80:
        return bytes((value,))
    if not 0 <= value <= MAXIMUM_VARINT:
        raise ValueError(f"{value} does not fit a variable byte integer")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def byte(value: int) -> bytes:
    """*value* as one byte."""
    return value.to_bytes(1, "big")


def two(value: int) -> bytes:
    """*value* as two bytes, big-endian."""
    return value.to_bytes(2, "big")


def four(value: int) -> bytes:
    """*value* as four bytes, big-endian."""
    return value.to_bytes(4, "big")


def blob(value: bytes) -> bytes:
    """*value* with its length in front.

    Raises:
        ValueError: it is longer than 65535 bytes.
    """
    size = len(value)
    if size > 0xFFFF:
        raise ValueError(f"{size} bytes do not fit a field with a length of two bytes")
    return size.to_bytes(2, "big") + value


def text(value: str) -> bytes:
    """*value* in UTF-8, with its length in front."""
    return blob(value.encode())


def pair(value: tuple[str, str]) -> bytes:
    """A name and a value."""
    return text(value[0]) + text(value[1])
