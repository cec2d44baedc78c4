import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from switchgear import AsyncTransport, Profile
from switchgear.testing import Broker, InlineRunner, MemoryNetwork
from switchgear.testing.plugin_contract import PluginContract


class TestNightshift(PluginContract):
    """What every plugin must do."""

    plugin = "nightshift"


def test_it_waits_while_the_file_exists(
    tmp_path: Path, memory_network: MemoryNetwork, run_virtual: Callable[..., Any]
) -> None:
    """Nothing is tried while the file exists; it goes on when the file has gone, or was forgotten for too long."""
    file = tmp_path / "work"
    options = {"file": str(file), "check_every": 5, "at_most": 7200}
    profile = Profile("mqtt://b", plugins=["nightshift"], plugin_options={"nightshift": options})
    broker = Broker()

    async def main() -> None:
        memory_network.add("b:1883", broker)
        make_driver, runner = memory_network.make_driver, InlineRunner()
        async with AsyncTransport(profile, make_driver=make_driver, runner=runner) as transport:
            await transport.wait_connected(10)
            file.touch()
            memory_network.cut("b:1883")
            await asyncio.sleep(3600)
            assert not transport.is_connected
            file.unlink()
            await transport.wait_connected(35)  # the last look, and the back-off
            file.touch()
            memory_network.cut("b:1883")
            await asyncio.sleep(7190)
            assert not transport.is_connected
            await transport.wait_connected(45)

    run_virtual(main())
    assert len(broker.ledger.connects()) == 3
