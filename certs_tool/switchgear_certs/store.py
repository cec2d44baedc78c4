"""A folder that is written all or nothing: this file does all writing of this distribution.

Every change is written to a folder of its own beside the files, synced, and renamed to ``.pending``: from that moment
it is decided. Then its files are moved to their places. A run that is interrupted before leaves a ``.staging-*``
folder, which the next one deletes; one that is interrupted after leaves ``.pending``, which the next one completes. So
a key never stands beside the certificate of another one for longer than until the next run. A lock on the folder keeps
two runs apart. Keys have mode 0600 from the moment they exist, folders that are made here 0700.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from switchgear_certs.errors import FileTrouble

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

PUBLIC: Final = 0o644
SECRET: Final = 0o600
FOLDER: Final = 0o700
_PENDING: Final = ".pending"
_STAGING: Final = ".staging-"
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


@frozen
class Entry:
    """One file to be written, with its mode."""

    data: bytes = field(repr=False)
    mode: int = PUBLIC


@define
class Change:
    """What is to be written when the change ends without an error: paths relative to the folder, with ``/``."""

    folder: Path
    entries: dict[str, Entry] = field(factory=dict)

    def put(self, name: str, data: bytes, *, mode: int = PUBLIC) -> None:
        """Write *data* to *name*; nothing happens when it holds that already."""
        path = self.folder / name
        if path.is_dir():
            raise FileTrouble(f"{path} is a folder; move it away")
        is_lax = mode == SECRET and path.is_file() and path.stat().st_mode & 0o077
        if is_lax or not self._holds(path, data):
            self.entries[name] = Entry(data, mode)

    @staticmethod
    def _holds(path: Path, data: bytes) -> bool:
        try:
            return read_if_there(path) == data
        except FileTrouble:  # it cannot be read; who may write here replaces it
            return False


def read(path: Path) -> bytes:
    """The bytes of *path*.

    Raises:
        FileTrouble: it cannot be read, or has more than 4 MiB, which no certificate or key has.
    """
    try:
        with path.open("rb") as file:
            data = file.read(4_194_305)
    except OSError as error:
        raise FileTrouble(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a null character in the path
        raise FileTrouble(f"{str(path)!r} is no path: {error}") from error
    if len(data) > 4_194_304:
        raise FileTrouble(f"{path} has more than 4 MiB; that is neither a certificate nor a key")
    return data


def read_if_there(path: Path) -> bytes | None:
    """The bytes of *path*; None where there is no file."""
    return read(path) if os.path.lexists(path) else None


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[Change]:
    """Lock *folder* (made when missing), finish what an interrupted run began, and write what was put in the end.

    Raises:
        FileTrouble: the folder cannot be made, locked or written; nothing was changed.
    """
    try:
        made = _make_folder(folder)
        with _locked(folder):
            _recover(folder)
            change = Change(folder)
            try:
                yield change
            except BaseException:
                _remove_empty(made)
                raise
            if change.entries:
                _commit(folder, change.entries)
    except OSError as error:
        raise FileTrouble(f"{folder} cannot be written: {error.strerror or error}") from error


def recover(folder: Path) -> None:
    """Finish what an interrupted run began in *folder*; nothing happens where there is nothing to finish.

    Raises:
        FileTrouble: it could not be finished.
    """
    if not (folder / _PENDING).is_dir():
        return
    try:
        with _locked(folder):
            _recover(folder)
    except OSError as error:
        raise FileTrouble(
            f"{folder} holds the rest of an interrupted run, which cannot be finished: {error.strerror or error}"
        ) from error


def _make_folder(folder: Path) -> list[Path]:
    """Make *folder* and those above it, mode 0700; return those that were made, the deepest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    if not folder.is_dir():
        raise FileTrouble(f"{folder} is no folder")
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another run makes it too
            each.mkdir(FOLDER)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for each in folders:
        with contextlib.suppress(OSError):
            each.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _recover(folder: Path) -> None:
    for rest in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(rest)
    pending = folder / _PENDING
    if pending.is_dir():
        _move_all(pending, folder)


def _commit(folder: Path, entries: dict[str, Entry]) -> None:
    staging = folder / f"{_STAGING}{secrets.token_hex(8)}"
    staging.mkdir(FOLDER)
    try:
        for name, entry in entries.items():
            path = staging.joinpath(*PurePosixPath(name).parts)
            _make_folder(path.parent)
            _write(path, entry)
        _sync(staging)
        staging.rename(folder / _PENDING)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync(folder)
    _move_all(folder / _PENDING, folder)


def _write(path: Path, entry: Entry) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, entry.mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(entry.data)
        file.flush()
        os.fsync(file.fileno())


def _move_all(pending: Path, folder: Path) -> None:
    """Move every file of *pending* to its place in *folder*; done again after an interruption it comes to the same."""
    for path in sorted(pending.rglob("*")):
        if path.is_dir():
            continue
        target = folder / path.relative_to(pending)
        _make_folder(target.parent)
        path.replace(target)
    _sync(folder)
    shutil.rmtree(pending)


def _sync(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
