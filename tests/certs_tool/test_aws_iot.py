import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from switchgear_certs import Authority, Certificate, KeyType, Subject, Verdict, check_aws_iot
from switchgear_certs.aws_iot import RULES
from switchgear_certs.chain import load_pem, to_pem
from switchgear_certs.keys import PrivateKey, key_pem

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
KEY = ec.generate_private_key(ec.SECP256R1())
USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
ALWAYS_WARNED = {"validation-certificate"}
"""A private CA always needs a public certificate beside it."""


def certificate(
    *,
    common_name: str | None = "mqtt1.example.com",
    names: Sequence[str] | None = ("mqtt1.example.com",),
    usages: Sequence[x509.ObjectIdentifier] = (SERVER,),
    key_usage: x509.KeyUsage | None = USAGE,
    key: PrivateKey = KEY,
    begin: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + DAY,
    ca: bool = False,
    issuer: str = "root",
    issuer_key: PrivateKey = ROOT_KEY,
    others: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    """A certificate with just these properties, however wrong."""
    subject = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    for each in others:
        builder = builder.add_extension(each, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def root(key: PrivateKey = ROOT_KEY, **options: Any) -> x509.Certificate:
    return certificate(
        common_name="root", names=None, usages=(), key_usage=None, key=key, issuer_key=key, ca=True, **options
    )


def check(subject: Subject, now: dt.datetime = NOW) -> dict[str, Verdict]:
    findings = check_aws_iot(subject, now=now)
    assert [name for name, _, _ in RULES] == [finding.rule for finding in findings]
    assert all(finding.text and finding.source for finding in findings)
    return {finding.rule: finding.verdict for finding in findings}


def subject(
    leaf: x509.Certificate,
    *others: x509.Certificate,
    pem: bytes | None = None,
    key: bytes | None = None,
    domain: str | None = None,
    beside: Sequence[x509.Certificate] | None = None,
) -> Subject:
    certificates = (leaf, *others)
    return Subject(
        pem=to_pem(certificates) if pem is None else pem,
        certificates=certificates,
        beside=tuple(beside if beside is not None else [root()]),
        key_pem=key_pem(KEY) if key is None else key,
        domain=domain,
    )


def breaks(found: dict[str, Verdict], rule: str, verdict: Verdict = Verdict.FAIL) -> bool:
    """Whether just that *rule* has that *verdict*, and every other one passes."""
    expected = dict.fromkeys(found, Verdict.PASS) | dict.fromkeys(ALWAYS_WARNED, Verdict.WARN) | {rule: verdict}
    return {name: each for name, each in found.items() if each is not expected[name]} == {}


def version_1(certificate: x509.Certificate) -> x509.Certificate:
    """*certificate* with the version field of X.509 version 1, signed anew by the root."""
    tbs = certificate.tbs_certificate_bytes
    assert tbs[:2] == b"\x30\x82"
    assert tbs[4:9] == bytes.fromhex("a003020102")
    body = tbs[9:]
    tbs = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    signature = ROOT_KEY.sign(tbs, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    content = tbs + algorithm + bits
    return x509.load_der_x509_certificate(b"\x30\x82" + len(content).to_bytes(2, "big") + content)


def deep(count: int) -> list[x509.Certificate]:
    """A leaf and its issuers, *count* certificates in all, the root last."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(count - 2)]
    issuers, above_key, above = [root()], ROOT_KEY, "root"
    for number, key in enumerate(keys):
        name = f"ca {number}"
        made = certificate(
            common_name=name,
            names=None,
            usages=(),
            key_usage=None,
            key=key,
            ca=True,
            issuer=above,
            issuer_key=above_key,
        )
        issuers.insert(0, made)
        above_key, above = key, name
    return [certificate(issuer=above, issuer_key=above_key), *issuers]


def wrong_order() -> Subject:
    leaf, issuing, top = deep(3)
    return subject(leaf, top, issuing)


def without_key() -> Subject:
    leaf = certificate()
    return Subject(pem=to_pem([leaf]), certificates=(leaf,), beside=(root(),))


def long_name() -> x509.Certificate:
    with pytest.warns(UserWarning, match="was 65"):
        made = certificate(common_name="x" * 65)
    return load_pem(to_pem([made]), where="here")[0]


def rsa_subject(size: int) -> Subject:
    key = rsa.generate_private_key(public_exponent=65537, key_size=size)
    above = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    leaf = certificate(key=key, issuer_key=above)
    return subject(leaf, key=key_pem(key), beside=[root(above)])


def subject_with(key: PrivateKey) -> Subject:
    return subject(certificate(key=key), key=key_pem(key))


def with_pem(change: Callable[[bytes], bytes]) -> Subject:
    leaf = certificate()
    return subject(leaf, pem=change(to_pem([leaf])))


def test_a_right_certificate_passes() -> None:
    """A certificate as AWS IoT wants it passes every rule but for the one line about private CAs."""
    assert breaks(check(subject(certificate())), "validation-certificate", Verdict.WARN)


@pytest.mark.parametrize("rsa_too", [False, True])
def test_ours_pass(*, rsa_too: bool) -> None:
    """What this distribution makes passes every rule, with and without an issuing CA."""
    for intermediate in (False, True):
        authority = Authority.create(
            key_type=KeyType.RSA2048 if rsa_too else KeyType.P256, intermediate=intermediate, now=NOW
        )
        made = authority.server("mqtt1.example.com", "mqtt2.example.com", now=NOW)
        found = check(
            Subject(
                pem=made.certificate_pem,
                certificates=tuple(x509.load_pem_x509_certificates(made.certificate_pem)),
                beside=made.issuers,
                key_pem=made.key_pem,
                domain="mqtt2.example.com",
            )
        )
        assert breaks(found, "validation-certificate", Verdict.WARN)


FAILING: dict[str, tuple[str, Callable[[], Subject]]] = {
    "no extended key usage": ("eku-server-auth", lambda: subject(certificate(usages=()))),
    "another extended key usage": (
        "eku-server-auth",
        lambda: subject(certificate(usages=[ExtendedKeyUsageOID.CODE_SIGNING])),
    ),
    "P-384": ("key-type", lambda: subject_with(ec.generate_private_key(ec.SECP384R1()))),
    "P-521": ("key-type", lambda: subject_with(ec.generate_private_key(ec.SECP521R1()))),
    "RSA-3072": ("key-type", lambda: rsa_subject(3072)),
    "RSA-4096": ("key-type", lambda: rsa_subject(4096)),
    "RSA-1024": ("key-type", lambda: rsa_subject(1024)),
    "six certificates": ("chain-depth", lambda: subject(*deep(6))),
    "more than 16 KiB": (
        "chain-size",
        lambda: subject(
            certificate(
                others=[x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(16_384))]
            )
        ),
    ),
    "the issuer first": ("chain-order", wrong_order),
    "another domain": ("names-cover-domain", lambda: subject(certificate(), domain="mqtt2.example.com")),
    "a name below a wildcard's": (
        "names-cover-domain",
        lambda: subject(certificate(names=["a.example.com", "b.example.com"]), domain="x.a.example.com"),
    ),
    "the common name beside other names": (
        "names-cover-domain",
        lambda: subject(certificate(names=["mqtt2.example.com"]), domain="mqtt1.example.com"),
    ),
    "no name": ("names-cover-domain", lambda: subject(certificate(common_name=None, names=None))),
    "no qualified name": ("names-cover-domain", lambda: subject(certificate(names=["localhost"]))),
    "five names": ("names-count", lambda: subject(certificate(names=[f"m{n}.example.com" for n in range(5)]))),
    "a common name of 65": ("common-name-length", lambda: subject(long_name())),
    "version 1": ("x509-version-3", lambda: subject(version_1(certificate()))),
    "not valid yet": (
        "not-before",
        lambda: subject(certificate(begin=NOW + dt.timedelta(seconds=1))),
    ),
    "expired": ("not-after", lambda: subject(certificate(end=NOW))),
    "an expired issuer": (
        "not-after",
        lambda: subject(certificate(), beside=[root(end=NOW - dt.timedelta(seconds=1))]),
    ),
    "an encrypted key": ("key-unencrypted", lambda: subject(certificate(), key=key_pem(KEY, "secret"))),
    "a key file of more than 5 KiB": (
        "key-file-size",
        lambda: subject(certificate(), key=b"# a remark\n" * 500 + key_pem(KEY)),
    ),
    "another key": (
        "key-matches",
        lambda: subject(certificate(), key=key_pem(ec.generate_private_key(ec.SECP256R1()))),
    ),
    "a damaged key": (
        "key-matches",
        lambda: subject(certificate(), key=b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ),
}


@pytest.mark.parametrize("case", FAILING)
def test_each_rule_fails_alone(case: str) -> None:
    """A certificate that is wrong in one way fails just the rule about it, and no other line changes."""
    rule, make = FAILING[case]
    found = check(make())
    assert found[rule] is Verdict.FAIL
    assert breaks(found, rule), {name: each.value for name, each in found.items() if each is not Verdict.PASS}


def test_every_rule_that_can_fail_has_a_certificate() -> None:
    """The rules that are never broken above are those that can only warn."""
    only_warn = {
        "eku-no-client-auth",
        "key-usage-present",
        "chain-root",
        "validation-certificate",
        "algorithm-family",
        "wildcard-claim",
        "pem-clean",
    }
    assert {name for name, _, _ in RULES} - only_warn == {rule for rule, _ in FAILING.values()}


WARNING: dict[str, tuple[str, Callable[[], Subject]]] = {
    "clientAuth too": ("eku-no-client-auth", lambda: subject(certificate(usages=[SERVER, CLIENT]))),
    "no key usage": ("key-usage-present", lambda: subject(certificate(key_usage=None))),
    "RSA under EC": (
        "algorithm-family",
        lambda: subject_with(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    ),
    "a wildcard": ("wildcard-claim", lambda: subject(certificate(names=["*.example.com"]), domain="a.example.com")),
    "a name in the common name only": ("names-cover-domain", lambda: subject(certificate(names=None))),
    "no key": ("key-unencrypted", without_key),
    "text before": ("pem-clean", lambda: with_pem(lambda pem: b"subject=mqtt1\n" + pem)),
    "a space at the end of a line": ("pem-clean", lambda: with_pem(lambda pem: pem.replace(b"\n", b" \n", 3))),
    "an empty line between": ("pem-clean", lambda: with_pem(lambda pem: pem + b"\n" + pem)),
    "the key in the same file": ("pem-clean", lambda: with_pem(lambda pem: pem + key_pem(KEY))),
    "between 16 KiB in DER and in PEM": (
        "chain-size",
        lambda: subject(
            certificate(
                others=[x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(14_000))]
            )
        ),
    ),
}


@pytest.mark.parametrize("case", WARNING)
def test_each_warning_stands_alone(case: str) -> None:
    """What is worth knowing is a warning of just the rule about it, and nothing fails."""
    rule, make = WARNING[case]
    found = check(make())
    assert found[rule] is Verdict.WARN
    assert breaks(found, rule, Verdict.WARN), {
        name: each.value for name, each in found.items() if each is not Verdict.PASS
    }


def test_a_chain_without_its_root() -> None:
    """Without a root the line about it warns, and no validation certificate is asked for."""
    found = check(subject(certificate(), beside=[]))
    assert found["chain-root"] is Verdict.WARN
    assert found["validation-certificate"] is Verdict.PASS


def test_line_ends_of_windows() -> None:
    """PEM with CR LF is clean."""
    assert check(with_pem(lambda pem: pem.replace(b"\n", b"\r\n")))["pem-clean"] is Verdict.PASS


def test_the_limits_are_inclusive() -> None:
    """Five certificates, four names, a common name of 64 octets and the last second before the end pass."""
    assert check(subject(*deep(5)))["chain-depth"] is Verdict.PASS
    assert check(subject(certificate(names=[f"m{n}.example.com" for n in range(4)])))["names-count"] is Verdict.PASS
    assert check(subject(certificate(common_name="x" * 64)))["common-name-length"] is Verdict.PASS
    assert check(subject(certificate(end=NOW + dt.timedelta(seconds=1))))["not-after"] is Verdict.PASS


def test_keys_in_other_forms() -> None:
    """A key in the older forms of OpenSSL is read as one in PKCS #8 is."""
    older = KEY.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert breaks(check(subject(certificate(), key=older)), "validation-certificate", Verdict.WARN)


def test_a_certificate_of_ours_with_many_names_fails_one_rule() -> None:
    """Beyond AWS's limits ours is made, and the check says which rule it breaks."""
    made: Certificate = Authority.create(now=NOW).server(
        *(f"m{n}.example.com" for n in range(5)), aws_limits=False, now=NOW
    )
    found = check(
        Subject(pem=made.certificate_pem, certificates=(made.leaf,), beside=made.issuers, key_pem=made.key_pem)
    )
    assert breaks(found, "names-count")
