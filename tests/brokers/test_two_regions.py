"""Two regions behind one DNS name, with real brokers, mutual TLS and the system's own resolver.

Each scenario of ``region_lab.py`` runs in a private mount and network namespace, which needs root.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from switchgear.plugins import registry
from switchgear.testing.processes.regions import TARGETS, in_namespace, why_no_namespace

LAB = Path(__file__).with_name("region_lab.py")
DRIVERS = ("paho", "awscrt")
EAST, WEST = TARGETS["east"], TARGETS["west"]

WITHIN = 1.0
"""Seconds that a device may let pass once the DNS answer is settled; `tests/bench/region_switch.py` measures all of the way."""

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

Lab = Callable[..., dict[str, Any]]


@pytest.fixture
def lab(tmp_path: Path, require_brokers: Callable[[str], None]) -> Lab:
    """A function that runs a scenario in a namespace of its own and returns what was seen."""
    require_brokers("mosquitto")
    why = why_no_namespace()
    if why is not None:
        if os.environ.get("SWITCHGEAR_REQUIRE_BROKERS") == "1":
            pytest.fail(f"SWITCHGEAR_REQUIRE_BROKERS is 1, but: {why}")
        pytest.skip(why)

    def run(scenario: str, **options: object) -> dict[str, Any]:
        if options.get("driver", "paho") not in registry().known_drivers():
            pytest.skip(f"no plugin provides the driver {options['driver']!r}")
        pairs = [f"{name}={value}" for name, value in options.items()]
        ended = in_namespace(LAB, str(tmp_path), scenario, *pairs, timeout=580)
        assert ended.returncode == 0, ended.stderr[-5000:]
        seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return seen

    return run


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("how", "flips"), [("alive", 10), ("dead", 4), ("refusing", 4)])
def test_the_device_follows_the_name(lab: Lab, driver: str, how: str, flips: int) -> None:
    """Each time it goes to the new region and nowhere else, and soon, once the answer is settled; nothing is lost or doubled up."""
    seen = lab("switch", driver=driver, how=how, flips=flips)
    assert len(seen["rounds"]) == flips
    late = [each for each in seen["rounds"] if each["waited"] > WITHIN or each["elsewhere"]]
    assert late == [], seen["rounds"]
    assert seen["sent"] > 50
    assert seen["lost"] == []
    assert seen["most"] == 1
    assert seen["same_process"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_watch_needs_no_kick(lab: Lab, driver: str) -> None:
    """With the watch on and nobody disconnected, the switch is followed, within the window of a second, without a loss."""
    seen = lab("watch", driver=driver)
    assert seen["waited"] <= 1
    assert (seen["lost"], seen["losses"], seen["most"]) == ([], [], 1)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("what", "failure"),
    [
        ("other domain", "broker's certificate is for another name"),
        ("no serverAuth", "broker's certificate not trusted: .*purpose"),
        ("unknown client", "broker refused our certificate"),
    ],
)
def test_an_unfit_region_says_why(lab: Lab, driver: str, what: str, failure: str) -> None:
    """A region that cannot take us gives the cause, is quarantined, and holds nothing up when the name leads back."""
    seen = lab("unfit", driver=driver, what=what)
    assert any(re.search(failure, each) for each in seen["failures"]), seen["failures"]
    assert seen["quarantined"]
    assert seen["back"] < 45  # a quarantine is a minute
    assert seen["lost"] == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_name_that_fails_is_no_switch(lab: Lab, driver: str) -> None:
    """Whatever way the name fails, who was connected goes back to where it was, and who starts is told that and why."""
    seen = lab("bad_names", driver=driver)
    kinds = {"nxdomain": "no answer", "servfail": "unknown", "silent": "unknown", "loop": "no answer"}
    assert seen.keys() == kinds.keys()
    for how, kind in kinds.items():
        case = seen[how]
        assert f"where the name leads now: {kind} (the system's resolver: " in case["told"], case
        assert "that is no switch" in case["told"]
        assert (case["back_at"], case["lost"], case["cause"]) == (EAST, [], "NAME_NOT_RESOLVED")
        assert "check the host name and the resolver" in case["why"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_unsteady_name_holds_nothing_up(lab: Lab, driver: str) -> None:
    """A resolver that is stale leads back for now, and a name that flaps is settled at the bound at the latest; nothing is lost."""
    seen = lab("unsteady_names", driver=driver)
    assert seen["stale"] == EAST
    assert f"the name leads to {EAST}" in seen["said"]
    assert seen["took"] < 45  # as long as it flaps it would never settle
    assert seen["lost"] == []


def test_the_systems_resolver_is_understood(lab: Lab) -> None:
    """What glibc makes of a switch, of stale data and of every way to fail is a target, no answer or unknown, never a switch."""
    seen = lab("look_ups")
    assert {name: seen[name] for name in ("east", "west", "stale")} == {"east": EAST, "west": WEST, "stale": WEST}
    for name in ("servfail", "refused", "silent"):
        assert seen[name].startswith("unknown"), seen
    for name in ("nxdomain", "missing"):
        assert seen[name].startswith("no answer"), seen
    assert not seen["loop"].endswith(".test"), seen
