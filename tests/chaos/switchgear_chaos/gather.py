"""Reads the journals and the brokers' logs of an arena into `Evidence`. Reads files only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from switchgear.testing.processes import LoggedConnect, LoggedDelivery, LoggedPublish

from switchgear_chaos.evidence import Arrival, Delivered, Evidence, Handled
from switchgear_chaos.journal import Reader, from_ranges, number_of
from switchgear_chaos.plan import CONSUMER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear_chaos.arena import Arena

Entry = LoggedConnect | LoggedPublish | LoggedDelivery


def gather(arena: Arena) -> Evidence:
    """All that was written down in *arena*."""
    evidence = Evidence(strikes=list(arena.strikes), one_store=arena.pair is not None)
    for name, at in arena.kills:
        evidence.kills[int(name.rpartition("-")[2])].append(at)
    for index in range(arena.stage.publishers):
        _read_publisher(evidence, index, Reader(arena.workers[f"publisher-{index}"].journal))
    for words in Reader(arena.workers[CONSUMER].journal):
        if words[0] == "handled":
            evidence.handled.append(
                Handled(key=(int(words[3]), int(words[4])), broker=int(words[2]), time=float(words[1]))
            )
        elif words[:1] + words[2:3] == ["event", "connection_lost"]:
            evidence.losses.append((CONSUMER, float(words[1])))
    _read_effects(evidence, arena)
    _read_brokers(evidence, arena)
    return evidence


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
            evidence.ended[index, int(words[2])] = words[3]
        elif words[:1] + words[2:3] == ["event", "connection_lost"]:
            evidence.losses.append((f"publisher-{index}", float(words[1])))


def _read_effects(evidence: Evidence, arena: Arena) -> None:
    evidence.exactly_once = frozenset(range(0, arena.stage.publishers, 2))
    with contextlib.closing(sqlite3.connect(arena.database)) as database:
        evidence.effects = Counter(number_of(topic) for (topic,) in database.execute("SELECT topic FROM effect"))


def _read_brokers(evidence: Evidence, arena: Arena) -> None:
    sessions: defaultdict[tuple[str, int], int] = defaultdict(int)  # of each client at each broker, counted
    for broker, entry in _entries(arena):
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
                )
            )
        else:
            evidence.delivered.append(
                Delivered(key=number_of(entry.topic), broker=broker, connection=entry.connection, time=entry.time)
            )
