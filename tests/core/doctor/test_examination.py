from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import switchgear
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from switchgear.cause import Cause, Failure
from switchgear.doctor import Verdict, certificates, tcp
from switchgear.testing import Broker, ThreadedBroker
from switchgear_certs import Authority, Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "mqtt1.example.com"

Bench: TypeAlias = Any  # of conftest.py, which cannot be imported

ALL_WELL = {
    "profile": "pass",
    "plugins": "pass",
    "dns.answer": "pass",
    "dns.chain": "pass",
    "dns.authority": "pass",
    "tcp": "pass",
    "tls.handshake": "pass",
    "tls.trust": "pass",
    "tls.name": "pass",
    "tls.dates": "pass",
    "tls.purpose": "pass",
    "mqtt.connect": "pass",
    "mqtt.round_trip": "pass",
    "clock": "pass",
}


def leaf(authority: Authority, *purposes: x509.ObjectIdentifier, days: float = 30) -> Certificate:
    """A certificate for `NAME` as `switchgear_certs` would never make it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=True)
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    made = builder.sign(authority.key, hashes.SHA256())
    return Certificate(leaf=made, issuers=(authority.certificate,), key=key)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_all_is_well(bench: Any, protocol: str) -> None:
    """Every layer passes and says what it saw: chain and TTL, address, TLS version, names, days, CONNECT, the message."""
    async with bench() as b, Broker() as broker:
        port = await broker.start(ssl=b.server_side())
        report = await b.look(f"mqtts://{NAME}:{port}", tls=b.tls(), protocol=protocol, client_id="press-7")
    assert b.verdicts(report) == ALL_WELL
    assert report.verdict is Verdict.PASS
    assert all(not finding.way_out for finding in report.findings)
    found = {finding.check: finding.found for finding in report.findings}
    assert found["dns.chain"] == f"{NAME} -> east.iot.example (CNAME, TTL 0) -> 127.0.0.1 (TTL 60)"
    assert found["dns.authority"] == "the name servers of example.com say the same (1 asked)"
    assert found["tcp"].startswith("127.0.0.1 in ")
    assert found["tls.handshake"].startswith("TLSv1.3, ")
    assert found["tls.handshake"].endswith(f"SNI {NAME}")
    assert found["tls.dates"].endswith("day(s) left")
    assert found["tls.purpose"] == "extended key usage serverAuth"
    assert "there and back in" in found["mqtt.round_trip"]
    (connected,) = broker.ledger.connects()
    assert connected.client_id.startswith("press-7-doctor-")
    assert connected.clean


async def test_the_client_that_runs_is_left_alone(bench: Any) -> None:
    """A look under the profile of a client that is connected does not disconnect it, and leaves no session behind."""
    async with bench() as b, Broker() as broker:
        await broker.start()
        async with switchgear.aio.connect(broker.uri, client_id="press-7") as transport:
            await transport.wait_connected(5)
            report = await b.look(broker.uri, client_id="press-7")
            assert report.verdict is Verdict.PASS
            assert broker.clients == ["press-7"]
            assert list(broker.store.sessions) == ["press-7"]


async def test_nothing_listens(bench: Any) -> None:
    """A closed port is a failure of TCP, which says so for MQTT and the round trip too."""
    async with bench() as b, Broker(standby=True) as broker:
        port = await broker.start()
        report = await b.look(f"mqtts://{NAME}:{port}", tls=b.tls())
    line = b.line(report, "tcp")
    assert (line.verdict, line.found) == (Verdict.FAIL, "127.0.0.1 refused")
    assert line.way_out == f"nothing listens on port {port}: start the broker, or correct the port"
    skipped = {f.check: f.found for f in report.findings if f.verdict is Verdict.SKIP}
    why = "not checked: TCP failed"
    assert skipped == {"tls.handshake": why, "mqtt.connect": why, "mqtt.round_trip": why}


async def test_one_address_of_two(bench: Any) -> None:
    """An address that refuses beside one that answers is a warning, and the one that answers is used."""
    async with bench() as b, Broker() as broker:
        port = await broker.start()
        b.names.set_a("east.iot.example", "127.0.0.1", "127.0.0.9")
        report = await b.look(f"mqtt://{NAME}:{port}")
    line = b.line(report, "tcp")
    assert line.verdict is Verdict.WARN
    assert "127.0.0.9 refused" in line.found
    assert "1 of 2 addresses answer" in line.found
    assert b.line(report, "mqtt.round_trip").verdict is Verdict.PASS


async def test_a_silent_port(bench: Any, silent_port: int) -> None:
    """A port that accepts and says nothing fails at CONNACK, or, asked for TLS, at the handshake, within the bound."""
    async with bench() as b:
        wishes = {"timeout": 1.0}
        plain = await b.look(f"mqtt://127.0.0.1:{silent_port}", wishes=wishes)
        secure = await b.look(f"mqtts://127.0.0.1:{silent_port}", wishes=wishes, tls=b.tls())
    line = b.line(plain, "mqtt.connect")
    assert line.verdict is Verdict.FAIL
    assert "did not answer CONNECT" in line.found
    assert line.way_out == "check that this port speaks MQTT; the broker may still be starting"
    line = b.line(secure, "tls.handshake")
    assert (line.verdict, line.way_out) == (Verdict.FAIL, "check that this port speaks TLS")


async def test_the_wrong_kind_of_port(bench: Any) -> None:
    """TLS spoken to a plain port, and MQTT to a TLS port, end in a line that says which scheme to write."""
    async with bench() as b, Broker() as plain, Broker() as secure:
        await plain.start()
        await secure.start(ssl=b.server_side())
        line = b.line(await b.look(f"mqtts://127.0.0.1:{plain.port}", tls=b.tls()), "tls.handshake")
        assert line.verdict is Verdict.FAIL
        assert "check that this port speaks TLS" in line.way_out
        line = b.line(await b.look(f"mqtt://127.0.0.1:{secure.port}"), "mqtt.connect")
        assert line.verdict is Verdict.FAIL
        assert "mqtts://" in line.way_out


async def look_at_tls(b: Any, certificate: Certificate, **options: Any) -> Any:
    """The report on a broker that shows *certificate*."""
    async with Broker() as broker:
        port = await broker.start(ssl=b.server_side(certificate))
        return await b.look(f"mqtts://{NAME}:{port}", **{"tls": b.tls(), **options})


async def test_the_wrong_authority(bench: Any) -> None:
    """A certificate of an authority that ca_file does not hold fails in trust alone, and says what to get."""
    async with bench() as b:
        report = await look_at_tls(b, Authority.create(name="Somebody Else").server(NAME))
        line = b.line(report, "tls.trust")
        assert line.verdict is Verdict.FAIL
        assert "signed by CN=Somebody Else" in line.found
        assert line.way_out.startswith("get the CA that signed the broker's certificate into this file")
        others = {f.check: f.verdict for f in report.findings if f.check.startswith("tls.") and f is not line}
        assert set(others.values()) == {Verdict.PASS}
        assert b.line(report, "mqtt.connect").found == "not checked: TLS trust failed"
        system = await look_at_tls(b, b.authority.server(NAME), tls=None)
        assert "--ca-file" in b.line(system, "tls.trust").way_out


async def test_an_expired_certificate(bench: Any) -> None:
    """A certificate that has ended fails in its dates, which say since when, and to look at the clock."""
    async with bench() as b:
        old = dt.datetime.now(dt.UTC) - dt.timedelta(days=40)
        b.authority = Authority.create(now=old)
        report = await look_at_tls(b, b.authority.server(NAME, days=30, now=old))
        line = b.line(report, "tls.dates")
        assert line.verdict is Verdict.FAIL
        assert "expired on" in line.found
        assert "10 day(s) ago" in line.found
        assert line.way_out.startswith("renew it; the clock here says")
        assert b.line(report, "tls.trust").verdict is Verdict.PASS
        assert b.line(report, "mqtt.connect").found == "not checked: TLS dates failed"


async def test_a_certificate_that_ends_soon(bench: Any) -> None:
    """Less than two weeks left is a warning, and the connection is looked at all the same."""
    async with bench() as b:
        report = await look_at_tls(b, leaf(b.authority, ExtendedKeyUsageOID.SERVER_AUTH, days=3))
        line = b.line(report, "tls.dates")
        assert (line.verdict, line.way_out) == (Verdict.WARN, "renew it now")
        assert b.line(report, "mqtt.round_trip").verdict is Verdict.PASS


async def test_the_wrong_host_name(bench: Any) -> None:
    """A certificate for another domain fails in its name, and lists the names that it holds."""
    async with bench() as b:
        report = await look_at_tls(b, b.authority.server("mqtt2.example.com", "*.example.org"))
        line = b.line(report, "tls.name")
        assert line.verdict is Verdict.FAIL
        assert line.found == f"the certificate is not for {NAME}; it is for: mqtt2.example.com, *.example.org"
        assert line.way_out == f"connect to a name that it holds, or issue one for {NAME}"
        assert b.line(report, "tls.trust").verdict is Verdict.PASS


async def test_a_certificate_that_is_not_for_servers(bench: Any) -> None:
    """Without serverAuth the purpose fails; without any extended key usage it is a warning, for AWS IoT refuses it."""
    async with bench() as b:
        report = await look_at_tls(b, leaf(b.authority, ExtendedKeyUsageOID.CLIENT_AUTH))
        line = b.line(report, "tls.purpose")
        assert line.verdict is Verdict.FAIL
        assert "clientAuth, without serverAuth" in line.found
        assert line.way_out.endswith(f"switchgear certs server {NAME}")
        assert b.line(report, "tls.name").verdict is Verdict.PASS
        report = await look_at_tls(b, leaf(b.authority))
        assert b.line(report, "tls.purpose").verdict is Verdict.WARN
        assert b.line(report, "mqtt.connect").verdict is Verdict.PASS


async def test_everything_at_once(bench: Any) -> None:
    """OpenSSL stops at the first thing that is wrong; the lines do not."""
    async with bench() as b:
        old = dt.datetime.now(dt.UTC) - dt.timedelta(days=40)
        stranger = Authority.create(now=old)
        report = await look_at_tls(b, stranger.server("elsewhere.example", days=30, now=old))
        wrong = [f.check for f in report.findings if f.verdict is Verdict.FAIL]
        assert wrong == ["tls.trust", "tls.name", "tls.dates"]


@pytest.mark.parametrize(("certificate", "verdicts"), [
    ("good", {"trust": "pass", "name": "pass", "dates": "pass", "purpose": "pass"}),
    ("expired", {"trust": "pass", "name": "pass", "dates": "fail", "purpose": "pass"}),
    ("name", {"trust": "pass", "name": "fail", "dates": "warn", "purpose": "pass"}),
    ("purpose", {"trust": "pass", "name": "warn", "dates": "warn", "purpose": "fail"}),
    ("trust", {"trust": "fail", "name": "warn", "dates": "warn", "purpose": "warn"}),
])  # fmt: skip
async def test_without_cryptography(
    bench: Any, monkeypatch: pytest.MonkeyPatch, certificate: str, verdicts: dict[str, str]
) -> None:
    """What OpenSSL said is told without cryptography too, and each line that needs it says what to install."""
    monkeypatch.setattr(certificates, "is_able", lambda: False)
    async with bench() as b:
        old = dt.datetime.now(dt.UTC) - dt.timedelta(days=40)
        made: dict[str, Callable[[], Certificate]] = {
            "good": lambda: b.authority.server(NAME),
            "name": lambda: b.authority.server("other.example.com"),
            "purpose": lambda: leaf(b.authority, ExtendedKeyUsageOID.CLIENT_AUTH),
            "trust": lambda: Authority.create().server(NAME),
        }
        if certificate == "expired":
            b.authority = Authority.create(now=old)
            made["expired"] = lambda: b.authority.server(NAME, days=30, now=old)
        report = await look_at_tls(b, made[certificate]())
        lines = [f for f in report.findings if f.check.startswith("tls.") and f.check != "tls.handshake"]
        assert {f.check.removeprefix("tls."): f.verdict.value for f in lines} == verdicts
        for line in lines:
            if line.verdict is Verdict.WARN:
                assert line.way_out == "pip install 'switchgear[doctor]'"


async def test_another_certificate_without_a_name(bench: Any) -> None:
    """A broker that shows another certificate to those who send no SNI is told apart."""
    async with bench() as b, Broker() as broker:
        default, named = b.server_side(names=("default.example.com",)), b.server_side()
        default.sni_callback = lambda sock, name, _: setattr(sock, "context", named) if name == NAME else None
        port = await broker.start(ssl=default)
        report = await b.look(f"mqtts://{NAME}:{port}", tls=b.tls())
    assert "without which it shows another certificate" in b.line(report, "tls.handshake").found
    assert report.verdict is Verdict.PASS


async def test_an_address_has_no_sni(bench: Any) -> None:
    """A broker that is dialled by its address is looked at by its address, without SNI."""
    async with bench() as b, Broker() as broker:
        port = await broker.start(ssl=b.server_side(names=("127.0.0.1",)))
        report = await b.look(f"mqtts://127.0.0.1:{port}", tls=b.tls())
    assert report.verdict is Verdict.PASS
    assert b.line(report, "tls.handshake").found.endswith("no SNI, for that needs a name")


async def test_trusting_anybody(bench: Any) -> None:
    """verify=False is a warning, whoever answers."""
    async with bench() as b:
        report = await look_at_tls(b, Authority.create().server("elsewhere.example"), tls=b.tls(verify=False))
        line = b.line(report, "tls.trust")
        assert (line.verdict, line.found) == (Verdict.WARN, "verify=False: whoever answers is trusted")
        assert b.line(report, "mqtt.connect").verdict is Verdict.PASS


def test_no_way_for_ipv6() -> None:
    """On a machine without IPv6 an AAAA record is no warning, as long as an address of IPv4 answers."""
    no_route = Failure(Cause.UNREACHABLE, "Network is unreachable")
    endpoint = switchgear.parse_uri("mqtt://broker.example")
    four, six = tcp.Try("192.0.2.1", 0.01), tcp.Try("2001:db8::1", 0.0, no_route)
    assert tcp.judge(endpoint, [four, six]).verdict is Verdict.PASS
    assert tcp.judge(endpoint, [six]).verdict is Verdict.FAIL
    assert tcp.judge(endpoint, [four, tcp.Try("192.0.2.2", 0.0, no_route)]).verdict is Verdict.WARN


async def test_our_own_certificate(bench: Any, tmp_path: Any) -> None:
    """The certificate that we show has a line, and one that is no client's, or ends soon, is said to be so."""
    async with bench() as b:
        server = b.server_side()
        server.verify_mode = ssl.CERT_REQUIRED
        async with Broker() as broker:
            port = await broker.start(ssl=server)
            where = f"mqtts://{NAME}:{port}"
            for made, verdict in (
                (b.authority.client("press-7"), Verdict.PASS),
                (b.authority.client("press-7", days=3), Verdict.WARN),
                (b.authority.server("press-7.example.com"), Verdict.FAIL),
            ):
                (tmp_path / "own.pem").write_bytes(made.certificate_pem + made.key_pem)
                report = await b.look(where, tls=b.tls(cert_file=str(tmp_path / "own.pem")))
                line = b.line(report, "tls.client")
                assert line.verdict is verdict, line
            bare = b.line(await b.look(where, tls=b.tls()), "mqtt.connect")
            assert bare.verdict is Verdict.FAIL
            assert "it may want a certificate of ours (--cert-file)" in bare.way_out


async def test_refused_credentials(bench: Any) -> None:
    """A wrong password is a failure of MQTT CONNECT with its reason code, and never shows."""
    async with bench() as b, Broker(users={"press": "right"}) as broker:
        await broker.start()
        report = await b.look(broker.uri, username="press", password="wr0ng", protocol="5")
        good = await b.look(broker.uri, username="press", password="right")
    line = b.line(report, "mqtt.connect")
    assert line.verdict is Verdict.FAIL
    assert line.found.startswith("user name or password refused (reason 0x86)")
    assert line.way_out == "check username and password"
    assert line.facts["code"] == 0x86
    assert "wr0ng" not in repr(report)
    assert b.line(report, "mqtt.round_trip").found == "not checked: MQTT CONNECT failed"
    assert good.verdict is Verdict.PASS


async def test_a_password_that_cannot_be_read(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret whose variable is not set fails CONNECT by name."""
    async with bench() as b, Broker() as broker:
        await broker.start()
        report = await b.look(broker.uri, username="press", password=switchgear.env("NOT_SET_HERE"))
    line = b.line(report, "mqtt.connect")
    assert line.verdict is Verdict.FAIL
    assert "NOT_SET_HERE" in line.found


async def test_a_refused_client_id(bench: Any) -> None:
    """A refused client id says which one was tried, and how to name another, which is then used."""
    async with bench() as b, Broker() as broker:
        await broker.start()
        broker.faults.refuse(0x85)
        line = b.line(await b.look(broker.uri, client_id="press-7", protocol="5"), "mqtt.connect")
        assert line.verdict is Verdict.FAIL
        assert line.found.startswith("client id refused (reason 0x85)")
        assert "tried as 'press-7-doctor-" in line.way_out
        assert "--probe-client-id" in line.way_out
        broker.faults.clear()
        report = await b.look(broker.uri, wishes={"client_id": "probe-1"})
        assert report.verdict is Verdict.PASS
        assert broker.ledger.connects()[-1].client_id == "probe-1"


async def test_one_client_id_connects_once_at_a_time(bench: Any) -> None:
    """Under a client id that was given, brokers on one store are looked at one after the other: nobody is taken over."""
    async with (
        bench() as b,
        Broker(name="a") as first,
        Broker(name="b", store=first.store, ledger=first.ledger) as other,
    ):
        await first.start()
        await other.start()
        report = await b.look([first.uri, other.uri], wishes={"client_id": "probe-1"})
        assert report.verdict is Verdict.PASS
        assert len(first.ledger.connects("probe-1")) == 2


async def test_a_standby_is_no_failure(bench: Any) -> None:
    """In a pair the one that refuses is a warning as long as the other serves, and a failure when nobody does."""
    async with bench() as b, Broker() as active, Broker(standby=True) as standby:
        await active.start()
        await standby.start()
        where = f"failover:(tcp://127.0.0.1:{active.port},tcp://127.0.0.1:{standby.port})"
        report = await b.look(where, client_id="press-7")
        line = b.line(report, "tcp", str(standby.port))
        assert line.verdict is Verdict.WARN
        assert line.found == "127.0.0.1 refused; a standby does so, and another endpoint of its group serves"
        assert report.verdict is Verdict.WARN
        await active.kill()
        report = await b.look(where, client_id="press-7")
        assert [f.verdict for f in report.findings if f.check == "tcp"] == [Verdict.FAIL, Verdict.FAIL]


async def test_every_endpoint_of_a_list_is_looked_at(bench: Any) -> None:
    """In a list of independent brokers one that refuses is a failure, and the others have their lines."""
    async with bench() as b, Broker() as one, Broker(standby=True) as dead, Broker() as two:
        for broker in (one, dead, two):
            await broker.start()
        report = await b.look([one.uri, dead.uri, two.uri], client_id="press-7")
        keys = dict.fromkeys(f.endpoint for f in report.findings if f.endpoint)
        assert list(keys) == [one.uri, dead.uri, two.uri]
        assert b.line(report, "tcp", dead.uri).verdict is Verdict.FAIL
        for broker in (one, two):
            assert b.line(report, "mqtt.round_trip", broker.uri).verdict is Verdict.PASS
        assert report.is_usable


async def test_the_probe_topic_is_refused(bench: Any) -> None:
    """A refusal of our random topic is a warning, of the user's topic a failure; both say how to name one."""
    async with bench() as b, Broker(authorize=lambda _user, what, _topic: what != "subscribe") as broker:
        await broker.start()
        random = b.line(await b.look(broker.uri, protocol="5"), "mqtt.round_trip")
        assert random.verdict is Verdict.WARN
        assert "SUBSCRIBE to switchgear/doctor/" in random.found
        assert "(reason 0x87)" in random.found
        assert random.way_out == "name a topic that this user may use with --topic"
        named = b.line(await b.look(broker.uri, wishes={"topic": "orders/probe"}), "mqtt.round_trip")
        assert (named.verdict, named.found) == (Verdict.FAIL, "SUBSCRIBE to orders/probe refused (reason 0x80)")


async def test_a_publish_that_is_not_allowed(bench: Any) -> None:
    """A refusing PUBACK, a connection closed for it as AWS IoT does, and silence, each have their own line."""
    async with bench() as b:
        async with Broker(authorize=lambda _user, what, _topic: what != "publish") as broker:
            await broker.start()
            line = b.line(await b.look(broker.uri, protocol="5", wishes={"topic": "t"}), "mqtt.round_trip")
            assert (line.verdict, line.found) == (Verdict.FAIL, "PUBLISH to t refused (reason 0x87)")
        async with Broker() as broker:
            await broker.start()
            broker.faults.poison(lambda _topic: True)
            line = b.line(await b.look(broker.uri), "mqtt.round_trip")
            assert line.verdict is Verdict.WARN
            assert "closed the connection after PUBLISH" in line.found
            broker.faults.clear()
            broker.faults.withhold_acks()
            line = b.line(await b.look(broker.uri, wishes={"timeout": 1.0}), "mqtt.round_trip")
            assert (line.verdict, line.found) == (Verdict.FAIL, "no PUBACK in 1 s")


async def test_no_round_trip(bench: Any) -> None:
    """Without the round trip nothing is subscribed to and nothing published."""
    async with bench() as b, Broker() as broker:
        await broker.start()
        report = await b.look(broker.uri, wishes={"does_round_trip": False})
        assert "mqtt.round_trip" not in b.verdicts(report)
        assert broker.ledger.subscribes() == []
        assert broker.ledger.published() == []


async def test_websockets(bench: Any) -> None:
    """A WebSocket endpoint is looked at to the end, and a path that is refused says so."""
    async with bench() as b, Broker() as broker, Broker() as plain:
        await broker.start(websocket=True)
        await plain.start()
        assert (await b.look(broker.uri)).verdict is Verdict.PASS
        line = b.line(await b.look(f"ws://127.0.0.1:{plain.port}", wishes={"timeout": 2.0}), "mqtt.connect")
        assert line.verdict is Verdict.FAIL
        assert "WebSocket" in line.found


async def test_a_check_that_breaks_is_a_line(bench: Any) -> None:
    """A bug in a check, or one that does not end, fails that check and skips what needs it; other endpoints go on."""

    async def broken(_host: str) -> Any:
        raise ZeroDivisionError

    async with bench() as b, Broker() as broker:
        await broker.start()
        report = await b.look([f"mqtt://{NAME}:1", broker.uri], wishes={"lookup": broken})
        line = b.line(report, "dns.answer", NAME)
        assert line.verdict is Verdict.FAIL
        assert line.found == "the check itself failed: ZeroDivisionError: "
        assert b.line(report, "mqtt.round_trip", broker.uri).verdict is Verdict.PASS


async def test_profiles_that_cannot_work(bench: Any) -> None:
    """An unknown scheme, plugin or driver, and a plugin's wrong option, is a line of its own, and nothing is dialled."""
    wrong = {"plugins": ["sdk_restart"], "plugin_options": {"sdk_restart": {"escalate_to": "explode"}}}
    async with bench() as b:
        for where, options, check, said in (
            ("carrier-pigeon://x", {}, "profile", "the scheme 'carrier-pigeon' is unknown"),
            ("mqtt://127.0.0.1:1", {"plugins": ["nightshift"]}, "plugins", "plugin 'nightshift': it is not installed"),
            ("mqtt://127.0.0.1:1", {"driver": "pigeon"}, "plugins", "no driver is called 'pigeon'"),
            ("mqtt://127.0.0.1:1", wrong, "plugins", "'explode'"),
        ):
            report = await b.look(where, **options)
            line = b.line(report, check)
            assert line.verdict is Verdict.FAIL
            assert said in line.found
            assert not report.is_configured
            assert all(not finding.endpoint for finding in report.findings)


async def test_a_password_in_the_clear(bench: Any) -> None:
    """A password that would leave this machine unencrypted is a warning; on loopback it is not."""
    async with bench() as b, Broker() as broker:
        await broker.start()
        b.names.set_a("far.example.com", "127.0.0.1")
        far = await b.look(f"mqtt://press:hush@far.example.com:{broker.port}")
        near = await b.look(f"mqtt://press:hush@127.0.0.1:{broker.port}")
    (line,) = [f for f in far.findings if f.check == "profile" and f.verdict is Verdict.WARN]
    assert line.way_out == "use mqtts:// or wss://"
    assert near.verdict is Verdict.PASS
    assert "hush" not in repr((far, near))


def test_nothing_is_left_running(switchgear_broker: ThreadedBroker) -> None:
    """A look that is cut short by its caller leaves no connection at the broker."""
    from switchgear.doctor import Wishes, examine
    from switchgear.plugins import registry
    from switchgear.profile import Profile

    async def cut_short() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await examine(Profile(switchgear_broker.uri), registry(), Wishes(timeout=5))

    switchgear_broker.faults.withhold_acks()
    asyncio.run(cut_short())
    switchgear_broker.wait_until(lambda: not switchgear_broker.broker.clients)
