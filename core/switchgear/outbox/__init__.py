"""Where accepted messages wait until a broker has acknowledged them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.outbox.memory import MemoryOutbox
from switchgear.outbox.port import Outbox
from switchgear.outbox.sqlite import SqliteOutbox
from switchgear.outbox.sqlite_newest import NewestSqliteOutbox

if TYPE_CHECKING:
    from switchgear.profile import Profile
    from switchgear.waits import Waits

__all__ = ["MemoryOutbox", "NewestSqliteOutbox", "Outbox", "SqliteOutbox", "open_outbox"]


def open_outbox(profile: Profile, waits: Waits) -> Outbox:
    """The outbox that *profile* names; raises what `SqliteOutbox` raises."""
    if profile.outbox is None:
        outbox = MemoryOutbox(profile.outbox_limits, waits)
        outbox.order(profile.drain_order)
        return outbox
    kind = NewestSqliteOutbox if profile.drain_order == "newest" else SqliteOutbox
    return kind(profile.outbox_limits, waits, profile.outbox, profile.durability)
