"""A reading of a ``failover:`` URI as a group of endpoints, and what becomes of each option. Pure: no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen
from switchgear.backoff import FAR, GiveUpAfter, Listed
from switchgear.endpoint import Group, SessionKind
from switchgear.errors import InvalidOption, InvalidURI, redact
from switchgear.failback import Failback

from switchgear_activemq.component import place, spot
from switchgear_activemq.options import OPTIONS, Value
from switchgear_activemq.topics import check_topic
from switchgear_activemq.uri import Leaf, Note, Reading, leaves

if TYPE_CHECKING:
    from switchgear.endpoint import Endpoint

    from switchgear_activemq.component import Place

DELAYS: Final = (
    "initialReconnectDelay",
    "maxReconnectDelay",
    "useExponentialBackOff",
    "reconnectDelayExponent",
    "reconnectDelay",
)
"""The options that replace the transport's back-off policy where one of them is written."""

SHORTEST_DELAY: Final = 10
"""Milliseconds, ActiveMQ's own default for the first delay. With less, or none, a refusing port would be a busy loop."""

_PUSH: Final = "brokers send lists of other brokers over OpenWire only; MQTT has no such message"
IGNORED: Final = {
    "timeout": "it bounds how long a JMS send may block; publish() does not block, and wait(timeout) on its Delivery does",
    "trackMessages": "the outbox keeps every message until a broker has acknowledged it, which is what this asks for",
    "maxCacheSize": "it bounds the cache of trackMessages; the outbox has its own limits (outbox_limits)",
    "trackTransactionProducers": "MQTT has no transactions",
    "warnAfterReconnectAttempts": "an outage logs a bounded number of lines, however long it lasts",
    "updateURIsSupported": _PUSH,
    "rebalanceUpdateURIs": _PUSH,
    "reconnectSupported": "brokers ask clients to move over OpenWire only; MQTT 3.1.1 has no such message",
    "backupPoolSize": "one warm connection is kept with backup=true",
    "nestedExtraQueryOptions": "ActiveMQ overwrites it; write nested.NAME=VALUE",
}
"""Options that change nothing here, with the reason. They belong to JMS, to OpenWire or to another option."""


@frozen
class Decision:
    """What becomes of one option.

    Attributes:
        option: ActiveMQ's name.
        value: As ActiveMQ reads it; milliseconds for delays.
        is_written: Whether the URI writes it; else the value is ActiveMQ's default.
        is_honoured: Whether it has an effect here.
        what: The effect, or why there is none.
    """

    option: str
    value: Value = field(repr=lambda value: repr(redact(str(value))))
    is_written: bool
    is_honoured: bool
    what: str


@frozen
class Plan:
    """The group, what became of each option, and what may surprise."""

    group: Group
    decisions: tuple[Decision, ...]
    notes: tuple[Note, ...]


def plan(reading: Reading, *, checks_topics: bool = True) -> Plan:
    """The group that *reading* describes; with *checks_topics* it refuses topics that ActiveMQ would change.

    Raises:
        InvalidURI: it is no ``failover:`` URI, lists no endpoint, or one of them is wrong.
        InvalidOption: an option cannot be honoured, of the list or of a component.

    Since: 0.1.
    """
    if reading.scheme.lower() != "failover":
        raise InvalidURI(redact(reading.uri), "it does not start with failover:")
    options = reading.options
    notes = list(reading.warnings)
    found, passed_over = leaves(reading)
    notes.extend(passed_over)
    places = _distinct([place(leaf) for leaf in found], notes)
    if not places:
        raise InvalidURI(redact(reading.uri), "it lists no endpoint; write failover:(ssl://host:8883,ssl://other:8883)")
    preferred = _preferred(reading, places, notes)
    limit, startup = _limits(reading)
    group = Group(
        [_ranked(p, preferred) for p in places],
        SessionKind.SHARED,
        randomize=bool(options["randomize"]),
        backoff=_backoff(reading, notes),
        give_up_after=limit,
        startup_give_up_after=startup,
        protocol="3.1.1",
        failback=Failback() if options["priorityBackup"] else None,
        spare=bool(options["backup"]),
        dynamic=bool(options["updateURIsURL"]),
        check_topic=check_topic if checks_topics else None,
    )
    decisions = tuple(_decision(reading, name, group) for name in OPTIONS)
    notes.extend(
        Note(d.option, d.what)
        for d in decisions
        if d.is_written and not d.is_honoured and d.value != OPTIONS[d.option].default
    )
    return Plan(group, decisions, tuple(notes))


def _distinct(places: list[Place], notes: list[Note]) -> list[Place]:
    """*places* without those that repeat a host and port. ActiveMQ also drops what resolves to the same address."""
    kept: dict[tuple[str, int], Place] = {}
    for candidate in places:
        first = kept.setdefault(spot(candidate.endpoint), candidate)
        notes.extend(candidate.notes)
        if first is not candidate:
            why = (
                f"{candidate.endpoint} repeats the host and port of {first.endpoint} and is left out, as ActiveMQ does"
            )
            notes.append(Note("component", why, is_option=False))
    return list(kept.values())


def _preferred(reading: Reading, places: list[Place], notes: list[Note]) -> set[tuple[str, int]] | None:
    """Host and port of the endpoints that ``priorityBackup`` prefers; None where it is off.

    ActiveMQ prefers those of ``priorityURIs``, else the first of the list.
    """
    named = reading.options["priorityURIs"]
    if not reading.options["priorityBackup"]:
        return None
    if not isinstance(named, tuple) or not named:
        return {spot(places[0].endpoint)}
    spots = {spot(place(Leaf(uri.partition("?")[0], {})).endpoint): uri for uri in named}
    listed = {spot(p.endpoint) for p in places}
    notes.extend(
        Note("priorityURIs", f"{redact(uri)} is not in the list and is not used")
        for at, uri in spots.items()
        if at not in listed
    )
    return set(spots)


def _ranked(candidate: Place, preferred: set[tuple[str, int]] | None) -> Endpoint:
    if preferred is None or candidate.has_priority:
        return candidate.endpoint
    return evolve(candidate.endpoint, priority=0 if spot(candidate.endpoint) in preferred else 1)


def _backoff(reading: Reading, notes: list[Note]) -> Listed | None:
    """ActiveMQ's delays, in seconds, when the URI writes one of `DELAYS`, else None.

    ``initialReconnectDelay`` is ActiveMQ's wait before the first sweep, ``reconnectDelay`` the one from which it grows;
    ours grows from the first, for which the former stands when both are written.
    """
    written = reading.written.intersection(DELAYS)
    if not written:
        return None
    multiplier = _number(reading, "reconnectDelayExponent")
    if not math.isfinite(multiplier) or multiplier < 1:
        raise InvalidOption(
            "reconnectDelayExponent",
            f"{multiplier:g} would make the delays shrink while the outage lasts; use 1 or more",
        )
    first = (
        "initialReconnectDelay"
        if "initialReconnectDelay" in written or "reconnectDelay" not in written
        else "reconnectDelay"
    )
    if {"initialReconnectDelay", "reconnectDelay"} <= written:
        notes.append(Note("reconnectDelay", "initialReconnectDelay is written too, and is where the delays grow from"))
    initial = _delay(reading, first, notes)
    cap = _delay(reading, "maxReconnectDelay", notes)
    if not reading.options["useExponentialBackOff"]:
        return Listed(initial=initial, cap=initial, multiplier=1.0)
    return Listed(initial=initial, cap=cap, multiplier=multiplier)


def _delay(reading: Reading, name: str, notes: list[Note]) -> float:
    value = _number(reading, name)
    if value < SHORTEST_DELAY:
        notes.append(
            Note(name, f"{value:g} ms would make a busy loop at a refusing port; {SHORTEST_DELAY} ms are used")
        )
    return min(FAR, max(SHORTEST_DELAY, value) / 1000)


def _number(reading: Reading, name: str) -> float:
    value = reading.options[name]
    return float(value) if isinstance(value, int | float) else math.nan


def _limits(reading: Reading) -> tuple[GiveUpAfter | None, GiveUpAfter | None]:
    """The limits after a loss, and while nothing ever worked; None where the URI writes none.

    ActiveMQ counts sweeps: it stops when ``failures >= limit`` after one, unless the limit is -1. So a negative limit
    other than -1 stops after one sweep. 0 is asked for at a loss, before any sweep: the first sweep does not happen.
    Before the first connection 0 still allows one sweep, for the question comes after it. ``startupMaxReconnectAttempts``
    of -1 stands for ``maxReconnectAttempts``.
    """
    most, at_start = int(_number(reading, "maxReconnectAttempts")), int(_number(reading, "startupMaxReconnectAttempts"))
    limit = _limit(most, least=0) if "maxReconnectAttempts" in reading.written else None
    if at_start != -1:
        return limit, _limit(at_start, least=1)
    return limit, _limit(most, least=1) if limit is not None else None


def _limit(most: int, *, least: int) -> GiveUpAfter:
    if most == -1:
        return GiveUpAfter()
    return GiveUpAfter(sweeps=max(least, most) if most >= 0 else 1)


def _decision(reading: Reading, name: str, group: Group) -> Decision:
    value = reading.options[name]
    is_written = name in reading.written
    honoured = True
    if name in IGNORED:
        honoured, what = False, IGNORED[name]
    elif name == "backup":
        what = "a warm connection to the next endpoint is kept" if value else "no warm connection is kept"
    elif name == "updateURIsURL":
        what = "the list there replaces this one; read before each sweep" if value else "the list is as written"
    elif name == "randomize":
        what = "endpoints are shuffled for each sweep" if value else "endpoints are tried in the listed order"
    elif name in DELAYS:
        what = _about_delays(group.backoff)
    elif name == "maxReconnectAttempts":
        what = _about_limit(group.give_up_after, "after a loss")
    elif name == "startupMaxReconnectAttempts":
        what = _about_limit(group.startup_give_up_after, "before the first connection")
    elif name == "priorityBackup":
        what = "preferred endpoints are tried first, and gone back to" if value else "no endpoint is preferred"
    elif reading.options["priorityBackup"]:
        what = "these are preferred" if value else "the first of the list is preferred"
    else:
        honoured, what = False, "without priorityBackup=true nothing is preferred"
    return Decision(name, value, is_written, honoured, what)


def _about_delays(backoff: object) -> str:
    if not isinstance(backoff, Listed):
        return "no delay is written: the transport's back-off counts"
    longest = min(backoff.initial, backoff.cap)
    if backoff.multiplier == 1 or backoff.initial >= backoff.cap:
        return f"each delay is {longest / 2:g} to {longest:g} s"
    return f"delays grow from {backoff.initial:g} s by {backoff.multiplier:g} to {backoff.cap:g} s; half to all of each is waited"


def _about_limit(limit: GiveUpAfter | None, when: str) -> str:
    if limit is None:
        return f"not written: the transport's limit {when} counts"
    if limit.sweeps is None:
        return f"{when} it never gives up"
    if limit.sweeps == 0:
        return f"{when} it does not try again"
    return f"{when} it gives up when {limit.sweeps} sweep{'s' if limit.sweeps > 1 else ''} of the list failed"
