"""The broker: listeners, life and death, and what a test does to it. Touches the loop and its listeners."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Self

from switchgear.testing.broker import reasons
from switchgear.testing.broker.connection import Connection
from switchgear.testing.broker.context import Authorize, Context
from switchgear.testing.broker.faults import Faults
from switchgear.testing.broker.ledger import Ledger
from switchgear.testing.broker.listener import Listener
from switchgear.testing.broker.routing import route
from switchgear.testing.broker.store import Message, Store
from switchgear.testing.broker.websocket import WebSocket

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Mapping
    from types import TracebackType

_FAREWELL: Final = 1.0  # seconds that `stop` gives clients to take what was written to them


class Broker:
    """A small MQTT broker (3.1.1 and 5) on the running loop, for demos and tests, never for production.

    Two brokers with one `store` are an active-standby pair: what one of them has acknowledged, the other delivers. A
    broker made with *standby* refuses connections until `promote`. `users` maps names to passwords; without it
    everyone may connect. `authorize` is asked with the user name, "publish" or "subscribe" and the topic or filter;
    `False` refuses. `receive_maximum` (messages) and `maximum_packet_size` (bytes) are announced to clients of
    MQTT 5 and enforced; `server_keep_alive` (seconds) overrules their keepalive.

    Nothing that it has accepted is dropped for lack of room: queues have no limit, and a subscriber that does not
    read costs memory. It keeps no thread and reads no clock but the loop's, so it runs on a loop with virtual time as well: connect the
    protocol from `protocol_factory` to a transport in memory. Everything is to be called from the loop's thread.
    """

    def __init__(
        self,
        *,
        name: str = "broker",
        store: Store | None = None,
        ledger: Ledger | None = None,
        standby: bool = False,
        users: Mapping[str, str] | None = None,
        authorize: Authorize | None = None,
        receive_maximum: int = 0xFFFF,
        maximum_packet_size: int | None = None,
        server_keep_alive: int | None = None,
        enforces_keepalive: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.store = Store() if store is None else store
        self.ledger = Ledger() if ledger is None else ledger
        self.faults = Faults(targets=self._live)
        self._is_standby = standby
        self._listeners: list[Listener] = []
        self._context = Context(
            name=name,
            store=self.store,
            ledger=self.ledger,
            faults=self.faults,
            rng=random.Random(0) if rng is None else rng,
            users=users,
            authorize=authorize,
            receive_maximum=receive_maximum,
            maximum_packet_size=maximum_packet_size,
            server_keep_alive=server_keep_alive,
            enforces_keepalive=enforces_keepalive,
            is_up=not standby,
        )

    def __repr__(self) -> str:
        state = "listening" if self.is_listening else "standby" if self._is_standby else "down"
        return f"<Broker {self.name!r} {state} {' '.join(self.uris)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.stop()

    # Where it listens

    async def start(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        websocket: bool = False,
    ) -> int:
        """Add a listener and return its port; may be called several times.

        With port 0 the system chooses one. A standby, or a broker that is down, takes the port and refuses
        connections until it is promoted or started again.

        Raises:
            OSError: the address cannot be had.
        """
        scheme = ("wss" if ssl else "ws") if websocket else ("mqtts" if ssl else "mqtt")
        factory = self._websocket if websocket else self.protocol_factory
        listener = Listener(factory, host=host, port=port, ssl=ssl, scheme=scheme)
        listener.reserve()
        self._listeners.append(listener)
        if self._context.is_up:
            await listener.open()
        return listener.port

    @property
    def port(self) -> int:
        """The port of the first listener.

        Raises:
            RuntimeError: there is none; call `start` first.
        """
        return self._first().port

    @property
    def uri(self) -> str:
        """Where clients reach the first listener: mqtt://, mqtts://, ws:// or wss://, host and port.

        Raises:
            RuntimeError: there is none; call `start` first.
        """
        return self._first().uri

    @property
    def uris(self) -> list[str]:
        """Where clients reach each listener, in the order of the calls of `start`."""
        return [listener.uri for listener in self._listeners]

    @property
    def is_listening(self) -> bool:
        """Whether it takes connections; one that has no listeners takes those that a test makes in memory."""
        return self._context.is_up and all(listener.is_open for listener in self._listeners)

    @property
    def clients(self) -> list[str]:
        """The client ids connected now, the oldest connection first."""
        return [connection.client_id for connection in self._live() if connection.session is not None]

    def protocol_factory(self) -> asyncio.Protocol:
        """The broker's end of a new client connection, for a transport of any kind.

        It calls `write`, `close`, `abort`, `is_closing`, `get_extra_info`, `can_write_eof` and `write_eof` of the
        transport. While the broker is down it aborts the transport at once.
        """
        return Connection(self._context)

    # Life and death

    async def kill(self) -> None:
        """Die as by SIGKILL: no farewell, no wills, nothing more is sent; only the store survives.

        Connections end at once, the ports refuse connections until `restart`.
        """
        self._go_down()
        for listener in self._listeners:
            listener.reserve()
        for connection in list(self._context.connections.values()):
            connection.abort("killed")
        await asyncio.sleep(0)  # asyncio closes aborted sockets in the next turn

    async def stop(self) -> None:
        """Shut down in order: clients of MQTT 5 are told 0x8B, all are closed, the ports are given back."""
        self._go_down()
        for listener in self._listeners:
            listener.release()
        context = self._context
        for connection in list(context.connections.values()):
            connection.close("stopped", say=reasons.SERVER_SHUTTING_DOWN)
        if context.connections:
            context.emptied.clear()
            try:
                async with asyncio.timeout(_FAREWELL):
                    await context.emptied.wait()
            except TimeoutError:
                for connection in list(context.connections.values()):
                    connection.abort("stopped")
                await asyncio.sleep(0)

    async def restart(self, *, standby: bool = False) -> None:
        """Come back on the same ports, as a standby if told so."""
        self._is_standby = standby
        self._context.is_up = not standby
        for listener in self._listeners:
            if standby:
                listener.reserve()
            else:
                await listener.open()

    async def promote(self) -> None:
        """Make a standby the active broker: its ports take connections from now on."""
        await self.restart()

    # What a test does to it

    def kick(self, client_id: str, reason: int = reasons.ADMINISTRATIVE_ACTION) -> bool:
        """Close a client's connection, with a DISCONNECT that carries *reason* in MQTT 5; tell whether there was one."""
        for connection in self._live():
            if connection.session is not None and connection.client_id == client_id:
                connection.close("kicked", say=reason)
                return True
        return False

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 0, retain: bool = False) -> None:
        """Publish a message of the broker's own."""
        now = asyncio.get_running_loop().time()
        route(self.store, Message(topic, payload, qos, retain), now=now)

    # Inside

    def _live(self) -> list[Connection]:
        return [connection for connection in self._context.connections.values() if not connection.has_ended]

    def _first(self) -> Listener:
        if not self._listeners:
            raise RuntimeError(f"broker {self.name!r} has no listener; call start() first")
        return self._listeners[0]

    def _websocket(self) -> asyncio.Protocol:
        return WebSocket(Connection(self._context))

    def _go_down(self) -> None:
        context = self._context
        context.is_up = False
        context.life += 1
        for timer, _ in context.wills.values():
            timer.cancel()
        context.wills.clear()
