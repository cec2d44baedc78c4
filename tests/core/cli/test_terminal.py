from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from switchgear.cli.interrupts import Interrupts

if TYPE_CHECKING:
    from switchgear.testing import ThreadedBroker

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3|4|9|10)[0-9](?:;[0-9;]*)?m")


def on_terminal(
    *arguments: str, environment: dict[str, str] | None = None, given: bytes | None = None
) -> tuple[int, str]:
    """The exit code and the output of ``switchgear ARGUMENTS`` with a terminal for stdout and stderr."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40", **(environment or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "switchgear", *arguments],
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        env=variables,
    )
    os.close(theirs)
    assert process.stdin is not None
    if given is not None:
        process.stdin.write(given)
    process.stdin.close()
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    return process.wait(100), seen.decode()


def test_demo_moves() -> None:
    """On a terminal the demo shows the brokers, both transports and the counts while it runs, and then the ledger."""
    code, out = on_terminal("demo", "--act", "standby", "--switches", "1", "--seed", "1")
    assert code == 0
    assert out.count("broker a") > 2
    for word in ("publisher", "subscriber", "connected", "delivered", "was killed", "takes over"):
        assert word in out
    assert "Every accepted message arrived." in out
    assert out.rfind("broker a") < out.index("Every accepted")


def test_pub_shows_progress() -> None:
    """On a terminal pub shows how far it is, and errors above it."""
    code, out = on_terminal("pub", "mqtt://127.0.0.1:1", "t", "--give-up-after", "1", given=b"a\nb\n")
    assert code == 3
    assert "2 accepted, 0 acknowledged, 2 waiting" in out
    assert "connection refused" in out
    assert "2 of 2 message(s) were not acknowledged" in out


@pytest.mark.parametrize("arguments", [("--help",), ("pub", "--help"), ("plugins",), ("nope",)])
def test_no_color(arguments: tuple[str, ...]) -> None:
    """With NO_COLOR there is no colour on a terminal."""
    _, out = on_terminal(*arguments, environment={"NO_COLOR": "1"})
    assert out
    assert not COLOUR.search(out)


def test_colours() -> None:
    """Without NO_COLOR help on a terminal has colours; the pattern of the other test finds them."""
    assert COLOUR.search(on_terminal("--help")[1])


def test_doctor_on_a_terminal(switchgear_broker: ThreadedBroker) -> None:
    """On a terminal the doctor shows what it looks at while it looks, then a coloured table, ways out in lines of their own."""
    switchgear_broker.faults.refuse(4)
    code, out = on_terminal("doctor", switchgear_broker.uri)
    assert code == 3
    assert f"{switchgear_broker.uri}: MQTT CONNECT" in out
    assert "-> check username and password" in out
    assert COLOUR.search(out)
    _, plain = on_terminal("doctor", switchgear_broker.uri, environment={"NO_COLOR": "1"})
    assert not COLOUR.search(plain)


@pytest.mark.parametrize(
    ("options", "shown"),
    [((), r"one\x1b[2Jtwo" + "\r\n" + r"\xff" + "\tthree"), (("-v",), r"e/\x07 one\x1b[2Jtwo")],
)
def test_messages_do_not_control_the_terminal(
    switchgear_broker: ThreadedBroker, options: tuple[str, ...], shown: str
) -> None:
    """On a terminal escape sequences of payloads and topics are shown, and lines and tabs stay."""
    switchgear_broker.publish("e/\x07", b"one\x1b[2Jtwo\n\xff\tthree", qos=1, retain=True)
    code, out = on_terminal("sub", switchgear_broker.uri, "e/#", "--count", "1", "--timeout", "100", *options)
    assert code == 0
    assert shown in out
    assert "\x1b" not in out


@pytest.mark.parametrize("columns", ["0", "8", "39"])
def test_a_narrow_terminal(switchgear_broker: ThreadedBroker, columns: str) -> None:
    """Where a table has no room its cells are written as on a pipe, and none is left out."""
    code, out = on_terminal("doctor", switchgear_broker.uri, environment={"COLUMNS": columns})
    assert code == 0
    assert "\npass  clock  " in out
    assert "default_strategy" in on_terminal("plugins", environment={"COLUMNS": columns})[1]


def test_the_cursor_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C, which ends at once, leaves a terminal on which a display has moved its cursor."""
    ours, theirs = pty.openpty()
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(theirs, "w", encoding="ascii") as terminal, Interrupts(lambda: None):
        monkeypatch.setattr(sys, "stdout", terminal)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert os.read(ours, 100) == b"\x1b[?25h"
    os.close(ours)
    assert ends == [130]


def test_a_terminal_of_another_encoding() -> None:
    """What the encoding of the terminal does not have is written out, and is no reason to end with a traceback."""
    code, out = on_terminal("doctor", "--profile", "ä.toml", environment={"PYTHONIOENCODING": "ascii"})
    assert (code, "Traceback" in out) == (2, False)
    assert r"\xe4.toml" in out
