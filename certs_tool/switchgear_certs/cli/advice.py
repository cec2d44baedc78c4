"""Where each file goes: the lines for mosquitto, ActiveMQ, paho-mqtt, awsiotsdk and ACM. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from switchgear_certs import acm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from switchgear_certs.certificate import Certificate

_WHAT: Final[Mapping[str, str]] = {
    "ca.crt": "the root: every client and every broker that checks clients trusts it",
    "ca.key": "the root's key: keep it secret, and away from here when there is an issuing CA",
    "issuing.crt": "the issuing CA; it is part of each certificate file already",
    "issuing.key": "the issuing CA's key: keep it secret",
    "ca.p12": "the root as a Java trust store",
    "keystore.password": "the password of the Java stores here",
    "leaf.pem": "ACM: certificate body",
    "chain.pem": "ACM: certificate chain, the root last",
    "key.pem": "ACM: private key",
}


def what(path: Path, certificate: Certificate | None) -> str:
    """What the file *path* is for; *certificate* is the one that it belongs to, where there is one."""
    purpose = certificate.purpose if certificate is not None else None
    if path.name in _WHAT:
        return _WHAT[path.name]
    if path.name.endswith(".bundle.pem"):
        return "the certificate with all its issuers, the root last"
    return {
        ".crt": f"what the {purpose or 'owner'} shows",
        ".key": f"the {purpose or 'owner'}'s key: keep it secret",
        ".p12": "certificate and key as a Java key store",
    }.get(path.suffix, "")


def lines(folder: Path, certificates: Mapping[str, Certificate]) -> dict[str, list[str]]:
    """Titles with the lines to copy, for the authority in *folder* and for *certificates* by stem."""
    folder = folder.absolute()
    servers = [stem for stem, each in certificates.items() if each.purpose == "server"]
    clients = [stem for stem, each in certificates.items() if each.purpose == "client"]
    found: dict[str, list[str]] = {}
    for stem in servers:
        found |= _server(folder, stem)
    for stem in clients:
        found |= _client(folder, stem, servers[0] if servers else "mqtt1.example.com")
    if not certificates:
        found["clients (mosquitto_sub, curl, openssl s_client)"] = [
            f"mosquitto_sub --cafile {folder / 'ca.crt'} ...",
            f"openssl s_client -CAfile {folder / 'ca.crt'} -connect HOST:8883",
        ]
    return found


def _server(folder: Path, stem: str) -> dict[str, list[str]]:
    certificate, key, store = folder / f"{stem}.crt", folder / f"{stem}.key", folder / f"{stem}.p12"
    path = folder / f"{stem}.acm"
    return {
        f"mosquitto, {stem} (mosquitto.conf; the user mosquitto must be able to read the key)": [
            "listener 8883",
            f"certfile {certificate}",
            f"keyfile {key}",
            f"cafile {folder / 'ca.crt'}",
            "require_certificate false   # true: only clients with a certificate of this authority",
        ],
        f"ActiveMQ, {stem} (activemq.xml; make the store with `switchgear-certs p12 {stem} --trust-store`)": [
            f'<sslContext><sslContext keyStore="{store.as_uri()}" keyStoreType="PKCS12"',
            f'  keyStorePassword="(the line in {folder / "keystore.password"})"/></sslContext>',
            '<transportConnector name="mqtts" uri="mqtt+nio+ssl://0.0.0.0:8883"/>',
        ],
        f"ACM, {stem} (make the files with `switchgear-certs acm {stem}`, or add --import)": [
            acm_command(path),
        ],
    }


def acm_command(path: Path) -> str:
    """The command of the AWS CLI that imports the three files in *path*."""
    return (
        f"aws acm import-certificate --certificate fileb://{path / acm.LEAF}"
        f" --certificate-chain fileb://{path / acm.CHAIN} --private-key fileb://{path / acm.KEY}"
    )


def _client(folder: Path, stem: str, host: str) -> dict[str, list[str]]:
    ca, certificate, key = (str(folder / name) for name in ("ca.crt", f"{stem}.crt", f"{stem}.key"))
    return {
        f"paho-mqtt, {stem}": [
            f"client.tls_set(ca_certs={ca!r}, certfile={certificate!r}, keyfile={key!r})",
        ],
        f"awsiotsdk, {stem} (port 8883; left out it is 443 with ALPN)": [
            f"mqtt5_client_builder.mtls_from_path(endpoint={host!r}, port=8883, ca_filepath={ca!r},",
            f"    cert_filepath={certificate!r}, pri_key_filepath={key!r})",
        ],
        f"mosquitto_sub, {stem}": [
            f"mosquitto_sub -h {host} -p 8883 --cafile {ca} --cert {certificate} --key {key} -t '#'",
        ],
    }
