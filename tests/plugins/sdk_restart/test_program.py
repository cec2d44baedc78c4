"""What a process was started as is read from its arguments, and what cannot be started again says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from switchgear_sdk_restart.program import Facts, Program, facts, obstacle, read_arguments

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["app.py"], Program("script", "app.py")),
        (["./app.pyz", "-m", "x"], Program("script", "./app.pyz")),
        (["-m", "app"], Program("module", "app")),
        (["-mapp.tool", "-c"], Program("module", "app.tool")),
        (["-Im", "app"], Program("module", "app")),
        (["-c", "pass", "app.py"], Program("command", "pass")),
        (["-uBcpass"], Program("command", "pass")),
        (["-X", "dev", "-W", "error", "app.py", "x"], Program("script", "app.py")),
        (["-Xdev", "-Werror", "-OO", "app.py"], Program("script", "app.py")),
        (["-IX", "m", "app.py"], Program("script", "app.py")),
        (["--check-hash-based-pycs", "always", "app.py"], Program("script", "app.py")),
        (["-", "x"], Program("stdin")),
        ([], Program("stdin")),
        (["-i"], Program("stdin")),
        (["-X"], Program("stdin")),
        (["-m"], Program("module", "")),
    ],
)
def test_arguments_are_read_as_the_interpreter_reads_them(arguments: list[str], expected: Program) -> None:
    """The interpreter's own options, alone or run together, with their values or not, are passed over."""
    assert read_arguments(arguments) == expected


def known(tmp_path: Path, **different: Any) -> Facts:
    """The facts of a program that can be executed again."""
    (tmp_path / "app.py").touch()
    normal = Facts(
        arguments=("python", "app.py"),
        executable=sys.executable,
        directory=str(tmp_path),
        main_file=str(tmp_path / "app.py"),
        first_path=str(tmp_path),
        is_posix=True,
        is_frozen=False,
        is_interactive=False,
        is_fork=False,
        is_given_sockets=False,
    )
    return evolve(normal, **different)


OBSTACLES: dict[str, tuple[dict[str, Any], str | None]] = {
    "a script": ({}, None),
    "a module": ({"arguments": ("python", "-X", "dev", "-m", "app")}, None),
    "a command": ({"arguments": ("python", "-c", "pass"), "main_file": None, "first_path": ""}, None),
    "an installed module": (
        {"arguments": ("python", "-m", "app"), "first_path": "/", "main_file": "/nowhere"},
        "removed",
    ),
    "Windows": ({"is_posix": False}, "does not replace a process in place"),
    "embedded": ({"arguments": ()}, "embedded in another program"),
    "no executable": ({"executable": ""}, "embedded in another program"),
    "frozen": ({"is_frozen": True}, "frozen application"),
    "interpreter removed": ({"executable": "/nowhere/python"}, "/nowhere/python cannot be executed"),
    "a fork": ({"is_fork": True}, "was forked by the program"),
    "socket activation": ({"is_given_sockets": True}, "LISTEN_FDS"),
    "stdin": ({"arguments": ("python",)}, "standard input"),
    "stdin by name": ({"arguments": ("python", "-")}, "standard input"),
    "a prompt": ({"is_interactive": True}, "standard input or a terminal"),
    "pytest": ({"arguments": ("python", "-m", "pytest", "-q")}, "pytest runs other people's code"),
    "pytest's script": ({"arguments": ("python", "/venv/bin/pytest")}, "pytest runs other people's code"),
    "unittest": ({"arguments": ("python", "-m", "unittest.main")}, "unittest runs other people's code"),
    "a notebook": ({"arguments": ("python", "-m", "ipykernel_launcher")}, "ipykernel_launcher runs"),
    "directory removed": ({"directory": None}, "directory in which it was started is gone"),
    "script removed": ({"arguments": ("python", "gone.py")}, "gone.py is not found"),
    "module left behind": ({"arguments": ("python", "-m", "app"), "directory": "/"}, "had left that for /"),
}


@pytest.mark.parametrize("case", OBSTACLES)
def test_obstacles(tmp_path: Path, case: str) -> None:
    """A process that cannot be executed again is known by its facts, and the reason is said; others have none."""
    different, message = OBSTACLES[case]
    found = obstacle(known(tmp_path, **different))
    if message is None:
        assert found is None
    else:
        assert found is not None
        assert message in found


def test_this_process_runs_pytest() -> None:
    """The test run itself would not be executed again."""
    assert "runs other people's code" in str(obstacle(facts()))


SAY = "from switchgear_sdk_restart.program import facts, obstacle; print(obstacle(facts()))"

WORKER = f"""
import multiprocessing
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=exec, args=({SAY!r},))
    worker.start()
    worker.join()
"""

PROCESSES: dict[str, tuple[list[str], str]] = {
    "a command": (["-c", SAY], "None"),
    "a subprocess of a command": (
        ["-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SAY!r}])"],
        "None",
    ),
    "forked before it is imported": (["-c", f"import os\nif os.fork(): os.wait()\nelse:\n {SAY}"], "it was forked"),
    "forked afterwards": (
        ["-c", f"import os, switchgear_sdk_restart\nif os.fork(): os.wait()\nelse:\n {SAY}"],
        "it was forked",
    ),
    "a worker of multiprocessing": (["-c", WORKER], "it was forked"),
    "standard input": (["-"], "standard input"),
    "a directory that was left": (
        ["-c", f"import asyncio, os, tempfile; d=tempfile.mkdtemp(); os.chdir(d); os.rmdir(d); {SAY}"],
        "gone",
    ),
}


@pytest.mark.parametrize("case", PROCESSES)
def test_real_processes(case: str) -> None:
    """In a process of its own, what the kernel and the interpreter tell leads to the same answer."""
    arguments, expected = PROCESSES[case]
    ended = subprocess.run(
        [sys.executable, *arguments], input=SAY, capture_output=True, text=True, timeout=60, check=True, cwd=HERE
    )
    assert expected in ended.stdout, ended
