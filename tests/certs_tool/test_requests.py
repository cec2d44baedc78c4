import ipaddress
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from switchgear_certs import Authority, InvalidName, KeyType, UnfitKey, UnfitRequest

KEY = ec.generate_private_key(ec.SECP256R1())


def usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**dict.fromkeys(names, False) | wanted)


def csr(
    common_name: str | None = "mqtt1.example.com",
    *names: x509.GeneralName,
    extensions: Sequence[x509.ExtensionType] = (),
    key: CertificateIssuerPrivateKeyTypes = KEY,
    subject: x509.Name | None = None,
    encoding: Encoding = Encoding.PEM,
) -> bytes:
    attributes = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(encoding)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_request_is_granted(encoding: Encoding, authority: Authority) -> None:
    """Names and key of a request are in the certificate, in PEM and in DER, and the key stays with its owner."""
    names = (x509.DNSName("mqtt2.example.com"), x509.IPAddress(ipaddress.ip_address("10.0.0.1")))
    wanted: list[x509.ExtensionType] = [
        x509.BasicConstraints(ca=False, path_length=None),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        usage(digital_signature=True, key_encipherment=True),
        x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()),
    ]
    made = authority.sign(csr("MQTT1.example.com", *names, extensions=wanted, encoding=encoding))
    assert made.names == ("mqtt1.example.com", "mqtt2.example.com", "10.0.0.1")
    assert made.common_name == "mqtt1.example.com"
    assert made.leaf.public_key() == KEY.public_key()
    assert made.key is None
    assert made.purpose == "server"


def test_a_clients_request(authority: Authority) -> None:
    """A request for a client needs the purpose, which may also stand in the request."""
    made = authority.sign(csr("press-7"), purpose="client")
    assert (made.common_name, made.names, made.purpose) == ("press-7", (), "client")
    asked = csr("press-7", extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])])
    assert authority.sign(asked, purpose="client").purpose == "client"
    with pytest.raises(UnfitRequest, match="--purpose client"):
        authority.sign(asked)


def test_a_bad_signature(authority: Authority) -> None:
    """A request whose signature is bad is refused, whatever bit of it was changed."""
    der = bytearray(csr(encoding=Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(UnfitRequest, match="signature is bad"):
        authority.sign(bytes(der))
    changed = csr(encoding=Encoding.DER).replace(b"mqtt1", b"mqtt2")
    with pytest.raises(UnfitRequest, match="signature is bad"):
        authority.sign(changed)


@pytest.mark.parametrize(
    ("extension", "why"),
    [
        (x509.BasicConstraints(ca=True, path_length=None), "asks to be a CA"),
        (x509.BasicConstraints(ca=True, path_length=0), "asks to be a CA"),
        (usage(key_cert_sign=True), "sign certificates"),
        (usage(crl_sign=True), "sign certificates or CRLs"),
        (usage(digital_signature=True, data_encipherment=True), "data encipherment"),
        (usage(content_commitment=True), "content commitment"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), "used for"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), "used for"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), "used for"),
        (x509.NameConstraints([x509.DNSName("example.com")], None), "nameConstraints"),
        (x509.TLSFeature([x509.TLSFeatureType.status_request]), "TLSFeature"),
        (x509.SubjectAlternativeName([x509.RFC822Name("a@example.com")]), "RFC822Name"),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier("mqtt://example.com")]), "Uniform"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_what_is_not_granted(extension: x509.ExtensionType, why: str, authority: Authority) -> None:
    """A request that asks for more than names and a purpose is refused as a whole, with the reason."""
    with pytest.raises(UnfitRequest, match=why):
        authority.sign(csr(extensions=[extension]))


@pytest.mark.parametrize(
    ("name", "why"), [("my host", "spaces"), ("a_b.example.com", "underscore"), ("x" * 64, "64 characters")]
)
def test_names_in_requests_are_checked(name: str, why: str, authority: Authority) -> None:
    """A request's names are checked as those of the command line are."""
    with pytest.raises(InvalidName, match=why):
        authority.sign(csr(name))
    with pytest.raises(InvalidName, match="underscore"):
        authority.sign(csr("a.example", x509.DNSName("a_b.example")))


def test_too_many_names_in_a_request(authority: Authority) -> None:
    """Five names in a request are more than AWS takes, unless the limit is lifted."""
    many = csr(None, *(x509.DNSName(f"m{number}.example.com") for number in range(5)))
    with pytest.raises(InvalidName, match="at most 4"):
        authority.sign(many)
    assert len(authority.sign(many, aws_limits=False).names) == 5


def test_requests_without_a_name(authority: Authority) -> None:
    """A request that names nothing is refused, and so is a client's with a server's names."""
    with pytest.raises(UnfitRequest, match="names nothing"):
        authority.sign(csr(None))
    with pytest.raises(InvalidName, match="empty"):
        authority.sign(csr(None), purpose="client")
    with pytest.raises(UnfitRequest, match="common name only"):
        authority.sign(csr("press-7", x509.DNSName("a.example")), purpose="client")


def test_other_subjects(authority: Authority) -> None:
    """A subject with more than one common name, or with anything else, is refused."""
    common = x509.NameAttribute(NameOID.COMMON_NAME, "a.example")
    with pytest.raises(UnfitRequest, match="2 common names"):
        authority.sign(csr(subject=x509.Name([common, common])))
    with pytest.raises(UnfitRequest, match="asks for O in its subject"):
        authority.sign(csr(subject=x509.Name([common, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")])))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_what_is_no_request(data: bytes, authority: Authority) -> None:
    """Anything else is refused and not half understood."""
    with pytest.raises(UnfitRequest, match="no certificate signing request"):
        authority.sign(data)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=3072),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["RSA-3072", "P-384", "P-521"],
)
def test_sizes_that_aws_does_not_take(key: CertificateIssuerPrivateKeyTypes, authority: Authority) -> None:
    """A sound key of another size is refused with AWS IoT's reason, and taken when the limit is lifted."""
    with pytest.raises(UnfitKey, match="AWS IoT custom domains take P-256 and RSA-2048 only"):
        authority.sign(csr(key=key))
    made = authority.sign(csr(key=key), aws_limits=False)
    renewed = authority.renew(made, keep_key=True)
    assert renewed.leaf.public_key() == made.leaf.public_key()


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505 - that is the point
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
        dsa.generate_private_key(2048),
    ],
    ids=["RSA-1024", "P-224", "secp256k1", "Ed25519", "DSA"],
)
def test_keys_that_are_never_taken(key: CertificateIssuerPrivateKeyTypes, authority: Authority) -> None:
    """A weak key, and one of a kind that MQTT brokers do not take, is refused even without AWS's limits."""
    with pytest.raises(UnfitKey, match="a key of the kind"):
        authority.sign(csr(key=key), aws_limits=False)


def test_a_request_with_rsa(authority: Authority) -> None:
    """An RSA-2048 key from a request is taken under a P-256 authority."""
    key = KeyType.RSA2048.make()
    assert authority.sign(csr(key=key)).leaf.public_key() == key.public_key()
