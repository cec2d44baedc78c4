"""Owner, the port between the manager and the transport that it works for. Pure: types only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from switchgear.cause import Failure
    from switchgear.drivers.base import Connection, Listener
    from switchgear.endpoint import Endpoint
    from switchgear.hookspecs import Restart


class Owner(Protocol):
    """The transport, as its manager sees it."""

    @property
    def depth(self) -> int:
        """Messages accepted and not yet acknowledged."""
        ...

    @property
    def starts_clean(self) -> bool:
        """Whether a session that an earlier process left is ended by the first CONNECT."""
        ...

    @property
    def reports(self) -> int:
        """A number that grows with everything that the present connection reports."""
        ...

    def listener(self, generation: int) -> Listener:
        """Who hears what the connection *generation* reports."""
        ...

    async def restore(self, connection: Connection, *, session_present: bool, was_quick: bool) -> None:
        """Bring the subscriptions back; raise ``ConnectionError`` when the connection is gone."""
        ...

    def open_gate(self, connection: Connection) -> None:
        """The connection is usable."""
        ...

    def shut_gate(self, *, blames: bool) -> None:
        """The connection is gone, or about to be; *blames*: what was in flight may be what ended it."""
        ...

    async def quiesce(self, bound: float) -> None:
        """Hold new sends, and wait *bound* seconds at most for what is in flight and for handlers."""
        ...

    async def replace_process(self, request: Restart, plugin: str) -> Restart:
        """Replace this process; where it is still there afterwards, what to do instead."""
        ...

    def fail_waiters(self, failure: Failure, endpoint: Endpoint | None, why: str, *, is_final: bool) -> None:
        """Waiting is hopeless now."""
        ...
