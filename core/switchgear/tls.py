"""TLS settings and the contexts made from them. Reads certificate files; opens no connection.

Python reads certificates and keys from files alone, so those that were given as text pass through a file in memory.

One `SSLContext` costs about 850 KB (measured), so contexts are cached by what they are made from.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import evolve, field, frozen

from switchgear.errors import ConfigurationError, InvalidOption, UnreadableFile
from switchgear.secrets import Secret, check_secret, taken_as_secret
from switchgear.workers import LOOKUPS, SECRETS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from switchgear.workers import Workers

T = TypeVar("T")

log = logging.getLogger("switchgear.tls")

CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)
"""Certificates in PEM (RFC 7468, 5.1)."""

_LINE: Final = re.compile(rb"^(?:\xef\xbb\xbf)?-----BEGIN [A-Z0-9 ]+-----[ \t]*\r?$", re.MULTILINE)
"""The line that PEM begins with (RFC 7468, 3)."""

_KEPT: Final = 64
"""Contexts kept: some 55 MB at most. Where there are more certificates, contexts are made anew."""

_LONGEST_PASSWORD: Final = 1024
"""Bytes that Python hands to OpenSSL; past that it raises a ``ValueError``."""

_PAIRS: Final = (("ca_file", "ca_pem"), ("cert_file", "cert_pem"), ("key_file", "key_pem"))


def _path(value: str | os.PathLike[str] | None) -> str | None:
    return None if value is None else os.fspath(value)


def _pem(value: str | bytes | None) -> bytes | None:
    if isinstance(value, str):
        return value.encode(errors="replace")  # only a comment can hold what no UTF-8 can
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def _names(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)  # typed, where `tuple` itself is generic to mypy


@frozen(kw_only=True)
class TLS:
    """How to trust the broker and how to show who we are. The host name is always checked.

    Certificates and keys come from files, which are read anew when they change, or as text.

    Attributes:
        ca_file: PEM file with the CAs to trust; None: the system's.
        cert_file: PEM file with our certificate (and its chain), for mutual TLS.
        key_file: PEM file with its key; None: the key is in ``cert_file``.
        key_password: For an encrypted key.
        ca_pem: The CAs to trust, as PEM, in place of ``ca_file``.
        cert_pem: Our certificate (and its chain), as PEM, in place of ``cert_file``.
        key_pem: Its key, as PEM, in place of ``key_file``; None: the key is with the certificate.
        alpn: Protocol names to offer, such as ``("x-amzn-mqtt-ca",)``.
        verify: False trusts anybody; it logs a warning at each connect. There is no other such switch.
    """

    ca_file: str | None = field(default=None, converter=_path)
    cert_file: str | None = field(default=None, converter=_path)
    key_file: str | None = field(default=None, converter=_path)
    key_password: Secret | None = field(default=None, converter=taken_as_secret, repr=False)
    ca_pem: bytes | None = field(default=None, converter=_pem, repr=False)
    cert_pem: bytes | None = field(default=None, converter=_pem, repr=False)
    key_pem: Secret | None = field(default=None, converter=taken_as_secret, repr=False)
    alpn: tuple[str, ...] = field(default=(), converter=_names)
    verify: bool = True

    def __attrs_post_init__(self) -> None:
        for file, text in _PAIRS:
            if getattr(self, file) is not None and getattr(self, text) is not None:
                raise InvalidOption(f"tls.{text}", f"{file} is set too, and one takes the place of the other")
        for name in ("key_password", "key_pem"):
            check_secret(f"tls.{name}", getattr(self, name))
        for name in ("ca_pem", "cert_pem"):
            text = getattr(self, name)
            if text is not None and not isinstance(text, bytes):
                why = f"a value of type {type(text).__name__} is no PEM; give the text of a PEM file, as str or bytes"
                raise InvalidOption(f"tls.{name}", why)
            if text is not None and not CERTIFICATES.search(text):
                raise InvalidOption(f"tls.{name}", "it holds no PEM certificate; give the text of a PEM file")

    @property
    def has_ca(self) -> bool:
        """Whether it says whom to trust; else that are the system's CAs."""
        return self.ca_file is not None or self.ca_pem is not None

    @property
    def has_certificate(self) -> bool:
        """Whether we show a certificate."""
        return self.cert_file is not None or self.cert_pem is not None

    @property
    def workers(self) -> Workers:
        """The threads on which to read these settings: others where that asks a function of the user's."""
        asked = (each for each in (self.key_pem, self.key_password) if each is not None)
        return SECRETS if any(each.is_dynamic for each in asked) else LOOKUPS

    def read_ca(self) -> bytes | None:
        """The CAs to trust, as PEM; None: the system's. Raises `UnreadableFile`."""
        return self.ca_pem if self.ca_file is None else _read(self.ca_file, "ca_file")

    def read_certificate(self) -> bytes | None:
        """Our certificate and its chain, as PEM; None: we show none. Raises `UnreadableFile`."""
        return self.cert_pem if self.cert_file is None else _read(self.cert_file, "cert_file")

    def read_key(self) -> bytes | None:
        """Its key, as PEM, encrypted or not; None: it is with the certificate. Raises a `ConfigurationError`."""
        if self.key_file is not None:
            return _read(self.key_file, "key_file")
        return None if self.key_pem is None else _ask(self.key_pem, "key_pem")

    def check(self) -> None:
        """Raise what `context` raises; may block on the disk."""
        self.context()

    def fingerprint(self) -> Hashable:
        """What tells these settings, with what the files and the key now are, from others; looks at the disk. Holds no secret."""
        try:
            key = self.read_key() if self.key_file is None else None
        except ConfigurationError:  # said where it is used
            key = None
        return self._fingerprint(key)

    def _fingerprint(self, key: bytes | None) -> Hashable:
        stamps = tuple(_stamp(path) for path in (self.ca_file, self.cert_file, self.key_file))
        texts = tuple(None if text is None else _digest(text) for text in (self.ca_pem, self.cert_pem, key))
        password = self.key_password
        # One that comes from elsewhere is not asked for here: it is needed to make the context, and not to use it.
        known = None if password is None else "asked" if password.is_dynamic else _digest(password.reveal())
        return evolve(self, key_password=None, ca_pem=None, cert_pem=None, key_pem=None), stamps, texts, known

    def context(self, *, warns: bool = True) -> ssl.SSLContext:
        """The context for these settings, made anew when a file has changed.

        *warns* says whether the log is told where nobody is verified.

        Raises:
            UnreadableFile: a file is missing, unreadable, or no PEM of the right kind; the key does not match.
            InvalidOption: the same of what was given as text.
            ConfigurationError: a key that is read from elsewhere is not there.
        """
        key = None if self.key_pem is None else self.read_key()
        fingerprint = self._fingerprint(key)
        context = _CONTEXTS.get(fingerprint)
        if context is None:
            context = self._make(key)
            keep(_CONTEXTS, fingerprint, context)
        if warns:
            self.warn()
        return context

    def warn(self) -> None:
        """Tell the log where nobody is verified; called at each connect."""
        if not self.verify:
            log.warning("switchgear.tls_not_verified", extra={"advice": "verify=False trusts any broker"})

    def _make(self, key: bytes | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.has_ca:
            self._load_ca(context)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if self.has_certificate:
            self._load_certificate(context, key)
        elif self.key_file is not None or self.key_pem is not None:
            raise self._error("key", "it needs a cert_file or cert_pem beside it")
        return context

    def _error(self, kind: str, why: str) -> ConfigurationError:
        """That *why* is wrong with the "ca", "cert" or "key", by the name under which it was given."""
        path = getattr(self, f"{kind}_file")
        if path is not None:
            return UnreadableFile(path, f"{kind}_file", why)
        if kind == "key" and self.key_pem is None:  # it is with the certificate
            return UnreadableFile(self.cert_file, "key_file", why) if self.cert_file else self._error("cert", why)
        return InvalidOption(f"tls.{kind}_pem", why)

    def _load_ca(self, context: ssl.SSLContext) -> None:
        if self.ca_file is not None:
            _readable(self.ca_file, "ca_file")
        try:
            if self.ca_file is not None:
                context.load_verify_locations(cafile=self.ca_file)
            else:
                context.load_verify_locations(cadata=b"".join(CERTIFICATES.findall(self.ca_pem or b"")).decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise self._error("ca", f"it holds no PEM certificate ({error}){_advice(self.ca_pem)}") from error
        except OSError as error:
            raise self._error("ca", error.strerror or str(error)) from error

    def _load_certificate(self, context: ssl.SSLContext, key_pem: bytes | None) -> None:
        for path, role in ((self.cert_file, "cert_file"), (self.key_file, "key_file")):
            if path is not None:
                _readable(path, role)
        asked = False

        def password() -> bytes:  # asked only when the key is encrypted; without it OpenSSL prompts on the terminal
            nonlocal asked
            asked = True
            given = b"" if self.key_password is None else _ask(self.key_password, "key_password")
            if len(given) > _LONGEST_PASSWORD:
                raise InvalidOption(
                    "tls.key_password", f"it is longer than {_LONGEST_PASSWORD} bytes; give a shorter one"
                )
            return given

        with contextlib.ExitStack() as passing:
            certificate = self.cert_file or passing.enter_context(_as_file(self.cert_pem or b""))
            key = self.key_file if key_pem is None else passing.enter_context(_as_file(key_pem))
            try:
                context.load_cert_chain(certificate, key, password=password)
            except ssl.SSLError as error:
                reason = error.reason or str(error)
                if (
                    "KEY_VALUES_MISMATCH" in reason or "NO_CERTIFICATE_ASSIGNED" in reason
                ):  # of the same kind, or of another
                    shown = "cert_pem" if self.cert_file is None else repr(self.cert_file)
                    raise self._error("key", f"does not match {shown}") from error
                if asked:
                    raise self._error("key", "it is encrypted, and key_password is missing or wrong") from error
                if key is not None and error.reason is None and _has_certificate(certificate):
                    raise self._error("key", f"no usable PEM private key ({reason}){_advice(key_pem)}") from error
                advice = _advice(self.cert_pem)
                raise self._error("cert", f"no usable PEM certificate and key ({reason}){advice}") from error
            except OSError as error:  # such as a pipe with both, which cannot be read twice
                raise self._error("cert", error.strerror or str(error)) from error


_CONTEXTS: Final[dict[Hashable, ssl.SSLContext]] = {}


def keep(contexts: dict[Hashable, T], key: Hashable, context: T) -> None:
    """Keep *context* among others, the oldest of which make room; from any thread."""
    for oldest in list(contexts)[: 1 - _KEPT]:
        contexts.pop(oldest, None)  # another thread may have done so
    contexts[key] = context


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _stamp(path: str | None) -> tuple[int, int] | None:
    """What tells one version of a file from the next."""
    if path is None:
        return None
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _readable(path: str, role: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise UnreadableFile(path, role, error.strerror or str(error)) from error


def _read(path: str, role: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableFile(path, role, error.strerror or str(error)) from error


def _has_certificate(path: str) -> bool:
    """Whether OpenSSL can read a certificate in the file *path*."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError:  # an SSLError is one
        return False
    return True


def _advice(text: bytes | None) -> str:
    """What to do where *text* looks like PEM and is none: environments and YAML often join, escape or indent its lines."""
    if text is None or b"-----BEGIN" not in text or _LINE.search(text):
        return ""
    return "; its lines are joined, escaped or indented: keep them as they are in the file"


def _ask(secret: Secret, name: str) -> bytes:
    """The *secret* of the option *name*; what asking for it raises is not quoted, not even as a cause."""
    try:
        return secret.reveal()
    except ConfigurationError:
        raise
    except Exception as error:  # whatever a callable of the user's raises; its text may hold the secret
        raise InvalidOption(f"tls.{name}", f"asking for it raised {type(error).__name__}") from None


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path under which *data* can be read while the block runs: in memory where the system can, else in a file of ours."""
    memory = _memory_file()
    if memory is not None:
        with os.fdopen(memory, "wb", buffering=0) as file:
            file.write(data)
            yield f"/proc/self/fd/{memory}"
        return
    descriptor, name = tempfile.mkstemp(prefix="switchgear-")  # readable by this user only
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield name
    finally:
        Path(name).unlink()


def _memory_file() -> int | None:
    """A file in memory that has a path; None where the system has none, or does not let us."""
    if not hasattr(os, "memfd_create") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.memfd_create("switchgear")
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:  # which another file would not find otherwise
            raise
        return None  # a sandbox
