"""Reads the journals and the brokers' logs of an arena into `Evidence`. Reads files only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from attrs import evolve
from switchgear.testing.processes import LoggedConnect, LoggedDelivery, LoggedPublish, LoggedRelease

from switchgear_chaos.evidence import Arrival, Delivered, Evidence, Handled
from switchgear_chaos.journal import Reader, from_ranges, number_of
from switchgear_chaos.plan import CONSUMER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from switchgear_chaos.arena import Arena

Entry = LoggedConnect | LoggedPublish | LoggedDelivery | LoggedRelease


def gather(arena: Arena) -> Evidence:
    """All that was written down in *arena*."""
    evidence = Evidence(strikes=list(arena.strikes), one_store=arena.pair is not None, steady_from=arena.steady_from)
    for name, at in arena.kills:
        evidence.kills[int(name.rpartition("-")[2])].append(at)
    for index in range(arena.stage.publishers):
        _read_publisher(evidence, index, Reader(arena.workers[f"publisher-{index}"].journal))
    for words in Reader(arena.workers[CONSUMER].journal):
        if words[0] == "handled":
            evidence.handled.append(
                Handled(key=(int(words[3]), int(words[4])), broker=int(words[2]), time=float(words[1]))
            )
        elif words[0] == "start":
            evidence.lives.append(float(words[1]))
        elif words[:1] + words[2:3] == ["event", "connection_lost"]:
            evidence.losses.append((CONSUMER, float(words[1])))
    _read_effects(evidence, arena)
    _read_brokers(evidence, arena)
    return evidence


def left_in(outbox: Path) -> int:
    """Rows in the file of a publisher that has ended: messages, and what was moved aside."""
    with contextlib.closing(sqlite3.connect(outbox)) as database:
        tables = ("message", "quarantine")
        return sum(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)  # noqa: S608 - ours


def _entries(arena: Arena) -> Iterator[tuple[int, Entry]]:
    if arena.pair is not None:
        yield from ((entry.broker, entry) for entry in arena.pair.entries())
    for index, broker in enumerate(arena.mosquittos):
        yield from ((index, entry) for entry in broker.entries())


def _read_publisher(evidence: Evidence, index: int, reader: Reader) -> None:
    for words in reader:
        if words[0] == "stored":
            for number in from_ranges(words[2]):
                evidence.stored[index, number] = float(words[1])
        elif words[0] == "acked":
            for number in from_ranges(words[2]):
                evidence.acked[index, number].append(float(words[1]))
        elif words[0] == "ended":
            evidence.ended[index, int(words[2])] = float(words[1]), words[3]
        elif words[:1] + words[2:3] == ["event", "connection_lost"]:
            evidence.losses.append((f"publisher-{index}", float(words[1])))


def _read_effects(evidence: Evidence, arena: Arena) -> None:
    evidence.exactly_once = frozenset(range(0, arena.stage.publishers, 2))
    with contextlib.closing(sqlite3.connect(arena.database)) as database:
        evidence.effects = Counter(number_of(topic) for (topic,) in database.execute("SELECT topic FROM effect"))


def _read_brokers(evidence: Evidence, arena: Arena) -> None:
    sessions: defaultdict[tuple[str, int], int] = defaultdict(int)  # of each client at each broker, counted
    connects: defaultdict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    on_its_way: dict[tuple[int, str, int], int] = {}  # the last delivery with this packet id
    entries = list(_entries(arena))
    for broker, entry in entries:
        if isinstance(entry, LoggedConnect):
            connects[entry.client_id, broker][entry.connection] = entry.time
    begun = {place: _begun(logged, _usable(arena, *place)) for place, logged in connects.items()}
    for broker, entry in entries:
        if isinstance(entry, LoggedConnect):
            sessions[entry.client_id, broker] += not entry.session_present
        elif isinstance(entry, LoggedPublish):
            evidence.arrivals.append(
                Arrival(
                    key=number_of(entry.topic),
                    broker=broker,
                    connection=entry.connection,
                    session=sessions[entry.client_id, broker],
                    time=entry.time,
                    packet_id=entry.packet_id,
                    begun=begun.get((entry.client_id, broker), {}).get(entry.connection, 0.0),
                )
            )
        elif isinstance(entry, LoggedDelivery):
            on_its_way[broker, entry.client_id, entry.packet_id] = len(evidence.delivered)
            evidence.delivered.append(
                Delivered(key=number_of(entry.topic), broker=broker, connection=entry.connection, time=entry.time)
            )
        elif (index := on_its_way.get((broker, entry.client_id, entry.packet_id))) is not None:
            evidence.delivered[index] = evolve(evidence.delivered[index], released=True)


WITHIN = 1.5
"""Seconds after the whole second of a broker's log in which the client notes the same connection as usable."""


def _usable(arena: Arena, client_id: str, broker: int) -> list[float]:
    """When the publisher *client_id* noted connections to *broker* as usable."""
    name = client_id.removeprefix("chaos-")
    ports = [link.port for link in arena.links.get(name, ()) if arena.ports.index(arena.behind[link]) == broker]
    if name not in arena.workers or not ports:
        return []
    return [
        float(words[1])
        for words in Reader(arena.workers[name].journal)
        if words[:1] + words[2:3] == ["event", "connected"] and any(f":{port} " in " ".join(words) for port in ports)
    ]


def _begun(logged: Mapping[int, float], usable: Sequence[float]) -> dict[int, float]:
    """When each connection of the log was usable, where both sides' notes leave no doubt which are the same.

    *logged* are the broker's by number; *usable* the client's.
    """
    found = {}
    for number, at in logged.items():
        others = [other for each, other in logged.items() if each != number and abs(other - at) <= 2 * WITHIN]
        noted = [time for time in usable if at <= time <= at + WITHIN]
        if not others and len(noted) == 1:
            found[number] = noted[0]
    return found
