"""TLS on a link, lean: an `ssl.SSLObject` on memory buffers. A link over a link; the I/O is the one's below.

asyncio's own TLS keeps a read buffer of 256 KB for each connection (measured: about 300 KB in all); this keeps what
OpenSSL needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Final

from switchgear.cause import Cause, Failure, from_exception
from switchgear.drivers.base import AttemptFailed
from switchgear.drivers.link_base import LayeredLink

if TYPE_CHECKING:
    from switchgear.drivers.link_base import ByteLink

READ: Final = 65536
"""Bytes asked of OpenSSL at once; it answers with one record, 16 KB at most (RFC 8446, 5.1)."""


class TlsLink(LayeredLink):
    """Speaks TLS on a `ByteLink` and is one. *name* is asked for and checked; None: nobody is asked for."""

    def __init__(self, stream: ByteLink, context: ssl.SSLContext, name: str | None) -> None:
        super().__init__(stream)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._shaken: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        stream.attach(self)
        self._shake()

    @property
    def session(self) -> ssl.SSLObject:
        """What was agreed on, and shown."""
        return self._tls

    async def secured(self, timeout: float, where: str) -> None:
        """Wait for the end of the handshake with *where*, *timeout* seconds at most.

        Raises:
            AttemptFailed: a certificate was refused, the peer speaks no TLS, or no answer.
        """
        assert self._shaken is not None
        try:
            async with asyncio.timeout(timeout):
                await self._shaken
        except TimeoutError as error:
            detail = f"no TLS session with {where} in {timeout:g} s"
            raise AttemptFailed(Failure(Cause.TLS_TIMEOUT, detail)) from error
        except OSError as error:  # ssl.SSLError is one
            failure = from_exception(error)
            if failure.cause is Cause.CONNECTION_LOST:  # what a port without TLS does with our greeting
                failure = Failure(Cause.TLS_FAILED, "the connection was closed during the handshake")
            raise AttemptFailed(failure) from error
        finally:
            self._shaken = None

    def write(self, data: bytes) -> None:
        """Encrypt and send *data*."""
        if self._is_over:
            return
        left = memoryview(data)
        try:
            while left:
                left = left[self._tls.write(left) :]
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()

    def _say_goodbye(self) -> None:
        """close_notify (RFC 8446, 6.1)."""
        with contextlib.suppress(ssl.SSLError):  # the peer's own goodbye is not waited for
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    def _shake(self) -> None:
        """Go on with the handshake as far as what has arrived allows."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()  # the alert that says why
            self._fail(error)
        else:
            self._flush()
            if self._shaken is not None and not self._shaken.done():
                self._shaken.set_result(None)
            self._read()

    def _read(self) -> None:
        """Hand on what can be decrypted."""
        chunks = []
        try:
            while chunk := self._tls.read(READ):
                chunks.append(chunk)
            over: BaseException | None = None  # the peer said goodbye
            is_over = True
        except ssl.SSLWantReadError:
            over, is_over = None, False
        except ssl.SSLZeroReturnError:
            over, is_over = None, True
        except ssl.SSLError as error:
            over, is_over = error, True
        self._flush()
        if chunks:
            self._deliver(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if is_over:
            self._fail(over)

    def _fail(self, error: BaseException | None) -> None:
        """The link is over for us, whatever the one below thinks."""
        if not self._is_over:
            self.link_lost(error)
            self._below.abandon()

    # What the link below calls.

    def data_received(self, data: bytes) -> None:
        """Part of `Sink`."""
        if self._is_over:
            return
        self._incoming.write(data)
        if self._shaken is not None and not self._shaken.done():
            self._shake()
        else:
            self._read()

    def link_lost(self, error: BaseException | None) -> None:
        """Part of `Sink`."""
        if self._shaken is not None and not self._shaken.done():
            self._shaken.set_exception(error or ConnectionResetError("closed during the TLS handshake"))
        self._end(error)
