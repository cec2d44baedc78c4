from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from switchgear.simulate import Run, Storm, contenders, simulate
from switchgear.storm_plot import BUDGET, EXCEEDED, KEPT, duration, plot

SVG = "{http://www.w3.org/2000/svg}"


def runs(clients: int, outage: float, rate: float = 500.0) -> list[Run]:
    storm = Storm(clients=clients, connects_per_second=rate, outage=outage)
    return [simulate(contender, storm) for contender in contenders(storm)]


def paths(text: str, colour: str) -> list[ET.Element]:
    root = ET.fromstring(text)  # noqa: S314 - our own text
    return [path for path in root.iter(f"{SVG}path") if colour in (path.get("fill"), path.get("stroke"))]


def test_strips() -> None:
    """There is one strip and one dashed budget for each policy, and red only where the budget was exceeded."""
    found = runs(3000, 20.0)
    text = plot(found)
    assert len(paths(text, BUDGET)) == len(found)
    assert len(paths(text, EXCEEDED)) == sum(run.peak_per_second > 500 for run in found)
    assert paths(text, KEPT)
    assert plot(found) == text


def test_who_never_came() -> None:
    """A policy of which nobody came back in the simulated time has a strip that says so."""
    first = runs(1, 1.0)[0]
    never = Run(
        policy="a < b",
        storm=first.storm,
        peak_per_second=0,
        peak_in_window=0,
        half_back=None,
        most_back=None,
        all_back=None,
        connects=0,
        refused=0,
        attempts=9,
        per_second={},
    )
    text = plot([never])
    ET.fromstring(text)  # noqa: S314 - our own text
    assert "not back" in text
    assert "a &lt; b" in text


@pytest.mark.parametrize(("clients", "outage", "rate"), [(1, 0.0, 1e-3), (1, 1.0, 1e9), (20_000, 3.0, 100.0)])
def test_sizes(clients: int, outage: float, rate: float) -> None:
    """Whatever the numbers, the plot is small and every bar lies inside it."""
    text = plot(runs(clients, outage, rate))
    assert len(text.encode()) < 60_000
    assert "nan" not in text
    for colour in (KEPT, EXCEEDED):
        for path in paths(text, colour):
            for bar in path.get("d", "").split("M")[1:]:
                assert 170 <= float(bar.split()[0]) <= 840


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 ms"),
        (0.0424, "42 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (99.96, "100 s"),
        (599.0, "599 s"),
        (600.0, "10 min"),
        (5400.0, "1.5 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    """Times are told in the unit that fits them."""
    assert duration(seconds) == said
