from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from switchgear import TLS
from switchgear.cause import Cause
from switchgear.drivers.base import AttemptFailed
from switchgear.errors import InvalidOption, UnreadableFile
from switchgear.secrets import Secret
from switchgear.testing.broker import Broker
from switchgear.testing.driver_contract import Pace
from switchgear_awscrt.identity import _CONTEXTS, read_identity
from switchgear_awscrt.relay import Relay
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from switchgear.cause import Failure


async def refused(crt: Any, driver: Any, endpoint: Any) -> Failure:
    """How an attempt fails, in a fraction of the time that the SDK takes to report a certificate (10 to 30 s)."""
    async with Pace() as pace:
        with pytest.raises(AttemptFailed) as caught:
            await crt.connect(driver, endpoint)
    assert pace.counted < 5
    return caught.value.failure


@contextlib.contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[int]:
    """A port where TLS fails as on a real broker: with an alert, which asyncio's server does not send."""

    def serve() -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:  # it is closed
                return
            with sock, contextlib.suppress(OSError):
                sock.settimeout(60)
                context.wrap_socket(sock, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("host", ["localhost", "elsewhere.test"])
async def test_verification_is_on_the_name(crt: Any, party: Any, host: str) -> None:
    """With a pinned address the broker's certificate must be for the name that the user wrote."""
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()), host)
        driver = crt.driver(tls=party.tls)
        if host == "localhost":
            await (await crt.connect(driver, endpoint)).disconnect()
            assert [entry.code for entry in broker.ledger.connects()] == [0]
        else:
            assert (await refused(crt, driver, endpoint)).cause is Cause.CERTIFICATE_NAME
            assert broker.ledger.connects() == []


async def test_untrusted_certificate(crt: Any, party: Any) -> None:
    """A certificate of a CA that we do not trust is named as such, and soon."""
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()))
        assert (await refused(crt, crt.driver(tls=TLS()), endpoint)).cause is Cause.CERTIFICATE_INVALID
        other = TLS(ca_pem=Authority.create().ca_pem)
        assert (await refused(crt, crt.driver(tls=other), endpoint)).cause is Cause.CERTIFICATE_INVALID
        assert broker.ledger.connects() == []


async def test_without_verification(crt: Any, party: Any, caplog: pytest.LogCaptureFixture) -> None:
    """``verify=False`` connects to anybody, and each connect says so in the log."""
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()), "elsewhere.test")
        driver = crt.driver(tls=TLS(verify=False))
        caplog.clear()
        for connects in (1, 2):
            await (await crt.connect(driver, endpoint)).disconnect()
            assert [record.message for record in caplog.records].count("switchgear.tls_not_verified") == connects


async def test_sni(crt: Any, party: Any) -> None:
    """The server is told the name that the user wrote, though the address is pinned."""
    asked: list[str | None] = []
    context = party.server()
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=context))
        await (await crt.connect(crt.driver(tls=party.tls), endpoint)).disconnect()
    assert asked == ["localhost"]


async def test_alpn(crt: Any, party: Any) -> None:
    """The protocols of the TLS settings are offered."""
    context = party.server()
    context.set_alpn_protocols(["other", "mine"])
    chosen: list[ssl.SSLSocket | ssl.SSLObject] = []
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=context))
        context.sni_callback = lambda sock, _name, _context: chosen.append(sock)
        connection = await crt.connect(crt.driver(tls=TLS(ca_file=party.ca_file, alpn=("mine",))), endpoint)
        assert [sock.selected_alpn_protocol() for sock in chosen] == ["mine"]
        await connection.disconnect()


@pytest.mark.parametrize("way", ["files", "one file", "bytes"])
async def test_mutual_tls(crt: Any, party: Any, tmp_path: Path, way: str) -> None:
    """Our certificate is shown, from files, from one file with the key in it, or from bytes."""
    mine = party.authority.client("press-7")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(mine.certificate_pem + (mine.key_pem if way == "one file" else b""))
    key.write_bytes(mine.key_pem)
    context = party.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=str(party.ca_file))
    if way == "bytes":
        tls = TLS(ca_pem=party.authority.ca_pem, cert_pem=mine.certificate_pem, key_pem=mine.key_pem)
        driver = crt.driver(tls=tls)
    else:
        key_file = key if way == "files" else None
        driver = crt.driver(tls=TLS(ca_file=party.ca_file, cert_file=certificate, key_file=key_file))
    async with Broker() as broker:
        await (await crt.connect(driver, crt.endpoint("mqtts", await broker.start(ssl=context)))).disconnect()
        assert [entry.code for entry in broker.ledger.connects()] == [0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_refused_client_certificate(crt: Any, party: Any, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """A broker that does not know our CA is told from a broken handshake, though TLS 1.3 refuses us after it."""
    stranger = Authority.create().client("press-7")
    file = tmp_path / "both.pem"
    file.write_bytes(stranger.certificate_pem + stranger.key_pem)
    context = party.server()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=str(party.ca_file))
    with refusing(context) as port:
        driver = crt.driver(tls=TLS(ca_file=party.ca_file, cert_file=file))
        failure = await refused(crt, driver, crt.endpoint("mqtts", port))
    assert failure.cause is Cause.CLIENT_CERTIFICATE_REFUSED
    assert "check cert_file and key_file" in str(failure)


@pytest.mark.parametrize("closes_first", [False, True])
async def test_certificate_that_nobody_asked_for(
    crt: Any,
    party: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    closes_first: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A broker that does not ask for the certificate that the SDK was given, which the SDK takes ill, is named as such.

    So it is where the broker, which gets the SDK's alert, has closed the connection before the SDK reports.
    """
    if closes_first:
        monkeypatch.setattr(Relay, "is_over", property(lambda _: True, lambda *_: None), raising=False)
    mine = party.authority.client("press-7")
    file = tmp_path / "both.pem"
    file.write_bytes(mine.certificate_pem + mine.key_pem)
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()))
        failure = await refused(crt, crt.driver(tls=TLS(ca_file=party.ca_file, cert_file=file)), endpoint)
    assert failure.cause is Cause.TLS_FAILED
    assert "leave out cert_file" in failure.detail


async def test_reset_in_the_handshake_is_no_certificate(crt: Any, party: Any) -> None:
    """A connection that is reset in the handshake, which has the same code in the SDK, is a failed handshake."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        endpoint = crt.endpoint("mqtts", server.sockets[0].getsockname()[1])
        assert (await refused(crt, crt.driver(tls=party.tls), endpoint)).cause is Cause.TLS_FAILED


async def test_probes_are_bounded(crt: Any, party: Any) -> None:
    """An endpoint where a probe finds nothing is not probed at each of the attempts that follow."""
    accepted = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=party.server())
    async with server:
        endpoint = crt.endpoint("mqtts", server.sockets[0].getsockname()[1])
        driver = crt.driver(tls=party.tls)
        causes = [(await refused(crt, driver, endpoint)).cause for _ in range(4)]
    assert set(causes) <= {Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST}
    assert accepted == 5


def test_encrypted_key(crt: Any, party: Any, tmp_path: Path) -> None:
    """A key that the SDK cannot read is refused before anything is started, with the way out."""
    mine = party.authority.client("press-7")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(mine.certificate_pem)
    key.write_bytes(mine.key_pem)
    tls = TLS(ca_file=party.ca_file, cert_file=certificate, key_file=key, key_password=Secret("x"))
    with pytest.raises(InvalidOption, match=r"key_password.*openssl pkey"):
        crt.driver(tls=tls)


def test_unusable_files(crt: Any, party: Any, tmp_path: Path) -> None:
    """Files that are missing, hold something else, or do not belong together are refused before anything is started."""
    mine, other = party.authority.client("a"), party.authority.client("b")
    certificate, key, empty = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "empty.pem"
    certificate.write_bytes(mine.certificate_pem)
    key.write_bytes(other.key_pem)
    empty.write_bytes(b"nothing")
    cases: list[tuple[TLS, type[Exception], str]] = [
        (TLS(ca_file=tmp_path / "none.pem"), UnreadableFile, "ca_file"),
        (TLS(cert_file=empty, key_file=key), UnreadableFile, "cert_file.*no PEM certificate"),
        (TLS(cert_file=certificate, key_file=empty), UnreadableFile, "key_file.*no PEM private key"),
        (TLS(cert_file=certificate, key_file=key), InvalidOption, "tls.*AWS's SDK cannot use.*match"),
        (TLS(ca_file=empty), UnreadableFile, "ca_file.*no PEM certificate"),
        (TLS(cert_pem=mine.certificate_pem), InvalidOption, r"tls\.cert_pem.*no PEM private key"),
        (TLS(cert_pem=mine.certificate_pem, key_pem=""), InvalidOption, r"tls\.key_pem.*no PEM private key"),
    ]
    for tls, kind, words in cases:
        with pytest.raises(kind, match=words):
            crt.driver(tls=tls)


def test_what_python_skips_in_a_file(crt: Any, party: Any, tmp_path: Path) -> None:
    """A file of CAs that holds more, such as a key, is taken as Python takes it."""
    mixed = tmp_path / "mixed.pem"
    mixed.write_bytes(party.authority.client("a").key_pem + party.authority.ca_pem + b"# the end\n")
    TLS(ca_file=mixed).check()
    crt.driver(tls=TLS(ca_file=mixed))


def test_no_key_shows_or_is_kept(crt: Any, party: Any) -> None:
    """The key is in no text of the identity, and not in what a context is kept under."""
    mine = party.authority.client("a")
    tls = TLS(cert_pem=mine.certificate_pem, key_pem=mine.key_pem)
    identity = read_identity(tls)
    assert "PRIVATE KEY" not in repr(identity)
    assert (
        identity.fingerprint() != read_identity(evolve(tls, key_pem=party.authority.client("a").key_pem)).fingerprint()
    )
    crt.driver(tls=tls)
    assert mine.key_pem.strip() not in pickle.dumps(list(_CONTEXTS))


async def test_a_key_that_does_not_come(crt: Any, party: Any) -> None:
    """A function that hangs where it should give the key is not taken for an SDK that hangs."""
    mine = party.authority.client("a")
    gate = threading.Event()
    gate.set()

    def ask() -> bytes:
        gate.wait()
        return bytes(mine.key_pem)

    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()))
        driver = crt.driver(tls=TLS(cert_pem=mine.certificate_pem, key_pem=ask), connect_timeout=0.05)
        gate.clear()
        try:
            failure = await refused(crt, driver, endpoint)
        finally:
            gate.set()
    assert failure.cause is Cause.CREDENTIALS_UNAVAILABLE
    assert "certificates and key could not be read" in failure.detail
