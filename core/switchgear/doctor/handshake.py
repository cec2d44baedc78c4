"""TLS handshakes that look at what a broker shows. Does I/O: a TCP connection for each."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import evolve, field, frozen

from switchgear.doctor.asking import is_address
from switchgear.drivers.base import AttemptFailed
from switchgear.drivers.tls_link import TlsLink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from switchgear.cause import Failure
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint
    from switchgear.tls import TLS


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


Opener: TypeAlias = "Callable[[], Awaitable[ByteLink]]"
"""Opens a connection to the endpoint, up to where TLS begins; raises `AttemptFailed`."""


async def shake(endpoint: Endpoint, opener: Opener, tls: TLS, timeout: float) -> Handshake:
    """Shake hands with *endpoint* as *tls* says, and, if that fails, once more to see what it shows.

    The host name of *endpoint* is what is asked for and checked, as `TLS` is made; *timeout* is in seconds, for each.

    Raises:
        ConfigurationError: what *tls* names is missing or wrong.
    """
    looking = evolve(tls, verify=False, ca_file=None, ca_pem=None).context(warns=False)  # nothing is sent on it
    refusal = None
    try:
        shown = await _shake(endpoint, opener, tls.context(), endpoint.host, timeout)
    except AttemptFailed as error:
        if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
            return Handshake(None, None, error.failure)
        refusal = error.__cause__
        try:
            shown = await _shake(endpoint, opener, looking, endpoint.host, timeout)
        except AttemptFailed as second:
            return Handshake(None, refusal, second.failure)
    if is_address(endpoint.host):  # which SNI cannot hold (RFC 6066, 3)
        return Handshake(shown, refusal)
    try:
        bare = await _shake(endpoint, opener, looking, None, timeout)
    except AttemptFailed:  # many refuse a greeting without a name; that is an answer too
        return Handshake(shown, refusal)
    return Handshake(shown, refusal, without_name=bare.certificates[0])


async def _shake(
    endpoint: Endpoint, opener: Opener, context: ssl.SSLContext, name: str | None, timeout: float
) -> Shown:
    link = TlsLink(await opener(), context, name)
    try:
        await link.secured(timeout, endpoint.authority)
        session = link.session
        cipher = session.cipher()
        return Shown(
            session.version() or "",
            cipher[0] if cipher else "",
            session.selected_alpn_protocol(),
            _certificates(session),
            session.getpeercert() or {},
        )
    finally:
        link.abort()


def _certificates(session: Any) -> tuple[bytes, ...]:
    told = getattr(session, "get_unverified_chain", None)  # public since Python 3.13
    if told is not None:
        return tuple(each for each in told() if isinstance(each, bytes))
    inner = getattr(getattr(session, "_sslobj", None), "get_unverified_chain", None)  # where 3.11 and 3.12 have it
    chain = tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner() or ()) if inner is not None else ()
    return chain or (session.getpeercert(binary_form=True),)
