"""The command line as a whole: as a process of its own, as a part of Switchgear's, and its exit codes."""

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import switchgear_certs
import typer
from switchgear_certs.plugin import register_commands
from typer.testing import CliRunner

Run = Callable[..., Any]
HERE = Path(switchgear_certs.__file__).parent.parent


def test_a_process_of_its_own(tmp_path: Path) -> None:
    """Installed, the command makes a pair, ends with 0, and with one line and 2 for a bad name."""
    program = Path(sys.executable).parent / "switchgear-certs"
    for command in (["init"], ["server", "mqtt1.example.com"]):
        ran = subprocess.run([program, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
    command = [sys.executable, "-m", "switchgear_certs", "server", "a_b"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "switchgear-certs: a_b: an underscore is in no host name (RFC 1123)\n"


def test_as_a_part_of_switchgear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within another application the same commands run under `certs`, and errors are one line and 2 there too."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    register_commands(app)
    runner = CliRunner()
    assert runner.invoke(app, ["certs", "init"]).exit_code == 0
    refused = runner.invoke(app, ["certs", "server", "a_b"])
    assert refused.exit_code == 2
    assert "underscore" in refused.output
    assert "Traceback" not in refused.output
    assert runner.invoke(app, ["certs", "needs-renewal", "ca"]).exit_code == 1


def test_switchgear_finds_the_plugin() -> None:
    """Switchgear loads this distribution by its entry point, and finds one hook in it."""
    plugins = pytest.importorskip("switchgear.plugins", reason="Switchgear is not installed")
    found = {plugin.name: plugin for plugin in plugins.registry().loaded}
    assert found["certs"].hooks == ("register_commands",)


def test_the_mark_is_pluggys() -> None:
    """The attribute that is set by hand is the one that pluggy's own marker sets."""
    pluggy = pytest.importorskip("pluggy", reason="pluggy is not installed")

    @pluggy.HookimplMarker("switchgear")  # type: ignore[untyped-decorator]  # pluggy may be missing
    def marked() -> None:
        """Do nothing."""

    assert marked.switchgear_impl == register_commands.switchgear_impl  # type: ignore[attr-defined]  # set by hand


ALONE = """
import sys
for name in ("switchgear", "pluggy", "paho", "boto3", "botocore"):
    sys.modules[name] = None
from switchgear_certs.cli import main
code = main(["demo"])
import switchgear_certs.plugin
sys.exit(code)
"""


def test_nothing_of_mqtt_is_needed(tmp_path: Path) -> None:
    """Without Switchgear, pluggy, paho-mqtt and boto3 the whole demo set-up is made."""
    ran = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {each.partition(">=")[0] for each in project["dependencies"]}
    assert names == {"attrs", "cryptography", "idna", "typer"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        *(
            (command, "--help")
            for command in (
                "init",
                "server",
                "client",
                "sign",
                "renew",
                "needs-renewal",
                "inspect",
                "verify",
                "check",
                "bundle",
                "p12",
                "acm",
                "demo",
            )
        ),
        ("check", "aws-iot", "-h"),
        ("--version",),
    ],
    ids=" ".join,
)
def test_help(arguments: tuple[str, ...], run: Run) -> None:
    """Every command explains itself, and the whole one names the exit codes."""
    ran = run(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.strip()
    if arguments == ("--help",):
        assert "Exit codes" in ran.out


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("server",), ("init", "--nonsense"), ("init", "extra"), ("check", "azure", "x")]
)
def test_wrong_usage(arguments: tuple[str, ...], run: Run) -> None:
    """Wrong usage ends with 2, says so on standard error, and makes nothing."""
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert "Traceback" not in ran.err
    assert not Path("certs").exists()


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """When nobody reads the output the command ends quietly."""
    subprocess.run([sys.executable, "-m", "switchgear_certs", "demo"], cwd=tmp_path, capture_output=True, check=True)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", "-m", "switchgear_certs", "inspect", "mqtt1.example.com"]
    ran = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_what_a_terminal_cannot_show(tmp_path: Path) -> None:
    """A path that is no text, and a name in letters that the terminal lacks, do not end in a traceback."""
    folder = os.fsencode(tmp_path) + b"/\xff\xe4"
    for command in (["init", "--name", "Стенд"], ["server", "mqtt1.example.com"], ["inspect", "mqtt1.example.com"]):
        ran = subprocess.run(
            [sys.executable, "-m", "switchgear_certs", *command, "--out", folder],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "latin-1"},
        )
        assert (ran.returncode, ran.stderr) == (0, "")
    assert "CN=\\u0421\\u0442" in ran.stdout


INTERRUPTED = """
import os, signal, sys
from switchgear_certs import keys, store
real = os.fsync
def fsync(descriptor):
    os.kill(os.getpid(), signal.SIGINT)
    real(descriptor)
os.fsync = fsync
from switchgear_certs.cli import main
sys.exit(main(["demo"]))
"""


def test_ctrl_c(tmp_path: Path) -> None:
    """Interrupted while it writes, the command ends with 130, without a traceback, and leaves nothing behind."""
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode in {130, -signal.SIGINT}, ran.stderr
    assert "Traceback" not in ran.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
