"""The SDK's TLS contexts, made from files or text. Reads certificate files; opens no connection.

Contexts are dear and shared: one for each version of the files.
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen
from switchgear.errors import InvalidOption, UnreadableFile
from switchgear.tls import CERTIFICATES, TLS

_KEY: Final = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END (?:[A-Z]+ )?PRIVATE KEY-----\s*", re.DOTALL
)
_ENCRYPTED: Final = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


@frozen
class Identity:
    """Whom to trust and who we are, as bytes; None: the system's CAs, no certificate of ours."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None


def read_identity(tls: TLS | None) -> Identity:
    """What the transport's TLS settings say, read now; may block on the disk.

    Raises:
        ConfigurationError: a file is missing, unreadable or no PEM of the right kind.
        InvalidOption: a key is encrypted, which the SDK cannot read.
    """
    given = tls or TLS()
    ca, certificate = given.read_ca(), given.read_certificate()
    if certificate is None:
        return Identity(ca, None, None)
    key = given.read_key() or certificate
    if given.key_password is not None or any(mark in key for mark in _ENCRYPTED):
        why = "AWS's SDK reads no encrypted key; decrypt it (openssl pkey -in key.pem -out plain.pem), or choose driver='paho'"
        raise InvalidOption("key_password", why)
    certificates = b"".join(CERTIFICATES.findall(certificate))
    if not certificates:
        raise UnreadableFile(given.cert_file or "cert_pem", "cert_file", "it holds no PEM certificate")
    found = _KEY.search(key)
    if found is None:
        where = given.key_file or ("key_pem" if given.key_pem else given.cert_file or "cert_pem")
        raise UnreadableFile(where, "key_file", "it holds no PEM private key")
    return Identity(ca, certificates, found.group())


_CONTEXTS: Final[dict[tuple[object, ...], Any]] = {}


def sdk_context(io: Any, identity: Identity, *, alpn: tuple[str, ...], verify: bool) -> Any:
    """The SDK's context for *identity*, shared by all who ask for the same.

    Raises:
        InvalidOption: the SDK cannot use what the files hold.
    """
    key = (identity, alpn, verify)
    context = _CONTEXTS.get(key)
    if context is None:
        context = _make(io, identity, alpn, verify=verify)
        if len(_CONTEXTS) >= 64:
            _CONTEXTS.pop(next(iter(_CONTEXTS)))
        _CONTEXTS[key] = context
    return context


def _make(io: Any, identity: Identity, alpn: tuple[str, ...], *, verify: bool) -> Any:
    made = (
        io.TlsContextOptions()
        if identity.certificate is None
        else io.TlsContextOptions.create_client_with_mtls(identity.certificate, identity.key)
    )
    made.min_tls_ver = io.TlsVersion.TLSv1_2
    made.verify_peer = verify
    made.alpn_list = list(alpn) or None
    if identity.ca is not None:
        made.override_default_trust_store(identity.ca)
    try:
        return io.ClientTlsContext(made)
    except Exception as error:  # whatever the SDK raises, it is about these
        why = f"AWS's SDK cannot use these certificates and this key ({error}); they must be PEM, RSA or EC, and match"
        raise InvalidOption("tls", why) from error
