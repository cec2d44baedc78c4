"""The storm: 1 to 1 000 000 clients lose one broker for 1, 60 or 600 s, on virtual time; our policies beside the peers'.

The broker takes 500 CONNECTs a second, the stock limit of an AWS IoT account. A policy without jitter depends on where
the broker's return falls in its period, so few clients are simulated with several lengths of the outage, evenly spread
over 10 % around the nominal one: shown are the worst peak and the median of the times. All clients notice the loss at
the same moment; ``switchgear simulate --notice SECONDS`` spreads it, which helps policies without jitter whose period is
longer than that. A CONNECT that finds more than the budget waiting at the broker is refused at once, and its client
waits as its policy says.

Our default, ``exponential``, knows nothing of the broker: its first delays are shorter than the peers', so a large fleet
that follows it after a short outage sends more CONNECTs than one without any jitter. Large fleets need ``fleet``.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

from switchgear.simulate import Run, Storm, contenders, simulate
from switchgear.storm_plot import duration, plot

RATE = 500.0
OUTAGES = (1.0, 60.0, 600.0)
RUNS = {1: 21, 100: 11, 10_000: 3, 1_000_000: 1}
"""Clients, and how many lengths of the outage."""

PLOTTED = Storm(clients=10_000, connects_per_second=RATE, outage=60.0)


def outages(nominal: float, count: int) -> list[float]:
    """*count* seconds, evenly spread over 10 % around *nominal*; the nominal one alone when *count* is 1."""
    return [nominal * (0.95 + 0.1 * (number + 0.5) / count) for number in range(count)]


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """One row for each number of clients, outage and policy."""
    rows = []
    for clients, count in RUNS.items():
        if quick and clients > 100_000:
            continue
        for nominal in OUTAGES:
            found: dict[str, list[Run]] = {}
            for seed, outage in enumerate(outages(nominal, 3 if quick else count)):
                storm = Storm(clients=clients, connects_per_second=RATE, outage=outage)
                for contender in contenders(storm):
                    found.setdefault(contender.name, []).append(simulate(contender, storm, seed=seed))
            for name, runs in found.items():
                rows.append(
                    {
                        "policy": name,
                        "clients": clients,
                        "outage": nominal,
                        "peak": max(run.peak_per_second for run in runs),
                        "of_budget": max(run.of_budget for run in runs),
                        "half_back": middle([run.half_back for run in runs]),
                        "most_back": middle([run.most_back for run in runs]),
                        "connects": max(run.connects for run in runs),
                        "is_met": name != "fleet" or all(run.keeps_budget for run in runs),
                    }
                )
            print(f"storm: {clients} clients, {nominal:g} s", file=sys.stderr, flush=True)
    return rows


def middle(times: list[float | None]) -> float | None:
    """The median; None when one was never reached."""
    known = [time for time in times if time is not None]
    return statistics.median(known) if len(known) == len(times) else None


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Two tables, a column for each policy: peaks, and times."""
    names = list(dict.fromkeys(row["policy"] for row in rows))
    by_key = {(row["clients"], row["outage"], row["policy"]): row for row in rows}
    keys = list(dict.fromkeys((row["clients"], row["outage"]) for row in rows))

    def lines(cell: Any) -> list[list[str]]:
        return [
            [f"{clients:,}".replace(",", " "), f"{outage:g}", *(cell(by_key[clients, outage, name]) for name in names)]
            for clients, outage in keys
        ]

    head = ["clients", "down, s", *names]
    return [
        (
            "Most CONNECTs in one second, at a broker that takes 500 (with fleet at most 500 are needed)",
            head,
            lines(lambda row: f"{row['peak']:,}".replace(",", " ")),
        ),
        (
            "Time after the broker's return until half / 99 % of the clients are back",
            head,
            lines(lambda row: f"{when(row['half_back'])} / {when(row['most_back'])}"),
        ),
    ]


def when(seconds: float | None) -> str:
    """For people."""
    return "never" if seconds is None else duration(seconds)


def draw(path: Path) -> None:
    """Write the plot of `PLOTTED`."""
    path.write_text(plot([simulate(contender, PLOTTED) for contender in contenders(PLOTTED)]), encoding="utf-8")
