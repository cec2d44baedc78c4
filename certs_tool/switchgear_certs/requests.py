"""Certificate signing requests: what one asks for, when it may be granted. Pure.

Everything asked for is either in the certificate or a reason to refuse: nothing is dropped in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from switchgear_certs.errors import UnfitRequest
from switchgear_certs.keys import check_public_key

if TYPE_CHECKING:
    from switchgear_certs.keys import PublicKey

_PURPOSES: Final[dict[x509.ObjectIdentifier, str]] = {
    ExtendedKeyUsageOID.SERVER_AUTH: "server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "client",
}


@frozen(kw_only=True)
class Request:
    """What a CSR asks for; *names* are unchecked texts, *purpose* is None where it does not say."""

    public_key: PublicKey
    common_name: str | None
    names: tuple[str, ...]
    purpose: str | None


def read_request(data: bytes, *, where: str, aws_limits: bool = True) -> Request:
    """The request in *data*, PEM or DER, which came from *where*.

    Raises:
        UnfitRequest: it is none, its signature is bad, or it asks for what is not granted.
        UnfitKey: its key is not taken.
    """
    csr = _load(data, where)
    subject = [each for each in csr.subject if each.oid == NameOID.COMMON_NAME]
    if len(subject) > 1:
        raise UnfitRequest(f"{where} asks for {len(subject)} common names; one at most")
    others = sorted({each.rfc4514_attribute_name for each in csr.subject if each.oid != NameOID.COMMON_NAME})
    if others:
        raise UnfitRequest(f"{where} asks for {', '.join(others)} in its subject; only a common name is granted")
    names: tuple[str, ...] = ()
    purpose = None
    for extension in csr.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            if value.ca:
                raise UnfitRequest(f"{where} asks to be a CA; only `init --intermediate` makes one")
        elif isinstance(value, x509.SubjectAlternativeName):
            names = _names(value, where)
        elif isinstance(value, x509.ExtendedKeyUsage):
            purpose = _purpose(value, where)
        elif isinstance(value, x509.KeyUsage):
            _check_usage(value, where)
        elif not isinstance(value, x509.SubjectKeyIdentifier):
            name = getattr(extension.oid, "_name", extension.oid.dotted_string)
            raise UnfitRequest(f"{where} asks for the extension {name}, which is not granted; leave it out")
    return Request(
        public_key=check_public_key(csr.public_key(), aws_limits=aws_limits),
        common_name=str(subject[0].value) if subject else None,
        names=names,
        purpose=purpose,
    )


def _load(data: bytes, where: str) -> x509.CertificateSigningRequest:
    load = x509.load_pem_x509_csr if b"-----BEGIN" in data else x509.load_der_x509_csr
    try:
        csr = load(data)
        _ = csr.extensions, csr.subject, csr.public_key()
        is_signed = csr.is_signature_valid
    except Exception as error:  # ValueError and what else a damaged file calls forth
        raise UnfitRequest(f"{where} holds no certificate signing request: {' '.join(str(error).split())}") from error
    if not is_signed:
        raise UnfitRequest(f"{where}: its signature is bad, so whoever made it may not have the key")
    return csr


def _names(value: x509.SubjectAlternativeName, where: str) -> tuple[str, ...]:
    for name in value:
        if not isinstance(name, x509.DNSName | x509.IPAddress):
            raise UnfitRequest(
                f"{where} asks for a name of the kind {type(name).__name__}; DNS names and IP addresses only"
            )
    return tuple(str(name.value) for name in value)


def _purpose(value: x509.ExtendedKeyUsage, where: str) -> str:
    asked = [_PURPOSES.get(oid, oid.dotted_string) for oid in value]
    if len(asked) != 1 or asked[0] not in _PURPOSES.values():
        raise UnfitRequest(
            f"{where} asks to be used for {', '.join(asked)}; a certificate is for servers or for clients"
        )
    return str(asked[0])


def _check_usage(value: x509.KeyUsage, where: str) -> None:
    if value.key_cert_sign or value.crl_sign:
        raise UnfitRequest(f"{where} asks to sign certificates or CRLs; only `init --intermediate` makes a CA")
    others = [
        word
        for word, is_asked in (
            ("content commitment", value.content_commitment),
            ("data encipherment", value.data_encipherment),
            ("key agreement", value.key_agreement),
        )
        if is_asked
    ]
    if others:
        raise UnfitRequest(f"{where} asks for the key usage {', '.join(others)}, which TLS does not need")
