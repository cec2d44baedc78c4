"""The chaos ledger: publishers and a consumer in processes of their own, real brokers, and a seeded plan of faults.

Afterwards what was accepted is compared with what arrived at the brokers and with what was handled. The same seed makes
the same plan; ``--plan FILE`` replays one that was saved. Exit code 0: nothing lost, nothing unexplained; 1: something
is wrong, and the folder with all logs is kept; 2: it cannot run; 130: it was interrupted.
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from switchgear.testing.processes import BrokerMissing, find_activemq, find_mosquitto
from switchgear_chaos.arena import Arena
from switchgear_chaos.disk import can_mount
from switchgear_chaos.plan import PLANS, Plan, make_plan, read_plan
from switchgear_chaos.report import as_markdown, as_text, facts, tables, wrong
from switchgear_chaos.stage import Outcome, Tell, run_stage

LINE_EVERY = 15.0
"""Seconds between two lines of progress in a pipe."""


ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "chaos.md"
LAST_RUN = "## The last run\n"


def read_arguments() -> argparse.Namespace:
    """What stands on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="any whole number; left out: a random one, which is said")
    parser.add_argument("--plan", default="all", help=f"{', '.join(PLANS)}, or a file that --save wrote")
    parser.add_argument("--save", type=Path, help="write the plan to this file")
    parser.add_argument("--dry-run", action="store_true", help="plan, and do nothing")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON in place of tables")
    parser.add_argument("--markdown", action="store_true", help=f"write the tables into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--keep", type=Path, help="keep all logs in this new folder")
    return parser.parse_args()


def chosen_plan(options: argparse.Namespace) -> Plan:
    """The plan that the command line asks for. Raises `ValueError` and `OSError`."""
    if options.plan in PLANS:
        seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
        return make_plan(seed, options.plan)
    return read_plan(Path(options.plan).read_text(encoding="utf-8"))


@contextmanager
def progress() -> Iterator[Tell]:
    """What shows how far it is: one moving line on a terminal, a line now and then in a pipe; on stderr."""
    console = Console(stderr=True)
    began = time.monotonic()

    def words(arena: Arena, what: str) -> str:
        stored = sum(sum(arena.stored(name)) for name in arena.workers if name != "consumer")
        handled = sum(map(sum, arena.handled().values()))
        seconds = time.monotonic() - began
        return f"{seconds:5.0f} s  {arena.stage.name}: {what}, {stored} stored, {handled} handled"

    if console.is_terminal:
        with console.status("starting") as status:
            yield lambda arena, what: status.update(words(arena, what))
        return
    last = [0.0]

    def line(arena: Arena, what: str) -> None:
        if time.monotonic() - last[0] >= LINE_EVERY:
            last[0] = time.monotonic()
            print(words(arena, what), file=sys.stderr, flush=True)

    yield line


def run(plan: Plan, folder: Path, *, disks: bool) -> list[Outcome]:
    """All stages, one after the other.

    Raises:
        BrokerMissing: a stage has no broker on this machine.
    """
    for find in {find_activemq if stage.name == "activemq" else find_mosquitto for stage in plan.stages}:
        find()
    outcomes = []
    with progress() as tell:
        for number, stage in enumerate(plan.stages):
            outcomes.append(asyncio.run(run_stage(stage, folder / f"{number}-{stage.name}", disks=disks, tell=tell)))
    return outcomes


def last_run(plan: Plan, outcomes: list[Outcome], problems: list[str]) -> str:
    """The end of the documentation's page: when, what and which figures."""
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    found = facts(plan, outcomes, problems)
    seconds = sum(outcome.seconds for outcome in outcomes)
    lines = [
        (
            f"Taken {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC on commit {commit or 'unknown'}, seed {plan.seed}:"
            f" {found['faults']} faults that were felt ({found['unfelt']} more were not) and {found['stored_qos_1']} stored messages of QoS 1 in {seconds / 60:.0f} minutes,"
            f" on {os.cpu_count()} cores shared with other work."
        ),
        f"Wrong: {'; '.join(problems) if problems else 'nothing'}.",
        "",
        *map(as_markdown, tables(outcomes)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Plan, run, report; the exit code."""
    options = read_arguments()
    disks = can_mount()
    try:
        plan = chosen_plan(options)
        folder = Path(tempfile.mkdtemp(prefix="chaos-")) if options.keep is None else options.keep
        folder.mkdir(exist_ok=options.keep is None, parents=True)
        saved = options.save or folder / "plan.json"
        saved.write_text(plan.as_json(), encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    print(f"chaos: plan {plan.name}, seed {plan.seed}, {plan.faults} faults, in {folder}", file=sys.stderr, flush=True)
    if not disks:
        print("chaos: no disk is filled: this process may not mount one (Linux, root)", file=sys.stderr)
    if options.dry_run:
        print(plan.as_json())
        return 0
    try:
        outcomes = run(plan, folder, disks=disks)
    except KeyboardInterrupt:
        print(f"chaos: interrupted; what there is lies in {folder}", file=sys.stderr)
        return 130
    except BrokerMissing as missing:
        print(f"chaos: {missing}", file=sys.stderr)
        return 2
    problems = wrong(plan, outcomes)
    found = facts(plan, outcomes, problems)
    (folder / "outcome.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for table in tables(outcomes):
            print(as_text(table))
        for outcome in outcomes:
            for example in outcome.verdict.examples:
                print(f"{outcome.stage.name}: {example}")
        print(
            f"{found['faults']} faults were felt and {found['unfelt']} were not,"
            f" {found['stored_qos_1']} messages of QoS 1 stored, seed {plan.seed}"
        )
    if options.markdown:
        text = PAGE.read_text(encoding="utf-8").partition(LAST_RUN)[0]
        PAGE.write_text(f"{text}{LAST_RUN}\n{last_run(plan, outcomes, problems)}", encoding="utf-8")
    for problem in problems:
        print(f"WRONG {problem}", file=sys.stderr)
    if problems:
        print(f"chaos: all logs are in {folder}; replay with --plan {saved}", file=sys.stderr)
    elif options.keep is None:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
