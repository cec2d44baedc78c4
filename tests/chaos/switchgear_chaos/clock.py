"""A wall clock that can be set wrong, for the process under test: imported before switchgear. Touches `time` and one variable.

``SWITCHGEAR_CHAOS_CLOCK`` holds seconds by which the clock is wrong from the start: a process that is killed keeps its
machine's clock. Monotonic time cannot jump, and does not.
"""

from __future__ import annotations

import os
import time

from switchgear_chaos.journal import CLOCK

_time, _time_ns = time.time, time.time_ns
_wrong = [float(os.environ.get(CLOCK, "0"))]


def _wrong_time() -> float:
    return _time() + _wrong[0]


def _wrong_time_ns() -> int:
    return _time_ns() + int(_wrong[0] * 1e9)


time.time, time.time_ns = _wrong_time, _wrong_time_ns


def jump(seconds: float) -> None:
    """Set the clock *seconds* further, or back when they are negative."""
    _wrong[0] += seconds
