import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from switchgear_certs import (
    Authority,
    Certificate,
    InvalidLifetime,
    InvalidName,
    KeyType,
    UnfitAuthority,
    UnfitKey,
)
from switchgear_certs.chain import is_issued_by, is_self_signed
from switchgear_certs.keys import kind

BOTH = pytest.mark.parametrize("key_type", list(KeyType), ids=lambda each: each.value)


def parts(certificate: x509.Certificate) -> dict[str, tuple[x509.ExtensionType, bool]]:
    return {type(each.value).__name__: (each.value, each.critical) for each in certificate.extensions}


def usages(certificate: x509.Certificate) -> set[str]:
    usage, critical = parts(certificate)["KeyUsage"]
    assert isinstance(usage, x509.KeyUsage)
    assert critical
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return {name for name in (*names, "key_cert_sign", "crl_sign") if getattr(usage, name)}


def assert_is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    found = parts(certificate)
    assert is_issued_by(certificate, issuer)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert certificate.version is x509.Version.v3
    assert 0 < certificate.serial_number < 2**159
    ski, ski_critical = found["SubjectKeyIdentifier"]
    aki, aki_critical = found["AuthorityKeyIdentifier"]
    assert (ski_critical, aki_critical) == (False, False)
    assert ski == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    issuer_ski = parts(issuer)["SubjectKeyIdentifier"][0]
    assert isinstance(issuer_ski, x509.SubjectKeyIdentifier)
    assert aki == x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_ski)


def assert_is_ca(certificate: x509.Certificate, issuer: x509.Certificate, path_length: int, *others: str) -> None:
    assert_is_issued(certificate, issuer)
    assert parts(certificate)["BasicConstraints"] == (x509.BasicConstraints(ca=True, path_length=path_length), True)
    assert usages(certificate) == {"key_cert_sign", "crl_sign"}
    expected = {"BasicConstraints", "KeyUsage", "SubjectKeyIdentifier", "AuthorityKeyIdentifier", *others}
    assert set(parts(certificate)) == expected


def assert_is_leaf(
    made: Certificate, authority: Authority, purpose: x509.ObjectIdentifier, names: list[x509.GeneralName]
) -> None:
    leaf = made.leaf
    assert_is_issued(leaf, authority.certificate)
    found = parts(leaf)
    assert found["BasicConstraints"] == (x509.BasicConstraints(ca=False, path_length=None), True)
    assert found["ExtendedKeyUsage"] == (x509.ExtendedKeyUsage([purpose]), False)
    is_rsa = kind(leaf.public_key()).startswith("RSA")
    assert usages(leaf) == ({"digital_signature", "key_encipherment"} if is_rsa else {"digital_signature"})
    expected = {"BasicConstraints", "KeyUsage", "ExtendedKeyUsage", "SubjectKeyIdentifier", "AuthorityKeyIdentifier"}
    if names:
        expected.add("SubjectAlternativeName")
        assert found["SubjectAlternativeName"] == (x509.SubjectAlternativeName(names), not list(leaf.subject))
    assert set(found) == expected


@BOTH
def test_a_root(key_type: KeyType, now: dt.datetime) -> None:
    """A root is self-signed, may have no CA below it, is called after its key, and lives for five years."""
    made = Authority.create(key_type=key_type, now=now)
    assert is_self_signed(made.root)
    assert_is_ca(made.root, made.root, 0)
    assert kind(made.root.public_key()) == key_type.value
    ski = x509.SubjectKeyIdentifier.from_public_key(made.root.public_key())
    assert made.root.subject.rfc4514_string() == f"CN=Switchgear CA {ski.digest.hex()[:8]}"
    assert made.root.not_valid_before_utc == now - dt.timedelta(hours=1)
    assert made.root.not_valid_after_utc == now - dt.timedelta(hours=1) + dt.timedelta(days=1825, seconds=-1)


@BOTH
def test_an_issuing_authority(key_type: KeyType, now: dt.datetime) -> None:
    """An issuing CA has path length 0 under a root with 1, is for servers and clients, and ends with its root."""
    made = Authority.create(name="Press hall", key_type=key_type, intermediate=True, days=30, now=now)
    assert_is_ca(made.root, made.root, 1)
    assert_is_ca(made.certificate, made.root, 0, "ExtendedKeyUsage")
    assert kind(made.certificate.public_key()) == key_type.value
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert parts(made.certificate)["ExtendedKeyUsage"] == (x509.ExtendedKeyUsage(both), False)
    assert made.root.subject.rfc4514_string() == "CN=Press hall"
    assert made.certificate.subject.rfc4514_string() == "CN=Press hall issuing"
    assert made.certificate.not_valid_after_utc == made.root.not_valid_after_utc
    assert made.root_key is not None
    assert made.root_key is not made.key


def test_name_constraints(now: dt.datetime) -> None:
    """Permitted domains and networks stand in a critical extension, and the kinds that are not named are excluded."""
    made = Authority.create(intermediate=True, permitted=["example.com", "Example.COM", "10.0.0.0/8"], now=now)
    permitted = [x509.DNSName("example.com"), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))]
    excluded = [x509.IPAddress(ipaddress.ip_network("::/0"))]
    assert parts(made.certificate)["NameConstraints"] == (x509.NameConstraints(permitted, excluded), True)
    only_networks = Authority.create(intermediate=True, permitted=["2001:db8::/32"], now=now)
    limits = parts(only_networks.certificate)["NameConstraints"][0]
    assert isinstance(limits, x509.NameConstraints)
    assert limits.excluded_subtrees == [x509.DNSName(""), x509.IPAddress(ipaddress.ip_network("0.0.0.0/0"))]
    assert "NameConstraints" not in parts(made.root)


@pytest.mark.parametrize("wanted", ["mqtt1.example.com", "*.example.com", "example.com", "10.1.2.3"])
def test_names_within_the_constraints(wanted: str, now: dt.datetime) -> None:
    """A constrained authority certifies what it may name."""
    made = Authority.create(intermediate=True, permitted=["example.com", "10.0.0.0/8"], now=now)
    assert made.server(wanted, now=now).names == (wanted,)


@pytest.mark.parametrize("wanted", ["example.org", "notexample.com", "com", "11.0.0.1", "::1", "localhost"])
def test_names_outside_the_constraints(wanted: str, now: dt.datetime) -> None:
    """A constrained authority refuses any other name, also of a kind that it was not asked about."""
    made = Authority.create(intermediate=True, permitted=["example.com", "10.0.0.0/8"], now=now)
    with pytest.raises(UnfitAuthority, match=r"may name: example\.com, 10\.0\.0\.0/8"):
        made.server("mqtt1.example.com", wanted, now=now)


def test_client_names_that_look_like_hosts_obey_the_constraints(now: dt.datetime) -> None:
    """A client's name with a dot is refused outside the permitted domains, as OpenSSL would; one without is free."""
    made = Authority.create(intermediate=True, permitted=["example.com"], now=now)
    assert made.client("press-7", now=now).common_name == "press-7"
    assert made.client("press.example.com", now=now).common_name == "press.example.com"
    assert made.client("press_7.x", now=now).common_name == "press_7.x"
    with pytest.raises(UnfitAuthority):
        made.client("press.example.org", now=now)


@pytest.mark.parametrize("permitted", ["*.example.com", "10.0.0.1/8", "a b", ""])
def test_permitted_names_that_are_none(permitted: str) -> None:
    """A wildcard, a network with host bits and no name at all cannot be permitted."""
    with pytest.raises(InvalidName):
        Authority.create(intermediate=True, permitted=[permitted])


def test_constraints_need_an_issuing_authority() -> None:
    """Name constraints without an issuing CA are refused, for many verifiers ignore them on a root."""
    with pytest.raises(InvalidName, match="--intermediate"):
        Authority.create(permitted=["example.com"])


@BOTH
def test_a_server(key_type: KeyType, authority: Authority) -> None:
    """A server certificate has serverAuth only, its names in the order given, and the first as common name."""
    made = authority.server("mqtt1.example.com", "*.example.com", "10.0.0.1", "::1", key_type=key_type)
    names: list[x509.GeneralName] = [
        x509.DNSName("mqtt1.example.com"),
        x509.DNSName("*.example.com"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    assert_is_leaf(made, authority, ExtendedKeyUsageOID.SERVER_AUTH, names)
    assert made.leaf.subject.rfc4514_string() == "CN=mqtt1.example.com"
    assert kind(made.leaf.public_key()) == key_type.value
    assert made.purpose == "server"


@pytest.mark.parametrize("first", ["10.0.0.1", "a" * 60 + ".example.com"])
def test_a_server_without_common_name(first: str, authority: Authority) -> None:
    """Where the first name is an address or longer than 64, the subject is empty and the names are critical."""
    made = authority.server(first)
    assert list(made.leaf.subject) == []
    assert parts(made.leaf)["SubjectAlternativeName"][1]


@BOTH
def test_a_client(key_type: KeyType, authority: Authority) -> None:
    """A client certificate has clientAuth only, a common name, and no alternative name."""
    made = authority.client("press-7", key_type=key_type)
    assert_is_leaf(made, authority, ExtendedKeyUsageOID.CLIENT_AUTH, [])
    assert made.leaf.subject.rfc4514_string() == "CN=press-7"
    assert made.purpose == "client"


def test_leaves_are_of_the_family_of_their_authority(now: dt.datetime) -> None:
    """Without a word about keys, an RSA authority makes RSA leaves and a P-256 one P-256 leaves."""
    for key_type in KeyType:
        made = Authority.create(key_type=key_type, now=now)
        assert kind(made.server("a.example", now=now).leaf.public_key()) == key_type.value


def test_serials_differ(authority: Authority) -> None:
    """No two certificates have the same serial number, and these are long."""
    serials = {authority.client("a").leaf.serial_number for _ in range(50)}
    assert len(serials) == 50
    assert max(serials).bit_length() > 150


def test_the_default_life_is_cut_by_the_issuer(now: dt.datetime) -> None:
    """Without days a leaf ends with its authority at the latest; with days that is refused and the most is named."""
    made = Authority.create(days=30, now=now)
    assert made.server("a.example", now=now).leaf.not_valid_after_utc == made.root.not_valid_after_utc
    with pytest.raises(InvalidLifetime, match="at most --days 30"):
        made.server("a.example", days=31, now=now)
    assert made.server("a.example", days=30, now=now).leaf.not_valid_after_utc == made.root.not_valid_after_utc
    last = now + dt.timedelta(days=29, hours=22, minutes=59)
    with pytest.raises(InvalidLifetime, match="make a new authority"):
        made.server("a.example", days=1, now=last)


@pytest.mark.parametrize("days", [0, -1, 36_501, 10**9])
def test_days_that_cannot_be(days: int, authority: Authority) -> None:
    """A life of less than a day or more than a hundred years is refused."""
    with pytest.raises(InvalidLifetime, match="1 to 36500"):
        authority.server("a.example", days=days)
    with pytest.raises(InvalidLifetime, match="1 to 36500"):
        Authority.create(days=days)


def test_a_time_without_zone_is_refused(authority: Authority) -> None:
    """A naive time is refused and not taken for some zone."""
    with pytest.raises(InvalidLifetime, match="time zone"):
        authority.server("a.example", now=dt.datetime(2026, 11, 21))  # noqa: DTZ001 - that is the point


def test_an_expired_authority(now: dt.datetime) -> None:
    """An authority that has expired, or is not valid yet, makes nothing."""
    made = Authority.create(days=1, now=now)
    with pytest.raises(UnfitAuthority, match="expired at 2026-11-22 10:59"):
        made.server("a.example", now=now + dt.timedelta(days=1))
    with pytest.raises(UnfitAuthority, match="not valid before"):
        made.client("a", now=now - dt.timedelta(hours=2))


def test_what_is_no_authority(authority: Authority) -> None:
    """A leaf, and a key of another authority, make no authority."""
    leaf = authority.server("a.example")
    assert leaf.key is not None
    with pytest.raises(UnfitAuthority, match="no CA"):
        Authority(certificate=leaf.leaf, issuers=leaf.issuers, key=leaf.key)
    with pytest.raises(UnfitAuthority, match="does not belong"):
        Authority(certificate=authority.root, key=ec.generate_private_key(ec.SECP256R1()))


def test_a_certificate_with_another_key(authority: Authority) -> None:
    """A key of another certificate makes no certificate."""
    one = authority.server("a.example")
    with pytest.raises(UnfitKey, match="does not belong"):
        Certificate(leaf=one.leaf, key=ec.generate_private_key(ec.SECP256R1()))


def test_keys_do_not_show(authority: Authority) -> None:
    """Neither an authority nor a certificate shows its key in repr."""
    leaf = authority.server("a.example")
    for thing in (authority, leaf):
        assert "key" not in repr(thing).lower()
        assert "PRIVATE" not in repr(thing)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("intermediate", [False, True])
@BOTH
def test_configure(
    *, version: ssl.TLSVersion, intermediate: bool, key_type: KeyType, handshake: Callable[..., str]
) -> None:
    """One call sets up a server, one a client, and mutual TLS works; another name and another client are refused."""
    made = Authority.create(key_type=key_type, intermediate=intermediate)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = ssl.CERT_REQUIRED
    client.minimum_version = client.maximum_version = version
    made.server("mqtt1.example.com", "*.hall.example", "10.0.0.1").configure(server)
    made.client("press-7").configure(client)
    for name in ("mqtt1.example.com", "a.hall.example", "10.0.0.1"):
        assert handshake(server, client, name) == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    for name in ("mqtt2.example.com", "hall.example", "a.b.hall.example", "10.0.0.2"):
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            handshake(server, client, name)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.configure(stranger)
    Authority.create(key_type=key_type).client("press-7").configure(stranger)
    stranger.minimum_version = stranger.maximum_version = version
    with pytest.raises(ssl.SSLError):
        handshake(server, stranger, "mqtt1.example.com")


def test_a_server_certificate_is_no_client(authority: Authority, handshake: Callable[..., str]) -> None:
    """A server that asks for certificates refuses a server's certificate as a client's, and a client refuses the reverse."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = ssl.CERT_REQUIRED
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 the client is done before the server looks
    authority.server("a.example").configure(server)
    authority.server("b.example").configure(client)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(server, client, "a.example")
    authority.client("press-7").configure(server)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(server, client, "press-7")


def test_the_pem_of_a_certificate(now: dt.datetime) -> None:
    """A server shows its leaf and the issuing CA and never the root, and the chain ends with the root."""
    made = Authority.create(intermediate=True, now=now)
    leaf = made.server("a.example", now=now)
    assert x509.load_pem_x509_certificates(leaf.certificate_pem) == [leaf.leaf, made.certificate]
    assert x509.load_pem_x509_certificates(leaf.chain_pem) == [made.certificate, made.root]
    assert x509.load_pem_x509_certificates(made.ca_pem) == [made.root]
    assert leaf.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert leaf.root == made.root
