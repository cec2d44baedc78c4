"""Whether AWS IoT Core takes a certificate for a custom domain, rule by rule. Pure.

Sources, as read in November 2026: the AWS IoT Core developer guide, "Creating and configuring customer managed
domains" and "Managing domain configurations"; the ACM user guide, "Prerequisites for importing certificates" and
"Certificate and key format for importing"; the service model of ACM in botocore. Rules that only say how to write
files are warnings where `switchgear-certs acm` writes them right.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from switchgear_certs import chain
from switchgear_certs.errors import CertsError
from switchgear_certs.findings import Finding, Verdict
from switchgear_certs.keys import AWS_REASON, is_encrypted, key_type, kind, load_key, same_key
from switchgear_certs.names import AWS_NAMES, COMMON_NAME, covers

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

DOMAINS: Final = 'AWS IoT Core developer guide, "Creating and configuring customer managed domains"'
ENDPOINTS: Final = 'AWS IoT Core developer guide, "Configurable endpoints"'
IMPORTING: Final = 'ACM user guide, "Prerequisites for importing certificates"'
FORMAT: Final = 'ACM user guide, "Certificate and key format for importing"'
REIMPORTING: Final = 'ACM user guide, "Reimporting a certificate"'
X509: Final = "RFC 5280, appendix A.1 (ub-common-name)"

DEPTH: Final = 5
CHAIN_BYTES: Final = 16 * 1024
KEY_BYTES: Final = 5 * 1024

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n(?:[A-Za-z0-9+/=]+\r?\n)+-----END \1-----(?:\r?\n|\Z)")


@frozen(kw_only=True)
class Subject:
    """What is checked.

    Attributes:
        pem: The certificate file as it is.
        certificates: Those in it, in their order, the leaf first.
        beside: Others that are known to belong to it: its authority's.
        key_pem: Its private key file; None where there is none.
        domain: The domain name that it is to serve; None: any of its own names.
    """

    pem: bytes = field(repr=False)
    certificates: tuple[x509.Certificate, ...]
    beside: tuple[x509.Certificate, ...] = ()
    key_pem: bytes | None = field(default=None, repr=False)
    domain: str | None = None

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate itself."""
        return self.certificates[0]

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        """Who issued it, upwards, the root last where it is known."""
        return chain.issuers_of(self.leaf, [*self.certificates[1:], *self.beside])

    @property
    def full(self) -> tuple[x509.Certificate, ...]:
        """The leaf and its issuers."""
        return (self.leaf, *self.issuers)


Result = tuple[Verdict, str]
PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL


def check_aws_iot(subject: Subject, *, now: dt.datetime) -> list[Finding]:
    """Every rule's result at *now*, in the order of `RULES`. Since: 0.1."""
    return [Finding(name, *rule(subject, now), source) for name, source, rule in RULES]


def _server_auth(subject: Subject, _now: dt.datetime) -> Result:
    if "server" in chain.purposes_of(subject.leaf):
        return PASS, "extended key usage has serverAuth"
    return FAIL, "extended key usage lacks serverAuth, which AWS IoT demands"


def _client_auth(subject: Subject, _now: dt.datetime) -> Result:
    if "client" in chain.purposes_of(subject.leaf):
        return WARN, "extended key usage has clientAuth too: ACM may block taking it away at a re-import"
    return PASS, "extended key usage has no clientAuth"


def _key_usage(subject: Subject, _now: dt.datetime) -> Result:
    if chain.extension(subject.leaf, x509.KeyUsage) is None:
        return WARN, "there is no key usage, and a re-import cannot add it later"
    return PASS, "key usage is there, so re-imports can keep it"


def _key_type(subject: Subject, _now: dt.datetime) -> Result:
    key = subject.leaf.public_key()
    if key_type(key) is not None:
        return PASS, f"the key is {kind(key)}"
    return FAIL, f"the key is {kind(key)}; {AWS_REASON}, though ACM imports others"


def _depth(subject: Subject, _now: dt.datetime) -> Result:
    count = len(subject.full)
    if count > DEPTH:
        return FAIL, f"the chain has {count} certificates; at most {DEPTH}"
    return PASS, f"the chain has {count} of at most {DEPTH} certificates"


def _size(subject: Subject, _now: dt.datetime) -> Result:
    der = sum(len(each.public_bytes(Encoding.DER)) for each in subject.full)
    pem = len(chain.to_pem(subject.full))
    if der > CHAIN_BYTES:
        return FAIL, f"the chain has {der} bytes; at most {CHAIN_BYTES}"
    if pem > CHAIN_BYTES:
        return (
            WARN,
            f"the chain has {der} bytes, but {pem} in PEM; AWS does not say which it counts up to {CHAIN_BYTES}",
        )
    return PASS, f"the chain has {pem} of at most {CHAIN_BYTES} bytes in PEM"


def _order(subject: Subject, _now: dt.datetime) -> Result:
    for lower, upper in zip(subject.certificates, subject.certificates[1:], strict=False):
        if not chain.is_issued_by(lower, upper):
            return FAIL, f"{chain.title(upper)} does not certify {chain.title(lower)}, which stands before it"
    return PASS, "the leaf stands first, and each certificate certifies the one before it"


def _root(subject: Subject, _now: dt.datetime) -> Result:
    last = subject.full[-1]
    if chain.is_self_signed(last):
        return PASS, f"the chain ends with its root, {chain.title(last)}"
    return (
        WARN,
        f"the chain ends at {chain.title(last)}, without its root: right for a public CA, wrong for a private one",
    )


def _validation(subject: Subject, _now: dt.datetime) -> Result:
    if chain.is_self_signed(subject.full[-1]):
        return WARN, (
            "a private CA: CreateDomainConfiguration needs a public ACM certificate for the same name as"
            " validationCertificateArn, in each region"
        )
    return PASS, "no private root is in the chain; a public CA in Mozilla's bundle needs no validation certificate"


def _family(subject: Subject, _now: dt.datetime) -> Result:
    families = {type(each.public_key()).__name__ for each in subject.full}
    if len(families) > 1:
        return WARN, "the chain mixes EC and RSA; ACM's older rules wanted one family, RSA under RSA"
    return PASS, "one family of algorithms in the whole chain"


def _names(subject: Subject, _now: dt.datetime) -> Result:
    sans = chain.names_of(subject.leaf)
    common_name = chain.common_name(subject.leaf)
    has_san = chain.extension(subject.leaf, x509.SubjectAlternativeName) is not None
    known = sans if has_san else ((common_name,) if common_name else ())
    if subject.domain is not None and not any(covers(name, subject.domain) for name in known):
        what = ", ".join(known) or "no name"
        ignored = "; the common name does not count beside alternative names" if has_san else ""
        return FAIL, f"{subject.domain} is not covered by {what}{ignored}"
    if not any("." in name and not _is_address(name) for name in known):
        return FAIL, "no fully qualified domain name is in it"
    if not has_san:
        return WARN, "the name is in the common name only; today's clients look at alternative names only"
    return PASS, f"it covers {subject.domain or ', '.join(sans)}"


def _name_count(subject: Subject, _now: dt.datetime) -> Result:
    count = len(chain.names_of(subject.leaf))
    if count > AWS_NAMES:
        return FAIL, f"{count} names; at most {AWS_NAMES}"
    return PASS, f"{count} of at most {AWS_NAMES} names"


def _wildcard(subject: Subject, _now: dt.datetime) -> Result:
    wild = [name for name in chain.names_of(subject.leaf) if name.startswith("*.")]
    if wild:
        return WARN, f"{', '.join(wild)}: once validated, no other account in that region can use a domain below it"
    return PASS, "no wildcard"


def _common_name(subject: Subject, _now: dt.datetime) -> Result:
    size = len((chain.common_name(subject.leaf) or "").encode())
    if size > COMMON_NAME:
        return FAIL, f"the common name has {size} octets; at most {COMMON_NAME}; leave it out"
    return PASS, f"the common name has {size} of at most {COMMON_NAME} octets"


def _version(subject: Subject, _now: dt.datetime) -> Result:
    if subject.leaf.version is not x509.Version.v3:
        return FAIL, "it is not X.509 version 3"
    return PASS, "X.509 version 3"


def _begun(subject: Subject, now: dt.datetime) -> Result:
    begin = subject.leaf.not_valid_before_utc
    if now < begin:
        return FAIL, f"it is not valid before {begin:%Y-%m-%d %H:%M} UTC, and ACM wants it valid when it is imported"
    return PASS, f"valid since {begin:%Y-%m-%d %H:%M} UTC"


def _not_ended(subject: Subject, now: dt.datetime) -> Result:
    ended = [each for each in subject.full if now >= each.not_valid_after_utc]
    if ended:
        return FAIL, f"{chain.title(ended[0])} expired at {ended[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return PASS, f"valid until {subject.leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _clean(subject: Subject, _now: dt.datetime) -> Result:
    blocks = list(_BLOCK.finditer(subject.pem))
    if _BLOCK.sub(b"", subject.pem).strip(b"\r\n") or b"\n\n" in subject.pem.strip() or not blocks:
        return WARN, "spaces, empty lines or text between the PEM blocks, which ACM refuses; `acm` writes clean ones"
    if any(b"PRIVATE KEY" in block.group(1) for block in blocks):
        return WARN, "the private key is in the same file; ACM takes it apart; `acm` writes three files"
    return PASS, "nothing but PEM blocks"


def _key_there(subject: Subject, _now: dt.datetime) -> Result:
    if subject.key_pem is None:
        return WARN, "the private key was not found beside it, so the rules about keys were not looked at"
    if is_encrypted(subject.key_pem):
        return FAIL, "the private key is encrypted; ACM takes it in the clear only"
    return PASS, "the private key is not encrypted"


def _key_size(subject: Subject, _now: dt.datetime) -> Result:
    size = len(subject.key_pem or b"")
    if size > KEY_BYTES:
        return FAIL, f"the private key file has {size} bytes; at most {KEY_BYTES}"
    return PASS, f"the private key file has {size} of at most {KEY_BYTES} bytes" if size else "not looked at: no key"


def _key_matches(subject: Subject, _now: dt.datetime) -> Result:
    if subject.key_pem is None or is_encrypted(subject.key_pem):
        return PASS, "not looked at: no key that can be read"
    try:
        key = load_key(subject.key_pem, where="the key file")
    except CertsError as error:
        return FAIL, str(error)
    if same_key(key.public_key(), subject.leaf.public_key()):
        return PASS, "the private key belongs to the certificate"
    return FAIL, "the private key belongs to another certificate"


def _is_address(name: str) -> bool:
    return ":" in name or name.rpartition(".")[2].isdigit()


RULES: Final[tuple[tuple[str, str, Callable[[Subject, dt.datetime], Result]], ...]] = (
    ("eku-server-auth", DOMAINS, _server_auth),
    ("eku-no-client-auth", REIMPORTING, _client_auth),
    ("key-usage-present", REIMPORTING, _key_usage),
    ("key-type", DOMAINS, _key_type),
    ("chain-depth", DOMAINS, _depth),
    ("chain-size", DOMAINS, _size),
    ("chain-order", FORMAT, _order),
    ("chain-root", IMPORTING, _root),
    ("validation-certificate", DOMAINS, _validation),
    ("algorithm-family", IMPORTING, _family),
    ("names-cover-domain", DOMAINS, _names),
    ("names-count", ENDPOINTS, _name_count),
    ("wildcard-claim", DOMAINS, _wildcard),
    ("common-name-length", X509, _common_name),
    ("x509-version-3", IMPORTING, _version),
    ("not-before", IMPORTING, _begun),
    ("not-after", IMPORTING, _not_ended),
    ("pem-clean", FORMAT, _clean),
    ("key-unencrypted", IMPORTING, _key_there),
    ("key-file-size", IMPORTING, _key_size),
    ("key-matches", IMPORTING, _key_matches),
)
"""Every rule: its name, its source, and the function that looks. The limits of the service model of ACM (certificate
32 768 bytes, chain 2 MB, key 8192 bytes) are wider than ``chain-size`` and ``key-file-size``."""
