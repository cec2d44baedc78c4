"""MachineSettings: what a connection machine is told once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from switchgear.backoff import GiveUpAfter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.backoff import Backoff
    from switchgear.endpoint import SessionKind


@frozen(kw_only=True)
class MachineSettings:
    """What does not change while the machine runs.

    Attributes:
        backoff: When sweeps may start.
        give_up_after: When to stop trying after a loss.
        startup_give_up_after: The same while no connection has ever been usable; None: as ``give_up_after``.
        give_up_on_fatal: Whether to give up when every endpoint is quarantined.
        stable_after: Seconds that a connection must last, with one proof of health, before back-off is reset.
        dial_ahead_after: Seconds after which a second endpoint is dialled beside a slow one.
        dials_ahead: Whether the driver can do that.
        sessions: What the brokers of each group share, by its name.
        keep_order: Whether a group's listed order is kept, by its name.
        starts_clean: Whether a session that an earlier process left is ended: it may hold packet ids of QoS 2 messages.
    """

    backoff: Backoff
    give_up_after: GiveUpAfter = field(factory=GiveUpAfter)
    startup_give_up_after: GiveUpAfter | None = None
    give_up_on_fatal: bool = False
    stable_after: float = 10.0
    dial_ahead_after: float = 0.3
    dials_ahead: bool = True
    sessions: Mapping[str, SessionKind] = field(factory=dict)
    keep_order: Mapping[str, bool] = field(factory=dict)
    starts_clean: bool = False
