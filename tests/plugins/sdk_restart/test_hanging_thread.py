"""AWS's SDK wedged in earnest: its only native thread hangs, so nothing of it ever calls back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import switchgear
import switchgear_sdk_restart
from switchgear.plugins import registry
from switchgear.testing import ThreadedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

if "awscrt" not in registry().known_drivers():
    pytest.skip("no plugin provides the driver 'awscrt'", allow_module_level=True)

OPTIONS: dict[str, Any] = {
    "driver": "awscrt",
    "plugins": ["sdk_restart"],
    "connect_timeout": 0.2,
    "ack_timeout": 0.2,
    "keepalive": 2,
    "stable_after": 0.1,
}


class Hang:
    """Has the thread that the SDK uses now hang, until `end`."""

    def __init__(self) -> None:
        from switchgear_awscrt.sdk import sdk, stack

        self._ends = threading.Event()
        self._clients: list[Any] = []
        self._mqtt5 = sdk().mqtt5
        self.stack = stack

    def begin(self) -> None:
        hangs = threading.Event()

        def block(_: object) -> None:
            hangs.set()
            self._ends.wait()

        client = self._mqtt5.Client(
            self._mqtt5.ClientOptions(
                host_name="127.0.0.1",
                port=1,
                bootstrap=self.stack().bootstrap,
                on_lifecycle_event_attempting_connect_fn=block,
            )
        )
        client.start()
        assert hangs.wait(60)
        self._clients.append(client)

    def end(self) -> None:
        self._ends.set()
        while self._clients:
            self._clients.pop().stop()


@pytest.fixture
def hang() -> Iterator[Hang]:
    made = Hang()
    yield made
    made.end()


@pytest.mark.parametrize("when", ["before it connects", "while it is connected"])
def test_another_thread_goes_on(hang: Hang, when: str) -> None:
    """A native thread that hangs is taken for a wedged SDK, and the driver that is built then has another one."""
    before = hang.stack()
    with ThreadedBroker() as broker:
        if when == "before it connects":
            hang.begin()
        with switchgear.connect(broker.uri, client_id="press-7", **OPTIONS) as transport:
            if when == "while it is connected":
                transport.wait_connected(60)
                hang.begin()
            transport.publish("n", b"1").wait(60)
            assert "the driver reported nothing in time" in transport.explain()
            assert [restarted.way for restarted in switchgear_sdk_restart.history()] == ["rebuild"]
            assert hang.stack() is not before
    assert set(broker.ledger.payloads()) == {b"1"}


def test_without_the_plugin_nothing_is_replaced(hang: Hang) -> None:
    """Unless somebody asks for a restart, a thread that hangs is waited for, and used again when it goes on."""
    before = hang.stack()
    hang.begin()
    with (
        ThreadedBroker() as broker,
        switchgear.connect(broker.uri, client_id="press-7", **OPTIONS | {"plugins": []}) as transport,
    ):
        delivery = transport.publish("n", b"1")
        end = time.monotonic() + 60
        while "the driver reported nothing in time" not in transport.explain():
            assert time.monotonic() < end
            time.sleep(0.02)
        hang.end()
        delivery.wait(60)
        assert hang.stack() is before


def test_one_hang_makes_one_new_thread_for_all(hang: Hang) -> None:
    """Transports that find the same thread hanging share the new one, however many they are."""
    hang.begin()
    with ThreadedBroker() as broker:
        transports = [switchgear.connect(broker.uri, client_id=f"press-{n}", **OPTIONS) for n in range(5)]
        try:
            for transport in transports:
                transport.wait_connected(60)
            stacks = {id(transport._inner._manager.driver._stack) for transport in transports}  # type: ignore[attr-defined]
            assert stacks == {id(hang.stack())}
        finally:
            for transport in transports:
                transport.close()
