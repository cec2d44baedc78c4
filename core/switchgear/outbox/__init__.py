"""Where accepted messages wait until a broker has acknowledged them."""

from switchgear.outbox.memory import MemoryOutbox
from switchgear.outbox.port import Outbox
from switchgear.outbox.sqlite import SqliteOutbox
from switchgear.outbox.sqlite_newest import NewestSqliteOutbox

__all__ = ["MemoryOutbox", "NewestSqliteOutbox", "Outbox", "SqliteOutbox"]
