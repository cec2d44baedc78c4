"""Each test begins with an empty book of restarts."""

from __future__ import annotations

import pytest
from switchgear_sdk_restart import plugin


@pytest.fixture(autouse=True)
def book(monkeypatch: pytest.MonkeyPatch) -> plugin.Book:
    """The restarts of this test's process."""
    fresh = plugin.Book()
    monkeypatch.setattr(plugin, "BOOK", fresh)
    return fresh
