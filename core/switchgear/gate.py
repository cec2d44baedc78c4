"""The gate between a transport's parts and its present connection; the connection manager opens and shuts it. On the loop.

It joins what the parts need of each new connection: who hears it, what is brought back on it, what may go through.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from attrs import define, field

from switchgear import process_restart
from switchgear.ears import Ears
from switchgear.errors import ConnectionFailed, GaveUp
from switchgear.hookspecs import Restart

if TYPE_CHECKING:
    from switchgear.cause import Failure
    from switchgear.drivers.base import Connection
    from switchgear.endpoint import Endpoint
    from switchgear.manager import ConnectionManager
    from switchgear.outbox.port import Outbox
    from switchgear.requests import Requests
    from switchgear.sender import Sender
    from switchgear.subscriber import Subscriber
    from switchgear.transport import AsyncTransport
    from switchgear.waits import Waits


@define(eq=False)
class Gate:
    """Implements `switchgear.owner.Owner` for *transport*, with its parts."""

    transport: AsyncTransport
    outbox: Outbox
    sender: Sender
    waits: Waits
    manager: ConnectionManager = field(init=False)
    subscriber: Subscriber = field(init=False)
    requests: Requests = field(init=False)
    ears: Ears = field(init=False)
    """Of the present connection, or of the last one."""
    connections: int = field(default=0, init=False)
    """How many were usable so far."""
    fatal: ConnectionFailed | None = field(default=None, init=False)
    """Why waiting for a connection is hopeless, for reasons that time does not mend."""
    heard: int = field(default=0, init=False)
    """What connections reported that is counted nowhere else."""

    @property
    def depth(self) -> int:
        """Part of `Owner`."""
        return len(self.outbox)

    @property
    def starts_clean(self) -> bool:
        """Part of `Owner`."""
        return self.outbox.starts_clean

    @property
    def reports(self) -> int:
        """Part of `Owner`."""
        return self.heard + self.sender.acknowledged + self.sender.refused + self.subscriber.received

    def listener(self, generation: int) -> Ears:
        """Part of `Owner`."""
        self.ears = Ears(self, generation)
        return self.ears

    async def restore(self, connection: Connection, *, session_present: bool, was_quick: bool) -> None:
        """Part of `Owner`."""
        self.ears.acks.connection = connection
        self.ears.acks.settle()
        self.outbox.session_began()
        if not session_present:
            self.requests.lose_session()
        self.sender.resume(session_present=session_present, was_quick=was_quick)
        await self.subscriber.restore(connection, session_present=session_present)

    def open_gate(self, connection: Connection) -> None:
        """Part of `Owner`."""
        self.connections += 1
        self.fatal = None
        self.waits.fail(None)
        self.sender.open(connection)
        self.subscriber.open(connection)
        self.requests.open()
        self.transport._tell()

    def shut_gate(self, *, blames: bool) -> None:
        """Part of `Owner`."""
        self.sender.shut(blames=blames)
        self.subscriber.shut()

    async def quiesce(self, bound: float) -> None:
        """Part of `Owner`."""
        self.sender.is_held = True
        acks = self.ears.acks
        loop = asyncio.get_running_loop()
        deadline = loop.time() + bound
        while (self.outbox.sent or len(acks)) and loop.time() < deadline:  # noqa: ASYNC110 - see below
            await asyncio.sleep(min(0.01, bound))  # handlers end on threads that tell nobody else

    async def replace_process(self, request: Restart, plugin: str) -> Restart:
        """Part of `Owner`."""
        why = await process_restart.replace(self.transport, request, plugin)
        return Restart("rebuild", f"in place of the process, for {why}: {request.why}")

    def fail_waiters(self, failure: Failure, endpoint: Endpoint | None, why: str, *, is_final: bool) -> None:
        """Part of `Owner`."""
        at = None if endpoint is None else str(endpoint)
        if is_final:
            self.waits.fail(GaveUp(failure, why, endpoint=at))
            self.outbox.give_room()
        else:
            self.fatal = ConnectionFailed(failure, endpoint=at)
        self.transport._tell()
