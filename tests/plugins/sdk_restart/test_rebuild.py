"""A hundred drivers in a row, one after the other: nothing is lost, nothing is left behind in the process or at the broker."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
import switchgear
import switchgear_sdk_restart
from switchgear.plugins import registry
from switchgear.testing import ThreadedBroker
from switchgear.testing.broker.ledger import Closed, Connected, Origin
from switchgear.testing.wedge import Wedge

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.drivers.base import Driver, DriverSettings

REBUILDS = 100

GONE = 1.0
"""Seconds within which the broker must have noticed that the old connection is gone."""

DRIVERS = ("paho", "awscrt")


class Wedgeable:
    """Provides the driver *name* with a wedge."""

    DRIVERS = ("wedgeable",)

    def __init__(self, name: str) -> None:
        self.name = name
        self.wedge = Wedge()

    @switchgear.hookimpl
    def provide_driver(self, name: str, settings: DriverSettings) -> Driver | None:
        return self.wedge.around(registry().provide_driver(self.name, settings)) if name == "wedgeable" else None


def counts() -> dict[str, int]:
    """What this process holds that could leak."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - numbers, not paths
        "threads": threading.active_count(),
        "native threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208 - the same
    }


def grown(before: dict[str, int]) -> dict[str, int]:
    """What there is more of than *before*."""
    now = counts()
    return {name: now[name] - before[name] for name in before if now[name] > before[name]}


def live(broker: ThreadedBroker) -> set[Origin]:
    """The connections that the broker has."""
    entries = list(broker.ledger.entries)
    closed = {entry.origin for entry in entries if isinstance(entry, Closed)}
    return {entry.origin for entry in entries if isinstance(entry, Connected)} - closed


def wait_until(is_met: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_met():
        assert time.monotonic() < end, f"{counts()}"
        time.sleep(0.002)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")  # noqa: PTH112 - as above
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_hundred_rebuilds(driver: str) -> None:
    """Each wedge is followed by a new driver that sends what the old one swallowed; the process holds as much as after the first ones."""
    if driver not in registry().known_drivers():
        pytest.skip(f"no plugin provides the driver {driver!r}; known: {', '.join(registry().known_drivers())}")
    plugin = Wedgeable(driver)
    sent = []
    before: dict[str, int] = {}
    with ThreadedBroker() as broker:
        with switchgear.connect(
            broker.uri,
            client_id="press-7",
            driver="wedgeable",
            plugins=["sdk_restart", plugin],
            plugin_options={"sdk_restart": {"budget": 100, "window": 10, "rebuilds": 100}},
            connect_timeout=0.02,
            ack_timeout=0.02,
            keepalive=0,
            protocol="5",
            stable_after=0.01,  # else these are connections that flap, and it waits longer and longer
        ) as transport:
            for number in range(REBUILDS):
                transport.wait_connected(60)
                transport._on_loop(plugin.wedge.on)
                sent.append(f"{number}".encode())
                transport.publish("n", sent[-1]).wait(60)
                if number == 9:
                    wait_until(lambda: len(live(broker)) == 1)
                    before = counts()
            wait_until(lambda: len(live(broker)) == 1)
            wait_until(lambda: not grown(before))
            ways = [restarted.way for restarted in switchgear_sdk_restart.history()]
            assert len(ways) >= REBUILDS  # on a slow machine a driver may seem silent that is not
            assert set(ways) == {"rebuild"}
            assert len(plugin.wedge.drivers) == len(ways) + 1
        assert set(broker.ledger.payloads()) == set(sent)
        entries = list(broker.ledger.entries)
    closed = {entry.origin: entry.at for entry in entries if isinstance(entry, Closed)}
    made = [entry for entry in entries if isinstance(entry, Connected)]
    late = [(old, new) for old, new in itertools.pairwise(made) if closed[old.origin] > new.at + GONE]
    assert late == []
