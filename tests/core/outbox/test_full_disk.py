"""A durable outbox on a small file system that is really full, or read-only. Root only, and never in CI: it mounts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import switchgear
from switchgear import DeliveryState, OutboxLimits, OutboxUnwritable, UnreadableFile
from switchgear.cli.app import USAGE, build
from switchgear.outbox import SqliteOutbox
from switchgear.waits import Waits
from typer.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from switchgear import Delivery

SIZE = 1 << 20
NO_ROOM = "its disk is full, make room"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    if sys.platform != "linux" or os.geteuid() != 0 or os.environ.get("CI"):
        pytest.skip("it takes root to mount a file system, and none is mounted in CI")
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", where], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this system mounts nothing: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; the file to be deleted."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    filler.write_bytes(bytes(free))
    assert shutil.disk_usage(disk).free == 0
    return filler


def new(path: Path) -> SqliteOutbox:
    outbox = SqliteOutbox(OutboxLimits(), Waits(), str(path))
    outbox.writer.retry = 0.01
    return outbox


@pytest.mark.parametrize("ends", ["closed", "killed"])
def test_full_while_it_runs(disk: Path, ends: str) -> None:
    """On a full disk the publisher hears it, what was accepted is kept and written when there is room, in order."""
    outbox = new(disk / "outbox")
    filler = fill(disk)
    accepted: list[Delivery] = []

    def publish() -> None:
        for number in range(10_000):
            delivery = outbox.accept(f"t/{number}", bytes(1000), 1)
            assert delivery is not None
            accepted.append(delivery)
            if number % 20 == 19:
                delivery.wait_stored(60)

    with pytest.raises(OutboxUnwritable, match="full"):
        publish()
    stored = [d.state is DeliveryState.STORED for d in accepted]
    assert stored == sorted(stored, reverse=True)
    assert not stored[-1]
    if ends == "killed":  # what another process finds
        outbox.writer.close(lambda: None, exactly_once=False)
        outbox.writer.join()
        left = sum(stored)
    filler.unlink()
    if ends == "closed":
        assert outbox.writer.wait(lambda: outbox.writer.failure is None, 60)
        accepted[-1].wait_stored(60)
        assert {d.state for d in accepted} == {DeliveryState.STORED}
        left = len(accepted)
    outbox.close_now()
    again = new(disk / "outbox")
    assert len(again) == left
    assert [d.topic for d in again.pending] == [f"t/{number}" for number in range(left)]
    again.close_now()


def test_full_when_it_is_opened(disk: Path) -> None:
    """A file on a full disk is refused with the reason, and none of its messages is lost."""
    outbox = new(disk / "outbox")
    for number in range(50):
        last = outbox.accept(f"t/{number}", bytes(100), 1)
    assert last is not None
    last.wait_stored(60)
    outbox.close_now()
    filler = fill(disk)
    with pytest.raises(UnreadableFile, match=NO_ROOM):
        switchgear.connect("mqtt://127.0.0.1:1", outbox=disk / "new")
    with pytest.raises(UnreadableFile, match=NO_ROOM):
        new(disk / "outbox")
    for command in ("show", "export", "requeue"):
        shown = CliRunner().invoke(build(), ["outbox", command, str(disk / "outbox")])
        assert (shown.exit_code, NO_ROOM in shown.stderr) == (USAGE, True)
    filler.unlink()
    again = new(disk / "outbox")
    assert [d.topic for d in again.pending] == [f"t/{number}" for number in range(50)]
    again.close_now()


def test_read_only(disk: Path) -> None:
    """On a read-only file system a file and a folder are refused, and what is in the file is there when it is mended."""
    outbox = new(disk / "outbox")
    last = outbox.accept("t", b"", 1)
    assert last is not None
    last.wait_stored(60)
    outbox.close_now()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for name in ("outbox", "new"):
        with pytest.raises(UnreadableFile, match="read-only"):
            switchgear.connect("mqtt://127.0.0.1:1", outbox=disk / name)
    subprocess.run(["mount", "-o", f"remount,rw,size={SIZE}", disk], check=True)
    again = new(disk / "outbox")
    assert len(again) == 1
    again.close_now()
