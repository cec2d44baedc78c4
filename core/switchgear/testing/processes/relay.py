"""The fault proxy before a broker of this machine, that a test takes away and brings back. Touches sockets and threads."""

from __future__ import annotations

from switchgear.testing.processes.ports import HOST
from switchgear.testing.threads import ThreadedProxy


class Relay(ThreadedProxy):
    """A `ThreadedProxy` before the loopback port *target*; up from the start."""

    def __init__(self, target: int) -> None:
        super().__init__(f"mqtt://{HOST}:{target}", host=HOST)

    def up(self) -> None:
        """Take connections from now on, and pass everything on."""
        self.restore()

    def down(self) -> None:
        """End every connection and refuse new ones."""
        self.refuse()
        self.cut()
