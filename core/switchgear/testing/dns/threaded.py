"""A DNS server for synchronous tests: on an event loop in a thread of its own. Threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from switchgear.testing.dns.server import DnsServer
from switchgear.testing.threads import PATIENCE, BackgroundLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.testing.dns.server import Query
    from switchgear.testing.dns.zones import Fault


class ThreadedDnsServer:
    """A `DnsServer` with a thread of its own; it listens from the start. Since: 0.1.

    The methods are those of `DnsServer`, which documents them; they may be called from any thread. Several may share the
    loop of one *home*; otherwise the thread ends with `close`, or with the ``with`` block.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, home: BackgroundLoop | None = None) -> None:
        self._home = home or BackgroundLoop()
        self._owns_home = home is None
        self.server = DnsServer(host=host, port=port)
        try:
            self._home.do(self.server.start())
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Threaded{repr(self.server)[1:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """See `DnsServer`."""
        return self.server.host

    @property
    def port(self) -> int:
        """See `DnsServer`."""
        return self.server.port

    @property
    def address(self) -> str:
        """See `DnsServer.address`."""
        return self.server.address

    @property
    def queries(self) -> list[Query]:
        """See `DnsServer`; a copy."""
        return self._home.do(lambda: list(self.server.queries))

    def start(self) -> None:
        """See `DnsServer.start`."""
        self._home.do(self.server.start())

    def stop(self) -> None:
        """See `DnsServer.stop`."""
        self._home.do(self.server.stop())

    def set_cname(self, name: str, target: str, *, ttl: int = 0) -> None:
        """See `DnsServer.set_cname`."""
        self._home.do(lambda: self.server.set_cname(name, target, ttl=ttl))

    def set_a(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """See `DnsServer.set_a`."""
        self._home.do(lambda: self.server.set_a(name, *addresses, ttl=ttl))

    def set_ns(self, zone: str, *servers: str, ttl: int = 60) -> None:
        """See `DnsServer.set_ns`."""
        self._home.do(lambda: self.server.set_ns(zone, *servers, ttl=ttl))

    def set_soa(
        self, zone: str, *, serial: int = 1, primary: str | None = None, negative_ttl: int = 0, ttl: int = 60
    ) -> None:
        """See `DnsServer.set_soa`."""
        self._home.do(
            lambda: self.server.set_soa(zone, serial=serial, primary=primary, negative_ttl=negative_ttl, ttl=ttl)
        )

    def remove(self, name: str) -> None:
        """See `DnsServer.remove`."""
        self._home.do(lambda: self.server.remove(name))

    def fail(self, name: str, how: Fault | None) -> None:
        """See `DnsServer.fail`."""
        self._home.do(lambda: self.server.fail(name, how))

    def delay(self, name: str, seconds: float) -> None:
        """See `DnsServer.delay`."""
        self._home.do(lambda: self.server.delay(name, seconds))

    def freeze(self, name: str) -> None:
        """See `DnsServer.freeze`."""
        self._home.do(lambda: self.server.freeze(name))

    def thaw(self, name: str) -> None:
        """See `DnsServer.thaw`."""
        self._home.do(lambda: self.server.thaw(name))

    def clear_queries(self) -> None:
        """See `DnsServer.clear_queries`."""
        self._home.do(self.server.clear_queries)

    def wait_until(self, condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Return as soon as *condition* holds; it is asked now and after each question, on the loop's thread.

        Raises:
            TimeoutError: it did not within *timeout* seconds.
        """
        self._home.do(self.server.until(condition), timeout)

    def close(self) -> None:
        """Stop it, and end its thread. Again: nothing."""
        if not self._home.loop.is_closed():
            self._home.do(self.server.stop())
            if self._owns_home:
                self._home.close()
