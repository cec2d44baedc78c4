"""Shared by the tests of switchgear-certs: its command line, the linters, OpenSSL, handshakes, real brokers."""

import contextlib
import datetime as dt
import importlib
import io
import os
import shutil
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from switchgear_certs import Authority, Certificate
from switchgear_certs.cli import main


@frozen
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A function that runs `switchgear-certs` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str | Path) -> Ran:
        code = main([str(each) for each in arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return command


@pytest.fixture
def refused(run: Callable[..., Ran], tmp_path: Path) -> Callable[..., str]:
    """A function that runs a command which must fail with one line and exit code 2 and change no file; the line."""

    def tree() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}

    def command(*arguments: str | Path) -> str:
        before = tree()
        ran = run(*arguments)
        assert ran.code == 2, ran
        assert ran.out == ""
        assert ran.err.startswith("switchgear-certs: ")
        assert ran.err.count("\n") == 1
        assert "Traceback" not in ran.err
        assert tree() == before
        return ran.err

    return command


@pytest.fixture(scope="session")
def authority() -> Authority:
    """A root, valid now."""
    return Authority.create()


@pytest.fixture
def now() -> dt.datetime:
    """A fixed time, for authorities that are made at it."""
    return dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


Lint = Callable[..., str]


@pytest.fixture(scope="session")
def lint(tmp_path_factory: pytest.TempPathFactory) -> Lint:
    """What pkilint finds at severity NOTICE and above: the certificate's own linter, or with an issuer the chain's.

    With *cabf* it is the linter of the CA/Browser Forum's rules for domain-validated certificates.
    """
    pytest.importorskip("pkilint", reason="pkilint is not installed")
    names = ("lint_pkix_cert", "lint_pkix_signer_signee_cert_chain", "lint_cabf_serverauth_cert")
    leaf_linter, chain_linter, cabf_linter = (importlib.import_module(f"pkilint.bin.{name}") for name in names)
    folder = tmp_path_factory.mktemp("lint")

    def find(subject: x509.Certificate, issuer: x509.Certificate | None = None, *, cabf: bool = False) -> str:
        paths = []
        for name, each in (("issuer.pem", issuer), ("subject.pem", subject)):
            if each is not None:
                (folder / name).write_bytes(each.public_bytes(Encoding.PEM))
                paths.append(str(folder / name))
        linter = leaf_linter if issuer is None else chain_linter
        options = ["lint", "-s", "NOTICE"]
        if cabf:
            linter, options = cabf_linter, [*options, "-t", "DV-FINAL-CERTIFICATE"]
        said = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")  # pkilint leaves its files open
            count = linter.main([*options, *paths])
        found = said.getvalue().strip()
        assert bool(count) == bool(found), found
        return found

    return find


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., str]:
    """What `openssl verify -x509_strict` says of a certificate: `OK`, or why not."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("the openssl program is not on this machine")

    def verify(certificate: Certificate, *options: str) -> str:
        assert certificate.root is not None
        (tmp_path / "root.pem").write_bytes(certificate.root.public_bytes(Encoding.PEM))
        (tmp_path / "leaf.pem").write_bytes(certificate.certificate_pem)
        command = [
            program,
            "verify",
            "-x509_strict",
            "-CAfile",
            "root.pem",
            "-untrusted",
            "leaf.pem",
            *options,
            "leaf.pem",
        ]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            return ran.stdout.partition(": ")[2].strip()
        return (ran.stdout + ran.stderr).strip()

    return verify


@pytest.fixture
def handshake() -> Callable[..., str]:
    """A function that does a TLS handshake in memory and returns the version that was agreed upon."""

    def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
        pipes = [(ssl.MemoryBIO(), ssl.MemoryBIO())]
        ((up, down),) = pipes
        sides = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
        waiting = list(sides)
        for _ in range(20):
            for side in list(waiting):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                    waiting.remove(side)
            if not waiting:
                return str(sides[0].version())
        raise AssertionError("the handshake does not end")

    return shake


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """A function that starts one more mosquitto, with the arguments of `Mosquitto`."""
    from switchgear.testing.processes import Mosquitto

    started: list[Mosquitto] = []
    need("mosquitto")

    def start(**options: Any) -> Mosquitto:
        broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), **options)
        broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        broker.stop()


def need(name: str) -> None:
    """Skip the test where the broker *name* is missing; fail it where SWITCHGEAR_REQUIRE_BROKERS is 1."""
    from switchgear.testing.processes import BrokerMissing, find_activemq, find_mosquitto

    try:
        {"mosquitto": find_mosquitto, "activemq": find_activemq}[name]()
    except BrokerMissing as missing:
        if os.environ.get("SWITCHGEAR_REQUIRE_BROKERS") == "1":
            pytest.fail(f"SWITCHGEAR_REQUIRE_BROKERS is 1, but: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """`need`, for the tests."""
    return need
