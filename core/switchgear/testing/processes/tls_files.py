"""Certificates for tests, made on the spot."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen


@frozen(kw_only=True)
class TlsFiles:
    """Where the certificates of one test authority lie, in PEM."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    client_cert_file: Path
    client_key_file: Path


def make_tls_files(
    folder: Path, *, names: Sequence[str] = ("localhost", "127.0.0.1"), expired: bool = False
) -> TlsFiles:
    """Write a new authority, a broker certificate for *names* and a client certificate into *folder*.

    Another *folder* has another authority, so its files are a client certificate that the first broker refuses, and a
    CA file that does not know the first broker. *expired* makes the broker's certificate end yesterday; *names* without
    the host that is dialled make it a certificate for somebody else.

    Raises:
        ModuleNotFoundError: trustme, a test dependency, is not installed.
    """
    import trustme

    folder.mkdir(parents=True, exist_ok=True)
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    authority = trustme.CA()
    broker = authority.issue_cert(
        *names,
        not_before=yesterday - dt.timedelta(days=30) if expired else None,
        not_after=yesterday if expired else None,
    )
    client = authority.issue_cert(common_name="switchgear-client")
    files = TlsFiles(
        ca_file=folder / "ca.pem",
        cert_file=folder / "broker.pem",
        key_file=folder / "broker.key",
        client_cert_file=folder / "client.pem",
        client_key_file=folder / "client.key",
    )
    authority.cert_pem.write_to_path(str(files.ca_file))
    for leaf, cert_file, key_file in (
        (broker, files.cert_file, files.key_file),
        (client, files.client_cert_file, files.client_key_file),
    ):
        cert_file.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key_file))
    return files
