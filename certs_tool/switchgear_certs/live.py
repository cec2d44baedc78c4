"""What a live endpoint shows in a TLS handshake. Opens one TCP connection for each question."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Final

from attrs import frozen

from switchgear_certs import chain
from switchgear_certs.errors import FileTrouble, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

_PLACE: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:/\s]+)):(?P<port>[0-9]{1,5})")


@frozen
class Place:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place(text: str) -> Place | None:
    """The host and the port that *text* names; None where it has another form."""
    found = _PLACE.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        return None
    return Place(found["v6"] or found["host"], int(found["port"]))


def shown_by(where: Place, *, name: str | None = None, timeout: float = 10.0) -> list[x509.Certificate]:
    """The certificates that *where* shows when it is asked for *name* (SNI), the leaf first; nothing is verified.

    *timeout* is in seconds and holds for each step. Before Python 3.13 only some versions tell more than the leaf.

    Raises:
        Unreachable: it does not answer, or not with TLS.
        FileTrouble: what it shows is damaged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _dial(where, context, name, timeout) as connection:
            return chain.load_der(_chain(connection), where=str(where))
    except OSError as error:
        raise Unreachable(f"{where}: {_reason(error)}") from error


def refusal(where: Place, *, name: str, ca_file: Path | None, timeout: float = 10.0) -> str | None:
    """Why OpenSSL does not trust *where* under *name*; None when it does. *ca_file* None: the system's roots.

    Raises:
        Unreachable: it does not answer, or not with TLS.
        FileTrouble: *ca_file* holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ValueError) as error:
        why = f": {error.strerror}" if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else ""
        raise FileTrouble(f"{ca_file} holds no certificates{why}") from error
    try:
        with _dial(where, context, name, timeout):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message or _reason(error)
    except OSError as error:
        raise Unreachable(f"{where}: {_reason(error)}") from error


def _dial(where: Place, context: ssl.SSLContext, name: str | None, timeout: float) -> ssl.SSLSocket:
    try:
        plain = socket.create_connection((where.host, where.port), timeout=timeout)
    except UnicodeError as error:
        raise OSError(f"{where.host} is no host name") from error
    try:
        return context.wrap_socket(plain, server_hostname=name or where.host)
    except BaseException as error:
        plain.close()
        if isinstance(error, ValueError) and not isinstance(
            error, ssl.SSLError
        ):  # a refused certificate is a ValueError too
            raise OSError(f"{name or where.host} is no host name") from error
        raise


def _chain(connection: ssl.SSLSocket) -> list[bytes]:
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        raise OSError("it showed no certificate")
    told = getattr(connection, "get_unverified_chain", None)  # public since Python 3.13
    der = [each for each in told() if isinstance(each, bytes)] if told is not None else _chain_of_old(connection)
    return der or [leaf]


def _chain_of_old(connection: ssl.SSLSocket) -> list[bytes]:
    """The same from Python 3.11 and 3.12, which have it in a private place; empty where they have not."""
    told = getattr(getattr(connection, "_sslobj", None), "get_unverified_chain", None)
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in told() or ()] if told is not None else []


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"no TLS handshake: {error.reason or error}"
    return str(getattr(error, "strerror", None) or error)
