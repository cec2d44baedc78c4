"""The commands inspect, verify, check aws-iot and needs-renewal, and what they are made of."""

import contextlib
import datetime as dt
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from switchgear_certs import Authority, Certificate, CertsError, Files, Unreachable, Verdict, chain, verify
from switchgear_certs.lifetimes import needs_renewal
from switchgear_certs.live import place, refusal, shown_by

Run = Callable[..., Any]
Refused = Callable[..., str]
Serve = Callable[..., contextlib.AbstractContextManager[int]]


@pytest.fixture
def serve() -> Serve:
    """A context manager that serves TLS with a certificate on a loopback port; with *by_name* it chooses by SNI."""

    @contextlib.contextmanager
    def serving(certificate: Certificate, by_name: dict[str, Certificate] | None = None) -> Iterator[int]:
        contexts = {}
        for name, each in ((None, certificate), *(by_name or {}).items()):
            contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            each.configure(contexts[name])

        def choose(connection: Any, name: str | None, _context: object) -> None:
            connection.context = contexts.get(name, contexts[None])

        contexts[None].sni_callback = choose
        listener = socket.create_server(("127.0.0.1", 0))

        def accept() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), plain:
                    plain.settimeout(5)
                    with contexts[None].wrap_socket(plain, server_side=True) as secured:
                        secured.recv(1)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(10)

    return serving


def verdicts(*arguments: Any, **options: Any) -> dict[str, str]:
    return {finding.rule: finding.verdict.value for finding in verify(*arguments, **options)}


def parts(certificate: Certificate) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(certificate.certificate_pem)


@pytest.mark.parametrize("intermediate", [False, True])
def test_what_is_right_verifies(*, intermediate: bool, now: dt.datetime) -> None:
    """A server under its name and a client pass every line, with and without an issuing CA."""
    authority = Authority.create(intermediate=intermediate, now=now)
    server = authority.server("mqtt1.example.com", "*.hall.example", "10.0.0.1", now=now)
    for name in ("mqtt1.example.com", "a.hall.example", "10.0.0.1", "MQTT1.example.com"):
        found = verdicts(parts(server), [authority.root], name=name, now=now)
        assert found == {"dates": "pass", "purpose": "pass", "name": "pass", "chain": "pass"}
    client = authority.client("press-7", now=now)
    assert verdicts(parts(client), [authority.root], purpose="client", now=now) == dict.fromkeys(
        ("dates", "purpose", "chain"), "pass"
    )
    assert verdicts(parts(server), [authority.root], now=now)["name"] == "warn"


def test_what_is_wrong_does_not_verify(now: dt.datetime) -> None:
    """Each of dates, name, purpose and chain fails on its own line."""
    authority = Authority.create(intermediate=True, now=now)
    server = authority.server("mqtt1.example.com", now=now)
    right = {"dates": "pass", "purpose": "pass", "name": "pass", "chain": "pass"}
    options: dict[str, Any] = {"name": "mqtt1.example.com", "now": now}
    trusted = [authority.root]
    assert verdicts(parts(server), trusted, **options) == right
    assert verdicts(parts(server), trusted, **options | {"name": "a.example"}) == right | {"name": "fail"}
    late = now + dt.timedelta(days=91)
    assert verdicts(parts(server), trusted, **options | {"now": late}) == right | {"dates": "fail", "chain": "fail"}
    early = now - dt.timedelta(days=1)
    assert verdicts(parts(server), trusted, **options | {"now": early}) == right | {"dates": "fail", "chain": "fail"}
    assert verdicts([server.leaf], trusted, **options) == right | {"chain": "fail"}
    assert verdicts(parts(server), [Authority.create(now=now).root], **options) == right | {"chain": "fail"}
    as_client = verdicts(parts(server), trusted, purpose="client", now=now)
    assert as_client == {"dates": "pass", "purpose": "fail", "chain": "pass"}
    client = authority.client("press-7", now=now)
    assert verdicts(parts(client), trusted, **options)["purpose"] == "fail"


def test_name_constraints_count_in_verification(now: dt.datetime) -> None:
    """A leaf outside of its issuer's name constraints, made by force, does not verify."""
    free = Authority.create(intermediate=True, permitted=["example.com"], now=now)
    from switchgear_certs import profiles
    from switchgear_certs.keys import KeyType
    from switchgear_certs.lifetimes import lifetime
    from switchgear_certs.names import server_name

    leaf = profiles.server(
        KeyType.P256.make().public_key(),
        names=[server_name("a.example.org")],
        issuer=free.certificate,
        issuer_key=free.key,
        lifetime=lifetime(1, default=1, now=now),
    )
    assert verdicts([leaf, free.certificate], [free.root], name="a.example.org", now=now)["chain"] == "fail"


def test_verify_command(run: Run, refused: Refused) -> None:
    """The command ends with 0 when every line passes, 1 when one fails, 2 when it cannot look."""
    run("init", "--intermediate")
    run("server", "mqtt1.example.com")
    run("client", "press-7")
    assert run("verify", "mqtt1.example.com", "--name", "mqtt1.example.com").code == 0
    wrong = run("verify", "certs/mqtt1.example.com.crt", "--name", "mqtt2.example.com", "--json")
    assert wrong.code == 1
    found = json.loads(wrong.out)
    assert found["ok"] is False
    assert {line["rule"]: line["verdict"] for line in found["findings"]}["name"] == "fail"
    assert run("verify", "press-7", "--purpose", "client").code == 0
    assert run("verify", "press-7").code == 1
    run("init", "--out", "other")
    assert run("verify", "mqtt1.example.com", "--ca", "other/ca.crt").code == 1
    assert "nothing to trust" in refused("verify", "certs/mqtt1.example.com.crt", "--out", "nowhere")
    assert "neither a file" in refused("verify", "missing.example")
    assert "cannot be read" in refused("verify", "mqtt1.example.com", "--ca", "missing.crt")
    assert "spaces" in refused("verify", "mqtt1.example.com", "--name", "a b")


def test_check_command(run: Run, refused: Refused) -> None:
    """Each rule is a line with verdict and source; the exit code is 1 when one fails and 2 when it cannot look."""
    run("init")
    run("server", "a.example.com", "b.example.com")
    ran = run("check", "aws-iot", "a.example.com", "--domain", "a.example.com")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert len(lines) == 22
    assert all(line.split()[0] in {"pass", "warn"} and line.endswith("]") for line in lines[:-1])
    assert [line.split()[1] for line in lines if line.startswith("warn")] == ["validation-certificate"]
    wrong = run("check", "aws-iot", "certs/a.example.com.crt", "--domain", "b.example.com", "--json")
    assert wrong.code == 1
    failing = [line["rule"] for line in json.loads(wrong.out)["findings"] if line["verdict"] == "fail"]
    assert failing == ["names-cover-domain"]
    swapped = run("check", "aws-iot", "a.example.com", "--key", "certs/b.example.com.key")
    assert swapped.code == 1
    assert "fail  key-matches" in swapped.out
    assert "no certificate in PEM" in refused("check", "aws-iot", "certs/a.example.com.key")
    assert "neither a file" in refused("check", "aws-iot", "missing")


def test_inspect_a_file(run: Run, refused: Refused) -> None:
    """Inspection shows names, purpose, dates, key and fingerprint, the chain, and how it stands with AWS IoT."""
    run("init", "--intermediate", "--permit", "example.com")
    run("server", "mqtt1.example.com")
    found = json.loads(run("inspect", "mqtt1.example.com", "--json").out)
    assert found["names"] == ["mqtt1.example.com"]
    assert found["purposes"] == ["server"]
    assert found["key"] == "P-256"
    assert found["aws_iot"] == []
    assert 89 < found["days_left"] < 90
    assert found["needs_renewal"] is False
    assert [issuer["is_authority"] for issuer in found["issuers"]] == [True, True]
    assert found["issuers"][0]["permitted"] == ["example.com"]
    text = run("inspect", "certs/ca.crt").out
    assert "is authority   yes" in text
    assert "aws iot" not in text
    run("server", "x.example.com", "--days", "1")
    assert "no rule fails" in run("inspect", "x.example.com").out
    assert "no certificate in PEM" in refused("inspect", "certs/ca.key")
    assert "neither a file" in refused("inspect", "missing")


def test_a_live_endpoint(run: Run, refused: Refused, serve: Serve) -> None:
    """A live endpoint is inspected and verified under the name that is asked for, which SNI carries."""
    run("init", "--intermediate")
    run("server", "mqtt1.example.com", "mqtt2.example.com")
    one, two = (Files("certs").certificate(name) for name in ("mqtt1.example.com", "mqtt2.example.com"))
    with serve(one, {"mqtt2.example.com": two}) as port:
        place = f"127.0.0.1:{port}"
        assert json.loads(run("inspect", place, "--json").out)["names"] == ["mqtt1.example.com"]
        named = json.loads(run("inspect", place, "--name", "mqtt2.example.com", "--json").out)
        assert named["names"] == ["mqtt2.example.com"]
        assert len(named["issuers"]) == 2
        assert run("verify", place, "--name", "mqtt2.example.com").code == 0
        wrong = run("verify", place, "--name", "mqtt3.example.com")
        assert wrong.code == 1
        assert "fail  handshake" in wrong.out
        assert "fail  name" in wrong.out
        run("init", "--out", "other")
        assert run("verify", place, "--name", "mqtt1.example.com", "--out", "other").code == 1
        assert run("verify", place, "--name", "mqtt1.example.com", "--out", "nowhere").code == 1
        assert run("needs-renewal", place).code == 1
        assert "is for files" in refused("verify", place, "--purpose", "client")
        assert "no certificate" in refused("verify", place, "--ca", "certs/ca.key")


def test_endpoints_that_do_not_answer(refused: Refused) -> None:
    """A closed port, a port that speaks no TLS, one that hangs up and a name that is none end with one line."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert "refused" in refused("inspect", f"127.0.0.1:{port}")
    with _answering(b"MQTT, and no TLS\r\n") as port:
        assert "no TLS handshake" in refused("inspect", f"127.0.0.1:{port}")
    with _answering(b"") as port:
        refused("verify", f"127.0.0.1:{port}", "--name", "a.example")
    with _answering(None) as port:
        assert "in time" in refused("inspect", f"127.0.0.1:{port}", "--timeout", "0.2")
    assert "no host name" in refused("inspect", "a" * 64 + ".example:8883")
    assert "neither a file" in refused("inspect", "a.example:99999")


@contextlib.contextmanager
def _answering(data: bytes | None) -> Iterator[int]:
    """A loopback port that answers with *data* and hangs up; None answers nothing."""
    done = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            plain, _ = listener.accept()
            with plain:
                if data is None:
                    done.wait(10)
                else:
                    plain.sendall(data)
                    plain.recv(4096)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        thread.join(10)
        listener.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example:8883", ("a.example", 8883)),
        ("[::1]:1", ("::1", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("a.example", None),
        ("a.example:0", None),
        ("a.example:65536", None),
        ("::1:8883", None),
        ("a b:1", None),
        ("a/b:1", None),
    ],
)
def test_places(text: str, expected: tuple[str, int] | None) -> None:
    """A host and a port are told from file names and from half of one."""
    found = place(text)
    assert (None if found is None else (found.host, found.port)) == expected
    if found is not None:
        assert str(found) == text


def test_live_answers(serve: Serve, tmp_path: Path) -> None:
    """What an endpoint shows and why it is refused can be asked from Python."""
    authority = Authority.create(intermediate=True)
    Files(tmp_path).save(authority)
    with serve(authority.server("a.example")) as port:
        where = place(f"127.0.0.1:{port}")
        assert where is not None
        assert shown_by(where)[0].subject.rfc4514_string() == "CN=a.example"
        assert refusal(where, name="a.example", ca_file=tmp_path / "ca.crt") is None
        reason = refusal(where, name="b.example", ca_file=tmp_path / "ca.crt")
        assert reason is not None
        assert "mismatch" in reason
    with pytest.raises(Unreachable):
        shown_by(where, timeout=1)
    with pytest.raises(CertsError):
        refusal(where, name="a.example", ca_file=tmp_path / "ca.key")


@pytest.mark.parametrize("command", ["inspect", "verify", "needs-renewal"])
def test_a_certificate_does_not_write_on_the_terminal(command: str, run: Run, authority: Authority) -> None:
    """Control characters in a subject, which a stranger's server may show, are escapes: no colours, no lines of its own."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x1b[31m\npass  chain  \u202e")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = authority.root.not_valid_before_utc
    builder = x509.CertificateBuilder(name, name, key.public_key(), 0x5EED, now, now + dt.timedelta(days=9))
    Path("odd.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    run("init")
    ran = run(command, "odd.crt")
    assert ran.code in {0, 1}
    assert all(line.isprintable() for line in ran.out.splitlines())
    assert "pass  chain" not in {line[:11] for line in ran.out.splitlines()}
    json.loads(run(command, "odd.crt", "--json").out.encode("ascii"))


def test_a_serial_number_that_none_may_have(run: Run, authority: Authority) -> None:
    """An old device's negative serial number is no warning of a library, with lines of its source."""
    der = authority.server("a.example").leaf.public_bytes(Encoding.DER)
    serial = der.index(b"\x02\x14") if b"\x02\x14" in der[:20] else der.index(b"\x02\x13")
    Path("odd.crt").write_text(ssl.DER_cert_to_PEM_cert(der[: serial + 2] + b"\x80" + der[serial + 3 :]))
    ran = run("inspect", "odd.crt")
    assert (ran.code, ran.err) == (0, "")
    assert "serial         -" in ran.out


def test_a_damaged_certificate_of_an_endpoint() -> None:
    """What an endpoint shows and nobody can read is named by the endpoint."""
    with pytest.raises(CertsError, match=r"a\.example:8883 holds a damaged certificate"):
        chain.load_der([b"0\x03\x02\x01\x05"], where="a.example:8883")


@pytest.mark.parametrize("timeout", ["inf", "1e30", "nan", "0"])
def test_timeouts_that_are_none(timeout: str, run: Run) -> None:
    """A timeout that no socket takes is wrong usage."""
    ran = run("inspect", "127.0.0.1:1", "--timeout", timeout)
    assert ran.code == 2
    assert "Invalid value for '--timeout'" in ran.err


def test_needs_renewal_command(run: Run, refused: Refused, now: dt.datetime) -> None:
    """0 means that one of them is due, 1 that none is, 2 that it could not be found out."""
    run("init")
    run("server", "a.example", "--days", "90")
    Files("certs").save(
        Authority.create(now=now.replace(year=2020)).server("expired.example", now=now.replace(year=2020))
    )
    assert run("needs-renewal", "a.example").code == 1
    assert run("needs-renewal", "a.example", "--within", "89").code == 1
    assert run("needs-renewal", "a.example", "--within", "91").code == 0
    ran = run("needs-renewal", "a.example", "expired.example", "--json")
    assert ran.code == 0
    rows = json.loads(ran.out)["certificates"]
    assert [row["needs_renewal"] for row in rows] == [False, True]
    assert rows[1]["days_left"] < 0
    assert "neither a file" in refused("needs-renewal", "missing.example")
    assert "no certificate" in refused("needs-renewal", "a.example", "certs/ca.key")


def test_needs_renewal_after_two_thirds(now: dt.datetime) -> None:
    """Without a threshold it is time when less than a third of the life is left."""
    leaf = Authority.create(now=now).server("a.example", days=90, now=now).leaf
    turn = leaf.not_valid_after_utc - dt.timedelta(days=30)
    assert not needs_renewal(leaf, turn)
    assert needs_renewal(leaf, turn + dt.timedelta(seconds=1))
    assert not needs_renewal(leaf, turn, within_days=10)
    assert needs_renewal(leaf, leaf.not_valid_after_utc - dt.timedelta(days=9), within_days=10)


def test_verdicts_are_three() -> None:
    """A finding passes, warns or fails."""
    assert [verdict.value for verdict in Verdict] == ["pass", "warn", "fail"]
