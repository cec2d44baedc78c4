from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import switchgear
from switchgear import (
    Cancelled,
    Delivery,
    DeliveryState,
    Dropped,
    GaveUp,
    GiveUpAfter,
    InvalidTopic,
    Message,
    OutboxFull,
    OutboxLimits,
    State,
    Transport,
    TransportClosed,
    WouldDeadlock,
    exponential,
    hookimpl,
)
from switchgear.loop_thread import LOOP
from switchgear.testing.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

QUICK: dict[str, Any] = {"client_id": "c", "backoff": exponential(cap=0.05), "connect_timeout": 20.0}
DEAD = "mqtt://127.0.0.1:1"
AMPLE = 30.0  # seconds for what is to come about


class Served:
    """A broker on a loop in a thread of its own."""

    def __init__(self, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-broker")
        self._thread.start()
        self.broker = self.call(lambda: Broker(**options))
        self.wait(self.broker.start)
        self.uri = self.broker.uri

    def call(self, function: Callable[[], T]) -> T:
        """What *function* returns on the broker's loop."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(AMPLE)

    def wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """What awaiting *work* gives on the broker's loop."""

        async def run() -> T:
            async with asyncio.timeout(AMPLE):
                return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(AMPLE + 1)

    def until(self, condition: Callable[[], bool]) -> None:
        """Return when *condition*, about the ledger, holds."""
        self.wait(lambda: self.broker.ledger.until(condition))

    @property
    def payloads(self) -> list[str]:
        """What clients published."""
        return self.call(lambda: [payload.decode() for payload in self.broker.ledger.payloads()])

    def close(self) -> None:
        """End broker, loop and thread."""
        self.wait(self.broker.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(AMPLE)
        self._loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """A broker that listens."""
    one = Served()
    yield one
    one.close()


def open_to(where: Served | str, **options: Any) -> Transport:
    return switchgear.connect(where if isinstance(where, str) else where.uri, **{**QUICK, **options})


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + AMPLE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def waits(thread: threading.Thread) -> bool:
    """Whether *thread* is in one of `threading`'s own waits."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) == (threading.__file__, "wait")


# What a user meets.


def test_round_trip(served: Served) -> None:
    """What is published arrives at the handler, on a worker thread, and each delivery ends as acknowledged."""
    got: list[tuple[str, str]] = []
    with open_to(served) as transport:
        transport.wait_connected(AMPLE)
        subscription = transport.subscribe(
            "orders/#", lambda m: got.append((m.text, threading.current_thread().name)), qos=1
        )
        subscription.wait_ready(AMPLE)
        delivery = transport.publish("orders/1", "hello", qos=1)
        delivery.wait_stored(AMPLE)
        delivery.wait(AMPLE)
        assert delivery.state is DeliveryState.ACKNOWLEDGED
        transport.drain(AMPLE)
        until(lambda: got)
        assert got[0][0] == "hello"
        assert got[0][1].startswith("switchgear-handler-")
        assert (transport.state, transport.is_connected, transport.last_error) == (State.CONNECTED, True, None)
        assert str(transport.endpoint) == served.uri
        assert (transport.stats.accepted, transport.stats.acknowledged, transport.depth) == (1, 1, 0)
        assert "connected to" in transport.explain()
        assert transport.client_id == "c"
        assert repr(transport).startswith("<Transport c connected")
    assert LOOP.loop is None


def test_with_drains(served: Served) -> None:
    """Leaving the block waits until the broker has everything."""
    with open_to(served) as transport:
        for n in range(500):
            transport.publish("t", str(n))
    assert served.payloads == [str(n) for n in range(500)]


def test_iteration(served: Served) -> None:
    """A subscription is iterated in order; unsubscribing, from anywhere, ends the iteration."""
    with open_to(served) as transport:
        subscription = transport.subscribe("t")
        subscription.wait_ready(AMPLE)
        for n in range(3):
            transport.publish("t", str(n))
        got = []
        for message in subscription:
            got.append(message.text)
            if len(got) == 3:
                threading.Timer(0.02, subscription.unsubscribe).start()
        assert got == ["0", "1", "2"]
        assert subscription.get() is None


def test_get_timeout(served: Served) -> None:
    """Waiting for a message ends in time, and the message that comes later is not lost."""
    with open_to(served) as transport:
        subscription = transport.subscribe("t")
        subscription.wait_ready(AMPLE)
        for timeout in (0, 0.02):
            with pytest.raises(TimeoutError, match="no message for 't'"):
                subscription.get(timeout)
        transport.publish("t", "late")
        message = subscription.get(AMPLE)
        assert message is not None
        assert message.text == "late"
        transport.unsubscribe(subscription)
        transport.unsubscribe("t")
        transport.unsubscribe("never")


def test_close_ends_iteration(served: Served) -> None:
    """Closing the transport ends an iteration that waits in another thread."""
    transport = open_to(served)
    subscription = transport.subscribe("t")
    ended = threading.Event()

    def iterate() -> None:
        for _ in subscription:
            pass
        ended.set()

    threading.Thread(target=iterate, daemon=True).start()
    subscription.wait_ready(AMPLE)
    transport.close()
    assert ended.wait(AMPLE)


def test_async_handler(served: Served) -> None:
    """A coroutine function as a handler runs on the loop's thread."""
    names: list[str] = []

    async def handle(_: Message) -> None:
        await asyncio.sleep(0)
        names.append(threading.current_thread().name)

    with open_to(served) as transport:
        transport.subscribe("t", handle).wait_ready(AMPLE)
        transport.publish("t").wait(AMPLE)
        until(lambda: names)
    assert names == ["switchgear-loop"]


def test_many_publishers(served: Served) -> None:
    """Many threads publish at once, each message arrives once, and each thread's own are in order."""
    with open_to(served) as transport:

        def publish(name: int) -> None:
            for n in range(200):
                transport.publish(f"t/{name}", str(n))

        threads = [threading.Thread(target=publish, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        transport.drain(AMPLE)
    for name in range(8):
        sent = served.call(lambda name=name: served.broker.ledger.payloads(f"t/{name}"))  # type: ignore[misc] # bound
        assert [p.decode() for p in sent] == [str(n) for n in range(200)]


def test_many_transports_one_thread(served: Served) -> None:
    """All transports of a process share one loop thread, which ends with the last of them."""
    transports = [open_to(served, client_id=f"c{n}") for n in range(5)]
    for transport in transports:
        transport.wait_connected(AMPLE)
    assert [t.name for t in threading.enumerate()].count("switchgear-loop") == 1
    for transport in transports:
        assert LOOP.loop is not None
        transport.close()
    assert LOOP.loop is None


# The outbox.


@pytest.mark.parametrize("when_full", ["block", "raise", "drop_oldest", "drop_newest"])
def test_full_outbox(served: Served, when_full: str) -> None:
    """A full outbox blocks its publisher until there is room, raises, or drops, as configured."""
    served.wait(served.broker.kill)
    limits = OutboxLimits(max_messages=2, when_full=when_full)  # type: ignore[arg-type] # one of the four
    with open_to(served, outbox_limits=limits) as transport:
        deliveries = [transport.publish("t", str(n)) for n in range(2)]
        expected = ["0", "1"]
        if when_full == "raise":
            with pytest.raises(OutboxFull, match="2 messages"):
                transport.publish("t", "2")
            served.wait(served.broker.restart)
        elif when_full == "block":
            late: list[Delivery] = []
            thread = threading.Thread(target=lambda: late.append(transport.publish("t", "2")))
            thread.start()
            thread.join(0.05)
            assert thread.is_alive()
            with pytest.raises(TimeoutError):
                transport.ready(0.01)
            served.wait(served.broker.restart)
            thread.join(AMPLE)
            late[0].wait(AMPLE)
            expected.append("2")
        else:
            deliveries.append(transport.publish("t", "2"))
            with pytest.raises(Dropped):
                deliveries[0 if when_full == "drop_oldest" else 2].wait(AMPLE)
            served.wait(served.broker.restart)
            expected = ["1", "2"] if when_full == "drop_oldest" else expected
        transport.drain(AMPLE)
        transport.ready(AMPLE)
    assert served.payloads == expected


def test_close_frees_a_blocked_publisher() -> None:
    """A publisher that waits for room is told when the transport is closed."""
    transport = open_to(DEAD, outbox_limits=OutboxLimits(max_messages=1))
    transport.publish("t")
    raised: list[BaseException] = []

    def publish() -> None:
        try:
            transport.publish("t")
        except Exception as error:  # compared below
            raised.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    until(lambda: waits(thread))
    transport.close()
    thread.join(AMPLE)
    assert [type(error) for error in raised] == [TransportClosed]


def test_cancel() -> None:
    """What was never sent can be taken back."""
    transport = open_to(DEAD)
    delivery = transport.publish("t")
    assert transport.cancel(delivery)
    assert not transport.cancel(delivery)
    with pytest.raises(Cancelled):
        delivery.wait(AMPLE)
    transport.close()


# Where waiting is refused.


def test_blocking_in_a_handler(served: Served) -> None:
    """Each blocking call is refused in a handler, close() included, and the transport goes on; publishing is allowed."""
    with open_to(served) as transport:
        outcomes: list[str] = []
        done = threading.Event()

        def handle(message: Message) -> None:
            if message.text != "go":
                done.set()
                return
            delivery = transport.publish("t", "from the handler")
            calls: list[Callable[[], object]] = [
                lambda: delivery.wait(AMPLE),
                lambda: transport.drain(AMPLE),
                lambda: transport.ready(AMPLE),
                lambda: transport.wait_connected(AMPLE),
                transport.close,
                lambda: other.get(AMPLE),
                lambda: other.wait_ready(AMPLE),
            ]
            for call in calls:
                try:
                    call()
                except WouldDeadlock as error:
                    outcomes.append(error.where)
                except Exception as error:  # compared below
                    outcomes.append(repr(error))

        other = transport.subscribe("other")
        transport.subscribe("t", handle).wait_ready(AMPLE)
        transport.publish("t", "go").wait(AMPLE)
        assert done.wait(AMPLE)
        transport.publish("t", "still here").wait(AMPLE)
    assert set(outcomes) == {"a message handler"}
    assert len(outcomes) in {6, 7}  # the message may have been acknowledged before anybody waited for it


def test_blocking_on_the_loop(served: Served) -> None:
    """Each blocking call is refused on the loop's thread, in a coroutine handler and in a callback."""
    outcomes: list[str] = []
    with open_to(served) as transport:

        def attempt(_: object) -> None:
            calls: list[Callable[[], object]] = [transport.drain, transport.close, transport.wait_connected]
            for call in calls:
                try:
                    call()
                except WouldDeadlock as error:
                    outcomes.append(error.where)

        async def handle(message: Message) -> None:
            attempt(message)

        transport.subscribe("t", handle).wait_ready(AMPLE)
        delivery = transport.publish("t")
        delivery.wait(AMPLE)
        until(lambda: len(outcomes) == 3)
        transport.publish("u").add_done_callback(attempt)
        until(lambda: len(outcomes) == 6)
        transport.publish("v").wait(AMPLE)
    assert outcomes == ["the event loop"] * 6


def test_blocking_in_a_hook(served: Served) -> None:
    """A blocking call in a hook is refused at once, at each ending."""
    calls = 0
    outcomes: list[str] = []

    class Plugin:
        transport: Transport

        @hookimpl
        def on_disconnect(self) -> None:
            """Block."""
            nonlocal calls
            calls += 1
            try:
                self.transport.drain(AMPLE)
            except WouldDeadlock as error:
                outcomes.append(error.where)

    plugin = Plugin()
    with open_to(served, plugins=[plugin]) as plugin.transport:
        plugin.transport.wait_connected(AMPLE)
        served.call(served.broker.faults.reset)
        until(lambda: outcomes)
    assert len(outcomes) == calls  # one more, where it had connected again before it was closed
    assert "hook" in outcomes[0]


# The end.


def test_after_close(served: Served) -> None:
    """After close each call raises TransportClosed; close does nothing; looking at it is allowed."""
    transport = open_to(served)
    subscription = transport.subscribe("t")
    delivery = transport.publish("t")
    delivery.wait(AMPLE)
    transport.close()
    transport.close()
    calls: list[Callable[[], object]] = [
        lambda: transport.publish("t"),
        lambda: transport.subscribe("t"),
        lambda: transport.unsubscribe("t"),
        lambda: transport.cancel(delivery),
        transport.reconnect,
        transport.drain,
        transport.ready,
        transport.wait_connected,
        subscription.wait_ready,
        subscription.unsubscribe,
    ]
    for call in calls:
        with pytest.raises(TransportClosed, match="make a new one"):
            call()
    assert subscription.get() is None or subscription.get() is None
    delivery.wait(0)
    assert (transport.state, transport.is_connected, transport.depth) == (State.STOPPED, False, 0)
    assert transport.stats.acknowledged == 1
    assert "stopped" in transport.explain()
    assert "closed" not in repr(transport)


def test_close_ends_waits() -> None:
    """Closing ends every wait in every thread."""
    transport = open_to(DEAD)
    delivery, subscription = transport.publish("t"), transport.subscribe("t")
    outcomes: dict[str, str] = {}

    def wait(name: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # compared below
            outcomes[name] = type(error).__name__
        else:
            outcomes[name] = "returned"

    calls: dict[str, Callable[[], object]] = {
        "wait": delivery.wait,
        "drain": transport.drain,
        "wait_connected": transport.wait_connected,
        "wait_ready": subscription.wait_ready,
        "get": subscription.get,
    }
    threads = [threading.Thread(target=wait, args=item) for item in calls.items()]
    for thread in threads:
        thread.start()
    until(lambda: all(waits(thread) for thread in threads))
    transport.close()
    for thread in threads:
        thread.join(AMPLE)
    assert outcomes == {
        "wait": "Cancelled",
        "drain": "returned",
        "wait_connected": "TransportClosed",
        "wait_ready": "TransportClosed",
        "get": "returned",
    }


def test_give_up_and_reconnect(served: Served) -> None:
    """Giving up ends each wait with the last cause; reconnect() starts again and delivers what was waiting."""
    served.wait(served.broker.kill)
    with open_to(served, give_up_after=GiveUpAfter(attempts=2)) as transport:
        delivery = transport.publish("t", "x")
        for call in (delivery.wait, transport.drain, transport.wait_connected):
            with pytest.raises(GaveUp, match="2 attempts"):
                call(AMPLE)
        assert transport.state is State.GAVE_UP
        with pytest.raises(GaveUp):
            transport.publish("t", "y")
        served.wait(served.broker.restart)
        transport.reconnect()
        delivery.wait(AMPLE)
    assert served.payloads == ["x"]


def test_wait_connected_says_why() -> None:
    """A wait for a connection that runs out says how the last attempt ended."""
    transport = open_to(DEAD)
    until(lambda: transport.last_error)
    with pytest.raises(TimeoutError, match="connection refused"):
        transport.wait_connected(0.1)
    assert "connection refused" in str(transport.last_error)
    transport.close()


def test_refused_publish_is_raised_here(served: Served) -> None:
    """What is wrong with a call is raised where it is made, and not on the loop."""
    with open_to(served) as transport:
        with pytest.raises(InvalidTopic):
            transport.publish("a/#")
        with pytest.raises(InvalidTopic):
            transport.subscribe("")


# The process.


def run(script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A Python of its own that runs *script*."""
    command = [sys.executable, "-I", "-W", "error", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, **options)


FORK = """
import os, sys, switchgear
transport = switchgear.connect(sys.argv[1], client_id="c")
transport.wait_connected(50)
transport.publish("t", "before").wait(50)
waiting = transport.publish("t", "also before")
child = os.fork()
if child == 0:
    said = []
    for call in (lambda: transport.publish("t", "child"), lambda: transport.drain(1), lambda: transport.subscribe("t"),
                 lambda: transport.wait_connected(1), transport.reconnect):
        try:
            call()
        except switchgear.Forked as error:
            said.append(str(os.getppid()) in str(error))
    transport.close()
    with switchgear.connect(sys.argv[1], client_id="child") as own:
        own.publish("t", "own").wait(50)
    os._exit(0 if said == [True] * 5 else 3)
status = os.waitpid(child, 0)[1]
waiting.wait(50)
transport.publish("t", "after").wait(50)
transport.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork(served: Served) -> None:
    """In a forked child each call raises Forked, a new transport works, and the parent goes on as if nothing was."""
    result = run(FORK, served.uri)
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(served.payloads) == sorted(["before", "also before", "own", "after"])


LEFT_OPEN = """
import sys, switchgear
transport = switchgear.connect(sys.argv[1], client_id="c", will=switchgear.Will(topic="will"))
transport.publish("t", "x").wait(50)
"""


def test_left_open(served: Served) -> None:
    """A process that ends without closing its transport says goodbye: no will is published."""
    result = run(LEFT_OPEN, served.uri)
    assert (result.returncode, result.stderr) == (0, "")
    served.until(lambda: bool(served.broker.ledger.ends("c")))
    assert [end.how for end in served.call(lambda: served.broker.ledger.ends("c"))] == ["disconnect"]


MANY_LEFT_OPEN = """
import atexit, switchgear, switchgear.sync
said = []
async def drain(transport, timeout):
    said.append("began")
    await real(transport, 0.1)
    said.append("ended")
real, switchgear.AsyncTransport.drain = switchgear.AsyncTransport.drain, drain
transports = [switchgear.connect("mqtt://127.0.0.1:1", client_id=f"c{n}") for n in range(8)]
deliveries = [transport.publish("t", "x") for transport in transports]
atexit.unregister(switchgear.sync._close_all)
atexit.register(lambda: print(said[:8].count("began"), {d.state.value for d in deliveries}))
atexit.register(switchgear.sync._close_all)
"""


def test_many_left_open() -> None:
    """A process that ends with many transports whose brokers are gone waits for all together, not for one after the other."""
    result = run(MANY_LEFT_OPEN)
    assert (result.stdout, result.returncode, result.stderr) == ("8 {'cancelled'}\n", 0, "")


INTERRUPTED = """
import signal, sys, threading, time, switchgear
from switchgear.loop_thread import LOOP
transport = switchgear.connect(sys.argv[1], client_id="c", will=switchgear.Will(topic="will"))
transport.wait_connected(50)
delivery = transport.publish("t", "never acknowledged")
calls = {  # longer than this process may take
    "wait": lambda: delivery.wait(600), "drain": lambda: transport.drain(600),
    "get": lambda: transport.subscribe("u").get(600), "exit": lambda: transport.close(600),
}
def interrupt():
    frames = 0
    while frames < 20:  # it waits, and has for a while
        code = sys._current_frames()[threading.main_thread().ident].f_code
        frames = frames + 1 if (code.co_filename, code.co_name) == (threading.__file__, "wait") else 0
        time.sleep(0.01)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    calls[sys.argv[2]]()
except KeyboardInterrupt:
    transport.close()
    assert LOOP.loop is None
    print("interrupted")
"""


@pytest.mark.parametrize("call", ["wait", "drain", "get", "exit"])
def test_keyboard_interrupt(served: Served, call: str) -> None:
    """Ctrl-C ends a blocking call at once, and the transport still says goodbye."""
    served.call(served.broker.faults.withhold_acks)
    result = run(INTERRUPTED, served.uri, call)
    assert (result.stdout, result.returncode, result.stderr) == ("interrupted\n", 0, "")
    served.until(lambda: bool(served.broker.ledger.ends("c")))
    assert [end.how for end in served.call(lambda: served.broker.ledger.ends("c"))] == ["disconnect"]


def test_from_a_foreign_loop(served: Served) -> None:
    """Synchronous code that happens to run in some other event loop, as in a notebook, may wait."""

    async def cell() -> None:
        with open_to(served) as transport:
            transport.publish("t", "x").wait(50)

    asyncio.run(cell())
    assert served.payloads == ["x"]


def test_signal_is_unused() -> None:
    """Importing and using the library installs no signal handler."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
