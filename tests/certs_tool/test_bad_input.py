"""What the making commands refuse: names, lives, authorities, requests, folders, halves of pairs."""

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from switchgear_certs import Authority, Files

Run = Callable[..., Any]
Refused = Callable[..., str]


def request(path: Path, name: str, *, key: ec.EllipticCurvePrivateKey | None = None, ca: bool = False) -> Path:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    path.write_bytes(signed.public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize("missing", ["crt", "key"])
def test_half_a_pair(missing: str, run: Run, refused: Refused) -> None:
    """Half of a pair is named, not completed with something else; --force makes both anew."""
    run("init")
    run("server", "mqtt1.example.com")
    Path(f"certs/mqtt1.example.com.{missing}").unlink()
    assert "half of a pair" in refused("server", "mqtt1.example.com")
    assert run("server", "mqtt1.example.com", "--force").code == 0
    assert Files("certs").certificate("mqtt1.example.com").key is not None


@pytest.mark.parametrize("end", ["crt", "key"])
@pytest.mark.parametrize(
    "contents", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff\x00"]
)
def test_a_damaged_pair(end: str, contents: bytes, run: Run, refused: Refused) -> None:
    """A cut-off or damaged file of a pair is named in one line; --force makes both anew."""
    run("init")
    run("server", "mqtt1.example.com")
    Path(f"certs/mqtt1.example.com.{end}").write_bytes(contents)
    assert f"mqtt1.example.com.{end}" in refused("server", "mqtt1.example.com")
    assert run("server", "mqtt1.example.com", "--force").code == 0


def test_a_mixed_pair(run: Run, refused: Refused) -> None:
    """A key of another pair is named, whoever uses the pair."""
    run("init")
    run("server", "a.example", "b.example")
    Path("certs/a.example.key").write_bytes(Path("certs/b.example.key").read_bytes())
    for command in (("server", "a.example"), ("renew", "a.example"), ("acm", "a.example"), ("p12", "a.example")):
        assert "a.example.key does not belong to certs/a.example.crt" in refused(*command)


def test_no_authority(refused: Refused) -> None:
    """Without an authority the way to make one is named, and no folder is left behind."""
    for command in (("server", "a.example"), ("client", "a")):
        assert "switchgear-certs init" in refused(*command)
    assert not Path("certs").exists()


def test_authorities_that_are_not_fit(run: Run, refused: Refused) -> None:
    """An authority that is a leaf, has another's key or no key is refused, and so is a damaged one."""
    run("init")
    run("server", "leaf.example")
    files = {path.name: path.read_bytes() for path in Path("certs").iterdir()}
    Path("certs/ca.crt").write_bytes(files["leaf.example.crt"])
    Path("certs/ca.key").write_bytes(files["leaf.example.key"])
    assert "is no CA" in refused("server", "a.example")
    Path("certs/ca.crt").write_bytes(files["ca.crt"])
    assert "does not belong" in refused("server", "a.example")
    assert "does not belong" in refused("init")
    Path("certs/ca.key").unlink()
    assert "ca.key is missing" in refused("server", "a.example")
    assert "without ca.key" in refused("init")
    Path("certs/ca.key").write_bytes(b"nonsense")
    assert "no private key" in refused("server", "a.example")
    Path("certs/ca.crt").write_bytes(b"nonsense")
    assert "no certificate in PEM" in refused("server", "a.example")
    Path("certs/ca.crt").unlink()
    Path("certs/ca.crt").mkdir()
    refused("server", "a.example")


def test_an_expired_authority(run: Run, refused: Refused, now: Any) -> None:
    """An authority that has expired makes nothing, and the day is named."""
    Files("certs").save(Authority.create(days=1, now=now.replace(year=2020)))
    assert "expired at 2020-11-22" in refused("server", "a.example")
    assert "it has expired" not in run("init").err


def test_an_issuing_authority_of_another_root(run: Run, refused: Refused) -> None:
    """An issuing CA beside another root is refused."""
    run("init", "--intermediate")
    run("init", "--out", "other")
    Path("certs/ca.crt").write_bytes(Path("other/ca.crt").read_bytes())
    assert "was not issued by" in refused("server", "a.example")


def test_lifetimes(run: Run, refused: Refused) -> None:
    """A life beyond the issuer's is refused with the most that is possible; left out it is cut, and that is said."""
    run("init", "--days", "30")
    assert "at most --days 29" in refused("server", "a.example", "--days", "60").replace("--days 30", "--days 29")
    ran = run("server", "a.example")
    assert ran.code == 0
    assert "ends with its authority" in ran.out
    for days in ("0", "-5", "99999999"):
        assert "1 to 36500" in refused("server", "b.example", "--days", days)
    assert run("server", "b.example", "--days", "many").code == 2


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("a b", "spaces"),
        ("a_b.example.com", "underscore"),
        ("a\x07b", "control"),
        ("x" * 64, "64 characters"),
        (".".join(["a" * 60] * 5), "304 characters"),
    ],
)
def test_bad_names(name: str, why: str, run: Run, refused: Refused) -> None:
    """Names that are empty, too long, or hold spaces, underscores or control characters end with one line."""
    run("init")
    assert why in refused("server", name)
    assert why in refused("server", "a.example", "--san", name)
    assert why in refused("demo", name)


def test_more_names_than_aws_takes(run: Run, refused: Refused) -> None:
    """Five names in one certificate are refused with the limit; five certificates are not."""
    run("init")
    sans = [f"--san=m{n}.example.com" for n in range(4)]
    assert "at most 4" in refused("server", "a.example.com", *sans)
    assert run("server", *(f"m{n}.example.com" for n in range(5))).code == 0


def test_unwritable_folders(refused: Refused, tmp_path: Path) -> None:
    """A file in the way of the folder, and a system folder, end with one line."""
    (tmp_path / "file").write_bytes(b"")
    assert "file" in refused("init", "--out", "file")
    assert "file" in refused("init", "--out", "file/below")
    assert "/proc" in refused("init", "--out", "/proc/certs")
    assert "/proc" in refused("demo", "--out", "/proc/certs")


DROPPED = """
import os, sys
from switchgear_certs.cli import main
main(["init", "--out", sys.argv[1]])  # everything that is loaded late is loaded now
os.chdir(sys.argv[2])
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
sys.exit(main(["init", "--out", "."]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_read_only_folder(tmp_path: Path) -> None:
    """A folder without write permission ends with one line for a user who is not root."""
    folder = tmp_path / "certs"
    folder.mkdir()
    folder.chmod(0o555)
    command = [sys.executable, "-c", DROPPED, str(tmp_path / "other"), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "switchgear-certs: . cannot be written: Permission denied\n")


def test_bad_requests(run: Run, refused: Refused, tmp_path: Path) -> None:
    """A CSR with a bad signature, one that asks to be a CA, and what is none end with one line."""
    run("init")
    path = request(tmp_path / "a.csr", "asked.example.com")
    der = bytearray(x509.load_pem_x509_csr(path.read_bytes()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    (tmp_path / "bad.csr").write_bytes(der)
    assert "signature is bad" in refused("sign", "bad.csr")
    assert "asks to be a CA" in refused("sign", request(tmp_path / "ca.csr", "ca.example.com", ca=True))
    assert "no certificate signing request" in refused("sign", "certs/ca.crt")
    assert "cannot be read" in refused("sign", "missing.csr")
    assert "cannot be read" in refused("sign", tmp_path)


def test_renewals_that_cannot_be(run: Run, refused: Refused, tmp_path: Path) -> None:
    """An authority, a missing certificate, a signed request without --keep-key and one with its key inside are refused."""
    run("init", "--intermediate")
    run("server", "a.example")
    run("sign", request(tmp_path / "a.csr", "asked.example.com"))
    assert "is an authority" in refused("renew", "certs/ca.crt")
    assert "is an authority" in refused("renew", "certs/issuing.crt")
    assert "neither a file nor a certificate" in refused("renew", "missing.example")
    assert "--keep-key" in refused("renew", "asked.example.com")
    assert run("renew", "asked.example.com", "--keep-key").code == 0
    both = Path("certs/a.example.crt").read_bytes() + Path("certs/a.example.key").read_bytes()
    Path("certs/both.crt").write_bytes(both)
    assert "holds the key too" in refused("renew", "both")


def test_an_authority_without_its_certificate(run: Run, refused: Refused) -> None:
    """`init` beside a key without certificate does not send people to `init`, and --force makes a new authority."""
    run("init")
    Path("certs/ca.crt").unlink()
    assert "certs/ca.key is there without ca.crt; bring the certificate back, use another folder" in refused("init")
    assert run("init", "--force").code == 0
    assert run("server", "a.example").code == 0


def test_an_issuing_ca_without_its_certificate(run: Run, refused: Refused) -> None:
    """An issuing CA of which only the key is left is named, with the way out."""
    run("init", "--intermediate")
    Path("certs/issuing.crt").unlink()
    line = "certs/issuing.crt is missing, and its key is there; bring the issuing CA's certificate back"
    assert line in refused("server", "a.example")
    assert line in refused("init", "--intermediate")


@pytest.mark.parametrize("end", ["crt", "key"])
def test_force_replaces_what_cannot_be_read(end: str, run: Run, refused: Refused) -> None:
    """--force, which the refusal names, replaces a file that cannot be read."""
    run("init")
    run("server", "a.example")
    Path(f"certs/a.example.{end}").write_bytes(bytes(4_194_305))
    assert "--force makes the pair anew" in refused("server", "a.example")
    assert run("server", "a.example", "--force").code == 0
    assert Files("certs").certificate("a.example").key is not None


def test_a_name_that_is_too_long_for_a_file(run: Run, refused: Refused) -> None:
    """A DNS name that no file can be called after is named, and can stand behind a shorter one."""
    run("init")
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert "put a shorter name first, and this one behind it with --san" in refused("server", name)
    assert run("server", "short.example", "--san", name).code == 0


def test_an_authority_that_has_expired(run: Run, now: dt.datetime) -> None:
    """Nobody is told to renew an authority, which is refused."""
    Files("certs").save(Authority.create(now=now.replace(year=2020)))
    ran = run("init")
    assert "note: the authority has expired; make a new one in another folder" in ran.out


def test_a_lifetime_of_no_whole_days(run: Run, refused: Refused) -> None:
    """The life of a certificate that ends with its authority is told as a date, not as None days."""
    run("init", "--days", "2")
    made = Files("certs").authority()
    late = made.certificate.not_valid_after_utc - dt.timedelta(hours=30)
    Files("certs").save(made.server("a.example", now=late))
    assert f"lifetime (until {made.certificate.not_valid_after_utc:%Y-%m-%d})" in refused(
        "server", "a.example", "--days", "1"
    )
