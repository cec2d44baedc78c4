"""The codec in one place: packets to bytes, bytes to packets. Pure; re-exports `encode` and `decode`."""

from switchgear.testing.broker.decode import Decoder, decode
from switchgear.testing.broker.encode import encode
from switchgear.testing.broker.wire import MalformedPacket

__all__ = ["Decoder", "MalformedPacket", "decode", "encode"]
