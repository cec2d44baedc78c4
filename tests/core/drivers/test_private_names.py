"""Private names of paho-mqtt that `switchgear.drivers.paho` relies on: a release that drops one fails here, by name."""

from __future__ import annotations

import inspect

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from switchgear.drivers.base import DriverSettings
from switchgear.drivers.paho import Codec, MemorySocket
from switchgear.drivers.session import Session


def new(protocol: str = "5") -> Codec:
    settings = DriverSettings(client_id="c", protocol=protocol, keepalive=60, connect_timeout=5)
    return Codec(settings, Session(), clean=True)


@pytest.mark.parametrize("name", ["_create_socket", "_mid_generate"])
def test_overridden(name: str) -> None:
    """Paho has each private method that is overridden, and it takes no argument."""
    assert list(inspect.signature(getattr(mqtt.Client, name)).parameters) == ["self"]
    assert name in vars(Codec)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_socket_is_ours(protocol: str) -> None:
    """Paho's connect asks `_create_socket` for its socket, and writes CONNECT into it at once."""
    codec = new(protocol)
    written: list[bytes] = []
    codec.first_write = written.append
    codec.connect("host.invalid", 1883, 60)
    assert isinstance(codec.pipe, MemorySocket)
    assert id(codec.socket()) == id(codec.pipe)
    assert b"".join(written)[0] == 0x10


def test_ids_are_ours() -> None:
    """Paho asks `_mid_generate` for the packet ids of SUBSCRIBE and UNSUBSCRIBE."""
    codec = new()
    codec.connect("host.invalid", 1883, 60)
    codec.packet_ids._last = 40
    assert codec.subscribe([("t", SubscribeOptions(qos=1))])[1] == 41
    assert codec.unsubscribe(["t"])[1] == 42
    assert codec.packet_ids.requests == {41, 42}


def test_no_thread_and_no_reconnect() -> None:
    """Paho starts no thread, and does not reconnect by itself."""
    codec = new()
    codec.connect("host.invalid", 1883, 60)
    assert codec._thread is None
    assert codec._reconnect_on_failure is False


def test_loop_read() -> None:
    """One call of loop_read handles one packet of the memory socket, and calls back before it returns."""
    codec = new("3.1.1")
    heard: list[object] = []
    codec.on_connect = lambda *arguments: heard.append(arguments)
    codec.connect("host.invalid", 1883, 60)
    codec.pipe.feed(b"\x20\x02\x00\x00")
    assert codec.loop_read() in {0, 7}
    assert len(heard) == 1


def test_properties() -> None:
    """Paho's properties have the attributes that are read and written, as their own names."""
    known = set(Properties(PacketTypes.PUBLISH).names)  # type: ignore[no-untyped-call] # paho's are not typed
    ours = {
        "Content Type",
        "Response Topic",
        "Correlation Data",
        "Payload Format Indicator",
        "Message Expiry Interval",
        "User Property",
        "Receive Maximum",
        "Maximum Packet Size",
        "Maximum QoS",
        "Retain Available",
        "Session Expiry Interval",
        "Server Keep Alive",
        "Wildcard Subscription Available",
        "Shared Subscription Available",
        "Reason String",
        "Server Reference",
        "Will Delay Interval",
    }
    assert ours <= known
