"""``switchgear simulate``: what a fleet would do to its broker, for the user's own numbers, and what to set."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path  # noqa: TC003 - Typer needs it when it reads the annotations
from typing import TYPE_CHECKING, Annotated, Final, Self

import typer
from attrs import define, field

from switchgear.cli.app import OK
from switchgear.cli.output import as_json, write_line
from switchgear.cli.screen import print_table
from switchgear.simulate import Storm, contenders
from switchgear.simulate import simulate as run_one
from switchgear.storm_plot import duration, plot

if TYPE_CHECKING:
    from types import TracebackType

    from switchgear.simulate import Run

EPILOG = """
All clients lose one broker together; it is down for a while and then serves so many CONNECTs a second. Shown are our
two policies beside those of other clients: the most CONNECTs in a second, and in the window of the budget as a share of
it (above 1.00 it was exceeded), when half and 99 % of the clients were back, counted from the broker's return, and how
many CONNECTs that took.

A simulation on virtual time: it connects to nothing. The same --seed gives the same numbers.

Exit codes: 0 done, 1 the plot could not be written, 2 wrong usage, 130 interrupted.

Example: switchgear simulate --clients 10000 --connects-per-second 500 --outage 60 --svg storm.svg
"""

PATIENCE: Final = 1.0
"""Seconds before progress is shown."""


@define(eq=False)
class Progress:
    """A line on the terminal that is written anew, once it takes longer than `PATIENCE`; silent on a pipe."""

    rounds: int
    _done: int = 0
    _started: float = field(factory=time.monotonic)
    _shown_at: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._shown_at:
            _write("\r\x1b[K")

    def next(self) -> None:
        """One round is done."""
        self._done += 1

    def show(self, name: str, share: float) -> None:
        """*share* of the present round is done."""
        now = time.monotonic()
        if now - self._started > PATIENCE and now - self._shown_at > 0.2 and sys.stderr.isatty():
            self._shown_at = now
            percent = 100 * (self._done + share) / self.rounds
            _write(f"\r\x1b[Ksimulating {name}, {percent:.0f} %")


def _write(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def simulate(
    *,
    clients: Annotated[int, typer.Option("--clients", "-n", help="Clients that lose the broker together.")],
    connects_per_second: Annotated[
        float, typer.Option("--connects-per-second", "-r", help="CONNECTs that the broker serves in a second.")
    ],
    outage: Annotated[float, typer.Option("--outage", help="Seconds that the broker is down.")] = 60.0,
    notice: Annotated[
        float, typer.Option("--notice", help="Seconds over which the clients notice the loss.", metavar="SECONDS")
    ] = 0.0,
    queue: Annotated[
        int | None,
        typer.Option("--queue", help="CONNECTs that may wait at the broker; default: the budget.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Makes the random delays repeatable.", min=0)] = 1,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write a plot of the CONNECTs over time.", metavar="FILE")
    ] = None,
) -> None:
    """Simulate what a fleet does to its broker after an outage, and say which back-off to set."""
    storm = Storm(clients=clients, connects_per_second=connects_per_second, outage=outage, notice=notice, queue=queue)
    if svg is not None:
        _write_file(
            svg, "", mode="a"
        )  # one that cannot be written is an error before the work; what it holds stays until then
    runs: list[Run] = []
    policies = contenders(storm)
    with Progress(len(policies)) as progress:
        for contender in policies:
            runs.append(
                run_one(
                    contender,
                    storm,
                    seed=seed,
                    on_progress=lambda share, name=contender.name: progress.show(name, share),  # type: ignore[misc]  # bound now
                )
            )
            progress.next()
    if svg is not None:
        _write_file(svg, plot(runs))
    if json:
        write_line(as_json(facts(storm, runs)))
    else:
        show(storm, runs)
    raise typer.Exit(OK)


def _write_file(path: Path, text: str, *, mode: str = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from error


def setting(storm: Storm) -> str:
    """What to write, in Python."""
    return f"backoff=switchgear.fleet(clients={storm.clients}, connects_per_second={storm.connects_per_second:g})"


def facts(storm: Storm, runs: list[Run]) -> dict[str, object]:
    """The result for JSON; times are seconds after the broker's return, null where they were not reached."""
    return {
        "clients": storm.clients,
        "connects_per_second": storm.connects_per_second,
        "outage_s": storm.outage,
        "notice_s": storm.notice,
        "queue": storm.room,
        "budget": int(storm.fleet.budget),
        "window_s": storm.fleet.window,
        "set": setting(storm),
        "policies": [
            {
                "policy": run.policy,
                "peak_per_second": run.peak_per_second,
                "peak_in_window": run.peak_in_window,
                "of_budget": round(run.of_budget, 4),
                "keeps_budget": run.keeps_budget,
                "half_back_s": run.half_back,
                "most_back_s": run.most_back,
                "all_back_s": run.all_back,
                "connects": run.connects,
                "refused": run.refused,
                "attempts": run.attempts,
            }
            for run in runs
        ],
    }


def show(storm: Storm, runs: list[Run]) -> None:
    """The result for people."""
    policy = storm.fleet
    typer.echo(
        f"{storm.clients} clients, broker down for {storm.outage:g} s, then {storm.connects_per_second:g} CONNECTs a second;"
    )
    typer.echo(f"the budget is {int(policy.budget)} CONNECTs in any {policy.window:g} s.")
    typer.echo()
    print_table(
        ("policy", "peak/s", "of budget", "half back", "99 % back", "CONNECTs", "refused"),
        [
            (
                run.policy,
                str(run.peak_per_second),
                f"{run.of_budget:.2f}",
                _when(run.half_back),
                _when(run.most_back),
                str(run.connects),
                str(run.refused),
            )
            for run in runs
        ],
    )
    typer.echo()
    typer.echo("Set in every client:")
    typer.echo()
    typer.echo(f"    {setting(storm)}")
    typer.echo()
    typer.echo(f"or, for the commands, --fleet {storm.clients}@{storm.connects_per_second:g}.")
    fleet, stock = runs[0], runs[1]
    if stock.keeps_budget and _sooner(stock, fleet):
        typer.echo()
        typer.echo("The stock policy, exponential, kept the budget here too, and was back sooner; it does not know it.")


def _sooner(run: Run, other: Run) -> bool:
    return run.most_back is not None and (other.most_back is None or run.most_back < other.most_back)


def _when(seconds: float | None) -> str:
    return "not reached" if seconds is None else duration(seconds)
