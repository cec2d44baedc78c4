"""The hooks of this plugin: what they look up, what they remember, and what they answer. Blocks for one look-up each."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field
from switchgear.cause import Cause
from switchgear.hookspecs import Move, Proceed, Recheck, hookimpl

from switchgear_iot_dns import uri
from switchgear_iot_dns.lookup import look
from switchgear_iot_dns.options import Settings
from switchgear_iot_dns.options import read as read_options
from switchgear_iot_dns.settle import Answer, Kind, Loss, Settling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.endpoint import Endpoint, Group
    from switchgear.hookspecs import Context, Verdict

AWAY: Final = frozenset(
    {
        Cause.ADMINISTRATIVE,
        Cause.SHUTTING_DOWN,
        Cause.SESSION_TAKEN_OVER,
        Cause.USE_ANOTHER_SERVER,
        Cause.SERVER_MOVED,
    }
)
"""Endings on purpose. Who was taken over does not fight back at once: two clients with one id would never end it."""

SHARE: Final = 0.6
"""Share of ``hook_timeout`` that a look-up takes at most; the rest is for a thread to be free."""

SLOWEST: Final = 15.0
"""Seconds between two look-ups in a long outage, at most. The new region is found that much later."""

GROWTH: Final = 0.05
"""Share of the outage by which the time between two look-ups grows: a fleet must not ask the name server for ever."""

FRESH: Final = 20.0
"""Seconds for which a decision holds. An attempt follows sooner, or the name is asked again before it; see `SLOWEST`."""

_rng = random.Random()


@define
class Memory:
    """What is remembered of one name, from hook to hook of one transport."""

    settings: Settings
    given: set[str] = field(factory=set)
    """Addresses that we gave; another one is the user's own, and stays."""
    is_known: bool = True
    """Whether the last connection's target is known."""
    decided: str = ""
    """Where the next attempt goes; empty: to be looked up."""
    decided_at: float = 0.0
    settling: Settling | None = None
    failed: set[str] = field(factory=set)
    """Targets that did not take us in this outage."""
    fresh: str = ""
    """The target for which back-off started afresh; once, for asking again must not draw another slot."""
    watched: int = 0
    """Generation of the connection that is watched."""
    row: int = 0
    """Answers in a row, while it is watched, that name another target."""
    supposed: str = ""
    """The target of a connection to which the driver found the way when we could not: the first that was named then."""
    moves_at: float | None = None
    """When a move begins that was decided on."""
    wanted: str = ""
    """What the answers in that row name."""
    moving_to: str = ""
    """Where a move that has begun is to lead."""


@hookimpl
def check_options(options: Mapping[str, object]) -> None:
    """Refuse what no option of this plugin is, or can be; see `Settings`.

    Raises:
        InvalidOption: a name is unknown, or a value impossible.

    Since: 0.1.
    """
    read_options(options)


@hookimpl
def provide_endpoints(where: str, options: Mapping[str, object]) -> list[Group] | None:
    """The group behind an ``iot+dns://`` URI; None for any other.

    Raises:
        InvalidURI: the URI is wrong.
        InvalidOption: an option of the URI, or of the plugin, is wrong.

    Since: 0.1.
    """
    found = uri.read(where, options)
    return None if found is None else [uri.group(found[0])]


@hookimpl
def select_endpoint(context: Context) -> Endpoint | None:
    """The best candidate, dialled at the target that was decided on, or that its name has now. Since: 0.1."""
    if not context.candidates:
        return None
    best = context.candidates[0]
    memory = _memory(context, best)
    if memory is None:
        return None
    target, memory.decided = memory.decided, ""
    if not target or context.now - memory.decided_at > FRESH:
        target = _look(context, best, memory).target or memory.moving_to
    memory.moving_to = ""
    memory.is_known, memory.supposed = bool(target or best.address), ""
    if not target:
        return None  # the driver asks for itself, and says what it met
    address = None if target == uri.canonical(best.host) else target
    if address == best.address:
        return None
    if address is not None:
        memory.given.add(address)
    return evolve(best, address=address)


@hookimpl
def before_reconnect(context: Context) -> Verdict | None:
    """Go on as soon as it is settled where the name leads, see `Settling`; until then look again. Since: 0.1."""
    endpoint = context.endpoint
    memory = None if endpoint is None else _memory(context, endpoint)
    if endpoint is None or memory is None:
        return None
    settings = memory.settings
    if context.sweep == 0 and memory.settling is None:
        memory.failed.clear()
        memory.fresh = ""
    used = _used(endpoint, memory)
    if context.sweep > 0 and used:
        memory.failed.add(used)
    if memory.settling is None:
        began = context.now - (context.outage if context.sweep == 0 else 0.0)
        memory.settling = Settling(settings, _loss(context), used, began)
    decision = memory.settling.hear(_look(context, endpoint, memory), context.now)
    if not decision.goes:
        return Recheck(_soon(settings), decision.why)
    memory.settling = None
    memory.decided, memory.decided_at = decision.target, context.now
    is_new = context.sweep > 0 and decision.target not in {"", used, memory.fresh, *memory.failed}
    if is_new:
        memory.fresh = decision.target
    slower = min(SLOWEST, GROWTH * context.outage)
    again = max(settings.poll, slower) * _rng.uniform(0.9, 1.1)
    return Proceed(decision.why, ask_again=again, starts_afresh=is_new)


@hookimpl
def while_connected(context: Context) -> Recheck | Move | None:
    """With ``watch`` set: look where the name leads, and move when ``answers`` in a row name another target.

    Without it, look only where the driver found the way and we could not, until something is known that a switch can be
    told by.

    Since: 0.1.
    """
    endpoint = context.endpoint
    memory = None if endpoint is None else _memory(context, endpoint)
    if endpoint is None or memory is None:
        return None
    settings, memory.settling, memory.decided, memory.moving_to = memory.settings, None, "", ""
    used = _used(endpoint, memory)
    if not used:
        answer = _look(context, endpoint, memory)
        if answer.kind is not Kind.TARGET:
            return Recheck(
                SLOWEST * _rng.uniform(0.5, 1.0), f"where the name led us: {answer}; asked until it is known"
            )
        used = memory.supposed = answer.target
    if not settings.watch:
        return None
    if memory.watched != context.generation:  # it is usable since now: the name was asked a moment ago
        memory.watched, memory.row, memory.moves_at = context.generation, 0, None
        return Recheck(_pause(settings), f"where the name leads, every {settings.watch:g} s")
    answer = _look(context, endpoint, memory)
    if answer.kind is Kind.UNKNOWN and memory.row:
        return Recheck(_soon(settings), f"where the name leads: {answer}; that does not count")
    if answer.kind is not Kind.TARGET:
        memory.row, memory.moves_at = 0, None
        return Recheck(_pause(settings), f"where the name leads: {answer}; that is no switch")
    if answer.target == used:
        memory.row, memory.moves_at = 0, None
        return Recheck(_pause(settings), f"the name leads to {used}, where we are")
    if answer.target != memory.wanted:
        memory.row, memory.moves_at, memory.wanted = 0, None, answer.target
    memory.row = min(memory.row + 1, settings.answers)
    seen = f"the name leads to {answer.target} now, not to {used}: {memory.row} of {settings.answers} answers"
    if memory.row < settings.answers:
        return Recheck(_soon(settings), seen)
    if memory.moves_at is None:
        memory.moves_at = context.now + _rng.uniform(0, settings.window)
    left = min(memory.moves_at - context.now, settings.window)  # a clock may jump
    if left > 0:  # the window is waited for here, so that the name is asked once more before the move
        return Recheck(left, f"{seen}; moving in {left:.1f} s")
    memory.moving_to = answer.target
    return Move(seen, window=0, drain=settings.drain)


def _memory(context: Context, endpoint: Endpoint) -> Memory | None:
    """What is remembered of the name of *endpoint*; None when it is an address, or the user has pinned one."""
    memory = context.notes.get(endpoint.authority)
    if not isinstance(memory, Memory):
        memory = context.notes[endpoint.authority] = Memory(_settings(context, endpoint))
    if endpoint.address is not None and endpoint.address not in memory.given:
        return None
    return memory if uri.is_name(endpoint.host) else None


def _settings(context: Context, endpoint: Endpoint) -> Settings:
    """What its URI says, and else what the plugin's options say."""
    for where in context.profile.where if context.profile is not None else ():
        found = uri.read(where, context.options) if isinstance(where, str) else None
        if found is not None and found[0].authority == endpoint.authority:
            return found[1]
    return read_options(context.options)


def _used(endpoint: Endpoint, memory: Memory) -> str:
    """The target that *endpoint* was dialled at; empty: not known."""
    return uri.canonical(endpoint.address or endpoint.host) if memory.is_known else memory.supposed


def _loss(context: Context) -> Loss:
    """What is known of why there is no connection.

    An MQTT 3.1.1 broker has no DISCONNECT: when AWS IoT ends a connection on purpose, all that is seen is its end.
    """
    if context.sweep > 0:
        return Loss.DOWN
    failure = context.failure
    if failure is None:
        return Loss.BLIP
    if failure.cause is Cause.CLOSED_BY_BROKER:
        is_5 = context.profile is not None and context.profile.protocol == "5"
        return Loss.CLOSED if is_5 and failure.code is None else Loss.SENT_AWAY
    return Loss.SENT_AWAY if failure.cause in AWAY else Loss.BLIP


def _look(context: Context, endpoint: Endpoint, memory: Memory) -> Answer:
    """Where the name of *endpoint* leads now; well within the time that a hook has."""
    most = SHARE * (context.profile.hook_timeout if context.profile is not None else 5.0)
    return look(endpoint.host, memory.settings.resolver, min(memory.settings.timeout, most))


def _soon(settings: Settings) -> float:
    """Seconds to the next look while something is to be settled."""
    return settings.poll * _rng.uniform(0.9, 1.1)


def _pause(settings: Settings) -> float:
    """Seconds to the next look while connected: jittered, and what confirming it takes is within ``watch``, too."""
    return max(settings.poll, _rng.uniform(0.5, 1.0) * settings.watch - settings.answers * settings.poll)
