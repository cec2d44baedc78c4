"""Why TLS with the broker does not come about: a handshake of our own, up to where MQTT would begin. Does I/O.

The SDK reports a certificate that it refuses 10 to 30 s late (s2n waits, so that nobody can time it), with the same code
as a connection that was reset. Python's TLS says at once what is wrong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attrs import define, field
from switchgear.cause import Cause, Failure, from_exception
from switchgear.drivers.base import AttemptFailed
from switchgear.drivers.tls_link import TlsLink

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Hashable

    from switchgear.drivers.link_base import ByteLink

LINGER: Final = 0.5
"""Seconds after the handshake in which a broker may still refuse our certificate: over TLS 1.3 it does so afterwards."""

TELLING: Final = frozenset(
    {
        Cause.CERTIFICATE_INVALID,
        Cause.CERTIFICATE_EXPIRED,
        Cause.CERTIFICATE_NAME,
        Cause.CLIENT_CERTIFICATE_REFUSED,
        Cause.TLS_FAILED,
    }
)
"""Causes that a probe can establish; another one says only that the probe, too, did not get through."""


KEPT: Final = (1.0, 30.0)
"""Seconds for which a finding counts, and for which it counts that nothing was found."""


@define(eq=False)
class Findings:
    """What probes have found, for all connections of the process: thousands may have the same question at once."""

    _found: dict[Hashable, tuple[float, Failure | None]] = field(factory=dict)
    _running: set[Hashable] = field(factory=set)

    async def about(self, subject: Hashable, look: Callable[[], Awaitable[Failure | None]]) -> Failure | None:
        """What *look* finds, or has found a moment ago; one looks at *subject*, the others wait for it."""
        now = asyncio.get_running_loop().time
        while subject in self._running:  # noqa: ASYNC110 - the one who looks may be on another loop
            await asyncio.sleep(0.05)
        until, finding = self._found.get(subject, (0.0, None))
        if now() < until:
            return finding
        self._running.add(subject)
        try:
            finding = await look()
        finally:
            self._running.discard(subject)
        if len(self._found) >= 1024:
            self._found.clear()
        self._found[subject] = now() + KEPT[finding is None], finding
        return finding


FINDINGS: Final = Findings()
"""Those of this process."""


class _Sink:
    """Hears how a link ends."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Part of `switchgear.drivers.link_base.Sink`."""

    def link_writable(self) -> None:
        """Part of `switchgear.drivers.link_base.Sink`."""

    def link_lost(self, error: BaseException | None) -> None:
        """Part of `switchgear.drivers.link_base.Sink`."""
        if not self.ended.done():
            self.ended.set_result(error)


async def probe(stream: ByteLink, context: ssl.SSLContext, host: str, timeout: float) -> Failure | None:
    """What TLS with *host* on *stream* fails of; None when it does not, or when that cannot be said. Closes *stream*."""
    link = TlsLink(stream, context, host)
    sink = _Sink()
    try:
        await link.secured(timeout, host)
        link.attach(sink)
        async with asyncio.timeout(LINGER):
            error = await sink.ended
    except AttemptFailed as error_:
        return error_.failure if error_.failure.cause in TELLING else None
    except TimeoutError:
        return None  # it waits for CONNECT, as it should
    finally:
        link.abort()
    failure = None if error is None else from_exception(error)
    return failure if failure is not None and failure.cause in TELLING else None
