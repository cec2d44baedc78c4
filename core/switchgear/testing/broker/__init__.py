"""A small MQTT broker for demos and tests, never for production."""

from switchgear.testing.broker.broker import Broker
from switchgear.testing.broker.codec import Decoder, MalformedPacket, decode, encode
from switchgear.testing.broker.faults import Faults
from switchgear.testing.broker.ledger import (
    Acked,
    Closed,
    Connected,
    Delivered,
    Entry,
    Ledger,
    Origin,
    Published,
    Repeated,
    Subscribed,
    Unsubscribed,
)
from switchgear.testing.broker.peer import MemoryTransport, Peer
from switchgear.testing.broker.properties import NO_PROPERTIES, Properties
from switchgear.testing.broker.store import Store

__all__ = [
    "NO_PROPERTIES",
    "Acked",
    "Broker",
    "Closed",
    "Connected",
    "Decoder",
    "Delivered",
    "Entry",
    "Faults",
    "Ledger",
    "MalformedPacket",
    "MemoryTransport",
    "Origin",
    "Peer",
    "Properties",
    "Published",
    "Repeated",
    "Store",
    "Subscribed",
    "Unsubscribed",
    "decode",
    "encode",
]
