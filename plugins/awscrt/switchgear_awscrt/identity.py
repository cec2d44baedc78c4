"""The SDK's TLS contexts, made from files or text. Reads certificate files; opens no connection.

Contexts are dear and shared: one for each version of the files.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from attrs import astuple, field, frozen
from switchgear.errors import ConfigurationError, InvalidOption, UnreadableFile
from switchgear.tls import CERTIFICATES, TLS, keep

if TYPE_CHECKING:
    from collections.abc import Hashable

_KEY: Final = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END (?:[A-Z]+ )?PRIVATE KEY-----\s*", re.DOTALL
)
_ENCRYPTED: Final = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


@frozen
class Identity:
    """Whom to trust and who we are, as bytes; None: the system's CAs, no certificate of ours."""

    ca: bytes | None = field(repr=False)
    certificate: bytes | None = field(repr=False)
    key: bytes | None = field(repr=False)

    def fingerprint(self) -> Hashable:
        """What tells it from others; holds no secret."""
        return tuple(None if part is None else hashlib.sha256(part).digest() for part in astuple(self))


def read_identity(tls: TLS | None) -> Identity:
    """What the transport's TLS settings say, read now; may block on the disk.

    Raises:
        ConfigurationError: a file or a text is missing, unreadable or no PEM of the right kind.
        InvalidOption: a key is encrypted, which the SDK cannot read.
    """
    given = tls or TLS()
    ca = _certificates(given.read_ca(), given.ca_file, "ca")
    certificate = given.read_certificate()
    certificates = _certificates(certificate, given.cert_file, "cert")
    if certificate is None:
        return Identity(ca, None, None)
    own = given.read_key()
    key = certificate if own is None else own
    if given.key_password is not None or any(mark in key for mark in _ENCRYPTED):
        why = "AWS's SDK reads no encrypted key; decrypt it (openssl pkey -in key.pem -out plain.pem), or choose driver='paho'"
        raise InvalidOption("key_password", why)
    found = _KEY.search(key)
    if found is None:
        why = "it holds no PEM private key"
        raise _wrong(given.cert_file, "cert", why) if own is None else _wrong(given.key_file, "key", why)
    return Identity(ca, certificates, found.group())


def _certificates(data: bytes | None, path: str | None, kind: str) -> bytes | None:
    """The certificates of *data*, without what Python skips and the SDK stumbles over, such as a key of another."""
    found = None if data is None else b"".join(CERTIFICATES.findall(data))
    if found == b"":
        raise _wrong(path, kind, "it holds no PEM certificate")
    return found


def _wrong(path: str | None, kind: str, why: str) -> ConfigurationError:
    return InvalidOption(f"tls.{kind}_pem", why) if path is None else UnreadableFile(path, f"{kind}_file", why)


_CONTEXTS: Final[dict[Hashable, Any]] = {}


def sdk_context(io: Any, identity: Identity, *, alpn: tuple[str, ...], verify: bool) -> Any:
    """The SDK's context for *identity*, shared by all who ask for the same.

    Raises:
        InvalidOption: the SDK cannot use what the files hold.
    """
    key = (identity.fingerprint(), alpn, verify)
    context = _CONTEXTS.get(key)
    if context is None:
        context = _make(io, identity, alpn, verify=verify)
        keep(_CONTEXTS, key, context)
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
