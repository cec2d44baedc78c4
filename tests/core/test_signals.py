from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
from switchgear import TransportClosed, WouldDeadlock
from switchgear.delivery import Delivery
from switchgear.loop_thread import LOOP
from switchgear.outbox import memory, sqlite
from switchgear.outbox.stored import StoredDelivery

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from switchgear.testing import ThreadedBroker

DEAD = "mqtt://127.0.0.1:1"


def interrupt(monkeypatch: pytest.MonkeyPatch, handler: Callable[[], object]) -> None:
    """Have *handler* called in the middle of the next publish, with its locks held: there a signal may be handled."""

    def during(kind: type[Delivery]) -> Callable[..., Delivery]:
        def make(*arguments: Any) -> Delivery:
            if handlers:
                handlers.pop()()
            return kind(*arguments)

        return make

    handlers = [handler]
    monkeypatch.setattr(memory, "Delivery", during(Delivery))
    monkeypatch.setattr(sqlite, "StoredDelivery", during(StoredDelivery))


@pytest.mark.parametrize("durable", [False, True])
def test_close_in_the_middle_of_publish(
    durable: bool,  # noqa: FBT001 - a parameter
    switchgear_broker: ThreadedBroker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A signal handler closes the transport whose publish it interrupted: no deadlock, and nothing is accepted after it."""
    path = str(tmp_path / "outbox")
    options: dict[str, Any] = {"outbox": path} if durable else {}
    transport = switchgear.connect(switchgear_broker.uri, client_id="c", **options)
    transport.publish("t", "1").wait(30)
    interrupt(monkeypatch, transport.close)
    with pytest.raises(TransportClosed):
        transport.publish("t", "2")
    assert transport.stats.accepted == 1
    assert transport.depth == 0
    assert LOOP.loop is None
    if durable:
        with switchgear.connect(DEAD, client_id="c", outbox=path) as following:
            assert following.depth == 0


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("call", ["publish", "drain", "wait"])
def test_what_cannot_be_done_in_the_middle_of_publish(
    call: str,
    durable: bool,  # noqa: FBT001 - a parameter
    switchgear_broker: ThreadedBroker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A signal handler that publishes or waits where it interrupted a publish hears why not; the publish goes on."""
    options: dict[str, Any] = {"outbox": str(tmp_path / "outbox")} if durable else {}
    with switchgear.connect(switchgear_broker.uri, client_id="c", **options) as transport:
        said: list[str] = []

        def handler() -> None:
            calls: dict[str, Callable[[], object]] = {
                "publish": lambda: transport.publish("t", "from the handler"),
                "drain": transport.drain,
                "wait": transport.wait_connected,
            }
            try:
                calls[call]()
            except WouldDeadlock as error:
                said.append(str(error))
            assert transport.stats.waiting <= 1  # looking is allowed

        interrupt(monkeypatch, handler)
        transport.publish("t", "x").wait(30)
        assert len(said) == 1
        assert "a signal handler that interrupted publish()" in said[0]
        assert transport.stats.accepted == 1


CLOSED_TWICE = """
import signal, sys, switchgear
from switchgear.loop_thread import LOOP
transport = switchgear.connect("mqtt://127.0.0.1:1", client_id="c")
delivery = transport.publish("t", "never acknowledged")
def handle(*_):
    transport.close()
    print("closed")
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.3)
transport.close(60)
print(delivery.state.value, LOOP.loop)
"""


def test_close_in_the_middle_of_close() -> None:
    """A signal handler that closes a transport which is being closed ends the draining; the first close returns too."""
    command = [sys.executable, "-I", "-W", "error", "-c", CLOSED_TWICE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout, done.returncode, done.stderr) == ("closed\ncancelled None\n", 0, "")


INTERRUPTED_OFTEN = """
import random, signal, sys, switchgear
signal.signal(signal.SIGALRM, signal.default_int_handler)
rng = random.Random(4)
with switchgear.connect(sys.argv[1], client_id="c", outbox=sys.argv[2] or None) as transport:
    transport.wait_connected(30)
    for _ in range(25):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.002, 0.012))
            while True:
                transport.publish("t", "x")
        except KeyboardInterrupt:
            pass
        transport.drain(30)
    print(transport.stats.accepted - transport.stats.acknowledged, transport.depth)
"""


@pytest.mark.parametrize("durable", [False, True])
def test_publishing_that_is_interrupted(durable: bool, switchgear_broker: ThreadedBroker, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """Ctrl-C in the middle of a publish leaves no lock held and no message that is counted and never sent."""
    path = str(tmp_path / "outbox") if durable else ""
    command = [sys.executable, "-I", "-W", "error", "-c", INTERRUPTED_OFTEN, switchgear_broker.uri, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode, done.stderr) == ("0 0\n", 0, "")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("durable", [False, True])
def test_interrupted_while_it_is_placed(  # noqa: PLR0917 - parameters
    durable: bool,  # noqa: FBT001 - a parameter
    order: str,
    when: str,
    switchgear_broker: ThreadedBroker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """What a signal handler that raised has kept from its place among those that wait is put there, once."""
    options: dict[str, Any] = {"outbox": str(tmp_path / "outbox")} if durable else {}
    with switchgear.connect(switchgear_broker.uri, client_id="c", drain_order=order, **options) as transport:
        transport.publish("t", "1").wait(30)
        kind: Any = type(transport._inner._outbox)
        real = kind._place

        def place(outbox: Any, delivery: Any) -> None:
            monkeypatch.setattr(kind, "_place", real)
            if when == "after":
                real(outbox, delivery)
            raise KeyboardInterrupt

        monkeypatch.setattr(kind, "_place", place)
        with pytest.raises(KeyboardInterrupt):
            transport.publish("t", "2")
        transport.publish("t", "3").wait(30)
        transport.drain(30)
    assert sorted(switchgear_broker.do(switchgear_broker.ledger.payloads)) == [b"1", b"2", b"3"]
