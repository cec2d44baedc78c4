"""``switchgear doctor`` with this driver: it goes the way that a transport goes."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from switchgear import TLS
from switchgear.cli.app import build
from switchgear.doctor import Verdict, Wishes, examine
from switchgear.drivers.base import Routed
from switchgear.plugins import registry
from switchgear.profile import Profile
from switchgear.testing import ThreadedBroker
from switchgear.testing.broker import Broker
from switchgear_awscrt.options import Options
from switchgear_certs import Authority
from typer.testing import CliRunner

if TYPE_CHECKING:
    from switchgear.doctor import Report


async def look(where: str, **options: Any) -> Report:
    """What the doctor says of *where*."""
    profile = Profile.of(where, driver="awscrt", **options)
    return await examine(profile, registry(), Wishes(timeout=3.0))


def found(report: Report, check: str) -> str:
    """What the lines of *check* say."""
    return "\n".join(finding.found for finding in report.findings if finding.check == check)


@pytest.mark.parametrize(("protocol", "code"), [((), 0), (("--protocol", "5"), 0), (("--protocol", "3.1.1"), 2)])
def test_the_version(protocol: tuple[str, ...], code: int) -> None:
    """It looks in the version of MQTT that a transport would use, and refuses what that would refuse."""
    with ThreadedBroker() as broker:
        arguments = ["doctor", broker.uri, "--driver", "awscrt", *protocol, "--json"]
        result = CliRunner().invoke(build(), arguments)
        connects = broker.ledger.connects()
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert result.exit_code == code
    if code:
        assert "'awscrt' does not speak 3.1.1; valid options: 5" in findings["plugins"]["found"]
        assert connects == []
    else:
        assert findings["mqtt.round_trip"]["verdict"] == "pass"
        assert findings["profile"]["facts"]["protocol"] == "5"


async def test_certificates_as_text(party: Any) -> None:
    """CAs, certificate and key that are no files are looked at as such, and CONNECT is made with them."""
    mine = party.authority.client("press-7", days=3)
    context = party.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=str(party.ca_file))
    async with Broker() as broker:
        where = f"mqtts://localhost:{await broker.start(ssl=context)}"
        own = {"cert_pem": mine.certificate_pem, "key_pem": mine.key_pem}
        report = await look(where, tls=TLS(ca_pem=party.authority.ca_pem, **own))
        assert report.is_usable
        assert found(report, "tls.trust").endswith("lead to one of ca_pem")
        (line,) = [finding for finding in report.findings if finding.check == "tls.client"]
        assert (line.verdict, line.way_out) == (Verdict.WARN, "renew it now")
        stranger = await look(where, tls=TLS(ca_pem=Authority.create().ca_pem, **own))
        (line,) = [finding for finding in stranger.findings if finding.check == "tls.trust"]
        assert line.verdict is Verdict.FAIL
        assert "ca_pem does not hold that CA" in line.found
        assert "into ca_pem" in line.way_out


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "wss"])
async def test_through_a_proxy(party: Any, proxies: Any, scheme: str) -> None:
    """The proxy is what is looked up and dialled, TLS is looked at behind it, and no connection goes past it."""
    async with Broker() as broker, proxies().running() as proxy:
        tls = party.server() if scheme != "mqtt" else None
        port = await broker.start(ssl=tls, websocket=scheme == "wss")
        options = {"awscrt": {"http_proxy": {"host": "127.0.0.1", "port": proxy.port}}}
        report = await look(f"{scheme}://behind.test:{port}", plugin_options=options, tls=TLS(verify=False))
        assert report.is_usable, report
        assert found(report, "dns.answer") == f"behind.test is for the proxy 127.0.0.1:{proxy.port} to look up"
        assert found(report, "tcp").startswith("127.0.0.1 in ")
        assert found(report, "tls.handshake").startswith("TLSv1.3") is (scheme != "mqtt")
        assert "there and back" in found(report, "mqtt.round_trip")
        asked = {head.partition("\r\n")[0] for head in proxy.heads}
        assert asked == {f"CONNECT behind.test:{port} HTTP/1.1"}


async def test_a_proxy_that_refuses(proxies: Any) -> None:
    """What the proxy says is the line of CONNECT, or of the handshake; a proxy that is not there fails TCP."""
    async with proxies(b"HTTP/1.1 403 Forbidden\r\n\r\n").running() as proxy:
        options = {"awscrt": {"http_proxy": {"host": "127.0.0.1", "port": proxy.port}}}
        plain = await look("mqtt://behind.test:1883", plugin_options=options)
        secure = await look("mqtts://behind.test:8883", plugin_options=options)
    assert "403 Forbidden for behind.test:1883" in found(plain, "mqtt.connect")
    assert "403 Forbidden for behind.test:8883" in found(secure, "tls.handshake")
    gone = await look("mqtt://behind.test:1883", plugin_options=options)
    (line,) = [finding for finding in gone.findings if finding.check == "tcp"]
    assert line.verdict is Verdict.FAIL
    assert line.way_out == f"nothing listens on port {proxy.port}: start the proxy, or correct the port"


async def test_an_address_behind_a_proxy(proxies: Any) -> None:
    """With a pinned address nobody is said to look the name up, and the proxy is asked for the address."""
    async with Broker() as broker, proxies().running() as proxy:
        options = {"awscrt": {"http_proxy": {"host": "127.0.0.1", "port": proxy.port}}}
        report = await look(f"mqtt://behind.test:{await broker.start()}?address=192.0.2.1", plugin_options=options)
    said = f"192.0.2.1 is for the proxy 127.0.0.1:{proxy.port} to dial; behind.test is not looked up"
    assert found(report, "dns.answer") == said
    assert all(head.startswith("CONNECT 192.0.2.1:") for head in proxy.heads)
    assert report.is_usable


def test_the_route(crt: Any) -> None:
    """On port 443 it offers the protocol that a transport offers there, and says that nothing else is dialled."""
    driver = crt.driver(Options())
    assert isinstance(driver, Routed)
    endpoint = crt.endpoint("mqtts", 443)
    route = driver.route_to(endpoint)
    assert (route.first, route.alpn) == (endpoint, ("x-amzn-mqtt-ca",))
    assert driver.route_to(crt.endpoint("mqtts", 8883)).alpn == ()
