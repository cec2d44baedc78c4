"""Runs one stage: load, faults, the calm after them, and what is then found. Touches everything through its arena."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear_chaos.arena import Arena
from switchgear_chaos.evidence import Strike
from switchgear_chaos.faults import strike
from switchgear_chaos.gather import gather
from switchgear_chaos.journal import Reader, now
from switchgear_chaos.ledger import Verdict, judge
from switchgear_chaos.plan import CONSUMER, Stage
from switchgear_chaos.wire import take_over

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE: Final = 60.0
"""Seconds that a drain may take, and that messages on their way may stand still."""

OUTAGE: Final = 1.0
"""Seconds for which no broker can be reached while a backlog is built up."""

OUTAGE_KIND: Final = "outage"
"""What the tables call that; it is in no plan."""

BROKEN: Final = frozenset({"outbox_recovered", "outbox_quarantined"})
"""Events that no kill and no full disk may cause."""

GROWTH: Final = 8 * 2**20
"""Bytes of memory that a process may hold more after the last of these backlogs than after the first."""

LARGEST_FILE: Final = 9 * 2**20
"""Bytes that a drained outbox may keep: 4 MB of free pages, 4 MB of write-ahead log, and what belongs to no row."""


@define
class Outcome:
    """What one stage has found.

    Attributes:
        seconds: How long it took.
        memory: Bytes held by each worker after each of the backlogs had drained.
        files: Bytes of each publisher's outbox and its log, the same.
        problems: What must not be, in words.
    """

    stage: Stage
    verdict: Verdict = field(factory=Verdict)
    seconds: float = 0.0
    memory: dict[str, list[int]] = field(factory=dict)
    files: dict[str, list[int]] = field(factory=dict)
    problems: list[str] = field(factory=list)


Tell = Callable[[Arena, str], None]
"""Told now and then how far it is."""


async def run_stage(stage: Stage, folder: Path, *, disks: bool, tell: Tell) -> Outcome:
    """Carry *stage* out in the new *folder*."""
    outcome = Outcome(stage)
    began = time.monotonic()
    async with Arena(stage, folder, disks=disks) as arena:
        tell(arena, "starting")
        await arena.start_workers()
        watch = asyncio.create_task(_watch(arena, outcome, tell))
        try:
            await _strike_all(arena)
            await _calm(arena, outcome)
            await _wait_handled(arena)
        finally:
            watch.cancel()
        await _stop(arena, outcome)
        outcome.verdict = await asyncio.to_thread(lambda: judge(gather(arena)))
    outcome.problems += arena.problems + outcome.verdict.problems
    outcome.seconds = time.monotonic() - began
    return outcome


async def _strike_all(arena: Arena) -> None:
    """All faults at their times; those of a stage of kills one after the other."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for fault in arena.stage.faults:
            await asyncio.sleep(began + fault.at - time.monotonic())
            task = group.create_task(strike(arena, fault))
            if "stored" in fault.detail:
                await task
        await asyncio.sleep(began + arena.stage.seconds - time.monotonic())


async def _watch(arena: Arena, outcome: Outcome, tell: Tell) -> None:
    """Bring back who ended without having been asked to, and note it."""
    while True:
        for worker in arena.workers.values():
            worker.resident()
            if worker.is_dead:
                outcome.problems.append(f"{worker.name} ended by itself; it said: {worker.said}")
                worker.start()
        done = sum(strike.kind != OUTAGE_KIND for strike in arena.strikes)
        tell(arena, f"{done} of {len(arena.stage.faults)} faults")
        await asyncio.sleep(0.5)


async def _calm(arena: Arena, outcome: Outcome) -> None:
    """Drain; then build up a backlog and drain it, again and again."""
    publishers = [worker for name, worker in arena.workers.items() if name != CONSUMER]
    links = [link for worker in publishers for link in arena.links[worker.name]]
    readers = {worker.name: Reader(worker.journal) for worker in publishers}
    for cycle in range(arena.stage.backlogs + 1):
        if cycle:
            async with arena.alone(links):
                for link in links:
                    link.refuse()
                    link.cut()
                began = now()
                for worker in publishers:
                    worker.tell("burst", arena.stage.backlog)
                await asyncio.sleep(OUTAGE)
            names = frozenset(worker.name for worker in publishers)
            arena.strikes.append(Strike(kind=OUTAGE_KIND, target="publishers", began=began, ended=now(), touched=names))
        for worker in publishers:
            worker.tell("pause", cycle)
        waiting = {worker.name for worker in publishers}
        deadline = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < deadline:
            for name in list(waiting):
                for words in readers[name]:
                    if words[0] == "drained" and words[2] == str(cycle):
                        waiting.discard(name)
                        outcome.memory.setdefault(name, []).append(int(words[3]))
                        outcome.files.setdefault(name, []).append(int(words[4]) + int(words[5]))
            await asyncio.sleep(0.1)
        if waiting:
            outcome.problems.append(f"not drained within {PATIENCE:g} s: {', '.join(sorted(waiting))}")
            return
        await _wait_handled(arena)
        outcome.memory.setdefault(CONSUMER, []).append(arena.workers[CONSUMER].resident())


async def _wait_handled(arena: Arena) -> None:
    """Return when every stored message has been handled, or none has been for long."""
    left, since = arena.missing(), time.monotonic()
    while left and time.monotonic() - since < PATIENCE / 4:
        await asyncio.sleep(0.2)
        now_left = arena.missing()
        if now_left != left:
            left, since = now_left, time.monotonic()


async def _stop(arena: Arena, outcome: Outcome) -> None:
    """End the workers in order, and see what they leave behind."""
    for name in sorted(arena.workers, reverse=True):  # publishers first
        worker = arena.workers[name]
        if not await asyncio.to_thread(worker.stop, 60):
            outcome.problems.append(f"{name} did not end in order; it said: {worker.said}")
        for words in Reader(worker.journal):
            if words[0] in {"internal", "corrupt"} or (words[0] == "event" and words[2] in BROKEN):
                outcome.problems.append(f"{name}: {' '.join(words)}")
    for index, left in enumerate(await asyncio.gather(*(_left_at(arena, index) for index in (0, 1)))):
        if left:
            outcome.problems.append(f"broker {index} still holds {left} message(s) that were not acknowledged")
    for name, held in outcome.memory.items():
        if len(held) > 1 and held[-1] - held[1] > GROWTH:
            outcome.problems.append(f"{name} grew from {held[1]} to {held[-1]} bytes over {len(held) - 2} backlogs")
    for name, sizes in outcome.files.items():
        if sizes[-1] > LARGEST_FILE:
            outcome.problems.append(f"the drained outbox of {name} has {sizes[-1]} bytes")


async def _left_at(arena: Arena, index: int) -> int:
    """Messages that a broker delivers again to the consumer's session."""
    if arena.pair is not None and arena.pair.active != index:
        return 0
    return await take_over(arena.ports[index], "chaos-consumer", arena.user, 1.0)
