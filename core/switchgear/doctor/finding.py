"""What a check found, and what all findings mean together. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from switchgear.endpoint import SessionKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from switchgear.endpoint import Group

INSTALL: Final = "pip install 'switchgear[doctor]'"
"""What brings the libraries that looking into DNS and certificates needs."""


class Verdict(enum.StrEnum):
    """What a line says."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """Not checked, because what it needs failed."""


CHECKS: Final = {
    "profile": "profile",
    "plugins": "plugins",
    "dns.answer": "DNS answer",
    "dns.chain": "DNS chain",
    "dns.authority": "DNS authority",
    "tcp": "TCP",
    "tls.handshake": "TLS handshake",
    "tls.trust": "TLS trust",
    "tls.name": "TLS name",
    "tls.dates": "TLS dates",
    "tls.purpose": "TLS purpose",
    "tls.client": "client certificate",
    "mqtt.connect": "MQTT CONNECT",
    "mqtt.round_trip": "round trip",
    "clock": "clock",
}
"""Every check, in the order of the lines, and what people call it."""


@frozen
class Finding:
    """One line.

    Attributes:
        check: One of `CHECKS`.
        verdict: What it says.
        found: What was found, without secrets.
        way_out: What to do; empty where nothing is wrong.
        endpoint: Which endpoint it is about; empty for all of them.
        facts: For programs.
    """

    check: str
    verdict: Verdict
    found: str
    way_out: str = ""
    endpoint: str = field(default="", kw_only=True)
    facts: Mapping[str, object] = field(factory=dict, kw_only=True)

    @property
    def title(self) -> str:
        """The check as people call it."""
        return CHECKS[self.check]


def passed(check: str, found: str, **facts: object) -> Finding:
    """A line that says that all is well."""
    return Finding(check, Verdict.PASS, found, facts=facts)


def warned(check: str, found: str, way_out: str, **facts: object) -> Finding:
    """A line that says what may become a trouble, or could not be checked."""
    return Finding(check, Verdict.WARN, found, way_out, facts=facts)


def failed(check: str, found: str, way_out: str, **facts: object) -> Finding:
    """A line that says what is wrong."""
    return Finding(check, Verdict.FAIL, found, way_out, facts=facts)


def skipped(check: str, needs: str) -> Finding:
    """A line that says why something was not checked."""
    return Finding(check, Verdict.SKIP, f"not checked: {CHECKS[needs]} failed")


@frozen
class Report:
    """All findings, those of one endpoint together, in the order in which they were asked for."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of them."""
        seen = {finding.verdict for finding in self.findings}
        return next((v for v in (Verdict.FAIL, Verdict.WARN) if v in seen), Verdict.PASS)

    @property
    def is_configured(self) -> bool:
        """Whether profile and plugins allowed to look at an endpoint at all."""
        return not any(f.check in {"profile", "plugins"} and f.verdict is Verdict.FAIL for f in self.findings)

    @property
    def is_usable(self) -> bool:
        """Whether at least one endpoint accepted an MQTT connection."""
        return any(f.check == "mqtt.connect" and f.verdict is Verdict.PASS for f in self.findings)

    def count(self, verdict: Verdict) -> int:
        """How many lines say so."""
        return sum(finding.verdict is verdict for finding in self.findings)


def excuse_standbys(findings: Iterable[Finding], groups: Iterable[Group]) -> tuple[Finding, ...]:
    """*findings*, in which a refusing endpoint is a warning where it can be the standby of one that serves.

    Endpoints of a group that shares its session are one active broker and its standbys; a standby refuses connections
    until it is needed (measured on ActiveMQ, whose standby opens no port at all).
    """
    listed = tuple(findings)
    serving = {f.endpoint for f in listed if f.check == "mqtt.connect" and f.verdict is Verdict.PASS}
    excused: set[str] = set()
    for group in groups:
        keys = {endpoint.key for endpoint in group.endpoints}
        if group.session is SessionKind.SHARED and keys & serving:
            excused |= keys - serving
    return tuple(_excuse(finding) if finding.endpoint in excused else finding for finding in listed)


def _excuse(finding: Finding) -> Finding:
    if finding.verdict is not Verdict.FAIL or not finding.facts.get("is_refusal"):
        return finding
    return evolve(
        finding,
        verdict=Verdict.WARN,
        found=f"{finding.found}; a standby does so, and another endpoint of its group serves",
        way_out="nothing, if this is the standby; else start the broker there",
    )
