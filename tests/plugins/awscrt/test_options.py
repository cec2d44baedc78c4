from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from switchgear import TLS, env
from switchgear.errors import InvalidOption
from switchgear_awscrt.options import Authorizer, Options, Proxy, Signing, read_options

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_defaults() -> None:
    """Without options there is no proxy, no signing and no authorizer, and None means the same as leaving one out."""
    assert read_options({}) == Options()
    assert read_options(dict.fromkeys(attrs.fields_dict(Options))) == Options()


def test_tables() -> None:
    """Tables of a profile become values, with their secrets hidden."""
    options = read_options(
        {
            "http_proxy": {"host": "proxy.example.com", "port": 3128, "username": "u", "password": "secret-1"},
            "custom_authorizer": {
                "name": "a",
                "token_key": "k",
                "token": "secret-2",
                "signature": {"env": "SIGNATURE"},
            },
            "port_443_alpn": False,
        }
    )
    proxy, authorizer = options.http_proxy, options.custom_authorizer
    assert proxy is not None
    assert authorizer is not None
    assert (proxy.host, proxy.port, proxy.username) == ("proxy.example.com", 3128, "u")
    assert proxy.password is not None
    assert proxy.password.reveal() == b"secret-1"
    assert (authorizer.name, authorizer.token_key) == ("a", "k")
    assert not options.port_443_alpn
    assert "secret" not in repr(options)


def test_values_as_they_are() -> None:
    """In Python the values themselves are taken too."""
    proxy = Proxy(host="p", port=1)
    assert read_options({"http_proxy": proxy, "sigv4": Signing(region="eu-west-1")}).http_proxy is proxy


def test_secrets_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the environment or of a file is read when it is needed, written either way."""
    monkeypatch.setenv("TOKEN", "t")
    for written in ({"env": "TOKEN"}, env("TOKEN"), lambda: "t"):
        options = read_options({"custom_authorizer": {"token_key": "k", "token": written}})
        assert options.custom_authorizer is not None
        assert options.custom_authorizer.token is not None
        assert options.custom_authorizer.token.reveal() == b"t"


REFUSED: list[tuple[Mapping[str, Any], str]] = [
    ({"proxy": {}}, "'proxy': the plugin awscrt has no such option; valid options: .*http_proxy"),
    ({"port_443_alpn": "yes"}, "'port_443_alpn'.*'yes' is not True or False"),
    ({"http_proxy": "proxy:3128"}, "'http_proxy'.*'proxy:3128' is not a table with host, port"),
    ({"http_proxy": {"host": "p"}}, "'http_proxy.port'.*needed"),
    ({"http_proxy": {"host": "p", "port": 0}}, "'http_proxy.port'.*0 is not a port from 1 to 65535"),
    ({"http_proxy": {"host": "p", "port": True}}, "'http_proxy.port'.*True is not a port"),
    ({"http_proxy": {"host": "p\r\nX: y", "port": 1}}, "'http_proxy.host'"),
    ({"http_proxy": {"host": "", "port": 1}}, "'http_proxy.host'"),
    ({"http_proxy": {"host": "p", "port": 1, "user": "u"}}, "'http_proxy.user'.*no such option.*username"),
    ({"http_proxy": {"host": "p", "port": 1, "password": "s3cret"}}, "'http_proxy.password'.*username"),
    ({"sigv4": {}}, "'sigv4.region'.*needed"),
    ({"sigv4": {"region": 7}}, "'sigv4.region'.*7 is not a text"),
    ({"sigv4": {"region": "r"}, "custom_authorizer": {"name": "a"}}, "'custom_authorizer'.*sigv4 is set too"),
    ({"custom_authorizer": {"token": "s3cret"}}, "'custom_authorizer'.*token and token_key go together"),
    ({"custom_authorizer": {"token_key": "k", "token": 7}}, "'custom_authorizer.token'.*no secret"),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_refused(given: Mapping[str, Any], words: str) -> None:
    """A wrong option names itself, its value unless that may be a secret, and the way out, in one line."""
    with pytest.raises(InvalidOption) as caught:
        read_options(given)
    text = str(caught.value)
    assert re.search(words, text)
    assert "\n" not in text
    assert "s3cret" not in text


def test_authorizer_without_anything() -> None:
    """An empty authorizer is the endpoint's default one."""
    assert read_options({"custom_authorizer": {}}).custom_authorizer == Authorizer()


def test_alpn() -> None:
    """Port 443 offers AWS IoT's protocol, unless the TLS settings, the options or a WebSocket say otherwise."""
    from switchgear.endpoint import parse_uri
    from switchgear_awscrt.client import alpn_of

    plain, own = TLS(), TLS(alpn=("mine",))
    on, off = Options(), Options(port_443_alpn=False)
    cases = [
        (plain, on, "mqtts://h:443", ("x-amzn-mqtt-ca",)),
        (plain, off, "mqtts://h:443", ()),
        (plain, on, "mqtts://h:8883", ()),
        (plain, on, "wss://h:443", ()),
        (own, on, "mqtts://h:443", ("mine",)),
        (own, on, "mqtts://h:8883", ("mine",)),
    ]
    for tls, options, uri, expected in cases:
        assert alpn_of(tls, options, parse_uri(uri)) == expected, uri
