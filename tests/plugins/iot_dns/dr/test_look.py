"""The checks of a target region: domain configuration, certificate, quotas, name servers, endpoints, clients."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from switchgear_iot_dns.dr import look, name_servers
from switchgear_iot_dns.dr.errors import AwsTrouble, InvalidPlanFile
from switchgear_iot_dns.dr.name_servers import DnsNameServers
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TWO, WEST

if TYPE_CHECKING:
    from switchgear_certs import Authority
    from switchgear_iot_dns.dr.plan import Check
    from switchgear_iot_dns.dr.testing import Bench


def checks(bench: Bench, what: str, mode: str = "west") -> list[tuple[str, str]]:
    """State and text of the checks of that kind for the first domain."""
    plan = bench.operations().plan(mode)
    return [(each.state, each.text) for each in plan.checks if each.what == what and ONE in each.where]


def of(told: dict[str, Any] | None, bench: Bench) -> list[tuple[str, str, str]]:
    operations = bench.operations()
    move = operations.world.decided("west").moves[0]
    found: list[Check] = list(look._of_configuration(told, "here", move, operations.world.aws, bench.clock.now()))
    return [(each.what, each.state, each.text) for each in found]


def test_a_configuration_is_found_by_its_domain(bench: Bench) -> None:
    """The domain configuration of another domain counts, or one that is there is not found."""
    assert checks(bench, "domain configuration") == [("ok", "mqtt1, ENABLED")]
    bench.aws.client("iot", WEST).delete_domain_configuration(domainConfigurationName="mqtt1")
    assert checks(bench, "domain configuration") == [("failed", "there is none")]


def test_a_configuration_is_found_by_its_name(bench: Bench) -> None:
    """A configuration that the plan file names is searched for, or one for another domain passes."""
    bench.write(**{f'domains."{ONE}"': 'configuration = "mqtt1"'})
    assert checks(bench, "domain configuration", "swapped") == [("ok", "mqtt1, ENABLED")]
    assert bench.aws.count("iot", r"GET /domainConfigurations/mqtt1") == 1
    bench.write(**{f'domains."{ONE}"': 'configuration = "mqtt2"'})
    assert checks(bench, "domain configuration") == [("failed", "it is for mqtt2.example.com")]
    bench.write(**{f'domains."{ONE}"': 'configuration = "other"'})
    assert checks(bench, "domain configuration") == [("failed", "there is none")]


def imported(bench: Bench, authority: Authority, *, days: int = 90) -> str:
    """The ARN of a certificate in the target region's ACM, named by the domain configuration there."""
    made = authority.server(ONE, days=days)
    arn = bench.aws.client("acm", WEST).import_certificate(Certificate=made.certificate_pem, PrivateKey=made.key_pem)
    iot = bench.aws.client("iot", WEST)
    iot.delete_domain_configuration(domainConfigurationName="mqtt1")
    iot.create_domain_configuration(
        domainConfigurationName="mqtt1", domainName=ONE, serverCertificateArns=[arn["CertificateArn"]]
    )
    return str(arn["CertificateArn"])


def test_the_certificate_is_looked_up(bench: Bench, authority: Authority) -> None:
    """The days that are left are not told, or a certificate that ends soon is not marked."""
    imported(bench, authority)
    ((state, text),) = checks(bench, "certificate")
    assert (state, text) in {("ok", "ISSUED, 89 days left"), ("ok", "ISSUED, 90 days left")}
    imported(bench, authority, days=3)
    ((state, text),) = checks(bench, "certificate")
    assert (state, text) in {("note", "ISSUED, 2 days left"), ("note", "ISSUED, 3 days left")}


def test_a_certificate_that_cannot_be_looked_up_is_unknown(bench: Bench, authority: Authority) -> None:
    """Without a permission for ACM the plan fails, or says that the certificate is fine."""
    imported(bench, authority)
    bench.aws.fail("acm", "AccessDeniedException", 403)
    ((state, text),) = checks(bench, "certificate")
    assert state == "unknown"
    assert "acm:DescribeCertificate" in text
    assert bench.operations().apply("west", Wishes()).code == 0


def test_an_expired_or_invalid_certificate_fails(bench: Bench, authority: Authority) -> None:
    """A certificate that AWS IoT calls invalid, or that has expired, passes."""
    certificate = {"serverCertificateArn": "arn:aws:acm:x:1:certificate/a", "serverCertificateStatus": "INVALID"}
    told = {
        "domainConfigurationName": "mqtt1",
        "domainConfigurationStatus": "ENABLED",
        "serverCertificates": [{**certificate, "serverCertificateStatusDetail": "no chain"}],
    }
    assert of(told, bench) == [
        ("domain configuration", "ok", "mqtt1, ENABLED"),
        ("certificate", "failed", "AWS IoT says INVALID: no chain"),
    ]
    imported(bench, authority)

    bench.clock.wait(100 * 86400, threading.Event())
    ((state, text),) = checks(bench, "certificate")
    assert (state, text.startswith("ACM says ISSUED, valid to ")) == ("failed", True)


def test_a_disabled_configuration_fails(bench: Bench) -> None:
    """A configuration that is DISABLED passes."""
    told = {"domainConfigurationName": "mqtt1", "domainConfigurationStatus": "DISABLED"}
    assert of(told, bench) == [("domain configuration", "failed", "it is DISABLED")]


def test_a_ca_file_that_cannot_be_read(bench: Bench) -> None:
    """A wrong ca_file is a failed handshake instead of a wrong plan file."""
    bench.write(handshake='ca_file = "none.pem"')
    with pytest.raises(InvalidPlanFile, match=r"handshake\.ca_file: .*none\.pem: No such file"):
        bench.operations().plan("west")


def test_a_target_that_is_silent_fails_in_time(bench: Bench) -> None:
    """A target that accepts and never answers holds the plan up."""
    from switchgear.testing import ThreadedBroker, ThreadedProxy

    with ThreadedBroker() as broker, ThreadedProxy(broker.uri) as proxy:
        proxy.blackhole()
        region = f'data_endpoint = "{bench.aws.url}"\nhandshake_to = "127.0.0.1:{proxy.port}"'
        bench.write(waits="handshake = 0.2", **{f"regions.{WEST}": region})
        assert checks(bench, "TLS handshake") == [("failed", "no answer in 0.2 s")]


def test_written_quotas_stand_in(bench: Bench) -> None:
    """The plan file's quotas are not used where AWS does not tell, or go before what AWS tells."""
    bench.more |= {
        f"regions.{region}": f"{bench_region(bench)}\nconnects_per_second = 7\ndisconnects_per_second = 6"
        for region in (EAST, WEST)
    }
    bench.write()
    plan = bench.operations().plan("west")
    assert (plan.connects, plan.disconnects) == ({WEST: 7.0}, {EAST: 6.0})
    bench.aws.quotas[WEST] = {"Connect requests per second per account": 300.0}
    assert bench.operations().plan("west").connects == {WEST: 300.0}


def bench_region(bench: Bench) -> str:
    return f'data_endpoint = "{bench.aws.url}"\nhandshake_to = "127.0.0.1:{bench.tls_port}"'


def test_the_index_is_read_to_its_end(bench: Bench) -> None:
    """Clients beyond the first page of the fleet index are missed."""
    bench.aws.index[EAST] = [f"press-{n}" for n in range(250)]
    bench.more[f'domains."{ONE}".clients'] = 'source = "index"'
    bench.write()
    plan = bench.operations().plan("west")
    assert plan.moves[0].clients == tuple(f"press-{n}" for n in range(250))


def test_the_index_that_is_denied_is_no_dead_region(bench: Bench) -> None:
    """A missing permission for the fleet index switches the records and leaves the clients."""
    from switchgear_iot_dns.dr.errors import MissingPermission

    bench.more[f'domains."{ONE}".clients'] = 'source = "index"'
    bench.write()
    bench.aws.fail("iot", "UnauthorizedException", 401, what="/indices/search")
    with pytest.raises(MissingPermission, match="iot:SearchIndex"):
        bench.operations().apply("west", Wishes())


def test_without_clients_only_records_change(bench: Bench) -> None:
    """A domain without a source of clients cannot be switched, or its plan does not say that nobody moves."""
    for name in (ONE, TWO):
        bench.more[f'domains."{name}".clients'] = ""
    bench.write()
    assert checks(bench, "clients") == [("note", "none named: nobody will be disconnected")]
    ended = bench.operations().apply("west", Wishes())
    assert (ended.code, ended.text) == (0, "mode west: done; no clients to disconnect")
    assert bench.aws.count("iotdata") == 0


def test_name_servers_may_be_left_alone(bench: Bench) -> None:
    """With authoritative = "off" somebody asks the name servers, or waits for them."""
    bench.dns.stop()
    bench.write(zone=f'id = "{bench.zone}"\nauthoritative = "off"')
    assert checks(bench, "name servers") == []
    assert bench.operations().apply("west", Wishes()).code == 0


def test_a_silent_name_server_is_no_agreement(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer, or is not authoritative, agrees."""
    monkeypatch.setattr(name_servers, "TIMEOUT", 0.5)
    bench.write(zone=f'id = "{bench.zone}"\nname_servers = ["{bench.dns.address}", "127.0.0.1:1"]')
    ((state, text),) = checks(bench, "name servers")
    assert (state, text) == ("failed", "1 of 2 name servers did not answer (127.0.0.1:1)")


def test_name_servers_are_asked_by_name_and_answer_for_the_name_alone(bench: Bench) -> None:
    """A name that has no CNAME, or does not exist, has a target."""
    bench.dns.set_a("plain.example.com", "127.0.0.1")
    servers = DnsNameServers([bench.dns.address])
    assert servers.ask("plain.example.com") == {bench.dns.address: ""}
    assert servers.ask(ONE.upper())[bench.dns.address] == json.loads(json.dumps(servers.ask(ONE)[bench.dns.address]))


def test_a_query_that_is_wrong_is_no_dead_region(bench: Bench) -> None:
    """A fleet index that refuses the query has the records switched, and the clients left."""
    bench.more[f'domains."{ONE}".clients'] = 'source = "index"\nquery = "what?"'
    bench.write()
    bench.aws.fail("iot", "InvalidQueryException", 400, what="/indices/search", message="no such query")
    with pytest.raises(AwsTrouble, match="SearchIndex of iot in us-east-1: InvalidQueryException: no such query"):
        bench.operations().apply("west", Wishes())
    assert bench.region_of(ONE) == EAST
