"""The plot of a storm as SVG, written by hand: CONNECTs a second over time, one strip for each policy. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.simulate import Run

WIDTH: Final = 860
LEFT: Final = 170
RIGHT: Final = 840
HEAD: Final = 62
STRIP: Final = 64
PAD: Final = 14
COLUMNS: Final = 335
"""Bars of a strip, at most: two pixels each."""

FONT: Final = 'font-family="system-ui, sans-serif" font-size="13"'
KEPT, EXCEEDED, BUDGET = "#00897b", "#d84315", "#37474f"


def plot(runs: Sequence[Run]) -> str:
    """An SVG of *runs*, all of one storm: each bar is the busiest second of its part of the time, on a logarithmic scale.

    Bars within the budget and above it differ in colour; the dashed line is the budget in a second.
    """
    storm = runs[0].storm
    rate = storm.connects_per_second
    seconds = max(
        1, min(math.ceil(4 * max(storm.clients / rate, 15.0)), 1 + max(max(r.per_second, default=0) for r in runs))
    )
    highest = 10.0 ** math.ceil(math.log10(max(10, *(r.peak_per_second for r in runs))))
    per_column = max(1, math.ceil(seconds / COLUMNS))
    height = HEAD + len(runs) * STRIP + 40
    title = (
        f"{_count(storm.clients)} clients lose a broker for {storm.outage:g} s that takes {rate:g} CONNECTs a second"
    )
    said = "; ".join(f"{r.policy}: at most {r.peak_per_second} a second" for r in runs)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d" {FONT}>',
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">CONNECTs a second after its return. {escape(said)}.</desc>',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
        f'<text x="20" y="26" font-size="16" font-weight="600" fill="#212121">{escape(title)}</text>',
        '<text x="20" y="46" fill="#616161">CONNECTs a second, logarithmic; dashed: the budget; right: the peak</text>',
    ]
    for number, run in enumerate(runs):
        out += _strip(run, HEAD + number * STRIP, seconds, per_column, highest)
    out += _axis(HEAD + len(runs) * STRIP, seconds)
    return "\n".join([*out, "</svg>", ""])


def _strip(run: Run, top: int, seconds: int, per_column: int, highest: float) -> list[str]:
    bottom, room = top + STRIP - 4, STRIP - PAD
    budget = run.storm.fleet.budget / run.storm.fleet.window

    def y(count: float) -> float:
        return bottom - room * math.log10(max(1.0, count) * 1.5) / math.log10(highest * 1.5)

    columns: dict[int, int] = {}
    for second, count in run.per_second.items():
        if second < seconds:
            column = second // per_column
            columns[column] = max(columns.get(column, 0), count)
    step = (RIGHT - LEFT) * per_column / seconds
    bars: dict[str, list[str]] = {KEPT: [], EXCEEDED: []}
    for column, count in sorted(columns.items()):
        x = LEFT + column * step
        width = max(1.0, min(step, RIGHT - x))
        bars[KEPT if count <= budget else EXCEEDED].append(f"M{x:.1f} {bottom}V{y(count):.1f}h{width:.1f}V{bottom}")
    back = "not back" if run.most_back is None else f"99 % in {duration(run.most_back)}"
    return [
        f'<text x="20" y="{top + 30}" font-weight="600" fill="#212121">{escape(run.policy)}</text>',
        f'<text x="20" y="{top + 47}" font-size="12" fill="#616161">{escape(back)}</text>',
        f'<path d="M{LEFT} {bottom}H{RIGHT}" stroke="#bdbdbd"/>',
        *(f'<path d="{"".join(shapes)}" fill="{colour}"/>' for colour, shapes in bars.items() if shapes),
        f'<path d="M{LEFT} {y(budget):.1f}H{RIGHT}" stroke="{BUDGET}" stroke-dasharray="4 3"/>',
        f'<text x="{RIGHT}" y="{top + 12}" text-anchor="end" fill="#212121">{_count(run.peak_per_second)}</text>',
    ]


def _axis(top: int, seconds: int) -> list[str]:
    step = 10.0 ** math.floor(math.log10(max(1, seconds)))
    while seconds / step < 4:
        step /= 2
    out = []
    mark = 0.0
    while mark <= seconds:
        x = LEFT + (RIGHT - LEFT) * mark / seconds
        out.append(
            f'<text x="{x:.1f}" y="{top + 16}" text-anchor="middle" font-size="12" fill="#616161">{mark:g}</text>'
        )
        mark += step
    middle = (LEFT + RIGHT) // 2
    out.append(f'<text x="{middle}" y="{top + 33}" text-anchor="middle" fill="#616161">seconds after the return</text>')
    return out


def duration(seconds: float) -> str:
    """*seconds* for people: three figures, in ms, s, min or h."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\u202f")
