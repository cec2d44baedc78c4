"""What every driver must do, as tests: subclass `DriverContract` in a test module, and pytest runs them.

    class TestMine(DriverContract):
        scheme, protocol = "mqtt", "5"

        def make_driver(self, settings: DriverSettings) -> Driver:
            return MyDriver(settings)

The tests talk to the embedded broker, or to a `Puppet` that says exactly what a test wants, on real loopback sockets.
What a driver says it lacks (`Driver.features`) is skipped.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar, cast

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from switchgear.cause import Cause, Failure, from_reason_code, from_return_code
from switchgear.delivery import Delivery
from switchgear.drivers.base import (
    AttemptFailed,
    Connection,
    ConnectRequest,
    Driver,
    DriverFeatures,
    DriverSettings,
    Filter,
    Listener,
)
from switchgear.endpoint import parse_uri
from switchgear.errors import MessageTooLarge
from switchgear.message import Message, Properties, Will
from switchgear.testing.broker import Acked, Broker, Closed, Decoder, encode
from switchgear.testing.broker import Properties as PacketProperties
from switchgear.testing.broker import Repeated as RepeatedEntry
from switchgear.testing.broker import packets as p
from switchgear.testing.broker.listener import Listener as Port
from switchgear.testing.broker.websocket import WebSocket
from switchgear.testing.driver_features import observe
from switchgear.waits import Waits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Sequence

    from switchgear.endpoint import Endpoint
    from switchgear.tls import TLS

LONGEST: Final = 100.0
"""Seconds that one test may take: for one that hangs, however slow the machine."""

AMPLE: Final = 30.0
"""Seconds for what is to come about; it takes milliseconds, and more where other programs want the machine."""

STEP: Final = 0.05
"""Seconds that `Pace` counts at a time."""

HOST: Final = "localhost"
"""The name that tests connect to; the server's certificate must be for it."""

Arguments = ParamSpec("Arguments")
C = TypeVar("C", bound="DriverContract")


def case(
    test: Callable[Concatenate[C, Arguments], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[C, Arguments], None]:
    """*test* as a plain method: on a loop of its own, bounded, and failed by what the loop's exception handler hears."""

    @functools.wraps(test)
    def run(self: C, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        heard: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))
            async with asyncio.timeout(LONGEST):
                await test(self, *args, **kwargs)

        asyncio.run(main())
        assert heard == []

    return run


class Pace:
    """How long something took: *real* seconds, and those that our loop had time in, in steps of `STEP`.

    Where the machine stands still, or is busy with others, none of the latter are counted: a bound on them is not broken.
    """

    def __init__(self) -> None:
        self.counted = 0.0
        self._began = time.monotonic()

    @property
    def real(self) -> float:
        """Seconds by the clock."""
        return time.monotonic() - self._began

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._count())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(STEP)
            self.counted += STEP


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[Delivery, int]] = []
        self.messages: list[Message] = []
        self.tokens: list[object] = []
        self.lost: list[Failure] = []
        self.healthy = self.batches = self.writable = 0
        self.after_message: Callable[[], None] | None = None
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when *condition* holds; it is asked after each report."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_lost(self) -> None:
        """Return when the connection was reported as lost."""
        await self.until(lambda: bool(self.lost))

    @property
    def payloads(self) -> list[bytes]:
        """Of the messages, in order."""
        return [message.payload for message in self.messages]

    def on_acknowledged(self, delivery: Delivery, code: int) -> None:
        """Part of `Listener`."""
        self.acknowledged.append((delivery, code))
        self._changed.set()

    def on_message(self, message: Message, token: object) -> None:
        """Part of `Listener`."""
        self.messages.append(message)
        self.tokens.append(token)
        self._changed.set()
        if self.after_message is not None:
            self.after_message()

    def on_batch_end(self) -> None:
        """Part of `Listener`."""
        self.batches += 1
        self._changed.set()

    def on_writable(self) -> None:
        """Part of `Listener`."""
        self.writable += 1
        self._changed.set()

    def on_healthy(self) -> None:
        """Part of `Listener`."""
        self.healthy += 1
        self._changed.set()

    def on_lost(self, failure: Failure) -> None:
        """Part of `Listener`."""
        self.lost.append(failure)
        self._changed.set()


class _Wire(asyncio.Protocol):
    """One connection of a `Puppet`."""

    def __init__(self, puppet: Puppet) -> None:
        self._puppet = puppet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._puppet.transports.append(cast("asyncio.Transport", transport))
        self._puppet.news.set()

    def data_received(self, data: bytes) -> None:
        self._puppet.heard(self, data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._puppet.ended += 1
        self._puppet.news.set()


class Puppet:
    """A broker that only does what it is told; ``answers_connect`` says whether it answers CONNECT by itself."""

    def __init__(self, version: int, *, session_present: bool = False) -> None:
        self.version = version
        self.connack = p.Connack(0, session_present=session_present)
        self.answers_connect = True
        self.transports: list[asyncio.Transport] = []
        self.connects: list[p.Connect] = []
        self.packets: deque[p.Packet] = deque()
        self.ended = 0
        self.news = asyncio.Event()
        self._decoders: dict[_Wire, Decoder] = {}

    def heard(self, wire: _Wire, data: bytes) -> None:
        """Bytes came."""
        decoder = self._decoders.setdefault(wire, Decoder(version=self.version))
        for packet in decoder.feed(data):
            if isinstance(packet, p.Connect):
                self.connects.append(packet)
                if self.answers_connect:
                    self.send(self.connack)
            else:
                self.packets.append(packet)
        self.news.set()

    def send(self, *packets: p.Packet) -> None:
        """Send packets on the newest connection, in one piece."""
        self.send_bytes(b"".join(encode(packet, version=self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes on the newest connection."""
        self.transports[-1].write(data)

    async def take(self) -> p.Packet:
        """The next packet but CONNECT."""
        await self.until(lambda: bool(self.packets))
        return self.packets.popleft()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when *condition* holds; it is asked when something has come."""
        while not condition():
            self.news.clear()
            await self.news.wait()


class DriverContract:
    """The tests. Give ``scheme`` and ``protocol``, `make_driver`, and for TLS ``server_tls`` and ``client_tls``.

    Attributes:
        scheme: ``mqtt``, ``mqtts``, ``ws`` or ``wss``.
        protocol: ``"3.1.1"`` or ``"5"``.
        server_tls: What the servers of the tests show: a certificate for ``localhost``.
        client_tls: Settings that trust it.
    """

    scheme = "mqtt"
    protocol = "3.1.1"
    server_tls: ssl.SSLContext | None = None
    client_tls: TLS | None = None

    def make_driver(self, settings: DriverSettings) -> Driver:
        """The driver under test."""
        raise NotImplementedError

    def advance_packet_ids(self, driver: Driver, connection: Connection, to: int) -> bool:  # noqa: ARG002 - for subclasses
        """Have *to* be the packet id that was used last, without sending as many; False: it cannot be done."""
        return False

    def saw(self, name: str, features: DriverFeatures) -> None:
        """Called with what the driver *name* was seen to do, for those who make a table of it."""

    # Helpers. ----------------------------------------------------------------------------------------------------

    @property
    def is_5(self) -> bool:
        """Whether this is MQTT 5."""
        return self.protocol == "5"

    @property
    def version(self) -> int:
        """The protocol's number in CONNECT."""
        return 5 if self.is_5 else 4

    def driver(self, **changes: Any) -> Driver:
        """A driver with the settings of these tests, and *changes*; the test is skipped if it lacks what they need."""
        values: dict[str, Any] = {
            "client_id": "c",
            "protocol": self.protocol,
            "keepalive": 60,
            "connect_timeout": AMPLE,
            "tls": self.client_tls,
        }
        driver = self.make_driver(DriverSettings(**{**values, **changes}))
        if self.protocol not in driver.features.protocols:
            pytest.skip(f"driver {driver.name!r} does not speak MQTT {self.protocol}")
        if self.scheme in {"ws", "wss"} and not driver.features.websockets:
            pytest.skip(f"driver {driver.name!r} does not speak WebSocket")
        return driver

    def need(self, *, qos: int = 0, is_5: bool = False, manual_ack: bool = False, whole_dial: bool = False) -> None:
        """Skip the test when the driver lacks what it needs."""
        features = self.driver().features
        if whole_dial and self.scheme != "mqtt" and not features.dials_tls:
            pytest.skip("the driver dials TCP only")
        if qos not in features.qos:
            pytest.skip(f"the driver has no QoS {qos}")
        if manual_ack and not features.manual_ack:
            pytest.skip("the driver acknowledges by itself")
        if is_5 and not self.is_5:
            pytest.skip("MQTT 5 only")

    def levels(self, *wanted: int) -> list[int]:
        """Those of the qualities of service *wanted* that the driver carries."""
        return [qos for qos in wanted if qos in self.driver().features.qos]

    def uri(self, port: int, host: str = HOST, options: str = "") -> Endpoint:
        """Where the servers of these tests are."""
        pinned = f"?address=127.0.0.1{options}"
        return parse_uri(f"{self.scheme}://{host}:{port}{pinned}")

    async def start(self, broker: Broker) -> Endpoint:
        """Have *broker* listen; where."""
        tls = self.server_tls if self.scheme in {"mqtts", "wss"} else None
        return self.uri(await broker.start(ssl=tls, websocket=self.scheme in {"ws", "wss"}))

    async def serve(self, puppet: Puppet) -> tuple[Port, Endpoint]:
        """Have *puppet* listen; its port, to be released, and where."""
        is_websocket = self.scheme in {"ws", "wss"}
        tls = self.server_tls if self.scheme in {"mqtts", "wss"} else None

        def factory() -> asyncio.Protocol:
            return WebSocket(_Wire(puppet)) if is_websocket else _Wire(puppet)

        port = Port(factory, host="127.0.0.1", port=0, ssl=tls, scheme=self.scheme)
        await port.open()
        return port, self.uri(port.port)

    async def connect(
        self, driver: Driver, endpoint: Endpoint, ear: Listener, *, clean: bool = True, keeps: bool = True, **more: Any
    ) -> Connection:
        """Dial and CONNECT."""
        link = await driver.dial(endpoint)
        values: dict[str, Any] = {"timeout": AMPLE, **more}
        request = ConnectRequest(endpoint=endpoint, clean_start=clean, keeps_session=keeps, **values)
        return await driver.connect(link, request, ear)

    def world(self, *, puppet: bool = False, limit: int | None = None, **settings_: Any) -> World:
        """Everything one test needs."""
        return World(self, puppet=puppet, limit=limit, settings_=settings_)

    # What it says of itself. -------------------------------------------------------------------------------------

    @case
    async def test_features(self) -> None:
        """What the driver says that it can do is what it is seen to do."""
        if self.scheme != "mqtt":
            pytest.skip("seen over TCP")
        driver = self.driver()
        seen = await observe(self)
        assert seen == driver.features
        self.saw(driver.name, seen)

    # Connecting. -------------------------------------------------------------------------------------------------

    @case
    async def test_connect(self) -> None:
        """CONNECT says who we are and what we want, and CONNACK's limits are known afterwards."""
        async with Broker(users={"u": "pw"}, receive_maximum=7, maximum_packet_size=1000) as broker:
            endpoint = await self.start(broker)
            connection = await self.connect(
                self.driver(keepalive=33), endpoint, Ear(), clean=True, keeps=False, username="u", password=b"pw"
            )
            (entry,) = broker.ledger.connects()
            assert (entry.version, entry.client_id, entry.clean, entry.keepalive) == (self.version, "c", True, 33)
            assert (entry.username, entry.code) == ("u", 0)
            assert not connection.session_present
            assert connection.in_flight == 0
            assert connection.is_writable
            if self.is_5:
                assert (connection.limits.receive_maximum, connection.limits.maximum_packet_size) == (7, 1000)
            await connection.disconnect()

    @case
    async def test_connect_properties(self) -> None:
        """CONNECT of MQTT 5 carries session expiry, receive maximum and maximum packet size as configured."""
        self.need(is_5=True)
        async with self.world(puppet=True, session_expiry=77, receive_maximum=5, maximum_packet_size=9999) as world:
            for keeps, expiry in ((True, 77), (False, 0)):
                await (await world.connect(keeps=keeps)).disconnect()
                about = world.puppet.connects[-1].properties
                assert (about.session_expiry_interval or 0) == expiry
                assert (about.receive_maximum, about.maximum_packet_size) == (5, 9999)

    @case
    async def test_limits(self) -> None:
        """All that CONNACK of MQTT 5 says of the broker is in the limits."""
        self.need(is_5=True)
        async with self.world(puppet=True) as world:
            about = PacketProperties(
                receive_maximum=9,
                maximum_packet_size=123456,
                maximum_qos=1,
                retain_available=0,
                session_expiry_interval=5,
                server_keep_alive=17,
                wildcard_subscription_available=0,
                shared_subscription_available=0,
            )
            world.puppet.connack = p.Connack(0, properties=about)
            limits = (await world.connect()).limits
            assert (limits.receive_maximum, limits.maximum_packet_size, limits.maximum_qos) == (9, 123456, 1)
            assert (limits.session_expiry, limits.keepalive) == (5, 17)
            assert not limits.retain_available
            assert not limits.wildcards_available
            assert not limits.shared_available

    @case
    async def test_refusals(self) -> None:
        """Each code with which a broker refuses is the cause that the table names for it."""
        of_5 = (*range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F)  # MQTT 5, table 3-1
        codes = of_5 if self.is_5 else range(1, 6)
        expect = from_reason_code if self.is_5 else from_return_code
        driver = self.driver()
        async with self.world(puppet=True) as world:
            for code in codes:
                world.puppet.connack = p.Connack(code)
                with pytest.raises(AttemptFailed) as caught:
                    await self.connect(driver, world.endpoint, world.ear)
                failure = caught.value.failure
                assert (failure.cause, failure.code) == (expect(code).cause, code)
            world.puppet.connack = p.Connack(
                0x9E if self.is_5 else 6
            )  # no code of CONNACK's, and a refusal all the same
            with pytest.raises(AttemptFailed):
                await self.connect(driver, world.endpoint, world.ear)
            world.puppet.connack = p.Connack(0)
            await (await self.connect(driver, world.endpoint, world.ear)).disconnect()
            assert world.ear.lost == []

    @case
    async def test_refused_with_words(self) -> None:
        """The reason and the server reference of a refusal are in the failure."""
        self.need(is_5=True)
        async with self.world(puppet=True) as world:
            about = PacketProperties(reason_string="go there", server_reference="other:1883")
            world.puppet.connack = p.Connack(0x9C, properties=about)
            failure = await world.refused()
            assert (failure.cause, failure.server_reference) == (Cause.USE_ANOTHER_SERVER, "other:1883")
            assert "go there" in failure.detail

    @case
    async def test_port_refused(self) -> None:
        """A port where nobody listens is named as such."""
        with socket.socket() as kept:  # bound, so that nobody else is there, and it does not listen
            kept.bind(("127.0.0.1", 0))
            with pytest.raises(AttemptFailed) as caught:
                await self.driver().dial(self.uri(kept.getsockname()[1]))
        assert caught.value.failure.cause is Cause.PORT_REFUSED

    @case
    async def test_tcp_deadline(self) -> None:
        """A host that does not answer ends the dial after the connect timeout."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            fill = [socket.socket() for _ in range(4)]
            try:
                for sock in fill:
                    sock.setblocking(False)
                    sock.connect_ex(listener.getsockname())
                async with Pace() as pace:
                    with pytest.raises(AttemptFailed) as caught:
                        await self.driver(connect_timeout=0.1).dial(self.uri(listener.getsockname()[1]))
                assert caught.value.failure.cause is Cause.CONNECT_TIMEOUT
                assert pace.real > 0.05
                assert pace.counted < 2
            finally:
                for sock in fill:
                    sock.close()

    @case
    async def test_silent_port(self) -> None:
        """A port that accepts and says nothing ends TLS, the upgrade, or CONNECT, each by its own deadline."""
        expected = {"mqtts": Cause.TLS_TIMEOUT, "wss": Cause.TLS_TIMEOUT, "ws": Cause.WEBSOCKET_REFUSED}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            endpoint = self.uri(listener.getsockname()[1])
            # Each step has its own deadline: in this time certificates are read and TCP connects, but for plain MQTT.
            steps = AMPLE if self.scheme == "mqtt" else 0.5
            async with Pace() as pace:
                with pytest.raises(AttemptFailed) as caught:
                    await self.connect(self.driver(connect_timeout=steps), endpoint, Ear(), timeout=0.1)
            assert caught.value.failure.cause is expected.get(self.scheme, Cause.CONNACK_TIMEOUT)
            assert pace.real > 0.05
            assert pace.counted < 2

    @case
    async def test_connack_deadline(self) -> None:
        """A broker that does not answer CONNECT ends the attempt in time, and the connection is closed."""
        async with self.world(puppet=True) as world:
            world.puppet.answers_connect = False
            async with Pace() as pace:
                with pytest.raises(AttemptFailed) as caught:
                    await world.connect(timeout=0.1)
            assert caught.value.failure.cause is Cause.CONNACK_TIMEOUT
            assert pace.real > 0.05
            assert pace.counted < 2
            await world.puppet.until(lambda: world.puppet.ended == 1)

    @case
    async def test_closed_before_connack(self) -> None:
        """A connection that is closed in place of CONNACK is a failed attempt, and nothing is reported as lost."""
        async with self.world(puppet=True) as world:
            world.puppet.answers_connect = False
            task = asyncio.ensure_future(world.connect())
            await world.puppet.until(lambda: len(world.puppet.connects) == 1)
            world.puppet.transports[-1].close()
            with pytest.raises(AttemptFailed) as caught:
                await task
            assert caught.value.failure.cause in {Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST}
            assert world.ear.lost == []

    @case
    async def test_cancelled(self) -> None:
        """A connect that is cancelled closes its connection."""
        async with self.world(puppet=True) as world:
            world.puppet.answers_connect = False
            task = asyncio.ensure_future(world.connect())
            await world.puppet.until(lambda: len(world.puppet.connects) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await world.puppet.until(lambda: world.puppet.ended == 1)

    @case
    async def test_link_abort(self) -> None:
        """A dialled connection that is not wanted is dropped, without a byte of MQTT."""
        self.need(whole_dial=True)
        async with self.world(puppet=True) as world:
            link = await world.driver.dial(world.endpoint)
            await world.puppet.until(lambda: len(world.puppet.transports) == 1)
            link.abort()
            await world.puppet.until(lambda: world.puppet.ended == 1)
            assert world.puppet.connects == []

    @case
    async def test_answer_before_connect(self) -> None:
        """Bytes that come before CONNECT was sent are no reason to raise anything but a failed attempt."""
        self.need(whole_dial=True)
        async with self.world(puppet=True) as world:
            link = await world.driver.dial(world.endpoint)
            await world.puppet.until(lambda: len(world.puppet.transports) == 1)
            world.puppet.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            request = ConnectRequest(endpoint=world.endpoint, clean_start=True, keeps_session=True, timeout=AMPLE)
            with pytest.raises(AttemptFailed):
                await world.driver.connect(link, request, world.ear)
            assert world.ear.lost == []

    @case
    async def test_a_name_as_address(self) -> None:
        """A name given as the address is resolved and dialled in place of the host."""
        async with self.world() as world:
            elsewhere = evolve(world.endpoint, address="localhost")
            link = await world.driver.dial(elsewhere)
            request = ConnectRequest(endpoint=elsewhere, clean_start=True, keeps_session=False, timeout=AMPLE)
            connection = await world.driver.connect(link, request, world.ear)
            await connection.disconnect()
            assert len(world.broker.ledger.connects()) == 1

    # Sessions. ---------------------------------------------------------------------------------------------------

    @case
    async def test_session_flags(self) -> None:
        """A session that is kept is present when it is not started clean, and gone when it is."""
        async with self.world() as world:
            presences = []
            for clean in (False, False, True, False):
                connection = await world.connect(clean=clean)
                presences.append(connection.session_present)
                await connection.disconnect()
            assert presences == [False, True, False, True]
            assert not (await world.connect(clean=True, keeps=False)).session_present
            world.broker.faults.reset()
            await world.ear.until_lost()
            assert not (await world.connect(clean=False)).session_present

    @case
    async def test_publish_again(self) -> None:
        """What was not acknowledged is sent again on the resumed session with its packet id and DUP, and acknowledged.

        A driver that cannot resume packet ids sends it as a new message.
        """
        for qos in self.levels(1, 2):
            async with self.world() as world:
                world.broker.faults.drop_after_publish()
                connection = await world.connect(clean=False)
                delivery = world.delivery(b"x", qos)
                connection.send(delivery)
                await world.ear.until_lost()
                identifier = delivery.packet_id
                resumes = world.driver.features.resumes_packet_ids
                assert bool(identifier) is resumes
                connection = await world.connect(clean=False)
                assert connection.session_present
                connection.send(delivery)
                await world.ear.until(lambda: bool(world.ear.acknowledged))
                assert world.ear.acknowledged == [(delivery, 0)]
                if not resumes:
                    assert [entry.dup for entry in world.broker.ledger.published()] == [False, False]
                    continue
                entries = world.broker.ledger.entries
                again = [e for e in entries if isinstance(e, RepeatedEntry)] or world.broker.ledger.published()[1:]
                assert [(e.packet_id, e.dup) for e in again] == [(identifier, True)]
                assert (connection.in_flight, delivery.packet_id, delivery.phase) == (0, 0, 0)

    @case
    async def test_release_again(self) -> None:
        """A message that the broker has and that was not released is released on the resumed session, not sent again."""
        self.need(qos=2)
        async with self.world() as world:
            world.broker.faults.drop_after_pubrec()
            connection = await world.connect(clean=False)
            delivery = world.delivery(b"x", 2)
            connection.send(delivery)
            await world.ear.until_lost()
            identifier = delivery.packet_id
            connection = await world.connect(clean=False)
            connection.send(delivery)
            assert connection.in_flight == 1
            await world.ear.until(lambda: bool(world.ear.acknowledged))
            assert world.broker.ledger.payloads() == [b"x"]
            released = [e for e in world.broker.ledger.entries if isinstance(e, Acked) and e.packet == "PUBREL"]
            assert {e.packet_id for e in released} == {identifier}
            assert not any(isinstance(e, RepeatedEntry) for e in world.broker.ledger.entries)
            assert world.ear.acknowledged == [(delivery, 0)]

    @case
    async def test_session_lost(self) -> None:
        """A session that the broker has lost ends ours: what is sent again is sent as new, and ids begin anew."""
        self.need(qos=2)
        async with self.world(puppet=True) as world:
            connection = await world.connect(clean=False)
            first = world.delivery(b"x", 2)
            connection.send(first)
            world.puppet.send(p.Publish("t", b"y", 2, 9))
            await world.ear.until(lambda: world.ear.payloads == [b"y"])
            await world.puppet.take()
            world.puppet.transports[-1].abort()
            await world.ear.until_lost()
            connection = await world.connect(clean=False)
            first.packet_id = first.phase = 0  # the outbox does
            connection.send(first)
            packet = await world.puppet.take()
            assert isinstance(packet, p.Publish)
            assert not packet.dup
            world.puppet.send(p.Publish("t", b"z", 2, 9))
            await world.ear.until(lambda: world.ear.payloads == [b"y", b"z"])

    @case
    async def test_exactly_once_in(self) -> None:
        """A message of QoS 2 that comes again on the resumed session is not reported again, but answered."""
        self.need(qos=2, manual_ack=True)
        async with self.world(puppet=True) as world:
            world.puppet.connack = p.Connack(0, session_present=True)
            connection = await world.connect(clean=False)
            world.puppet.send(p.Publish("t", b"one", 2, 7))
            await world.ear.until(lambda: world.ear.payloads == [b"one"])
            world.puppet.transports[-1].abort()
            await world.ear.until_lost()
            again = await world.connect(clean=False)
            world.puppet.send(p.Publish("t", b"one", 2, 7, dup=True))
            connection.acknowledge(world.ear.tokens[0])  # the handler ends, it knows nothing of the new connection
            assert await world.puppet.take() == p.Pubrec(7)
            world.puppet.transports[-1].abort()
            await world.ear.until(lambda: len(world.ear.lost) == 2)
            again = await world.connect(clean=False)
            world.puppet.send(p.Publish("t", b"one", 2, 7, dup=True))
            assert await world.puppet.take() == p.Pubrec(7)
            world.puppet.send(p.Pubrel(7))
            assert await world.puppet.take() == p.Pubcomp(7)
            assert world.ear.payloads == [b"one"]
            world.puppet.send(p.Publish("t", b"two", 2, 7))
            await world.ear.until(lambda: world.ear.payloads == [b"one", b"two"])
            again.acknowledge(world.ear.tokens[1])
            assert await world.puppet.take() == p.Pubrec(7)

    @case
    async def test_old_acknowledgement(self) -> None:
        """A message of an older connection is acknowledged on no later one."""
        self.need(qos=1, manual_ack=True)
        async with self.world(puppet=True) as world:
            world.puppet.connack = p.Connack(0, session_present=True)
            old = await world.connect(clean=False)
            world.puppet.send(p.Publish("t", b"x", 1, 3))
            await world.ear.until(lambda: len(world.ear.messages) == 1)
            world.puppet.transports[-1].abort()
            await world.ear.until_lost()
            new = await world.connect(clean=False)
            old.acknowledge(world.ear.tokens[0])
            new.ping()
            await world.take_ping()

    # Sending. ----------------------------------------------------------------------------------------------------

    @case
    async def test_publish(self) -> None:
        """Messages of each QoS arrive once, in order, as they were sent; those above 0 are acknowledged, once each."""
        async with self.world() as world:
            connection = await world.connect()
            levels = [qos for qos in (0, 1, 2, 1, 0) if qos in world.driver.features.qos]
            deliveries = [world.delivery(b"%d" % n, qos, retain=n == 1) for n, qos in enumerate(levels)]
            for delivery in deliveries:
                connection.send(delivery)
            assert connection.in_flight == len([qos for qos in levels if qos])
            expected = [delivery for delivery in deliveries if delivery.qos]
            await world.ear.until(lambda: len(world.ear.acknowledged) == len(expected))
            published = world.broker.ledger.published()
            assert [(e.payload, e.qos, e.topic) for e in published] == [(d.payload, d.qos, "t") for d in deliveries]
            assert [e.is_retained for e in published] == [d.retain for d in deliveries]
            assert sorted(world.ear.acknowledged, key=lambda a: a[0].sequence) == [(d, 0) for d in expected]
            assert connection.in_flight == 0
            assert {(d.packet_id, d.phase) for d in deliveries} == {(0, 0)}

    @case
    async def test_publish_properties(self) -> None:
        """The properties of a message of MQTT 5 arrive with it, and its expiry counts down."""
        self.need(is_5=True)
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            about = Properties(
                content_type="text/plain",
                response_topic="answers",
                correlation_data=b"\0\1",
                payload_is_text=True,
                message_expiry=99,
                user=(("a", "1"), ("a", "2"), ("\u00e4", "")),
            )
            connection.send(world.delivery(b"x", 1, properties=about))
            expires_at = asyncio.get_running_loop().time() + 700
            connection.send(world.delivery(b"x", 1, expires_at=expires_at))
            first, second = await world.puppet.take(), await world.puppet.take()
            left = int(expires_at - asyncio.get_running_loop().time())
            assert isinstance(first, p.Publish)
            assert isinstance(second, p.Publish)
            assert first.properties == PacketProperties(
                content_type="text/plain",
                response_topic="answers",
                correlation_data=b"\0\1",
                payload_format_indicator=1,
                message_expiry_interval=99,
                user_properties=(("a", "1"), ("a", "2"), ("\u00e4", "")),
            )
            assert second.properties.message_expiry_interval in range(left, 701)

    @case
    async def test_refused_message(self) -> None:
        """A PUBACK or PUBREC that refuses ends the delivery with its code; the connection lives."""
        self.need(is_5=True)
        async with self.world() as world:
            world.allow = lambda topic: topic != "forbidden"
            connection = await world.connect()
            levels = self.levels(1, 2)
            deliveries = [world.delivery(b"x", qos, topic="forbidden") for qos in levels]
            deliveries.append(world.delivery(b"y", max(levels)))
            for delivery in deliveries:
                connection.send(delivery)
            await world.ear.until(lambda: len(world.ear.acknowledged) == len(deliveries))
            codes = {delivery.sequence: code for delivery, code in world.ear.acknowledged}
            assert [codes[delivery.sequence] for delivery in deliveries] == [*([0x87] * len(levels)), 0]
            assert (connection.in_flight, world.ear.lost) == (0, [])
            assert world.broker.ledger.payloads() == [b"y"]

    @case
    async def test_too_large(self) -> None:
        """A message above the broker's maximum packet size raises, and everything else flows; its size itself fits."""
        self.need(is_5=True)
        async with self.world(limit=100) as world:
            connection = await world.connect()
            assert connection.limits.maximum_packet_size == 100
            # fixed header 2, topic 2 + 1, packet id 2, properties 1
            fits, large = world.delivery(b"x" * 92, 1), world.delivery(b"x" * 93, 1)
            with pytest.raises(MessageTooLarge) as caught:
                connection.send(large)
            assert (caught.value.size, caught.value.limit) == (101, 100)
            assert (connection.in_flight, large.packet_id, large.phase) == (0, 0, 0)
            connection.send(fits)
            await world.ear.until(lambda: bool(world.ear.acknowledged))
            assert world.ear.acknowledged == [(fits, 0)]

    @case
    async def test_packet_ids(self) -> None:
        """After 65535 the ids begin anew, and skip those of messages that are not yet acknowledged."""
        self.need(qos=1)
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            kept = [world.delivery(b"kept", 1) for _ in range(3)]
            for delivery in kept:
                connection.send(delivery)
            first = [(await world.puppet.take()).packet_id for _ in kept]  # type: ignore[union-attr] # PUBLISH
            assert len(set(first)) == 3
            if not self.advance_packet_ids(world.driver, connection, 65534):
                pytest.skip("the driver cannot be told which id comes next")
            seen = []
            for _ in range(5):
                connection.send(world.delivery(b"x", 1))
                packet = await world.puppet.take()
                assert isinstance(packet, p.Publish)
                seen.append(packet.packet_id)
            assert not set(seen) & {0, *first}
            assert len(set(seen)) == 5
            assert max(seen) <= 65535

    @case
    async def test_back_pressure(self) -> None:
        """A peer that does not read makes the connection say that it takes no more, and says so when it does again."""
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            await world.puppet.until(lambda: len(world.puppet.connects) == 1)
            raw = world.puppet.transports[-1]
            pause = getattr(raw, "_transport", raw)  # below WebSocket frames
            pause.pause_reading()
            sent = 0
            while connection.is_writable and sent < 500:
                connection.send(world.delivery(b"x" * 100_000, 0))
                sent += 1
                await asyncio.sleep(0)
            assert not connection.is_writable
            assert world.ear.writable == 0
            pause.resume_reading()
            await world.ear.until(lambda: world.ear.writable > 0)
            assert connection.is_writable
            for _ in range(sent):
                packet = await world.puppet.take()
                assert isinstance(packet, p.Publish)
                assert len(packet.payload) == 100_000

    @case
    async def test_large_out(self) -> None:
        """A payload of 5 MB arrives whole."""
        async with self.world() as world:
            connection = await world.connect()
            payload = bytes(range(256)) * 20_480
            connection.send(world.delivery(payload, 1))
            await world.ear.until(lambda: bool(world.ear.acknowledged))
            assert world.broker.ledger.payloads() == [payload]

    # Receiving. --------------------------------------------------------------------------------------------------

    @case
    async def test_receive(self) -> None:
        """Messages of each QoS are reported once, as they were sent, and acknowledged when the caller says so."""
        self.need(manual_ack=True)
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            levels = self.levels(0, 1, 1, 2)
            tells = world.driver.features.reports_duplicates
            world.puppet.send(
                p.Publish("t/0", b"zero"),
                p.Publish("t/1", b"one", 1, 300, is_retained=True),
                p.Publish("t/1", b"again", 1, 302, dup=True),
                *([p.Publish("t/2", b"two", 2, 301, dup=True)] if 2 in levels else []),
            )
            await world.ear.until(lambda: len(world.ear.messages) == len(levels))
            seen = [(m.topic, m.payload, m.qos, m.retain, m.duplicate) for m in world.ear.messages]
            expected = [
                ("t/0", b"zero", 0, False, False),
                ("t/1", b"one", 1, True, False),
                ("t/1", b"again", 1, False, tells),
                ("t/2", b"two", 2, False, tells),
            ]
            assert seen == expected[: len(levels)]
            connection.ping()
            world.puppet.send(await world.take_ping())  # nothing was acknowledged before
            for token in world.ear.tokens:
                connection.acknowledge(token)
            assert [await world.puppet.take() for _ in range(2)] == [p.Puback(300), p.Puback(302)]
            if 2 in levels:
                assert await world.puppet.take() == p.Pubrec(301)
                world.puppet.send(p.Pubrel(301))
                assert await world.puppet.take() == p.Pubcomp(301)
            assert world.ear.tokens[0] is None
            assert world.ear.batches >= 1

    @case
    async def test_receive_properties(self) -> None:
        """The properties of a received message of MQTT 5 are in it; those that it does not have are None."""
        self.need(is_5=True)
        async with self.world(puppet=True) as world:
            await world.connect()
            about = PacketProperties(
                content_type="text/plain",
                response_topic="answers",
                correlation_data=b"\0\1",
                payload_format_indicator=1,
                message_expiry_interval=99,
                user_properties=(("a", "1"), ("a", "2")),
                subscription_identifiers=(3, 300_000),
            )
            world.puppet.send(p.Publish("t", b"x", properties=about), p.Publish("t", b"y"))
            await world.ear.until(lambda: len(world.ear.messages) == 2)
            first, second = world.ear.messages
            assert first.payload == b"x"
            assert first.properties == Properties(
                content_type="text/plain",
                response_topic="answers",
                correlation_data=b"\0\1",
                payload_is_text=True,
                message_expiry=99,
                user=(("a", "1"), ("a", "2")),
            )
            assert (second.payload, second.properties) == (b"y", None)

    @case
    async def test_large_in(self) -> None:
        """A payload of 5 MB that comes in small pieces is reported whole, and so is what follows in the last piece."""
        async with self.world(puppet=True) as world:
            await world.connect()
            payload = bytes(range(256)) * 20_480
            data = b"".join(encode(p.Publish("t", b, 0), version=self.version) for b in (payload, b"after"))
            for at in range(0, len(data), 4099):
                world.puppet.send_bytes(data[at : at + 4099])
                if at % 100 == 0:
                    await asyncio.sleep(0)
            await world.ear.until(lambda: len(world.ear.messages) == 2)
            assert world.ear.payloads == [payload, b"after"]

    @case
    async def test_byte_by_byte(self) -> None:
        """Packets that come one byte at a time are understood."""
        async with self.world(puppet=True) as world:
            await world.connect()
            data = b"".join(encode(p.Publish("t", b"%d" % n * 200, 0), version=self.version) for n in range(3))
            for byte in data:
                world.puppet.send_bytes(bytes((byte,)))
                await asyncio.sleep(0)
            await world.ear.until(lambda: len(world.ear.messages) == 3)
            assert world.ear.payloads == [b"%d" % n * 200 for n in range(3)]

    @case
    async def test_larger_than_announced(self) -> None:
        """A packet above the size that we announced is a protocol error of the broker, found before it has come."""
        if not self.driver().features.checks_packet_size:
            pytest.skip("the driver does not compare sizes")
        async with self.world(puppet=True, maximum_packet_size=1000) as world:
            await world.connect()
            data = encode(p.Publish("t", b"x" * 2000), version=self.version)
            world.puppet.send_bytes(data[:700])
            await world.ear.until_lost()
            assert world.ear.lost[0].cause is Cause.PROTOCOL_ERROR

    @case
    async def test_many_small_ones_at_once(self) -> None:
        """Many packets that together are above our maximum packet size, each below it, are all reported."""
        async with self.world(puppet=True, maximum_packet_size=1000) as world:
            await world.connect()
            world.puppet.send(*(p.Publish("t", b"x" * 500) for _ in range(10)))
            await world.ear.until(lambda: len(world.ear.messages) == 10 or bool(world.ear.lost))
            assert world.ear.lost == []

    # Malformed. --------------------------------------------------------------------------------------------------

    @case
    async def test_malformed(self) -> None:
        """Bytes that break the protocol end the connection with PROTOCOL_ERROR, once, and nothing is raised."""
        five = b"\0" if self.is_5 else b""
        wrong: list[tuple[str, bytes]] = [
            ("type 0", b"\x00\x00"),
            ("a client's packet", b"\x10\x00"),
            ("a second CONNACK", encode(p.Connack(), version=self.version)),
            ("a length of five bytes", b"\x30\xff\xff\xff\xff\x01"),
            ("QoS 3", b"\x36\x05\x00\x01t\x00\x01" + five),
            ("a topic that is no UTF-8", b"\x30\x05\x00\x02\xff\xfe" + (five or b"x")),
            ("a topic longer than its packet", b"\x30\x03\x00\x09t"),
            ("an empty PUBLISH", b"\x30\x00"),
            ("PUBLISH without its id", b"\x32\x03\x00\x01t"),
            ("PUBACK without an id", b"\x40\x00"),
            ("PUBACK with half an id", b"\x40\x01\x00"),
            ("PUBREC without an id", b"\x50\x00"),
            ("PUBREL without an id", b"\x62\x01\x00"),
            ("PUBCOMP without an id", b"\x70\x00"),
            ("SUBACK without an id", b"\x90\x00"),
            ("AUTH that nobody asked for", b"\xf0\x00"),
        ]
        if self.is_5:
            wrong += [
                ("an unknown property", b"\x30\x06\x00\x01t\x02\x7e\x00"),
                ("properties longer than their packet", b"\x30\x05\x00\x01t\x7f\x01"),
                ("a property that PUBLISH has not", b"\x30\x09\x00\x01t\x05\x11\x00\x00\x00\x01"),
            ]
        async with self.world(puppet=True) as world:
            for name, data in wrong:
                if "UTF-8" in name and not world.driver.features.checks_text:
                    continue
                ear = Ear()
                await self.connect(world.driver, world.endpoint, ear)
                world.puppet.send_bytes(data + b"\x00\x01\x00\x00\x00\x00")  # more follows, that must not be misread
                try:
                    await ear.until_lost()
                except asyncio.CancelledError as error:
                    error.add_note(f"the driver did not end the connection after {name}")
                    raise
                await asyncio.sleep(0)
                assert [failure.cause for failure in ear.lost] == [Cause.PROTOCOL_ERROR], name
                assert ear.messages == [], name

    def test_random_bytes(self) -> None:
        """Random bytes after CONNACK end the connection with a failure, or do nothing; nothing is raised."""
        kinds = st.sampled_from([0x20, 0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0])
        body = st.binary(max_size=60)
        framed = st.builds(lambda kind, rest: bytes((kind, len(rest))) + rest, kinds, body)
        anything = st.lists(framed | st.binary(min_size=1, max_size=20), min_size=1, max_size=4).map(b"".join)

        @settings(
            max_examples=60,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # without shrinking: where a driver hangs, each example takes `LONGEST`
            report_multiple_bugs=False,
        )
        @given(anything)
        def run(data: bytes) -> None:
            self._random_bytes(data)

        run()

    @case
    async def _random_bytes(self, data: bytes) -> None:
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            for qos in self.levels(1, 2):
                connection.send(world.delivery(b"x", qos))
            asking = asyncio.ensure_future(connection.subscribe([Filter("t")]))
            await world.puppet.take()
            world.puppet.send_bytes(data)
            world.puppet.transports[-1].close()
            await world.ear.until_lost()
            await asyncio.wait([asking])
            assert asking.exception() is None or isinstance(asking.exception(), ConnectionError)
            assert len(world.ear.lost) == 1
            assert world.ear.lost[0].cause is not Cause.DRIVER_FAILED

    # Subscribing. ------------------------------------------------------------------------------------------------

    @case
    async def test_subscribe(self) -> None:
        """SUBACK's codes come back in order, refusals among them, and what was granted is delivered."""
        async with self.world() as world:
            world.broker.faults.refuse_subscribe("no/#")
            connection = await world.connect()
            refused = 0x87 if self.is_5 else 0x80
            qos = max(world.driver.features.qos)
            codes = await connection.subscribe([Filter("a", 0), Filter("no/#", 1), Filter("b/+", qos)])
            assert codes == [0, refused, qos]
            assert world.ear.healthy >= 1
            world.broker.publish("b/x", b"hello", qos=qos)
            await world.ear.until(lambda: world.ear.payloads == [b"hello"])
            assert await connection.unsubscribe(["a", "never"]) == ([0, 0x11] if self.is_5 else [0, 0])
            world.broker.publish("a", b"gone")
            world.broker.publish("b/x", b"again")
            await world.ear.until(lambda: len(world.ear.messages) == 2)
            assert world.ear.payloads == [b"hello", b"again"]

    @case
    async def test_subscribe_options(self) -> None:
        """The options of a filter of MQTT 5 are sent with it; on 3.1.1 only the QoS is."""
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            filters = [Filter("a", 1, no_local=True, retain_as_published=True, retain_handling=2), Filter("b")]
            asking = asyncio.ensure_future(connection.subscribe(filters))
            packet = await world.puppet.take()
            assert isinstance(packet, p.Subscribe)
            first = p.Subscription("a", 1, *((True, True, 2) if self.is_5 else ()))
            assert packet.subscriptions == (first, p.Subscription("b"))
            world.puppet.send(p.Suback(packet.packet_id, (1, 0)))
            assert await asking == [1, 0]

    @case
    async def test_subscribe_side_by_side(self) -> None:
        """Several packets may be under way at once, and each answer finds its own, in any order."""
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            levels = self.levels(0, 1, 2)
            asking = [asyncio.ensure_future(connection.subscribe([Filter(f"f/{n}", n)])) for n in levels]
            packets = [await world.puppet.take() for _ in asking]
            for packet in reversed(packets):
                assert isinstance(packet, p.Subscribe)
                world.puppet.send(p.Suback(packet.packet_id, (packet.subscriptions[0].qos,)))
            assert [await task for task in asking] == [[n] for n in levels]

    @case
    async def test_lost_while_subscribing(self) -> None:
        """A connection that ends while SUBACK is awaited raises ConnectionError there, and so does a closed one."""
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            asking = [
                asyncio.ensure_future(connection.subscribe([Filter("a")])),
                asyncio.ensure_future(connection.unsubscribe(["a"])),
            ]
            await world.puppet.take()
            await world.puppet.take()
            world.puppet.transports[-1].abort()
            for task in asking:
                with pytest.raises(ConnectionError):
                    await task
            assert len(world.ear.lost) == 1
            for call in (connection.subscribe([Filter("a")]), connection.unsubscribe(["a"])):
                with pytest.raises(ConnectionError):
                    await call

    # Keeping it alive. -------------------------------------------------------------------------------------------

    @case
    async def test_keepalive(self) -> None:
        """A quiet connection pings within its keepalive, and the answer is a proof of health."""
        async with self.world(puppet=True, keepalive=1) as world:
            await world.connect()
            async with Pace() as pace:
                answer = await world.take_ping()
            assert pace.real > 0.2
            assert pace.counted <= 1.2
            world.puppet.send(answer)
            await world.ear.until(lambda: world.ear.healthy == 1)
            assert world.ear.lost == []

    @case
    async def test_server_keep_alive(self) -> None:
        """The keepalive that a broker of MQTT 5 wants replaces ours."""
        self.need(is_5=True)
        async with self.world(puppet=True, keepalive=600, ack_timeout=None) as world:
            world.puppet.connack = p.Connack(0, properties=PacketProperties(server_keep_alive=1))
            await world.connect()
            async with Pace() as pace:
                await world.take_ping()
            assert pace.counted <= 1.2

    @case
    async def test_no_pingresp(self) -> None:
        """A ping without an answer ends the connection as KEEPALIVE_TIMEOUT, once."""
        async with self.world(puppet=True, connect_timeout=0.15) as world:
            world.endpoint = evolve(world.endpoint, connect_timeout=AMPLE)  # so short is the time for PINGRESP only
            connection = await world.connect()
            connection.ping()
            connection.ping()
            await world.ear.until_lost()
            assert [failure.cause for failure in world.ear.lost] == [Cause.KEEPALIVE_TIMEOUT]

    @case
    async def test_overdue_acknowledgement(self) -> None:
        """An overdue acknowledgement sends a ping of our own, and the connection lives when it is answered."""
        self.need(qos=1)
        async with self.world(puppet=True, keepalive=600, ack_timeout=0.1) as world:
            connection = await world.connect()
            connection.send(world.delivery(b"x", 1))
            assert isinstance(await world.puppet.take(), p.Publish)
            world.puppet.send(await world.take_ping())
            await world.ear.until(lambda: world.ear.healthy == 1)
            assert world.ear.lost == []

    @case
    async def test_health(self) -> None:
        """Each kind of answer is reported as a proof of health or as an acknowledgement."""
        self.need(qos=2)
        async with self.world(puppet=True) as world:
            connection = await world.connect()
            connection.send(world.delivery(b"x", 2))
            packet = await world.puppet.take()
            assert isinstance(packet, p.Publish)
            world.puppet.send(p.Pubrec(packet.packet_id))
            await world.ear.until(lambda: world.ear.healthy == 1)
            assert await world.puppet.take() == p.Pubrel(packet.packet_id)
            assert connection.in_flight == 1
            world.puppet.send(p.Pubcomp(packet.packet_id))
            await world.ear.until(lambda: len(world.ear.acknowledged) == 1)
            assert connection.in_flight == 0

    # The end. ----------------------------------------------------------------------------------------------------

    @case
    async def test_disconnect(self) -> None:
        """Disconnecting sends what was sent before, then DISCONNECT: the broker publishes no will; nothing is reported."""
        async with self.world(will=Will(topic="will", payload="gone")) as world:
            connection = await world.connect()
            payload = b"x" * 1_000_000
            connection.send(world.delivery(payload, 0))
            await connection.disconnect()
            ledger = world.broker.ledger
            await ledger.until(lambda: bool(ledger.ends()))
            assert [entry.how for entry in ledger.ends()] == ["disconnect"]
            assert ledger.payloads() == [payload]
            assert await world.published_will() == []
            await connection.disconnect()
            connection.abort()
            assert world.ear.lost == []

    @case
    async def test_abort(self) -> None:
        """Aborting sends no DISCONNECT: the broker publishes the will; nothing is reported."""
        async with self.world(will=Will(topic="will", payload="gone", qos=1, retain=True)) as world:
            connection = await world.connect()
            connection.abort()
            ledger = world.broker.ledger
            await ledger.until(lambda: bool(ledger.ends()))
            assert ledger.ends()[0].how in {"lost", "broken"}
            assert await world.published_will() == [b"gone"]
            connection.abort()
            await connection.disconnect()
            assert world.ear.lost == []

    @case
    async def test_lost(self) -> None:
        """A connection that is reset, closed or kicked is reported once, with its cause and the broker's code."""
        async with self.world() as world:
            ways: list[tuple[Callable[[], object], set[Cause], int | None]] = [
                (world.broker.faults.reset, {Cause.CONNECTION_LOST, Cause.CLOSED_BY_BROKER}, None),
                (
                    lambda: world.broker.kick("c"),
                    {Cause.ADMINISTRATIVE} if self.is_5 else {Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST},
                    0x98 if self.is_5 else None,
                ),
                (
                    lambda: world.broker.kick("c", 0x8B),
                    {Cause.SHUTTING_DOWN} if self.is_5 else {Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST},
                    0x8B if self.is_5 else None,
                ),
            ]
            for end, causes, code in ways:
                ear = Ear()
                connection = await self.connect(world.driver, world.endpoint, ear)
                connection.send(world.delivery(b"x", 0))
                end()
                await ear.until_lost()
                await asyncio.sleep(0.01)
                (failure,) = ear.lost
                assert failure.cause in causes
                assert failure.code == code
                connection.send(world.delivery(b"y", 1))  # too late, and no error: its owner knows in a moment
                connection.acknowledge(None)
                connection.ping()
                connection.abort()
                await connection.disconnect()
                assert len(ear.lost) == 1

    @case
    async def test_taken_over(self) -> None:
        """Another client with our id ends the connection; MQTT 5 says why."""
        async with self.world() as world:
            await world.connect()
            other = Ear()
            await self.connect(self.driver(), world.endpoint, other)
            await world.ear.until_lost()
            expected = Cause.SESSION_TAKEN_OVER if self.is_5 else Cause.CLOSED_BY_BROKER
            assert [failure.cause for failure in world.ear.lost] == [expected]
            assert other.lost == []

    @case
    async def test_nothing_after_abort(self) -> None:
        """After abort nothing is reported, not even what came in the same read."""
        for end in ("abort", "disconnect"):
            async with self.world(puppet=True) as world:
                connection = await world.connect()
                closing: list[asyncio.Future[None]] = []

                def stop(
                    end: str = end,
                    connection: Connection = connection,
                    closing: list[asyncio.Future[None]] = closing,
                ) -> None:
                    if end == "abort":
                        connection.abort()
                    else:
                        closing.append(asyncio.ensure_future(connection.disconnect()))

                world.ear.after_message = stop
                world.puppet.send(*(p.Publish("t", b"%d" % n) for n in range(5)))
                await world.puppet.until(lambda: world.puppet.ended == 1)
                await asyncio.sleep(0.01)
                if closing:
                    await asyncio.wait(closing)
                assert world.ear.lost == []
                assert len(world.ear.messages) == (1 if end == "abort" else 5)

    @case
    async def test_close(self) -> None:
        """A driver that is closed when its connections are gone holds nothing, and may be closed again."""
        async with self.world() as world:
            await (await world.connect()).disconnect()
            world.driver.close()
            world.driver.close()
            assert [type(e) for e in world.broker.ledger.entries][-1] is Closed


class World:
    """A server, a driver and an ear, for one test."""

    def __init__(self, contract: DriverContract, *, puppet: bool, limit: int | None, settings_: dict[str, Any]) -> None:
        self._contract = contract
        self._wants_puppet = puppet
        self._limit = limit
        self.allow: Callable[[str], bool] = lambda _topic: True
        self.ear = Ear()
        self.driver = contract.driver(**settings_)
        self._sequence = 0
        self._open: list[Connection] = []
        self._port: Port | None = None

    async def __aenter__(self) -> Self:
        if self._wants_puppet:
            self.puppet = Puppet(self._contract.version)
            self._port, self.endpoint = await self._contract.serve(self.puppet)
        else:
            self.broker = Broker(
                authorize=lambda _user, _action, topic: self.allow(topic), maximum_packet_size=self._limit
            )
            self.endpoint = await self._contract.start(self.broker)
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._open:
            connection.abort()
        self.driver.close()
        if self._port is None:
            await self.broker.stop()
        else:
            self._port.release()
            for transport in self.puppet.transports:
                transport.abort()
        for _turn in range(3):
            await asyncio.sleep(0)  # asyncio closes sockets on later turns

    def delivery(self, payload: bytes, qos: int, *, topic: str = "t", retain: bool = False, **more: Any) -> Delivery:
        """A new message to send."""
        self._sequence += 1
        return Delivery(Waits(), self._sequence, topic, payload, qos, retain, **more)

    async def connect(self, *, clean: bool = True, keeps: bool = True, **more: Any) -> Connection:
        """A connection to the server."""
        connection = await self._contract.connect(
            self.driver, self.endpoint, self.ear, clean=clean, keeps=keeps, **more
        )
        self._open.append(connection)
        return connection

    async def take_ping(self) -> p.Packet:
        """The driver's next packet is a ping of its kind; what answers it."""
        packet = await self.puppet.take()
        if self.driver.features.sends_pingreq:
            assert packet == p.Pingreq()
            return p.Pingresp()
        while isinstance(packet, p.Pingreq):  # the library's own, where the machine stood still when ours was due
            self.puppet.send(p.Pingresp())
            packet = await self.puppet.take()
        assert isinstance(packet, p.Unsubscribe)
        return p.Unsuback(packet.packet_id, (0x11,))

    async def refused(self) -> Failure:
        """How the server refuses a connection."""
        with pytest.raises(AttemptFailed) as caught:
            await self.connect()
        return caught.value.failure

    async def published_will(self) -> Sequence[bytes]:
        """What a new subscriber to ``will`` gets: the will, if it was published and retained."""
        ear = Ear()
        values = DriverSettings(
            client_id="watcher",
            protocol=self._contract.protocol,
            keepalive=60,
            connect_timeout=AMPLE,
            tls=self._contract.client_tls,
        )
        driver = self._contract.make_driver(values)
        connection = await self._contract.connect(driver, self.endpoint, ear)
        await connection.subscribe([Filter("will"), Filter("fence")])
        connection.send(self.delivery(b"fence", 0, topic="fence"))
        await ear.until(lambda: b"fence" in ear.payloads)
        await connection.disconnect()
        return [payload for payload in ear.payloads if payload != b"fence"]
