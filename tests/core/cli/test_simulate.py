from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from switchgear.cli import simulate as command
from switchgear.cli.app import build, main
from switchgear.cli.simulate import Progress, setting
from switchgear.simulate import Storm, contenders
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = [contender.name for contender in contenders(Storm(clients=1, connects_per_second=1.0, outage=1.0))]


def test_json_tells_every_policy() -> None:
    """With --json there is one object: the user's numbers, the budget, what to set, and a result for each policy."""
    result = CliRunner().invoke(build(), ["simulate", "-n", "1000", "-r", "500", "--outage", "2", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["clients"], told["connects_per_second"], told["outage_s"], told["budget"]) == (1000, 500, 2, 500)
    assert told["set"] == "backoff=switchgear.fleet(clients=1000, connects_per_second=500)"
    assert [policy["policy"] for policy in told["policies"]] == POLICIES
    by_name = {policy["policy"]: policy for policy in told["policies"]}
    assert by_name["fleet"]["keeps_budget"]
    assert by_name["fleet"]["of_budget"] <= 1
    assert not by_name["MQTT.js"]["keeps_budget"]
    assert by_name["MQTT.js"]["peak_per_second"] == 1000


def test_table_says_what_to_set() -> None:
    """Without --json there is a row for each policy, and the line to write."""
    result = CliRunner().invoke(build(), ["simulate", "--clients", "300", "--connects-per-second", "50"])
    assert result.exit_code == 0
    for name in POLICIES:
        assert any(line.startswith(name) for line in result.stdout.splitlines())
    assert "the budget is 50 CONNECTs in any 1 s" in result.stdout
    assert "    backoff=switchgear.fleet(clients=300, connects_per_second=50)" in result.stdout
    assert "--fleet 300@50" in result.stdout


def test_what_it_says_is_valid() -> None:
    """The line to write is Python that makes the simulated policy."""
    import switchgear

    storm = Storm(clients=7, connects_per_second=2.5, outage=1.0)
    name, _, value = setting(storm).partition("=")
    assert name == "backoff"
    assert eval(value, {"switchgear": switchgear}) == storm.fleet  # noqa: S307 - our own text


def test_stock_policy_that_is_good_enough() -> None:
    """When the stock policy kept the budget and was back sooner, it is said."""
    few = CliRunner().invoke(build(), ["simulate", "-n", "2", "-r", "0.5", "--outage", "1"])
    assert "exponential, kept the budget here too" in few.stdout
    many = CliRunner().invoke(build(), ["simulate", "-n", "1000", "-r", "500", "--outage", "1"])
    assert "kept the budget here too" not in many.stdout


def test_svg(tmp_path: Path) -> None:
    """The plot is well-formed, names every policy, is small, and is the same for the same seed."""
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (first, second):
        arguments = ["simulate", "-n", "2000", "-r", "100", "--outage", "5", "--svg", str(path)]
        assert CliRunner().invoke(build(), arguments).exit_code == 0
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) < 60_000
    text = "".join(ET.fromstring(first.read_text(encoding="utf-8")).itertext())  # noqa: S314 - our own text
    for name in POLICIES:
        assert name in text


@pytest.mark.parametrize("clients", ["1", "10001"])
def test_svg_of_few_and_of_many(clients: str, tmp_path: Path) -> None:
    """One client alone, and more than are simulated one by one, make a plot too."""
    path = tmp_path / "a.svg"
    arguments = ["simulate", "-n", clients, "-r", "1000", "--outage", "0.5", "--svg", str(path)]
    assert CliRunner().invoke(build(), arguments).exit_code == 0
    ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "0", "-r", "5"], "clients"),
        (["-n", "5", "-r", "0"], "connects_per_second"),
        (["-n", "5", "-r", "nan"], "connects_per_second"),
        (["-n", "5", "-r", "5", "--outage", "-1"], "outage"),
        (["-n", "1000000", "-r", "1"], "connects_per_second"),
        (["-n", "5", "-r", "5", "--notice", "-1"], "notice"),
        (["-n", "5", "-r", "5", "--queue", "0"], "queue"),
    ],
)
def test_impossible_numbers(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be simulated is wrong usage: exit code 2 and one line that names the option."""
    assert main(["simulate", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1


def test_missing_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --clients or --connects-per-second there is nothing to simulate."""
    assert main(["simulate"]) == 2
    assert "--clients" in capsys.readouterr().err


def test_plot_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be written is told before the simulation, with its name, and the exit code is 1."""
    path = tmp_path / "no" / "storm.svg"
    assert main(["simulate", "-n", "5", "-r", "5", "--svg", str(path)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert str(path) in told.err


def test_no_progress_on_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal, no progress is shown however long it takes."""
    monkeypatch.setattr(command, "PATIENCE", -1.0)
    with Progress(2) as progress:
        progress.show("fleet", 0.5)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal() -> None:
    """On a terminal a line says which policy is being simulated and how far it is; at the end it is gone."""
    ours, theirs = pty.openpty()
    code = (
        "import sys; from switchgear.cli import simulate as s; s.PATIENCE = -1.0\n"
        "from switchgear.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["simulate", "-n", "5000", "-r", "500", "--outage", "60", "--json"]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    json.loads(out)
    told = os.read(ours, 65536).decode()
    os.close(ours)
    assert "simulating " in told
    assert " %" in told
    assert told.endswith("\r\x1b[K")


def test_an_interrupt_keeps_the_plot_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plot is overwritten when there is another, not before the work."""
    path = tmp_path / "storm.svg"
    path.write_text("the last one", encoding="utf-8")

    def interrupt(*_given: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_one", interrupt)
    assert main(["simulate", "-n", "5", "-r", "5", "--svg", str(path)]) == 130
    assert path.read_text(encoding="utf-8") == "the last one"
