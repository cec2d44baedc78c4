"""The SDK's TLS contexts, made from files or bytes. Reads certificate files; opens no connection.

The same settings make Python's context for the probe. Contexts are dear and shared: one for each version of the files.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from switchgear.errors import InvalidOption, UnreadableFile
from switchgear.tls import TLS

if TYPE_CHECKING:
    from switchgear_awscrt.options import Options

_CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)
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


def read_identity(tls: TLS | None, options: Options) -> Identity:
    """What the transport's TLS settings and the plugin's options say, read now; may block on the disk.

    Raises:
        UnreadableFile: a file is missing, unreadable or no PEM of the right kind.
        InvalidOption: a key is encrypted, which the SDK cannot read.
    """
    given = tls or TLS()
    ca = options.ca_pem or _read(given.ca_file, "ca_file")
    certificate = options.certificate_pem or _read(given.cert_file, "cert_file")
    if certificate is None:
        return Identity(ca, None, None)
    key = options.private_key_pem or _read(given.key_file, "key_file") or certificate
    if given.key_password is not None or any(mark in key for mark in _ENCRYPTED):
        why = "AWS's SDK reads no encrypted key; decrypt it (openssl pkey -in key.pem -out plain.pem), or choose driver='paho'"
        raise InvalidOption("key_password", why)
    where = given.cert_file or "certificate_pem"
    certificates = b"".join(_CERTIFICATES.findall(certificate))
    if not certificates:
        raise UnreadableFile(where, "cert_file", "it holds no PEM certificate")
    found = _KEY.search(key)
    if found is None:
        raise UnreadableFile(given.key_file or where, "key_file", "it holds no PEM private key")
    return Identity(ca, certificates, found.group())


def _read(path: str | None, role: str) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableFile(path, role, error.strerror or str(error)) from error


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


def python_context(identity: Identity, *, alpn: tuple[str, ...], verify: bool) -> ssl.SSLContext:
    """Python's context for the same; blocks on the disk, for Python reads a key from a file only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif identity.ca is not None:
        context.load_verify_locations(cadata=identity.ca.decode("latin-1"))
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if identity.certificate is not None and identity.key is not None:
        descriptor, name = tempfile.mkstemp(prefix="switchgear-")  # readable by this user only
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(identity.certificate + b"\n" + identity.key)
            context.load_cert_chain(name)
        finally:
            Path(name).unlink()
    return context
