"""Each kind of fault, carried out on an arena. Touches processes, sockets and disks through it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from switchgear_chaos.evidence import Strike
from switchgear_chaos.journal import now
from switchgear_chaos.plan import BROKER, CONSUMER, KINDS, LINK, Fault
from switchgear_chaos.wire import HOST, refuser, take_over

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from switchgear.testing import FaultProxy

    from switchgear_chaos.arena import Arena
    from switchgear_chaos.worker import Worker


PRESENCE: Final = 2.0
"""Seconds that a fault waits for its victim."""

RESTORED: Final = 0.1
"""Seconds within which what a fault has held up passes on."""

HEARING: Final = 30.0
"""Seconds in which a publisher hears a command; it may be starting, or waiting for its disk."""

NOTED: Final = 1.2
"""Seconds after which its outbox has noted that the clock was set: with the next commit, at the latest a second after one failed."""


async def strike(arena: Arena, fault: Fault) -> None:
    """Do *fault*, undo it after its time, and write down when it was, whom it touched, and whether that was felt.

    What cannot be done here is not written down.
    """
    if fault.kind == "disk_full" and fault.target not in arena.disks:
        return
    links = arena.links_of(fault.target) if KINDS[fault.kind].target in {LINK, BROKER} else []
    if not fault.detail.get("everywhere", 1):
        links = [link for link in links if link.open] or links
    is_link = KINDS[fault.kind].target == LINK
    alone: AbstractAsyncContextManager[None] = arena.alone(links) if is_link else arena.busy[fault.target]
    async with alone:
        await _presence(arena, fault, links)
        began, before = now(), _passed(links)
        was_there = any(link.open for link in links)
        felt = await _KINDS[fault.kind](arena, fault, links)
    ended = now()
    if felt is None:  # it has held something up, or turned somebody away
        await asyncio.sleep(RESTORED)
        felt = was_there and _passed(links) > before
    arena.strikes.append(
        Strike(
            kind=fault.kind,
            target=fault.target,
            began=began,
            ended=ended,
            touched=touched(arena, fault),
            felt=felt,
        )
    )


async def _presence(arena: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    """Wait until what is to be struck is there and at work: it may be recovering from the last fault."""
    worker = arena.workers.get(fault.target)
    deadline = time.monotonic() + PRESENCE
    while time.monotonic() < deadline:
        if any(link.open for link in links) if worker is None or links else worker.is_at_work:
            return
        await asyncio.sleep(0.02)


def _passed(links: list[FaultProxy]) -> int:
    """Bytes that have passed these *links* so far."""
    return sum(link.counts.to_broker + link.counts.to_client for link in links)


def touched(arena: Arena, fault: Fault) -> frozenset[str]:
    """The clients that notice *fault*: publishers by name, and the consumer as one."""
    if KINDS[fault.kind].target == BROKER:
        return frozenset(arena.workers)
    return frozenset({CONSUMER if fault.target.startswith(CONSUMER) else fault.target})


# Links: each says whether it was felt; None: it was, if something wanted to pass. -------------------------------------


async def _reset(_: Arena, __: Fault, links: list[FaultProxy]) -> bool:
    return sum([link.cut() for link in links]) > 0


async def _cut_within(_: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    before = sum(link.counts.cut for link in links)
    for link in links:
        link.cut_after(int(fault.detail["bytes"]), "broker" if fault.detail["to_broker"] else "client")
    await asyncio.sleep(fault.lasts)
    return sum(link.counts.cut for link in links) > before


async def _half_close(_: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    return sum([link.half_close("broker" if fault.detail["to_broker"] else "client") for link in links]) > 0


async def _blackhole(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.blackhole()
    await asyncio.sleep(fault.lasts)


async def _forget(_: Arena, __: Fault, links: list[FaultProxy]) -> bool:
    return sum([link.forget() for link in links]) > 0


async def _slow(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.slow(fault.detail["delay"], rate=fault.detail["rate"] or None)
    await asyncio.sleep(fault.lasts)


async def _refuse(_: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    for link in links:
        link.refuse()
    cut = sum([link.cut() for link in links])
    await asyncio.sleep(fault.lasts)
    return cut > 0


async def _silence(_: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    before = sum(link.counts.accepted for link in links)
    for link in links:
        link.silence()
        link.cut()
    await asyncio.sleep(fault.lasts)
    return sum(link.counts.accepted for link in links) > before


async def _led_astray(arena: Arena, fault: Fault, links: list[FaultProxy], code: int, *, after_connect: bool) -> bool:
    before = sum(link.counts.accepted for link in links)
    async with refuser(code, after_connect=after_connect) as address:
        for link in links:
            link.target = address
            link.cut()
        await asyncio.sleep(fault.lasts)
        for link in links:
            link.target = f"mqtt://{HOST}:{arena.behind[link]}"
    return sum(link.counts.accepted for link in links) > before


async def _connack(arena: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    return await _led_astray(arena, fault, links, int(fault.detail["code"]), after_connect=True)


async def _drop(arena: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    return await _led_astray(arena, fault, links, 0, after_connect=bool(fault.detail["after_connect"]))


async def _takeover(arena: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    felt = False
    client_id = "chaos-consumer" if fault.target.startswith(CONSUMER) else f"chaos-{fault.target}"
    for link in links:
        if link.open:
            with contextlib.suppress(OSError):  # the broker is down, or the rightful owner was quicker
                await take_over(arena.behind[link], client_id, arena.user, fault.lasts)
                felt = True
    return felt


# Brokers. -------------------------------------------------------------------------------------------------------------


async def _broker_kill(arena: Arena, fault: Fault, links: list[FaultProxy]) -> bool:
    if arena.pair is not None:
        victim = await asyncio.to_thread(arena.pair.wait_active, 60)
        felt = any(link.open for link in links if arena.behind[link] == arena.ports[victim])
        await asyncio.to_thread(arena.pair.kill, victim)
        await asyncio.sleep(fault.lasts)
        arena.pair.start_broker(victim)
        await asyncio.to_thread(arena.pair.wait_active, 60)
        return felt
    broker = arena.mosquittos[int(fault.target.rpartition("-")[2])]
    async with arena.alone(links):
        felt = any(link.open for link in links)
        if fault.detail.get("frozen_before"):  # what is sent meanwhile will have arrived, and is never answered
            broker.freeze()
            await asyncio.sleep(fault.detail["frozen_before"])
        for link in links:
            link.blackhole()
        broker.thaw()
        await asyncio.to_thread(broker.save)
        for link in links:
            link.cut()
        await asyncio.to_thread(broker.kill)
        for link in links:
            link.refuse()
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(broker.start)
    return felt


async def _broker_freeze(arena: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    if arena.pair is not None:
        pair, victim = arena.pair, await asyncio.to_thread(arena.pair.wait_active, 60)
        pair.freeze(victim)
        await asyncio.sleep(fault.lasts)
        pair.thaw(victim)
        return
    broker = arena.mosquittos[int(fault.target.rpartition("-")[2])]
    async with arena.alone(links):
        broker.freeze()
        await asyncio.sleep(fault.lasts)
        broker.thaw()


# Ourselves. -----------------------------------------------------------------------------------------------------------


async def _end_publisher(arena: Arena, fault: Fault, _: list[FaultProxy]) -> bool:
    worker = arena.workers[fault.target]
    if "stored" in fault.detail:
        before = sum(arena.stored(fault.target))
        async with asyncio.timeout(30):
            while sum(arena.stored(fault.target)) < before + fault.detail["stored"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
    async with contextlib.AsyncExitStack() as stack:
        if fault.detail["cut_off"]:  # so that what it stores meanwhile is on its disk only
            await stack.enter_async_context(_cut_off(arena, fault.target))
            await asyncio.sleep(fault.detail["cut_off"])
        felt = await _end(arena, worker, fault)
    await asyncio.sleep(fault.lasts)
    worker.start()
    return felt


@contextlib.asynccontextmanager
async def _cut_off(arena: Arena, target: str) -> AsyncIterator[None]:
    links = arena.links_of(target)
    async with arena.alone(links):
        for link in links:
            link.refuse()
            link.cut()
        yield


async def _end_consumer(arena: Arena, fault: Fault, _: list[FaultProxy]) -> bool:
    worker = arena.workers[fault.target]
    if dozing := fault.detail["dozing"]:  # so that it has messages that it has not handled
        worker.tell("doze", 2 * dozing)
        await asyncio.sleep(dozing)
    felt = await _end(arena, worker, fault)
    await asyncio.sleep(fault.lasts)
    worker.start()
    return felt


async def _end(arena: Arena, worker: Worker, fault: Fault) -> bool:
    """Kill *worker*, or have it close in order, as *fault* says; whether it was at work."""
    felt = worker.is_at_work
    if fault.kind.endswith("_restart"):
        if not await asyncio.to_thread(worker.stop, 30, "leave"):
            arena.problems.append(f"{worker.name} did not close in order; it said: {worker.said}")
        return felt
    if worker.name != CONSUMER:
        arena.kills.append((worker.name, now()))
    if not await asyncio.to_thread(worker.kill):
        arena.problems.append(f"{worker.name} had ended by itself; it said: {worker.said}")
    return felt


async def _disk_full(arena: Arena, fault: Fault, _: list[FaultProxy]) -> bool:
    disk, worker = arena.disks[fault.target], arena.workers[fault.target]
    before = _refusals(worker)
    async with contextlib.AsyncExitStack() as stack:
        if fault.detail.get("killed"):  # what it says is stored is on the disk, also when there is no space on it
            await stack.enter_async_context(_cut_off(arena, fault.target))
        await asyncio.to_thread(disk.fill, arena.outbox(fault.target))
        await asyncio.sleep(fault.lasts / 2)
        if fault.detail.get("killed"):
            await _end(arena, worker, fault)
            worker.start()
    await asyncio.sleep(fault.lasts / 2)
    disk.empty()
    return _refusals(worker) > before


def _refusals(worker: Worker) -> int:
    """How often *worker* was told that it cannot write."""
    return worker.noted["outbox_unwritable"] + worker.noted["unreadable"]


async def _clock_jump(arena: Arena, fault: Fault, _: list[FaultProxy]) -> bool:
    """Set the clock of one that lives and hears it: a step between two lives cannot be told from time that passed."""
    worker = arena.workers[fault.target]
    before = worker.noted["jumped"]
    felt = worker.is_at_work
    worker.jump(fault.detail["seconds"])
    deadline = time.monotonic() + HEARING
    while worker.noted["jumped"] == before:
        if time.monotonic() > deadline:
            arena.problems.append(f"{worker.name} did not hear in {HEARING:g} s that its clock was set")
            return False
        await asyncio.sleep(0.02)
    await asyncio.sleep(NOTED)
    return felt


_KINDS: Final[dict[str, Callable[[Arena, Fault, list[FaultProxy]], Awaitable[bool | None]]]] = {
    "reset": _reset,
    "cut_within": _cut_within,
    "half_close": _half_close,
    "blackhole": _blackhole,
    "forget": _forget,
    "slow": _slow,
    "refuse": _refuse,
    "connack": _connack,
    "drop": _drop,
    "silence": _silence,
    "takeover": _takeover,
    "broker_kill": _broker_kill,
    "broker_freeze": _broker_freeze,
    "publisher_kill": _end_publisher,
    "publisher_restart": _end_publisher,
    "consumer_kill": _end_consumer,
    "consumer_restart": _end_consumer,
    "disk_full": _disk_full,
    "clock_jump": _clock_jump,
}
