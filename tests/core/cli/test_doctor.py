from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from switchgear.cli.app import build
from switchgear.testing import ThreadedBroker
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

Start: TypeAlias = Any  # of conftest.py, which cannot be imported


def doctor(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(build(), ["doctor", *arguments], env=environment)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_plain_lines(switchgear_broker: ThreadedBroker, protocol: str) -> None:
    """In a pipe each check is one line, verdict first, and the sum comes last; nothing goes to standard error."""
    ended = doctor(switchgear_broker.uri, "-V", protocol)
    assert (ended.exit_code, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == f"pass  profile  {switchgear_broker.uri}: 1 endpoint, session clean, MQTT {protocol}"
    assert [line.split("  ")[-2] for line in lines[1:-1]] == ["plugins", "TCP", "MQTT CONNECT", "round trip", "clock"]
    assert all(line.startswith(f"pass  {switchgear_broker.uri}  ") for line in lines[2:5])
    assert lines[-1] == "6 pass"


def test_a_failure(switchgear_broker: ThreadedBroker) -> None:
    """What is wrong has its way out behind an arrow, and the exit code says that there is no broker to talk to."""
    switchgear_broker.kill()
    ended = doctor(switchgear_broker.uri)
    assert ended.exit_code == 3
    way_out = f"nothing listens on port {switchgear_broker.port}: start the broker, or correct the port"
    assert f"fail  {switchgear_broker.uri}  TCP  127.0.0.1 refused -> {way_out}" in ended.stdout.splitlines()
    assert ended.stdout.splitlines()[-1] == "3 pass, 1 fail, 2 skip"


def test_a_failure_beside_a_broker_that_works(switchgear_broker: ThreadedBroker) -> None:
    """With a broker that accepts MQTT the exit code of a failure is 1."""
    ended = doctor("-e", switchgear_broker.uri, "-e", "mqtt://127.0.0.1:1", "--client-id", "press-7")
    assert ended.exit_code == 1


def test_json(switchgear_broker: ThreadedBroker) -> None:
    """With --json there is one object with every line, its facts, and the exit code."""
    ended = doctor(switchgear_broker.uri, "--json", "--topic", "orders/probe", "--probe-client-id", "probe-1")
    told = json.loads(ended.stdout)
    assert (told["verdict"], told["exit_code"], ended.exit_code) == ("pass", 0, 0)
    by_check = {finding["check"]: finding for finding in told["findings"]}
    assert by_check["profile"]["endpoint"] is None
    assert by_check["mqtt.round_trip"]["facts"]["topic"] == "orders/probe"
    assert by_check["mqtt.connect"]["facts"]["client_id"] == "probe-1"
    assert by_check["tcp"]["endpoint"] == switchgear_broker.uri
    assert by_check["tcp"]["way_out"] is None
    assert {"check", "endpoint", "facts", "found", "verdict", "way_out"} == set(by_check["tcp"])


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_secrets_never_show(arguments: list[str]) -> None:
    """A refused password from the environment, or in the URI, is in no line of any form."""
    with ThreadedBroker(users={"press": "right"}) as broker:
        ended = doctor(broker.uri, *arguments, SWITCHGEAR_USERNAME="press", SWITCHGEAR_PASSWORD="wr0ng")
        assert ended.exit_code == 3
        assert "user name or password refused" in ended.output
        assert "wr0ng" not in ended.output
        ended = doctor(broker.uri.replace("//", "//press:wr0ng@"), *arguments)
        assert ended.exit_code == 3
        assert "***" in ended.output
        assert "wr0ng" not in ended.output


def test_a_profile(switchgear_broker: ThreadedBroker, tmp_path: Path) -> None:
    """A profile file is looked at as it is; one that is wrong, or names what is missing, is a line, and the code is 2."""
    path = tmp_path / "press.toml"
    path.write_text(f'where = "{switchgear_broker.uri}"\nclient_id = "press-7"\n')
    assert doctor("--profile", str(path)).exit_code == 0
    for text, said in (
        ('where = "mqtt://x"\nkeepalives = 1', "keepalives"),
        ('where = "mqtt://x"\nplugins = ["nightshift"]', "nightshift"),
        ('where = "mqtts://x"\ntls = {ca_file = "nowhere.pem"}', "nowhere.pem"),
    ):
        path.write_text(text)
        ended = doctor("--profile", str(path), "--json")
        told = json.loads(ended.stdout)
        assert (ended.exit_code, told["exit_code"]) == (2, 2)
        (failure,) = [finding for finding in told["findings"] if finding["verdict"] == "fail"]
        assert said in failure["found"]
        assert failure["way_out"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "it is missing"),
        (["mqtt://x", "--dns-server", "ns1.example.com"], "'ns1.example.com' is no IP address"),
        (["mqtt://x", "--topic", "a/#"], "wildcard"),
        (["mqtt://x", "--topic", "a", "--no-round-trip"], "not both"),
        (["mqtt://x", "--probe-client-id", "x" * 65536], "has 65536 bytes"),
        (["mqtt://x", "--probe-client-id", "x\udcff"], "holds a lone surrogate"),
        (["mqtt://x", "--timeout", "0"], "timeout"),
        (["mqtt://x", "-e", "mqtt://y"], "takes its place"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    """What cannot be meant is an error of usage that says why."""
    ended = doctor(*arguments)
    assert ended.exit_code == 2
    assert said in ended.output


async def test_without_the_extra() -> None:
    """The command starts without dnspython and cryptography being imported."""
    program = (
        "import sys; sys.modules['dns'] = sys.modules['cryptography'] = None\n"
        "from switchgear.cli import main\n"
        "sys.exit(main(['doctor', 'mqtt://127.0.0.1:1']))\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 3
    assert b"127.0.0.1 refused" in out


async def test_an_interrupt_ends_it(start: Start) -> None:
    """Ctrl-C during a look ends it with 130 and no traceback."""

    async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await _reader.read()
        writer.close()

    begun = asyncio.Event()
    async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await start("doctor", f"mqtt://127.0.0.1:{port}", "--timeout", "30")
        await begun.wait()
        process.process.send_signal(signal.SIGINT)
        ended = await process.end()
    assert ended.code == 130
