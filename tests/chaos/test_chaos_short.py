"""The short form of `make chaos`: one publisher, one consumer, two mosquittos, each kind of fault once, and 5 kills."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from switchgear.testing.processes import BrokerMissing, find_mosquitto

RUN = Path(__file__).with_name("run.py")

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    try:
        find_mosquitto()
    except BrokerMissing as missing:
        if os.environ.get("SWITCHGEAR_REQUIRE_BROKERS") == "1":
            pytest.fail(f"SWITCHGEAR_REQUIRE_BROKERS is 1, but: {missing}")
        pytest.skip(str(missing))


def chaos(*arguments: str) -> tuple[dict[str, Any], str]:
    """What a run says as JSON, and on stderr."""
    done = subprocess.run(
        [sys.executable, str(RUN), "--json", *arguments], capture_output=True, text=True, check=False, timeout=560
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


@pytest.mark.parametrize(("plan", "seed", "faults"), [("short", "1193", 19), ("few_kills", "12", 5)])
def test_nothing_is_lost(plan: str, seed: str, faults: int, tmp_path: Path) -> None:
    """Under each kind of fault once, and under 5 kills of the publisher, nothing stored is lost or unexplained."""
    found, said = chaos("--plan", plan, "--seed", seed, "--keep", str(tmp_path / "kept"))
    assert found["problems"] == [], said
    assert found["faults"] + found["unfelt"] + found["left_out"] == faults  # only root can fill a disk
    assert (
        found["unfelt"] <= faults // 4
    )  # else nothing was tested, as with few messages, which is a problem of its own
