"""Print the table of switchgear-certs beside trustme: linters, OpenSSL, handshakes. `python tests/certs_tool/linter_table.py`."""

import contextlib
import importlib
import importlib.metadata
import io
import ssl
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from switchgear_certs import Authority, KeyType

HEAD = ("leaf", "pkilint: certificate", "pkilint: chain", "openssl -x509_strict", "TLS 1.2", "TLS 1.3", "another name")
LEAF_LINTER = importlib.import_module("pkilint.bin.lint_pkix_cert").main
CHAIN_LINTER = importlib.import_module("pkilint.bin.lint_pkix_signer_signee_cert_chain").main
NAME, OTHER = "mqtt1.example.com", "mqtt2.example.com"

Configure = Callable[[ssl.SSLContext], None]
Row = tuple[str, list[x509.Certificate], x509.Certificate, Configure, Configure]


def leaves() -> Iterator[Row]:
    """What to compare: a title, the leaf and its issuers without root, the root, and how to set up both sides."""
    for key_type in KeyType:
        for intermediate in (False, True):
            for leaf_type in KeyType if not intermediate else [key_type]:
                authority = Authority.create(key_type=key_type, intermediate=intermediate)
                made = authority.server(NAME, key_type=leaf_type)
                title = f"ours: {leaf_type.value} under {key_type.value}{' and an issuing CA' if intermediate else ''}"
                shown = x509.load_pem_x509_certificates(made.certificate_pem)
                yield title, shown, authority.root, made.configure, authority.configure
    constrained = Authority.create(intermediate=True, permitted=["example.com"])
    made = constrained.server(NAME)
    shown = x509.load_pem_x509_certificates(made.certificate_pem)
    yield "ours: under name constraints", shown, constrained.root, made.configure, constrained.configure
    renewed = constrained.renew(made)
    shown = x509.load_pem_x509_certificates(renewed.certificate_pem)
    yield "ours: renewed", shown, constrained.root, renewed.configure, constrained.configure
    theirs = trustme.CA()
    leaf = theirs.issue_cert(NAME)
    shown = [x509.load_pem_x509_certificate(blob.bytes()) for blob in leaf.cert_chain_pems]
    root = x509.load_pem_x509_certificate(theirs.cert_pem.bytes())
    yield f"trustme {importlib.metadata.version('trustme')}", shown, root, leaf.configure_cert, theirs.configure_trust


def lint(linter: Callable[[list[str]], int], *paths: Path) -> str:
    """How many findings of which severity *linter* has, at NOTICE and above."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        linter(["lint", "-s", "NOTICE", *(str(path) for path in paths)])
    counts = {word: said.getvalue().count(f"({word})") for word in ("FATAL", "ERROR", "WARNING", "NOTICE")}
    found = ", ".join(f"{count} {word.lower()}" for word, count in counts.items() if count)
    return found or "none"


def shake(configure: Configure, trust: Configure, name: str, version: ssl.TLSVersion) -> str:
    """Whether a handshake in memory succeeds: `yes`, or `refused`."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    configure(server)
    trust(client)
    client.minimum_version = client.maximum_version = version
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    waiting = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
        except ssl.SSLCertVerificationError:
            return "refused"
    return "yes"


def strict(folder: Path) -> str:
    """What `openssl verify` says of the files in *folder*."""
    options = ["-x509_strict", "-purpose", "sslserver", "-verify_hostname", NAME, "-CAfile", "root.pem"]
    command = ["openssl", "verify", *options, "-untrusted", "shown.pem", "leaf.pem"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ran.stdout.partition(": ")[2].strip() if ran.returncode == 0 else ran.stderr.strip().splitlines()[-1]


def row(made: Row, folder: Path) -> list[str]:
    """One line of the table."""
    title, shown, root, configure, trust = made
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "leaf.pem").write_bytes(shown[0].public_bytes(Encoding.PEM))
    (folder / "shown.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in shown))
    (folder / "issuer.pem").write_bytes((*shown, root)[1].public_bytes(Encoding.PEM))
    return [
        title,
        lint(LEAF_LINTER, folder / "leaf.pem"),
        lint(CHAIN_LINTER, folder / "issuer.pem", folder / "leaf.pem"),
        strict(folder),
        shake(configure, trust, NAME, ssl.TLSVersion.TLSv1_2),
        shake(configure, trust, NAME, ssl.TLSVersion.TLSv1_3),
        shake(configure, trust, OTHER, ssl.TLSVersion.TLSv1_3),
    ]


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # pkilint leaves its files open
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(each, Path(folder)) for each in leaves()]
    widths = [max(len(line[index]) for line in (HEAD, *rows)) for index in range(len(HEAD))]
    for line in (HEAD, ["-" * width for width in widths], *rows):
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
