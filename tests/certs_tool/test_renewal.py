"""Renewal: the same again, with new dates; and when that cannot be."""

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from switchgear_certs import (
    Authority,
    Certificate,
    Files,
    InvalidLifetime,
    KeyType,
    UnfitKey,
    UnfitRequest,
)
from switchgear_certs.keys import kind

Run = Callable[..., Any]
Refused = Callable[..., str]

BOTH = pytest.mark.parametrize("key_type", list(KeyType), ids=lambda each: each.value)


@pytest.mark.parametrize("keep_key", [False, True])
@BOTH
def test_renewal(*, keep_key: bool, key_type: KeyType, now: dt.datetime) -> None:
    """A renewed certificate has the same names, purpose, kind of key and length of life, and another serial number."""
    made = Authority.create(key_type=key_type, now=now)
    later = now + dt.timedelta(days=20)
    for old in (
        made.server("mqtt1.example.com", "10.0.0.1", days=33, now=now),
        made.server("a" * 60 + ".example.com", days=33, now=now),
        made.client("press-7", days=33, now=now),
    ):
        new = made.renew(old, keep_key=keep_key, now=later)
        assert new.leaf.subject == old.leaf.subject
        assert new.names == old.names
        assert new.purpose == old.purpose
        assert new.leaf.serial_number != old.leaf.serial_number
        assert new.leaf.not_valid_before_utc == later - dt.timedelta(hours=1)
        assert new.leaf.not_valid_after_utc == new.leaf.not_valid_before_utc + dt.timedelta(days=33, seconds=-1)
        assert new.leaf.signature_algorithm_oid == old.leaf.signature_algorithm_oid
        assert kind(new.leaf.public_key()) == kind(old.leaf.public_key())
        assert (new.leaf.public_key() == old.leaf.public_key()) is keep_key


def test_renewal_is_cut_by_the_issuer(now: dt.datetime) -> None:
    """A renewal without days ends with the authority at the latest; with days beyond it is refused."""
    made = Authority.create(days=200, now=now)
    old = made.server("a.example", days=150, now=now)
    later = now + dt.timedelta(days=100)
    assert made.renew(old, now=later).leaf.not_valid_after_utc == made.root.not_valid_after_utc
    with pytest.raises(InvalidLifetime, match="at most --days 100"):
        made.renew(old, days=150, now=later)


def test_renewals_that_would_not_be_the_same(authority: Authority, now: dt.datetime) -> None:
    """A renewal is refused by an authority with another algorithm, for a foreign subject, and for a certificate of none."""
    old = authority.server("a.example")
    with pytest.raises(UnfitRequest, match="another algorithm"):
        Authority.create(key_type=KeyType.RSA2048).renew(old)
    with pytest.raises(UnfitRequest, match="not made here"):
        authority.renew(Certificate(leaf=authority.root, key=authority.key))
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")]))
    key = ec.generate_private_key(ec.SECP256R1())
    foreign = (
        builder.issuer_name(authority.root.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    with pytest.raises(UnfitRequest, match="subject or names would change"):
        authority.renew(Certificate(leaf=foreign, key=key))


def test_renewal_without_the_key(authority: Authority) -> None:
    """A certificate whose key is elsewhere is renewed with the kept key only."""
    old = Certificate(leaf=authority.server("a.example").leaf)
    with pytest.raises(UnfitKey, match="--keep-key"):
        authority.renew(old)
    new = authority.renew(old, keep_key=True)
    assert new.key is None
    assert new.leaf.public_key() == old.leaf.public_key()


def test_several_are_renewed_together_or_not_at_all(run: Run, refused: Refused, tmp_path: Path) -> None:
    """Where one of several cannot be renewed none is, also over two folders; nothing is renewed twice."""
    run("init")
    run("server", "a.example", "b.example")
    shutil.copytree("certs", "more")
    Path("certs/b.example.key").write_bytes(b"")
    assert "b.example.key holds no private key" in refused("renew", "a.example", "b.example")
    assert "b.example.key holds no private key" in refused("renew", "more/a.example.crt", "certs/b.example.crt")
    old = [Files(folder).certificate("a.example").leaf for folder in ("certs", "more")]
    ran = run("renew", "a.example", "certs/a.example.crt", tmp_path / "certs/a.example.crt", "more/a.example.crt")
    assert ran.code == 0, ran
    assert (ran.out.count("wrote"), "kept" in ran.out) == (4, False)
    new = [Files(folder).certificate("a.example") for folder in ("certs", "more")]
    assert all(each.key is not None and each.leaf not in old for each in new)
