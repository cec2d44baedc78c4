from __future__ import annotations

import base64
import re
import threading
from typing import Any

import pytest
from attrs import evolve
from switchgear.cause import Cause, Failure
from switchgear.drivers.base import AttemptFailed
from switchgear.secrets import Secret
from switchgear.testing.broker import Broker
from switchgear_awscrt.options import Options, Proxy


def through(server: Any, **values: Any) -> Options:
    """Options that go through *server*."""
    return Options(http_proxy=Proxy(host="127.0.0.1", port=server.port, **values))


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
async def test_through_a_proxy(crt: Any, party: Any, proxies: Any, scheme: str) -> None:
    """The proxy is asked for the name, which TLS then checks, with its credentials in basic form."""
    async with Broker() as broker, proxies().running() as proxy:
        tls = party.server() if scheme in {"mqtts", "wss"} else None
        port = await broker.start(ssl=tls, websocket=scheme in {"ws", "wss"})
        driver = crt.driver(through(proxy, username="u", password=Secret("p")), tls=party.tls)
        endpoint = crt.endpoint(scheme, port)
        await (await crt.connect(driver, evolve(endpoint, address=None))).disconnect()
        assert [entry.code for entry in broker.ledger.connects()] == [0]
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'u:p').decode()}\r\n" in head


async def test_pinned_address_through_a_proxy(crt: Any, party: Any, proxies: Any) -> None:
    """With a pinned address the proxy is asked for the address, and TLS still checks the name."""
    async with Broker() as broker, proxies().running() as proxy:
        endpoint = crt.endpoint("mqtts", await broker.start(ssl=party.server()))
        await (await crt.connect(crt.driver(through(proxy), tls=party.tls), endpoint)).disconnect()
    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{endpoint.port} HTTP/1.1\r\n")
    assert "Authorization" not in proxy.heads[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Auth.*check http_proxy.username"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n<html>", "403 Forbidden for 127.0.0.1"),
        (b"HTTP/1.1 502\r\n\r\n", "says 502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"x" * 20_000, "does not speak HTTP"),
    ],
)
async def test_refusals(crt: Any, proxies: Any, answer: bytes, words: str) -> None:
    """A proxy that refuses, or is none, ends the attempt with what it said."""
    async with proxies(answer).running() as proxy:
        with pytest.raises(AttemptFailed) as caught:
            await crt.driver(through(proxy)).dial(crt.endpoint("mqtt", 1))
    failure = caught.value.failure
    assert failure.cause is Cause.UNREACHABLE
    assert f"proxy 127.0.0.1:{proxy.port}" in failure.detail
    assert re.search(words, failure.detail)


async def test_silence(crt: Any, proxies: Any) -> None:
    """A proxy that does not answer ends the dial at its deadline, and its connection is closed."""
    async with proxies(b"").running() as proxy:
        with pytest.raises(AttemptFailed) as caught:
            await crt.driver(through(proxy), connect_timeout=0.1).dial(crt.endpoint("mqtt", 1))
    assert caught.value.failure.cause is Cause.CONNECT_TIMEOUT


async def test_a_password_that_does_not_come(crt: Any, proxies: Any) -> None:
    """A proxy's password is asked for beside the loop, and ends the dial in time when it does not come."""
    on: list[threading.Thread] = []

    def ask() -> str:
        on.append(threading.current_thread())
        raise ValueError("the secret")

    async with proxies().running() as proxy:
        options = Options(http_proxy=Proxy(host="127.0.0.1", port=proxy.port, username="me", password=Secret(ask)))
        with pytest.raises(AttemptFailed) as caught:
            await crt.driver(options).dial(crt.endpoint("mqtt", 1))
        assert proxy.heads == []
    assert caught.value.failure == Failure(Cause.CREDENTIALS_UNAVAILABLE, "http_proxy.password: ValueError")
    assert threading.main_thread() not in on


async def test_nobody_there(crt: Any, proxies: Any) -> None:
    """A port where no proxy listens is refused like any other, and it is said that it is the proxy's, not the broker's."""
    proxy = proxies()
    async with proxy.running():
        pass
    with pytest.raises(AttemptFailed) as caught:
        await crt.driver(through(proxy)).dial(crt.endpoint("mqtt", 1))
    assert caught.value.failure.cause is Cause.PORT_REFUSED
    assert caught.value.failure.detail == f"proxy 127.0.0.1:{proxy.port}"
