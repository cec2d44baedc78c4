"""What a run tells people while it lasts: bars on a terminal, nothing on a pipe. Writes to standard error."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, Self

from switchgear.cli.notes import write_note
from switchgear.cli.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType


class Show(Protocol):
    """Hears how a run goes on; called on the run's thread only. It is a context manager, too."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End."""

    def paused(self) -> AbstractContextManager[None]:
        """Leave the terminal to others for a while."""

    def phase(self, text: str, *, seconds: float | None = None) -> None:
        """A phase begins; it lasts at most *seconds*."""

    def progress(self, done: int, total: int) -> None:
        """So much of the phase is done."""

    def note(self, text: str) -> None:
        """Something that people should know."""


class Quiet:
    """Tells notes only."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        pass

    def paused(self) -> AbstractContextManager[None]:
        """See `Show.paused`."""
        return nullcontext()

    def phase(self, text: str, *, seconds: float | None = None) -> None:
        """See `Show.phase`."""

    def progress(self, done: int, total: int) -> None:
        """See `Show.progress`."""

    def note(self, text: str) -> None:
        """See `Show.note`."""
        write_note(text)


class Bars:
    """One bar for each phase, with rate and time left, by Rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress: Any = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            speed_estimate_period=10,
        )
        self._task: Any = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._finish()
        self._progress.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See `Show.paused`."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def phase(self, text: str, *, seconds: float | None = None) -> None:
        """See `Show.phase`."""
        self._finish()
        limit = "" if seconds is None else f" (at most {seconds:.0f} s)"
        self._task = self._progress.add_task(text + limit, total=None, rate="")

    def progress(self, done: int, total: int) -> None:
        """See `Show.progress`."""
        if self._task is not None:
            speed = self._progress.tasks[-1].speed
            rate = "" if not speed else f"{speed:.0f}/s"
            self._progress.update(self._task, completed=done, total=total, rate=rate)

    def note(self, text: str) -> None:
        """See `Show.note`."""
        self._progress.console.print(f"switchgear: {visible(text)}", markup=False, highlight=False)

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[-1]
            total = task.total if task.total is not None else 1
            self._progress.update(self._task, completed=total, total=total)
            self._task = None
