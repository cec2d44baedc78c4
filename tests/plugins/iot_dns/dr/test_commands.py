"""What the commands say, on a pipe, as JSON and by their exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from switchgear.cli.app import main
from switchgear_iot_dns.dr.errors import EXIT_CODES
from switchgear_iot_dns.dr.show import Bars, Quiet
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TARGETS, TWO, WEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear_iot_dns.dr.testing import Bench

Run = "Callable[..., tuple[int, str, str]]"


@pytest.fixture
def dr(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; the exit code, standard output and standard error."""
    bench.more["waits"] = "resolvers = 0\ncanary = 5\nverify = 5\nrequest = 5"
    bench.write()

    def run(*command: str) -> tuple[int, str, str]:
        code = main(["dr", *command, "--file", str(bench.folder / "dr.toml")])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_a_plan_shows_everything(bench: Bench, dr: Any) -> None:
    """The plan leaves out a record with TTL and type, a check, the number of clients, the quota or the time."""
    bench.aws.quotas[WEST] = {"Connect requests per second per account": 100.0}
    bench.aws.protected = set()
    bench.aws.recovery = "ENABLED"
    code, out, err = dr("plan", "west")
    assert (code, err) == (0, "")
    for part in (
        f"{ONE} 0 CNAME {TARGETS[ONE][EAST]}",
        f"{ONE} 0 CNAME {TARGETS[ONE][WEST]}",
        "none of the records is protected",
        "accelerated recovery",
        "mqtt1, ENABLED",
        "TLSv1.3, the certificate is trusted",
        "every name server agrees",
        "2 to disconnect",
        "100 a second",
    ):
        assert part in out
    assert re.search(r"it takes about \d+ s", out)


def test_a_plan_says_what_it_cannot_know(dr: Any) -> None:
    """An older boto3, or a policy that does not show protections or quotas, is an error instead of unknown."""
    code, out, _ = dr("plan", "west")
    assert code == 0
    assert re.search(r"protection +example\.com +unknown", out)
    assert re.search(r"accelerated recovery +example\.com +unknown", out)
    assert re.search(r"CONNECT quota +ap-northeast-1 +unknown", out)


def test_a_plan_reads_only(bench: Bench, dr: Any) -> None:
    """`plan`, `practice` or `status` writes something, or asks to disconnect somebody."""
    for command in (("plan", "west"), ("practice", "west"), ("status",)):
        assert dr(*command)[0] == 0
    assert bench.aws.count("route53", "POST") == 0
    assert bench.aws.count("iotdata", "DELETE") == 0
    assert bench.journals() == []


def test_a_plan_with_a_failed_check_has_exit_code_1(bench: Bench, dr: Any) -> None:
    """A target that is not fit is exit code 0."""
    bench.aws.client("iot", WEST).update_domain_configuration(
        domainConfigurationName="mqtt1", domainConfigurationStatus="DISABLED"
    )
    code, out, _ = dr("plan", "west")
    assert code == 1
    assert re.search(r"domain configuration +mqtt1\.example\.com in ap-northeast-1 +failed +it is DISABLED", out)


def test_a_certificate_that_does_not_fit_is_found(bench: Bench, dr: Any) -> None:
    """A target whose certificate is for another name, or of a CA that nobody trusts, passes."""
    bench.write(handshake="")
    code, out, _ = dr("plan", "west")
    assert code == 1
    assert re.search(r"TLS handshake +mqtt1\.example\.com at 127\.0\.0\.1:\d+ +failed +(self|unable)", out)


def test_a_target_that_does_not_listen_is_found(bench: Bench, dr: Any) -> None:
    """A target to which nobody can connect passes."""
    bench.write(**{f"regions.{WEST}": f'data_endpoint = "{bench.aws.url}"\nhandshake_to = "127.0.0.1:1"'})
    code, out, _ = dr("plan", "west")
    assert code == 1
    assert "Connection refused" in out


def test_apply_is_quiet_on_a_pipe(bench: Bench, dr: Any) -> None:
    """A run that goes well writes to standard error, or does not say how it ended."""
    code, out, err = dr("apply", "west", "--yes")
    assert (code, err) == (0, "")
    assert "mode west: done; 3 of 3 clients disconnected, 3 arrived" in out
    assert re.search(r"^report: .*\.html$", out, re.MULTILINE)
    assert bench.regions() == {ONE: WEST, TWO: WEST}


def test_apply_as_json(dr: Any) -> None:
    """The JSON of apply is more than one object, or has not the outcome, the clients and the phases."""
    code, out, err = dr("apply", "west", "--yes", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["outcome"], told["exit_code"], told["mode"]) == ("done", 0, "west")
    assert told["clients"]["ended"] == told["clients"]["arrived"] == 3
    assert [each["phase"] for each in told["phases"]] == [
        "change",
        "insync",
        "answer",
        "grace",
        "canary",
        "disconnect",
        "verify",
    ]
    assert all(each["finished_at"] >= each["started_at"] for each in told["phases"])


def test_an_incomplete_run_has_exit_code_6(bench: Bench, dr: Any) -> None:
    """A run whose clients did not move has exit code 0, or the next apply does not finish it."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what="DELETE /connections/(?!.*probe)")
    code, _, err = dr("apply", "west", "--yes")
    assert code == 6
    assert "DNS is switched, but" in err
    bench.aws.lift()
    code, out, err = dr("apply", "west", "--yes")
    assert code == 0
    assert "going on with run" in err
    assert "3 of 3 clients disconnected" in out


def test_status(bench: Bench, dr: Any) -> None:
    """Status does not say which mode holds, who is at work, or how the last run ended."""
    code, out, _ = dr("status")
    assert code == 0
    assert "mode: east" in out
    assert "lock: free" in out
    assert "last run: none" in out
    dr("apply", "split", "--yes")
    told = json.loads(dr("status", "--json")[1])
    assert told["modes"] == ["split"]
    assert told["domains"][TWO]["region"] == WEST
    assert told["last_run"]["outcome"] == "done"
    bench.upsert(ONE, "CNAME", ["elsewhere.example.net"])
    assert "mode: none of the plan file" in dr("status")[1]


def test_what_others_say_does_not_control_a_terminal(bench: Bench, dr: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """An escape sequence in an answer of AWS, or in a record, reaches the terminal."""
    bench.upsert("_switchgear-dr.example.com", "TXT", ['"held \x9b31m"'])
    assert r"lock: held \x9b31m" in dr("status")[1]
    code, out, _ = dr("practice", "west")
    assert (code, r"held by held \x9b31m" in out) == (0, True)
    bench.change("DELETE", "_switchgear-dr.example.com", "TXT", ['"held \x9b31m"'])
    rrset = "POST .*/rrset"
    refuse = lambda: bench.aws.fail("route53", "InvalidChangeBatch", 400, what=rrset, message="red \x9b31m")  # noqa: E731
    bench.aws.before("route53", refuse, what=rrset)
    assert dr("apply", "west", "--yes")[0] == 5
    bench.aws.lift()
    assert re.search(r"last run: .*red \\x9b31m", dr("status")[1])
    for show in (Quiet(), Bars()):
        show.note("\x1b[31mred\x9b")
        assert capsys.readouterr().err == "switchgear: \\x1b[31mred\\x9b\n"


def test_practice_says_what_would_happen(dr: Any) -> None:
    """Practice leaves out a phase, or does not look whether the canaries are connected."""
    code, out, _ = dr("practice", "west")
    assert code == 0
    for part in (
        "lock _switchgear-dr.example.com: free",
        f"would change: '{ONE} 0 CNAME",
        "would wait until Route 53 is in sync, at most 180 s",
        "would ask 1 name servers",
        "would disconnect 2 canaries; 2 of them are connected now",
        "would disconnect 1 more clients",
        "would see 3 clients arrive",
    ):
        assert part in out
    assert "would" not in dr("practice", "east")[1]


def test_rollback_by_command(bench: Bench, dr: Any) -> None:
    """The command does not undo the last run."""
    dr("apply", "west", "--yes")
    code, out, _ = dr("rollback", "--yes")
    assert (code, bench.regions()) == (0, {ONE: EAST, TWO: EAST})
    assert "mode undo west: done" in out


def begun(bench: Bench, *command: str) -> subprocess.Popen[str]:
    """A command in a process of its own, whose output can be left alone."""
    return subprocess.Popen(
        [sys.executable, "-Im", "switchgear", "dr", *command, "--file", str(bench.folder / "dr.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_who_reads_no_more_does_not_interrupt_a_run(bench: Bench, dr: Any) -> None:
    """A rollback whose reader went before it ended says that it was interrupted, so that people repeat it."""
    dr("apply", "west", "--yes")
    child = begun(bench, "rollback", "--yes")
    assert child.stdout is not None
    assert child.stderr is not None
    while "it takes" not in child.stdout.readline():
        pass
    child.stdout.close()
    err = child.stderr.read()
    assert (child.wait(), "mode undo west: done" in err) == (0, True), err
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    child.stderr.close()


@pytest.mark.parametrize("command", [("status",), ("plan", "west")])
def test_who_reads_no_more_of_what_only_reads(bench: Bench, dr: Any, command: tuple[str, ...]) -> None:
    """`switchgear dr status | head` says that something was interrupted and goes on."""
    child = begun(bench, *command)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert (child.stderr.read(), child.wait()) == ("", 0)
    child.stderr.close()


def test_a_saved_plan_by_command(bench: Bench, dr: Any) -> None:
    """A plan that `plan --out` saved cannot be applied, or is applied as another mode."""
    saved = bench.folder / "saved.json"
    dr("plan", "split", "--out", str(saved))
    assert dr("apply", "west", "--plan", str(saved), "--yes")[0] == 2
    assert dr("apply", "--plan", str(saved), "--yes")[0] == 0
    assert bench.regions() == {ONE: EAST, TWO: WEST}
    assert dr("plan", "west", "--out", str(bench.folder))[0] == 2


def test_a_mode_has_to_be_named(dr: Any) -> None:
    """Apply without a mode does something."""
    code, _, err = dr("apply", "--yes")
    assert (code, "name a MODE, or a saved plan with --plan FILE" in err) == (2, True)


def test_on_a_terminal_there_are_bars_and_a_question(bench: Bench, dr: Any) -> None:
    """On a terminal nothing moves, or nobody is asked."""
    path = str(bench.folder / "dr.toml")
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-Im", "switchgear", "dr", "apply", "west", "--file", path],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(slave)
    os.write(master, b"y\n")
    told = b""
    try:
        while chunk := os.read(master, 4096):
            told += chunk
    except OSError:  # the other end is closed
        pass
    out, _ = child.communicate(timeout=60)
    os.close(master)
    assert child.returncode == 0, told
    assert b"Switch? [y/N]" in told
    assert b"change the records" in told
    assert b"disconnect the clients" in told
    assert "3/3" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told.decode())
    assert b"done; 3 of 3 clients disconnected" in out


def test_the_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """An exit code is not in the help."""
    assert main(["dr", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in text
