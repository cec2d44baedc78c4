"""The examination: every check in its order, endpoints side by side, each bounded. Runs on the loop; the checks do I/O.

A check that fails skips those that need it, and these say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import secrets
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, evolve, field, frozen

from switchgear.doctor import certificates, clock, handshake, mqtt, names, setup, tcp
from switchgear.doctor.asking import Asker, SystemAnswer, is_address, system_lookup
from switchgear.doctor.finding import CHECKS, Finding, Report, Verdict, excuse_standbys, failed, passed, skipped
from switchgear.drivers.base import Route, Routed
from switchgear.drivers.link import open_link
from switchgear.errors import SwitchgearError
from switchgear.tls import TLS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.doctor.asking import Lookup
    from switchgear.drivers.base import Driver, DriverSettings
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint
    from switchgear.plugins import Registry
    from switchgear.profile import Profile

T = TypeVar("T")

log = logging.getLogger("switchgear.doctor")

MARGIN: Final = 2.0
"""Seconds that a check may take beyond its own bounds before it is cut short."""


@frozen(kw_only=True)
class Wishes:
    """What the user wants to know, and how.

    Attributes:
        timeout: Seconds for one step, such as a handshake.
        topic: For the round trip; None: a random one.
        does_round_trip: Whether a message is sent there and back.
        client_id: To connect under; None: the profile's with ``-doctor-`` and a random number behind it.
        asker: Who asks name servers.
        lookup: How the operating system is asked.
    """

    timeout: float = 5.0
    topic: str | None = None
    does_round_trip: bool = True
    client_id: str | None = None
    asker: Asker = field(factory=Asker)
    lookup: Lookup = system_lookup

    def client_id_for(self, profile: Profile) -> str:
        """Never that of the profile: connecting under it would disconnect the client that runs."""
        return self.client_id or f"{(profile.client_id or 'switchgear')[:100]}-doctor-{secrets.token_hex(3)}"


async def examine(
    profile: Profile,
    registry: Registry,
    wishes: Wishes,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Report:
    """Look at everything between here and the brokers of *profile*.

    It takes at most some ten times ``wishes.timeout``: the layers of one endpoint come one after the other, and endpoints side by side.
    *on_progress* is told what is being looked at.
    """
    on_progress("profile and plugins")
    plan, findings = await setup.look(profile, registry, topic=wishes.topic, timeout=wishes.timeout)
    if plan is None:
        return Report(tuple(findings))
    turns = asyncio.Semaphore(1 if wishes.client_id else len(plan.endpoints))  # one client id, one connection
    looks = [Look(profile, registry, wishes, each, plan.protocol, on_progress, turns) for each in plan.endpoints]
    await asyncio.gather(*(look.run() for look in looks))
    for look in looks:
        findings += [evolve(finding, endpoint=look.endpoint.key) for finding in look.findings]
    own = certificates.judge_own(profile.tls, clock.now()) if any(e.is_tls for e in plan.endpoints) else None
    begins = [dt.datetime.fromisoformat(str(f.facts["begins"])) for f in findings if "begins" in f.facts]
    skews = [look.skew for look in looks if look.skew is not None]
    last = clock.judge(clock.now(), clock.installed(), begins, skews)
    return Report(excuse_standbys([*findings, *([own] if own else []), last], plan.groups))


class _Blocked(Exception):
    """What comes after the check cannot be looked at."""

    def __init__(self, check: str) -> None:
        self.check = check


@define
class Look:
    """The look at one endpoint, layer by layer."""

    profile: Profile
    registry: Registry
    wishes: Wishes
    endpoint: Endpoint
    protocol: str
    on_progress: Callable[[str], object]
    turns: asyncio.Semaphore
    findings: list[Finding] = field(factory=list, init=False)
    skew: float | None = field(default=None, init=False)
    _client_id: str = field(init=False)
    _settings: DriverSettings = field(init=False)
    _driver: Driver = field(init=False)
    _route: Route = field(init=False)
    _tls: TLS = field(init=False)

    def __attrs_post_init__(self) -> None:
        profile = self.profile
        self._client_id = self.wishes.client_id_for(profile)
        self._settings = setup.settings(profile, self.protocol, self._client_id, self.wishes.timeout)
        self._driver = self.registry.provide_driver(
            profile.driver, self._settings, options=profile.plugin_options, extra=profile.plugins
        )
        tls = self.profile.tls or TLS()
        route = self._driver.route_to(self.endpoint) if isinstance(self._driver, Routed) else None
        self._route = route or Route(self.endpoint, tls.alpn)
        self._tls = evolve(tls, alpn=self._route.alpn)

    async def run(self) -> None:
        """Every layer, until one blocks those above it."""
        try:
            addresses = await self._names()
            address = await self._connect(addresses)
            if self.endpoint.is_tls:
                await self._shake(address)
            if self.endpoint.is_websocket and not self._has_proxy:
                self.skew = await clock.skew(self.endpoint, address, self.wishes.timeout)
            async with self.turns:
                await self._speak(address)
        except _Blocked as blocked:
            self._skip_the_rest(blocked.check)
        finally:
            self._driver.close()

    @property
    def _has_proxy(self) -> bool:
        return self._route.first is not self.endpoint

    def _skip_the_rest(self, blocked: str) -> None:
        layers = {
            "tcp": "tcp",
            "tls.": "tls.handshake",
            "mqtt.connect": "mqtt.connect",
            "mqtt.round": "mqtt.round_trip",
        }
        if not self.endpoint.is_tls:
            del layers["tls."]
        if not self.wishes.does_round_trip:
            del layers["mqtt.round"]
        for layer, check in layers.items():
            if not any(finding.check.startswith(layer) for finding in self.findings):
                self.findings.append(skipped(check, blocked))

    async def _bounded(self, check: str, bound: float, work: Awaitable[T]) -> T:
        """What *work* gives; when it takes more than *bound* seconds or breaks, a line says so and the rest is skipped."""
        self.on_progress(f"{self.endpoint}: {CHECKS[check]}")
        try:
            async with asyncio.timeout(bound + MARGIN):
                return await work
        except TimeoutError:
            line = failed(check, f"not finished in {bound + MARGIN:g} s", "try again with a larger --timeout")
        except SwitchgearError as error:
            line = failed(check, str(error), "correct what it names")
        except Exception as error:
            log.exception("switchgear.check_failed", extra={"check": check})
            line = failed(check, f"the check itself failed: {type(error).__name__}: {error}", "please report it")
        self.findings.append(line)
        raise _Blocked(check)

    # The layers. -------------------------------------------------------------------------------------------------

    async def _names(self) -> tuple[str, ...]:
        """The lines about the name; the addresses that it stands for."""
        host = self._route.first.host
        if self._has_proxy:
            proxy = f"the proxy {host}:{self._route.first.port}"
            found = f"{self.endpoint.host} is for {proxy} to look up"
            if self.endpoint.address is not None:
                found = f"{self.endpoint.address} is for {proxy} to dial; {self.endpoint.host} is not looked up"
            self.findings.append(passed("dns.answer", found))
        elif self.endpoint.address is not None:
            found = f"{self.endpoint.address} is dialled; {host} is not looked up"
            self.findings.append(passed("dns.answer", found))
            return (self.endpoint.address,)
        if is_address(host):
            return (host,)
        answer = await self._bounded("dns.answer", self.wishes.timeout, self._look_up(host))
        self.findings.append(names.judge_answer(host, answer))
        known = answer if isinstance(answer, SystemAnswer) else None
        if not self._has_proxy and (self.wishes.asker.servers or not _is_local(host)):
            await self._ask(host, known)
        if known is None:
            raise _Blocked("dns.answer")
        return known.addresses

    async def _look_up(self, host: str) -> SystemAnswer | OSError:
        try:
            async with asyncio.timeout(self.wishes.timeout):
                return await self.wishes.lookup(host)
        except (OSError, UnicodeError) as error:  # a time-out is an OSError
            return error if isinstance(error, OSError) else OSError(str(error))

    async def _ask(self, host: str, answer: SystemAnswer | None) -> None:
        """The lines about what name servers say of *host*, beside the *answer* of the operating system."""
        asker = self.wishes.asker
        if not asker.is_able:
            self.findings += [names.cannot_ask("dns.chain"), names.cannot_ask("dns.authority")]
            return
        questions = asyncio.gather(asker.chain(host), asker.authority(host))
        try:
            told, (whose, said) = await self._bounded("dns.chain", asker.timeout, questions)
        except _Blocked:
            return  # the line is there, and the connection needs none of these answers
        self.findings.append(names.judge_chain(host, told, is_known=answer is not None))
        if answer is None:
            self.findings.append(skipped("dns.authority", "dns.answer"))
            return
        end = next((each.end for each in said if each.end), None)
        target = await self._look_up(end) if end is not None and end != answer.canonical else None
        target = target if isinstance(target, SystemAnswer) else None
        self.findings.append(names.judge_authority(whose, said, answer, target))

    async def _connect(self, addresses: tuple[str, ...]) -> str:
        """The line about TCP; the address that answered first."""
        timeout, first = self.wishes.timeout, self._route.first
        tries = await self._bounded("tcp", timeout, tcp.connect(addresses, first.port, timeout))
        self.findings.append(tcp.judge(first, tries, who="the proxy" if self._has_proxy else "the broker"))
        answered = sorted((each for each in tries if each.failure is None), key=lambda each: each.seconds)
        if not answered:
            raise _Blocked("tcp")
        return answered[0].address

    async def _shake(self, address: str) -> None:
        """The lines about TLS."""
        timeout, tls = self.wishes.timeout, self._tls
        work = handshake.shake(self.endpoint, lambda: self._open(address), tls, timeout)
        found = await self._bounded("tls.handshake", 3 * timeout, work)
        self.findings.append(certificates.judge_handshake(self.endpoint, found))
        if found.shown is None:
            raise _Blocked("tls.handshake")
        lines = certificates.judge(self.endpoint, found, tls, clock.now())
        self.findings += lines
        bad = [line.check for line in lines if line.verdict is Verdict.FAIL]
        if found.refusal is not None:
            raise _Blocked(bad[0] if bad else "tls.trust")

    async def _open(self, address: str) -> ByteLink:
        """A connection up to where TLS begins."""
        endpoint = self._pinned(address)
        if isinstance(self._driver, Routed):
            return await self._driver.open(endpoint)
        return await open_link(evolve(endpoint, scheme="mqtt", path=""), self._settings)

    def _pinned(self, address: str | None) -> Endpoint:
        """The endpoint at *address*, where we are who dials it."""
        pinned = self.endpoint.address if self._has_proxy else address
        return evolve(self.endpoint, address=pinned, connect_timeout=self.wishes.timeout)

    async def _speak(self, address: str) -> None:
        """The lines about MQTT."""
        timeout, driver = self.wishes.timeout, self._driver
        endpoint = self._pinned(address if driver.features.pins_address else self.endpoint.address)
        connection = None
        try:
            work = mqtt.connect(driver, endpoint, self.profile, self._client_id, timeout)
            line, connection, ear = await self._bounded("mqtt.connect", 5 * timeout, work)
            self.findings.append(line)
            if connection is None:
                raise _Blocked("mqtt.connect")
            if self.wishes.does_round_trip:
                topic = self.wishes.topic or f"switchgear/doctor/{secrets.token_hex(8)}"
                trip = mqtt.round_trip(connection, ear, topic, is_own=self.wishes.topic is None, timeout=timeout)
                self.findings.append(await self._bounded("mqtt.round_trip", timeout, trip))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await connection.disconnect()
        finally:
            if connection is not None:
                connection.abort()  # after a disconnect in order it does nothing


def _is_local(host: str) -> bool:
    """Whether *host* is a name of this machine or its link, which no name server knows (RFC 6761, RFC 6762)."""
    bare = host.rstrip(".").lower()
    return "." not in bare or bare.endswith((".localhost", ".local"))
