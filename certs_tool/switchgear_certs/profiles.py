"""The four kinds of certificates, each with exactly the extensions that the linters accept. Touches nothing.

Source: measured with pkilint 0.13.3 on 2026-11-21 (no finding at severity NOTICE), RFC 5280 sections 4.1 and 4.2. A
key encipherment bit on an EC key is an error, and a subject alternative name is critical only with an empty subject.
Serial numbers have 159 random bits. Server certificates carry no clientAuth: ACM blocks taking it away later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from switchgear_certs.names import COMMON_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear_certs.keys import PrivateKey, PublicKey
    from switchgear_certs.lifetimes import Lifetime
    from switchgear_certs.names import Name

SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH

Extensions = list[tuple[x509.ExtensionType, bool]]


def root(key: PrivateKey, *, name: str | None, lifetime: Lifetime, path_length: int) -> x509.Certificate:
    """A self-signed root; without *name* it is called after its key, so that no two share a name."""
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    subject = _subject(name or f"Switchgear CA {ski.digest.hex()[:8]}")
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
    extensions: Extensions = [*_authority(path_length), (ski, False), (aki, False)]
    return _sign(subject, key.public_key(), subject, key, lifetime=lifetime, extensions=extensions)


def issuing(
    public_key: PublicKey,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    lifetime: Lifetime,
    constraints: x509.NameConstraints | None,
) -> x509.Certificate:
    """An intermediate that issues leaves only (path length 0), for servers and clients, within *constraints*."""
    extensions = _authority(0)
    extensions.append((x509.ExtendedKeyUsage([SERVER, CLIENT]), False))
    if constraints is not None:
        extensions.append((constraints, True))
    extensions += _identifiers(public_key, issuer)
    subject = _subject(f"{_common_name(issuer)} issuing")
    return _sign(subject, public_key, issuer.subject, issuer_key, lifetime=lifetime, extensions=extensions)


def server(
    public_key: PublicKey,
    *,
    names: Sequence[Name],
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    lifetime: Lifetime,
) -> x509.Certificate:
    """A server certificate for *names*. The first is the common name too, when it is a DNS name and short enough."""
    first = names[0]
    subject = _subject(first.text if first.ip is None and len(first.text) <= COMMON_NAME else None)
    sans = x509.SubjectAlternativeName([name.general_name for name in names])
    extensions = [*_leaf(public_key, SERVER), (sans, not list(subject)), *_identifiers(public_key, issuer)]
    return _sign(subject, public_key, issuer.subject, issuer_key, lifetime=lifetime, extensions=extensions)


def client(
    public_key: PublicKey, *, name: str, issuer: x509.Certificate, issuer_key: PrivateKey, lifetime: Lifetime
) -> x509.Certificate:
    """A client certificate whose common name is *name*. It has no alternative names: none of a server's is its own."""
    extensions = [*_leaf(public_key, CLIENT), *_identifiers(public_key, issuer)]
    return _sign(_subject(name), public_key, issuer.subject, issuer_key, lifetime=lifetime, extensions=extensions)


def _authority(path_length: int) -> Extensions:
    return [(x509.BasicConstraints(ca=True, path_length=path_length), True), (_usage(signs_certificates=True), True)]


def _leaf(public_key: PublicKey, purpose: x509.ObjectIdentifier) -> Extensions:
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=True, enciphers_keys=isinstance(public_key, rsa.RSAPublicKey)), True),
        (x509.ExtendedKeyUsage([purpose]), False),
    ]


def _identifiers(public_key: PublicKey, issuer: x509.Certificate) -> Extensions:
    try:
        issuer_ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_ski)
    except x509.ExtensionNotFound:  # an authority that was made elsewhere
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]  # EC or RSA
    return [(x509.SubjectKeyIdentifier.from_public_key(public_key), False), (aki, False)]


def _usage(*, signs: bool = False, enciphers_keys: bool = False, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=enciphers_keys,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str | None) -> x509.Name:
    return x509.Name([] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _common_name(certificate: x509.Certificate) -> str:
    values = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else "CA"


def _sign(
    subject: x509.Name,
    public_key: PublicKey,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    *,
    lifetime: Lifetime,
    extensions: Extensions,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(lifetime.not_before)
        .not_valid_after(lifetime.not_after)
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.sign(issuer_key, hashes.SHA256())
