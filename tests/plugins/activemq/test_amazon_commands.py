"""The commands `broker-xml`, `template` and `drill`, as one types them."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, TypeAlias

import pytest
import switchgear_activemq.amazon_mq.drill as drill_module
import switchgear_activemq.amazon_mq.targets as targets_module
from attrs import frozen
from switchgear.cli.app import main
from switchgear.testing import ThreadedBroker, ThreadedPair
from switchgear.testing.processes import BrokerMissing
from switchgear_activemq.amazon_mq import broker_xml, commands, template
from switchgear_activemq.amazon_mq.permissions import EXAMPLE
from switchgear_activemq.amazon_mq.permissions_file import example

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from switchgear_activemq.amazon_mq.drill import DrillPlan

Run: TypeAlias = "Callable[..., tuple[int, str, str]]"


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``switchgear activemq`` with arguments."""
    for name in ("SWITCHGEAR_USERNAME", "SWITCHGEAR_PASSWORD"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["activemq", *arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The example in a file."""
    path = tmp_path / "permissions.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    return path


def test_broker_xml(run: Run, file: Path) -> None:
    """The configuration goes to standard output, and nothing else; the example is what --example writes."""
    assert run("broker-xml", "--example") == (0, EXAMPLE, "")
    assert run("broker-xml", str(file)) == (0, broker_xml.amazon(example()), "")


def test_notes_go_to_standard_error(run: Run, file: Path) -> None:
    """What may surprise is told beside the configuration, by both commands that read the file."""
    file.write_text(EXAMPLE.replace("create", "# create"), encoding="utf-8")
    for command in ("broker-xml", "template"):
        code, out, err = run(command, str(file))
        assert (code, len(err.splitlines())) == (0, 2)
        assert err.startswith("switchgear: group publishers: publisher may publish to orders/# and not create it")
        assert "switchgear:" not in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("broker-xml",), "give FILE or --example"),
        (("broker-xml", "{file}", "--example"), "give FILE or --example"),
        (("broker-xml", "{file}.no"), "No such file or directory"),
        (("broker-xml", "{file}", "--local"), "users.admin.password: a local broker needs it"),
        (("template", "{file}.no"), "No such file or directory"),
        (("drill",), "give --broker-id ID or --local, and not both"),
        (("drill", "--local", "--broker-id", "b-1"), "give --broker-id ID or --local, and not both"),
        (("drill", "--broker-id", "b-1", "--permissions", "{file}"), "--permissions goes with --local"),
        (("drill", "--local", "--endpoint", "mqtt://h"), "--local says where; leave out --endpoint and --profile"),
        (("drill", "--local", "--protocol", "5"), "ActiveMQ 5 closes connections of MQTT 5; with --local leave out"),
        (("drill", "--local", "--outbox", "{file}"), "a drill has its own clients and sessions; leave out --outbox"),
        (("drill", "--local", "--client-id", "me"), "leave out --client-id"),
        (("drill", "--local", "--topic", "a/#"), "a message cannot be published to a wildcard"),
        (("drill", "--local", "--permissions", "{file}"), "users.admin.password: a local broker needs it"),
    ],
)
def test_wrong_usage(run: Run, file: Path, arguments: tuple[str, ...], says: str) -> None:
    """Wrong usage ends with exit code 2 and a line that says what is wrong."""
    code, out, err = run(*(argument.format(file=file) for argument in arguments))
    assert (code, out) == (2, "")
    assert says in " ".join(err.replace("│", " ").split())


def test_template(run: Run, file: Path) -> None:
    """The template goes to standard output; without a file it is the example's."""
    expected = (0, template.template(example()), "")
    assert run("template") == expected
    assert run("template", str(file)) == expected


def test_local_without_activemq(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ActiveMQ is not installed, --local says what to install."""

    def missing(*_: object, **__: object) -> None:
        raise BrokerMissing("install the Debian packages activemq")

    monkeypatch.setattr("switchgear.testing.processes.ActiveMQPair", missing)
    code, _, err = run("drill", "--local")
    assert (code, err) == (2, "switchgear: option 'local': install the Debian packages activemq\n")


# A drill on a broker of Amazon MQ, played by an embedded pair. --------------------------------------------------------


@frozen
class FakeAmazonMq:
    """One broker, RUNNING or not; a reboot makes the embedded pair change sides."""

    pair: ThreadedPair
    state: str = "RUNNING"
    region: str = "eu-west-1"
    name: str = "press"

    def describe_broker(self, broker_id: str) -> dict[str, object]:
        instances = [{"Endpoints": ["mqtt+ssl://b-1.mq.example.com:8883"]}]
        about = {"BrokerId": broker_id, "BrokerName": self.name, "EngineType": "ACTIVEMQ", "BrokerInstances": instances}
        return {**about, "BrokerState": self.state}

    def reboot_broker(self, _broker_id: str) -> None:
        self.pair.take_over()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> ThreadedPair:
    """An embedded pair that Amazon MQ's fake reboots; a quick reboot is believed soon."""
    monkeypatch.setattr(targets_module, "SLOW_START", 0.1)
    monkeypatch.setattr(targets_module, "LOOK", 0.05)
    monkeypatch.setattr(drill_module, "WARM_UP", 0.3)
    return ThreadedPair()


def options(pair: ThreadedPair) -> list[str]:
    where = f"failover:({','.join(pair.uris)})"
    return ["drill", "--broker-id", "b-1", "--endpoint", where, "--rate", "100", "--settle", "0.2"]


def test_drill_on_a_broker(run: Run, pair: ThreadedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill with --yes reboots the broker through Amazon MQ's API, loses nothing, and writes one JSON object."""
    with pair:
        monkeypatch.setattr(commands, "amazon_mq", lambda _region: FakeAmazonMq(pair))
        code, out, err = run(*options(pair), "--yes", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["deed"] == "rebooted b-1 in eu-west-1"
    assert (told["lost"], told["unfinished"]) == (0, None)
    assert told["accepted"] == told["arrived"] > 50
    assert len(told["publisher"]["outages"]) == len(told["subscriber"]["outages"]) == 1


def test_every_event(run: Run, pair: ThreadedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --events every decision of both sides goes to standard error."""
    with pair:
        monkeypatch.setattr(commands, "amazon_mq", lambda _region: FakeAmazonMq(pair))
        code, _, err = run(*options(pair), "--yes", "--json", "--events")
    assert code == 0
    assert len([line for line in err.splitlines() if line.startswith("switchgear: connected to")]) >= 4


def test_ledger_on_a_pipe(run: Run, pair: ThreadedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pipe the ledger is printed at the end, without escape sequences."""
    with pair:
        monkeypatch.setattr(commands, "amazon_mq", lambda _region: FakeAmazonMq(pair))
        code, out, err = run(*options(pair), "--yes")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert out.endswith("Every accepted message arrived.\n")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("RUNNING", "nobody can be asked here whether to reboot the broker; give --yes"),
        ("REBOOT_IN_PROGRESS", "broker b-1 (press) is REBOOT_IN_PROGRESS; a drill begins with one that is RUNNING"),
    ],
)
def test_a_broker_that_is_not_rebooted(
    run: Run, pair: ThreadedPair, monkeypatch: pytest.MonkeyPatch, state: str, says: str
) -> None:
    """Without --yes nothing is rebooted where nobody can be asked; and a broker that is not running is left alone."""
    with pair:
        before = pair.active
        monkeypatch.setattr(commands, "amazon_mq", lambda _region: FakeAmazonMq(pair, state))
        monkeypatch.setattr("sys.stdin", io.StringIO())
        code, out, err = run(*options(pair))
        assert pair.active is before
    assert (code, out) == (2, "")
    assert says in err


class Terminal(io.StringIO):
    """Standard input where somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("", 1), ("y\n", 0)])
def test_it_asks_first(run: Run, pair: ThreadedPair, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    """On a terminal the reboot is asked for by name and region, as text, and anything but yes reboots nothing."""
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with pair:
        before = pair.active
        monkeypatch.setattr(commands, "amazon_mq", lambda _region: FakeAmazonMq(pair, name="press\x1b[1A"))
        ended, _, err = run(*options(pair), "--json")
        assert (pair.active is before) is (code != 0)
    assert ended == code
    assert r"Reboot the broker press\x1b[1A (b-1) in eu-west-1? All its clients are disconnected. [y/N]" in err


def test_refused_credentials(run: Run, pair: ThreadedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill whose credentials are refused strikes nothing and ends with exit code 3, without the password."""
    monkeypatch.setattr(commands, "amazon_mq", lambda _region: FakeAmazonMq(pair))
    monkeypatch.setenv("PW", "not-this-one")
    with pair, ThreadedBroker(users={"u": "right"}) as broker:
        where = ["--endpoint", f"failover:({broker.uri})", "--username", "u", "--password-env", "PW"]
        before = pair.active
        code, out, err = run("drill", "--broker-id", "b-1", "--yes", *where)
        assert pair.active is before
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert "not-this-one" not in err


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch, pair: ThreadedPair) -> list[DrillPlan]:
    """The plans of drills, which are not run."""
    kept: list[DrillPlan] = []

    def keep(plan: DrillPlan, _target: object, **_: object) -> int:
        kept.append(plan)
        return 0

    monkeypatch.setattr(commands, "_run", keep)
    monkeypatch.setattr(commands, "amazon_mq", lambda _region: FakeAmazonMq(pair))
    return kept


def test_the_subscriber_may_be_somebody_else(
    run: Run, pair: ThreadedPair, plans: list[DrillPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--subscriber-username and its password are the subscriber's, and the other ones the publisher's."""
    monkeypatch.setenv("PW", "one")
    monkeypatch.setenv("OTHER", "two")
    mine = ("--username", "p", "--password-env", "PW")
    other = ("--subscriber-username", "s", "--subscriber-password-env", "OTHER")
    with pair:
        assert run("drill", "--broker-id", "b-1", "--yes", *mine, *other)[0] == 0
        assert run("drill", "--broker-id", "b-1", "--yes", *mine)[0] == 0
    who = [
        [
            (profile.username, profile.password and profile.password.reveal())
            for profile in (each.publisher, each.subscriber)
        ]
        for each in plans
    ]
    assert who == [[("p", b"one"), ("s", b"two")], [("p", b"one"), ("p", b"one")]]
    assert plans[0].publisher.where == ("failover:(ssl://b-1.mq.example.com:8883)",)


def test_a_profile_says_where(run: Run, pair: ThreadedPair, plans: list[DrillPlan], tmp_path: Path) -> None:
    """With --profile the clients connect as it says, and the broker's own endpoints are not asked for."""
    profile = tmp_path / "drill.toml"
    profile.write_text('where = "failover:(ssl://tunnel.example.com:8883)"\nusername = "me"\n', encoding="utf-8")
    with pair:
        assert run("drill", "--broker-id", "b-1", "--yes", "--profile", str(profile))[0] == 0
    assert plans[0].publisher.where == ("failover:(ssl://tunnel.example.com:8883)",)
    assert plans[0].subscriber.username == "me"
