"""Certificates for tests, made on the spot."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from switchgear_certs import Authority


@frozen(kw_only=True)
class TlsFiles:
    """Where the certificates of one test authority lie, in PEM."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    client_cert_file: Path
    client_key_file: Path


def make_tls_files(
    folder: Path,
    *,
    names: Sequence[str] = ("localhost", "127.0.0.1"),
    expired: bool = False,
    authority: Authority | None = None,
) -> TlsFiles:
    """Write an authority, a broker certificate for *names* and a client certificate into *folder*.

    Without *authority* it is a new one: another *folder* has another, so its files are a client certificate that the first broker refuses, and a
    CA file that does not know the first broker. *expired* makes the broker's certificate end yesterday; *names* without
    the host that is dialled make it a certificate for somebody else.

    Raises:
        ModuleNotFoundError: switchgear-certs is not installed.
    """
    from switchgear_certs import Authority

    folder.mkdir(parents=True, exist_ok=True)
    made = dt.datetime.now(dt.UTC) - dt.timedelta(days=31 if expired else 0)
    authority = authority or Authority.create(now=made)
    broker = authority.server(*names, days=30, now=made)
    client = authority.client("switchgear-client", now=made if not expired else None)
    files = TlsFiles(
        ca_file=folder / "ca.pem",
        cert_file=folder / "broker.pem",
        key_file=folder / "broker.key",
        client_cert_file=folder / "client.pem",
        client_key_file=folder / "client.key",
    )
    files.ca_file.write_bytes(authority.ca_pem)
    for leaf, cert_file, key_file in (
        (broker, files.cert_file, files.key_file),
        (client, files.client_cert_file, files.client_key_file),
    ):
        cert_file.write_bytes(leaf.certificate_pem)
        key_file.touch(mode=0o600)
        key_file.write_bytes(leaf.key_pem)
    return files
