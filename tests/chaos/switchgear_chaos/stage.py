"""Runs one stage: load, faults, the calm after them, and what is then found. Touches everything through its arena."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import define, field
from switchgear.subscriptions import MATCHES

from switchgear_chaos.arena import Arena
from switchgear_chaos.evidence import Strike
from switchgear_chaos.faults import strike
from switchgear_chaos.gather import gather, left_in
from switchgear_chaos.journal import Reader, now
from switchgear_chaos.ledger import Verdict, judge
from switchgear_chaos.plan import CONSUMER, PUBLISHER, Stage
from switchgear_chaos.wire import take_over

if TYPE_CHECKING:
    from pathlib import Path

    from switchgear_chaos.worker import Worker

PATIENCE: Final = 60.0
"""Seconds that a drain may take, and that messages on their way may stand still."""

OUTAGE: Final = 1.0
"""Seconds for which no broker can be reached while a backlog is built up."""

WITHIN: Final = 20_000
"""Bytes of each backlog after which its connection is reset once more: what was on its way then has to be sent again by the
same process, for its outbox is drained only when all of it is acknowledged."""

OUTAGE_KIND: Final = "outage"
"""What the tables call that; it is in no plan."""

BROKEN: Final = frozenset(
    {
        "outbox_recovered",
        "outbox_quarantined",
        "outbox_clock_back",
        "message_expired",
        "message_refused",
        "message_dropped",
    }
)
"""Events of a publisher that no fault of a run may cause."""

QUIET: Final = 3.0
"""Seconds of publishing before the first fault: what goes wrong in them has no excuse."""

SETTLING: Final = 12.0
"""Seconds after the last fault before the publishing in which nothing is excused: a dead connection on which nothing is
sent is found after keepalive, 10 s."""

GROWTH: Final = 8 * 2**20
"""Bytes of memory that a process may hold more after the last of these backlogs than after the first; seen: 3 MB, for the
consumer's two connections to its database fill their caches of 2 MB."""

KEPT: Final = 0.25
"""Objects for each message of those backlogs that it may hold more: a list of messages, or of numbers, has one or more."""

CACHED: Final = {PUBLISHER: 3000, CONSUMER: 5 * MATCHES // 2}
"""Objects besides: the last 200 decisions and their facts; the subscriptions that the last topics belong to, two each."""

FILE_GROWTH: Final = 2**20
"""Bytes that a drained outbox may be larger after the last backlog than after the one before; seen: 0.1 MB."""

LARGEST_FILE: Final = 9 * 2**20
"""Bytes that a drained outbox may keep: 4 MB of free pages, 4 MB of write-ahead log, and what belongs to no row."""


@define
class Outcome:
    """What one stage has found.

    Attributes:
        seconds: How long it took.
        memory: Bytes held by each worker after each of the backlogs had drained.
        objects: Objects held, the same.
        files: Bytes of each publisher's outbox and its log, the same.
        problems: What must not be, in words.
    """

    stage: Stage
    verdict: Verdict = field(factory=Verdict)
    seconds: float = 0.0
    memory: dict[str, list[int]] = field(factory=dict)
    objects: dict[str, list[int]] = field(factory=dict)
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
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        await _stop(arena, outcome)
        outcome.verdict = await asyncio.to_thread(lambda: judge(gather(arena)))
    outcome.problems += arena.problems + outcome.verdict.problems
    stored = outcome.verdict.by_qos[1].stored
    if stored < stage.least_stored:
        outcome.problems.append(
            f"{stored} messages of QoS 1 were stored; {stage.least_stored} are the least that shows anything"
        )
    outcome.seconds = time.monotonic() - began
    return outcome


async def _strike_all(arena: Arena) -> None:
    """All faults at their times, after a quiet beginning; those of a stage of kills one after the other."""
    began = time.monotonic() + QUIET
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
    for cycle in range(arena.stage.backlogs + 1 + (arena.stage.steady > 0)):
        if cycle > arena.stage.backlogs:
            struck = max((strike.ended for strike in arena.strikes if strike.kind != OUTAGE_KIND), default=0.0)
            await asyncio.sleep(struck + SETTLING - now())
            arena.steady_from = now()
            for worker in publishers:
                worker.tell("resume")
            await asyncio.sleep(arena.stage.steady)
        elif cycle:
            async with arena.alone(links):
                for link in links:
                    link.refuse()
                    link.cut()
                began = now()
                for worker in publishers:
                    worker.tell("burst", arena.stage.backlog)
                await asyncio.sleep(OUTAGE)
            for link in links:
                link.cut_after(WITHIN, "broker")
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
                        if cycle <= arena.stage.backlogs:
                            outcome.memory.setdefault(name, []).append(int(words[3]))
                            outcome.objects.setdefault(name, []).append(int(words[4]))
                            outcome.files.setdefault(name, []).append(int(words[5]) + int(words[6]))
            await asyncio.sleep(0.1)
        if waiting:
            outcome.problems.append(f"not drained within {PATIENCE:g} s: {', '.join(sorted(waiting))}")
            return
        for link in links:
            await link.restore()
        await _wait_handled(arena)
        if cycle <= arena.stage.backlogs:
            await _weigh(arena.workers[CONSUMER], outcome)


async def _weigh(consumer: Worker, outcome: Outcome) -> None:
    """Have the consumer say how much it holds now that nothing waits."""
    readings, word = Reader(consumer.journal), f"weigh-{time.monotonic()}"
    consumer.tell("weigh", word)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for words in readings:
            if words[0] == "drained" and words[2] == word:
                outcome.memory.setdefault(CONSUMER, []).append(int(words[3]))
                outcome.objects.setdefault(CONSUMER, []).append(int(words[4]))
                return
        await asyncio.sleep(0.05)
    outcome.problems.append(f"{consumer.name} did not say within {PATIENCE:g} s how much it holds")


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
        if worker.said:
            outcome.problems.append(f"{name} printed: {worker.said}")
        if name != CONSUMER and (rows := left_in(arena.outbox(name))):
            outcome.problems.append(f"the drained outbox of {name} still has {rows} row(s)")
    for problem in await asyncio.gather(*(_left_at(arena, index) for index in (0, 1))):
        outcome.problems += [problem] if problem else []
    outcome.problems += grown(outcome)


async def _left_at(arena: Arena, index: int) -> str | None:
    """What is wrong with what a broker keeps for the consumer's session."""
    if arena.pair is not None and arena.pair.active != index:
        return None
    try:
        taken = await take_over(arena.ports[index], "chaos-consumer", arena.user, 2.0)
    except OSError as error:
        return f"broker {index} does not show what it still holds: {error}"
    if taken.waiting:
        return f"broker {index} still holds {taken.waiting} message(s) that were not acknowledged"
    if arena.pair is None and not taken.session_present:  # ActiveMQ does not say
        return f"broker {index} holds no session of the consumer"
    return None


def grown(outcome: Outcome) -> list[str]:
    """What has grown from the first backlog to the last, in words. What comes first is what was held after the faults."""
    found = []
    stage = outcome.stage
    for name, held in outcome.memory.items():
        if len(held) > 2 and held[-1] - held[1] > GROWTH:
            found.append(f"{name} grew from {held[1]} to {held[-1]} bytes over {len(held) - 2} backlogs")
    for name, counts in outcome.objects.items():
        of = CONSUMER if name == CONSUMER else PUBLISHER
        messages = (len(counts) - 2) * stage.backlog * (stage.publishers if name == CONSUMER else 1)
        if len(counts) > 2 and counts[-1] - counts[1] > KEPT * messages + CACHED[of]:
            found.append(f"{name} held {counts[1]} objects, and {counts[-1]} after {messages} more messages")
    for name, sizes in outcome.files.items():
        if sizes[-1] > LARGEST_FILE:
            found.append(f"the drained outbox of {name} has {sizes[-1]} bytes")
        if len(sizes) > 3 and sizes[-1] - sizes[-2] > FILE_GROWTH:
            found.append(f"the drained outbox of {name} grew from {sizes[-2]} to {sizes[-1]} bytes")
    return found
