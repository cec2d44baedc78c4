"""The passphrase of the authority's key: from the terminal, a variable or a file."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from switchgear_certs import Files, WrongPassphrase

Run = Callable[..., Any]
Refused = Callable[..., str]


@pytest.mark.parametrize("options", [(), ("--intermediate",), ("--rsa",)])
def test_from_a_variable_or_a_file(
    options: tuple[str, ...], run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of an authority with a passphrase are encrypted, open with the right one from either source, and with no other."""
    monkeypatch.setenv("CA_PASS", "päss phrase")
    Path("right").write_text("päss phrase\nmore\n", encoding="utf-8")
    Path("wrong").write_text("wrong\n", encoding="utf-8")
    assert run("init", "--passphrase-env", "CA_PASS", *options).code == 0
    for path in Path("certs").glob("*.key"):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert run("server", "a.example", "--passphrase-env", "CA_PASS").code == 0
    assert run("server", "b.example", "--passphrase-file", "right").code == 0
    assert b"BEGIN PRIVATE KEY" in Path("certs/a.example.key").read_bytes()
    assert "does not open with this passphrase" in refused("server", "c.example", "--passphrase-file", "wrong")
    assert "--passphrase-env or" in refused("server", "c.example")
    assert "Nothing was changed" in run("init", "--passphrase-file", "right", *options).out
    assert "does not open" in refused("init", "--passphrase-file", "wrong", *options)
    assert "with a passphrase" in refused("init", *options)
    assert "Nothing was changed" in run("server", "a.example").out  # what is there needs no key


def test_sources_that_give_none(run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing variable, an empty or missing file, two sources, and a terminal that is none end with one line."""
    monkeypatch.delenv("NOT_SET", raising=False)
    Path("empty").write_bytes(b"\nsecond\n")
    assert "NOT_SET is empty" in refused("init", "--passphrase-env", "NOT_SET")
    assert "empty is empty" in refused("init", "--passphrase-file", "empty")
    assert "cannot be read" in refused("init", "--passphrase-file", "missing")
    assert "only one of" in refused("init", "--passphrase-file", "empty", "--passphrase-env", "X")
    assert "there is none" in refused("init", "--passphrase")
    Path("latin").write_bytes(b"p\xe4ss\n")
    assert "not in UTF-8" in refused("init", "--passphrase-file", "latin")


def test_a_passphrase_is_the_whole_first_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a line feed ends the line of a file, so that a variable with the same text opens the key."""
    Path("pass").write_bytes("one\fand\u2028two\r\nmore".encode())
    monkeypatch.setenv("CA_PASS", "one\fand\u2028two")
    assert run("init", "--passphrase-file", "pass").code == 0
    assert run("server", "a.example", "--passphrase-env", "CA_PASS").code == 0


def test_a_passphrase_that_is_too_long(run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest passphrase that OpenSSL takes is taken, and a longer one refused in one line."""
    monkeypatch.setenv("CA_PASS", "x" * 1024)
    assert "a passphrase of 1024 bytes; OpenSSL takes at most 1023" in refused("init", "--passphrase-env", "CA_PASS")
    monkeypatch.setenv("CA_PASS", "x" * 1023)
    assert run("init", "--passphrase-env", "CA_PASS").code == 0


def test_a_passphrase_for_a_key_without(run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python a passphrase for a key that has none is refused, for somebody expects a protection that is not there."""
    run("init")
    with pytest.raises(WrongPassphrase, match="not encrypted"):
        Files("certs").authority("secret")
    run("init", "--out", "other")
    assert Files("other").authority(lambda _what: "never asked").root is not None


def test_passphrases_do_not_show(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase is neither in what is printed nor in any file."""
    monkeypatch.setenv("CA_PASS", "marvellous-secret")
    ran = run("demo", "--passphrase-env", "CA_PASS")
    again = run("server", "x.example", "--passphrase-env", "CA_PASS", "--json")
    assert "marvellous" not in ran.out + ran.err + again.out + again.err
    assert not any(b"marvellous" in path.read_bytes() for path in Path("certs").rglob("*") if path.is_file())


def on_a_terminal(folder: Path, arguments: list[str], typed: list[str]) -> tuple[int, str]:
    """Run the command on a terminal, type a line at each question, and return its code and all that was shown."""
    main, other = pty.openpty()
    command = [sys.executable, "-m", "switchgear_certs", *arguments]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
        env=os.environ | {"TERM": "dumb"},
    )
    os.close(other)
    shown, answers, deadline = b"", list(typed), time.monotonic() + 100
    while time.monotonic() < deadline:
        if not select.select([main], [], [], 1)[0]:
            continue
        try:
            data = os.read(main, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
        if answers and shown.rstrip(b" ").endswith(b":"):
            os.write(main, answers.pop(0).encode() + b"\n")
    os.close(main)
    return process.wait(100), shown.decode()


def test_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal a new passphrase is asked for twice and an old one once, and none of them is shown."""
    code, shown = on_a_terminal(tmp_path, ["init", "--passphrase"], ["hidden-word", "hidden-word"])
    assert code == 0, shown
    assert "hidden" not in shown
    code, shown = on_a_terminal(tmp_path, ["server", "a.example"], ["hidden-word"])
    assert code == 0, shown
    assert "Passphrase of certs/ca.key" in shown
    assert "hidden" not in shown
    code, shown = on_a_terminal(tmp_path, ["init", "--passphrase", "--out", "other"], ["hidden-word", "another"])
    assert code == 2
    assert "the two passphrases differ" in shown
    assert not (tmp_path / "other").exists()
    code, shown = on_a_terminal(tmp_path, ["init", "--passphrase", "--out", "other"], ["\x04"])
    assert (code, "Traceback" in shown) == (2, False)
