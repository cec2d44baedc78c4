"""Where accepted messages wait until a broker has acknowledged them."""

from switchgear.outbox.memory import MemoryOutbox

__all__ = ["MemoryOutbox"]
