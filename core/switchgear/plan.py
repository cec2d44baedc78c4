"""From a profile to what the machine needs: groups, endpoints, policies, and the plugins whose hooks run. Pure but for the plugins that it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from switchgear.backoff import Backoff, GiveUpAfter
from switchgear.endpoint import SCHEMES, Endpoint, Group, SessionKind, name_groups, parse_uri, scheme_of
from switchgear.errors import InvalidOption, InvalidURI
from switchgear.failback import Failback
from switchgear.machine_settings import MachineSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.drivers.base import Driver
    from switchgear.plugins import Registry
    from switchgear.profile import Profile

DEFAULT_PROTOCOL: Final = "3.1.1"
"""What every broker speaks; ``protocol="5"`` asks for more."""


@frozen
class Source:
    """A URI whose plugin says that its list changes.

    Attributes:
        where: The URI.
        plugin: Name of the plugin that owns its scheme.
        groups: Names of the groups that it stands for.
    """

    where: str = field(repr=False)
    plugin: str
    groups: tuple[str, ...]


@frozen(kw_only=True)
class Plan:
    """What a profile means with the plugins that are installed.

    Attributes:
        groups: All groups, each under a name of its own.
        protocol: MQTT version for every endpoint.
        asks_for_protocol: Whether the profile or the brokers ask for that version; else a driver may need another.
        backoff: The policy: a group's own where its URI writes one, else the profile's.
        give_up_after: Limits after a loss.
        startup_give_up_after: Limits while nothing ever worked.
        strategies: Names and objects of the plugins whose hooks run, in order.
        checks: What the groups' brokers say of topics.
        failback: How to return to preferred endpoints; None: not at all.
        keeps_spare: Whether a warm connection to the next endpoint is kept.
        sources: Where to ask for lists again before each sweep.
    """

    groups: tuple[Group, ...]
    protocol: str
    asks_for_protocol: bool
    backoff: Backoff
    give_up_after: GiveUpAfter
    startup_give_up_after: GiveUpAfter | None
    strategies: tuple[object, ...]
    checks: tuple[Callable[[str], None], ...]
    failback: Failback | None
    keeps_spare: bool
    sources: tuple[Source, ...]

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint of every group."""
        return tuple(endpoint for group in self.groups for endpoint in group.endpoints)

    def spoken_by(self, driver: Driver) -> Plan:
        """This plan, in the MQTT version that *driver* speaks where nobody asks for another.

        Raises:
            InvalidOption: somebody asks for a version that it does not speak.
        """
        if self.protocol in driver.features.protocols:
            return self
        known = tuple(sorted(driver.features.protocols))
        if known and not self.asks_for_protocol:
            return evolve(self, protocol=known[-1], asks_for_protocol=True)
        raise InvalidOption("protocol", f"driver {driver.name!r} does not speak {self.protocol}", valid=known)

    def machine_settings(self, profile: Profile, *, dials_ahead: bool, starts_clean: bool = False) -> MachineSettings:
        """What the machine is made with."""
        return MachineSettings(
            backoff=self.backoff,
            give_up_after=self.give_up_after,
            startup_give_up_after=self.startup_give_up_after,
            give_up_on_fatal=profile.give_up_on_fatal,
            stable_after=profile.stable_after,
            dial_ahead_after=profile.dial_ahead_after,
            dials_ahead=dials_ahead,
            sessions={group.name: group.session for group in self.groups},
            keep_order={group.name: not group.randomize for group in self.groups},
            starts_clean=starts_clean,
        )


def make_plan(profile: Profile, registry: Registry) -> Plan:
    """What *profile* means. Raises a `ConfigurationError` where it cannot work."""
    groups, owners, sources = _read_places(profile, registry)
    protocols = {group.protocol for group in groups if group.protocol is not None}
    if len(protocols) > 1:
        raise InvalidOption("where", "its groups need different MQTT versions; make a transport for each")
    required = next(iter(protocols), None)
    best = {group.best_protocol or DEFAULT_PROTOCOL for group in groups}
    own = [group.backoff for group in groups if group.backoff is not None]
    limits = [group.give_up_after for group in groups if group.give_up_after is not None]
    startup = [group.startup_give_up_after for group in groups if group.startup_give_up_after is not None]
    named = {plugin for plugin in profile.plugins if isinstance(plugin, str)}
    installed = {plugin.name for plugin in registry.loaded}
    return Plan(
        groups=groups,
        protocol=profile.protocol or required or (best.pop() if len(best) == 1 else DEFAULT_PROTOCOL),
        asks_for_protocol=bool(profile.protocol or required),
        backoff=own[0] if own else profile.backoff,
        give_up_after=limits[0] if limits else profile.give_up_after or GiveUpAfter(),
        startup_give_up_after=startup[0] if startup else profile.startup_give_up_after,
        strategies=(*profile.plugins, *(owner for owner in owners if owner in installed - named)),
        checks=tuple(group.check_topic for group in groups if group.check_topic is not None),
        failback=_failback_of(profile, groups),
        keeps_spare=profile.spare or any(group.spare for group in groups),
        sources=sources,
    )


def _read_places(profile: Profile, registry: Registry) -> tuple[tuple[Group, ...], list[str], tuple[Source, ...]]:
    """The groups behind ``profile.where``, the plugins that own their schemes, and which to ask again."""
    groups: list[Group] = []
    plain: list[Endpoint] = []
    owners: list[str] = []
    sources: list[tuple[str, str, range]] = []
    for place in profile.where:
        if isinstance(place, Endpoint):
            plain.append(place)
        elif isinstance(place, Group):
            groups.append(place)
        elif scheme_of(place) in SCHEMES:
            plain.append(parse_uri(place))
        else:
            provided = registry.provide_endpoints(place, profile.plugin_options, extra=profile.plugins)
            if provided is None:
                known = ", ".join(sorted({*SCHEMES, *registry.known_schemes()}))
                scheme = scheme_of(place)
                why = f"the scheme {scheme!r} is unknown" if scheme else "it has no scheme"
                skipped = "; ".join(f"plugin {skip.name!r} was skipped: {skip.why}" for skip in registry.skipped)
                hint = skipped or "a plugin may be missing (see `switchgear plugins`)"
                raise InvalidURI(place, f"{why}; known: {known}; {hint}")
            found, owner = provided
            if any(group.dynamic for group in found):
                sources.append((place, owner, range(len(groups), len(groups) + len(found))))
            groups.extend(found)
            if owner not in owners:
                owners.append(owner)
    if plain:
        groups.append(Group(plain, _session_of(profile, registry)))
    if profile.session is not None:
        groups = [evolve(group, session=profile.session) for group in groups]
    named = name_groups(groups)
    asked = (Source(where, owner, tuple(named[i].name for i in places)) for where, owner, places in sources)
    return named, owners, tuple(asked)


def _failback_of(profile: Profile, groups: tuple[Group, ...]) -> Failback | None:
    """The profile's own, a group's own, or the defaults where some endpoints are preferred to others, or may yet be."""
    if profile.failback is not None:
        return profile.failback or None
    own = [group.failback for group in groups if group.failback is not None]
    if own:
        return own[0]
    priorities = {endpoint.priority for group in groups for endpoint in group.endpoints}
    return Failback() if len(priorities) > 1 or any(group.dynamic for group in groups) else None


def _session_of(profile: Profile, registry: Registry) -> SessionKind:
    """What endpoints without a group share: a list is independent brokers, one URI with a client id one session.

    A plugin that the profile names may say that behind one URI, too, there are independent brokers.
    """
    if profile.is_list and len(profile.where) > 1:
        return SessionKind.HUNT
    if profile.client_id is None:
        return SessionKind.CLEAN
    named = [plugin.plugin for plugin in registry.loaded if plugin.name in profile.plugins]
    is_regional = any(
        getattr(plugin, "SESSION", None) == SessionKind.HUNT.value for plugin in (*profile.plugins, *named)
    )
    return SessionKind.HUNT if is_regional else SessionKind.SHARED
