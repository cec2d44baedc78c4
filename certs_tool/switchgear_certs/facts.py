"""What a certificate says, as plain values for people and for JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from switchgear_certs import chain
from switchgear_certs.keys import kind
from switchgear_certs.lifetimes import days_left, needs_renewal

if TYPE_CHECKING:
    import datetime as dt

FORM = "%Y-%m-%dT%H:%M:%SZ"


def facts(certificate: x509.Certificate, *, now: dt.datetime) -> dict[str, object]:
    """Subject, names, purposes, dates, key and fingerprints of *certificate*. Since: 0.1."""
    basics = chain.extension(certificate, x509.BasicConstraints)
    limits = chain.extension(certificate, x509.NameConstraints)
    algorithm = certificate.signature_hash_algorithm
    found: dict[str, object] = {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": list(chain.names_of(certificate)),
        "is_authority": basics is not None and basics.ca,
        "purposes": list(chain.purposes_of(certificate)),
        "not_before": certificate.not_valid_before_utc.strftime(FORM),
        "not_after": certificate.not_valid_after_utc.strftime(FORM),
        "days_left": round(days_left(certificate, now), 2),
        "needs_renewal": needs_renewal(certificate, now),
        "key": kind(certificate.public_key()),
        "signature": "none" if algorithm is None else algorithm.name,
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }
    if limits is not None:
        found["permitted"] = [str(each.value) for each in limits.permitted_subtrees or ()]
    return found
