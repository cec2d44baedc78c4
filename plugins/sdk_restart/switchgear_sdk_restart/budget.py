"""How many restarts there were, and what the next one may be. Pure: no I/O; times are given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from attrs import define, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear_sdk_restart.options import Options

LONGEST_WHY: Final = 200
"""Characters of a reason that are carried along: an environment is bounded, 128 KiB a variable on Linux."""


@frozen
class Restarted:
    """One restart that was decided on. Since: 0.1.

    Attributes:
        at: Wall-clock time, in seconds.
        way: ``"rebuild"``, ``"reexec"`` or ``"exit"``.
        why: In words.
        client_id: Of the transport whose SDK was wedged.
    """

    at: float
    way: str
    why: str
    client_id: str


@frozen
class Decision:
    """What to do now: a way, or None for nothing; and why."""

    way: str | None
    why: str


@define
class Streak:
    """What one transport went through since its SDK last worked.

    Attributes:
        rebuilds: New drivers in a row that did not help.
        generation: Of the ending that was last decided upon.
        connected_at: When its present or last connection became usable.
        is_exhausted: Whether its budget was used up at the last decision.
    """

    rebuilds: int = 0
    generation: int = 0
    connected_at: float = 0.0
    is_exhausted: bool = False

    def is_known(self, generation: int) -> bool:
        """Whether this ending was decided upon before; otherwise it is noted. A plugin may be asked more than once."""
        known = generation == self.generation
        self.generation = generation
        return known

    def note(self, way: str | None) -> bool:
        """What was decided; whether it is the first time in a row that nothing is left to do."""
        is_first = way is None and not self.is_exhausted
        self.is_exhausted = way is None
        if way is not None:
            self.rebuilds = self.rebuilds + 1 if way == "rebuild" else 0
        return is_first

    def judge(self, worked_until: float, stable_after: float) -> None:
        """Forget the rebuilds that helped: the connection that now ended had worked for *stable_after* seconds."""
        if worked_until - self.connected_at >= stable_after:
            self.rebuilds = 0


def recent(history: Sequence[Restarted], client_id: str, *, now: float, window: float) -> list[Restarted]:
    """Those of *history* that count for the transport *client_id*: its own, and those of the whole process.

    One in the future, for the clock was set back, counts: a process that cannot tell the time must not loop.
    """
    return [r for r in history if r.at > now - window and (r.client_id == client_id or r.way != "rebuild")]


def decide(
    options: Options,
    history: Sequence[Restarted],
    client_id: str,
    rebuilds: int,
    *,
    now: float,
    obstacle: str | None = None,
) -> Decision:
    """What to do about a wedged SDK of the transport *client_id*, after *rebuilds* in a row that did not help.

    *obstacle* is why this process cannot be replaced, if it cannot: then the driver is.
    """
    used = len(recent(history, client_id, now=now, window=options.window))
    if used >= options.budget:
        return Decision(
            None, f"the SDK is wedged, and all {options.budget} restarts in {options.window:g} s are used up"
        )
    budget = f"restart {used + 1} of {options.budget} in {options.window:g} s"
    if rebuilds < options.rebuilds:
        return Decision("rebuild", f"the SDK is wedged: rebuild {rebuilds + 1} of {options.rebuilds}; {budget}")
    if options.escalate_to == "nothing":
        return Decision("rebuild", f"the SDK is wedged again after {rebuilds} rebuilds; {budget}")
    helped = f"{rebuilds} rebuilds did not help" if rebuilds else "it is wedged"
    if obstacle is not None:
        return Decision("rebuild", f"{helped}, and {options.escalate_to} is not possible: {obstacle}; {budget}")
    return Decision(options.escalate_to, f"{helped}: {options.escalate_to}; {budget}")


def carried(history: Sequence[Restarted], pid: int) -> str:
    """The text that takes *history* through an exec, which keeps the process id; a child process has another."""
    rows = [[r.at, r.way, r.why[:LONGEST_WHY], r.client_id] for r in history]
    return json.dumps({"pid": pid, "restarts": rows})


def taken_over(text: str, pid: int) -> list[Restarted]:
    """What `carried` had made; nothing when it was for another process, such as our parent.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        held = json.loads(text)
        if held["pid"] != pid:
            return []
        rows = [Restarted(float(at), str(way), str(why), str(client)) for at, way, why, client in held["restarts"]]
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return rows
