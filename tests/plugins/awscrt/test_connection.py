from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from switchgear.cause import Cause
from switchgear.delivery import Delivery
from switchgear.drivers.base import Filter
from switchgear.errors import InvalidOption
from switchgear.message import Properties
from switchgear.testing.broker import packets as p
from switchgear.testing.broker.listener import Listener as Port
from switchgear.testing.driver_contract import Ear, Puppet, _Wire
from switchgear.waits import Waits
from switchgear_awscrt.mailbox import Mailbox
from switchgear_awscrt.publisher import publisher
from switchgear_awscrt.sdk import sdk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

import contextlib


@contextlib.asynccontextmanager
async def served(**values: Any) -> AsyncIterator[tuple[Puppet, int]]:
    """A puppet and its port."""
    puppet = Puppet(5, **values)
    port = Port(lambda: _Wire(puppet), host="127.0.0.1", port=0, ssl=None, scheme="mqtt")
    await port.open()
    try:
        yield puppet, port.port
    finally:
        port.release()
        for transport in puppet.transports:
            transport.abort()
        await asyncio.sleep(0.01)


def delivery(payload: bytes = b"x", qos: int = 1, **more: Any) -> Delivery:
    """A message."""
    return Delivery(Waits(), 1, "t", payload, qos, False, **more)


async def test_pingreq_of_the_sdk(crt: Any) -> None:
    """Once the broker has proved healthy the SDK's own PINGREQ keeps the connection alive, and finds a dead peer."""
    async with served() as (puppet, port):
        ear = Ear()
        driver = crt.driver(keepalive=1, connect_timeout=0.3, ack_timeout=None)  # so long PINGRESP may take
        connection = await crt.connect(driver, evolve(crt.endpoint("mqtt", port), connect_timeout=30.0), ear)
        asking = asyncio.ensure_future(connection.subscribe([Filter("t")]))
        packet = await puppet.take()
        assert isinstance(packet, p.Subscribe)
        puppet.send(p.Suback(packet.packet_id, (0,)))
        await asking
        assert await puppet.take() == p.Pingreq()
        await ear.until_lost()
        assert [failure.cause for failure in ear.lost] == [Cause.KEEPALIVE_TIMEOUT]


async def test_the_sdk_never_tries_again(crt: Any) -> None:
    """After a refusal or a loss the SDK makes no second attempt, whatever it would do by itself."""
    async with served() as (puppet, port):
        ear = Ear()
        await crt.connect(crt.driver(), crt.endpoint("mqtt", port), ear)
        puppet.transports[-1].close()
        await ear.until_lost()
        puppet.connack = p.Connack(0x88)
        with pytest.raises(Exception, match="broker unavailable"):
            await crt.connect(crt.driver(), crt.endpoint("mqtt", port))
        await asyncio.sleep(0.3)
        assert len(puppet.connects) == 2


async def test_client_says_nothing_of_itself(crt: Any) -> None:
    """No user name is sent where none is given: the SDK's metrics, which only AWS understands, are off."""
    async with served() as (puppet, port):
        await (await crt.connect(crt.driver(), crt.endpoint("mqtt", port))).disconnect()
        assert puppet.connects[0].username is None


async def test_qos_2_never_reaches_the_sdk(crt: Any) -> None:
    """A message of QoS 2 that an outbox holds from other times, or a filter, is refused with the reason."""
    async with served() as (_, port):
        connection = await crt.connect(crt.driver(), crt.endpoint("mqtt", port))
        with pytest.raises(InvalidOption, match="no QoS 2"):
            connection.send(delivery(qos=2))
        with pytest.raises(InvalidOption, match="no QoS 2"):
            await connection.subscribe([Filter("t", 2)])
        assert connection.in_flight == 0
        connection.abort()


@pytest.mark.parametrize("is_known", [True, False])
async def test_private_name_of_the_sdk(crt: Any, monkeypatch: pytest.MonkeyPatch, is_known: bool) -> None:  # noqa: FBT001 - a parameter
    """The private call takes what we give it; where it does not, the public one is used, and both carry everything."""
    calls: list[str] = []
    native = sdk().native.mqtt5_client_publish
    public = sdk().mqtt5.Client.publish

    def watched(*values: Any) -> Any:
        if not is_known and calls[-1:] != ["public"]:
            calls.append("refused")
            raise TypeError("another number of parameters")
        calls.append("native")
        return native(*values)

    def publish(self: Any, packet: Any) -> Any:
        calls.append("public")
        return public(self, packet)

    monkeypatch.setattr(sdk().native, "mqtt5_client_publish", watched)
    monkeypatch.setattr(sdk().mqtt5.Client, "publish", publish)
    about = Properties(content_type="c", user=(("a", "b"),))
    async with served() as (puppet, port):
        ear = Ear()
        connection = await crt.connect(crt.driver(), crt.endpoint("mqtt", port), ear)
        for qos in (0, 1):
            connection.send(delivery(b"plain", qos))
            connection.send(delivery(b"with", qos, properties=about))
        packets: list[Any] = [await puppet.take() for _ in range(4)]
        assert [(each.payload, each.qos) for each in packets] == [
            (b"plain", 0),
            (b"with", 0),
            (b"plain", 1),
            (b"with", 1),
        ]
        assert packets[1].properties.user_properties == (("a", "b"),)
        puppet.send(*(p.Puback(each.packet_id, code) for each, code in zip(packets[2:], (0, 0x97), strict=True)))
        await ear.until(lambda: len(ear.acknowledged) == 2)
        assert [code for _, code in ear.acknowledged] == [0, 0x97]
        await connection.disconnect()
    assert ("public" in calls) is (not is_known)


async def test_message_that_the_sdk_refuses(crt: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A message that the SDK will not send ends as refused, with a line in the log; the connection lives."""
    async with served() as (puppet, port):
        ear = Ear()
        connection = await crt.connect(crt.driver(), crt.endpoint("mqtt", port), ear)
        connection._puback(delivery(), 5147, 1, 0, None, None)
        connection.in_flight = 1
        await ear.until(lambda: bool(ear.acknowledged))
        assert [code for _, code in ear.acknowledged] == [0x80]
        assert ear.lost == []
        connection.send(delivery(b"after", 0))
        packet = await puppet.take()
        assert isinstance(packet, p.Publish)
        connection.abort()
    (record,) = [record for record in caplog.records if record.message == "switchgear.message_not_sent"]
    assert "PACKET_VALIDATION" in record.__dict__["error"]


async def test_acknowledgement_that_comes_too_late(crt: Any) -> None:
    """An acknowledgement that the SDK no longer takes raises nothing into the handler that is done."""

    class Gone:
        def invoke_publish_acknowledgement(self, _token: object) -> None:
            raise RuntimeError("the connection is gone")

    async with served() as (_, port):
        connection = await crt.connect(crt.driver(), crt.endpoint("mqtt", port))
        client, connection._client = connection._client, Gone()
        connection.acknowledge(object())
        connection._client = client
        connection.abort()


async def test_a_stream_of_callbacks_wakes_the_loop_once() -> None:
    """While many callbacks come, the loop looks by itself: none wakes it, and all are served in order."""
    heard: list[int] = []
    batches = 0

    def after() -> None:
        nonlocal batches
        batches += 1

    wakes: list[Callable[[], None]] = []
    looks: list[Callable[[], None]] = []  # that it will make by itself, after a pause
    mail = Mailbox(after)
    mail._loop = SimpleNamespace(call_soon_threadsafe=wakes.append, call_later=lambda _pause, look: looks.append(look))  # type: ignore[assignment]
    for number in range(5000):
        mail.post(heard.append, number)
        if number % 100 == 99:
            (look,) = looks or wakes
            looks.clear()
            look()
    assert heard == list(range(5000))
    assert (len(wakes), batches) == (1, 50)
    (look,) = looks
    looks.clear()
    look()  # nothing has come: from now on it is to be woken
    mail.post(heard.append, 5000)
    assert (len(wakes), looks) == (2, [])


async def test_callbacks_of_another_thread() -> None:
    """Whatever the moment at which a callback comes, it is served, in order: the last one, and one after a pause, too."""
    heard: list[int] = []
    over = asyncio.Event()
    mail = Mailbox(lambda: None)

    def hear(number: int) -> None:
        heard.append(number)
        if number == 4999:
            over.set()

    def post() -> None:
        for number in range(5000):
            mail.post(hear, number)
            if number % 500 == 0:
                threading.Event().wait(0.0005)

    thread = threading.Thread(target=post)
    thread.start()
    await over.wait()
    thread.join()
    assert heard == list(range(5000))
    single = asyncio.Event()
    await asyncio.sleep(0.01)
    mail.post(single.set)
    await single.wait()


async def test_one_wake_up_for_many() -> None:
    """However many callbacks come while the loop sleeps, it is woken once, and hears them in their order."""
    heard: list[int] = []
    batches = 0
    wakes = 0
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe

    def after() -> None:
        nonlocal batches
        batches += 1

    def counted(*values: Any) -> Any:
        nonlocal wakes
        wakes += 1
        return wake(*values)

    mail = Mailbox(after)
    mail._loop = SimpleNamespace(call_soon_threadsafe=counted, call_soon=loop.call_soon, call_later=loop.call_later)  # type: ignore[assignment]
    for number in range(1000):
        mail.post(heard.append, number)
    while batches < 2:  # noqa: ASYNC110 - after so many it looks once more by itself
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert heard == list(range(1000))
    assert (batches, wakes) == (2, 1)


def test_an_interrupt_between_two_callbacks() -> None:
    """What was posted behind a call that Ctrl-C ended, and what is posted later, is called when the loop runs again."""
    called: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def make() -> Mailbox:
        return Mailbox(lambda: None)

    async def go_on() -> None:
        box.post(called.append, "later")
        while len(called) < 2:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0)

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        box = loop.run_until_complete(make())
        box.post(interrupt)
        box.post(called.append, "behind")
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(10))
        loop.run_until_complete(asyncio.wait_for(go_on(), 30))
    assert called == ["behind", "later"]


def test_callbacks_after_the_loop() -> None:
    """A callback that comes when the loop is closed is dropped, without an error on the SDK's thread."""

    async def make() -> Mailbox:
        return Mailbox(lambda: None)

    mail = asyncio.run(make())
    mail.post(print, "nobody is there")


def test_publisher_needs_no_private_name() -> None:
    """An SDK without the private name is published to by its public one."""
    sent: list[Any] = []

    class Future:
        def add_done_callback(self, done: Any) -> None:
            sent.append(done)

    class Client:
        def publish(self, packet: Any) -> Future:
            sent.append(packet)
            return Future()

    async def publish() -> None:
        without = type("Sdk", (), {"native": object(), "mqtt5": sdk().mqtt5})
        publisher(without, Client())(delivery(b"x", 1), lambda *_: None)

    asyncio.run(publish())
    assert sent[0].payload == b"x"
