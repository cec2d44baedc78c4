"""Prints docs/reference/states.md with its diagram and tables made from the code. `--write` writes it.

    .venv/bin/python docs/generate_states.py --write

What stands between the marker lines is generated; the rest is written by hand. A test compares.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from switchgear import machine
from switchgear.states import TRANSITIONS, State

PAGE = Path(__file__).parent / "reference" / "states.md"

MEANING = {
    State.STOPPED: "Nothing runs: not started, or closed.",
    State.DECIDING: "A connection was lost, a sweep failed, or a plugin wants to be asked again; plugins are asked `before_reconnect`.",
    State.WAITING: "A timer runs: until the next sweep, the next endpoint of this sweep, or the next question.",
    State.SELECTING: "Plugins are asked `select_endpoint`.",
    State.CONNECTING: "One attempt, or two of which one only dials, up to CONNACK.",
    State.RESTORING: "CONNACK came; the subscriptions are being brought back.",
    State.CONNECTED: "The connection is usable, and the outbox flows.",
    State.GAVE_UP: "A limit was reached, a plugin said so, or every endpoint is refused for good; waiting calls have ended.",
}


def diagram() -> str:
    """The Mermaid diagram: one arrow for each pair of states, with the events that may lead there."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, row in TRANSITIONS.items():
        for event, targets in row.items():
            for target in targets - {state}:
                arrows.setdefault((state.name, target.name), []).append(event.__name__)
    order = [state.name for state in State]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> STOPPED"]
    for was, now in sorted(arrows, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        lines.append(f"    {was} --> {now}: {', '.join(sorted(arrows[was, now]))}")
    return "\n".join([*lines, "```"])


def states() -> str:
    """The table of states, with the events that each takes."""
    lines = ["| state | meaning | takes |", "|---|---|---|"]
    for state in State:
        taken = ", ".join(f"`{event.__name__}`" for event in sorted(TRANSITIONS[state], key=lambda e: e.__name__))
        lines.append(f"| `{state.name}` | {MEANING[state]} | {taken} |")
    return "\n".join(lines)


def fields() -> str:
    """The table of the machine's fields: what their docstrings say, with the states in which they are set."""
    source = inspect.getsource(machine.Machine)
    found = re.findall(r'^    (\w+): [^\n]+\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
    lines = ["| field | meaning, and where it is set |", "|---|---|"]
    lines += [f"| `{name}` | {' '.join(text.split())} |" for name, text in found]
    return "\n".join(lines)


def page(text: str) -> str:
    """*text* with what stands between the markers made anew."""
    for make in (states, diagram, fields):
        begin, end = f"<!-- {make.__name__}: generated -->", f"<!-- {make.__name__}: end -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{make()}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    new = page(PAGE.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        PAGE.write_text(new, encoding="utf-8")
    else:
        sys.stdout.write(new)
