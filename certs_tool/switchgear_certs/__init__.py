"""Certificates for MQTT brokers and AWS IoT custom domains. Three nouns: `Authority`, `Certificate`, `Files`.

authority = Authority.create()
server = authority.server("localhost", "127.0.0.1")
server.configure(ssl_context)        # show this certificate
authority.configure(other_context)   # trust this authority
Files("certs").save(authority, server)
"""

from switchgear_certs.authority import Authority
from switchgear_certs.aws_iot import Subject, check_aws_iot
from switchgear_certs.certificate import Certificate
from switchgear_certs.ensure import ensure_authority, ensure_leaves, ensure_signed, renew
from switchgear_certs.errors import (
    AlreadyThere,
    CertsError,
    FileTrouble,
    InvalidLifetime,
    InvalidName,
    Unavailable,
    UnfitAuthority,
    UnfitKey,
    UnfitRequest,
    Unreachable,
    WrongPassphrase,
)
from switchgear_certs.files import Files
from switchgear_certs.findings import Finding, Verdict
from switchgear_certs.keys import KeyType
from switchgear_certs.verify import verify
from switchgear_certs.wishes import AuthorityWish, LeafWish, Outcome

__all__ = [
    "AlreadyThere",
    "Authority",
    "AuthorityWish",
    "Certificate",
    "CertsError",
    "FileTrouble",
    "Files",
    "Finding",
    "InvalidLifetime",
    "InvalidName",
    "KeyType",
    "LeafWish",
    "Outcome",
    "Subject",
    "Unavailable",
    "UnfitAuthority",
    "UnfitKey",
    "UnfitRequest",
    "Unreachable",
    "Verdict",
    "WrongPassphrase",
    "check_aws_iot",
    "ensure_authority",
    "ensure_leaves",
    "ensure_signed",
    "renew",
    "verify",
]
