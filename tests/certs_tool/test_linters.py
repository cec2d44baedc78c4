"""Every certificate of every command before the linters and OpenSSL, and trustme's leaf beside ours."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from switchgear_certs import Authority, Certificate, Files, KeyType
from switchgear_certs.chain import names_of

Lint = Callable[..., str]
Openssl = Callable[..., str]
Run = Callable[..., Any]

NOT_IN_RFC_5280 = 'pkix.invalid_domain_name_syntax (ERROR): Invalid domain name syntax: "{}"'
"""What the linter of RFC 5280 says of a wildcard, which that RFC does not know, and of a name without a dot."""

ONLY_PUBLIC = {
    "cabf.serverauth.dv.common_name_attribute_present",
    "cabf.serverauth.subscriber.authority_info_access_extension_absent",
    "cabf.serverauth.subscriber.certificate_policies_extension_absent",
    "cabf.serverauth.subscriber.revocation_information_absent",
    "cabf.serverauth.subscriber.subject_key_identifier_extension_present",
    "cabf.serverauth.subscriber_rsa_digitalsignature_and_keyencipherment_present",
    "msft.end_entity.revocation_information_absent",
}
"""What the linter of the CA/Browser Forum asks of public CAs: revocation services and policies, which a private CA does not
have; and what the Forum advises against and RFC 5280 has: a common name, a key identifier, RSA key encipherment."""

COMMANDS: list[tuple[list[str], ...]] = [
    (["init"], ["server", "mqtt1.example.com", "mqtt2.example.com"], ["client", "press-7", "press_8@hall"]),
    (["init", "--rsa", "--name", "Press hall (test)"], ["server", "mqtt1.example.com"], ["client", "press-7"]),
    (["init", "--intermediate"], ["server", "mqtt1.example.com"], ["client", "press-7"]),
    (["init", "--intermediate", "--rsa"], ["server", "mqtt1.example.com"], ["client", "press-7"]),
    (["init", "--intermediate", "--permit", "example.com"], ["server", "mqtt1.example.com"], ["client", "press-7"]),
    (
        ["init", "--intermediate", "--permit", "example.com", "--permit", "10.0.0.0/8", "--permit", "2001:db8::/32"],
        ["server", "mqtt1.example.com", "--san", "10.0.0.1", "--san", "2001:db8::1"],
    ),
    (["init", "--intermediate", "--permit", "10.0.0.0/8"], ["server", "10.0.0.1"]),
    (["init"], ["server", "mqtt1.example.com", "--rsa"], ["client", "press-7", "--rsa"], ["server", "10.0.0.1", "::1"]),
    (["init", "--rsa"], ["server", "mqtt1.example.com", "--p256"]),
    (["init"], ["server", "bücher.example.com", "--san", "straße.example.com"]),
    (["init"], ["server", "a" * 60 + ".example.com"]),
    (
        ["init"],
        [
            "server",
            *[f"m{n}.example.com" for n in range(1)],
            *[f"--san=m{n}.example.com" for n in range(9)],
            "--beyond-aws",
        ],
    ),
    (["init", "--days", "1"], ["server", "mqtt1.example.com"]),
    (["init", "--days", "36500"], ["server", "mqtt1.example.com", "--days", "36499"]),
    (
        ["init"],
        ["server", "mqtt1.example.com"],
        ["renew", "mqtt1.example.com"],
        ["client", "a"],
        ["renew", "a", "--keep-key"],
    ),
    (["init", "--intermediate"], ["sign", "a.csr"]),
    (["demo"],),
    (["demo", "--rsa", "--intermediate", "--permit", "example.com"],),
]


def certificates(folder: Path) -> list[Certificate]:
    """Every leaf in *folder*, with its issuers."""
    names = [path.stem for path in sorted(folder.glob("*.crt")) if path.stem not in {"ca", "issuing"}]
    return [Files(folder).certificate(name) for name in names]


@pytest.mark.parametrize("commands", COMMANDS, ids=lambda each: " ".join(" ".join(line) for line in each)[:80])
def test_every_certificate_of_every_command(
    commands: tuple[list[str], ...], run: Run, lint: Lint, openssl: Openssl, tmp_path: Path
) -> None:
    """No linter finds anything at severity NOTICE in any certificate or chain, and OpenSSL verifies all strictly."""
    if ["sign", "a.csr"] in commands:
        make_request(tmp_path)
    for command in commands:
        ran = run(*command)
        assert ran.code == 0, ran.err
    leaves = certificates(tmp_path / "certs")
    assert leaves
    for made in leaves:
        issuers = made.issuers
        for each, issuer in zip((made.leaf, *issuers), (*issuers, issuers[-1]), strict=True):
            assert lint(each) == ""
            assert lint(each, issuer) == ""
        if made.purpose == "client":
            assert openssl(made, "-purpose", "sslclient") == "OK"
            assert "unsuitable certificate purpose" in openssl(made, "-purpose", "sslserver")
            continue
        for name in made.names:
            option = "-verify_ip" if name[-1].isdigit() else "-verify_hostname"
            assert openssl(made, "-purpose", "sslserver", option, name) == "OK"
        assert "mismatch" in openssl(made, "-purpose", "sslserver", "-verify_hostname", "another.example.net")
        assert "unsuitable certificate purpose" in openssl(made, "-purpose", "sslclient")


def make_request(folder: Path) -> None:
    """Write a.csr, for asked.example.com."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "asked.example.com")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(KeyType.P256.make(), hashes.SHA256())
    (folder / "a.csr").write_bytes(csr.public_bytes(Encoding.PEM))


@pytest.mark.parametrize("key_type", list(KeyType), ids=lambda each: each.value)
def test_wildcards(key_type: KeyType, lint: Lint, openssl: Openssl) -> None:
    """Of a wildcard RFC 5280's linter finds the wildcard alone, and the CA/Browser Forum's nothing about names at all."""
    authority = Authority.create(key_type=key_type, intermediate=True)
    made = authority.server("*.example.com", "mqtt1.example.com", days=40)  # as many as the Forum grants from 2029 on
    found = lint(made.leaf)
    assert [line.strip() for line in found.splitlines()[1:]] == [NOT_IN_RFC_5280.format("*.example.com")]
    assert lint(made.leaf, made.issuers[0]) == ""
    codes = {line.split()[0] for line in lint(made.leaf, cabf=True).splitlines() if line.startswith(" ")}
    assert codes <= ONLY_PUBLIC
    assert openssl(made, "-purpose", "sslserver", "-verify_hostname", "a.example.com") == "OK"
    assert "mismatch" in openssl(made, "-purpose", "sslserver", "-verify_hostname", "a.b.example.com")


def test_names_without_a_dot(lint: Lint, openssl: Openssl) -> None:
    """Of localhost RFC 5280's linter finds the missing dot alone, and OpenSSL takes it."""
    made = Authority.create().server("localhost", "127.0.0.1")
    assert [line.strip() for line in lint(made.leaf).splitlines()[1:]] == [NOT_IN_RFC_5280.format("localhost")]
    assert openssl(made, "-purpose", "sslserver", "-verify_hostname", "localhost") == "OK"


def test_openssl_obeys_the_name_constraints(openssl: Openssl) -> None:
    """A name outside the constraints, certified by force, is refused by OpenSSL, and so is an address nobody permitted."""
    from switchgear_certs import profiles
    from switchgear_certs.lifetimes import lifetime, moment
    from switchgear_certs.names import server_name

    authority = Authority.create(intermediate=True, permitted=["example.com"])
    for name in ("mqtt1.example.org", "10.0.0.1", "::1"):
        key = KeyType.P256.make()
        leaf = profiles.server(
            key.public_key(),
            names=[server_name(name)],
            issuer=authority.certificate,
            issuer_key=authority.key,
            lifetime=lifetime(1, default=1, now=moment(None)),
        )
        forced = Certificate(leaf=leaf, issuers=(authority.certificate, *authority.issuers), key=key)
        assert "subtree violation" in openssl(forced, "-purpose", "sslserver")


def test_a_certificate_that_the_linter_does_not_like(lint: Lint) -> None:
    """The linter is awake: trustme's leaf has two findings, a key usage and a critical extension."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    leaf = trustme.CA().issue_cert("mqtt1.example.com")
    found = lint(x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()))
    assert "key_usage_value_prohibited_for_ec (ERROR)" in found
    assert names_of(x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())) == ("mqtt1.example.com",)


def test_the_table() -> None:
    """The table of ours beside trustme's has no finding in any row of ours, and two in trustme's."""
    pytest.importorskip("pkilint", reason="pkilint is not installed")
    pytest.importorskip("trustme", reason="trustme is not installed")
    script = Path(__file__).parent / "linter_table.py"
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [[cell.strip() for cell in line.split("|")] for line in ran.stdout.splitlines()[2:]]
    assert len(rows) == 9
    for name, pkix, chain, openssl, tls12, tls13, other in rows:
        assert (tls12, tls13, other) == ("yes", "yes", "refused")
        assert openssl == "OK"
        if "trustme" in name:
            assert pkix == "1 error, 1 warning"
        else:
            assert (pkix, chain) == ("none", "none")
