"""PKCS #12 stores, as Java reads them: a key store with a certificate and its key, a trust store with a root. Pure.

Java 8u301 and 11.0.12 or newer read them (AES-256, SHA-256). keytool wants passwords of six characters at least.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from switchgear_certs import chain
from switchgear_certs.errors import UnfitKey, WrongPassphrase
from switchgear_certs.keys import same_key

if TYPE_CHECKING:
    from cryptography import x509

    from switchgear_certs.certificate import Certificate

SHORTEST: Final = 6


def check_password(password: str) -> str:
    """*password*, when Java takes it. Raises `WrongPassphrase`."""
    if len(password) < SHORTEST or not password.isascii() or not password.isprintable():
        raise WrongPassphrase(
            f"a store's password has at least {SHORTEST} characters, all of them printable ASCII, for Java"
        )
    return password


def new_password() -> str:
    """A password that nobody needs to remember."""
    return secrets.token_urlsafe(18)


def key_store(certificate: Certificate, password: str) -> bytes:
    """A key store with *certificate*, its key and its issuers.

    Raises:
        UnfitKey: the key is not here.
    """
    if certificate.key is None:
        raise UnfitKey(
            f"the key of {chain.title(certificate.leaf)} is not here, and a key store without key serves nobody"
        )
    name = chain.title(certificate.leaf).encode()
    encryption = BestAvailableEncryption(check_password(password).encode())
    return pkcs12.serialize_key_and_certificates(
        name, certificate.key, certificate.leaf, list(certificate.issuers), encryption
    )


def trust_store(root: x509.Certificate, password: str) -> bytes:
    """A trust store with *root*, marked as Java wants it."""
    entry = pkcs12.PKCS12Certificate(root, chain.title(root).encode())
    return pkcs12.serialize_java_truststore([entry], BestAvailableEncryption(check_password(password).encode()))


def is_key_store_of(data: bytes, password: str, certificate: Certificate) -> bool:
    """Whether *data* opens with *password* and holds just *certificate*, its key and its issuers."""
    try:
        found = pkcs12.load_pkcs12(data, password.encode())
    except ValueError:
        return False
    return (
        found.key is not None
        and found.cert is not None
        and found.cert.certificate == certificate.leaf
        and {each.certificate for each in found.additional_certs} == set(certificate.issuers)
        and same_key(found.key.public_key(), certificate.leaf.public_key())
    )


def is_trust_store_of(data: bytes, password: str, root: x509.Certificate) -> bool:
    """Whether *data* opens with *password* and holds just *root*."""
    try:
        found = pkcs12.load_pkcs12(data, password.encode())
    except ValueError:
        return False
    return found.key is None and [each.certificate for each in found.additional_certs] == [root]
