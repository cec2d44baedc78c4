"""What several files of tests of the core need. Threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a function of the user's waits for; opened in the end."""
    gate = threading.Event()
    yield gate
    gate.set()
