from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from switchgear import TLS
from switchgear.cause import Cause
from switchgear.drivers.base import AttemptFailed
from switchgear.errors import InvalidOption
from switchgear.secrets import Secret
from switchgear.testing.broker import Broker
from switchgear_awscrt.options import Authorizer, Options, Signing
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from pathlib import Path

SIGNED = Options(sigv4=Signing(region="eu-west-1"))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests for a WebSocket that the embedded broker gets."""
    heard: list[Any] = []
    accept = ServerProtocol.accept

    def keep(self: Any, request: Any) -> Any:
        heard.append(request)
        return accept(self, request)

    monkeypatch.setattr(ServerProtocol, "accept", keep)
    return heard


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials where the SDK's default chain looks first."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")


@pytest.mark.usefixtures("_credentials")
async def test_sigv4(crt: Any, party: Any, requests: list[Any]) -> None:
    """The request for the WebSocket is signed for the region, as AWS IoT wants it, with the credentials of the chain."""
    async with Broker() as broker:
        endpoint = crt.endpoint("wss", await broker.start(ssl=party.server(), websocket=True))
        await (await crt.connect(crt.driver(SIGNED, tls=party.tls), endpoint)).disconnect()
        assert [entry.code for entry in broker.ledger.connects()] == [0]
    (request,) = requests
    parts = urlsplit(request.path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.path == "/mqtt"
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Credential"].startswith("AKIDEXAMPLE/")
    assert query["X-Amz-Credential"].endswith("/eu-west-1/iotdevicegateway/aws4_request")
    assert query["X-Amz-Security-Token"] == "token"
    assert len(query["X-Amz-Signature"]) == 64
    assert request.headers["Sec-WebSocket-Protocol"] == "mqtt"
    assert request.headers["Host"] == "localhost"


async def test_sigv4_with_a_profile(
    crt: Any, party: Any, requests: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named profile of the user's AWS files is used, and no other credentials."""
    file = tmp_path / "credentials"
    file.write_text("[other]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = made-up\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    async with Broker() as broker:
        endpoint = crt.endpoint("wss", await broker.start(ssl=party.server(), websocket=True))
        options = Options(sigv4=Signing(region="us-east-1", profile="other"))
        await (await crt.connect(crt.driver(options, tls=party.tls), endpoint)).disconnect()
    assert "AKIDPROFILE" in requests[0].path


async def test_sigv4_without_credentials(crt: Any, party: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is not there is named as missing credentials, not as a broker's fault."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    async with Broker() as broker:
        endpoint = crt.endpoint("wss", await broker.start(ssl=party.server(), websocket=True))
        options = Options(sigv4=Signing(region="us-east-1", profile="other"))
        with pytest.raises(AttemptFailed) as caught:
            await crt.connect(crt.driver(options, tls=party.tls), endpoint)
    assert caught.value.failure.cause is Cause.CREDENTIALS_UNAVAILABLE


async def test_credentials_that_hang(crt: Any, party: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the SDK waits for credentials, the attempt ends in time and says so: the broker and the SDK are not to blame."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # a container's endpoint for credentials
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{mute.getsockname()[1]}/")
        async with Broker() as broker:
            endpoint = crt.endpoint("wss", await broker.start(ssl=party.server(), websocket=True))
            with pytest.raises(AttemptFailed) as caught:
                await crt.connect(crt.driver(SIGNED, tls=party.tls, connect_timeout=2.0), endpoint)
    assert caught.value.failure.cause is Cause.CREDENTIALS_UNAVAILABLE
    assert "no credentials to sign with in 2 s" in caught.value.failure.detail


@pytest.mark.usefixtures("_credentials")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (SIGNED, "(403) where it does not take the credentials"),
        (Options(custom_authorizer=Authorizer(name="press")), "(403) where the authorizer says no"),
        (Options(), "does not tell the HTTP status"),
    ],
)
async def test_refused_upgrade(
    crt: Any, party: Any, monkeypatch: pytest.MonkeyPatch, options: Options, words: str
) -> None:
    """A WebSocket that is refused is told with what that means at AWS, for the SDK does not tell the status."""
    monkeypatch.setattr(ServerProtocol, "accept", lambda self, _: self.reject(403, "no"))
    async with Broker() as broker:
        endpoint = crt.endpoint("wss", await broker.start(ssl=party.server(), websocket=True))
        with pytest.raises(AttemptFailed) as caught:
            await crt.connect(crt.driver(options, tls=party.tls), endpoint)
    assert caught.value.failure.cause is Cause.WEBSOCKET_REFUSED
    assert words in caught.value.failure.detail


async def test_no_answer_to_the_upgrade(crt: Any, party: Any) -> None:
    """Behind TLS nobody can tell which answer is missing: that to the upgrade, or that to CONNECT; it says both."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=party.server())
    async with server:
        endpoint = crt.endpoint("wss", server.sockets[0].getsockname()[1])
        with pytest.raises(AttemptFailed) as caught:
            await crt.connect(crt.driver(tls=party.tls), endpoint, timeout=0.3)
    assert caught.value.failure.cause is Cause.CONNACK_TIMEOUT
    assert "no answer to the WebSocket upgrade, or CONNACK, from localhost" in caught.value.failure.detail


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
async def test_custom_authorizer(crt: Any, party: Any, scheme: str) -> None:
    """The authorizer's parameters are in the user name, as the SDK writes them, beside the transport's own."""
    authorizer = Authorizer(name="press", token_key="tk", token=Secret("tv"), signature=Secret("a+b="))
    context = party.server()
    context.set_alpn_protocols(["mqtt"])
    async with Broker(users={}) as broker:
        endpoint = crt.endpoint(scheme, await broker.start(ssl=context, websocket=scheme == "wss"))
        driver = crt.driver(Options(custom_authorizer=authorizer), tls=party.tls)
        with pytest.raises(AttemptFailed):
            await crt.connect(driver, endpoint, username="me", password=b"pw")
        (entry,) = broker.ledger.connects()
    name, _, query = (entry.username or "").partition("?")
    assert name == "me"
    assert parse_qs(query.replace("+", "%2B")) == {
        "x-amz-customauthorizer-name": ["press"],
        "x-amz-customauthorizer-signature": ["a+b="],
        "tk": ["tv"],
    }


def raises() -> str:
    """A function of the user's that fails, with the secret in its error."""
    raise ValueError("the secret")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (raises, "ValueError"),
        (b"the secret \xff", "it is no UTF-8 text"),
    ],
)
@pytest.mark.parametrize("option", ["token", "signature"])
async def test_secrets_of_an_authorizer_that_cannot_be_had(
    crt: Any, party: Any, option: str, source: Any, words: str
) -> None:
    """A token that fails, or does not come, ends the attempt as missing credentials; it shows nothing of the secret."""
    secrets: dict[str, Any] = {option: Secret(source)}
    authorizer = Authorizer(name="press", **secrets)
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()))
        driver = crt.driver(Options(custom_authorizer=authorizer), tls=party.tls, connect_timeout=2.0)
        with pytest.raises(AttemptFailed) as caught:
            await crt.connect(driver, endpoint)
        assert broker.ledger.connects() == []
    failure = caught.value.failure
    assert (failure.cause, failure.detail) == (Cause.CREDENTIALS_UNAVAILABLE, f"custom_authorizer.{option}: {words}")


async def test_a_token_that_does_not_come(crt: Any, party: Any) -> None:
    """A token that is not there in time is asked for once, however many attempts wait for it; the SDK is not to blame."""
    come, asked = threading.Event(), []

    def ask() -> str:
        asked.append(1)
        come.wait()
        return "tv"

    options = Options(custom_authorizer=Authorizer(name="press", token_key="tk", token=Secret(ask)))
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()))
        driver = crt.driver(options, tls=party.tls, connect_timeout=2.0)
        try:
            for _ in range(2):
                with pytest.raises(AttemptFailed) as caught:
                    await crt.connect(driver, endpoint)
                failure = caught.value.failure
                assert failure.cause is Cause.CREDENTIALS_UNAVAILABLE
                assert failure.detail == "custom_authorizer.token: asking for it took more than 2 s"
        finally:
            come.set()
    assert asked == [1]


@pytest.mark.parametrize(
    ("options", "scheme", "words"),
    [
        (SIGNED, "mqtts", "'sigv4'.*wss://"),
        (SIGNED, "ws", "need TLS"),
        (Options(custom_authorizer=Authorizer()), "mqtt", "need TLS"),
    ],
)
async def test_endpoints_that_do_not_fit(crt: Any, party: Any, options: Options, scheme: str, words: str) -> None:
    """Signing and authorizers name what they need of an endpoint."""
    async with Broker() as broker:
        endpoint = crt.endpoint(scheme, await broker.start())
        with pytest.raises(AttemptFailed) as caught:
            await crt.connect(crt.driver(options, tls=party.tls), endpoint)
    assert re.search(words, caught.value.failure.detail)


def test_no_certificate_beside_them(crt: Any, party: Any, tmp_path: Path) -> None:
    """A client certificate that would not be shown is refused."""
    mine = party.authority.client("press-7")
    file = tmp_path / "both.pem"
    file.write_bytes(mine.certificate_pem + mine.key_pem)
    with pytest.raises(InvalidOption, match=r"cert_file.*show no certificate"):
        crt.driver(SIGNED, tls=TLS(ca_file=party.ca_file, cert_file=file))
