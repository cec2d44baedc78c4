"""Fixtures of Switchgear for pytest, found through its entry point; nothing has to be imported or configured.

This module stands beside the package because pytest imports it in every test run of every project that has Switchgear
installed: it imports nothing of Switchgear before a test asks for a fixture. ``-p no:switchgear`` switches it off.

The fixtures are synchronous and keep their brokers in threads of their own, so plain tests use them as well as those
of pytest-asyncio, anyio or any other plugin. What they do is documented by their docstrings (``pytest --fixtures``).
"""

# ruff: noqa: INP001 - one module beside the package, in no package
from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from switchgear.testing import MemoryNetwork, Script, ThreadedBroker, ThreadedPair, ThreadedProxy, VirtualLoop

T = TypeVar("T")


# The assertions of the contract suites explain themselves. Here, before any conftest.py can have imported them.
pytest.register_assert_rewrite("switchgear.testing.driver_contract", "switchgear.testing.plugin_contract")


@pytest.fixture
def switchgear_broker() -> Iterator[ThreadedBroker]:
    """A running embedded broker on a loopback port, in a thread of its own: a `switchgear.testing.ThreadedBroker`.

    MQTT 3.1.1 and 5, QoS 0 to 2, everyone may connect. ``uri`` is where; ``kill()``, ``restart()``, ``kick(client_id)``
    and ``publish(topic, payload)`` do what they say; ``faults`` makes it misbehave; ``ledger`` is what it saw, and
    ``wait_until(condition)`` waits for it. It is new for each test, and stopped after it.
    """
    from switchgear.testing import ThreadedBroker

    with ThreadedBroker() as broker:
        yield broker


@pytest.fixture
def switchgear_pair() -> Iterator[ThreadedPair]:
    """An active broker and its standby on one store, in a thread of their own: a `switchgear.testing.ThreadedPair`.

    ``uris`` is for ``connect(uris, session="shared")``; ``kill()`` kills the active one, ``take_over()`` makes the
    standby the active one; ``active`` and ``standby`` are the brokers, ``ledger`` is what both saw. New for each test.
    """
    from switchgear.testing import ThreadedPair

    with ThreadedPair() as pair:
        yield pair


@pytest.fixture
def switchgear_proxy(switchgear_broker: ThreadedBroker) -> Iterator[ThreadedProxy]:
    """A TCP proxy before ``switchgear_broker``, in a thread of its own: a `switchgear.testing.ThreadedProxy`.

    Connect to its ``uri``; then ``cut()``, ``refuse()``, ``blackhole()``, ``forget()``, ``slow(delay, rate=...)``,
    ``silence()``, ``half_close()``, ``cut_after(bytes)`` and ``close_all()`` break the link and ``restore()`` mends
    it. Set ``target`` to lead new connections to another broker. New for each test.
    """
    from switchgear.testing import ThreadedProxy

    with ThreadedProxy(switchgear_broker.uri) as proxy:
        yield proxy


@pytest.fixture
def virtual_loop() -> Iterator[VirtualLoop]:
    """An asyncio loop whose time jumps instead of passing: a `switchgear.testing.VirtualLoop`, closed after the test.

    ``virtual_loop.run_until_complete(...)`` and ``virtual_loop.advance(seconds)`` run it. It is not installed as
    anybody's current loop. Sockets are not waited for on it: connect through ``memory_network``.
    """
    from switchgear.testing import VirtualLoop

    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def run_virtual() -> Callable[[Coroutine[Any, Any, T]], T]:
    """`switchgear.testing.run_virtual`: what a coroutine returns, run on a virtual loop of its own.

    An hour's ``asyncio.sleep`` takes no time. It raises `StuckError` where the coroutine waits for what can never
    happen, and what the loop's exception handler heard.
    """
    from switchgear.testing import run_virtual

    return run_virtual


@pytest.fixture
def scripted_driver() -> Script:
    """A driver without a broker, which answers as told and records what it was asked: a `switchgear.testing.Script`.

    Without instructions everything is accepted; ``then(Step.CONNECT, Fail(failure), ...)`` gives the next answers.
    ``AsyncTransport(profile, make_driver=scripted_driver.make_driver)`` uses it, on any loop.
    """
    from switchgear.testing import Script

    return Script()


@pytest.fixture
def memory_network() -> MemoryNetwork:
    """A network in memory, for virtual time: a `switchgear.testing.MemoryNetwork` with nothing in it.

    ``add("b-1:1883", Broker())`` puts a broker into it; ``refuse``, ``blackhole``, ``slow``, ``cut``, ``half_close`` and
    ``restore`` are its faults. ``AsyncTransport(profile, make_driver=memory_network.make_driver)`` runs on it.
    """
    from switchgear.testing import MemoryNetwork

    return MemoryNetwork()
