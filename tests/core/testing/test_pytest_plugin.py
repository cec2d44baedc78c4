from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

EVERYTHING = """
import asyncio
import sys

import pytest


def test_nothing_is_imported_before_it_is_asked_for():
    assert not [name for name in sys.modules if name.split(".")[0] == "switchgear"]


def test_broker_and_proxy(switchgear_broker, switchgear_proxy):
    import queue

    import switchgear

    with switchgear.connect(switchgear_proxy.uri, client_id="press-7", protocol="5") as transport:
        transport.publish("t", b"1").wait(10)
        assert switchgear_broker.clients == ["press-7"]
        assert switchgear_proxy.cut() == 1
        transport.publish("t", b"2").wait(10)
        switchgear_broker.faults.refuse(3, times=1)
        assert switchgear_broker.kick("press-7")
        transport.publish("t", b"3").wait(10)
        switchgear_broker.kill()
        waiting = transport.publish("t", b"4")
        switchgear_broker.restart()
        waiting.wait(10)
        heard = queue.SimpleQueue()
        transport.subscribe("news", heard.put).wait_ready(10)
        switchgear_broker.publish("news", b"n", qos=1)
        assert heard.get(timeout=10).payload == b"n"
    assert switchgear_broker.ledger.payloads() == [b"1", b"2", b"3", b"4"]
    assert switchgear_broker.faults.hits["refuse"] == 1


def test_pair(switchgear_pair):
    import switchgear

    with switchgear.connect(switchgear_pair.uris, client_id="press-7", session="shared") as transport:
        for number in range(4):
            transport.publish("t", b"%d" % number).wait(10)
            if number % 2:
                switchgear_pair.kill()
            switchgear_pair.take_over()
    seen = [(entry.broker, entry.payload) for entry in switchgear_pair.ledger.published()]
    assert seen == [("active", b"0"), ("standby", b"1"), ("active", b"2"), ("standby", b"3")]
    assert switchgear_pair.active is switchgear_pair.brokers[0]


def test_memory_network(memory_network, run_virtual):
    from switchgear import AsyncTransport, Profile
    from switchgear.testing import Broker

    async def main():
        broker = Broker()
        memory_network.add("b:1883", broker)
        profile = Profile("mqtt://b", client_id="press-7")
        async with AsyncTransport(profile, make_driver=memory_network.make_driver) as transport:
            await transport.publish("t", b"1")
            memory_network.cut("b:1883")
            await asyncio.sleep(3600)
            await transport.publish("t", b"2")
        return broker.ledger.payloads()

    assert run_virtual(main()) == [b"1", b"2"]


def test_scripted_driver(scripted_driver, virtual_loop):
    from switchgear import AsyncTransport, Cause, Failure, Profile
    from switchgear.testing import Fail, Step

    scripted_driver.then(Step.CONNECT, Fail(Failure(Cause.BROKER_BUSY)))

    async def main():
        async with AsyncTransport(Profile("mqtt://b"), make_driver=scripted_driver.make_driver) as transport:
            await transport.wait_connected(3600)
            return transport.stats.attempts

    assert virtual_loop.run_until_complete(main()) == 2
    before = virtual_loop.time()
    virtual_loop.advance(1e6)
    assert virtual_loop.time() == before + 1e6
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Pytest in *folder*, with every warning an error, as a project of its own."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-Im", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_every_fixture_does_what_it_says(tmp_path: Path) -> None:
    """In a project that configures nothing every fixture works, and nothing is imported before one is asked for."""
    (tmp_path / "test_everything.py").write_text(EVERYTHING)
    ended = run(tmp_path)
    assert "5 passed" in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0


ASYNCIO = """
import asyncio
import inspect

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        wanted = pyfuncitem._fixtureinfo.argnames
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
        return True
"""

ASYNC_TEST = """
import switchgear.aio


async def test_in_their_loop(switchgear_broker):
    async with switchgear.aio.connect(switchgear_broker.uri) as transport:
        await transport.publish("t", b"1")
    assert switchgear_broker.ledger.payloads() == [b"1"]
"""


def test_async_tests_of_others_use_them(tmp_path: Path) -> None:
    """An async test, run by whichever plugin, gets the same fixtures beside its own running loop."""
    (tmp_path / "conftest.py").write_text(ASYNCIO)
    (tmp_path / "test_async.py").write_text(ASYNC_TEST)
    ended = run(tmp_path)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """With ``-p no:switchgear`` no fixture of ours exists."""
    (tmp_path / "test_async.py").write_text("def test_broker(switchgear_broker): pass")
    ended = run(tmp_path, "-p", "no:switchgear")
    assert "fixture 'switchgear_broker' not found" in ended.stdout


def test_fixtures_are_documented(request: pytest.FixtureRequest) -> None:
    """Each fixture's docstring names what one gets: it is its contract."""
    plugin = request.config.pluginmanager.get_plugin("switchgear")
    fixtures = [value for value in vars(plugin).values() if type(value).__name__ == "FixtureFunctionDefinition"]
    assert len(fixtures) == 7
    assert all("switchgear.testing." in (fixture.__doc__ or "") for fixture in fixtures)
