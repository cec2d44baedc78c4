"""Each kind of fault, carried out on an arena. Touches processes, sockets and disks through it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from switchgear_chaos.evidence import Strike
from switchgear_chaos.journal import now
from switchgear_chaos.plan import BROKER, CONSUMER, KINDS, LINK, Fault
from switchgear_chaos.wire import HOST, refuser, take_over

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.testing import FaultProxy

    from switchgear_chaos.arena import Arena
    from switchgear_chaos.worker import Worker


async def strike(arena: Arena, fault: Fault) -> None:
    """Do *fault*, undo it after its time, and write down when it was and whom it touched; not what cannot be done here."""
    if fault.kind == "disk_full" and fault.target not in arena.disks:
        return
    began = now()
    if KINDS[fault.kind].target == LINK:
        links = arena.links_of(fault.target)
        if not fault.detail.get("everywhere", 1):
            links = [link for link in links if link.open] or links
        async with arena.alone(links):
            began = now()
            await _LINKS[fault.kind](arena, fault, links)
    else:
        async with arena.busy[fault.target]:
            began = now()
            await _OTHERS[fault.kind](arena, fault)
    arena.strikes.append(
        Strike(kind=fault.kind, target=fault.target, began=began, ended=now(), touched=touched(arena, fault))
    )


def touched(arena: Arena, fault: Fault) -> frozenset[str]:
    """The clients that notice *fault*: publishers by name, and the consumer as one."""
    if KINDS[fault.kind].target == BROKER:
        return frozenset(arena.workers)
    return frozenset({CONSUMER if fault.target.startswith(CONSUMER) else fault.target})


# Links. ---------------------------------------------------------------------------------------------------------------


async def _reset(_: Arena, __: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.cut()


async def _cut_within(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.cut_after(int(fault.detail["bytes"]), "broker" if fault.detail["to_broker"] else "client")
    await asyncio.sleep(fault.lasts)


async def _half_close(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.half_close("broker" if fault.detail["to_broker"] else "client")


async def _blackhole(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.blackhole()
    await asyncio.sleep(fault.lasts)


async def _forget(_: Arena, __: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.forget()


async def _slow(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.slow(fault.detail["delay"], rate=fault.detail["rate"] or None)
    await asyncio.sleep(fault.lasts)


async def _refuse(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.refuse()
        link.cut()
    await asyncio.sleep(fault.lasts)


async def _silence(_: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    for link in links:
        link.silence()
        link.cut()
    await asyncio.sleep(fault.lasts)


async def _led_astray(arena: Arena, fault: Fault, links: list[FaultProxy], code: int, *, after_connect: bool) -> None:
    async with refuser(code, after_connect=after_connect) as address:
        for link in links:
            link.target = address
            link.cut()
        await asyncio.sleep(fault.lasts)
        for link in links:
            link.target = f"mqtt://{HOST}:{arena.behind[link]}"


async def _connack(arena: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    await _led_astray(arena, fault, links, int(fault.detail["code"]), after_connect=True)


async def _drop(arena: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    await _led_astray(arena, fault, links, 0, after_connect=bool(fault.detail["after_connect"]))


async def _takeover(arena: Arena, fault: Fault, links: list[FaultProxy]) -> None:
    client_id = "chaos-consumer" if fault.target.startswith(CONSUMER) else f"chaos-{fault.target}"
    for link in links:
        if link.open:
            with contextlib.suppress(OSError):  # the broker is down, or the rightful owner was quicker
                await take_over(arena.behind[link], client_id, arena.user, fault.lasts)


_LINKS: Final[dict[str, Callable[[Arena, Fault, list[FaultProxy]], Awaitable[None]]]] = {
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
}


# Brokers. -------------------------------------------------------------------------------------------------------------


async def _broker_kill(arena: Arena, fault: Fault) -> None:
    if arena.pair is not None:
        victim = await asyncio.to_thread(arena.pair.wait_active, 60)
        await asyncio.to_thread(arena.pair.kill, victim)
        await asyncio.sleep(fault.lasts)
        arena.pair.start_broker(victim)
        await asyncio.to_thread(arena.pair.wait_active, 60)
        return
    broker = arena.mosquittos[int(fault.target.rpartition("-")[2])]
    links = arena.links_of(fault.target)
    async with arena.alone(links):
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


async def _broker_freeze(arena: Arena, fault: Fault) -> None:
    if arena.pair is not None:
        pair, victim = arena.pair, await asyncio.to_thread(arena.pair.wait_active, 60)
        pair.freeze(victim)
        await asyncio.sleep(fault.lasts)
        pair.thaw(victim)
        return
    broker = arena.mosquittos[int(fault.target.rpartition("-")[2])]
    async with arena.alone(arena.links_of(fault.target)):
        broker.freeze()
        await asyncio.sleep(fault.lasts)
        broker.thaw()


# Ourselves. -----------------------------------------------------------------------------------------------------------


async def _end_publisher(arena: Arena, fault: Fault) -> None:
    worker = arena.workers[fault.target]
    if "stored" in fault.detail:
        before = sum(arena.stored(fault.target))
        async with asyncio.timeout(30):
            while sum(arena.stored(fault.target)) < before + fault.detail["stored"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
    async with contextlib.AsyncExitStack() as stack:
        if fault.detail["cut_off"]:  # so that what it stores meanwhile is on its disk only
            links = arena.links_of(fault.target)
            await stack.enter_async_context(arena.alone(links))
            for link in links:
                link.refuse()
                link.cut()
            await asyncio.sleep(fault.detail["cut_off"])
        await _end(arena, worker, fault)
    await asyncio.sleep(fault.lasts)
    worker.start()


async def _end_consumer(arena: Arena, fault: Fault) -> None:
    worker = arena.workers[fault.target]
    if dozing := fault.detail["dozing"]:  # so that it has messages that it has not handled
        worker.tell("doze", 2 * dozing)
        await asyncio.sleep(dozing)
    await _end(arena, worker, fault)
    await asyncio.sleep(fault.lasts)
    worker.start()


async def _end(arena: Arena, worker: Worker, fault: Fault) -> None:
    """Kill *worker*, or have it close in order, as *fault* says."""
    if fault.kind.endswith("_kill"):
        if worker.name != CONSUMER:
            arena.kills.append((worker.name, now()))
        await asyncio.to_thread(worker.kill)
    elif not await asyncio.to_thread(worker.stop, 30, "leave"):
        arena.problems.append(f"{worker.name} did not close in order; it said: {worker.said}")


async def _disk_full(arena: Arena, fault: Fault) -> None:
    disk = arena.disks[fault.target]
    await asyncio.to_thread(disk.fill, disk.folder / "outbox")
    await asyncio.sleep(fault.lasts)
    disk.empty()


async def _clock_jump(arena: Arena, fault: Fault) -> None:
    arena.workers[fault.target].jump(fault.detail["seconds"])


_OTHERS: Final[dict[str, Callable[[Arena, Fault], Awaitable[None]]]] = {
    "broker_kill": _broker_kill,
    "broker_freeze": _broker_freeze,
    "publisher_kill": _end_publisher,
    "publisher_restart": _end_publisher,
    "consumer_kill": _end_consumer,
    "consumer_restart": _end_consumer,
    "disk_full": _disk_full,
    "clock_jump": _clock_jump,
}
