"""TLS settings and the contexts made from them. Reads certificate files; opens no connection.

One `SSLContext` costs about 850 KB (measured), so contexts are cached by what they are made from.
"""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from switchgear.errors import UnreadableFile
from switchgear.secrets import Secret, as_secret

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("switchgear.tls")


def _path(value: str | os.PathLike[str] | None) -> str | None:
    return None if value is None else os.fspath(value)


def _names(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)  # typed, where `tuple` itself is generic to mypy


@frozen(kw_only=True)
class TLS:
    """How to trust the broker and how to show who we are. The host name is always checked.

    Attributes:
        ca_file: PEM file with the CAs to trust; None: the system's.
        cert_file: PEM file with our certificate (and its chain), for mutual TLS.
        key_file: PEM file with its key; None: the key is in ``cert_file``.
        key_password: For an encrypted key.
        alpn: Protocol names to offer, such as ``("x-amzn-mqtt-ca",)``.
        verify: False trusts anybody; it logs a warning at each connect. There is no other such switch.
    """

    ca_file: str | None = field(default=None, converter=_path)
    cert_file: str | None = field(default=None, converter=_path)
    key_file: str | None = field(default=None, converter=_path)
    key_password: Secret | None = field(default=None, converter=as_secret, repr=False)
    alpn: tuple[str, ...] = field(default=(), converter=_names)
    verify: bool = True

    def check(self) -> None:
        """Raise `UnreadableFile` when a file is missing, unreadable or not what it should be; may block on the disk."""
        self.context()

    def stamps(self) -> tuple[object, ...]:
        """What tells one version of the files from the next; looks at the disk."""
        return tuple(_stamp(path) for path in (self.ca_file, self.cert_file, self.key_file))

    def context(self) -> ssl.SSLContext:
        """The context for these settings, made anew when a file has changed.

        Raises:
            UnreadableFile: a file is missing, unreadable, or no PEM of the right kind; the key does not match.
        """
        key = (evolve(self, key_password=None), *self.stamps())
        context = _CONTEXTS.get(key)
        if context is None:
            context = self._make()
            if len(_CONTEXTS) >= 64:
                _CONTEXTS.pop(next(iter(_CONTEXTS)))
            _CONTEXTS[key] = context
        if not self.verify:
            log.warning("switchgear.tls_not_verified", extra={"advice": "verify=False trusts any broker"})
        return context

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca_file is not None:
            self._load_ca(context, self.ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if self.cert_file is not None:
            self._load_certificate(context, self.cert_file)
        elif self.key_file is not None:
            raise UnreadableFile(self.key_file, "key_file", "it needs a cert_file beside it")
        return context

    def _load_ca(self, context: ssl.SSLContext, path: str) -> None:
        _readable(path, "ca_file")
        try:
            context.load_verify_locations(cafile=path)
        except (ssl.SSLError, ValueError) as error:
            raise UnreadableFile(path, "ca_file", f"it holds no PEM certificate ({error})") from error

    def _load_certificate(self, context: ssl.SSLContext, path: str) -> None:
        _readable(path, "cert_file")
        if self.key_file is not None:
            _readable(self.key_file, "key_file")
        asked = False

        def password() -> bytes:  # asked only when the key is encrypted; without it OpenSSL prompts on the terminal
            nonlocal asked
            asked = True
            return self.key_password.reveal() if self.key_password is not None else b""

        try:
            context.load_cert_chain(path, self.key_file, password=password)
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            if "KEY_VALUES_MISMATCH" in reason:
                raise UnreadableFile(self.key_file or path, "key_file", f"does not match {path!r}") from error
            if asked:
                why = "it is encrypted, and key_password is missing or wrong"
                raise UnreadableFile(self.key_file or path, "key_file", why) from error
            raise UnreadableFile(path, "cert_file", f"no usable PEM certificate and key ({reason})") from error


_CONTEXTS: Final[dict[tuple[object, ...], ssl.SSLContext]] = {}


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
