"""All benchmarks, one after the other, and their tables; what is missing on this machine is left out and said.

The Python peers come from tests/bench/requirements.txt, MQTT.js from ``npm install --no-save mqtt`` in this folder,
the brokers and ActiveMQ's own client from the Debian packages that `make brokers` installs.
"""

import argparse
import datetime as dt
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from switchgear.testing.processes import BrokerMissing

BENCHES = (
    "storm",
    "throughput",
    "receive",
    "outbox",
    "connections",
    "time_back",
    "time_back_activemq",
    "region_switch",
    "dr",
)
TITLES = {
    "storm": "Storm",
    "throughput": "Throughput",
    "receive": "Receiving",
    "outbox": "The durable outbox",
    "connections": "Connections",
    "time_back": "Time back",
    "time_back_activemq": "Time back on an ActiveMQ pair",
    "region_switch": "Time to another region",
    "dr": "Disconnecting a fleet",
}

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "measurements.md"
IMAGE = ROOT / "docs" / "images" / "storm.svg"

Table = tuple[str, list[str], list[list[str]]]


def load(name: str) -> ModuleType:
    """The benchmark *name*, from the file beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_text(table: Table) -> str:
    """A table for a terminal."""
    title, head, rows = table
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return "\n".join([title, *lines, ""])


def as_markdown(table: Table) -> str:
    """A table for the documentation."""
    title, head, rows = table
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"{title}:", "", *lines, ""])


def page(found: dict[str, list[Table]], intros: dict[str, str], missed: list[str], notes: list[str]) -> str:
    """The page of the documentation. *intros* says of each bench what it is, when it ran and on which commit."""
    parts = [
        "# Measurements",
        "",
        f"Taken with `make bench` on {describe_machine()}, shared with other work. Each section is a run of its own and",
        "says when and on which commit it was taken; its subjects ran in that run together. Figures of different runs cannot",
        "be compared; ratios within one can, and they too differ from run to run.",
        "",
        "`make bench` takes about an hour; `.venv/bin/python tests/bench/run.py --only NAME` runs one of",
        f"{', '.join(f'`{name}`' for name in BENCHES)}; `--quick` is quicker and rougher, `--markdown` writes this page.",
        "Everything is on the loopback interface. None of it is a test: what misses its bound is said here.",
        "",
        f"Missed in the runs shown: {'; '.join(missed) if missed else 'nothing'}.",
        "",
        *(line for note in notes for line in (note, "")),
    ]
    for name, tables in found.items():
        parts += [f"## {TITLES[name]}", "", intros[name].strip(), ""]
        if name == "storm":
            parts += [
                "![CONNECTs a second after the return of the broker, one strip for each policy](../images/storm.svg)",
                "",
            ]
        parts += [as_markdown(table) for table in tables]
    return "\n".join(parts)


def provenance() -> str:
    """When it is and what is measured, for a bench that begins now."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, commit {git.stdout.strip() or 'unknown'}"


def describe_machine() -> str:
    """The machine and the versions, in a few words."""
    cores = os.cpu_count()
    return f"{cores} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def main() -> int:
    """Run them and print; 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=BENCHES, help="run this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer clients, shorter outages")
    parser.add_argument("--json", action="store_true", help="print every row as JSON instead of tables")
    parser.add_argument("--markdown", action="store_true", help=f"write {PAGE.relative_to(ROOT)} and its plot")
    parser.add_argument("--note", action="append", help="a paragraph for that page, such as what earlier runs missed")
    parser.add_argument("--rows", type=Path, help="read rows of earlier runs from this file, and keep new ones in it")
    options = parser.parse_args()
    kept: dict[str, dict[str, Any]] = {}
    if options.rows is not None and options.rows.exists():
        kept = json.loads(options.rows.read_text(encoding="utf-8"))
    wanted = options.only or [name for name in BENCHES if name not in kept]
    found: dict[str, list[Table]] = {}
    intros: dict[str, str] = {}
    missed: list[str] = []
    for name in BENCHES:
        bench = load(name)
        if name in wanted:
            taken = provenance()
            try:
                kept[name] = {"taken": taken, "rows": bench.measure(quick=options.quick)}
            except BrokerMissing as missing:
                print(f"{name}: left out: {missing}", file=sys.stderr)
                continue
            if options.rows is not None:
                options.rows.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        elif name not in kept:
            continue
        rows = kept[name]["rows"]
        found[name] = bench.tables(rows)
        intros[name] = f"{(bench.__doc__ or '').strip()}\n\nTaken {kept[name]['taken']}."
        missed += [
            f"{name}: {bench.what(row)}" if hasattr(bench, "what") else name for row in rows if not row["is_met"]
        ]
        if not options.json and name in wanted:
            for table in found[name]:
                print(as_text(table), flush=True)
    if options.json:
        print(json.dumps({name: kept[name] for name in found}, indent=2))
    if options.markdown:
        PAGE.write_text(page(found, intros, missed, options.note or []), encoding="utf-8")
        load("storm").draw(IMAGE)
    for miss in missed:
        print(f"MISSED {miss}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
