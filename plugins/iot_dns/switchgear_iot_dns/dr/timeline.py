"""A run as a picture: its phases as bars, and how many clients were disconnected and had arrived. Pure: SVG as text."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING, Final

from switchgear_iot_dns.dr.disconnect import GONE
from switchgear_iot_dns.dr.state import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear_iot_dns.dr.state import Run

WIDTH: Final = 900
LEFT: Final = 210
ROW: Final = 26
CURVE: Final = 160
MARKS: Final = 200
"""Points of a curve at most; more would not be seen."""


def svg(run: Run) -> str:
    """The picture of *run*, 900 units wide."""
    begin = run.began_at
    end = max(
        [begin + 1.0, *run.finished.values(), *run.result_times.values(), *run.arrived.values(), run.ended_at or 0]
    )
    scale = (WIDTH - LEFT - 20) / (end - begin)
    rows = [phase for phase in Phase if phase in run.started]
    top = 30 + ROW * len(rows)
    has_curve = bool(run.results)
    height = top + (CURVE + 50 if has_curve else 30)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Timeline of run {html.escape(run.name)}" font-family="system-ui, sans-serif" font-size="13">'
    )
    parts = [head]

    def x(at: float) -> float:
        return round(LEFT + (at - begin) * scale, 1)

    for number, phase in enumerate(rows):
        y = 20 + ROW * number
        start, finish = run.started[phase], run.finished.get(phase)
        width = max(2.0, x(end if finish is None else finish) - x(start))
        kind = "open" if finish is None else "bar"
        seconds = "unfinished" if finish is None else f"{finish - start:.1f} s"
        parts.append(f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end" class="ink">{phase.value}</text>')
        parts.append(f'<rect x="{x(start)}" y="{y}" width="{width:.1f}" height="18" rx="3" class="{kind}"/>')
        anchor, at = ("end", x(start) - 5) if x(start) + width > WIDTH - 90 else ("start", x(start) + width + 5)
        if anchor == "end" and at < LEFT + 60:
            anchor, at = "start", x(start) + 5
        parts.append(f'<text x="{at:.1f}" y="{y + 14}" text-anchor="{anchor}" class="ink">{seconds}</text>')
    if has_curve:
        base = top + CURVE
        gone = sorted(at for who, at in run.result_times.items() if run.results.get(who) in GONE)
        arrived = sorted(run.arrived.values())
        most = max(len(gone), len(arrived), 1)
        for kind, times in (("gone", gone), ("arrived", arrived)):
            line = " ".join(f"{x(at)},{base - number * (CURVE - 20) / most:.1f}" for at, number in _steps(times, end))
            parts.append(f'<polyline points="{line}" fill="none" class="{kind}"/>')
        parts.append(
            f'<text x="{LEFT - 10}" y="{top + 24}" text-anchor="end" class="gone-ink">disconnected {len(gone)}</text>'
        )
        parts.append(
            f'<text x="{LEFT - 10}" y="{top + 44}" text-anchor="end" class="arrived-ink">arrived {len(arrived)}</text>'
        )
        top = base
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{top + 8}" y2="{top + 8}" class="axis"/>')
    parts.append(f'<text x="{LEFT}" y="{top + 24}" class="ink">{_clock(begin)}</text>')
    parts.append(f'<text x="{WIDTH - 20}" y="{top + 24}" text-anchor="end" class="ink">{_clock(end)}</text>')
    return "\n".join([*parts, "</svg>"])


def _steps(times: Sequence[float], end: float) -> list[tuple[float, int]]:
    """How many of *times* had come, at some of them and at the end."""
    step = max(1, len(times) // MARKS)
    points = [(times[0], 0)] if times else []
    points += [(at, number) for number, at in enumerate(times, 1) if number % step == 0 or number == len(times)]
    return [*points, (end, len(times))] if points else []


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(at))
