"""The chaos ledger: publishers and a consumer in processes of their own, real brokers, and a seeded plan of faults.

Afterwards what was accepted is compared with what arrived at the brokers and with what was handled. The same seed makes
the same plan; ``--plan FILE`` replays one that was saved. Exit code 0: nothing lost, nothing unexplained; 1: something
is wrong, and the folder with all logs is kept; 2: it cannot run.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from switchgear.testing.processes import BrokerMissing
from switchgear_chaos.arena import Arena
from switchgear_chaos.disk import can_mount
from switchgear_chaos.plan import PLANS, Plan, make_plan, read_plan
from switchgear_chaos.report import as_markdown, as_text, facts, tables
from switchgear_chaos.stage import Outcome, Tell, run_stage

LINE_EVERY = 15.0
"""Seconds between two lines of progress in a pipe."""


def read_arguments() -> argparse.Namespace:
    """What stands on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="any whole number; left out: a random one, which is said")
    parser.add_argument("--plan", default="all", help=f"{', '.join(PLANS)}, or a file that --save wrote")
    parser.add_argument("--save", type=Path, help="write the plan to this file")
    parser.add_argument("--dry-run", action="store_true", help="plan, and do nothing")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON in place of tables")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, for the documentation")
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
    """All stages, one after the other."""
    outcomes = []
    with progress() as tell:
        for number, stage in enumerate(plan.stages):
            outcomes.append(asyncio.run(run_stage(stage, folder / f"{number}-{stage.name}", disks=disks, tell=tell)))
    return outcomes


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
    except BrokerMissing as missing:
        print(f"chaos: {missing}", file=sys.stderr)
        return 2
    problems = [f"{outcome.stage.name}: {problem}" for outcome in outcomes for problem in outcome.problems]
    found = facts(plan, outcomes, problems)
    (folder / "outcome.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for table in tables(plan, outcomes):
            print(as_text(table))
        for outcome in outcomes:
            for example in outcome.verdict.examples:
                print(f"{outcome.stage.name}: {example}")
        print(f"{found['faults']} faults, {found['stored_qos_1']} messages of QoS 1 stored, seed {plan.seed}")
    if options.markdown is not None:
        options.markdown.write_text("\n".join(map(as_markdown, tables(plan, outcomes))), encoding="utf-8")
    for problem in problems:
        print(f"WRONG {problem}", file=sys.stderr)
    if problems:
        print(f"chaos: all logs are in {folder}; replay with --plan {saved}", file=sys.stderr)
    elif options.keep is None:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
