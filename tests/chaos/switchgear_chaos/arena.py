"""What one stage runs on: brokers, links before them, publishers and the consumer. Touches processes, sockets, files."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Self

from switchgear.testing import FaultProxy
from switchgear.testing.processes import DEFAULT_USERS, ActiveMQPair, Mosquitto

from switchgear_chaos.disk import Disk
from switchgear_chaos.journal import Reader, from_ranges
from switchgear_chaos.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from switchgear_chaos.evidence import Strike
    from switchgear_chaos.plan import Stage

_NO_AUTOSAVE: Final = "autosave_on_changes false\nautosave_interval 0"
"""It is told when to save: just before it is killed, after nothing passes to its clients any more. So it stores before it
acknowledges, as seen by them; by itself mosquitto acknowledges first (facts/brokers)."""


_VARIANTS: Final[list[dict[str, Any]]] = [
    {"profile": {"protocol": "5", "durability": "full", "message_id": True}, "window": 1024},
    {"profile": {"protocol": "3.1.1", "durability": "normal", "max_in_flight": 64, "spare": True}},
]
"""How publishers differ: even ones, whose messages carry ids, and odd ones."""


class Arena:
    """The processes and links of *stage* in *folder*; a context manager, which leaves nothing behind."""

    def __init__(self, stage: Stage, folder: Path, *, disks: bool) -> None:
        folder.mkdir(parents=True)
        self.stage = stage
        self.folder = folder
        self.pair: ActiveMQPair | None = None
        self.mosquittos: list[Mosquitto] = []
        self.links: dict[str, list[FaultProxy]] = {}
        self.locks: dict[FaultProxy, asyncio.Lock] = {}
        self.behind: dict[FaultProxy, int] = {}
        """The port of the broker behind each link."""
        self.disks: dict[str, Disk] = {}
        self.workers: dict[str, Worker] = {}
        self.busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """For each target that is no link: one fault at a time, also when they run late."""
        self.strikes: list[Strike] = []
        self.kills: list[tuple[str, float]] = []
        """Publishers, and when they were killed."""
        self.problems: list[str] = []
        self.steady_from: float | None = None
        """When the last publishing without any fault began."""
        self.user: tuple[str, str] | None = None
        self._has_disks = disks
        self._stored: dict[str, tuple[Reader, bytearray]] = {}
        self._handled: tuple[Reader, dict[int, bytearray]] | None = None

    # Beginning and end. ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _begin(self) -> None:
        if self.stage.name == "activemq":
            self.user = ("admin", DEFAULT_USERS["admin"])
            self.pair = ActiveMQPair(self.folder / "activemq")
            await asyncio.to_thread(self.pair.start)
            await asyncio.to_thread(self.pair.wait_standby, 60)
        else:
            self.mosquittos = [
                Mosquitto(self.folder / f"broker-{index}", persistence=True, extra=_NO_AUTOSAVE) for index in (0, 1)
            ]
            for broker in self.mosquittos:
                await asyncio.to_thread(broker.start)
        for index in range(self.stage.publishers):
            await self._add_publisher(index)
        await self._add_consumer()

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.kill()
        for link in self.locks:
            await link.stop()
        for broker in self.mosquittos:
            broker.thaw()
            await asyncio.to_thread(broker.kill)
        if self.pair is not None:
            for index in (0, 1):
                self.pair.thaw(index)
                self.pair.kill(index)
        for disk in self.disks.values():
            disk.close()

    @property
    def ports(self) -> list[int]:
        """The brokers'."""
        return list(self.pair.ports) if self.pair is not None else [broker.port for broker in self.mosquittos]

    @property
    def database(self) -> Path:
        """Where the consumer's handler has its effects."""
        return self.folder / "effects.db"

    def outbox(self, name: str) -> Path:
        """The file of the publisher *name*."""
        return self.folder / f"{name}.files" / "outbox"

    async def _link(self, client: str, port: int) -> FaultProxy:
        link = FaultProxy(f"mqtt://127.0.0.1:{port}")
        await link.start()
        self.links.setdefault(client, []).append(link)
        self.locks[link] = asyncio.Lock()
        self.behind[link] = port
        return link

    def _profile(self, client: str) -> dict[str, Any]:
        profile: dict[str, Any] = {"client_id": f"chaos-{client}", "session_expiry": 86_400}
        if self.user is not None:  # ActiveMQ
            profile |= {"username": self.user[0], "password": self.user[1], "protocol": "3.1.1", "envelope": "line"}
        return profile

    async def _add_publisher(self, index: int) -> None:
        name = f"publisher-{index}"
        links = [await self._link(name, port) for port in self.ports]
        folder = self.outbox(name).parent
        if self._has_disks:
            self.disks[name] = Disk(folder)
        else:
            folder.mkdir()
        where: str | list[str] = [link.uri for link in links]
        if self.pair is not None:
            where = f"failover:({','.join(f'tcp://{link.authority}' for link in links)})"
        options = {
            "index": index,
            "where": where,
            "outbox": str(self.outbox(name)),
            "rate": self.stage.rate,
            **_VARIANTS[index % 2],
        }
        options["profile"] = {**_VARIANTS[index % 2]["profile"], **self._profile(name)}
        self.workers[name] = Worker(name, "publisher", self.folder, options)
        self._stored[name] = (Reader(self.workers[name].journal), bytearray())

    async def _add_consumer(self) -> None:
        where = []
        for index, name in enumerate(self.stage.consumers):
            ports = self.ports if self.pair is not None else [self.ports[index]]
            links = [await self._link(name, port) for port in ports]
            one = len(links) == 1
            where.append(links[0].uri if one else f"failover:({','.join(f'tcp://{link.authority}' for link in links)})")
        profile = {"protocol": "5", **self._profile("consumer")}
        options = {"where": where, "profile": profile, "database": str(self.database)}
        self.workers["consumer"] = Worker("consumer", "consumer", self.folder, options)
        self._handled = (Reader(self.workers["consumer"].journal), {})

    async def start_workers(self) -> None:
        """The consumer, and once it is subscribed everywhere the publishers.

        Raises:
            TimeoutError: it was not subscribed within a minute.
        """
        consumer = self.workers["consumer"]
        consumer.start()
        reader, ready = Reader(consumer.journal), 0
        async with asyncio.timeout(60):
            while ready < len(self.stage.consumers):
                ready += sum(words[0] == "ready" for words in reader)
                await asyncio.sleep(0.05)
        for name, worker in self.workers.items():
            if name != "consumer":
                worker.start()

    # What is touched by what. ------------------------------------------------------------------------------------

    def links_of(self, target: str) -> list[FaultProxy]:
        """The links of a client, or those to a broker."""
        kind, _, number = target.partition("-")
        if kind != "broker":
            return self.links[target]
        if self.pair is not None:
            return list(self.locks)
        port = self.ports[int(number)]
        return [link for link in self.locks if self.behind[link] == port]  # its target may be another one just now

    @contextlib.asynccontextmanager
    async def alone(self, links: list[FaultProxy]) -> AsyncIterator[None]:
        """No other fault strikes these *links* meanwhile; they are whole again afterwards."""
        async with contextlib.AsyncExitStack() as stack:
            for link in links:
                await stack.enter_async_context(self.locks[link])
            try:
                yield
            finally:
                for link in links:
                    await link.restore()

    # How far it is. ----------------------------------------------------------------------------------------------

    def stored(self, name: str) -> bytearray:
        """By number: 1 where this publisher has reported the message as stored."""
        reader, seen = self._stored[name]
        for words in reader:
            if words[0] == "stored":
                for number in from_ranges(words[2]):
                    _mark(seen, number)
        return seen

    def handled(self) -> dict[int, bytearray]:
        """By publisher and number: 1 where the message was handled."""
        assert self._handled is not None
        reader, seen = self._handled
        for words in reader:
            if words[0] == "handled" and len(words) == 5:
                _mark(seen.setdefault(int(words[3]), bytearray()), int(words[4]))
        return seen

    def missing(self) -> int:
        """Messages of QoS 1 and 2 that were stored and have not been handled."""
        handled = self.handled()
        count = 0
        for index in range(self.stage.publishers):
            stored = self.stored(f"publisher-{index}")
            there = handled.get(index, bytearray())
            there = there + bytes(max(0, len(stored) - len(there)))
            count += sum(s > t for n, (s, t) in enumerate(zip(stored, there, strict=False)) if n % 20)
        return count


def _mark(seen: bytearray, number: int) -> None:
    if number >= len(seen):
        seen.extend(bytes(number + 1 - len(seen)))
    seen[number] = 1
