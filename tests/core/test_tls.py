from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from switchgear import TLS, ConfigurationError, InvalidOption, Secret, UnreadableFile, env
from switchgear_certs import Authority

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, cert.pem, key.pem, other.pem (another key), both.pem, locked.pem (key, encrypted)."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority.create()
    one, two = authority.client("client"), authority.client("client")
    (folder / "ca.pem").write_bytes(authority.ca_pem)
    (folder / "cert.pem").write_bytes(one.certificate_pem)
    (folder / "key.pem").write_bytes(one.key_pem)
    (folder / "other.pem").write_bytes(two.key_pem)
    (folder / "both.pem").write_bytes(one.key_pem + one.certificate_pem)
    key = serialization.load_pem_private_key(one.key_pem, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    )
    (folder / "locked.pem").write_bytes(locked)
    (folder / "junk.pem").write_bytes(b"\x00junk")
    (folder / "empty.pem").write_bytes(b"")
    return folder


def test_defaults() -> None:
    """Without settings the system's CAs are trusted, the host name is checked, and TLS is 1.2 at least."""
    context = TLS().context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_ca(files: Path) -> None:
    """With a ca_file only its CAs are trusted."""
    context = TLS(ca_file=files / "ca.pem").context()
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname


@pytest.mark.parametrize(
    ("settings", "role", "why"),
    [
        ({"ca_file": "missing.pem"}, "ca_file", "No such file"),
        ({"ca_file": "."}, "ca_file", "directory"),
        ({"ca_file": "junk.pem"}, "ca_file", "no PEM certificate"),
        ({"ca_file": "empty.pem"}, "ca_file", "no PEM certificate"),
        ({"cert_file": "missing.pem"}, "cert_file", "No such file"),
        ({"cert_file": "cert.pem", "key_file": "missing.pem"}, "key_file", "No such file"),
        ({"cert_file": "cert.pem"}, "cert_file", "PEM"),
        ({"cert_file": "junk.pem", "key_file": "key.pem"}, "cert_file", "PEM"),
        ({"cert_file": "cert.pem", "key_file": "other.pem"}, "key_file", "does not match"),
        ({"key_file": "key.pem"}, "key_file", "needs a cert_file"),
        ({"cert_file": "cert.pem", "key_file": "locked.pem"}, "key_file", "key_password"),
        ({"cert_file": "cert.pem", "key_file": "locked.pem", "key_password": "pearl"}, "key_file", "key_password"),
    ],
)
def test_unreadable(files: Path, settings: dict[str, str], role: str, why: str) -> None:
    """A file that is missing or not what it should be is named, with its role and what is wrong."""
    paths = {name: str(files / value) if name.endswith("_file") else value for name, value in settings.items()}
    with pytest.raises(UnreadableFile) as caught:
        TLS(**paths).check()  # type: ignore[arg-type] # texts, all of them
    assert caught.value.role == role
    assert why in str(caught.value)
    assert "pearl" not in str(caught.value)


def test_unreadable_by_permission(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file that may not be read is named with the system's reason."""
    path = type(files)

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(path, "open", refuse)
    with pytest.raises(UnreadableFile, match="Permission denied"):
        TLS(ca_file=files / "ca.pem", alpn=("fresh",)).check()


@pytest.mark.parametrize(
    "settings",
    [
        {"cert_file": "both.pem"},
        {"cert_file": "cert.pem", "key_file": "key.pem"},
        {"cert_file": "cert.pem", "key_file": "locked.pem", "key_password": "sesame"},
    ],
)
def test_client_certificate(files: Path, settings: dict[str, str]) -> None:
    """A certificate with its key, in one file or two, encrypted or not, is taken."""
    paths = {name: str(files / value) if name.endswith("_file") else value for name, value in settings.items()}
    TLS(**paths).check()  # type: ignore[arg-type] # texts, all of them
    assert "sesame" not in repr(TLS(**paths))  # type: ignore[arg-type] # the same


@pytest.mark.parametrize("has_memory_files", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"cert_pem": "both.pem"},
        {"cert_pem": "cert.pem", "key_pem": "key.pem"},
        {"cert_pem": "cert.pem", "key_file": "key.pem"},
        {"cert_file": "cert.pem", "key_pem": "key.pem"},
        {"cert_pem": "cert.pem", "key_pem": "locked.pem", "key_password": "sesame"},
    ],
)
def test_from_text(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, settings: dict[str, str], has_memory_files: bool
) -> None:
    """CAs, certificate and key are taken as text too, mixed with files at will; no key shows or is left on the disk."""
    if not has_memory_files:
        monkeypatch.delattr("os.memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    given: dict[str, object] = {"ca_pem": (files / "ca.pem").read_bytes(), "alpn": (str(tmp_path),)}  # nobody else's
    for name, value in settings.items():
        path = files / value
        given[name] = path if name.endswith("_file") else path.read_text() if path.exists() else value
    tls = TLS(**given)  # type: ignore[arg-type] # as above
    context = tls.context()
    assert len(context.get_ca_certs()) == 1
    assert TLS(**given).context() is context  # type: ignore[arg-type] # as above
    assert list(tmp_path.iterdir()) == []
    assert "BEGIN" not in repr((tls, tls.fingerprint()))


def test_a_key_from_elsewhere(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment is read at each use: missing it is named, and another one makes another context."""
    tls = TLS(cert_pem=(files / "cert.pem").read_bytes(), key_pem=env("PRESS_KEY"), alpn=("elsewhere",))
    with pytest.raises(ConfigurationError, match="PRESS_KEY is not set"):
        tls.check()
    monkeypatch.setenv("PRESS_KEY", (files / "other.pem").read_text())
    with pytest.raises(InvalidOption, match=r"tls\.key_pem.*does not match cert_pem"):
        tls.check()
    monkeypatch.setenv("PRESS_KEY", (files / "key.pem").read_text())
    tls.check()
    monkeypatch.setenv("PRESS_KEY", (files / "other.pem").read_text())
    with pytest.raises(InvalidOption, match="does not match"):
        tls.check()


def test_asking_for_a_key_fails(files: Path) -> None:
    """What a user's callable raises is told by its kind alone, for its text may hold the key."""

    def ask() -> str:
        raise RuntimeError("s3cret")

    with pytest.raises(InvalidOption, match="RuntimeError") as caught:
        TLS(cert_file=files / "cert.pem", key_pem=Secret(ask)).check()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ca_pem": "junk"}, r"tls\.ca_pem.*no PEM certificate"),
        ({"cert_pem": "junk"}, r"tls\.cert_pem.*no PEM certificate"),
        ({"cert_pem": "cert.pem"}, r"tls\.cert_pem.*no usable PEM certificate and key"),
        ({"cert_pem": "cert.pem", "key_pem": "junk"}, r"tls\.cert_pem.*no usable PEM certificate and key"),
        ({"cert_pem": "cert.pem", "key_pem": "other.pem"}, r"tls\.key_pem.*does not match cert_pem"),
        ({"cert_pem": "cert.pem", "key_pem": "locked.pem"}, r"tls\.key_pem.*key_password"),
        ({"key_pem": "key.pem"}, r"tls\.key_pem.*needs a cert_file or cert_pem"),
        ({"ca_pem": "ca.pem", "ca_file": "ca.pem"}, r"tls\.ca_pem.*ca_file is set too"),
        ({"cert_pem": "cert.pem", "cert_file": "cert.pem"}, r"tls\.cert_pem.*cert_file is set too"),
        ({"key_pem": "key.pem", "key_file": "key.pem"}, r"tls\.key_pem.*key_file is set too"),
    ],
)
def test_wrong_text(files: Path, settings: dict[str, str], said: str) -> None:
    """Text that is not what it should be, or beside the file that it replaces, is refused by the option's name."""
    given: dict[str, object] = {}
    for name, value in settings.items():
        path = files / value
        given[name] = path if name.endswith("_file") else path.read_text() if path.exists() else value
    with pytest.raises(InvalidOption, match=said):
        TLS(**given).check()  # type: ignore[arg-type] # as above


def test_cache(files: Path, tmp_path: Path) -> None:
    """Equal settings share a context until a file changes; other settings have another."""
    path = tmp_path / "ca.pem"
    path.write_bytes((files / "ca.pem").read_bytes())
    first = TLS(ca_file=path).context()
    assert TLS(ca_file=path).context() is first
    assert TLS(ca_file=path, alpn=("mqtt",)).context() is not first
    path.write_bytes((files / "ca.pem").read_bytes() + b"\n")
    assert TLS(ca_file=path).context() is not first


def test_verify_false(caplog: pytest.LogCaptureFixture) -> None:
    """Without verification anybody is trusted, and each use says so in the log."""
    with caplog.at_level(logging.WARNING, "switchgear.tls"):
        for _ in range(2):
            context = TLS(verify=False).context()
    assert context.verify_mode is ssl.CERT_NONE
    assert [record.message for record in caplog.records] == ["switchgear.tls_not_verified"] * 2
