"""``switchgear doctor`` on the system's own resolver, in a private mount and network namespace, which needs root."""

import json
from pathlib import Path
from typing import Any

import pytest
from switchgear.testing.processes.regions import in_namespace, why_no_namespace

LAB = Path(__file__).with_name("doctor_lab.py")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the doctor said in each scenario of the lab."""
    why = why_no_namespace()
    if why is not None:
        pytest.skip(why)
    ended = in_namespace(LAB, str(tmp_path_factory.mktemp("doctor")), timeout=120)
    assert ended.returncode == 0, ended.stderr[-5000:]
    result: dict[str, dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return result


def test_all_is_well(said: dict[str, dict[str, Any]]) -> None:
    """getaddrinfo, the servers of resolv.conf and the zone's own server on port 53 agree, and everything passes."""
    seen = said["well"]
    assert seen["code"] == 0, seen
    assert seen["dns.answer"][1].startswith("mqtt1.example.test (east.iot.test): 127.0.0.1, in ")
    assert seen["dns.chain"][1] == "mqtt1.example.test -> east.iot.test (CNAME, TTL 0) -> 127.0.0.1 (TTL 60)"
    assert seen["dns.authority"][1] == "the name servers of example.test say the same (1 asked)"
    assert seen["mqtt.round_trip"][0] == "pass"


def test_a_stale_resolver(said: dict[str, dict[str, Any]]) -> None:
    """The zone's own server already says another target than this machine: a warning, and the connection is looked at."""
    seen = said["stale"]
    verdict, found, way_out = seen["dns.authority"]
    assert verdict == "warn"
    assert found.startswith(
        "this machine says east.iot.test, but the name servers of example.test say west.iot.test: stale"
    )
    assert "TTL" in way_out
    assert (seen["code"], seen["mqtt.round_trip"][0]) == (0, "pass")


@pytest.mark.parametrize(
    ("scenario", "answer", "chain"),
    [
        ("nxdomain", "there is no such name", "there is no such name (NXDOMAIN)"),
        ("servfail", "Temporary failure in name resolution", "SERVFAIL"),
        ("silent", "mqtt1.example.test: ", "no answer from 127.0.0.1:53"),
        ("loop", "mqtt1.example.test: ", "-> mqtt1.example.test (CNAME, TTL 0): a loop"),
    ],
)
def test_a_name_that_fails(said: dict[str, dict[str, Any]], scenario: str, answer: str, chain: str) -> None:
    """glibc's own words for each failure end in a failed line with a way out, and everything above is skipped."""
    seen = said[scenario]
    assert seen["code"] == 3
    for check, words in (("dns.answer", answer), ("dns.chain", chain)):
        verdict, found, way_out = seen[check]
        assert verdict == "fail"
        assert words in found
        assert way_out
    assert seen["mqtt.connect"][:2] == ["skip", "not checked: DNS answer failed"]
