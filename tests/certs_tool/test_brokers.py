"""Real handshakes with mosquitto and ActiveMQ, under TLS 1.2 and 1.3, and refusals for another name."""

import itertools
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from switchgear.testing.processes import DEFAULT_USERS
from switchgear_certs import Authority, Files, KeyType
from switchgear_certs.handover import p12

if TYPE_CHECKING:
    from switchgear.testing.processes import TlsFiles

pytestmark = pytest.mark.broker

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_numbers = itertools.count()
NAMES = ("localhost", "mqtt1.example.com")
KINDS = [(key_type, intermediate) for key_type in KeyType for intermediate in (False, True)]
kinds = pytest.mark.parametrize(
    "kind", KINDS, ids=lambda each: f"{each[0].value}{' with an issuing CA' if each[1] else ''}"
)


def make(folder: Path, *, key_type: KeyType, intermediate: bool) -> "TlsFiles":
    """An authority, a server certificate for `NAMES` and a client certificate, in files."""
    from switchgear.testing.processes import TlsFiles

    authority = Authority.create(key_type=key_type, intermediate=intermediate)
    files = Files(folder)
    server, client = authority.server(NAMES[0], NAMES[1], "127.0.0.1"), authority.client("switchgear-client")
    files.save(authority, server, client)
    cert_file, key_file = files.pair("localhost")
    client_cert_file, client_key_file = files.pair("switchgear-client")
    return TlsFiles(
        ca_file=files.ca_file,
        cert_file=cert_file,
        key_file=key_file,
        client_cert_file=client_cert_file,
        client_key_file=client_key_file,
    )


def connect(port: int, name: str, version: str, tls: "TlsFiles", *, with_client: bool = False) -> str | None:
    """The version agreed upon with the broker on *port*, asked for as *name*; an MQTT CONNECT is answered after it."""
    context = ssl.create_default_context(cafile=str(tls.ca_file))
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if with_client:
        context.load_cert_chain(tls.client_cert_file, tls.client_key_file)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        secured.sendall(_connect_packet())
        assert secured.recv(4) == b"\x20\x02\x00\x00"  # a CONNACK that accepts
        return secured.version()


def _connect_packet() -> bytes:
    """CONNECT as the pair's admin, under a client id of its own. ActiveMQ may close before it has told a refusal."""
    texts = (f"handshake-{next(_numbers)}", "admin", DEFAULT_USERS["admin"])
    body = b"\x00\x04MQTT\x04\xc2\x00\x0a" + b"".join(len(t).to_bytes(2, "big") + t.encode() for t in texts)
    return b"\x10" + bytes([len(body)]) + body


@pytest.mark.parametrize("version", VERSIONS)
@kinds
def test_mosquitto(kind: tuple[KeyType, bool], version: str, mosquitto: Callable[..., Any], tmp_path: Path) -> None:
    """mosquitto shows our certificate under its names and for no other, and takes our clients and no stranger."""
    tls = make(tmp_path / "certs", key_type=kind[0], intermediate=kind[1])
    broker = mosquitto(tls=tls)
    for name in (*NAMES, "127.0.0.1"):
        assert connect(broker.port, name, version, tls) == version
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        connect(broker.port, "mqtt2.example.com", version, tls)
    strict = mosquitto(tls=tls, require_client_certificate=True)
    assert connect(strict.port, "localhost", version, tls, with_client=True) == version
    with pytest.raises(OSError, match=r".+"):
        connect(strict.port, "localhost", version, tls)


@pytest.fixture(
    scope="module", params=KINDS, ids=lambda each: f"{each[0].value}{' with an issuing CA' if each[1] else ''}"
)
def activemq(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]
) -> Iterator[tuple[int, "TlsFiles"]]:
    """An ActiveMQ that reads our PKCS #12 key store: its TLS port and the files."""
    from switchgear.testing.processes import ActiveMQPair, activemq_files, wait_port

    require("activemq")
    key_type, intermediate = request.param
    tls = make(tmp_path_factory.mktemp("certs"), key_type=key_type, intermediate=intermediate)
    password = activemq_files._KEY_STORE_PASSWORD
    store = p12(Files(tls.ca_file.parent), "localhost", password=password).files[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activemq_files, "_key_store", lambda _tls: store.read_bytes())
        with ActiveMQPair(tmp_path_factory.mktemp("activemq"), tls=tls) as pair:
            active = pair.active
            assert active is not None
            wait_port(pair.tls_ports[active], 10)  # it opens after the plain one
            yield pair.tls_ports[active], tls


@pytest.mark.parametrize("version", VERSIONS)
def test_activemq(activemq: tuple[int, "TlsFiles"], version: str) -> None:
    """ActiveMQ shows our certificate under its names and for no other."""
    port, tls = activemq
    for name in (*NAMES, "127.0.0.1"):
        assert connect(port, name, version, tls) == version
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        connect(port, "mqtt2.example.com", version, tls)


def test_a_live_broker_verifies(run: Callable[..., Any], mosquitto: Callable[..., Any], tmp_path: Path) -> None:
    """The commands verify and inspect see in a live mosquitto what was given to it."""
    tls = make(tmp_path / "certs", key_type=KeyType.P256, intermediate=True)
    place = f"127.0.0.1:{mosquitto(tls=tls).port}"
    assert run("verify", place, "--name", "mqtt1.example.com").code == 0
    assert run("verify", place, "--name", "mqtt2.example.com").code == 1
    assert "mqtt1.example.com" in run("inspect", place, "--name", "mqtt1.example.com").out
    assert run("needs-renewal", place).code == 1
