from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import switchgear
import typer
from switchgear.cause import Cause, Failure
from switchgear.cli import main
from switchgear.cli.app import build, exit_code
from switchgear.errors import ConfigurationError, ConnectionFailed, Expired, GaveUp, InternalError, PluginError
from typer.testing import CliRunner

COMMANDS = ("demo", "pub", "sub", "plugins")
U = "mqtt://127.0.0.1:1"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(build(), list(arguments), prog_name="switchgear")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_version() -> None:
    """--version tells the version of the package."""
    assert run("--version") == (0, f"switchgear {switchgear.__version__}\n", "")


def test_help_names_every_command() -> None:
    """--help names every command, what it does, and the exit codes."""
    code, out, _ = run("--help")
    assert code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w+", out, re.MULTILINE)
    assert "Exit codes: 0" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    """The help of a command shows every option with a sentence about it, and tells the exit codes."""
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Exit codes: 0" in out
    group: Any = typer.main.get_command(build())
    parameters = group.commands[command].params
    assert parameters
    for parameter in parameters:
        assert parameter.help.endswith(".")
        shown = max(parameter.opts, key=len) if parameter.opts[0].startswith("-") else parameter.metavar
        assert shown in out
        assert parameter.help.split()[0] in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["pub"],
        ["pub", U],
        ["pub", U, ""],
        ["pub", "h", "t", "m"],
        ["pub", "http://h", "t", "m"],
        ["pub", "mqtt://", "t", "m"],
        ["pub", "mqtt://h:99999", "t", "m"],
        ["pub", "failover:(", "t", "m"],
        ["pub", "-e", U, "-e", "nonsense", "t", "m"],
        ["pub", U, "a/#", "m"],
        ["pub", U, "\udce4", "m"],
        ["pub", U, "x" * 70000, "m"],
        ["pub", U, "t", "m", "--protocol", "4"],
        ["pub", U, "t", "m", "--session", "sticky"],
        ["pub", U, "t", "m", "--keepalive", "99999"],
        ["pub", U, "t", "m", "--client-id", ""],
        ["pub", U, "t", "m", "--outbox", ""],
        ["pub", U, "t", "m", "--driver", "nope"],
        ["pub", U, "t", "m", "--plugin", "nope"],
        ["pub", U, "t", "m", "--fleet", "0@0"],
        ["pub", U, "t", "m", "--give-up-after", "nan"],
        ["pub", U, "t", "m", "--password-env", "NOT_THERE"],
        ["pub", U, "t", "m", "--password-file", "/not/there"],
        ["pub", U, "t", "m", "--profile", "/not/there"],
        ["pub", U, "t", "m", "--ca-file", "/not/there"],
        ["pub", U, "t", "--file", "/not/there"],
        ["pub", U, "t", "--file", "/"],
        ["pub", U, "t", "--file", "/", "--lines"],
        ["pub", U, "t", "m", "--lines"],
        ["pub", U, "t", "m", "n"],
        ["pub", U, "t", "m", "--qos", "3"],
        ["sub"],
        ["sub", U],
        ["sub", U, "a/#/b"],
        ["sub", U, "a+"],
        ["sub", U, "a", ""],
        ["sub", U, "a", "--count", "0"],
        ["sub", U, "a", "--timeout", "soon"],
        ["demo", "--rate", "0"],
        ["demo", "--switches", "0"],
        ["demo", "--protocol", "6"],
        ["nope"],
        ["--nope"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].encode("ascii", "replace").decode(),
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Whatever is typed wrongly ends with exit code 2, nothing on stdout and an explanation without a traceback."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    ours = [line for line in err.splitlines() if line.startswith("switchgear: ")]
    assert len(ours) == 1 or "Usage: switchgear" in err


def test_errors_hide_credentials() -> None:
    """A password in a URI that cannot be read is not shown."""
    _, _, err = run("pub", "mqtt://user:s3cret@h:99999", "t", "m")
    assert "h:99999" in err
    assert "s3cret" not in err


def test_exit_codes() -> None:
    """Each family of errors has its exit code."""
    failure = Failure(Cause.PORT_REFUSED)
    assert exit_code(ConfigurationError("x")) == 2
    assert exit_code(PluginError("p", "x")) == 2
    assert exit_code(ConnectionFailed(failure)) == 3
    assert exit_code(GaveUp(failure, "x")) == 3
    assert exit_code(Expired("x")) == 1
    assert exit_code(InternalError("x")) == 1


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The console script's function returns what the process is to exit with."""
    assert main(["--version"]) == 0
    assert main(["nope"]) == 2
    assert main(["pub", U, "a/#", "m"]) == 2
    assert capsys.readouterr().out.startswith("switchgear ")


def test_module_runs() -> None:
    """``python -m switchgear`` is the command line."""
    done = subprocess.run([sys.executable, "-m", "switchgear", "--version"], capture_output=True, check=True)
    assert done.stdout.decode() == f"switchgear {switchgear.__version__}\n"


@pytest.mark.parametrize("command", ["plugins --json", "plugins", "--help", "pub"])
def test_closed_and_full_outputs(command: str) -> None:
    """Without standard streams, and on a full disk, there is no traceback."""
    start = f"{sys.executable} -m switchgear {command}"
    for shell in (f"{start} <&- >&- 2>&-", f"{start} >&-", f"{start} >/dev/full"):
        done = subprocess.run(shell, shell=True, capture_output=True, check=False)  # noqa: S602 - a fixed text
        assert done.returncode in {0, 1, 2}
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr


def test_no_colours_on_a_pipe() -> None:
    """Help, errors and tables hold no escape sequence and no box on a pipe."""
    for arguments in (["--help"], ["pub", "--help"], ["plugins"], ["nope"], ["pub", U]):
        _, out, err = run(*arguments)
        assert "\x1b" not in out + err
        assert "│" not in out + err


@pytest.mark.parametrize(
    "arguments",
    [
        ("mqtts://user:pass@h",),
        ("user:pass@h",),
        ("--mqtts://user:pass@h",),
        ("pub", "--mqtts://user:pass@h"),
        ("pub", U, "a", "b", "mqtts://user:pass@h", "failover:(ssl://user:pass@h,ssl://user:pa ss@h)"),
        ("doctor", U, "iot+dns://user:pass@h"),
        ("outbox", "mqtts://user:pa ss@h"),
        ("activemq", "mqtts://user:pass@h"),
    ],
)
def test_wrong_usage_repeats_no_password(arguments: tuple[str, ...]) -> None:
    """A URI that stands where none belongs is said to be wrong with its password, or not at all."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "pass@" not in err
    assert "pa ss@" not in err
    assert "user:***@h" in err


@pytest.mark.parametrize("arguments", [("no\x1b]0;x\x07\x9b2J",), ("pub", "--no\x1b\x9b"), ("sub", "-\x9b", U)])
def test_wrong_usage_does_not_control_a_terminal(arguments: tuple[str, ...]) -> None:
    """An escape sequence in an argument is printed as it is where the argument is refused."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert not {"\x1b", "\x07", "\x9b"} & set(err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("pub", "--profile", "mqtts://user:pass@h", "t", "x"),
        ("pub", U, "mqtts://user:pass@h/#", "x"),
        ("sub", U, "mqtts://user:pass@h#"),
        ("pub", "--ca-file", "mqtts://user:pass@h", U, "t", "x"),
        ("pub", "--driver", "mqtts://user:pass@h", U, "t", "x"),
        ("pub", "--plugin", "mqtts://user:pass@h", U, "t", "x"),
        ("pub", "--fleet", "mqtts://user:pass@h", U, "t", "x"),
        ("pub", "--file", "mqtts://user:pass@h", U, "t"),
        ("pub", "--username", "me", "--password-env", "mqtts://user:pass@h", U, "t", "x"),
        ("doctor", "--dns-server", "mqtts://user:pass@h", U),
        ("dr", "plan", "west", "--file", "mqtts://user:pass@h"),
        ("dr", "apply", "--plan", "mqtts://user:pass@h"),
    ],
)
def test_a_uri_in_a_wrong_place_is_repeated_without_its_password(arguments: tuple[str, ...]) -> None:
    """A URI that stands where a file, a topic, a name or a number belongs is refused with its password."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "***@h" in err
    assert "pass" not in err.replace("password", "")
