"""What people get wrong: one clear line each, the exit code, and nothing changed."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from switchgear.cli.app import main
from switchgear_iot_dns.dr import plan, report
from switchgear_iot_dns.dr.errors import BrokenJournal, InvalidPlanFile, RegionSwitchError
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TARGETS, TWO, WEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear_iot_dns.dr.testing import Bench


def refused(bench: Bench, capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str]:
    """The exit code and the one line of ``dr apply west``, after which nothing is changed."""
    before = (bench.records(ONE), bench.records(TWO))
    code = main(["dr", *(command or ("apply", "west", "--yes")), "--file", str(bench.folder / "dr.toml")])
    told = capsys.readouterr()
    assert told.err.count("\n") == 1, told.err
    assert told.err.startswith("switchgear: ")
    assert "Traceback" not in told.err
    assert (bench.records(ONE), bench.records(TWO)) == before
    assert bench.aws.count("route53", "POST .*/rrset") == 0
    assert bench.aws.count("iotdata", "DELETE") == 0
    return code, told.err


def test_a_zone_that_is_not_ours(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A hosted zone of another account gives no clear line."""
    bench.write(zone='id = "Z0000000000NOTOURS"')
    code, line = refused(bench, capsys)
    assert code == 1
    assert "the hosted zone Z0000000000NOTOURS is not in this account; check zone.id and the credentials" in line


def test_a_domain_outside_the_zone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A domain of another zone is asked of, or written into, this one."""
    path = bench.folder / "dr.toml"
    path.write_text(path.read_text().replace(TWO, "mqtt2.example.org"))
    code, line = refused(bench, capsys)
    assert code == 2
    assert "domains.mqtt2.example.org: it is not in the zone example.com; check zone.id" in line


def test_a_name_at_the_apex(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A CNAME is tried at the zone's apex."""
    path = bench.folder / "dr.toml"
    path.write_text(path.read_text().replace(TWO, "example.com"))
    code, line = refused(bench, capsys)
    assert code == 2
    assert "domains.example.com: it is the apex of the zone, where no CNAME may be" in line


def test_an_alias_record(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """An alias record is replaced, or guessed about."""
    bench.change("DELETE", ONE, "CNAME", [TARGETS[ONE][EAST]], ttl=0)
    target = {"HostedZoneId": bench.zone, "DNSName": "other.example.com", "EvaluateTargetHealth": False}
    bench.change("UPSERT", ONE, "A", [], AliasTarget=target)
    code, line = refused(bench, capsys)
    assert code == 1
    assert "mqtt1.example.com has an alias record" in line


def test_a_weighted_record(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A record with a routing policy is replaced, or guessed about."""
    bench.change("DELETE", ONE, "CNAME", [TARGETS[ONE][EAST]], ttl=0)
    bench.change("UPSERT", ONE, "CNAME", [TARGETS[ONE][EAST]], SetIdentifier="blue", Weight=10)
    code, line = refused(bench, capsys)
    assert code == 1
    assert "mqtt1.example.com has a record with a routing policy (" in line
    assert "[blue]" in line


def test_an_address_record(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A CNAME is tried beside an A record."""
    bench.change("DELETE", ONE, "CNAME", [TARGETS[ONE][EAST]], ttl=0)
    bench.change("UPSERT", ONE, "A", ["192.0.2.1"])
    code, line = refused(bench, capsys)
    assert code == 1
    assert "has a record beside which no CNAME may be (mqtt1.example.com 60 A 192.0.2.1)" in line


def test_a_target_that_nobody_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that leads to an unknown place is overwritten."""
    bench.upsert(ONE, "CNAME", ["elsewhere.example.net"])
    code, line = refused(bench, capsys)
    assert code == 1
    assert "mqtt1.example.com leads to elsewhere.example.net, which is none of its targets" in line


def test_a_protected_record(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that Route 53 protects is tried, and fails in the middle."""
    bench.aws.protected = {ONE}
    code, line = refused(bench, capsys)
    assert code == 1
    assert "protection of mqtt1.example.com: Route 53 protects the record" in line


def test_an_unknown_mode(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown mode does not list those that there are, or AWS is asked before it is refused."""
    code, line = refused(bench, capsys, "apply", "north", "--yes")
    assert code == 2
    assert bench.aws.count("route53", "GET .*/hostedzone/[^/]*$") == 0
    assert "modes.north: there is no such mode; modes: east, split, swapped, west" in line


def test_an_old_boto3(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A boto3 without DeleteConnection is found out after the records are switched."""
    from switchgear_iot_dns.dr.aws import Aws

    has = Aws.has
    monkeypatch.setattr(
        Aws, "has", lambda self, service, *rest, **more: service != "iot-data" and has(self, service, *rest, **more)
    )
    code, line = refused(bench, capsys)
    assert code == 1
    assert "this boto3 has no DeleteConnection of iot-data: pip install --upgrade boto3" in line


def test_no_boto3(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command gives a traceback."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    code = main(["dr", "plan", "west", "--file", str(bench.folder / "dr.toml")])
    assert (code, capsys.readouterr().err) == (
        1,
        "switchgear: this needs boto3: pip install 'switchgear-iot-dns[dr]'\n",
    )


def test_no_jinja2(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jinja2 a switch ends in a traceback with the lock held, or is not made at all."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report._template.cache_clear()
    path = bench.write(waits="resolvers = 0\ncanary = 60\nverify = 60")
    code = main(["dr", "apply", "west", "--yes", "--file", str(path)])
    told = capsys.readouterr()
    assert code == 0
    assert told.err == "switchgear: the report as a page needs jinja2: pip install 'switchgear-iot-dns[dr]'\n"
    assert told.out.endswith(".json\n")
    assert bench.operations().status()["lock"] is None


@pytest.mark.parametrize(
    ("service", "what", "statement"),
    [
        ("route53", "GET .*/hostedzone/[A-Z0-9]+$", "route53:GetHostedZone"),
        ("route53", "GET .*/rrset", "route53:ListResourceRecordSets"),
        ("iot", "GET /domainConfigurations", "iot:ListDomainConfigurations"),
        ("iotdata", "DELETE", "iot:DeleteConnection"),
    ],
)
def test_a_missing_permission(
    bench: Bench, capsys: pytest.CaptureFixture[str], service: str, what: str, statement: str
) -> None:
    """A denied call does not print the statement that allows it, or comes after a change."""
    bench.aws.fail(service, "AccessDeniedException", 403, what=what)
    code = main(["dr", "apply", "west", "--yes", "--file", str(bench.folder / "dr.toml")])
    line = capsys.readouterr().err
    bench.aws.lift()
    assert code == 2
    found = re.search(r"\{.*\}", line)
    assert found is not None
    told: dict[str, Any] = json.loads(found[0])
    assert told["Effect"] == "Allow"
    assert told["Action"] == statement
    assert told["Resource"] in {f"arn:aws:route53:::hostedzone/{bench.zone}", "*", f"arn:aws:iot:{EAST}:*:client/*"}
    assert bench.regions() == {ONE: EAST, TWO: EAST}


def test_no_permission_to_change_records(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody who may not change records leaves a lock or a run behind, or disconnects people."""
    bench.aws.fail("route53", "AccessDenied", 403, what="POST .*/rrset")
    code = main(["dr", "apply", "west", "--yes", "--file", str(bench.folder / "dr.toml")])
    assert code == 2
    assert '"Action": "route53:ChangeResourceRecordSets"' in capsys.readouterr().err
    bench.aws.lift()
    assert bench.operations().apply("split", Wishes()).code == 0


def test_no_credentials(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the command gives a traceback."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code = main(["dr", "apply", "west", "--yes", "--file", str(bench.folder / "dr.toml")])
    line = capsys.readouterr().err
    assert code == 1
    assert line.startswith("switchgear: AWS: no credentials; set AWS_PROFILE")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda body: body[: len(body) // 2], "its answer cannot be read: Unable to parse response"),
        (lambda _: b"", "its answer has no HostedZone; does a proxy answer in its place?"),
        (
            lambda _: b"<html><body>Log in</body></html>",
            "its answer has no HostedZone; does a proxy answer in its place?",
        ),
    ],
)
def test_an_answer_that_is_none_of_aws(
    bench: Bench, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], why: str
) -> None:
    """Half an answer, none, or the page of a proxy gives a traceback."""
    bench.aws.distort("route53", change)
    code = main(["dr", "status", "--file", str(bench.folder / "dr.toml")])
    bench.aws.lift()
    assert code == 1
    assert capsys.readouterr().err.startswith(f"switchgear: GetHostedZone of route53 in us-east-1: {why}")


def test_half_an_answer_in_the_middle_of_a_run(bench: Bench) -> None:
    """Half of Route 53's answers after the change ends the run with a traceback, or nobody waits for the next one."""
    bench.aws.distort("route53", lambda body: body[:90], what="GET .*/change/", times=3)
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.regions() == {ONE: WEST, TWO: WEST}


def test_a_session_token_with_a_line_feed(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session token that came with its line feed is shown to everybody who reads the error."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "very-secret\n")
    code = main(["dr", "status", "--file", str(bench.folder / "dr.toml")])
    line = capsys.readouterr().err
    assert code == 1
    assert line.endswith("Invalid header value: there is a line feed in the credentials or in the session token\n")
    assert "very-secret" not in line


def test_an_address_of_aws_that_is_none(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint with an impossible port gives a traceback."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:99999")
    assert main(["dr", "status", "--file", str(bench.folder / "dr.toml")]) == 1
    assert "GetHostedZone of route53 in us-east-1: its answer cannot be read: Port out of" in capsys.readouterr().err


def test_a_credential_process_that_is_missing(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program for credentials that is not there counts as an interrupted run, exit code 130."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (bench.folder / "aws").write_text("[profile ops]\ncredential_process = /nonexistent/login\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(bench.folder / "aws"))
    code = main(["dr", "status", "--profile", "ops", "--file", str(bench.folder / "dr.toml")])
    line = capsys.readouterr().err
    assert (code, "No such file or directory: '/nonexistent/login'" in line, line.count("\n")) == (1, True, 1)


def test_a_plan_is_written_over_plans_only(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """`--out` replaces the plan file, or any other file, by a saved plan; or it does not renew an older plan."""
    path = bench.folder / "dr.toml"
    before = path.read_bytes()
    code, line = refused(bench, capsys, "plan", "west", "--out", str(path))
    assert (code, path.read_bytes()) == (2, before)
    assert f"{path}: not overwritten; it is no plan that `switchgear dr plan --out` saved; choose another" in line
    saved = bench.folder / "west.json"
    saved.touch()
    for mode in ("west", "split"):
        assert main(["dr", "plan", mode, "--out", str(saved), "--file", str(path)]) == 0
        assert json.loads(saved.read_text())["mode"] == mode
    saved.write_text(saved.read_text().replace("split", "spilt"))
    assert main(["dr", "plan", "west", "--out", str(saved), "--file", str(path)]) == 0
    assert [each.name for each in bench.folder.glob(".west*")] == []
    reading, writing = os.pipe()
    assert main(["dr", "plan", "west", "--out", f"/dev/fd/{writing}", "--file", str(path)]) == 0
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as told:
        assert json.load(told)["mode"] == "west"


def test_an_operator_whose_name_is_no_text(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user name in another encoding ends the run with a traceback, after its journal was begun."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "J\udcfcrgen")
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0
    assert ended.run is not None
    assert ended.run.operator.startswith("J\\udcfcrgen@")


def test_an_unknown_profile(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile that does not exist gives a traceback."""
    code, line = refused(bench, capsys, "plan", "west", "--profile", "nobody")
    assert code == 1
    assert "The config profile (nobody) could not be found" in line


def test_a_silent_control_plane(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A Route 53 that never answers holds the command for ever, or gives a traceback."""
    bench.write(waits="request = 0.05")
    bench.aws.hang("route53")
    code = main(["dr", "apply", "west", "--yes", "--file", str(bench.folder / "dr.toml")])
    line = capsys.readouterr().err
    bench.aws.lift()
    assert code == 1
    assert "GetHostedZone of route53 in us-east-1: Read timeout" in line
    assert line.count("\n") == 1


def test_nobody_to_ask(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal and without --yes, the records are switched, or the command waits for ever."""
    code = main(["dr", "apply", "west", "--file", str(bench.folder / "dr.toml")])
    assert code == 2
    assert capsys.readouterr().err == f"switchgear: {bench.folder / 'dr.toml'}: nobody can be asked here; give --yes\n"
    assert bench.regions() == {ONE: EAST, TWO: EAST}


def test_a_damaged_journal(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal with a damaged line in its middle is gone on from, or --fresh does not get past it."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what="DELETE /connections/(?!.*probe)")
    assert bench.operations().apply("west", Wishes()).code == 6
    bench.aws.lift()
    path = bench.journals()[0]
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3][:9]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(BrokenJournal, match="line 4 is damaged; nothing was changed"):
        bench.operations().apply("east", Wishes())
    assert bench.regions() == {ONE: WEST, TWO: WEST}
    assert bench.operations().apply("east", Wishes(fresh=True)).code == 0


@pytest.mark.parametrize("damage", [b"{\n{\n", b'{"entry":"noted"}\n', b'{"entry":"began","at":1}\n'])
def test_status_with_a_damaged_journal(bench: Bench, capsys: pytest.CaptureFixture[str], damage: bytes) -> None:
    """With the last journal damaged, status does not say so, or not where the domains lead and who has the lock."""
    assert bench.operations().apply("west", Wishes()).code == 0
    path = bench.journals()[0].with_name("29991231T235959.000Z-ffff.jsonl")
    path.write_bytes(damage)
    status = ["dr", "status", "--file", str(bench.folder / "dr.toml")]
    assert main(status) == 2
    told = capsys.readouterr()
    assert "mode: west\nlock: free\n" in told.out
    assert f"last run: {path.stem}; how far it came is not known, its journal is damaged\n" in told.out
    assert told.err.startswith(f"switchgear: journal {path}: ")
    assert main([*status, "--json"]) == 2
    facts = json.loads(capsys.readouterr().out)
    last = facts["last_run"]
    assert (facts["modes"], last["run"], last["mode"], last["outcome"]) == (["west"], path.stem, None, "damaged")


@pytest.mark.parametrize(
    "entry",
    [
        b'{"entry":"nonsense","at":1}',
        b'{"entry":"started","at":1,"phase":"NOPE"}',
        b'{"entry":"started","phase":"CHANGE"}',
        b'{"entry":"disconnected","at":1}',
        b'{"entry":"noted","at":"soon","note":"x"}',
    ],
)
def test_an_entry_of_another_version(bench: Bench, capsys: pytest.CaptureFixture[str], entry: bytes) -> None:
    """An entry that this program does not write gives a traceback, or --fresh does not get past it."""
    assert bench.operations().apply("west", Wishes()).code == 0
    path = bench.journals()[0]
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], entry, *lines[1:]]))
    code = main(["dr", "status", "--file", str(bench.folder / "dr.toml")])
    assert (code, "line 2 is no entry of this version; nothing was changed" in capsys.readouterr().err) == (2, True)
    assert bench.operations().apply("east", Wishes(fresh=True)).code == 0


@pytest.mark.parametrize("plan", [5, {"version": 1, "hash": "edited"}, {"version": 2, "hash": "newer"}])
def test_a_journal_whose_plan_was_edited(bench: Bench, plan: object) -> None:
    """A journal with another plan gives a traceback, or is a stale plan that --fresh does not get past."""
    assert bench.operations().apply("west", Wishes()).code == 0
    path = bench.journals()[0]
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(json.dumps({**json.loads(first), "plan": plan}).encode() + b"\n" + rest)
    with pytest.raises(BrokenJournal, match="line 1 is no entry of this version"):
        bench.operations().apply("east", Wishes())
    assert bench.operations().apply("east", Wishes(fresh=True)).code == 0


def test_a_saved_plan_that_is_none(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no plan, or is not there, gives a traceback."""
    for text in ("{}", "[]", "no", '{"hash": "x", "version": 1}'):
        (bench.folder / "saved.json").write_text(text)
        code, _ = refused(bench, capsys, "apply", "--plan", str(bench.folder / "saved.json"), "--yes")
        assert code in {2, 4}
    code, line = refused(bench, capsys, "apply", "--plan", str(bench.folder / "missing.json"), "--yes")
    assert (code, "No such file or directory" in line) == (2, True)


@pytest.mark.parametrize("wrong", [{"moves": []}, {"endpoints": 3}, {"connects_per_second": "ab"}, {"mode": "north"}])
def test_a_saved_plan_with_a_forged_hash(
    bench: Bench, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]
) -> None:
    """A saved plan that somebody wrote by hand, with a hash that fits, gives a traceback or is applied."""
    facts = {**bench.operations().plan("west").as_dict(), **wrong}
    facts["hash"] = plan._hash({key: value for key, value in facts.items() if key != "hash"})
    (bench.folder / "saved.json").write_text(json.dumps(facts))
    code, _ = refused(bench, capsys, "apply", "--plan", str(bench.folder / "saved.json"), "--yes")
    assert code in {2, 4}


def test_a_stale_plan(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A stale plan is applied, or has another exit code than 4."""
    saved = str(bench.folder / "saved.json")
    main(["dr", "plan", "west", "--out", saved, "--file", str(bench.folder / "dr.toml")])
    capsys.readouterr()
    bench.set_records({ONE: WEST})
    code, line = refused(bench, capsys, "apply", "--plan", saved, "--yes")
    assert code == 4
    assert "the plan is stale: mqtt1.example.com was" in line


def test_a_file_of_ids_that_cannot_be_read(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file of client ids is taken for an empty one."""
    bench.more[f'domains."{ONE}".clients'] = 'source = "file"\nfile = "ids.txt"'
    bench.write()
    code, line = refused(bench, capsys)
    assert code == 2
    assert f"domains.{ONE}.clients.file: {bench.folder / 'ids.txt'}: No such file or directory" in line


def test_a_file_of_ids_of_an_editor_of_windows(bench: Bench) -> None:
    """A byte order mark is part of the first client's id, which then is refused."""
    (bench.folder / "ids.txt").write_bytes(b"\xef\xbb\xbfpress-1\r\npress-2\r\n")
    bench.more[f'domains."{ONE}".clients'] = 'source = "file"\nfile = "ids.txt"'
    bench.write()
    assert bench.operations().plan("west").moves[0].clients == ("press-1", "press-2")


def test_errors_have_facts() -> None:
    """An error of ours is no SwitchgearError with an exit code."""
    error = InvalidPlanFile("dr.toml", "zone.id", "it is missing")
    assert isinstance(error, RegionSwitchError)
    assert (error.path, error.key, error.why, error.exit_code) == ("dr.toml", "zone.id", "it is missing", 2)


def test_a_journal_that_cannot_be_written(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Records are switched although nothing can be written down."""
    (bench.folder / "dr-journal").write_text("")
    code, line = refused(bench, capsys)
    assert code == 2
    assert f"journal: {bench.folder / 'dr-journal'}: File exists" in line


def test_a_disk_that_is_full(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of a run gives a traceback, or the run cannot go on."""
    from switchgear_iot_dns.dr.journal import Journal

    add = Journal.add

    def full(journal: Journal, entry: str, *, at: float, **facts: Any) -> None:
        if entry == "disconnected":
            raise OSError(28, "No space left on device")
        add(journal, entry, at=at, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", full)
        path = bench.write(waits="resolvers = 0\ncanary = 2\nverify = 2")
        code = main(["dr", "apply", "west", "--yes", "--file", str(path)])
    assert code == 130
    line = capsys.readouterr().err
    assert line == "switchgear: No space left on device; the same command goes on where this one stopped\n"
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(WEST) == ["lathe-1", "press-1", "press-2"]


def test_a_missing_permission_to_look_is_said(bench: Bench) -> None:
    """Somebody without iot:GetConnection is not told why nobody was seen to arrive."""
    bench.aws.fail("iotdata", "ForbiddenException", 403, what="GET /connections")
    assert bench.operations().apply("west", Wishes()).code == 0
    assert any('"Action": "iot:GetConnection"' in note for note in bench.shown.notes)
