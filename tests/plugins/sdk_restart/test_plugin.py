"""When the plugin restarts what, on virtual time; and what nothing else but a silent driver triggers."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
import switchgear_sdk_restart
from attrs import evolve
from switchgear import AsyncTransport, Cause, DeliveryState, Failure, GiveUpAfter, Profile, State
from switchgear.hook_runner import InlineRunner
from switchgear.testing import Fail, Hang, Script, Step, run_virtual
from switchgear.testing.wedge import Wedge
from switchgear_sdk_restart import plugin, process, program
from switchgear_sdk_restart.budget import Restarted, Streak, carried, taken_over

if TYPE_CHECKING:
    from pathlib import Path

    from switchgear.drivers.base import Driver, DriverSettings

SILENCE = 46.0
"""Seconds, more than it takes to find a connection without keepalive silent."""


def transport_on(script: Script, wedge: Wedge, options: dict[str, Any] | None = None, **more: Any) -> AsyncTransport:
    """A transport with the plugin, on virtual time; its driver can be wedged."""

    def make_driver(settings: DriverSettings) -> Driver:
        return wedge.around(script.make_driver(settings))

    profile = Profile(
        "mqtt://b",
        client_id="press-7",
        plugins=["sdk_restart"],
        plugin_options={"sdk_restart": options or {}},
        keepalive=0,
        **more,
    )
    return AsyncTransport(profile, make_driver=make_driver, runner=InlineRunner())


def restarts(transport: AsyncTransport) -> list[str]:
    """What was restarted and what was not, and why, oldest first."""
    lines = [line.partition(" s  ")[2] for line in transport.explain().splitlines()]
    return [line for line in lines if "restarted: " in line or "process" in line or "used up" in line]


@pytest.mark.parametrize("lasts", [False, True])
def test_a_wedged_driver_is_replaced(lasts: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """A message that a wedged driver swallowed is acknowledged through a new one, where the new one works."""
    script, wedge = Script(), Wedge(is_lasting=lasts)

    async def main() -> None:
        async with transport_on(script, wedge) as transport:
            await transport.wait_connected(1)
            wedge.on()
            delivery = transport.publish("a")
            await asyncio.sleep(SILENCE)
            assert len(script.drivers) == 2
            assert (
                "rebuild 1 of 3; restart 1 of 5 in 3600 s; last: the driver reported nothing" in restarts(transport)[0]
            )
            assert (delivery.state is DeliveryState.ACKNOWLEDGED) is not lasts
            assert [r.way for r in switchgear_sdk_restart.history()] == ["rebuild"]

    run_virtual(main())


def test_nothing_else_triggers_it() -> None:
    """Whatever else an attempt or a connection ends with, nothing is restarted."""
    script = Script()
    others = [cause for cause in Cause if cause is not Cause.DRIVER_SILENT]
    script.then(Step.DIAL, *[Fail(Failure(cause)) for cause in others])

    async def main() -> None:
        async with transport_on(script, Wedge()) as transport:
            await asyncio.sleep(1e6)
            for cause in others:
                await transport.wait_connected(1e4)
                script.lose(Failure(cause))
                await asyncio.sleep(0.1)
            assert len(script.drivers) == 1
            assert restarts(transport) == []

    run_virtual(main())


def test_other_causes_on_request() -> None:
    """With the option `causes`, other endings restart the driver too."""
    script = Script()

    async def main() -> None:
        async with transport_on(script, Wedge(), {"causes": ["DRIVER_FAILED"]}) as transport:
            await transport.wait_connected(1)
            script.lose(Failure(Cause.DRIVER_FAILED))
            await transport.wait_connected(10)
            assert len(script.drivers) == 2

    run_virtual(main())


def test_the_budget_is_kept_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """After the last restart of the budget it proceeds, says so, and goes on when the window has passed."""
    script, wedge = Script(), Wedge(is_lasting=True)

    async def main() -> None:
        async with transport_on(script, wedge, {"budget": 2, "window": 36000}) as transport:
            await transport.wait_connected(1)
            wedge.on()
            transport.publish("a")
            await asyncio.sleep(3600)
            assert len(script.drivers) == 3
            assert "all 2 restarts in 36000 s are used up" in restarts(transport)[-1]
            assert transport.state in {State.WAITING, State.CONNECTING}

    run_virtual(main())
    said = [r for r in caplog.records if r.message == "switchgear.sdk_restart.budget_exhausted"]
    assert [r.levelname for r in said if r.levelname != "DEBUG"] == ["ERROR"]


def streak_of(transport: AsyncTransport) -> Streak:
    """What the plugin remembers of *transport*."""
    streak = transport._strategies._notes["sdk_restart"]["streak"]
    assert isinstance(streak, Streak)
    return streak


def test_a_rebuild_that_helped_is_forgotten() -> None:
    """After a connection that worked for stable_after the rebuilds in a row count anew; silence is no work."""
    script, wedge = Script(), Wedge()

    async def main() -> None:
        async with transport_on(script, wedge, {"budget": 100}) as transport:
            for worked, rebuilds in ((0, 1), (1, 2), (1, 3), (60, 1), (0, 2)):
                await transport.wait_connected(10)
                await asyncio.sleep(worked)
                wedge.on()
                transport.publish("a")
                await asyncio.sleep(SILENCE)
                assert streak_of(transport).rebuilds == rebuilds

    run_virtual(main())


def test_an_ending_is_decided_upon_once(book: plugin.Book) -> None:
    """A plugin beside it that has everybody asked again does not make one wedge cost two restarts."""
    asked = evolve(next(_contexts()), failure=Failure(Cause.DRIVER_SILENT), generation=4, now=100.0, outage=1.0)
    assert plugin.before_reconnect(asked) is not None
    assert plugin.before_reconnect(evolve(asked, now=105.0, outage=6.0)) is None
    assert len(book.history) == 1
    assert plugin.before_reconnect(evolve(asked, generation=5)) is not None
    assert plugin.before_reconnect(evolve(asked, generation=5, notes={})) is not None  # another transport


def _contexts() -> Any:
    from switchgear.testing.plugin_contract import PluginContract

    suite: type[PluginContract] = type("Made", (PluginContract,), {"plugin": "sdk_restart"})
    return suite().contexts()


def can_be_executed_again(patch: pytest.MonkeyPatch) -> None:
    """As if this were no test run."""
    known = evolve(program.facts(), arguments=("python", "-c", "pass"))
    patch.setattr(program, "facts", lambda: known)


def test_escalation_replaces_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After three rebuilds that did not help, the process is executed again, with the count and the reasons."""
    can_be_executed_again(monkeypatch)
    carried: list[str] = []

    def fail(restarts: str) -> None:
        wedge.is_lasting = False  # the driver that is built next works
        carried.append(restarts)
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(process, "reexec", fail)

    script, wedge = Script(), Wedge(is_lasting=True)

    async def main() -> None:
        options = {"escalate_to": "reexec"}
        transport = transport_on(
            script, wedge, options, outbox=str(tmp_path / "outbox"), connect_timeout=0.02, ack_timeout=0.02
        )
        async with transport:
            await transport.wait_connected(60)
            wedge.on()
            transport.publish("a")
            while not carried:  # noqa: ASYNC110 - a thread does it
                await asyncio.sleep(0.01)
            await transport.drain(60)
            told = restarts(transport)
            assert [line.partition(":")[0] for line in told[:6]] == [
                *["driver restarted"] * 3,
                "this process is about to be replaced",
                "this process could not be replaced and goes on",
                "driver restarted",
            ]
            assert "No such file or directory" in told[4]

    asyncio.run(main())
    taken = taken_over(carried[0], os.getpid())
    assert [r.way for r in taken] == ["rebuild"] * 3 + ["reexec"]


def test_what_cannot_be_executed_again_is_rebuilt(caplog: pytest.LogCaptureFixture) -> None:
    """In a process that cannot be executed again, such as this one, it warns at once, and rebuilds instead."""
    script, wedge = Script(), Wedge()

    async def main() -> None:
        async with transport_on(script, wedge, {"escalate_to": "reexec", "rebuilds": 0}) as transport:
            await transport.wait_connected(1)
            wedge.on()
            delivery = transport.publish("a")
            await asyncio.sleep(SILENCE)
            assert delivery.done()
            assert "reexec is not possible: pytest runs other people's code" in restarts(transport)[0]

    run_virtual(main())
    [warning] = [r for r in caplog.records if r.message == "switchgear.sdk_restart.cannot_reexec"]
    assert "pytest runs other people's code" in vars(warning)["why"]


def test_an_unreadable_variable_allows_no_reexec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the count of an earlier process cannot be read, there is no re-execution: it might be a loop."""
    monkeypatch.setenv(process.VARIABLE, "{")
    book = plugin.Book.open()
    monkeypatch.setattr(plugin, "BOOK", book)
    can_be_executed_again(monkeypatch)
    assert process.VARIABLE not in os.environ
    decided = plugin.before_reconnect(
        evolve(
            next(_contexts()),
            failure=Failure(Cause.DRIVER_SILENT),
            options={"escalate_to": "reexec", "rebuilds": 0},
        )
    )
    assert "SWITCHGEAR_SDK_RESTARTS in its environment cannot be read" in str(decided)


def test_a_failed_exec_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An exec that the system refuses raises its error; descriptors are inheritable as before, the directory is the same."""
    garbage = tmp_path / "python"
    garbage.write_bytes(b"\0no program")
    garbage.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(garbage))
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    monkeypatch.chdir(tmp_path)
    try:
        with pytest.raises(OSError, match="Exec format error"):
            process.reexec("x")
        assert (os.get_inheritable(reading), os.get_inheritable(writing)) == (False, True)
        assert os.getcwd() == str(tmp_path)  # noqa: PTH109 - that is what it changes
        assert process.VARIABLE not in os.environ
    finally:
        os.close(reading)
        os.close(writing)


def test_it_is_told_once_that_the_process_was_executed_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first connection of an image says how often and why the process was restarted; no other one does."""
    before = [Restarted(1.0, "rebuild", "first", "press-7"), Restarted(2.0, "reexec", "then", "press-7")]
    for text, expected in ((carried(before, os.getpid()), [(2, "then")]), (carried(before, 1), [])):
        monkeypatch.setenv(process.VARIABLE, text)
        monkeypatch.setattr(plugin, "BOOK", plugin.Book.open())
        caplog.clear()
        for context in itertools.islice(_contexts(), 3):
            plugin.on_connected(context)
        told = [vars(r) for r in caplog.records if r.message == "switchgear.sdk_restart.reexecuted"]
        assert [(record["count"], record["why"]) for record in told] == expected


def test_giving_up_wins() -> None:
    """A limit of the transport is a limit of restarts too: it gives up, wedged or not."""
    script, wedge = Script(), Wedge(is_lasting=True)

    async def main() -> None:
        async with transport_on(script, wedge, give_up_after=GiveUpAfter(attempts=2)) as transport:
            await transport.wait_connected(1)
            script.then(Step.DIAL, Hang())
            wedge.on()
            transport.publish("a")
            await asyncio.sleep(300)
            assert transport.state is State.GAVE_UP
            assert len(script.drivers) == 3  # one more for the connection, and for the first of two attempts

    run_virtual(main())
