"""Programs that execute themselves again, in processes of their own: nothing is lost, nothing is left open."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import zipapp
from pathlib import Path
from typing import Any

import pytest
from switchgear.plugins import registry
from switchgear.testing import ThreadedBroker
from switchgear.testing.broker.ledger import Closed, Connected

HERE = Path(__file__).parent
PROGRAM = HERE / "wedging"

RESTARTS = int(os.environ.get("SWITCHGEAR_REEXECS", "50"))
"""How often in a row; the issue asks for 50, about half a minute."""

GONE = 1.0
"""Seconds within which the broker must have noticed that the old connection is gone."""


class Run:
    """A program that ran until it ended, and what it left behind."""

    def __init__(
        self, broker: ThreadedBroker, folder: Path, *start: str, restarts: int, driver: str = "paho", **options: Any
    ) -> None:
        self.broker = broker
        arguments = [
            broker.uri,
            str(folder),
            str(restarts),
            driver,
            json.dumps(options),
            "an argument",
            "--and=another",
        ]
        self.ended = subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=HERE,
            env=os.environ | {"SWITCHGEAR_DISABLE_PLUGINS": ",".join({"activemq", "awscrt", "iot_dns"} - {driver})},
            capture_output=True,
            text=True,
            timeout=60 + 10 * restarts,
            check=False,
        )
        self.arguments = arguments
        images = (folder / "images").read_text(encoding="utf-8").splitlines()
        self.images: list[dict[str, Any]] = [json.loads(line) for line in images]
        self.accepted = (folder / "accepted").read_text(encoding="utf-8").splitlines()

    def all(self, name: str) -> set[Any]:
        """The values of one fact over all images."""
        return {json.dumps(image[name]) for image in self.images}

    def overlaps(self) -> list[str]:
        """Connections that the broker still had `GONE` seconds after the next image had its own."""
        entries = list(self.broker.ledger.entries)
        closed = {entry.origin: entry.at for entry in entries if isinstance(entry, Closed)}
        found = []
        for prefix in ("press-7", "leak-"):
            made = [e for e in entries if isinstance(e, Connected) and e.client_id.startswith(prefix)]
            for old, new in itertools.pairwise(made):
                if closed.get(old.origin, float("inf")) > new.at + GONE:
                    found.append(f"{old.client_id} of {old.at:.3f}, next {new.at:.3f}, closed {closed.get(old.origin)}")
        return found


def kept(folder: Path) -> set[str]:
    """The payloads that the program's outbox holds."""
    with contextlib.closing(sqlite3.connect(folder / "outbox")) as db:
        return {payload.decode() for (payload,) in db.execute("SELECT payload FROM message")}


def check(run: Run, restarts: int) -> None:
    """Nothing was lost, nothing is left open, and every image was started as the first."""
    assert (run.ended.returncode, run.ended.stderr) == (0, "")
    assert [image["number"] for image in run.images] == list(range(restarts + 1))
    for fact in ("pid", "descriptors", "threads", "native threads", "argv", "orig_argv", "executable", "prefix", "cwd"):
        assert len(run.all(fact)) == 1, f"{fact} is another after an exec: {run.all(fact)}"
    assert run.images[0]["argv"] == run.arguments
    assert run.all("variable") == {"false"}
    assert [why.startswith("it is wedged: reexec") for why in run.images[-1]["whys"]] == [True] * restarts
    assert set(run.accepted) - {payload.decode() for payload in run.broker.ledger.payloads("n")} == set()
    assert len(run.accepted) > 4 * restarts
    assert run.overlaps() == []


@pytest.mark.timeout(120 + 10 * RESTARTS)
def test_again_and_again(tmp_path: Path) -> None:
    """After 50 re-executions in a row no message is missing, no descriptor or thread more is there, no connection is left."""
    with ThreadedBroker() as broker:
        check(Run(broker, tmp_path, str(PROGRAM), restarts=RESTARTS, budget=RESTARTS), RESTARTS)


def test_native_threads_and_sockets_go(tmp_path: Path) -> None:
    """AWS's SDK, which has threads of its own and leaves its sockets open over an exec, is gone after each one, too."""
    if "awscrt" not in registry().known_drivers():
        pytest.skip(f"no plugin provides the driver 'awscrt'; known: {', '.join(registry().known_drivers())}")
    with ThreadedBroker() as broker:
        check(Run(broker, tmp_path, str(PROGRAM), restarts=5, driver="awscrt", budget=5), 5)


@pytest.mark.parametrize("start", ["module", "module with options", "command", "zipapp"])
def test_every_way_to_start(tmp_path: Path, start: str) -> None:
    """However a program was started, it is started again that way, with the interpreter's options and its own arguments."""
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); from wedging.__main__ import main; main(*sys.argv[1:])"
    if start == "zipapp":
        zipapp.create_archive(PROGRAM, tmp_path / "app.pyz")
    given = {
        "module": ["-m", "wedging"],
        "module with options": ["-X", "dev", "-W", "error", "-Bm", "wedging"],
        "command": ["-c", code],
        "zipapp": [str(tmp_path / "app.pyz")],
    }[start]
    with ThreadedBroker() as broker:
        run = Run(broker, tmp_path, *given, restarts=2, budget=2)
        check(run, 2)
        with_options = start == "module with options"
        assert run.all("dev_mode") == {json.dumps(with_options)}
        assert run.all("warnings") == {json.dumps(["default", "error"] if with_options else [])}
        assert run.all("prefix") == {json.dumps(sys.prefix)}


def test_the_budget_ends_the_loop(tmp_path: Path) -> None:
    """A program that wedges for ever is executed again as often as the budget allows, over all of its images."""
    with ThreadedBroker() as broker:
        run = Run(broker, tmp_path, str(PROGRAM), restarts=9, budget=2)
        assert (run.ended.returncode, len(run.images)) == (9, 3)


def test_an_exec_that_fails(tmp_path: Path) -> None:
    """Where the system refuses the exec, that is told with its reason, the process goes on, and no message is lost."""
    code = (
        "import logging, os, sys; from wedging.__main__ import main\n"
        "handler = logging.StreamHandler()\n"
        "handler.setFormatter(logging.Formatter('%(message)s: %(why)s', defaults={'why': ''}))\n"
        "logging.getLogger('switchgear').addHandler(handler)\n"
        "os.environ['LARGE'] = 'x' * 200_000  # Linux takes 128 KiB for one\n"
        "main(*sys.argv[1:])\n"
    )
    with ThreadedBroker() as broker:
        run = Run(broker, tmp_path, "-c", code, restarts=1, budget=1)
        assert (run.ended.returncode, len(run.images)) == (9, 1)
        assert "switchgear.process_restart_failed: raised OSError: [Errno 7] Argument list too long" in run.ended.stderr
        assert "switchgear.driver_restarted: in place of the process" in run.ended.stderr
        arrived = {payload.decode() for payload in broker.ledger.payloads("n")}
        assert set(run.accepted) - arrived <= kept(tmp_path)


@pytest.mark.parametrize(("given", "code"), [({}, 75), ({"exit_code": 3}, 3)])
def test_it_ends_with_a_code(tmp_path: Path, given: dict[str, Any], code: int) -> None:
    """With "exit" the process ends with the code, and every message that the broker does not have is in the outbox."""
    with ThreadedBroker() as broker:
        run = Run(broker, tmp_path, str(PROGRAM), restarts=1, escalate_to="exit", **given)
        assert (run.ended.returncode, run.ended.stderr) == (code, "")
        arrived = {payload.decode() for payload in broker.ledger.payloads("n")}
        assert set(run.accepted) - arrived <= kept(tmp_path)
        assert len(run.accepted) == 8
        assert run.overlaps() == []
