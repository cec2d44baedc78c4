from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from switchgear import TLS, UnreadableFile
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
