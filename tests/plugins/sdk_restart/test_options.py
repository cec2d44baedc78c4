"""Every option is checked before anything starts, and the page lists them as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from switchgear import InvalidOption, Profile
from switchgear.transport import AsyncTransport
from switchgear_sdk_restart import Options
from switchgear_sdk_restart.options import read_options

PAGE = Path(__file__).parents[3] / "docs/how-to/restart-a-wedged-sdk.md"

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"way": "exit"}, "'way'.*no such option; valid options: allow_loss, budget"),
    "escalate_to": ({"escalate_to": "reboot"}, "'reboot' is none of 'nothing', 'reexec', 'exit'"),
    "escalate_to type": ({"escalate_to": True}, "True is none of 'nothing'"),
    "rebuilds": ({"rebuilds": -1}, "-1 is not a whole number from 0 to 100"),
    "rebuilds type": ({"rebuilds": "3"}, "'3' is not a whole number"),
    "nothing to do": ({"rebuilds": 0}, 'escalate_to is "nothing": nothing would be done'),
    "rebuilds use up the budget": (
        {"escalate_to": "exit", "rebuilds": 5},
        "5 in a row use up the budget of 5, and it would never come to 'exit'; set rebuilds below budget",
    ),
    "budget": ({"budget": 0}, "0 is not a whole number from 1 to 100"),
    "budget type": ({"budget": True}, "True is not a whole number"),
    "window": ({"window": 0}, "0 is not a number of seconds above 0"),
    "window type": ({"window": float("nan")}, "nan is not a number of seconds"),
    "exit_code": ({"exit_code": 0}, "0 is not a whole number from 1 to 255"),
    "exit_code too large": ({"exit_code": 256}, "256 is not a whole number from 1 to 255"),
    "allow_loss": ({"allow_loss": "yes"}, "'yes' is neither True nor False"),
    "causes": ({"causes": ["SILENT"]}, "no cause 'SILENT'; valid options: ADMINISTRATIVE"),
    "causes type": ({"causes": "DRIVER_SILENT"}, "is no list of names"),
    "no causes": ({"causes": []}, "is no list of names with at least one"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_refused_when_a_transport_is_built(case: str) -> None:
    """A wrong option is an InvalidOption that names it, the value and what is valid, before anything starts."""
    given, message = WRONG[case]
    with pytest.raises(InvalidOption, match=message):
        AsyncTransport(Profile("mqtt://b", plugins=["sdk_restart"], plugin_options={"sdk_restart": given}))


def test_a_profile_file_can_say_all_of_it() -> None:
    """Values as TOML has them, lists among them, are understood."""
    given = {"escalate_to": "exit", "rebuilds": 0, "window": 60, "causes": ["DRIVER_SILENT", "DRIVER_FAILED"]}
    read = read_options(given)
    assert (read.escalate_to, read.rebuilds, read.window) == ("exit", 0, 60)
    assert read.causes == ("DRIVER_SILENT", "DRIVER_FAILED")
    assert read_options({}) == Options()


def test_the_page_lists_the_options() -> None:
    """The table in the documentation names every option with its default, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    expected = {a.name: json.dumps(a.default) for a in attrs.fields(Options)}
    assert dict(rows) == expected
