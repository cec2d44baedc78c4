from __future__ import annotations

import json
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from switchgear import OutboxLimits
from switchgear.cli.app import OK, USAGE, build
from switchgear.outbox import SqliteOutbox
from switchgear.waits import Waits
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object) -> tuple[int, list[Any], str]:
    """Exit code, JSON lines of standard output, standard error."""
    result = CliRunner().invoke(build(), ["outbox", *map(str, arguments)])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An outbox of four messages, the third of which is broken."""
    path = tmp_path / "outbox"
    outbox = SqliteOutbox(OutboxLimits(), Waits(), str(path))
    for payload in (b"a", b"b", b"c", b"\xff"):
        outbox.accept("t", payload, 1, retain=payload == b"a")
    outbox.close_now()
    db = sqlite3.connect(path)
    db.execute("UPDATE message SET payload = x'00' WHERE sequence = 3")
    db.commit()
    db.close()
    return path


def test_show_and_export(path: Path) -> None:
    """Show counts, export writes every message, and neither changes the file."""
    before = path.read_bytes()
    code, [facts], _ = run("show", path, "--json")
    assert (code, facts["messages"], facts["bytes"], facts["quarantined"], facts["held_by"]) == (OK, 4, 8, 0, None)
    code, messages, _ = run("export", path)
    assert code == OK
    assert [(m["sequence"], m.get("payload"), m["retain"], m["is_sound"]) for m in messages] == [
        (1, "a", True, True),
        (2, "b", False, True),
        (3, "\0", False, False),
        (4, None, False, True),
    ]
    assert messages[3]["payload_base64"] == "/w=="
    assert path.read_bytes() == before


def test_requeue(path: Path) -> None:
    """What was set aside is a message again, after all others, and quarantine is empty."""
    outbox = SqliteOutbox(OutboxLimits(), Waits(), str(path))
    assert run("show", path, "--json")[1][0]["held_by"] is not None
    code, lines, err = run("requeue", path)
    assert (code, lines) == (USAGE, [])
    assert f"a transport in this process ({os.getpid()}) has it" in err
    outbox.close_now()
    assert [m["sequence"] for m in run("export", path, "--quarantine")[1]] == [3]
    assert run("requeue", path, "--json")[1] == [{"requeued": 1, "quarantined": 0}]
    again = SqliteOutbox(OutboxLimits(), Waits(), str(path))
    assert [d.payload for d in again.pending] == [b"a", b"b", b"\xff", b"\0"]
    assert len(again) == 4
    again.close_now()


def test_purge(path: Path) -> None:
    """Nothing is thrown away without --yes; with it the file is empty, and sound."""
    code, _, err = run("purge", path)
    assert code == USAGE
    assert "--yes" in err
    assert run("purge", path, "--yes", "--json")[1] == [{"purged": 4, "purged_from_quarantine": 0}]
    outbox = SqliteOutbox(OutboxLimits(), Waits(), str(path))
    assert len(outbox) == 0
    delivery = outbox.accept("t", b"", 1)
    assert delivery is not None
    assert delivery.sequence == 5
    outbox.close_now()


@pytest.mark.parametrize("command", ["show", "export", "requeue"])
def test_not_an_outbox(tmp_path: Path, command: str) -> None:
    """A file that is missing, or something else, is refused as what it is, and left as it is."""
    assert run(command, tmp_path / "missing")[0] == USAGE
    assert not (tmp_path / "missing").exists()
    other = tmp_path / "text"
    other.write_text("hello" * 100)
    code, _, err = run(command, other)
    assert code == USAGE
    assert "it is something else, no outbox; name another file" in err
    assert "it is no regular file" in run(command, tmp_path)[2]
    assert other.read_text() == "hello" * 100


def test_requeued_or_not(path: Path) -> None:
    """Where the quarantine cannot be emptied nothing of it is put back, nothing is purged, and one line says why."""
    SqliteOutbox(OutboxLimits(), Waits(), str(path)).close_now()  # sets the third aside
    db = sqlite3.connect(path)
    db.execute("CREATE TRIGGER never BEFORE DELETE ON quarantine BEGIN SELECT RAISE(ABORT, 'the disk says no'); END")
    db.commit()
    db.close()
    for arguments in (("requeue",), ("purge", "--yes")):
        code, lines, err = run(arguments[0], path, *arguments[1:])
        assert (code, lines) == (USAGE, [])
        assert "the disk says no; nothing was changed" in err
        (facts,) = run("show", path, "--json")[1]
        assert (facts["messages"], facts["bytes"], facts["quarantined"]) == (3, 6, 1)


def test_a_slow_reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a reader of ours dawdles the transport that uses the file can still use its write-ahead log anew."""
    monkeypatch.setattr("switchgear.cli.outbox.PART", 1)
    busy: list[int] = []

    def dawdle(line: bytes) -> None:
        assert line
        db = sqlite3.connect(path)
        db.execute("UPDATE meta SET skew = 0")
        db.commit()
        busy.append(db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        db.close()

    monkeypatch.setattr("switchgear.cli.outbox.write_line", dawdle)
    assert run("export", path)[0] == OK
    assert busy == [0] * 4


def test_by_another_name(path: Path, tmp_path: Path) -> None:
    """The commands see who has a file also by a link to it."""
    link = tmp_path / "link"
    link.symlink_to(path)
    outbox = SqliteOutbox(OutboxLimits(), Waits(), str(path))
    assert run("show", link, "--json")[1][0]["held_by"] is not None
    assert run("purge", link, "--yes")[0] == USAGE
    outbox.close_now()
