"""The commands init, server, client, sign, renew and demo: what they write, what they leave, what they refuse."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from switchgear_certs import Authority, Certificate, Files, KeyType
from switchgear_certs.keys import key_pem, kind

Run = Callable[..., Any]
Refused = Callable[..., str]


def tree(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def request(path: Path, name: str, *, key: ec.EllipticCurvePrivateKey | None = None, ca: bool = False) -> Path:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    path.write_bytes(signed.public_bytes(Encoding.PEM))
    return path


def test_two_servers(run: Run, tmp_path: Path) -> None:
    """Two names give the authority's certificate and a pair for each, in a folder for this user only."""
    assert run("init").code == 0
    assert run("server", "mqtt1.example.com", "mqtt2.example.com").code == 0
    found = {name: mode for name, (_, mode, _) in tree(tmp_path / "certs").items()}
    assert found == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "mqtt1.example.com.crt": 0o644,
        "mqtt1.example.com.key": 0o600,
        "mqtt2.example.com.crt": 0o644,
        "mqtt2.example.com.key": 0o600,
    }
    assert stat.S_IMODE((tmp_path / "certs").stat().st_mode) == 0o700
    assert Files("certs").certificate("mqtt2.example.com").names == ("mqtt2.example.com",)


COMMANDS: list[tuple[str, ...]] = [
    ("init",),
    ("init", "--name", "Press hall", "--rsa", "--days", "400"),
    ("init", "--intermediate", "--permit", "example.com", "--permit", "10.0.0.0/8"),
    ("server", "mqtt1.example.com", "mqtt2.example.com"),
    ("server", "mqtt1.example.com", "--san", "bücher.example.com", "--san", "10.0.0.1", "--days", "7"),
    ("server", "*.example.com", "--rsa"),
    ("server", *(f"m{n}.example.com" for n in range(5))),
    ("server", "m.example.com", *(f"--san=m{n}.example.com" for n in range(5)), "--beyond-aws"),
    ("client", "press-7", "press_8"),
    ("client", "press-7", "--rsa", "--days", "3"),
    ("sign", "a.csr"),
    ("sign", "b.csr", "--purpose", "client"),
    ("bundle", "mqtt1.example.com"),
    ("bundle", "mqtt1.example.com", "--with-key"),
    ("p12", "mqtt1.example.com"),
    ("p12", "mqtt1.example.com", "--trust-store"),
    ("acm", "mqtt1.example.com"),
    ("demo",),
    ("demo", "a.example.com", "--san", "localhost", "--intermediate", "--rsa", "--days", "5"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: " ".join(each)[:60])
def test_again_changes_nothing(command: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    """The same command again leaves every byte and every date of every file, says so, and ends with 0."""
    request(tmp_path / "a.csr", "asked.example.com")
    request(tmp_path / "b.csr", "press-9")
    if command[0] not in {"init", "demo"}:
        assert run("init").code == 0
    if command[0] in {"bundle", "p12", "acm"}:
        assert run("server", "mqtt1.example.com").code == 0
    first = run(*command)
    assert (first.code, first.err) == (0, "")
    assert "Nothing was changed" not in first.out
    before = tree(tmp_path)
    again = run(*command)
    assert (again.code, again.err) == (0, "")
    assert tree(tmp_path) == before
    assert "Nothing was changed" in again.out
    assert "wrote" not in again.out
    as_json = json.loads(run(*command, "--json").out)
    assert as_json["changed"] is False
    assert {file["written"] for file in as_json["files"]} == {False}


def test_json(run: Run) -> None:
    """JSON names each file, what it is for, its mode, and what each certificate says."""
    run("init")
    found = json.loads(run("server", "mqtt1.example.com", "--json").out)
    assert found["changed"] is True
    assert [(file["path"], file["mode"], file["written"]) for file in found["files"]] == [
        ("certs/ca.crt", "0644", False),
        ("certs/mqtt1.example.com.crt", "0644", True),
        ("certs/mqtt1.example.com.key", "0600", True),
    ]
    assert all(file["what"] for file in found["files"])
    assert found["certificates"]["mqtt1.example.com"]["names"] == ["mqtt1.example.com"]
    assert found["certificates"]["mqtt1.example.com"]["purposes"] == ["server"]
    assert any("mosquitto" in title for title in found["use"])


def test_output_says_where_files_go(run: Run, tmp_path: Path) -> None:
    """What is printed has the lines for mosquitto, ActiveMQ, ACM, paho-mqtt and awsiotsdk, with absolute paths."""
    run("init")
    server = run("server", "mqtt1.example.com").out
    certificate = tmp_path / "certs" / "mqtt1.example.com.crt"
    assert f"certfile {certificate}" in server
    assert f'keyStore="{(tmp_path / "certs" / "mqtt1.example.com.p12").as_uri()}" keyStoreType="PKCS12"' in server
    assert "aws acm import-certificate --certificate fileb://" in server
    client = run("client", "press-7").out
    assert f"client.tls_set(ca_certs='{tmp_path / 'certs' / 'ca.crt'}'" in client
    assert "mqtt5_client_builder.mtls_from_path(" in client
    assert "port=8883" in client


def test_another_wish_for_the_same_place_is_refused(run: Run, refused: Refused) -> None:
    """Another name, kind of key, life, purpose or authority in the same place needs --force, and the message says what differs."""
    run("init")
    run("server", "mqtt1.example.com")
    run("client", "press-7")
    assert "other names (mqtt1.example.com)" in refused("server", "mqtt1.example.com", "--san", "b.example.com")
    assert "another key (P-256)" in refused("server", "mqtt1.example.com", "--rsa")
    assert "another lifetime (90 days)" in refused("server", "mqtt1.example.com", "--days", "7")
    assert "another purpose (server)" in refused("client", "mqtt1.example.com")
    assert "another purpose (client)" in refused("server", "press-7")
    assert "another name (Switchgear CA" in refused("init", "--name", "Another")
    assert "another key (P-256)" in refused("init", "--rsa")
    assert "another lifetime (1825 days)" in refused("init", "--days", "7")
    assert "without an issuing CA" in refused("init", "--intermediate")
    assert "without a passphrase" in refused("init", "--passphrase-env", "HOME")
    assert "--force" in refused("server", "mqtt1.example.com", "--rsa")


def test_constraints_are_compared(run: Run, refused: Refused) -> None:
    """An issuing CA with other name constraints, or without, is another one."""
    run("init", "--intermediate", "--permit", "example.com")
    assert "other name constraints" in refused("init", "--intermediate")
    assert "other name constraints" in refused("init", "--intermediate", "--permit", "example.org")
    assert "with an issuing CA" in refused("init")
    assert run("init", "--intermediate", "--permit", "EXAMPLE.com").code == 0


def test_force_replaces(run: Run) -> None:
    """With --force the pair is new, key and all."""
    run("init")
    run("server", "mqtt1.example.com")
    before = Files("certs").certificate("mqtt1.example.com")
    assert run("server", "mqtt1.example.com", "--rsa", "--force").code == 0
    after = Files("certs").certificate("mqtt1.example.com")
    assert kind(after.leaf.public_key()) == "RSA-2048"
    assert before.leaf.serial_number != after.leaf.serial_number


def test_a_new_authority_orphans_the_old_certificates(run: Run, refused: Refused) -> None:
    """After init --force the old pairs are recognized as another authority's and never passed off as right."""
    run("init")
    run("server", "mqtt1.example.com")
    ran = run("init", "--force")
    assert ran.code == 0
    assert "not trusted with the new one" in ran.out
    assert "of another authority" in refused("server", "mqtt1.example.com")
    assert run("verify", "mqtt1.example.com", "--name", "mqtt1.example.com").code == 1
    assert run("server", "mqtt1.example.com", "--force").code == 0


def test_the_reserved_names_are_never_overwritten(run: Run, refused: Refused) -> None:
    """Not even --force lets a server or a client take the authority's files."""
    run("init", "--intermediate")
    for command in (("server", "ca"), ("client", "ca"), ("server", "issuing"), ("client", "Issuing")):
        assert "authority" in refused(*command, "--force")


def test_all_or_none(run: Run, refused: Refused) -> None:
    """When one of several names cannot be made, none is."""
    run("init")
    assert "underscore" in refused("server", "mqtt1.example.com", "bad_name.example.com")
    run("client", "taken")
    assert "another purpose" in refused("server", "mqtt1.example.com", "taken")
    assert not Path("certs/mqtt1.example.com.crt").exists()


def test_a_root_kept_elsewhere(run: Run) -> None:
    """With an issuing CA everything works without the root's key."""
    run("init", "--intermediate")
    Path("certs/ca.key").unlink()
    assert run("server", "mqtt1.example.com").code == 0
    assert run("init", "--intermediate").code == 0
    chain = x509.load_pem_x509_certificates(Path("certs/mqtt1.example.com.crt").read_bytes())
    assert len(chain) == 2


def test_an_interrupted_run_is_completed(run: Run, tmp_path: Path) -> None:
    """A run that ended between its decision and its last file is completed by the next command, whichever it is."""
    run("init")
    run("server", "a.example")
    made = Files("certs").authority().server("a.example")
    pending = tmp_path / "certs" / ".pending"
    pending.mkdir(0o700)
    (pending / "a.example.crt").write_bytes(made.certificate_pem)
    Path("certs/a.example.key").write_bytes(made.key_pem)  # the key was in its place already
    (tmp_path / "certs" / ".staging-1234").mkdir()
    assert run("server", "a.example").code == 0
    assert Files("certs").certificate("a.example").leaf == made.leaf
    assert sorted(path.name for path in Path("certs").iterdir()) == [
        "a.example.crt",
        "a.example.key",
        "ca.crt",
        "ca.key",
    ]


def test_a_long_life_is_remarked(run: Run) -> None:
    """A server certificate that Apple's systems would refuse is made, with a note."""
    run("init")
    assert "Apple" in run("server", "a.example", "--days", "826").out
    assert "Apple" not in run("server", "b.example", "--days", "825").out


def test_signing(run: Run, refused: Refused, tmp_path: Path) -> None:
    """A CSR gives a certificate and no key; a key that is another one's is never left beside it."""
    run("init")
    key = ec.generate_private_key(ec.SECP256R1())
    path = request(tmp_path / "a.csr", "asked.example.com", key=key)
    assert run("sign", path).code == 0
    assert not Path("certs/asked.example.com.key").exists()
    found = Files("certs").certificate("asked.example.com")
    assert found.leaf.public_key() == key.public_key()
    another = request(tmp_path / "b.csr", "asked.example.com")
    assert "for another key" in refused("sign", another)
    Path("certs/asked.example.com.key").write_bytes(key_pem(key))
    assert "is not the key of" in refused("sign", another, "--force")
    assert run("sign", path).code == 0
    assert Files("certs").certificate("asked.example.com").key is not None


@pytest.mark.parametrize("keep_key", [False, True])
def test_renewal(*, keep_key: bool, run: Run, tmp_path: Path) -> None:
    """Renewal replaces certificate and, unless it is kept, key; names, kind of key and life stay."""
    run("init", "--intermediate")
    run("server", "mqtt1.example.com", "--san", "10.0.0.1", "--days", "33")
    before = Files("certs").certificate("mqtt1.example.com")
    ran = run("renew", "mqtt1.example.com", *(["--keep-key"] if keep_key else []))
    assert ran.code == 0, ran.err
    after = Files("certs").certificate(Path("certs/mqtt1.example.com.crt"))
    assert after.names == before.names
    assert after.leaf.serial_number != before.leaf.serial_number
    assert (after.key_pem == before.key_pem) is keep_key
    assert stat.S_IMODE((tmp_path / "certs" / "mqtt1.example.com.key").stat().st_mode) == 0o600
    assert after.leaf.not_valid_after_utc - after.leaf.not_valid_before_utc == (
        before.leaf.not_valid_after_utc - before.leaf.not_valid_before_utc
    )


def test_renewal_elsewhere(run: Run, tmp_path: Path) -> None:
    """A certificate outside of --out is renewed where it is, by the authority in --out."""
    run("init")
    run("server", "a.example")
    (tmp_path / "elsewhere").mkdir()
    for end in ("crt", "key"):
        Path(f"certs/a.example.{end}").rename(tmp_path / "elsewhere" / f"served.{end}")
    before = Files("certs").certificate("elsewhere/served.crt")
    assert run("renew", "elsewhere/served.crt").code == 0
    after = Files("certs").certificate("elsewhere/served.crt")
    assert (after.names, after.leaf == before.leaf) == (before.names, False)
    assert sorted(path.name for path in Path("certs").iterdir()) == ["ca.crt", "ca.key"]


def test_renewal_if_needed(run: Run, now: Any) -> None:
    """With --if-needed only those are renewed that have less than a third of their life left."""
    run("init")
    run("server", "fresh.example")
    authority = Files("certs").authority()
    Files("certs").save(_old(authority))
    before = Files("certs").certificate("fresh.example").leaf
    ran = run("renew", "--if-needed", "fresh.example", "old.example", "--json")
    assert ran.code == 0
    written = {file["path"] for file in json.loads(ran.out)["files"] if file["written"]}
    assert written == {"certs/old.example.crt", "certs/old.example.key"}
    assert Files("certs").certificate("fresh.example").leaf == before
    again = run("renew", "--if-needed", "fresh.example", "old.example")
    assert "Nothing was changed" in again.out


def _old(authority: Authority) -> Certificate:
    """A certificate of *authority*'s with a tenth of its life left."""
    import datetime as dt

    from switchgear_certs import profiles
    from switchgear_certs.lifetimes import Lifetime
    from switchgear_certs.names import server_name

    key = KeyType.P256.make()
    end = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=1)
    leaf = profiles.server(
        key.public_key(),
        names=[server_name("old.example")],
        issuer=authority.certificate,
        issuer_key=authority.key,
        lifetime=Lifetime(end - dt.timedelta(days=10, seconds=-1), end),
    )
    return Certificate(leaf=leaf, issuers=(authority.certificate,), key=key)


def test_renewal_names_what_was_made_of_the_old_one(run: Run) -> None:
    """After a renewal the stores and ACM's files that were made of the old certificate are named."""
    run("demo")
    ran = run("renew", "mqtt1.example.com")
    assert "mqtt1.example.com.p12, mqtt1.example.com.bundle.pem, mqtt1.example.com.acm" in ran.out


def test_the_demo(run: Run, tmp_path: Path) -> None:
    """One command makes everything for two domains, and a part that is missing later is made again alone."""
    assert run("demo").code == 0
    found = {name: mode for name, (_, mode, _) in tree(tmp_path / "certs").items()}
    pair = {
        f"{name}{end}": mode
        for name in ("mqtt1.example.com", "mqtt2.example.com")
        for end, mode in {
            ".crt": 0o644,
            ".key": 0o600,
            ".p12": 0o600,
            ".bundle.pem": 0o644,
            ".acm/leaf.pem": 0o644,
            ".acm/chain.pem": 0o644,
            ".acm/key.pem": 0o600,
        }.items()
    }
    others = {"ca.crt": 0o644, "ca.key": 0o600, "ca.p12": 0o600, "keystore.password": 0o600}
    client = {"demo-client.crt": 0o644, "demo-client.key": 0o600}
    assert found == pair | others | client
    for name in ("mqtt2.example.com.p12", "mqtt2.example.com.crt", "mqtt2.example.com.key"):
        Path("certs", name).unlink()
    before = tree(tmp_path)
    ran = json.loads(run("demo", "--json").out)
    written = {file["path"].removeprefix("certs/") for file in ran["files"] if file["written"]}
    assert written == {name for name in pair if name.startswith("mqtt2") and name != "mqtt2.example.com.acm/chain.pem"}
    after = tree(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {f"certs/{name}" for name in written} & set(
        before
    )
