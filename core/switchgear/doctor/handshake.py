"""TLS handshakes that look at what a broker shows. Does I/O: a TCP connection for each."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from switchgear.cause import Cause, Failure, from_exception
from switchgear.doctor.asking import is_address
from switchgear.tls import TLS

if TYPE_CHECKING:
    from switchgear.endpoint import Endpoint


@frozen
class Shown:
    """What one handshake showed.

    Attributes:
        version: Such as ``TLSv1.3``.
        cipher: The cipher suite.
        alpn: The protocol that the broker chose; None: none.
        certificates: In DER, the leaf first; before Python 3.13 only some versions tell more than the leaf.
        described: The leaf as `ssl` describes it; empty unless it was verified.
    """

    version: str
    cipher: str
    alpn: str | None
    certificates: tuple[bytes, ...] = field(repr=False)
    described: dict[str, Any] = field(factory=dict, repr=False)


@frozen
class Handshake:
    """What trusting the broker as the profile says came to.

    Attributes:
        shown: What it showed; None when there was no TLS session at all.
        refusal: Why OpenSSL does not trust it; None when it does.
        failure: Why there was no session.
        without_name: The leaf that it shows to those who name no host (SNI); None: it refuses them, or was not asked.
    """

    shown: Shown | None
    refusal: ssl.SSLCertVerificationError | None = None
    failure: Failure | None = None
    without_name: bytes | None = field(default=None, repr=False)


async def shake(endpoint: Endpoint, address: str, tls: TLS | None, timeout: float) -> Handshake:
    """Shake hands with *address* as the profile does, and, if that fails, once more to see what it shows.

    The host name of *endpoint* is what is asked for and checked, as `TLS` is made; *timeout* is in seconds, for each.

    Raises:
        UnreadableFile: a file of *tls* is missing or wrong.
    """
    settings = tls or TLS()
    trusting = evolve(settings, verify=False, ca_file=None)._make()  # for looking only: nothing is sent on it
    refusal = None
    try:
        shown = await _shake(endpoint, address, settings.context(), endpoint.host, timeout)
    except ssl.SSLCertVerificationError as error:
        refusal = error
        try:
            shown = await _shake(endpoint, address, trusting, endpoint.host, timeout)
        except OSError as second:
            return Handshake(None, refusal, _judge(second, timeout))
    except OSError as error:
        return Handshake(None, None, _judge(error, timeout))
    if is_address(endpoint.host):  # which SNI cannot hold (RFC 6066, 3)
        return Handshake(shown, refusal)
    try:
        bare = await _shake(endpoint, address, trusting, "", timeout)
    except OSError:  # many refuse a greeting without a name; that is an answer too
        return Handshake(shown, refusal)
    return Handshake(shown, refusal, without_name=bare.certificates[0])


async def _shake(endpoint: Endpoint, address: str, context: ssl.SSLContext, name: str, timeout: float) -> Shown:
    async with asyncio.timeout(timeout):
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, address, endpoint.port, ssl=context, server_hostname=name
        )
    try:
        session = transport.get_extra_info("ssl_object")
        cipher = session.cipher()
        return Shown(
            session.version() or "",
            cipher[0] if cipher else "",
            session.selected_alpn_protocol(),
            _certificates(session),
            session.getpeercert() or {},
        )
    finally:
        transport.abort()


def _certificates(session: Any) -> tuple[bytes, ...]:
    told = getattr(session, "get_unverified_chain", None)  # public since Python 3.13
    if told is not None:
        return tuple(each for each in told() if isinstance(each, bytes))
    inner = getattr(getattr(session, "_sslobj", None), "get_unverified_chain", None)  # where 3.11 and 3.12 have it
    chain = tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner() or ()) if inner is not None else ()
    return chain or (session.getpeercert(binary_form=True),)


def _judge(error: OSError, timeout: float) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(Cause.TLS_TIMEOUT, f"no answer in {timeout:g} s")
    failure = from_exception(error)
    if failure.cause is Cause.CONNECTION_LOST:  # what a port without TLS does with our greeting
        return Failure(Cause.TLS_FAILED, "the connection was closed during the handshake")
    return failure
