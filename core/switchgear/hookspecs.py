"""The whole extension surface: every hook, what it is given and what it may answer. Pure: no I/O.

A plugin is a module or an object with functions marked by `hookimpl`, named as below. It takes only the parameters
that it wants. ``provide_*`` and ``check_options`` run on the thread that builds the transport, and what they raise ends that;
``register_commands`` runs on that of the command line. Every other hook runs on a worker thread of ours, and so does
``provide_endpoints`` when it is asked again: it may block, and is bounded by the transport's ``hook_timeout``; an exception is
logged with the plugin's name and counted, and never skips a back-off and never stops anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy
from attrs import field, frozen

from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    import typer

    from switchgear.cause import Cause, Failure
    from switchgear.drivers.base import Driver, DriverSettings
    from switchgear.endpoint import Endpoint, Group
    from switchgear.health import EndpointHealth
    from switchgear.profile import Profile
    from switchgear.report import Event

PROJECT = "switchgear"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@frozen(kw_only=True)
class Context:
    """What the strategy hooks are told. It grows; signatures do not.

    Attributes:
        now: Seconds on the transport's clock.
        candidates: All endpoints, in the list's order; in ``select_endpoint`` those that may be chosen now, best first.
        health: What is remembered of each candidate, by ``Endpoint.key``.
        endpoint: Where the connection or attempt was; None before the first.
        attempt: Tries since the last usable connection, counted from 1.
        sweep: Rounds since the last usable connection, counted from 1.
        outage: Seconds without a usable connection; 0 while connected.
        failure: How the last connection or attempt ended; None before the first ending.
        generation: Number of the connection or attempt.
        was_connected: In ``on_disconnect``: whether the connection had been usable.
        session_present: In ``on_connected``: whether the broker had our session.
        outbox_depth: Messages accepted and not yet acknowledged.
        client_id: The MQTT client id.
        profile: What the transport was made from; secrets in it are hidden.
        options: The options for this plugin, from the profile or ``plugin_options``.
        notes: What this plugin wants to remember of this transport, from hook to hook; nobody else sees it.
    """

    now: float
    candidates: tuple[Endpoint, ...]
    health: Mapping[str, EndpointHealth]
    endpoint: Endpoint | None
    attempt: int
    sweep: int
    outage: float
    failure: Failure | None
    generation: int
    was_connected: bool = False
    session_present: bool = False
    outbox_depth: int = 0
    client_id: str = ""
    profile: Profile | None = None
    options: Mapping[str, object] = field(factory=dict)
    notes: MutableMapping[str, object] = field(factory=dict)

    @property
    def cause(self) -> Cause | None:
        """Why that was: the cause of ``failure``; None before the first ending."""
        return self.failure.cause if self.failure is not None else None


class Verdict:
    """What ``before_reconnect`` answers; the strictest of all answers wins: GiveUp, Restart, Recheck, Delay, Proceed."""

    __slots__ = ()


@frozen
class Proceed(Verdict):
    """Go on as the back-off policy says.

    ``ask_again``: seconds after which to ask me again when the sweep has not begun by then; its time stays.
    ``starts_afresh``: what failed is not what is there now, so quarantines are lifted, and back-off counts from now.
    """

    why: str = ""
    ask_again: float | None = field(default=None, kw_only=True)
    starts_afresh: bool = field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.ask_again is not None:
            _check_seconds(self.ask_again)


@frozen
class Delay(Verdict):
    """Do not start a sweep before ``seconds`` after the loss. Back-off still applies; the later of the two counts.

    With `switchgear.fleet` the sweep begins at this client's next slot after that, so that a fleet stays spread.
    """

    seconds: float = field()
    why: str = ""

    def __attrs_post_init__(self) -> None:
        _check_seconds(self.seconds)


@frozen
class Recheck(Verdict):
    """Ask me again in ``seconds``; no back-off step is used."""

    seconds: float = field()
    why: str = ""

    def __attrs_post_init__(self) -> None:
        _check_seconds(self.seconds)


RESTARTS: Final = ("rebuild", "process")


@frozen
class Restart(Verdict):
    """Replace the driver before the next sweep, or the whole process.

    ``how`` is ``"rebuild"``: a new driver in this process. Or ``"process"``: every transport of this process is stopped
    in order, what they have accepted is written, and ``then`` is called, on a thread of its own; it ends or replaces the
    process. Where that cannot be done without losing messages (unless ``may_lose``), or ``then`` returns or raises, the
    transports go on, and this one with a new driver.
    """

    how: str = "rebuild"
    why: str = ""
    then: Callable[[], object] | None = field(default=None, kw_only=True)
    may_lose: bool = field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.how not in RESTARTS:
            raise InvalidOption("Restart.how", f"{self.how!r} is unknown", valid=RESTARTS)
        if callable(self.then) != (self.how == "process"):
            raise InvalidOption("Restart.then", f'{self.then!r}: "process" needs a function, "rebuild" takes none')


@frozen
class GiveUp(Verdict):
    """Stop trying; every waiting call ends with the last cause."""

    why: str = ""


@frozen
class Move:
    """What ``while_connected`` answers to have a new connection made in an orderly way.

    It begins at a random moment within ``window`` seconds; then lists of endpoints that change are asked for, new sends
    are held, and what is in flight is awaited for ``drain`` seconds at most. None: as for a fail-back.
    """

    why: str = ""
    window: float | None = field(default=None, kw_only=True)
    drain: float | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for seconds in (self.window, self.drain):
            if seconds is not None:
                _check_seconds(seconds)


def _check_seconds(seconds: float) -> None:
    if not isinstance(seconds, int | float) or not 0 <= seconds <= 86400:
        raise InvalidOption("seconds", f"{seconds!r} is no number of seconds from 0 to 86400 (a day)")


@hookspec(firstresult=True)
def provide_driver(
    name: str, settings: DriverSettings, options: Mapping[str, object]
) -> Driver | Callable[[DriverSettings], Driver] | None:
    """A new driver, or a factory that makes one of its settings, when this plugin provides *name*, else None.

    Called once when a transport is built, and again after each `Restart`. The first answer wins. *options* are those of
    this plugin. Raising ends the building of the transport: a `switchgear.ConfigurationError` as it is, anything else as a
    `PluginError`. Since: 0.1.
    """


@hookspec(firstresult=True)
def provide_endpoints(where: str, options: Mapping[str, object]) -> list[Group] | None:
    """The groups of endpoints behind the URI *where*, when this plugin owns its scheme, else None.

    Called when a transport is built, and again before each sweep and each planned move when a group says that it is
    ``dynamic``. *options* are those of this plugin. Raise `InvalidURI` or `InvalidOption` for a URI that is yours and
    wrong. Since: 0.1.
    """


@hookspec
def select_endpoint(context: Context) -> Endpoint | None:
    """One of ``context.candidates``, or None for no opinion; the first answer wins.

    The answer may have another ``address``: what is dialled in place of the host, while TLS still checks the host. It then
    takes the candidate's place in the list, with a health and a session of its own. Called once before each attempt, and
    with one candidate before a fail-back probes it or a spare is dialled. Any other answer is a plugin error and counts as
    None. Since: 0.1.
    """


@hookspec
def on_connected(context: Context) -> None:
    """The connection is usable: subscriptions are back. Called once for each such connection. Since: 0.1."""


@hookspec
def on_disconnect(context: Context) -> None:
    """A connection or an attempt ended. Called exactly once for each, with its cause. Since: 0.1."""


@hookspec
def before_reconnect(context: Context) -> Verdict | None:
    """Whether and when to go on; None for no opinion; the strictest of all verdicts wins.

    Called before every sweep but the first after start and those that `reconnect()` or a planned move begins, and again
    when `Recheck` or `Proceed` asked for it; always after this plugin's own ``on_disconnect``. Since: 0.1.
    """


@hookspec
def while_connected(context: Context) -> Recheck | Move | None:
    """What a plugin sees while the connection is usable: `Move` to leave it in an orderly way; None: nothing to watch.

    Called when a connection has become usable, after this plugin's own ``on_connected``, and again when its `Recheck`
    asked for it, until the connection ends; each plugin for itself. A call that failed is made again. Since: 0.1.
    """


@hookspec
def on_event(event: Event) -> None:
    """Every decision: state, attempt, delay and why, endpoint and why. Queued for each plugin. Since: 0.1."""


@hookspec
def check_options(options: Mapping[str, object]) -> None:
    """Refuse options that cannot be right, before anything is started.

    Called once for each transport that is built with this plugin, on the thread that builds it, after
    ``provide_endpoints``. *options* are those of this plugin. Raise `InvalidOption` for one that is wrong; what a hook
    finds wrong later can only be logged. Since: 0.1.
    """


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add sub-commands. Called once when the command line starts. Since: 0.1."""
