"""The plugin of "Write a plugin", installed into a fresh virtual environment as any third party's would be."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/switchgear-nightshift"
NEEDED = ("attrs", "paho-mqtt", "pluggy", "typer", "websockets", "pytest", "hatchling")
"""What Switchgear, the tests and the build need; taken from the environment that runs this, so no network is needed."""


def closure(names: tuple[str, ...]) -> dict[str, importlib.metadata.Distribution]:
    """These distributions and what they require here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        distribution = importlib.metadata.distribution(name)
        if distribution.metadata["Name"] not in found:
            found[distribution.metadata["Name"]] = distribution
            required = (Requirement(text) for text in distribution.requires or ())
            waiting += [r.name for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def link(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    """Make the packages of an installed distribution, and its metadata, appear in *folder*."""
    for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        place = Path(str(distribution.locate_file(name)))
        if not (folder / name).exists() and place.exists() and place.suffix != ".pth":
            (folder / name).symlink_to(place)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with Switchgear and the example installed by pip from their folders; its ``bin``."""
    folder = tmp_path_factory.mktemp("fresh")
    run([sys.executable, "-Im", "venv", str(folder / "venv")], folder)
    python = folder / "venv/bin/python"
    [site] = (folder / "venv/lib").glob("python*/site-packages")
    (folder / "needed").mkdir()
    for distribution in closure(NEEDED).values():
        link(distribution, folder / "needed")
    (site / "needed.pth").write_text(str(folder / "needed"))
    shutil.copytree(EXAMPLE, folder / "example", ignore=shutil.ignore_patterns("__pycache__"))
    how = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    run([str(python), "-Im", "pip", "install", *how, str(ROOT), str(folder / "example")], folder)
    return python.parent


def run(arguments: list[str], folder: Path) -> str:
    """What a program prints that must succeed."""
    names = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    ended = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_it_is_found_by_its_entry_point(fresh: Path, tmp_path: Path) -> None:
    """Installed, it is listed with its distribution and its hook, and nothing was skipped."""
    known = json.loads(run([str(fresh / "switchgear"), "plugins", "--json"], tmp_path))
    assert known["skipped"] == []
    [found] = [plugin for plugin in known["loaded"] if plugin["name"] == "nightshift"]
    assert (found["distribution"], found["version"]) == ("switchgear-nightshift", "1.0")
    assert found["hooks"] == ["before_reconnect"]


def test_a_transport_that_names_it_uses_it(fresh: Path, tmp_path: Path, pages: dict[str, str]) -> None:
    """The page's program prints what the page says: the transport waits while the file is there, and comes back."""
    printed = run([str(fresh / "python"), "-I", "-W", "error", str(EXAMPLE / "demo.py")], tmp_path)
    assert printed == "while the file is there: waiting\nwithout it: connected\n"
    assert f"```text\n{printed}```" in pages["docs/how-to/write-a-plugin.md"]


def test_its_own_tests_pass(fresh: Path) -> None:
    """Its tests pass where nothing but pytest, Switchgear and it are installed, every warning being an error."""
    folder = fresh.parents[1] / "example"
    printed = run([str(fresh / "python"), "-Im", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"], folder)
    assert " passed" in printed
    assert "failed" not in printed
