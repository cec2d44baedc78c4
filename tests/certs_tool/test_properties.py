"""What is asked for is in the certificate, and nothing else; what is not allowed is refused. For any names, lives and keys."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from switchgear_certs import (
    Authority,
    Certificate,
    CertsError,
    InvalidLifetime,
    InvalidName,
    KeyType,
    UnfitAuthority,
    verify,
)
from switchgear_certs.chain import is_issued_by
from switchgear_certs.findings import failed
from switchgear_certs.keys import kind

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
AUTHORITIES = {
    (key_type, intermediate): Authority.create(key_type=key_type, intermediate=intermediate, days=1000, now=NOW)
    for key_type in KeyType
    for intermediate in (False, True)
}
CONSTRAINED = Authority.create(intermediate=True, permitted=["example.com", "10.0.0.0/8"], days=1000, now=NOW)

authorities = st.sampled_from(sorted(AUTHORITIES, key=str)).map(AUTHORITIES.__getitem__)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True).filter(lambda text: text[2:4] != "--")
tops = st.from_regex(r"[a-z]{2,10}", fullmatch=True)
hosts = st.builds(lambda parts, top: ".".join([*parts, top]), st.lists(labels, min_size=1, max_size=4), tops).filter(
    lambda text: len(text) <= 240
)
wildcards = hosts.map(lambda host: f"*.{host}")
unicode_hosts = st.builds("{}.{}".format, st.text(alphabet="äöüßéèñçøåłžабвгд", min_size=1, max_size=20), hosts).filter(
    lambda text: len(text) < 150
)
addresses = st.ip_addresses().filter(lambda address: getattr(address, "scope_id", None) is None).map(str)
names = st.lists(st.one_of(hosts, wildcards, unicode_hosts, addresses), min_size=1, max_size=4, unique=True)
clients = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True).filter(
    lambda text: text.casefold() not in {"ca", "issuing"}
)
days = st.integers(1, 1000)


def expected(text: str) -> x509.GeneralName:
    """*text* as it should stand in the certificate, worked out another way than the code does."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        star = "*." if text.startswith("*.") else ""
        labels = text.removeprefix("*.").split(".")
        encoded = [label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels]
        return x509.DNSName(star + ".".join(encoded))


def assert_exact(made: Certificate, authority: Authority, purpose: x509.ObjectIdentifier) -> None:
    """Nothing is in the certificate but its names, its purpose, what its key can do, and who issued it."""
    leaf = made.leaf
    found = {type(each.value): each.value for each in leaf.extensions}
    assert found.pop(x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    assert found.pop(x509.ExtendedKeyUsage) == x509.ExtendedKeyUsage([purpose])
    usage = found.pop(x509.KeyUsage)
    assert isinstance(usage, x509.KeyUsage)
    assert usage.digital_signature
    assert usage.key_encipherment == kind(leaf.public_key()).startswith("RSA")
    others = (usage.key_cert_sign, usage.crl_sign, usage.key_agreement, usage.data_encipherment)
    assert not any(others)
    found.pop(x509.SubjectKeyIdentifier)
    found.pop(x509.AuthorityKeyIdentifier)
    found.pop(x509.SubjectAlternativeName, None)
    assert found == {}
    assert is_issued_by(leaf, authority.certificate)
    assert all(each.oid == NameOID.COMMON_NAME for each in leaf.subject)


@settings(max_examples=150)
@given(authorities, names, days, st.sampled_from([None, KeyType.P256]))
def test_servers(authority: Authority, wanted: list[str], life: int, key_type: KeyType | None) -> None:
    """A server certificate has just the names that were asked for, in order, for just as long, with that kind of key."""
    authority = (
        AUTHORITIES[KeyType.P256, bool(authority.issuers)] if key_type is None else authority
    )  # RSA keys are slow
    made = authority.server(*wanted, days=life, key_type=key_type, now=NOW)
    sans = made.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(sans.value) == list(dict.fromkeys(expected(text) for text in wanted))
    assert sans.critical is (len(list(made.leaf.subject)) == 0)
    common_name = made.common_name
    first = expected(wanted[0]).value
    assert common_name == (first if isinstance(first, str) and len(first) <= 64 else None)
    assert made.leaf.not_valid_after_utc - made.leaf.not_valid_before_utc == dt.timedelta(days=life, seconds=-1)
    assert made.leaf.not_valid_before_utc == NOW - dt.timedelta(hours=1)
    assert kind(made.leaf.public_key()) == "P-256"
    assert_exact(made, authority, ExtendedKeyUsageOID.SERVER_AUTH)


@settings(max_examples=50)
@given(authorities, names)
def test_every_server_verifies(authority: Authority, wanted: list[str]) -> None:
    """What is made verifies under each of its names, by another implementation of path validation."""
    made = authority.server(*wanted, key_type=KeyType.P256, now=NOW)
    certificates = x509.load_pem_x509_certificates(made.certificate_pem)
    for name in made.names:
        found = verify(certificates, [authority.root], name=name.replace("*", "x"), now=NOW)
        assert failed(found) == []


@given(authorities, clients, days)
def test_clients(authority: Authority, name: str, life: int) -> None:
    """A client certificate has its name, and no alternative one, for just as long as was asked for."""
    made = authority.client(name, days=life, key_type=KeyType.P256, now=NOW)
    assert made.common_name == name
    assert made.names == ()
    assert made.leaf.not_valid_after_utc - made.leaf.not_valid_before_utc == dt.timedelta(days=life, seconds=-1)
    assert_exact(made, authority, ExtendedKeyUsageOID.CLIENT_AUTH)


@given(authority=authorities, wanted=names, life=days, later=st.integers(0, 900), keep=st.booleans())
def test_renewals(*, authority: Authority, wanted: list[str], life: int, later: int, keep: bool) -> None:
    """A renewal has the same names and kind of key, lives as long unless its authority ends, and never longer."""
    old = authority.server(*wanted, days=life, key_type=KeyType.P256, now=NOW)
    new = authority.renew(old, keep_key=keep, now=NOW + dt.timedelta(days=later))
    assert (new.names, new.leaf.subject) == (old.names, old.leaf.subject)
    assert (new.leaf.public_key() == old.leaf.public_key()) is keep
    lived = new.leaf.not_valid_after_utc - new.leaf.not_valid_before_utc
    if life + later <= 1000:
        assert lived == dt.timedelta(days=life, seconds=-1)
    else:
        assert new.leaf.not_valid_after_utc == authority.root.not_valid_after_utc
    assert_exact(new, authority, ExtendedKeyUsageOID.SERVER_AUTH)


@given(authorities, st.integers(-(10**12), 10**12))
def test_lives(authority: Authority, life: int) -> None:
    """A life within the authority's is granted to the second, any other is refused."""
    if 1 <= life <= 1000:
        made = authority.server("a.example", days=life, key_type=KeyType.P256, now=NOW)
        assert made.leaf.not_valid_after_utc <= authority.root.not_valid_after_utc
    else:
        with pytest.raises(InvalidLifetime):
            authority.server("a.example", days=life, key_type=KeyType.P256, now=NOW)


@given(st.lists(hosts, min_size=5, max_size=12, unique=True))
def test_too_many_names(wanted: list[str]) -> None:
    """More than four different names are refused, and with the limit lifted all of them are there."""
    authority = AUTHORITIES[KeyType.P256, False]
    with pytest.raises(InvalidName, match="at most 4"):
        authority.server(*wanted, now=NOW)
    assert authority.server(*wanted, aws_limits=False, now=NOW).names == tuple(wanted)


@given(hosts, st.sampled_from(" _\t\n\r\x00\x07\x7f\u00a0\u200b\u2028;,/\\:@!\"'$%&()=?{}[]<>|"), st.data())
def test_characters_that_are_in_no_name(host: str, bad: str, data: st.DataObject) -> None:
    """One wrong character anywhere in a name is enough to refuse it."""
    place = data.draw(st.integers(0, len(host)))
    text = host[:place] + bad + host[place:]
    with pytest.raises(InvalidName):
        AUTHORITIES[KeyType.P256, False].server(text, now=NOW)


@given(st.text(max_size=300))
def test_any_text_as_a_name(text: str) -> None:
    """Any text is refused by an error of ours, or is the one name of the certificate."""
    try:
        made = AUTHORITIES[KeyType.P256, False].server(text, now=NOW)
    except CertsError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
        return
    assert len(made.names) == 1


@given(hosts, addresses)
def test_constraints(host: str, address: str) -> None:
    """A constrained authority certifies a name just when it is permitted."""
    inside = ipaddress.ip_address(address) in ipaddress.ip_network("10.0.0.0/8") if ":" not in address else False
    for text, is_permitted in (
        (f"{host}.example.com", True),
        (host, host == "example.com" or host.endswith(".example.com")),
        (address, inside),
    ):
        if is_permitted:
            assert len(CONSTRAINED.server(text, now=NOW).names) == 1
        else:
            with pytest.raises(UnfitAuthority):
                CONSTRAINED.server(text, now=NOW)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(intermediate=st.booleans(), wanted=st.lists(hosts, min_size=1, max_size=3, unique=True), other=hosts)
def test_handshakes(*, intermediate: bool, wanted: list[str], other: str, handshake: Callable[..., str]) -> None:
    """A TLS client of Python's takes the server under each of its names and under no other."""
    authority = Authority.create(intermediate=intermediate)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.server(*wanted).configure(server)
    authority.configure(client)
    for name in wanted:
        assert handshake(server, client, name) == "TLSv1.3"
    if other not in wanted:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server, client, other)
