import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from switchgear_certs import FileTrouble
from switchgear_certs.store import SECRET, changing, read, read_if_there, recover


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def wide_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("wide_umask")
def test_modes(tmp_path: Path) -> None:
    """Folders that are made have mode 0700 and secrets 0600, whatever the umask; other files 0644."""
    folder = tmp_path / "a" / "b"
    with changing(folder) as change:
        change.put("x.crt", b"certificate")
        change.put("x.key", b"key", mode=SECRET)
        change.put("x.acm/key.pem", b"key", mode=SECRET)
    assert [mode(tmp_path / "a"), mode(folder), mode(folder / "x.acm")] == [0o700] * 3
    assert [mode(folder / "x.key"), mode(folder / "x.acm" / "key.pem")] == [0o600] * 2
    assert mode(folder / "x.crt") == 0o644
    assert sorted(path.name for path in folder.iterdir()) == ["x.acm", "x.crt", "x.key"]


@pytest.mark.usefixtures("wide_umask")
def test_keys_are_never_wider_than_0600(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and folder that is made is asked for with its narrow mode, so that no moment is left to a reader."""
    asked: list[tuple[str, int]] = []
    real_open, real_mkdir = os.open, Path.mkdir

    def noting_open(path: str | Path, flags: int, mode: int = 0o777, **options: int | None) -> int:
        if flags & os.O_CREAT:
            asked.append((Path(path).suffix, mode))
            assert flags & os.O_EXCL
        return real_open(path, flags, mode, **options)

    def noting_mkdir(path: Path, mode: int = 0o777, **options: bool) -> None:
        asked.append(("folder", mode))
        real_mkdir(path, mode, **options)

    monkeypatch.setattr(os, "open", noting_open)
    monkeypatch.setattr(Path, "mkdir", noting_mkdir)
    with changing(tmp_path / "new") as change:
        change.put("x.key", b"key", mode=SECRET)
        change.put("x.crt", b"certificate")
    assert set(asked) == {(".key", 0o600), (".crt", 0o644), ("folder", 0o700)}


def test_a_wide_key_is_narrowed(tmp_path: Path) -> None:
    """A key file that others can read is replaced even when it holds the same key."""
    key = tmp_path / "x.key"
    key.write_bytes(b"key")
    key.chmod(0o644)
    with changing(tmp_path) as change:
        change.put("x.key", b"key", mode=SECRET)
    assert mode(key) == 0o600


def test_the_same_contents_change_nothing(tmp_path: Path) -> None:
    """Files that hold what they should are not touched."""
    (tmp_path / "x.crt").write_bytes(b"certificate")
    before = (tmp_path / "x.crt").stat()
    with changing(tmp_path) as change:
        change.put("x.crt", b"certificate")
        assert change.entries == {}
    after = (tmp_path / "x.crt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    """An error while a change is prepared leaves neither files nor the folder that was made for them."""
    folder = tmp_path / "a" / "b"
    with pytest.raises(ZeroDivisionError), changing(folder) as change:  # noqa: PT012 - what comes before counts
        change.put("x.crt", b"certificate")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", range(8))
def test_a_full_disk_changes_nothing_or_is_completed(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever write, sync or rename fails, the pair is the old one or, after the next run, the new one."""
    files = {"x.crt": b"old certificate", "x.key": b"old key"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(SECRET)
    count = 0

    def breaking(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == failing + 1:
                raise OSError(28, "No space left on device")
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", breaking(os.fsync))
        patch.setattr(Path, "rename", breaking(Path.rename))
        patch.setattr(Path, "replace", breaking(Path.replace))
        try:
            with changing(tmp_path) as change:
                change.put("x.crt", b"new certificate", mode=SECRET)
                change.put("x.key", b"new key", mode=SECRET)
        except FileTrouble as error:
            assert "No space left on device" in str(error)  # noqa: PT017
    is_decided = (tmp_path / ".pending").exists() or read(tmp_path / "x.key") == b"new key"
    recover(tmp_path)
    with changing(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.crt", "x.key"]
    word = b"new" if is_decided else b"old"
    assert read(tmp_path / "x.crt") == word + b" certificate"
    assert read(tmp_path / "x.key") == word + b" key"


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from switchgear_certs.store import changing
    steps = int(sys.argv[2])
    def dying(real):
        def call(*arguments, **options):
            global steps
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
    os.fsync, Path.rename, Path.replace = dying(os.fsync), dying(Path.rename), dying(Path.replace)
    with changing(Path(sys.argv[1])) as change:
        change.put("x.crt", b"new certificate")
        change.put("x.key", b"new key", mode=0o600)
"""


@pytest.mark.parametrize("steps", range(7))
def test_a_killed_run_leaves_no_half_pair(steps: int, tmp_path: Path) -> None:
    """A run that is killed at any step leaves the old pair or, once the next run has begun, the new one."""
    (tmp_path / "x.crt").write_bytes(b"old certificate")
    (tmp_path / "x.key").write_bytes(b"old key")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(steps)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with changing(tmp_path):
        pass
    pair = read(tmp_path / "x.crt"), read(tmp_path / "x.key")
    assert pair in {(b"old certificate", b"old key"), (b"new certificate", b"new key")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.crt", "x.key"]


def test_two_runs_take_turns(tmp_path: Path) -> None:
    """A second change waits until the first one has ended, and finds what it wrote."""
    entered, found = threading.Event(), []

    def second() -> None:
        entered.set()
        with changing(tmp_path):
            found.append(read_if_there(tmp_path / "x.crt"))

    thread = threading.Thread(target=second)
    with changing(tmp_path) as change:
        thread.start()
        assert entered.wait(60)
        thread.join(0.05)
        assert thread.is_alive()
        change.put("x.crt", b"certificate")
    thread.join(60)
    assert found == [b"certificate"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """A symbolic link in the place of a key is replaced, and what it points to stays."""
    (tmp_path / "elsewhere").write_bytes(b"theirs")
    (tmp_path / "x.key").symlink_to(tmp_path / "elsewhere")
    with changing(tmp_path) as change:
        change.put("x.key", b"ours", mode=SECRET)
    assert not (tmp_path / "x.key").is_symlink()
    assert read(tmp_path / "elsewhere") == b"theirs"


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    """A file in the way, a folder in the way and a system folder are refused in one line."""
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/switchgear")):
        with pytest.raises(FileTrouble), changing(folder):
            pass
    (tmp_path / "x.key").mkdir()
    with pytest.raises(FileTrouble, match="is a folder"), changing(tmp_path) as change:
        change.put("x.key", b"key", mode=SECRET)


def test_places_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, a name with a null character and a file of five megabytes are refused in one line."""
    (tmp_path / "big").write_bytes(bytes(5_000_000))
    for path in (tmp_path / "missing", tmp_path, Path("a\x00b"), tmp_path / "big"):
        with pytest.raises(FileTrouble):
            read(path)
    assert read_if_there(tmp_path / "missing") is None
