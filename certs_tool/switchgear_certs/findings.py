"""One line of a check: a rule, how it went, why, and where the rule comes from. Pure."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(Enum):
    """How a rule went. A warning is a thing to know; only a failure makes the check fail."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    WARN = "warn"
    FAIL = "fail"


@frozen
class Finding:
    """One rule's result. *source* names the document that the rule is from."""

    rule: str
    verdict: Verdict
    text: str
    source: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"rule": self.rule, "verdict": self.verdict.value, "text": self.text, "source": self.source}


def failed(findings: Iterable[Finding]) -> list[Finding]:
    """Those that failed."""
    return [finding for finding in findings if finding.verdict is Verdict.FAIL]
