from __future__ import annotations

import errno
import logging
import pickle
import re
import ssl
import sys
import threading
import traceback
from pathlib import Path

import pytest
from attrs import evolve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from switchgear import TLS, ConfigurationError, InvalidOption, Secret, UnreadableFile, env
from switchgear_certs import Authority


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, cert.pem, key.pem, other.pem (another key), ed.pem (one of another kind), both.pem, locked.pem (key, encrypted)."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority.create()
    one, two = authority.client("client"), authority.client("client")
    (folder / "ca.pem").write_bytes(authority.ca_pem)
    (folder / "cert.pem").write_bytes(one.certificate_pem)
    (folder / "key.pem").write_bytes(one.key_pem)
    (folder / "other.pem").write_bytes(two.key_pem)
    (folder / "both.pem").write_bytes(one.key_pem + one.certificate_pem)
    key = serialization.load_pem_private_key(one.key_pem, None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"sesame"))
    another = ed25519.Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, serialization.NoEncryption())
    (folder / "ed.pem").write_bytes(another)
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
        ({"cert_file": "cert.pem", "key_file": "junk.pem"}, "key_file", "no usable PEM private key"),
        ({"cert_file": "cert.pem", "key_file": "cert.pem"}, "key_file", "no usable PEM private key"),
        ({"cert_file": "cert.pem", "key_file": "other.pem"}, "key_file", "does not match"),
        ({"cert_file": "cert.pem", "key_file": "ed.pem"}, "key_file", "does not match"),
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
    assert str(caught.value).count(role) == 1
    assert "pearl" not in str(caught.value)


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_a_missing_file_is_called_missing(tmp_path: Path, name: str) -> None:
    """A file that is not there is said to be that, and not to hold no certificate."""
    path = tmp_path / "missing.pem"
    with pytest.raises(UnreadableFile) as caught:
        TLS(**{name: path}).check()  # type: ignore[arg-type] # one of the two files
    assert str(caught.value) == f"{name} {str(path)!r}: No such file or directory"


@pytest.mark.parametrize("role", ["ca_file", "cert_file"])
def test_unreadable_by_openssl(files: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """What the system says when OpenSSL reads, as of a pipe that it reads twice, is told of the file too."""

    def refuse(*_given: object, **_more: object) -> None:
        raise OSError(29, "Illegal seek")

    for name in ("load_cert_chain", "load_verify_locations"):
        monkeypatch.setattr(f"ssl.SSLContext.{name}", refuse)
    with pytest.raises(UnreadableFile, match=f"{role}.*Illegal seek"):
        TLS(**{role: files / "both.pem"}, alpn=("pipe",)).check()  # type: ignore[arg-type] # a path


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


@pytest.mark.parametrize("memory_files", ["had", "refused", "missing"])
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
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, settings: dict[str, str], memory_files: str
) -> None:
    """CAs, certificate and key are taken as text too, mixed with files at will; no key shows or is left on the disk."""

    def refuse(_name: str) -> int:
        raise PermissionError(1, "Operation not permitted")  # as under seccomp

    if memory_files == "refused":
        monkeypatch.setattr("os.memfd_create", refuse, raising=False)
    elif memory_files == "missing":
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
    assert "BEGIN" not in repr(tls)
    assert b"BEGIN" not in pickle.dumps(tls.fingerprint())  # which is kept for as long as the context


def test_no_descriptor_is_left(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process has too many files open that is said, and not that there is no folder for temporary ones."""

    def refuse(_name: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("os.memfd_create", refuse, raising=False)
    monkeypatch.setattr("pathlib.Path.is_dir", lambda _path: True)
    text = (files / "both.pem").read_text()
    with pytest.raises(OSError, match="Too many open files"):
        TLS(cert_pem=text, alpn=("full",)).check()


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

    for settings, name in (
        (TLS(cert_file=files / "cert.pem", key_pem=Secret(ask)), "key_pem"),
        (TLS(cert_file=files / "cert.pem", key_file=files / "locked.pem", key_password=ask), "key_password"),
    ):
        with pytest.raises(InvalidOption, match=rf"tls\.{name}.*RuntimeError") as caught:
            settings.check()
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_key_is_asked_for_once(files: Path) -> None:
    """One use asks for the key one time, so that what is used is what the context is kept under."""
    asked: list[None] = []

    def ask() -> bytes:
        asked.append(None)
        return (files / "key.pem").read_bytes()

    TLS(cert_file=files / "cert.pem", key_pem=ask, alpn=("once",)).check()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ca_pem": "junk"}, r"tls\.ca_pem.*no PEM certificate"),
        ({"cert_pem": "junk"}, r"tls\.cert_pem.*no PEM certificate"),
        ({"cert_pem": "cert.pem"}, r"tls\.cert_pem.*no usable PEM certificate and key"),
        ({"cert_pem": "cert.pem", "key_pem": "junk"}, r"tls\.key_pem.*no usable PEM private key.*\)$"),
        ({"cert_pem": "cert.pem", "key_pem": "cert.pem"}, r"tls\.key_pem.*no usable PEM private key"),
        ({"cert_pem": "cert.pem", "key_pem": "ed.pem"}, r"tls\.key_pem.*does not match cert_pem"),
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


@pytest.mark.parametrize("mangle", [("\n", r"\\n"), ("\n", " "), ("\n", "\r"), ("(?m)^", "    ")])
@pytest.mark.parametrize("name", ["ca_pem", "cert_pem", "key_pem"])
def test_lines_that_got_lost(files: Path, name: str, mangle: tuple[str, str]) -> None:
    """PEM whose lines an environment file or YAML has joined, escaped or indented is refused with what is wrong with it."""
    given = {key: (files / f"{key.removesuffix('_pem')}.pem").read_text() for key in ("ca_pem", "cert_pem", "key_pem")}
    given[name] = re.sub(*mangle, given[name])
    with pytest.raises(InvalidOption, match=rf"tls\.{name}.*its lines are joined, escaped or indented"):
        TLS(**given).check()  # type: ignore[arg-type] # as above


@pytest.mark.parametrize(
    "mangle", [("\n", "\r\n"), ("-----BEGIN", "\ufeff-----BEGIN"), ("-----BEGIN", "# of pr\udce4ss 7\n-----BEGIN")]
)
def test_texts_of_other_systems(files: Path, mangle: tuple[str, str]) -> None:
    """Windows' line ends, a byte order mark and comments do no harm, not even such as are no Unicode."""
    ca, certificate = ((files / f"{name}.pem").read_text().replace(*mangle) for name in ("ca", "cert"))
    TLS(ca_pem=ca, cert_pem=certificate, key_pem=(files / "key.pem").read_text().replace("\n", "\r\n")).check()


@pytest.mark.parametrize("name", ["ca_pem", "cert_pem", "key_pem", "key_password"])
@pytest.mark.parametrize("value", [5, ["s3cret"], Path("s3cret")])
def test_wrong_kinds(name: str, value: object) -> None:
    """What is no text is refused by the option's name, and is not shown: it may be a secret."""
    with pytest.raises(InvalidOption, match=rf"tls\.{name}.*{type(value).__name__}") as caught:
        TLS(**{name: value})  # type: ignore[arg-type] # that is the test
    assert "s3cret" not in str(caught.value)


def test_bytes_of_other_kinds(files: Path) -> None:
    """What holds bytes is taken as bytes, and can be a part of settings that are told apart."""
    data = (files / "ca.pem").read_bytes()
    assert TLS(ca_pem=bytearray(data)) == TLS(ca_pem=memoryview(data)) == TLS(ca_pem=data)  # type: ignore[arg-type] # the test
    TLS(ca_pem=bytearray(data)).check()  # type: ignore[arg-type] # the test


def test_a_wrong_password_is_never_right(files: Path) -> None:
    """Who does not know the password of a key gets no context that another has made with it."""
    own = TLS(cert_file=files / "cert.pem", key_file=files / "locked.pem")
    evolve(own, key_password="sesame").check()
    evolve(own, key_password=lambda: "sesame").check()
    for password in ("pearl", None, "x" * 1024):
        with pytest.raises(UnreadableFile, match="key_password is missing or wrong"):
            evolve(own, key_password=password).check()
    with pytest.raises(InvalidOption, match=r"tls\.key_password.*longer than 1024 bytes"):
        evolve(own, key_password="x" * 1025).check()


def test_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads with more settings than contexts are kept for do not get into each other's way."""
    monkeypatch.setattr(TLS, "_make", lambda _self, _key: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    monkeypatch.setattr("switchgear.tls._CONTEXTS", {})
    failures = []

    def use(number: int) -> None:
        try:
            for turn in range(500):
                TLS(alpn=(f"{number}-{turn}",)).context()
        except Exception as error:  # shown below
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []


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
