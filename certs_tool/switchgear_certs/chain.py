"""Certificates in PEM, and who issued whom. Pure."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from switchgear_certs.errors import FileTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

E = TypeVar("E", bound=x509.ExtensionType)


def load_pem(data: bytes, *, where: str) -> list[x509.Certificate]:
    """Every certificate in *data*, which came from *where*, in its order.

    Raises:
        FileTrouble: there is none, or one of them is damaged.
    """
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise FileTrouble(f"{where} holds no certificate in PEM")
    return _parsed(lambda: x509.load_pem_x509_certificates(data), where)


def load_der(data: Iterable[bytes], *, where: str) -> list[x509.Certificate]:
    """The certificates *data*, which *where* showed.

    Raises:
        FileTrouble: one of them is damaged.
    """
    return _parsed(lambda: [x509.load_der_x509_certificate(each) for each in data], where)


def _parsed(load: Callable[[], list[x509.Certificate]], where: str) -> list[x509.Certificate]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what is odd, which our own checks report
            found = load()
            for each in found:
                _ = each.extensions, each.subject, each.issuer, each.public_key()  # parsed late; damage is to show here
    except Exception as error:  # ValueError and what else a damaged file calls forth
        raise FileTrouble(f"{where} holds a damaged certificate: {' '.join(str(error).split())}") from error
    return found


def to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """*certificates* in PEM, one after the other."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether *issuer*'s name and key are those that *certificate* was signed with."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it issued itself."""
    return is_issued_by(certificate, certificate)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may issue certificates: basic constraints and, where there is one, key usage say so."""
    basics = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    return basics is not None and basics.ca and (usage is None or usage.key_cert_sign)


def issuers_of(certificate: x509.Certificate, known: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Who issued *certificate*, who issued that one, and so on among *known*, the root last when it is there."""
    found: list[x509.Certificate] = []
    last = certificate
    while not is_self_signed(last):
        above = next((each for each in known if each not in found and is_issued_by(last, each)), None)
        if above is None:
            break
        found.append(above)
        last = above
    return tuple(found)


def extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """The extension of that kind; None where there is none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def common_name(certificate: x509.Certificate) -> str | None:
    """The (first) common name; None where there is none."""
    values = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else None


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and IP addresses among the alternative names, in their order."""
    names = extension(certificate, x509.SubjectAlternativeName)
    return () if names is None else tuple(str(n.value) for n in names if isinstance(n, x509.DNSName | x509.IPAddress))


def title(certificate: x509.Certificate) -> str:
    """What people call it: its common name, else its first name, else its serial number."""
    return common_name(certificate) or next(iter(names_of(certificate)), f"serial {certificate.serial_number:x}")


def purposes_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its extended key usages in words: ``server``, ``client``, or the OID; empty where nothing is said."""
    usages = extension(certificate, x509.ExtendedKeyUsage)
    words = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
    return () if usages is None else tuple(words.get(usage, usage.dotted_string) for usage in usages)
