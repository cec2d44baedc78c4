"""What a driver really does, feature by feature, found out on loopback sockets. Does I/O; part of `DriverContract`.

Nothing here believes `Driver.features`: each feature is an experiment, so that a table of drivers can be made from what
was seen. Each of them ends by an event of the driver's or of the server's, none by a time that runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs

from switchgear.cause import Cause
from switchgear.drivers.base import AttemptFailed, DeafListener, DriverFeatures, DriverSettings
from switchgear.testing.broker import Broker, encode
from switchgear.testing.broker import packets as p

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from switchgear.drivers.base import Driver
    from switchgear.testing.driver_contract import DriverContract, World

WRITE: Final = "SWITCHGEAR_WRITE_SEEN"
"""The environment variable that has `compare` write its file in place of comparing."""


def compare(path: Path, name: str, seen: DriverFeatures) -> None:
    """Fail unless the file *path* says of driver *name* what was *seen*; with ``SWITCHGEAR_WRITE_SEEN`` write it there."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    shown = {key: sorted(value) if isinstance(value, frozenset) else value for key, value in attrs.asdict(seen).items()}
    if os.environ.get(WRITE):
        known[name] = shown
        path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    assert known.get(name) == shown, f"{path} says otherwise of {name}; set {WRITE}=1 to have it written"


async def observe(contract: DriverContract) -> DriverFeatures:
    """What the driver of *contract* does."""
    protocols = frozenset([version for version in ("3.1.1", "5") if await _speaks(contract, version)])
    on = copy.copy(contract)
    on.scheme, on.protocol = "mqtt", max(protocols)
    return DriverFeatures(
        protocols=protocols,
        qos=frozenset([qos for qos in (0, 1, 2) if await _carries(on, qos)]),
        websockets=await _takes_websockets(on),
        dials_ahead=await _dials_ahead(on),
        dials_tls=await _dials_tls(on),
        pins_address=await _pins_address(on),
        manual_ack=await _waits_with_acknowledging(on),
        resumes_packet_ids=await _resumes_packet_ids(on),
        sends_pingreq=await _sends_pingreq(on),
        reports_duplicates=await _reports_duplicates(on),
        checks_packet_size=await _checks_packet_size(on),
        checks_text=await _checks_text(on),
    )


def _driver(contract: DriverContract, protocol: str, **changes: Any) -> Driver:
    """A driver, whatever it says that it speaks."""
    values: dict[str, Any] = {
        "client_id": "c",
        "keepalive": 60,
        "connect_timeout": 5.0,
        "tls": contract.client_tls,
        **changes,
    }
    return contract.make_driver(DriverSettings(protocol=protocol, **values))


async def _speaks(contract: DriverContract, protocol: str) -> bool:
    """Whether CONNECT names the version that was asked for."""
    on = copy.copy(contract)
    on.scheme = "mqtt"
    async with Broker() as broker:
        driver = _driver(on, protocol)
        connection = await on.connect(driver, await on.start(broker), DeafListener())
        connection.abort()
        driver.close()
        return broker.ledger.connects()[0].version == {"3.1.1": 4, "5": 5}[protocol]


async def _carries(on: DriverContract, qos: int) -> bool:
    """Whether a message arrives with its QoS."""
    async with on.world() as world:
        connection = await world.connect()
        try:
            connection.send(world.delivery(b"x", qos))
        except Exception:  # whatever it says, it does not carry it
            return False
        ledger = world.broker.ledger
        await ledger.until(lambda: bool(ledger.published()))
        return [entry.qos for entry in ledger.published()] == [qos]


async def _takes_websockets(on: DriverContract) -> bool:
    """Whether CONNECT comes through a WebSocket."""
    over = copy.copy(on)
    over.scheme = "ws"
    async with Broker() as broker:
        driver = _driver(over, on.protocol)
        try:
            connection = await over.connect(driver, await over.start(broker), DeafListener())
        except AttemptFailed:
            return False
        connection.abort()
        return len(broker.ledger.connects()) == 1


async def _dials_ahead(on: DriverContract) -> bool:
    """Whether a dial ends while another one is under way."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for sock in fill:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        try:
            async with on.world() as world:
                slow = asyncio.ensure_future(world.driver.dial(on.uri(full.getsockname()[1])))
                await asyncio.sleep(0)
                link = await world.driver.dial(world.endpoint)
                ahead = not slow.done()
                link.abort()
                slow.cancel()
                await asyncio.wait([slow])
                return ahead
        finally:
            for sock in fill:
                sock.close()


async def _dials_tls(on: DriverContract) -> bool:
    """Whether a dial waits for TLS with a port that says nothing."""
    over = copy.copy(on)
    over.scheme = "mqtts"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        driver = _driver(over, on.protocol, connect_timeout=0.5)
        try:
            link = await driver.dial(over.uri(silent.getsockname()[1]))
        except AttemptFailed as error:
            return error.failure.cause is Cause.TLS_TIMEOUT
        link.abort()
        return False


async def _pins_address(on: DriverContract) -> bool:
    """Whether a name that nobody knows is reached by its address."""
    async with Broker() as broker:
        port = (await on.start(broker)).port
        try:
            link = await _driver(on, on.protocol).dial(on.uri(port, host="nowhere.invalid"))
        except AttemptFailed:
            return False
        link.abort()
        return True


async def _waits_with_acknowledging(on: DriverContract) -> bool:
    """Whether a ping comes before the acknowledgement that nobody has asked for."""
    async with on.world(puppet=True) as world:
        connection = await world.connect()
        world.puppet.send(p.Publish("t", b"x", 1, 7))
        await world.ear.until(lambda: bool(world.ear.messages))
        connection.ping()
        return not isinstance(await world.puppet.take(), p.Puback)


async def _resumes_packet_ids(on: DriverContract) -> bool:
    """Whether a message goes out under the same id, marked as a repetition, on a resumed session."""
    async with on.world(puppet=True) as world:
        world.puppet.connack = p.Connack(0, session_present=True)
        delivery = world.delivery(b"x", 1)
        seen = []
        for _ in range(2):
            connection = await world.connect(clean=False)
            connection.send(delivery)
            packet = await world.puppet.take()
            assert isinstance(packet, p.Publish)
            seen.append(packet)
            connection.abort()
        return seen[1].dup and seen[0].packet_id == seen[1].packet_id


async def _sends_pingreq(on: DriverContract) -> bool:
    """Whether a ping is PINGREQ."""
    async with on.world(puppet=True) as world:
        (await world.connect()).ping()
        return await world.puppet.take() == p.Pingreq()


async def _reports_duplicates(on: DriverContract) -> bool:
    """Whether the DUP flag is in the message."""
    async with on.world(puppet=True) as world:
        await world.connect()
        world.puppet.send(p.Publish("t", b"x", 1, 7, dup=True))
        await world.ear.until(lambda: bool(world.ear.messages))
        return world.ear.messages[0].duplicate


async def _checks_packet_size(on: DriverContract) -> bool:
    """Whether a packet above the announced size ends the connection, and is not reported."""
    async with on.world(puppet=True, maximum_packet_size=1000) as world:
        await world.connect()
        world.puppet.send(p.Publish("t", b"x" * 2000))
        return await _ended(world)


async def _checks_text(on: DriverContract) -> bool:
    """Whether a topic that is no UTF-8 ends the connection."""
    with _quiet():
        async with on.world(puppet=True) as world:
            await world.connect()
            body = b"\x00\x02\xff\xfe" + (b"\0" if on.is_5 else b"") + b"x"
            world.puppet.send_bytes(bytes((0x30, len(body))) + body)
            return await _ended(world)


async def _ended(world: World) -> bool:
    """Whether the connection is lost before one more message is heard."""
    world.puppet.send_bytes(encode(p.Publish("t", b"fence"), version=world.puppet.version))
    await world.ear.until(lambda: bool(world.ear.lost) or b"fence" in world.ear.payloads)
    return bool(world.ear.lost)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a library in C can raise to nobody is not heard."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
