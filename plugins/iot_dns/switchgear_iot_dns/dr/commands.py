"""The commands ``switchgear dr``: plan, apply, rollback, status, practice, watch."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from switchgear.cli.app import complain, paragraphs, silence_stdout
from switchgear.cli.interrupts import Interrupts
from switchgear.cli.output import as_json, write_line
from switchgear.cli.screen import print_table, say

from switchgear_iot_dns.dr.errors import (
    EXIT_CODES,
    INCOMPLETE,
    INTERRUPTED,
    REFUSED,
    USAGE,
    InvalidPlanFile,
    RegionSwitchError,
)
from switchgear_iot_dns.dr.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from switchgear_iot_dns.dr.operations import Ended, Operations
    from switchgear_iot_dns.dr.plan import Plan

EPILOG: Final = f"""
The order is always the same: change the records, wait until Route 53 and every name server have them, give resolvers
time, disconnect the canaries, then everybody, see them arrive. Nobody is disconnected when the DNS phase failed.

Exit codes: {", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())}.
"""

app = typer.Typer(help="Switch AWS IoT domains from one region to another.", no_args_is_help=True)

PlanFile = Annotated[Path, typer.Option("--file", "-f", help="The plan file.", metavar="TOML")]
AwsProfile = Annotated[
    str | None, typer.Option("--profile", help="Profile of AWS's configuration.", metavar="NAME", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for a program to read.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Despite = Annotated[bool, typer.Option("--despite-checks", help="Go on although a check of the target failed.")]
Unlock = Annotated[
    bool, typer.Option("--force-unlock", help="Take the lock from another operator, whose run is surely dead.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Leave an unfinished run as it is, and begin anew.")]

DEFAULT_FILE: Final = Path("dr.toml")

RESUMED: Final = frozenset({"apply", "rollback"})
"""The commands that go on with what they began; the others only read."""


@app.callback(epilog=paragraphs(EPILOG))
def main() -> None:
    """Switch AWS IoT domains from one region to another."""


def _ending(command: Callable[..., int]) -> Callable[..., None]:
    """*command*, with our errors as one line each and the exit codes of the epilog."""
    is_resumed = command.__name__ in RESUMED
    more = "; the same command goes on where this one stopped" if is_resumed else ""

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> None:
        try:
            with Interrupts():
                code = command(*args, **given)
        except RegionSwitchError as error:
            complain(error)
            raise typer.Exit(error.exit_code) from None
        except OSError as error:  # the disk of the journal is full, or gone; or nobody reads what is said
            silence_stdout()
            if isinstance(error, BrokenPipeError) and not is_resumed:
                raise typer.Exit from None
            where = f"{error.filename}: " if error.filename else ""
            complain(f"{where}{error.strerror or error}{more}")
            raise typer.Exit(INTERRUPTED if is_resumed else REFUSED) from None
        except KeyboardInterrupt:
            complain(f"interrupted{more}")
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(code)

    return run


@app.command()
@_ending
def plan(
    mode: Annotated[str, typer.Argument(help="A mode of the plan file.", metavar="MODE")],
    *,
    file: PlanFile = DEFAULT_FILE,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the plan.", metavar="FILE")] = None,
    profile: AwsProfile = None,
    json: Json = False,
) -> int:
    """Show what a mode would change; read only. Exit code 1: a check failed."""
    from switchgear_iot_dns.dr import saved_plan

    if out is not None:
        saved_plan.check_place(out)
    with _operations(file, profile) as operations:
        made = operations.plan(mode)
        if out is not None:
            saved_plan.save(out, made)
        _tell_plan(made, operations, as_json_line=json)
    return REFUSED if made.failed() else 0


@app.command()
@_ending
def apply(
    mode: Annotated[
        str | None, typer.Argument(help="A mode of the plan file.", metavar="MODE", show_default=False)
    ] = None,
    *,
    file: PlanFile = DEFAULT_FILE,
    saved: Annotated[
        Path | None, typer.Option("--plan", help="Apply this saved plan, unless it is stale.", metavar="FILE")
    ] = None,
    profile: AwsProfile = None,
    yes: Yes = False,
    despite_checks: Despite = False,
    force_unlock: Unlock = False,
    fresh: Fresh = False,
    json: Json = False,
) -> int:
    """Bring a mode about: records, then clients. An interrupted run goes on where it stopped."""
    from switchgear_iot_dns.dr import saved_plan
    from switchgear_iot_dns.dr.operations import Wishes

    made = None if saved is None else saved_plan.load(saved)
    if made is not None and mode not in {None, made.mode}:
        raise InvalidPlanFile(str(saved), "mode", f"it is a plan of mode {made.mode}, not of {mode}")
    chosen = mode if made is None else made.mode
    if chosen is None:
        raise InvalidPlanFile(str(file), "", "name a MODE, or a saved plan with --plan FILE")
    wishes = Wishes(despite_checks=despite_checks, force_unlock=force_unlock, fresh=fresh)
    with _operations(file, profile, yes=yes, json=json) as operations:
        ended = operations.apply(chosen, wishes, saved=made)
    return _tell_end(ended, as_json_line=json)


@app.command()
@_ending
def rollback(
    *,
    file: PlanFile = DEFAULT_FILE,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="Undo this run, be it a rollback; default: the last.", metavar="RUN", show_default=False
        ),
    ] = None,
    profile: AwsProfile = None,
    yes: Yes = False,
    despite_checks: Despite = False,
    force_unlock: Unlock = False,
    json: Json = False,
) -> int:
    """Undo the last run: records and clients go back, by the same phases. Asked for again, it does nothing."""
    from switchgear_iot_dns.dr.operations import Wishes

    wishes = Wishes(despite_checks=despite_checks, force_unlock=force_unlock)
    with _operations(file, profile, yes=yes, json=json) as operations:
        ended = operations.rollback(wishes, name=run)
    return _tell_end(ended, as_json_line=json)


@app.command()
@_ending
def status(*, file: PlanFile = DEFAULT_FILE, profile: AwsProfile = None, json: Json = False) -> int:
    """Show where the domains lead, who holds the lock, and how far the last run came. Exit code 2: its journal is damaged."""
    from switchgear_iot_dns.dr.operations import DAMAGED

    with _operations(file, profile) as operations:
        told = operations.status()
    last = told["last_run"]
    is_damaged = last is not None and last["outcome"] == DAMAGED
    if json:
        write_line(as_json(told))
    else:
        rows = told["domains"].items()
        print_table(
            ("domain", "region", "records"),
            [(name, each["region"] or "?", "; ".join(each["records"]) or "none") for name, each in rows],
        )
        say(f"mode: {', '.join(told['modes']) or 'none of the plan file'}")
        say(f"lock: {told['lock'] or 'free'}")
        if last is None:
            say("last run: none")
        elif is_damaged:
            say(f"last run: {last['run']}; how far it came is not known, its journal is damaged")
        else:
            say(f"last run: {last['run']}, mode {last['mode']}: {last['summary']}")
    if is_damaged:
        complain(last["summary"])
    return USAGE if is_damaged else 0


@app.command()
@_ending
def practice(
    mode: Annotated[str, typer.Argument(help="A mode of the plan file.", metavar="MODE")],
    *,
    file: PlanFile = DEFAULT_FILE,
    profile: AwsProfile = None,
    json: Json = False,
) -> int:
    """Do everything that applying a mode does, but write. Exit code 1: a check failed."""
    with _operations(file, profile) as operations:
        made, steps = operations.practice(mode)
        if json:
            write_line(as_json({**made.as_dict(), "steps": steps}))
        else:
            _tell_plan(made, operations, as_json_line=False)
            for step in steps:
                say(f"would {step}" if not step.startswith("lock") else step)
    return REFUSED if made.failed() else 0


app.command()(watch)


@contextlib.contextmanager
def _operations(file: Path, profile: str | None, *, yes: bool = False, json: bool = False) -> Iterator[Operations]:
    """Everything that works on one plan file, on the real AWS and the real clock."""
    from switchgear_iot_dns.dr.aws import Aws
    from switchgear_iot_dns.dr.clock import RealClock
    from switchgear_iot_dns.dr.name_servers import DnsNameServers
    from switchgear_iot_dns.dr.operations import Operations
    from switchgear_iot_dns.dr.plan_file import load
    from switchgear_iot_dns.dr.route53 import Route53Records
    from switchgear_iot_dns.dr.show import Bars, Quiet
    from switchgear_iot_dns.dr.world import World

    settings = load(file)
    zone = settings.zone.id.removeprefix("/hostedzone/")
    aws = Aws(zone=zone, profile=profile, request=settings.waits.request, workers=settings.pace.workers)
    clock = RealClock()
    world = World(settings, aws=aws, records=Route53Records(aws, zone), name_servers=DnsNameServers, clock=clock)
    show = Bars() if sys.stderr.isatty() else Quiet()
    with show:
        confirm = functools.partial(_confirm, settings_path=settings.path, yes=yes, json=json, show=show)
        operations = Operations(settings, world, clock, show, confirm)
        yield operations


def _confirm(made: Plan, takes: str, *, settings_path: str, yes: bool, json: bool, show: Any) -> bool:
    if not json:
        with show.paused():
            _print_plan(made, takes)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidPlanFile(settings_path, "", "nobody can be asked here; give --yes")
    with show.paused():
        return typer.confirm("Switch?", err=True)


def _tell_plan(made: Plan, operations: Operations, *, as_json_line: bool) -> None:
    from switchgear_iot_dns.dr.plan import estimate, takes

    if as_json_line:
        write_line(as_json({**made.as_dict(), "estimate_s": estimate(made, operations.settings)}))
    else:
        _print_plan(made, takes(made, operations.settings))


def _print_plan(made: Plan, takes: str) -> None:
    say(f"zone {made.zone_name} ({made.zone}), mode {made.mode}")
    say()
    print_table(
        ("domain", "from", "to", "record now", "record wanted", "clients"),
        [
            (
                move.domain,
                move.source or "-",
                move.target,
                str(move.before) if move.before else "none",
                str(move.after) if move.changes else "the same",
                str(len(move.clients)) if move.leads else "-",
            )
            for move in made.moves
        ],
    )
    if made.checks:
        say()
        print_table(
            ("check", "of", "", "what it found"),
            [(each.what, each.where, each.state, each.text) for each in made.checks],
        )
    say()
    say(f"it takes {takes}" if made.changing else "nothing to do")


def _tell_end(ended: Ended, *, as_json_line: bool) -> int:
    """Say how it ended, where somebody reads it; what is done is done, and its exit code the same."""
    try:
        _write_end(ended, as_json_line=as_json_line)
    except OSError as error:
        silence_stdout()
        complain(f"{ended.text}; standard output: {error.strerror or error}")
    return ended.code


def _write_end(ended: Ended, *, as_json_line: bool) -> None:
    from switchgear_iot_dns.dr import report

    if as_json_line:
        facts = (
            report.facts(ended.run) if ended.run is not None else {"outcome": "nothing to do", "summary": ended.text}
        )
        page = None if ended.report is None else str(ended.report)
        write_line(as_json({**facts, "exit_code": ended.code, "report": page}))
    elif ended.code == INCOMPLETE:
        complain(ended.text)
    else:
        say(ended.text)
    if ended.report is not None and not as_json_line:
        say(f"report: {ended.report}")
