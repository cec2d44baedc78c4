"""Everything that `switchgear.connect` takes, checked: `Profile`. Pure but for `Profile.load`, which reads one file.

Each option is refused here or never: past this class a wrong type or an impossible value is our bug.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import Attribute, evolve, field, fields, frozen

from switchgear import checks
from switchgear.backoff import Backoff, GiveUpAfter, exponential
from switchgear.endpoint import Endpoint, Group, SessionKind, session_kind
from switchgear.envelope import Envelope, as_envelope
from switchgear.errors import InvalidOption, InvalidTopic, redact
from switchgear.failback import Failback
from switchgear.message import Message, Will, check_topic
from switchgear.secrets import Secret, check_secret, taken_as_secret
from switchgear.tls import TLS
from switchgear.window import Window

if TYPE_CHECKING:
    from switchgear.report import Event

Place = str | Endpoint | Group
WhenFull = Literal["block", "raise", "drop_oldest", "drop_newest"]
Durability = Literal["full", "normal"]
DrainOrder = Literal["oldest", "newest"]
Protocol = Literal["3.1.1", "5"]
LARGEST_PACKET = 268_435_460
"""Bytes: 268 435 455 and the fixed header of 5 (MQTT 5, 2.1.4)."""


class _Single(tuple[Place, ...]):
    """The one place of a profile that was given no list; it survives ``evolve``."""

    __slots__ = ()


def _places(value: Place | Sequence[Place]) -> tuple[Place, ...]:
    if isinstance(value, str | Endpoint | Group):
        return _Single((value,))
    if isinstance(value, list) or type(value) is tuple:
        return tuple(value)
    return value  # type: ignore[return-value]  # a _Single, or wrong: the validator says so


def _check_places(_: object, attribute: Attribute[Any], value: object) -> None:
    valid = "URI, Endpoint, Group, or list of them"
    if not isinstance(value, tuple):
        raise checks.refuse(attribute.name, value, valid)
    if not value:
        raise InvalidOption(attribute.name, f"the list is empty; give at least one {valid}")
    for place in value:
        if not isinstance(place, str | Endpoint | Group):
            raise checks.refuse(attribute.name, place, valid)
        if isinstance(place, str) and not place.strip():
            raise InvalidOption(attribute.name, "the URI is empty; write it as scheme://host:port")


def _show_places(value: tuple[Place, ...]) -> str:
    shown = ", ".join(repr(redact(p)) if isinstance(p, str) else repr(p) for p in value)
    return shown if isinstance(value, _Single) else f"[{shown}]"


def _check_secret(_: object, attribute: Attribute[Any], value: object) -> None:
    check_secret(attribute.name, value)


def _session(value: SessionKind | Literal["shared", "hunt", "clean"] | None) -> SessionKind | None:
    return None if value is None else session_kind(value)


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_path(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value or "\0" in value):
        raise InvalidOption(attribute.name, f"{checks.show(value)} is no path; None keeps messages in memory")


def _check_envelope(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (isinstance(value, type) or not isinstance(value, Envelope)):
        raise InvalidOption(
            attribute.name, f"{checks.show(value)} is neither 'line' nor an object that wraps and unwraps"
        )


def _check_deduplicate(_: object, attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, bool | Window) or (checks.is_whole(value) and value > 0):  # type: ignore[operator]  # an int
        return
    if not isinstance(value, str) or not value or "\0" in value:
        why = f"{checks.show(value)} is neither True, a number of message ids, the path of a file, nor a Window"
        raise InvalidOption(attribute.name, why)


def _check_reply_topic(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None:
        try:
            check_topic(value)  # type: ignore[arg-type]  # it says what is wrong with other types too
        except InvalidTopic as error:
            raise InvalidOption(attribute.name, f"{checks.show(value)}: {error.why}") from None


def _check_will(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Will):
        raise InvalidOption(attribute.name, f"{checks.show(value)} is neither a Will nor None")
    if not isinstance(value.retain, bool):
        raise InvalidOption("will.retain", f"{checks.show(value.retain)} is neither True nor False")
    if not checks.is_whole(value.delay) or not 0 <= value.delay <= 2**32 - 1:
        raise checks.refuse("will.delay", value.delay, "whole number of seconds from 0 to 4294967295")
    if len(value.payload) > 65535:  # MQTT 5, 3.1.3.4: binary data
        raise InvalidOption("will.payload", f"it has {len(value.payload)} bytes; MQTT takes at most 65535 in a will")


def _check_backoff(_: object, attribute: Attribute[Any], value: object) -> None:
    if not callable(getattr(value, "next_sweep", None)) or isinstance(value, type):
        why = f"{checks.show(value)} is no policy; use switchgear.exponential() or switchgear.fleet()"
        raise InvalidOption(attribute.name, why)


def _check_failback(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and value is not False and not isinstance(value, Failback):
        raise InvalidOption(attribute.name, f"{checks.show(value)} is none of a Failback, False, None")


def _names(value: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else value  # type: ignore[return-value]  # wrong: the validator says so


def _as_version(value: Literal["3.1.1", "5", 5] | None) -> Protocol | None:
    return "5" if isinstance(value, int) and value == 5 else value


def _check_plugins(_: object, attribute: Attribute[Any], value: object) -> None:
    valid = "list of plugin names or plugin objects"
    if not isinstance(value, tuple):
        raise checks.refuse(attribute.name, value, valid)
    for plugin in value:
        if plugin is None or plugin == "" or isinstance(plugin, bool | int | float | bytes | list | dict | tuple | set):
            raise InvalidOption(attribute.name, f"{checks.show(plugin)} is no plugin; give a {valid}")


def _check_names(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(name, str) and name for name in value):
        raise checks.refuse(attribute.name, value, "list of names")


def _copied(value: Mapping[str, Mapping[str, object]]) -> Mapping[str, Mapping[str, object]]:
    if not isinstance(value, Mapping) or not all(isinstance(options, Mapping) for options in value.values()):
        return value  # wrong: the validator says so
    return {name: dict(options) for name, options in value.items()}


def _check_plugin_options(_: object, attribute: Attribute[Any], value: object) -> None:
    valid = "mapping of plugin names to mappings of options"
    if not isinstance(value, Mapping):
        raise InvalidOption(attribute.name, f"a value of type {type(value).__name__} is not a {valid}")
    for plugin, options in value.items():
        if not isinstance(plugin, str) or not isinstance(options, Mapping):
            raise InvalidOption(attribute.name, f"what stands at {checks.show(plugin)} is not a {valid}")
        if not all(isinstance(name, str) for name in options):
            raise InvalidOption(f"{attribute.name}.{plugin}", "the name of an option must be a text")


def _show_plugin_options(value: Mapping[str, Mapping[str, object]]) -> str:
    return "{" + ", ".join(f"{plugin!r}: {{{', '.join(options)}}}" for plugin, options in value.items()) + "}"


@frozen(kw_only=True)
class OutboxLimits:
    """How much may wait, and what happens to more.

    Attributes:
        max_messages: Messages accepted and not yet acknowledged.
        max_bytes: Bytes of their payloads and topics.
        when_full: ``"block"`` waits (``aio`` raises), ``"raise"`` raises `OutboxFull`, ``"drop_oldest"`` and
            ``"drop_newest"`` end a message as `Dropped`.
    """

    max_messages: int = field(default=1_000_000, validator=checks.whole(1))
    max_bytes: int = field(default=256 * 2**20, validator=checks.whole(1))
    when_full: WhenFull = field(
        default="block", validator=checks.one_of("block", "raise", "drop_oldest", "drop_newest")
    )


@frozen
class Profile:
    """Everything that `switchgear.connect` takes. Secrets and credentials in URIs never show in ``repr``.

    Attributes:
        where: URIs, endpoints and groups, at least one; texts are read when a transport is built.
        client_id: None: a random one, whose session ends when the transport is closed.
        username: None: none, unless the URI has one.
        password: A `Secret`; text, bytes and callables are made one.
        driver: Name of the driver.
        protocol: MQTT version; None: the group's, else ``"3.1.1"``, or ``"5"`` with a driver that speaks nothing else.
        tls: For encrypted endpoints; None: the system's CAs.
        keepalive: Seconds; 0 switches it off.
        connect_timeout: Seconds for each step of an attempt.
        session: What the brokers share; None: a list is ``hunt``, a single URI ``shared`` when a client id is given, else
            ``clean``; plugins say it for their schemes, and may say ``hunt`` for a single URI.
        session_expiry: Seconds that the broker keeps the session after a loss.
        will: What the broker publishes when we vanish.
        outbox: Path of a durable outbox; None: in memory.
        outbox_limits: How much may wait.
        durability: What a durable outbox survives: ``"full"`` the loss of power, ``"normal"`` the death of the process.
        backoff: When the next sweep may start.
        give_up_after: None: never.
        startup_give_up_after: The same while no connection ever succeeded; None: as ``give_up_after``.
        give_up_on_fatal: Whether to stop when every endpoint has failed fatally.
        plugins: Names, or plugin objects, whose strategy hooks run, in this order.
        disable_plugins: Names whose strategy hooks must not run here: to name one, or use its scheme, is `UnknownPlugin`.
        plugin_options: Options by plugin name.
        hook_timeout: Seconds that a hook may take.
        failback: How to return to endpoints of a better priority; None: with `Failback`'s defaults where priorities
            differ, else not at all; False: never.
        spare: Whether a warm connection (dialled, no MQTT) to the next endpoint is kept.
        follow_redirects: Whether MQTT 5 server references (reasons 0x9C and 0x9D) are obeyed.
        stable_after: Seconds until a connection counts as stable.
        dial_ahead_after: Seconds before the next endpoint is dialled beside a slow one.
        max_in_flight: QoS 1 and 2 messages sent and not yet acknowledged.
        ack_timeout: Seconds after which an overdue acknowledgement sends our own PINGREQ; None: never.
        drain_rate: Messages a second after a reconnect; None: as fast as the broker takes them.
        drain_bytes: Bytes of payload and topic a second after a reconnect; None: no limit.
        drain_order: Whether the oldest or the newest waiting message is sent first.
        inbox_limit: QoS 0 messages that wait in each subscription before the oldest is dropped.
        handler_retries: How often a handler that raised is called again.
        dead_letter: Called with a message whose handler failed for good.
        message_id: Whether each message carries an id: as an MQTT 5 user property, or in the *envelope*.
        envelope: How ids travel inside payloads, both ways, where there are no user properties: ``"line"`` or an
            `Envelope` of your own; None: they do not.
        deduplicate: Whether a message whose id was handled already is acknowledged without being handled again: True,
            the number of ids to remember, the path of a file that remembers them, or a `Window`.
        reply_topic: Where replies to our requests go; None: ``replies/CLIENT_ID``. It belongs to this client alone.
        receive_maximum: QoS 1 and 2 messages that we take before acknowledging.
        max_packet_size: Bytes; None: MQTT's own limit.
        on_event: Called with every `Event`, in order, on a worker thread.

    Raises:
        InvalidOption: a value has the wrong type or is impossible.

    Since: 0.1.
    """

    where: tuple[Place, ...] = field(converter=_places, validator=_check_places, repr=_show_places)
    client_id: str | None = field(kw_only=True, default=None, validator=checks.text())
    username: str | None = field(kw_only=True, default=None, validator=checks.text())
    password: Secret | None = field(kw_only=True, default=None, converter=taken_as_secret, validator=_check_secret)
    driver: str = field(kw_only=True, default="paho", validator=checks.text(optional=False))
    protocol: Protocol | None = field(
        kw_only=True, default=None, converter=_as_version, validator=checks.one_of("3.1.1", "5", optional=True)
    )
    tls: TLS | None = field(kw_only=True, default=None, validator=checks.kind(TLS))
    keepalive: int = field(kw_only=True, default=30, validator=checks.whole(0, 65535))
    connect_timeout: float = field(kw_only=True, default=5.0, validator=checks.seconds(most=3600))
    session: SessionKind | None = field(kw_only=True, default=None, converter=_session)
    session_expiry: int = field(kw_only=True, default=3600, validator=checks.whole(0, 2**32 - 1))
    will: Will | None = field(kw_only=True, default=None, validator=_check_will)
    outbox: str | None = field(kw_only=True, default=None, converter=_path, validator=_check_path)
    outbox_limits: OutboxLimits = field(
        kw_only=True, factory=OutboxLimits, validator=checks.kind(OutboxLimits, optional=False)
    )
    durability: Durability = field(kw_only=True, default="full", validator=checks.one_of("full", "normal"))
    backoff: Backoff = field(kw_only=True, factory=exponential, validator=_check_backoff)
    give_up_after: GiveUpAfter | None = field(kw_only=True, default=None, validator=checks.kind(GiveUpAfter))
    startup_give_up_after: GiveUpAfter | None = field(kw_only=True, default=None, validator=checks.kind(GiveUpAfter))
    give_up_on_fatal: bool = field(kw_only=True, default=False, validator=checks.flag)
    plugins: tuple[object, ...] = field(kw_only=True, default=(), converter=_names, validator=_check_plugins)
    disable_plugins: tuple[str, ...] = field(kw_only=True, default=(), converter=_names, validator=_check_names)
    plugin_options: Mapping[str, Mapping[str, object]] = field(
        kw_only=True,
        factory=dict,
        converter=_copied,
        validator=_check_plugin_options,
        repr=_show_plugin_options,
        hash=False,
    )
    hook_timeout: float = field(kw_only=True, default=5.0, validator=checks.seconds(most=3600))
    failback: Failback | Literal[False] | None = field(kw_only=True, default=None, validator=_check_failback)
    spare: bool = field(kw_only=True, default=False, validator=checks.flag)
    follow_redirects: bool = field(kw_only=True, default=False, validator=checks.flag)
    stable_after: float = field(kw_only=True, default=10.0, validator=checks.seconds(zero=True))
    dial_ahead_after: float = field(kw_only=True, default=0.3, validator=checks.seconds(zero=True))
    max_in_flight: int = field(kw_only=True, default=256, validator=checks.whole(1, 65535))
    ack_timeout: float | None = field(kw_only=True, default=10.0, validator=checks.seconds(optional=True))
    drain_rate: float | None = field(kw_only=True, default=None, validator=checks.rate(optional=True))
    drain_bytes: float | None = field(kw_only=True, default=None, validator=checks.rate(optional=True))
    drain_order: DrainOrder = field(kw_only=True, default="oldest", validator=checks.one_of("oldest", "newest"))
    inbox_limit: int = field(kw_only=True, default=10_000, validator=checks.whole(1))
    handler_retries: int = field(kw_only=True, default=2, validator=checks.whole(0))
    dead_letter: Callable[[Message], object] | None = field(
        kw_only=True, default=None, validator=checks.function, repr=False
    )
    message_id: bool = field(kw_only=True, default=False, validator=checks.flag)
    envelope: Envelope | None = field(
        kw_only=True, default=None, converter=as_envelope, validator=_check_envelope, repr=False
    )
    deduplicate: Window | str | int = field(kw_only=True, default=False, converter=_path, validator=_check_deduplicate)
    reply_topic: str | None = field(kw_only=True, default=None, validator=_check_reply_topic)
    receive_maximum: int = field(kw_only=True, default=1000, validator=checks.whole(1, 65535))
    max_packet_size: int | None = field(
        kw_only=True, default=None, validator=checks.whole(1, LARGEST_PACKET, optional=True)
    )
    on_event: Callable[[Event], object] | None = field(
        kw_only=True, default=None, validator=checks.function, repr=False
    )

    @property
    def is_list(self) -> bool:
        """Whether *where* was given as a list, which means independent brokers."""
        return not isinstance(self.where, _Single)

    @classmethod
    def of(cls, where: Place | Sequence[Place] | Profile, /, **options: object) -> Profile:
        """The profile that *where* is, its fields replaced by *options*; else a new one for *where*.

        Raises:
            InvalidOption: an option is unknown, has the wrong type or an impossible value.
        """
        values: dict[str, Any] = dict(options)
        checks.check_names(OPTIONS, values)
        return evolve(where, **values) if isinstance(where, Profile) else cls(where, **values)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, name: str | None = None) -> Profile:
        """The profile in the TOML file *path*; *name* chooses one when the file holds ``[profile.NAME]`` tables.

        Relative paths in it start from its folder. Reads the file; secrets are read later, when they are needed.

        Raises:
            UnreadableFile: the file is missing or cannot be read.
            InvalidProfile: it is no TOML, or a key is unknown, of the wrong type or impossible.
        """
        from switchgear.profile_file import load

        return load(path, name=name)


OPTIONS = tuple(f.name for f in fields(Profile) if f.name != "where")
"""The names that `connect` takes after *where*."""
