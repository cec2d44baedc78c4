"""Brokers and proxies for synchronous tests: each on an event loop in a thread of its own.

Everything of a broker or proxy must be called on its loop's thread; the classes here do that, and wait until it is done.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from switchgear.testing.broker import Broker, Ledger, Store
from switchgear.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from switchgear.endpoint import Endpoint
    from switchgear.testing.broker import Faults
    from switchgear.testing.proxy import Counts, Way

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds that a call on the loop's thread may take before it is said to hang."""


class BackgroundLoop:
    """An event loop in a thread, until `close`. Since: 0.1."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="switchgear-testing", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(self, work: Callable[[], T] | Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
        """What *work*, a coroutine or a plain function, gives on the loop's thread; *timeout* is in seconds.

        Raises:
            TimeoutError: it ran out.
        """
        coroutine: Coroutine[Any, Any, T] = work if isinstance(work, Coroutine) else _call(work)
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and its thread. Again: nothing."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))


async def _call(work: Callable[[], T]) -> T:
    return work()


class _Remote:
    """The methods of an object, called on a loop's thread; its other attributes as they are."""

    def __init__(self, home: BackgroundLoop, thing: object) -> None:
        self._home = home
        self._thing = thing

    def __repr__(self) -> str:
        return repr(self._thing)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def call(*positional: Any, **named: Any) -> Any:
            return self._home.do(functools.partial(value, *positional, **named))

        return call


class ThreadedBroker:
    """A `Broker` on a loopback port, with a thread of its own; it listens from the start. Since: 0.1.

    *options* are those of `Broker`; *ssl* and *websocket* those of `Broker.start`. Several may share the loop of one
    *home*; otherwise the thread ends with `close`, or with the ``with`` block.

    Attributes:
        broker: The broker itself, to be called on the loop's thread: ``do(broker.broker.start(websocket=True))``.
        faults: What it does wrong on demand; its methods may be called from here.
        ledger: Everything that it saw.
    """

    def __init__(
        self,
        *,
        home: BackgroundLoop | None = None,
        ssl: SSLContext | None = None,
        websocket: bool = False,
        **options: Any,
    ) -> None:
        self._home = home or BackgroundLoop()
        self._owns_home = home is None
        self.broker = Broker(**options)
        self.ledger: Ledger = self.broker.ledger
        self.faults = cast("Faults", _Remote(self._home, self.broker.faults))
        self.do(self.broker.start(ssl=ssl, websocket=websocket))

    def __repr__(self) -> str:
        return f"<Threaded{repr(self.broker)[1:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def uri(self) -> str:
        """Where a client connects to."""
        return self.broker.uri

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return self.broker.port

    @property
    def clients(self) -> list[str]:
        """The client ids connected now."""
        return self.do(lambda: self.broker.clients)

    def do(self, work: Callable[[], T] | Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
        """As `BackgroundLoop.do`."""
        return self._home.do(work, timeout)

    def kill(self) -> None:
        """Die as by SIGKILL; the port refuses connections until `restart`, only the store survives."""
        self.do(self.broker.kill())

    def restart(self) -> None:
        """Come back on the same port."""
        self.do(self.broker.restart())

    def kick(self, client_id: str, reason: int = 0x98) -> bool:
        """Close a client's connection, with *reason* in MQTT 5 (0x98: administrative action); whether there was one."""
        return self.do(lambda: self.broker.kick(client_id, reason))

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 0, retain: bool = False) -> None:
        """Publish a message of the broker's own."""
        self.do(lambda: self.broker.publish(topic, payload, qos=qos, retain=retain))

    def wait_until(self, condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Return as soon as *condition* holds; it is asked now and after each entry of the ledger.

        Raises:
            TimeoutError: it did not within *timeout* seconds.
        """
        self.do(self.ledger.until(condition), timeout)

    def close(self) -> None:
        """Shut down in order. Again: nothing."""
        if not self._home.loop.is_closed():
            self.do(self.broker.stop())
            if self._owns_home:
                self._home.close()


class ThreadedPair:
    """Two brokers on one store, active and standby, with one ledger and one thread. Since: 0.1.

    What one of them has acknowledged, the other delivers; the standby refuses connections until it takes over.

    Attributes:
        brokers: Both, in the order of `uris`.
        ledger: Everything that both saw.
    """

    def __init__(self) -> None:
        self._home = BackgroundLoop()
        store, self.ledger = Store(), Ledger()
        self.brokers = tuple(
            ThreadedBroker(home=self._home, name=name, store=store, ledger=self.ledger, standby=is_standby)
            for name, is_standby in (("active", False), ("standby", True))
        )
        self._active = 0

    def __repr__(self) -> str:
        return f"<ThreadedPair {' '.join(self.uris)} active={self.active.broker.name!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def uris(self) -> list[str]:
        """Where both are; give them to `switchgear.connect` with ``session="shared"``."""
        return [each.uri for each in self.brokers]

    @property
    def active(self) -> ThreadedBroker:
        """The one that serves, or served last."""
        return self.brokers[self._active]

    @property
    def standby(self) -> ThreadedBroker:
        """The other one."""
        return self.brokers[1 - self._active]

    def do(self, work: Callable[[], T] | Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
        """As `BackgroundLoop.do`."""
        return self._home.do(work, timeout)

    def kill(self) -> None:
        """Kill the active one: both refuse connections until `take_over`."""
        self.active.kill()

    def take_over(self) -> None:
        """Make the standby the active one; the other is the standby from now on, killed or not."""
        self.do(self.active.broker.kill())
        self.do(self.active.broker.restart(standby=True))
        self.do(self.standby.broker.promote())
        self._active = 1 - self._active

    def wait_until(self, condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """As `ThreadedBroker.wait_until`."""
        self.do(self.ledger.until(condition), timeout)

    def close(self) -> None:
        """Shut both down in order. Again: nothing."""
        for each in self.brokers:
            each.close()
        self._home.close()


class ThreadedProxy:
    """A `FaultProxy` with a thread of its own; it listens from the start. Since: 0.1.

    The methods are those of `FaultProxy`, which documents them.
    """

    def __init__(self, target: str | Endpoint, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._home = BackgroundLoop()
        self.proxy = FaultProxy(target, host=host, port=port)
        self._home.do(self.proxy.start())

    def __repr__(self) -> str:
        return f"<Threaded{repr(self.proxy)[1:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def target(self) -> str | Endpoint:
        """Where new connections are led; may be set."""
        return self.proxy.target

    @target.setter
    def target(self, target: str | Endpoint) -> None:
        self.proxy.target = target

    @property
    def uri(self) -> str:
        """See `FaultProxy.uri`."""
        return self.proxy.uri

    @property
    def authority(self) -> str:
        """See `FaultProxy.authority`."""
        return self.proxy.authority

    @property
    def port(self) -> int:
        """See `FaultProxy.port`."""
        return self.proxy.port

    @property
    def counts(self) -> Counts:
        """See `Counts`."""
        return self.proxy.counts

    @property
    def open(self) -> int:
        """See `FaultProxy.open`."""
        return self.proxy.open

    def refuse(self) -> None:
        """See `FaultProxy.refuse`."""
        self._home.do(self.proxy.refuse)

    def silence(self, *, times: int | None = None) -> None:
        """See `FaultProxy.silence`."""
        self._home.do(lambda: self.proxy.silence(times=times))

    def blackhole(self) -> None:
        """See `FaultProxy.blackhole`."""
        self._home.do(self.proxy.blackhole)

    def forget(self) -> int:
        """See `FaultProxy.forget`."""
        return self._home.do(self.proxy.forget)

    def slow(self, delay: float = 0.0, *, rate: float | None = None) -> None:
        """See `FaultProxy.slow`."""
        self._home.do(lambda: self.proxy.slow(delay, rate=rate))

    def cut(self) -> int:
        """See `FaultProxy.cut`."""
        return self._home.do(self.proxy.cut)

    def cut_after(self, count: int, to: Way = "broker", *, times: int | None = 1) -> None:
        """See `FaultProxy.cut_after`."""
        self._home.do(lambda: self.proxy.cut_after(count, to, times=times))

    def half_close(self, to: Way = "client") -> int:
        """See `FaultProxy.half_close`."""
        return self._home.do(lambda: self.proxy.half_close(to))

    def close_all(self) -> int:
        """See `FaultProxy.close_all`."""
        return self._home.do(self.proxy.close_all)

    def restore(self) -> None:
        """See `FaultProxy.restore`."""
        self._home.do(self.proxy.restore())

    def close(self) -> None:
        """Reset every connection, give the port back and end the thread. Again: nothing."""
        if not self._home.loop.is_closed():
            self._home.do(self.proxy.stop())
            self._home.close()
