"""The commands bundle, p12 and acm: files for others, and the import into ACM."""

import importlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12
from switchgear_certs import Authority, Certificate, Files
from switchgear_certs.keys import same_key

Run = Callable[..., Any]
Refused = Callable[..., str]
ARN = "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"


@pytest.fixture
def made(run: Run) -> Certificate:
    """mqtt1.example.com in certs/, with an issuing CA."""
    run("init", "--intermediate")
    run("server", "mqtt1.example.com")
    return Files("certs").certificate("mqtt1.example.com")


def test_a_bundle(run: Run, made: Certificate) -> None:
    """A bundle has the leaf, its issuers and the root, in this order; with the key it is secret."""
    assert run("bundle", "mqtt1.example.com").code == 0
    path = Path("certs/mqtt1.example.com.bundle.pem")
    assert x509.load_pem_x509_certificates(path.read_bytes()) == [made.leaf, *made.issuers]
    assert b"PRIVATE" not in path.read_bytes()
    assert run("bundle", "mqtt1.example.com", "--with-key", "--force").code == 0
    assert same_key(load_pem_private_key(path.read_bytes(), None).public_key(), made.leaf.public_key())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_store(run: Run, made: Certificate) -> None:
    """A key store opens with the password beside it, and holds the leaf, its key and its issuers."""
    assert run("p12", "mqtt1.example.com", "--trust-store").code == 0
    password = Path("certs/keystore.password").read_bytes().strip()
    assert len(password) >= 20
    key, leaf, others = pkcs12.load_key_and_certificates(Path("certs/mqtt1.example.com.p12").read_bytes(), password)
    assert leaf == made.leaf
    assert tuple(others) == made.issuers
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert same_key(key.public_key(), made.leaf.public_key())
    trusted = pkcs12.load_pkcs12(Path("certs/ca.p12").read_bytes(), password)
    assert [each.certificate for each in trusted.additional_certs] == [made.root]
    for name in ("mqtt1.example.com.p12", "ca.p12", "keystore.password"):
        assert stat.S_IMODE(Path("certs", name).stat().st_mode) == 0o600


@pytest.mark.skipif(shutil.which("keytool") is None, reason="keytool is not on this machine")
def test_java_reads_the_stores(run: Run, made: Certificate) -> None:
    """Java's keytool finds one private key with its chain in the key store, and one trusted root in the trust store."""
    run("p12", "mqtt1.example.com", "--trust-store")
    listed = {}
    for name in ("mqtt1.example.com.p12", "ca.p12"):
        command = [
            "keytool",
            "-J-Duser.language=en",
            "-list",
            "-v",
            "-storetype",
            "PKCS12",
            "-keystore",
            f"certs/{name}",
        ]
        command += ["-storepass:file", "certs/keystore.password"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout
        listed[name] = ran.stdout
    assert "Entry type: PrivateKeyEntry" in listed["mqtt1.example.com.p12"]
    assert "Certificate chain length: 3" in listed["mqtt1.example.com.p12"]
    assert "Entry type: trustedCertEntry" in listed["ca.p12"]
    assert "Your keystore contains 1 entry" in listed["ca.p12"]


def test_passwords_of_stores(run: Run, refused: Refused, made: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store's password comes from a variable or a file; short ones and those that Java cannot type are refused."""
    monkeypatch.setenv("STORE", "correct horse")
    assert run("p12", "mqtt1.example.com", "--password-env", "STORE").code == 0
    assert "Nothing was changed" in run("p12", "mqtt1.example.com", "--password-env", "STORE").out
    pkcs12.load_pkcs12(Path("certs/mqtt1.example.com.p12").read_bytes(), b"correct horse")
    assert not Path("certs/keystore.password").exists()
    Path("secret").write_text("another one\nignored\n", encoding="utf-8")
    assert "--force" in refused("p12", "mqtt1.example.com", "--password-file", "secret")
    monkeypatch.setenv("STORE", "12345")
    assert "at least 6" in refused("p12", "mqtt1.example.com", "--password-env", "STORE")
    monkeypatch.setenv("STORE", "passwörter")
    assert "ASCII" in refused("p12", "mqtt1.example.com", "--password-env", "STORE")
    assert "only one of" in refused("p12", "mqtt1.example.com", "--password-env", "STORE", "--password-file", "secret")
    assert "terminal" in refused("p12", "mqtt1.example.com", "--password")
    Path("certs/keystore.password").write_bytes(b"\xff\n")
    assert "holds no password" in refused("p12", "mqtt1.example.com")


def test_acm_files(run: Run, made: Certificate) -> None:
    """ACM gets the leaf alone, the issuers with the root last, and the key in the clear, in files of nothing but PEM."""
    ran = run("acm", "mqtt1.example.com")
    assert ran.code == 0
    folder = Path("certs/mqtt1.example.com.acm")
    assert x509.load_pem_x509_certificates((folder / "leaf.pem").read_bytes()) == [made.leaf]
    assert x509.load_pem_x509_certificates((folder / "chain.pem").read_bytes()) == list(made.issuers)
    assert (folder / "key.pem").read_bytes() == made.key_pem
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["chain.pem", "key.pem", "leaf.pem"]
    for path in folder.iterdir():
        assert all(line == line.strip() and line for line in path.read_text(encoding="ascii").splitlines())
    assert f"--certificate fileb://{folder.absolute() / 'leaf.pem'}" in ran.out


def test_acm_refuses_what_aws_iot_would(run: Run, refused: Refused, now: Any) -> None:
    """A certificate that AWS IoT refuses gets no files, and the rule is named."""
    run("init")
    run("client", "press-7")
    assert "eku-server-auth" in refused("acm", "press-7")
    run("server", "a.example.com", *(f"--san=m{n}.example.com" for n in range(4)), "--beyond-aws")
    assert "names-count" in refused("acm", "a.example.com")
    expired = Authority.create(now=now.replace(year=2020)).server("old.example.com", now=now.replace(year=2020))
    Files("certs").save(expired)
    assert "not-after" in refused("acm", "old.example.com")


@pytest.mark.parametrize("name", ["ca", "issuing", "certs/ca.crt"])
def test_an_authority_gets_no_key_store(name: str, run: Run, refused: Refused, made: Certificate) -> None:
    """The authority's key is never put where the trust store goes, which everybody gets."""
    assert "is an authority, whose key belongs into no key store" in refused("p12", name)
    assert run("p12", "mqtt1.example.com", "--trust-store").code == 0
    password = Path("certs/keystore.password").read_bytes().strip()
    assert pkcs12.load_pkcs12(Path("certs/ca.p12").read_bytes(), password).key is None


@pytest.mark.parametrize("contents", [b"", b"short\n", b"\xff\xfe\n"])
def test_a_password_file_that_holds_none(contents: bytes, run: Run, refused: Refused, made: Certificate) -> None:
    """The file whose password cannot be used is named."""
    Path("certs/keystore.password").write_bytes(contents)
    assert "certs/keystore.password holds no password" in refused("p12", "mqtt1.example.com")


def test_a_session_token_with_a_line_feed(
    run: Run, refused: Refused, made: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials do not show in errors, not even those that http.client shows."""
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "very-secret\n")
    run("acm", "mqtt1.example.com")
    line = refused("acm", "mqtt1.example.com", "--import", "--region", "eu-west-1")
    assert "there is a line feed in the credentials or in the session token" in line
    assert "very-secret" not in line
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:99999")
    assert "ACM: Port out of range" in refused("acm", "mqtt1.example.com", "--import", "--region", "eu-west-1")


def test_files_need_a_key(run: Run, refused: Refused, made: Certificate) -> None:
    """Without its key a certificate becomes no key store and no set for ACM, but a bundle."""
    Path("certs/mqtt1.example.com.key").unlink()
    assert "is not here" in refused("p12", "mqtt1.example.com")
    assert "is not here" in refused("acm", "mqtt1.example.com")
    assert "is not here" in refused("bundle", "mqtt1.example.com", "--with-key")
    assert run("bundle", "mqtt1.example.com").code == 0
    for command in (("p12",), ("acm",), ("bundle",)):
        assert "neither a file" in refused(*command, "missing.example")


def test_a_trust_store_needs_the_root(run: Run, refused: Refused, made: Certificate, tmp_path: Path) -> None:
    """Where the root is not known no trust store is made."""
    (tmp_path / "lone").mkdir()
    for end in ("crt", "key"):
        shutil.copy(f"certs/mqtt1.example.com.{end}", tmp_path / "lone")
    assert "is not known" in refused("p12", "lone/mqtt1.example.com.crt", "--trust-store", "--out", "lone")


class Acm:
    """ACM as far as imports go; it notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.known: dict[str, Any] = {}
        self.refuses: Exception | None = None

    def import_certificate(self, **request: Any) -> dict[str, Any]:
        self.calls.append(("import", request))
        if self.refuses is not None:
            raise self.refuses
        return {"CertificateArn": request.get("CertificateArn", ARN)}

    def describe_certificate(self, **request: Any) -> dict[str, Any]:
        self.calls.append(("describe", request))
        return {"Certificate": self.known}


@pytest.fixture
def acm(monkeypatch: pytest.MonkeyPatch) -> Acm:
    """ACM behind boto3's session."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    fake = Acm()

    class Session:
        def __init__(self, profile_name: str | None, region_name: str | None) -> None:
            fake.calls.append(("session", {"profile": profile_name, "region": region_name}))

        def client(self, service: str) -> Acm:
            assert service == "acm"
            return fake

    monkeypatch.setattr(boto3.session, "Session", Session)
    return fake


def test_an_import(run: Run, made: Certificate, acm: Acm) -> None:
    """The import sends the three files once and prints nothing but the ARN."""
    ran = run("acm", "mqtt1.example.com", "--import", "--region", "eu-west-1", "--profile", "press")
    assert (ran.code, ran.out, ran.err) == (0, f"{ARN}\n", "")
    folder = Path("certs/mqtt1.example.com.acm")
    assert acm.calls == [
        ("session", {"profile": "press", "region": "eu-west-1"}),
        (
            "import",
            {
                "Certificate": (folder / "leaf.pem").read_bytes(),
                "PrivateKey": (folder / "key.pem").read_bytes(),
                "CertificateChain": (folder / "chain.pem").read_bytes(),
            },
        ),
    ]
    assert json.loads(run("acm", "mqtt1.example.com", "--import", "--json").out)["arn"] == ARN


def test_a_second_import(run: Run, refused: Refused, made: Certificate, acm: Acm) -> None:
    """Under an ARN the same names and key algorithm are imported again, and others refused before the import."""
    acm.known = {"SubjectAlternativeNames": ["mqtt1.example.com"], "KeyAlgorithm": "EC_prime256v1"}
    assert run("renew", "mqtt1.example.com").code == 0
    ran = run("acm", "mqtt1.example.com", "--import", "--arn", ARN)
    assert (ran.code, ran.out) == (0, f"{ARN}\n")
    assert acm.calls[-1][1]["CertificateArn"] == ARN
    count = len([name for name, _ in acm.calls if name == "import"])
    acm.known = {"SubjectAlternativeNames": ["mqtt2.example.com"], "KeyAlgorithm": "EC_prime256v1"}
    assert "same names" in refused("acm", "mqtt1.example.com", "--import", "--arn", ARN)
    acm.known = {"DomainName": "mqtt1.example.com", "KeyAlgorithm": "RSA-2048"}
    assert "RSA_2048" in refused("acm", "mqtt1.example.com", "--import", "--arn", ARN)
    assert len([name for name, _ in acm.calls if name == "import"]) == count


def test_imports_that_fail(
    run: Run, refused: Refused, made: Certificate, acm: Acm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What AWS refuses, and a machine without boto3, end with one line."""
    errors = importlib.import_module("botocore.exceptions")

    run("acm", "mqtt1.example.com")
    acm.refuses = errors.ClientError(
        {"Error": {"Code": "LimitExceededException", "Message": "too many"}}, "ImportCertificate"
    )
    assert "too many" in refused("acm", "mqtt1.example.com", "--import")
    acm.refuses = errors.NoCredentialsError()
    assert "credentials" in refused("acm", "mqtt1.example.com", "--import")
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "switchgear-certs[acm]" in refused("acm", "mqtt1.example.com", "--import")
    assert "--import" in refused("acm", "mqtt1.example.com", "--arn", ARN)


def test_imports_fit_the_service_model(made: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent passes the checks of botocore's own model of ACM, and its answer is understood."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    from switchgear_certs.acm import acm_set, import_certificate
    from switchgear_certs.lifetimes import moment

    client = boto3.client("acm", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="y")
    stub = importlib.import_module("botocore.stub").Stubber(client)
    files = acm_set(made, now=moment(None))
    known = {"Certificate": {"SubjectAlternativeNames": ["mqtt1.example.com"], "KeyAlgorithm": "EC_prime256v1"}}
    stub.add_response("describe_certificate", known, {"CertificateArn": ARN})
    expected = {
        "CertificateArn": ARN,
        "Certificate": files.leaf,
        "PrivateKey": files.key,
        "CertificateChain": files.chain,
    }
    stub.add_response("import_certificate", {"CertificateArn": ARN}, expected)
    monkeypatch.setattr("switchgear_certs.acm._client", lambda _region, _profile: client)
    with stub:
        assert import_certificate(files, made, region=None, profile=None, arn=ARN) == ARN
    stub.assert_no_pending_responses()
