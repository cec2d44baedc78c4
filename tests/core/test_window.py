from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from switchgear import (
    FileWindow,
    Forked,
    HandledTable,
    InvalidOption,
    LineEnvelope,
    Message,
    OutboxLocked,
    Properties,
    UnreadableFile,
    Window,
)
from switchgear import window_file as module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def handle(window: Window, key: str) -> bool | None:
    """Claim *key* and, when it is new, handle it; what the claim said."""
    claim = window.claim(key, lambda _: None)
    if claim:
        window.keep([key])
        window.finish(key, was_handled=True)
    return claim


def message(message_id: str | None = "a") -> Message:
    return Message("t", b"", 1, id=message_id)


# In memory, and in a file.


def test_window_is_bounded() -> None:
    """A window forgets the oldest id, and only that, when one more comes than it holds."""
    window = Window(2)
    assert [handle(window, key) for key in "aabca"] == [True, False, True, True, True]
    assert repr(window) == "<Window 2 of 2>"


def test_claim_is_exclusive() -> None:
    """While one holds a message, others wait, and are told how it ended."""
    window, told = Window(), list[bool]()
    assert window.claim("a", told.append) is True
    assert window.claim("a", told.append) is None
    window.finish("a", was_handled=False)
    assert told == [False]
    assert window.claim("a", told.append) is True
    assert window.claim("a", told.append) is None
    window.finish("a", was_handled=True)
    assert told == [False, True]
    assert window.claim("a", told.append) is False


def test_file_outlives(tmp_path: Path) -> None:
    """The ids in a file are known to the next process, the last ones when there were more than it holds."""
    path = tmp_path / "handled"
    with closing(FileWindow(path, size=3)) as window:
        for key in "abcd":
            assert handle(window, key)
    with closing(FileWindow(path, size=3)) as window:
        assert [handle(window, key) for key in "bcd"] == [False] * 3
        assert handle(window, "a")
        assert repr(window) == f"<FileWindow {str(path)!r} 3 of 3>"


def test_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that have left the window are removed from the file."""
    monkeypatch.setattr(module, "PRUNE_EVERY", 10)
    with closing(FileWindow(tmp_path / "w", size=5)) as window:
        for number in range(40):
            handle(window, str(number))
        assert window._database.execute("SELECT count(*) FROM switchgear_handled").fetchone()[0] <= 15


def test_file_is_held(tmp_path: Path) -> None:
    """A second user of a file is refused, with the process that has it, and may have it afterwards."""
    with closing(FileWindow(tmp_path / "w")), pytest.raises(OutboxLocked, match="window of message ids") as refused:
        FileWindow(tmp_path / "w")
    assert refused.value.pid == os.getpid()
    FileWindow(tmp_path / "w").close()


def test_file_that_is_damaged(tmp_path: Path) -> None:
    """A file that is no database is set aside, and a new one is begun: a lost window is no reason not to start."""
    path = tmp_path / "w"
    FileWindow(path).close()
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with closing(FileWindow(path)) as window:
        assert handle(window, "a")
    assert (tmp_path / "w.damaged").read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("name", [".", "missing/w"])
def test_file_that_cannot_be(tmp_path: Path, name: str) -> None:
    """A folder, or a file in a folder that is not there, is refused with the path and what to do."""
    with pytest.raises(UnreadableFile, match="name a file in a folder that can be written") as refused:
        FileWindow(tmp_path / name)
    assert str(tmp_path) in str(refused.value)


def test_keep_after_close(tmp_path: Path) -> None:
    """A handler that ends after the file was closed does no harm."""
    window = FileWindow(tmp_path / "w")
    window.close()
    window.keep(["a"])


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "many", None])
def test_wrong_size(size: Any) -> None:
    """A window of no size is refused with the value."""
    for make in (Window, lambda size: HandledTable(size=size)):
        with pytest.raises(InvalidOption, match="size"):
            make(size)


# In the application's transaction.


def test_mark_belongs_to_the_transaction() -> None:
    """A mark is there exactly when the effects are: a rollback takes it back, a commit keeps it."""
    database, handled = sqlite3.connect(":memory:"), HandledTable()
    with closing(database):
        database.execute("CREATE TABLE effects (id TEXT)")
        assert handled.mark(database, message())
        database.execute("INSERT INTO effects VALUES ('a')")
        database.rollback()
        with database:
            assert handled.mark(database, message())
            database.execute("INSERT INTO effects VALUES ('a')")
        assert not handled.mark(database, message())
        assert handled.mark(database, message(), scope="another consumer")
        assert database.execute("SELECT count(*) FROM effects").fetchone() == (1,)


def test_mark_needs_a_transaction() -> None:
    """On a connection that commits each statement, a mark without BEGIN is refused: it could outlive its effects."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        with pytest.raises(InvalidOption, match="execute BEGIN first"):
            HandledTable().mark(database, message("b"))
        database.execute("BEGIN")
        assert HandledTable().mark(database, message())


def test_mark_needs_an_id() -> None:
    """A message without an id is refused, with what its publisher must set."""
    with closing(sqlite3.connect(":memory:")) as database, pytest.raises(InvalidOption, match="message_id=True"):
        HandledTable().mark(database, message(None))


@pytest.mark.parametrize("table", ["", "a b", "x; DROP TABLE y", "1a", 3])
def test_wrong_table(table: Any) -> None:
    """A table name that SQL could misread is refused."""
    with pytest.raises(InvalidOption, match="table"):
        HandledTable(table=table)


# Ids and envelopes.


def test_id_of_a_message() -> None:
    """A message's id is its user property, or what the envelope held; none is None."""
    assert Message("t", b"", properties=Properties(user=(("x", "y"), ("message-id", "7")))).id == "7"
    assert Message("t", b"", properties=Properties()).id is None
    assert Message("t", b"").id is None
    assert message("8").id == "8"


@pytest.mark.parametrize("payload", [b"", b"plain", b"message-id: not this one\nrest", bytes(range(256))])
def test_line_envelope(payload: bytes) -> None:
    """Whatever was wrapped comes out again with its id."""
    envelope = LineEnvelope()
    assert envelope.unwrap(envelope.wrap("7-1", payload)) == ("7-1", payload)


@pytest.mark.parametrize(
    "payload", [b"", b"plain", b"message-id: ", b"message-id: \n", b"message-id: \xff\n", b"message-id: " + b"x" * 999]
)
def test_not_an_envelope(payload: bytes) -> None:
    """What nobody wrapped passes as it is."""
    assert LineEnvelope().unwrap(payload) == (None, payload)


@pytest.mark.parametrize("message_id", ["", "two\nlines", "x" * 257])
def test_id_that_no_line_holds(message_id: str) -> None:
    """An id that the other side could not read back is refused when it is sent."""
    with pytest.raises(InvalidOption, match="message-id"):
        LineEnvelope().wrap(message_id, b"")


@pytest.mark.parametrize("name", ["", "caf\u00e9", "two\nlines", "x" * 64, 3])
def test_wrong_envelope_name(name: Any) -> None:
    """A name that is no plain text is refused with the value."""
    with pytest.raises(InvalidOption, match="name"):
        LineEnvelope(name)


# Ids of strangers, and files that are damaged.

STRANGE = [
    "",
    "\0",
    "two\nlines",
    "x" * 65535,
    "\U0001f512" * 16000,
    "\ud800",
    "\ud801",
    "?",
    "\\ud800 ",
    "' OR 1=1 --",
]


def test_strange_ids(tmp_path: Path) -> None:
    """Ids that a stranger chose are told apart, before and after a restart, and take no more room than others."""
    path = tmp_path / "w"
    with closing(FileWindow(path)) as window:
        assert [handle(window, f"t\n{key}") for key in STRANGE] == [True] * len(STRANGE)
    with closing(FileWindow(path)) as window:
        assert [handle(window, f"t\n{key}") for key in STRANGE] == [False] * len(STRANGE)
        stored = window._database.execute("SELECT max(length(CAST(id AS BLOB))) FROM switchgear_handled").fetchone()
        assert stored[0] <= 512
    with closing(sqlite3.connect(":memory:")) as database:
        assert [HandledTable().mark(database, message(key)) for key in STRANGE[1:]] == [True] * (len(STRANGE) - 1)
        assert [HandledTable().mark(database, message(key)) for key in STRANGE[1:]] == [False] * (len(STRANGE) - 1)


def test_mark_that_was_refused_is_not_there() -> None:
    """A mark that was refused for want of a transaction has not been committed: the message can still be handled."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        with pytest.raises(InvalidOption, match="execute BEGIN first"):
            HandledTable().mark(database, message("a"))
        database.execute("BEGIN")
        assert HandledTable().mark(database, message("a"))


def damaged_copies(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file with one byte flipped, at places all over it, and cut off at some."""
    whole = path.read_bytes()
    for place in sorted({*range(128), *range(128, len(whole), 97)}):
        yield place, whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
    for place in range(1, len(whole), 9973):
        yield -place, whole[:place]


def test_any_damage(tmp_path: Path) -> None:
    """Wherever a byte is flipped and however much is missing, the window opens, and what it keeps is there afterwards.

    Of what it held before, most is still known: what can be read of a damaged file is taken over.
    """
    path = tmp_path / "w"
    with closing(FileWindow(path)) as window:
        old_keys = [f"{number:060}" for number in range(300)]
        for key in old_keys:
            handle(window, key)
    kept = []
    for place, data in list(damaged_copies(path)):
        for old in {*tmp_path.glob("w*")} - {tmp_path / "w.lock"}:  # which says that it is one of ours
            old.unlink()
        path.write_bytes(data)
        with closing(FileWindow(path)) as window:
            fresh = [f"new {number}" for number in range(50)]
            window.keep(fresh)
        with closing(FileWindow(path)) as window:
            assert [window.claim(key, lambda _: None) for key in fresh] == [False] * 50, place
            kept.append(sum(window.claim(key, lambda _: None) is False for key in old_keys))
    assert sum(kept) / len(kept) > 250


def test_child_of_a_fork(tmp_path: Path) -> None:
    """A child of the process that opened a file does not touch it, and may close and open it no sooner than its parent."""
    with closing(FileWindow(tmp_path / "w")) as window:
        handle(window, "a")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                window.keep(["from the child"])
            except Forked:
                window.close()
                try:
                    FileWindow(tmp_path / "w")
                except OutboxLocked:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert handle(window, "b")
    with closing(FileWindow(tmp_path / "w")) as window:
        assert [handle(window, key) for key in ("a", "b", "from the child")] == [False, False, True]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(where)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own needs root and a kernel that mounts tmpfs")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_full_disk(small_disk: Path) -> None:
    """A full disk is an error to whoever keeps ids; those kept before are there, and with room again all goes on."""
    ballast = small_disk / "ballast"
    with closing(FileWindow(small_disk / "w")) as window:
        handle(window, "before")
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            window.keep([f"{number:0200}" for number in range(2000)])
        ballast.unlink()
        assert handle(window, "after")
    with closing(FileWindow(small_disk / "w")) as window:
        assert [handle(window, key) for key in ("before", "after")] == [False, False]


def test_read_only_file(tmp_path: Path) -> None:
    """A file that cannot be written is refused when it is opened, with its path, and is left as it is."""
    path = tmp_path / "w"
    FileWindow(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    before = path.read_bytes()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        if os.access(path, os.W_OK):
            pytest.skip("root writes every file")
        with pytest.raises(UnreadableFile, match="name a file in a folder that can be written"):
            FileWindow(path)
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before
    assert not (tmp_path / "w.damaged").exists()
