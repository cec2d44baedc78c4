"""All benchmarks, one after the other, in one table; what is missing on this machine is left out and said."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from switchgear.testing.processes import BrokerMissing

BENCHES = ("throughput", "time_back")


def load(name: str) -> ModuleType:
    """The benchmark *name*, from the file beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Run them and print; 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in BENCHES:
        bench = load(name)
        try:
            rows[name] = bench.measure()
        except BrokerMissing as missing:
            print(f"{name}: left out: {missing}", file=sys.stderr)
            continue
        if not options.json:
            print(bench.table(rows[name]), end="\n\n", flush=True)
    if options.json:
        print(json.dumps(rows, indent=2))
    return 0 if all(row["is_met"] for found in rows.values() for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
