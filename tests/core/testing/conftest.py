"""Runs `async def` tests on a loop whose time jumps instead of passing."""

from __future__ import annotations

import asyncio
import inspect
import selectors
from typing import Any

import pytest


class _Jumping(selectors.SelectSelector):
    """Never waits: it moves the clock by as much as it was to wait."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("the test waits for something that can never happen")
        self.now += max(0.0, timeout)
        return super().select(0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    selector = _Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign] # the point of this loop
    wanted = inspect.signature(pyfuncitem.obj).parameters
    try:
        loop.run_until_complete(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    finally:
        loop.close()
    return True
