"""Replacing the process: transports stop in order, messages are on disk or it is refused, and a failure leaves all as it was."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from attrs import define, field
from switchgear import AsyncTransport, Cause, Context, Profile, Restart, State, Verdict, hookimpl
from switchgear.errors import InvalidOption, WouldDeadlock
from switchgear.outbox import MemoryOutbox
from switchgear.outbox.file import OutboxFile
from switchgear.testing import Accept, Hang, Script, Step, ThreadedBroker
from switchgear.testing.wedge import Wedge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from switchgear.drivers.base import Driver, DriverSettings
    from switchgear.report import Event

QUICK = 0.06
"""Connect timeout in seconds; five of them are silence."""


@define(eq=False)
class Replaces:
    """Asks for a new process whenever the driver was silent, and hears the events."""

    then: Callable[[], object]
    may_lose: bool = False
    events: list[Event] = field(factory=list)

    @hookimpl
    def before_reconnect(self, context: Context) -> Verdict | None:
        if context.failure is None or context.failure.cause is not Cause.DRIVER_SILENT:
            return None
        return Restart("process", "wedged", then=self.then, may_lose=self.may_lose)

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def told(self, name: str) -> list[str]:
        return [str(event) for event in self.events if event.name == name]


def wedged_transport(plugin: Replaces, **options: Any) -> tuple[AsyncTransport, Script]:
    """A transport whose first driver never answers, those after it at once; and its script."""
    script, wedge = Script(), Wedge()

    def make_driver(settings: DriverSettings) -> Driver:
        made = wedge.around(script.make_driver(settings))
        if len(script.drivers) == 1:
            wedge.on()
        return made

    profile = Profile("mqtt://b", client_id="press-7", plugins=[plugin], connect_timeout=QUICK, **options)
    return AsyncTransport(profile, make_driver=make_driver), script


def other_transport(**options: Any) -> tuple[AsyncTransport, Script]:
    """One that has nothing to do with it, but lives in the same process."""
    script = Script()
    return AsyncTransport(Profile("mqtt://c", client_id="press-8", **options), make_driver=script.make_driver), script


def test_every_transport_has_stopped_when_it_comes_to_it() -> None:
    """When `then` is called, the other transport has said goodbye, has its acknowledgements, and takes nothing more."""
    seen: dict[str, object] = {}

    def then() -> None:
        seen["thread"] = threading.current_thread().name
        seen["state"] = other.state
        seen["ended by"] = script.connections[0].ended_by
        seen["depth"] = other.depth
        seen["told"] = plugin.told("process_restarting")
        seen["taken"] = other._outbox.accept("late", b"", 1)
        seen["is about it"] = "about to be replaced" in str(other._outbox.full())
        raise OSError(8, "Exec format error")

    plugin = Replaces(then)

    async def main() -> None:
        async with other, asking:
            await other.wait_connected(30)
            script.then(Step.SEND, Accept(after=1.2))  # longer than it takes to find the other one silent
            held = other.publish("in flight")
            await asking.wait_connected(30)
            await other.wait_connected(30)
            await other.publish("after")
            assert held.state is switchgear.DeliveryState.ACKNOWLEDGED
            assert len(script.drivers) == len(own.drivers) == 2
            for transport in (other, asking):
                assert "could not be replaced and goes on: raised OSError: [Errno 8]" in transport.explain()

    other, script = other_transport()
    asking, own = wedged_transport(plugin)
    asyncio.run(main())
    assert seen == {
        "thread": "switchgear-restart",
        "state": State.STOPPED,
        "ended by": "disconnect",
        "depth": 0,
        "told": ["this process is about to be replaced: wedged"],
        "taken": None,
        "is about it": True,
    }
    assert len(plugin.told("process_restart_failed")) == 1
    assert ["in place of the process" in text for text in plugin.told("driver_restarted")] == [True]


@pytest.mark.parametrize("raised", [OSError(2, "No such file"), SystemExit(3), None])
def test_a_process_that_is_still_there_goes_on(raised: BaseException | None) -> None:
    """Whether `then` raises or returns, the messages that wait are sent, by a new driver."""

    def then() -> None:
        if raised is not None:
            raise raised

    plugin = Replaces(then, may_lose=True)

    async def main() -> None:
        async with asking:
            await asyncio.wait_for(_ended(asking.publish("a")), 30)
            assert len(own.drivers) == 2

    asking, own = wedged_transport(plugin)
    asyncio.run(main())
    assert len(plugin.told("process_restart_failed")) == 1


async def _ended(delivery: switchgear.Delivery) -> None:
    await delivery


def test_messages_in_memory_refuse_it() -> None:
    """With a message in memory that cannot be sent, `then` is never called: the driver is replaced, and the message arrives."""
    called: list[int] = []
    plugin = Replaces(lambda: called.append(1))

    async def main() -> None:
        async with other, asking:
            await other.wait_connected(30)
            await asyncio.wait_for(_ended(asking.publish("a")), 30)
            assert len(own.drivers) == 2
            assert len(script.connections) == 1  # nobody else was touched

    other, script = other_transport()
    asking, own = wedged_transport(plugin)
    asyncio.run(main())
    assert called == []
    refused = "this process is not replaced: 1 message(s) would be lost with this process"
    assert [text.partition(";")[0] for text in plugin.told("process_restart_refused")] == [refused]


def test_another_transport_with_messages_in_memory_refuses_it() -> None:
    """What another transport cannot get rid of in time counts as much: it has its connection back, and the message."""
    called: list[int] = []
    plugin = Replaces(lambda: called.append(1))

    async def main() -> None:
        async with other, asking:
            await other.wait_connected(30)
            script.then(Step.SEND, Hang())
            delivery = other.publish("never acknowledged")
            await asking.wait_connected(30)
            await asyncio.wait_for(_ended(delivery), 30)
            assert len(script.connections) == 2

    other, script = other_transport()
    asking, _ = wedged_transport(plugin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("switchgear.transport.DRAIN", 0.05)
        asyncio.run(main())
    assert called == []
    assert len(plugin.told("process_restart_refused")) == 1


def test_what_was_accepted_is_on_disk(tmp_path: Path) -> None:
    """When `then` is called the file of a durable outbox has every message that was accepted, and no acknowledged one."""
    path = tmp_path / "press-7.outbox"
    found: list[tuple[str, ...]] = []

    def then() -> None:
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            found.append(tuple(sorted(topic.decode() for (topic,) in db.execute("SELECT topic FROM message"))))
        db.close()

    plugin = Replaces(then)

    async def main() -> None:
        async with asking:
            asking._outbox.writer.linger = 30  # type: ignore[attr-defined]  # nothing is written unless somebody hurries
            for n in range(300):
                asking.publish(f"t{n:03}")
            await asking.drain(30)

    asking, _ = wedged_transport(plugin, outbox=str(path))
    asyncio.run(main())
    assert found == [tuple(f"t{n:03}" for n in range(300))]


def test_what_could_not_be_written_refuses_it(tmp_path: Path) -> None:
    """A durable outbox whose disk is full holds messages in memory: the process is not replaced."""
    called: list[int] = []
    plugin = Replaces(lambda: called.append(1))

    async def main() -> None:
        async with asking:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(OutboxFile, "commit", broken)
                asking.publish("a")
                await asking.wait_connected(30)
            await asking.drain(30)

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    asking, _ = wedged_transport(plugin, outbox=str(tmp_path / "outbox"))
    asyncio.run(main())
    assert called == []
    assert len(plugin.told("process_restart_refused")) == 1


def test_synchronous_publishers_wait_and_go_on() -> None:
    """A thread that publishes to a synchronous transport meanwhile waits, and nothing that it sent is missing."""
    sent: list[bytes] = []
    is_over = threading.Event()
    more: list[int] = []

    def then() -> None:
        count = len(sent)
        with pytest.raises(WouldDeadlock):  # a blocking call of ours cannot end here
            transport.wait_connected(30)
        is_over.wait(0.1)
        more.append(len(sent) - count)
        raise OSError(7, "Argument list too long")

    plugin = Replaces(then)
    with ThreadedBroker() as broker, switchgear.connect(broker.uri, client_id="press-9") as transport:
        transport.wait_connected(30)

        def publish() -> None:
            while not is_over.is_set():
                sent.append(b"%d" % len(sent))
                transport.publish("n", sent[-1])
                is_over.wait(0.001)

        thread = threading.Thread(target=publish)
        thread.start()

        async def main() -> None:
            async with asking:
                await asking.wait_connected(20)

        asking, _ = wedged_transport(plugin)
        asyncio.run(main())
        is_over.set()
        thread.join()
        transport.drain(30)
        assert set(sent) == set(broker.ledger.payloads())
    assert len(plugin.told("process_restart_failed")) + len(plugin.told("process_restart_refused")) == 1
    assert more in ([], [0], [1])  # the one that it waits with is noted before, maybe before `then` was called


def test_a_transport_that_is_closed_calls_it_off() -> None:
    """A transport that is closed while others still stop does not have its process replaced any more."""
    called: list[int] = []
    plugin = Replaces(lambda: called.append(1))

    async def main() -> None:
        async with other:
            await other.wait_connected(30)
            script.then(Step.SEND, Hang())
            other.publish("never acknowledged")
            async with asking:
                while not other._is_suspended:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.005)
            await other.wait_connected(30)

    other, script = other_transport()
    asking, _ = wedged_transport(plugin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("switchgear.transport.DRAIN", 0.05)
        asyncio.run(main())
    assert called == []


def test_two_that_ask_hear_of_one_try() -> None:
    """Two wedged transports make one try, and both go on with new drivers."""
    called: list[int] = []
    plugin = Replaces(lambda: called.append(1))

    async def main() -> None:
        async with one, two:
            await one.wait_connected(30)
            await two.wait_connected(30)

    (one, first), (two, second) = wedged_transport(plugin), wedged_transport(plugin)
    asyncio.run(main())
    assert called in ([1], [1, 1])
    assert (len(first.drivers), len(second.drivers)) == (2, 2)


def test_a_failure_of_ours_leaves_nothing_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """When the restart itself goes wrong, or no thread can be had for it, the transports go on and publish."""
    plugin = Replaces(lambda: None)

    async def main() -> None:
        async with other, asking:
            await asking.wait_connected(30)
            await other.wait_connected(30)
            await other.publish("a")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryOutbox, "flush", lambda *_: 1 / 0)
        (other, _), (asking, _) = other_transport(), wedged_transport(plugin)
        asyncio.run(main())
    assert "switchgear.internal_error" in [r.message for r in caplog.records]
    assert "ZeroDivisionError" in plugin.told("process_restart_refused")[0]

    def no_thread(thread: threading.Thread, start: Callable[..., None] = threading.Thread.start) -> None:
        if thread.name == "switchgear-restart":
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        (other, _), (asking, _) = other_transport(), wedged_transport(plugin)
        asyncio.run(main())
    assert "can't start new thread" in plugin.told("driver_restarted")[-1]


def test_a_transport_that_gave_up_is_left_alone() -> None:
    """A transport that has given up, or was closed, is not brought back to life by a restart that failed."""
    plugin = Replaces(lambda: None)

    async def main() -> None:
        async with other, asking:
            await asking.wait_connected(30)
            assert other.state is State.GAVE_UP

    script = Script(lambda _: None)
    profile = Profile("mqtt://c", give_up_after=switchgear.GiveUpAfter(attempts=1))
    other = AsyncTransport(profile, make_driver=script.make_driver)
    script.then(Step.DIAL, *[switchgear.testing.Fail(switchgear.Failure(Cause.PORT_REFUSED))] * 2)
    asking, _ = wedged_transport(plugin)
    asyncio.run(main())
    assert len(plugin.told("process_restart_failed")) == 1


@pytest.mark.parametrize(
    ("how", "then", "message"),
    [
        ("reboot", None, "'reboot' is unknown"),
        ("process", None, '"process" needs a function'),
        ("process", 5, '"process" needs a function'),
        ("rebuild", print, '"rebuild" takes none'),
    ],
)
def test_wrong_restarts_are_refused(how: str, then: Any, message: str) -> None:
    """A Restart that cannot be carried out is refused where it is made."""
    with pytest.raises(InvalidOption, match=message):
        Restart(how, then=then)
