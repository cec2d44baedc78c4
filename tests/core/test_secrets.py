from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
from switchgear import ConfigurationError, Secret, UnreadableFile, env, file, secrets
from switchgear.secrets import as_secret

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("source", ["s3cret", b"s3cret", lambda: "s3cret", lambda: b"s3cret"])
def test_reveal_and_hide(source: object) -> None:
    """A secret is revealed as bytes and shows in neither repr, str nor format."""
    secret = Secret(source)  # type: ignore[arg-type] # each of the four kinds
    assert secret.reveal() == b"s3cret"
    assert "s3cret" not in f"{secret!r} {secret!s} {secret}"
    assert secret.is_dynamic is callable(source)


def test_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable is read anew each time; one that is not set is named in the error."""
    secret = env("SWITCHGEAR_TEST_PASSWORD")
    monkeypatch.delenv("SWITCHGEAR_TEST_PASSWORD", raising=False)
    with pytest.raises(ConfigurationError, match="SWITCHGEAR_TEST_PASSWORD is not set"):
        secret.reveal()
    for value in ("one", "tw\u00f6"):
        monkeypatch.setenv("SWITCHGEAR_TEST_PASSWORD", value)
        assert secret.reveal() == value.encode()
    monkeypatch.setenv("SWITCHGEAR_TEST_PASSWORD", "hunter2\udcff")  # as Python has it where the bytes are no UTF-8
    with pytest.raises(ConfigurationError, match="SWITCHGEAR_TEST_PASSWORD is no UTF-8") as caught:
        secret.reveal()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_text_that_no_encoding_holds() -> None:
    """A text with a lone surrogate is an error of ours, which does not show it."""
    secret = Secret("hunter" + "2\ud800")
    with pytest.raises(ConfigurationError, match="lone surrogate") as caught:
        secret.reveal()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_file(tmp_path: Path) -> None:
    """The first line of a file, without its end, is the secret, read anew each time; a missing file is an error."""
    path = tmp_path / "password"
    secret = file(path)
    with pytest.raises(UnreadableFile, match="No such file") as caught:
        secret.reveal()
    assert (caught.value.path, caught.value.role) == (str(path), "secret file")
    for text, expected in (("one\ntwo\n", b"one"), ("one", b"one"), ("", b""), ("one \r\n", b"one ")):
        path.write_bytes(text.encode())
        assert secret.reveal() == expected


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """A secret file that is no UTF-8 is an unreadable file, and its bytes are not in the error."""
    path = tmp_path / "password"
    path.write_bytes(b"\xff\xfehunter2")
    with pytest.raises(UnreadableFile) as caught:
        file(path).reveal()
    assert "hunter2" not in str(caught.value)


def test_as_secret() -> None:
    """None stays None, a secret stays itself, anything else is wrapped."""
    secret = Secret("x")
    assert as_secret(None) is None
    assert as_secret(secret) is secret
    assert as_secret("x") == secret


def test_an_error_does_not_show_a_header() -> None:
    """A session token that came with its line feed stands in the line that tells of it."""
    line = secrets.in_one_line("unhandled exception:\n Invalid header value b'very-secret\\n'")
    assert line.startswith("unhandled exception: Invalid header value: there is a line feed in the credentials")
    assert "very-secret" not in line
    assert secrets.in_one_line(" two\nlines ") == "two lines"
