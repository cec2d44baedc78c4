"""Profile and plugins: whether a transport could be built at all. Reads certificate files; asks plugins on a worker thread."""

from __future__ import annotations

import asyncio
import ipaddress
import platform
import ssl
from typing import TYPE_CHECKING

import switchgear
from switchgear.doctor.asking import is_address
from switchgear.doctor.finding import failed, passed, warned
from switchgear.drivers.base import DriverSettings
from switchgear.errors import SwitchgearError, UnknownDriver, UnknownPlugin, redact
from switchgear.plan import make_plan
from switchgear.workers import LOOKUPS

if TYPE_CHECKING:
    from switchgear.doctor.finding import Finding
    from switchgear.endpoint import Endpoint
    from switchgear.plan import Plan
    from switchgear.plugins import Registry
    from switchgear.profile import Profile


async def look(
    profile: Profile, registry: Registry, *, topic: str | None, timeout: float
) -> tuple[Plan | None, list[Finding]]:
    """What *profile* means, and the lines about it; no plan when it cannot work.

    *timeout* is in seconds, for plugins that look up what a URI stands for. *topic* is the user's, for brokers that
    do not take every topic.
    """
    wrong = "correct the profile or the options"
    try:
        async with asyncio.timeout(timeout):
            plan = await LOOKUPS.run(lambda: make_plan(profile, registry))
        if profile.tls is not None:
            await LOOKUPS.run(profile.tls.check)
        for check in plan.checks if topic is not None else ():
            check(str(topic))
    except TimeoutError:
        found = f"a plugin did not say in {timeout:g} s which endpoints there are"
        return None, [failed("profile", found, "look at the plugin that owns the scheme: switchgear plugins")]
    except SwitchgearError as error:
        return None, [failed("profile", str(error), wrong)]
    try:
        plan, lines = _plugins(profile, plan, registry)
    except SwitchgearError as error:
        way_out = "install it, or name another" if isinstance(error, UnknownDriver | UnknownPlugin) else wrong
        return None, [_profile(profile, plan), failed("plugins", str(error), way_out)]
    return plan, [_profile(profile, plan), *_in_the_clear(profile, plan), *lines]


def settings(profile: Profile, protocol: str, client_id: str, timeout: float) -> DriverSettings:
    """What a driver is made with for a look: as the transport's, but no will, and no session that stays behind."""
    return DriverSettings(
        client_id=client_id,
        protocol=protocol,
        keepalive=profile.keepalive,
        connect_timeout=timeout,
        tls=profile.tls,
        session_expiry=0,
        receive_maximum=profile.receive_maximum,
        maximum_packet_size=profile.max_packet_size,
        ack_timeout=None,
    )


def _profile(profile: Profile, plan: Plan) -> Finding:
    where = ", ".join(redact(place) if isinstance(place, str) else str(place) for place in profile.where)
    kinds = ", ".join(dict.fromkeys(group.session.value for group in plan.groups))
    count = len(plan.endpoints)
    found = f"{where}: {count} endpoint{'s' if count > 1 else ''}, session {kinds}, MQTT {plan.protocol}"
    facts = {
        "endpoints": [endpoint.key for endpoint in plan.endpoints],
        "protocol": plan.protocol,
        "client_id": profile.client_id,
        "driver": profile.driver,
    }
    return passed("profile", found, **facts)


def _in_the_clear(profile: Profile, plan: Plan) -> list[Finding]:
    """A line when a password would travel for all to read."""
    exposed = [
        endpoint
        for endpoint in plan.endpoints
        if not endpoint.is_tls and (profile.password or endpoint.password) and not _is_here(endpoint)
    ]
    if not exposed:
        return []
    return [warned("profile", f"the password goes to {exposed[0].authority} unencrypted", "use mqtts:// or wss://")]


def _is_here(endpoint: Endpoint) -> bool:
    host = endpoint.address or endpoint.host
    if is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _plugins(profile: Profile, plan: Plan, registry: Registry) -> tuple[Plan, list[Finding]]:
    """The plan as the driver speaks it, and the lines about what is installed.

    Raises a `SwitchgearError` where a plugin that is needed is not there, or does not speak what is asked for.
    """
    named = tuple(each for each in plan.strategies if isinstance(each, str))
    registry.select_checked(named, disabled=profile.disable_plugins, options=profile.plugin_options)
    driver = registry.provide_driver(
        profile.driver,
        settings(profile, plan.protocol, "switchgear-doctor", profile.connect_timeout),
        options=profile.plugin_options,
        extra=profile.plugins,
    )
    driver.close()
    spoken = plan.spoken_by(driver)
    versions = f"switchgear {switchgear.__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"
    used = f"; strategies {', '.join(named)}" if named else ""
    loaded = {plugin.name: plugin.version for plugin in registry.loaded}
    lines = [passed("plugins", f"driver {profile.driver}{used}; {versions}", loaded=loaded)]
    unwanted = (skip for skip in registry.skipped if not skip.why.startswith("disabled"))  # which is the user's wish
    lines += [
        warned("plugins", f"{skip.name} was skipped: {skip.why}", "mend it, or uninstall it") for skip in unwanted
    ]
    return spoken, lines
