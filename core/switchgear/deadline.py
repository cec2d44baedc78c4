"""A bound on waiting that says what was waited for. Touches the running loop's timers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Deadline:
    """``asyncio.timeout`` whose TimeoutError says what was waited for."""

    def __init__(self, seconds: float | None, what: str | Callable[[], str]) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._seconds = seconds
        self._what = what

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            what = self._what if isinstance(self._what, str) else self._what()
            raise TimeoutError(f"not within {self._seconds:g} s: {what}") from None
