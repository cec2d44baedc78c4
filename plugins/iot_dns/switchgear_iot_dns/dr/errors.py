"""What can stop ``switchgear dr``, each with one line and the exit code that it means. Pure: nothing here does I/O.

The tree::

    SwitchgearError
    └── RegionSwitchError
        ├── InvalidPlanFile (also ConfigurationError)   the TOML, or what it names, cannot be used
        ├── InvalidClientId (also ConfigurationError)   an id that AWS IoT has not
        ├── MissingPermission                           carries the IAM statement that is needed
        ├── AwsTrouble                                  AWS refused or did not answer
        ├── Unfit                                       a check of the target failed
        ├── Locked                                      another operator is at work
        │   └── InUse                                   another process on this machine is
        ├── StalePlan                                   the world, or the plan file, changed since
        ├── BrokenJournal                               it cannot be resumed from
        └── NotSwitched                                 the DNS phase failed; nobody was disconnected
"""

from __future__ import annotations

from typing import ClassVar, Final

from switchgear.errors import ConfigurationError, SwitchgearError, redact

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
LOCKED: Final = 3
STALE: Final = 4
NOT_SWITCHED: Final = 5
INCOMPLETE: Final = 6
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    DONE: "done, or nothing to do",
    REFUSED: "refused before anything was changed: a check failed, AWS did not answer, or you said no",
    USAGE: "wrong usage, plan file, client id or permission; nothing was changed",
    LOCKED: "another operator is at work; nothing was changed",
    STALE: "the saved plan is stale, for the world or the plan file changed since; nothing was changed",
    NOT_SWITCHED: "the DNS phase failed; nobody was disconnected",
    INCOMPLETE: "DNS is switched, and clients were not disconnected or have not arrived; apply again resumes",
    INTERRUPTED: "interrupted; apply again resumes",
}
"""Every exit code of ``switchgear dr`` and what it tells a script."""


class RegionSwitchError(SwitchgearError):
    """The base: ``switchgear dr`` stopped for a reason that it can name. Since: 0.1."""

    exit_code: ClassVar[int] = REFUSED


class InvalidPlanFile(RegionSwitchError, ConfigurationError):
    """The plan file, or something that it names, cannot be used."""

    exit_code = USAGE

    def __init__(self, path: str, key: str, why: str) -> None:
        self.path, self.key, self.why = path, key, why
        shown = redact(path)  # a URI may have got into its place
        super().__init__(f"{shown}: {key}: {why}" if key else f"{shown}: {why}")


class InvalidClientId(RegionSwitchError, ConfigurationError):
    """A client id that AWS IoT cannot have, or that no request can carry."""

    exit_code = USAGE

    def __init__(self, client_id: str, where: str, why: str) -> None:
        self.client_id, self.where, self.why = client_id, where, why
        super().__init__(f"{where}: the client id {client_id[:140]!r} {why}")


class MissingPermission(RegionSwitchError):
    """AWS denied a call; ``statement`` is the IAM statement that allows it."""

    exit_code = USAGE

    def __init__(self, operation: str, statement: str) -> None:
        self.operation, self.statement = operation, statement
        super().__init__(f"AWS denied {operation}; add this statement to the operator's policy: {statement}")


class AwsTrouble(RegionSwitchError):
    """AWS refused a call, or did not answer it in time; ``code`` is the error code, None without an answer."""

    def __init__(self, operation: str, why: str, *, code: str | None = None) -> None:
        self.operation, self.why, self.code = operation, why, code
        super().__init__(f"{operation}: {why}")

    @property
    def is_silence(self) -> bool:
        """Whether the service did not answer, or only that it cannot: what a dead region looks like."""
        code = self.code
        return code is None or code.startswith(("5", "Internal", "ServiceUnavailable"))


class Unfit(RegionSwitchError):
    """What a plan would lead to is not fit for it; ``checks`` are those that failed."""

    def __init__(self, checks: tuple[str, ...]) -> None:
        self.checks = checks
        super().__init__(f"not switched: {'; '.join(checks)}; --despite-checks goes on all the same")


class Locked(RegionSwitchError):
    """Another operator holds the lock of the zone."""

    exit_code = LOCKED

    def __init__(self, name: str, holder: str) -> None:
        self.name, self.holder = name, holder
        super().__init__(
            f"another operator is at work: {holder} (the TXT record {name}); if that run is dead, --force-unlock"
        )


class InUse(Locked):
    """Another process on this machine has the run's journal."""

    def __init__(self, path: str) -> None:
        self.name = self.holder = path
        RegionSwitchError.__init__(
            self, f"another process on this machine is at work on this run, and has its journal {path}; wait for it"
        )


class StalePlan(RegionSwitchError):
    """The world, or the plan file, is not what it was when the plan was made."""

    exit_code = STALE

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the plan is stale: {why}; make a new one with `switchgear dr plan`")


class BrokenJournal(RegionSwitchError):
    """A journal that cannot be read back."""

    exit_code = USAGE

    def __init__(self, path: str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"journal {path}: {why}")


class NotSwitched(RegionSwitchError):
    """The DNS phase failed, so nobody was disconnected."""

    exit_code = NOT_SWITCHED

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"DNS was not switched, and nobody was disconnected: {why}")
