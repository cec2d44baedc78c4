from __future__ import annotations

import json
from typing import TYPE_CHECKING

from switchgear.cli.app import build
from switchgear.cli.plugins_command import facts, show
from switchgear.endpoint import SCHEMES
from switchgear.plugins import Registry, SkippedPlugin, registry
from typer.testing import CliRunner

if TYPE_CHECKING:
    import pytest


def test_json_tells_everything() -> None:
    """With --json there is one object: what is loaded and skipped, the drivers and the schemes."""
    result = CliRunner().invoke(build(), ["plugins", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert [plugin["name"] for plugin in told["loaded"]] == [plugin.name for plugin in registry().loaded]
    assert "paho" in told["drivers"]
    assert set(SCHEMES) <= set(told["schemes"])
    by_name = {plugin["name"]: plugin for plugin in told["loaded"]}
    assert "select_endpoint" in by_name["default_strategy"]["hooks"]


def test_table_tells_everything() -> None:
    """Without --json there is a row for each plugin, and the drivers and schemes."""
    result = CliRunner().invoke(build(), ["plugins"])
    assert result.exit_code == 0
    for plugin in registry().loaded:
        assert plugin.name in result.stdout
    assert "drivers: " in result.stdout


def test_skipped_plugins_are_told_with_their_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """A plugin that was skipped appears with its distribution and why."""
    known = Registry(registry().loaded, (SkippedPlugin("broken", "acme-broken", "importing it raised x"),))
    assert facts(known)["skipped"] == [
        {"name": "broken", "distribution": "acme-broken", "why": "importing it raised x"}
    ]
    show(known)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("broken"))
    assert row.split() == ["broken", "acme-broken", "importing", "it", "raised", "x"]
