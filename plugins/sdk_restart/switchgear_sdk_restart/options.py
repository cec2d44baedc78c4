"""The options of this plugin, checked. Pure: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
from attrs import field, frozen
from switchgear.cause import Cause
from switchgear.checks import check_names, flag, one_of, seconds, show, whole
from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Mapping

WAYS: Final = ("nothing", "reexec", "exit")

TEMPORARY: Final = 75
"""EX_TEMPFAIL of sysexits.h: "temporary failure; the user is invited to retry"."""


@frozen(kw_only=True)
class Options:
    """What a profile may say in ``[plugins.sdk_restart]``. Since: 0.1.

    Attributes:
        escalate_to: What follows when rebuilding does not help: ``"reexec"``, ``"exit"``, or ``"nothing"`` but more
            rebuilding within the budget.
        rebuilds: New drivers in a row that may not help before it escalates, fewer than ``budget``; 0: at once.
        budget: Restarts of any way for one transport in ``window``, those of the whole process included.
        window: Seconds in which they count.
        exit_code: What ``"exit"`` ends the process with.
        allow_loss: Whether the process may be replaced though messages are in memory only.
        causes: Endings of a connection or an attempt that mean a wedged SDK, by their names in `Cause`.
    """

    escalate_to: str = field(default="nothing", validator=one_of(*WAYS))
    rebuilds: int = field(default=3, validator=whole(0, 100))
    budget: int = field(default=5, validator=whole(1, 100))
    window: float = field(default=3600.0, validator=seconds(most=30 * 86400))
    exit_code: int = field(default=TEMPORARY, validator=whole(1, 255))
    allow_loss: bool = field(default=False, validator=flag)
    causes: tuple[str, ...] = field(default=(Cause.DRIVER_SILENT.name,))

    @causes.validator
    def _check_causes(self, _: object, value: object) -> None:
        if not isinstance(value, tuple) or not value:
            raise InvalidOption("causes", f"{show(value)} is no list of names with at least one", valid=_names())
        for name in value:
            if name not in _names():
                raise InvalidOption("causes", f"there is no cause {show(name)}", valid=_names())

    def __attrs_post_init__(self) -> None:
        if self.rebuilds == 0 and self.escalate_to == "nothing":
            raise InvalidOption("rebuilds", '0 escalates at once, and escalate_to is "nothing": nothing would be done')
        if self.escalate_to != "nothing" and self.rebuilds >= self.budget:
            why = f"{self.rebuilds} in a row use up the budget of {self.budget}, and it would never come to {self.escalate_to!r}"
            raise InvalidOption("rebuilds", f"{why}; set rebuilds below budget")


def _names() -> tuple[str, ...]:
    return tuple(cause.name for cause in Cause)


def read_options(given: Mapping[str, object]) -> Options:
    """The options *given*, with the defaults for the others.

    Raises:
        InvalidOption: a name is unknown, or a value cannot be.
    """
    check_names((a.name for a in attrs.fields(Options)), given)
    causes = given.get("causes")
    tuples = {"causes": tuple(causes)} if isinstance(causes, list) else {}
    return Options(**{**given, **tuples})  # type: ignore[arg-type]  # the validators say what is wrong
