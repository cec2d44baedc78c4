from __future__ import annotations

import json
import re

import pytest
import typer
from switchgear_activemq import register_commands
from switchgear_activemq.options import OPTIONS
from typer.testing import CliRunner, Result


def run(*arguments: str, columns: int = 200) -> Result:
    app = typer.Typer()
    register_commands(app)
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["activemq", *arguments])


def test_explain() -> None:
    """The explanation names the endpoints, each option with its value and where it is from, and hides the password."""
    result = run("explain", "failover:(ssl://user:secret@a:8883?connectionTimeout=2500,ssl://b:8883)?timeout=3000")
    assert result.exit_code == 0
    assert "mqtts://a:8883 (priority 0, connect timeout 2.5 s, user user)" in result.stdout
    assert "secret" not in result.output
    rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert {row[0]: row[2] for row in rows if row[0] in OPTIONS} == {
        name: "URI" if name == "timeout" else "default" for name in OPTIONS
    }
    assert "note: timeout: it bounds how long a JMS send may block" in result.stdout


def test_explain_in_a_pipe() -> None:
    """In a pipe each option is one line, however narrow the terminal is that nobody looks at."""
    result = run("explain", "failover:(ssl://b:8883)", columns=40)
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("trackMessages"))
    assert row.endswith(
        "the outbox keeps every message until a broker has acknowledged it, which is what this asks for"
    )


def test_explain_json() -> None:
    """The same as JSON, with the value of each option in its own type."""
    result = run(
        "explain",
        "--json",
        "failover:(ssl://user:secret@a:8883?address=10.0.0.1)?randomize=false&priorityURIs=x://u:pw@y",
    )
    assert result.exit_code == 0
    assert "secret" not in result.stdout
    assert "pw" not in result.stdout
    shown = json.loads(result.stdout)
    assert shown["uri"].startswith("failover:(ssl://user:***@a:8883")
    assert shown["endpoints"] == [
        {
            "endpoint": "mqtts://a:8883",
            "priority": 0,
            "address": "10.0.0.1",
            "connect_timeout_s": None,
            "username": "user",
        }
    ]
    options = {option["option"]: option for option in shown["options"]}
    assert list(options) == list(OPTIONS)
    assert options["randomize"]["value"] is False
    assert options["randomize"]["from"] == "URI"
    assert options["randomize"]["honoured"] is True
    assert options["priorityURIs"]["value"] == ["x://u:***@y"]
    assert [note["part"] for note in shown["notes"]] == ["priorityURIs"]


@pytest.mark.parametrize(
    "uri",
    [
        "failover:(ssl://user:secret@a:8883",
        "failover:(ssl://user:secret@a:1)?bogus=1",
        "failover:(ssl://user:secret@a:0)",
        "tcp://a:1",
    ],
)
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_refused(uri: str, flags: tuple[str, ...]) -> None:
    """A URI that cannot be used is one line on standard error, without the password, and exit code 2."""
    result = run("explain", *flags, uri)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.output


def test_markup_is_text() -> None:
    """Text in brackets, such as an IPv6 address, is shown as it is."""
    assert "mqtt://[::1]:1883" in run("explain", "failover:(tcp://[::1]:1883)").stdout


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_uri_does_not_control_a_terminal(flags: tuple[str, ...]) -> None:
    """An escape sequence in a URI reaches the terminal, where it can be used and where it cannot."""
    fine, wrong = "failover:(tcp://us%1Ber:x@a:1)", "failover:(tcp://a:1)?x\x1b[31m=\x9b"
    for uri, code in ((fine, 0), (wrong, 2)):
        result = run("explain", *flags, uri)
        assert (result.exit_code, {"\x1b", "\x9b"} & set(result.output)) == (code, set()), result.output
