"""A file of permissions on the real pair: each right does what the file says; and the drill that kills the active broker."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import switchgear
from switchgear.cli.app import main
from switchgear.testing.processes import ActiveMQPair, Relay, TlsFiles
from switchgear_activemq.amazon_mq import broker_xml
from switchgear_activemq.amazon_mq.permissions import EXAMPLE
from switchgear_activemq.amazon_mq.permissions_file import parse

PERMISSIONS = """
topics = ["made/at/start"]

[users.admin]
groups = ["admins"]
password = "admin-secret-1"
[users.publisher]
groups = ["publishers"]
password = "publisher-secret-1"
[users.subscriber]
groups = ["subscribers"]
password = "subscriber-secret-1"

[groups.admins]
admin = true
[groups.publishers]
publish = ["both/#", "old/+", "one/+/x", "made/at/start", "wills/mine"]
create = ["both/#", "one/+/x", "wills/mine"]
[groups.subscribers]
subscribe = ["both/#", "old/+", "one/+/x", "made/at/start", "sub/new", "sub/create"]
create = ["sub/create"]

[purge]
inactive_s = 2
every_s = 1
keep = ["both/kept", "old/#"]
"""

PASSWORDS = {"admin": "admin-secret-1", "publisher": "publisher-secret-1", "subscriber": "subscriber-secret-1"}

EXISTING = ("old/1", "old/1/deep", "both/old", "secret/old", "one/a/x", "one/a/y")
"""Topics that the administrator has made before the others try."""

PUBLISH = [
    ("admin", "anything/new", True),  # admin = true: everything
    ("publisher", "both/new", True),  # may publish and create
    ("publisher", "both", True),  # # takes the level above too, as in MQTT
    ("publisher", "both/a/b/c", True),
    ("publisher", "old/1", True),  # may publish; somebody else made it
    ("publisher", "old/new", False),  # may publish, but not create
    ("publisher", "old/1/deep", False),  # + is one level
    ("publisher", "one/a/x", True),
    ("publisher", "one/b/x", True),
    ("publisher", "one/a/y", False),
    ("publisher", "made/at/start", True),  # the broker made it
    ("publisher", "secret/old", False),
    ("publisher", "secret/new", False),
    ("publisher", "sub/create", False),
    ("subscriber", "both/old", False),  # may read, not write
    ("subscriber", "sub/create", False),  # may create, not write
    ("subscriber", "secret/old", False),
]
"""Who, where to, and whether it arrives."""

SUBSCRIBE = [
    ("admin", "#", True),
    ("admin", "anything/else", True),
    ("subscriber", "both/#", True),
    ("subscriber", "both/old", True),
    ("subscriber", "both/+", True),  # within what is allowed
    ("subscriber", "both/later/#", True),
    ("subscriber", "#", False),  # wider than what is allowed
    ("subscriber", "one/#", False),
    ("subscriber", "one/+/x", True),
    ("subscriber", "one/a/x", True),
    ("subscriber", "one/a/y", False),
    ("subscriber", "old/1", True),
    ("subscriber", "old/1/deep", False),
    ("subscriber", "made/at/start", True),
    ("subscriber", "sub/new", False),  # may read, but does not exist and may not be created
    ("subscriber", "sub/create", True),  # may be created
    ("subscriber", "secret/old", False),
    ("subscriber", "secret/#", False),
    ("publisher", "both/old", False),  # may write, not read
    ("publisher", "both/#", False),
    ("publisher", "secret/old", False),
    ("publisher", "#", False),
    ("publisher", "+/#", False),
    ("publisher", "+/+", False),  # granted to anybody who may read the broker's own topics
    ("publisher", "+", False),
    ("publisher", "ActiveMQ/#", False),
]
"""Who, what, and whether it is granted."""

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, require_brokers: Callable[[str], None]) -> Iterator[ActiveMQPair]:
    """A real pair under `PERMISSIONS`, with the topics of `EXISTING`."""
    require_brokers("activemq")
    permissions = parse(PERMISSIONS, Path("permissions.toml"))
    folder = tmp_path_factory.mktemp("amazon-mq")
    with ActiveMQPair(folder, users=PASSWORDS, configuration=broker_xml.local(permissions)) as started:
        with connect(started, "admin", "maker") as admin:
            # Each has a subscription, so that the purge of this file leaves it alone.
            for topic in EXISTING:
                admin.subscribe(topic, lambda _message: None, qos=1).wait_ready(30)
        yield started


def connect(pair: ActiveMQPair, user: str, client_id: str, **options: object) -> switchgear.Transport:
    """A transport of *user*."""
    return switchgear.connect(
        pair.failover_uri, client_id=client_id, username=user, password=PASSWORDS[user], **options
    )


def wait_until(is_met: Callable[[], bool], why: Callable[[], str], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not is_met():
        assert time.monotonic() < deadline, why()
        time.sleep(0.005)


@pytest.mark.parametrize(("user", "topic", "arrives"), PUBLISH)
def test_publish(pair: ActiveMQPair, user: str, topic: str, arrives: bool) -> None:  # noqa: FBT001 - a table
    """A publish arrives exactly where the file allows it; a refused one is acknowledged and does not."""
    heard: list[tuple[str, str]] = []
    with (
        connect(pair, "admin", "listener", session="clean") as listener,
        connect(pair, user, f"{user}-writes") as writer,
    ):
        listener.subscribe("#", lambda message: heard.append((message.topic, message.text)), qos=1).wait_ready(30)
        mark = f"{user} {time.monotonic_ns()}"
        writer.publish(topic, mark, qos=1).wait(30)
        listener.publish("anything/after", mark, qos=1).wait(30)  # what was sent before it has come when this comes
        wait_until(lambda: ("anything/after", mark) in heard, listener.explain)
    assert ((topic, mark) in heard) is arrives


@pytest.mark.parametrize(("user", "topic_filter", "is_granted"), SUBSCRIBE)
def test_subscribe(pair: ActiveMQPair, user: str, topic_filter: str, is_granted: bool) -> None:  # noqa: FBT001 - a table
    """A subscription is granted exactly where the file allows it, and else refused with SUBACK 0x80."""
    with connect(pair, user, f"{user}-reads", session="clean") as reader:
        subscription = reader.subscribe(topic_filter, lambda _message: None, qos=1)
        if is_granted:
            subscription.wait_ready(30)
            return
        with pytest.raises(switchgear.SubscriptionRefused) as caught:
            subscription.wait_ready(30)
        assert caught.value.reason_code == 0x80


def test_a_plus_hears_what_is_allowed(pair: ActiveMQPair) -> None:
    """A subscription with + that reaches beyond what is allowed hears, of the topics that exist, the allowed ones only."""
    heard: list[str] = []
    with connect(pair, "subscriber", "plus", session="clean") as reader, connect(pair, "admin", "plus-admin") as admin:
        reader.subscribe("+/old", lambda message: heard.append(message.topic), qos=1).wait_ready(30)
        for topic in ("secret/old", "both/old"):
            admin.publish(topic, "x").wait(30)
        wait_until(lambda: "both/old" in heard, reader.explain)
    assert heard == ["both/old"]


@pytest.mark.parametrize(("topic", "comes"), [("wills/mine", True), ("wills/other", False)])
def test_wills(pair: ActiveMQPair, relay: Callable[[int], Relay], topic: str, comes: bool) -> None:  # noqa: FBT001 - a table
    """A will needs the rights of a publish by its client: an allowed one comes, a forbidden one does not."""
    heard: list[str] = []
    will = switchgear.Will(topic=topic, payload=b"gone", qos=1)
    active = pair.wait_active(30)
    way, log = relay(pair.ports[active]), pair.log_files[active]
    size = len(log.read_text(errors="replace"))
    who = {"username": "publisher", "password": PASSWORDS["publisher"]}
    with connect(pair, "admin", "heir", session="clean") as heir:
        heir.subscribe("#", lambda message: heard.append(message.topic), qos=1).wait_ready(30)
        where = f"failover:({way.uri.replace('mqtt:', 'tcp:')})"
        with switchgear.connect(where, client_id="mortal", will=will, **who) as mortal:
            mortal.wait_connected(30)
            way.down()
        if not comes:  # the broker has looked at it: it logs the refusal, sometimes without its reason
            looked = re.compile(
                r"client:mortal connection:.*\n(?:.*\n)*?.*(?:Async error occurred|not authorized to write)"
            )
            wait_until(lambda: looked.search(log.read_text(errors="replace"), size) is not None, heir.explain)
            heir.publish("anything/after", "x").wait(30)
        wait_until(lambda: (topic if comes else "anything/after") in heard, heir.explain)
    assert (topic in heard) is comes


def test_what_is_kept(pair: ActiveMQPair) -> None:
    """The purge removes a topic that nobody uses, with its retained message, and leaves those that are to be kept."""
    with connect(pair, "admin", "keeper") as admin:
        for topic in ("both/kept", "anything/purged"):
            admin.publish(topic, "retained", retain=True).wait(30)
    log = pair.log_files[pair.wait_active(30)]
    wait_until(lambda: "anything.purged Inactive" in log.read_text(errors="replace"), lambda: "nothing was purged")
    heard: list[str] = []
    with connect(pair, "admin", "late", session="clean") as late:
        for topic in ("anything/purged", "both/kept"):
            late.subscribe(topic, lambda message: heard.append(message.topic), qos=1).wait_ready(30)
        wait_until(lambda: "both/kept" in heard, late.explain)
    assert heard == ["both/kept"]


def test_after_a_take_over(pair: ActiveMQPair) -> None:
    """After a fail-over whoever comes first is let in, and the map still holds."""
    pair.wait_standby(60)
    pair.start_broker(pair.kill_active())
    pair.wait_active(60)
    heard: list[str] = []
    with connect(pair, "subscriber", "first") as reader, connect(pair, "publisher", "second") as writer:
        reader.subscribe("both/#", lambda message: heard.append(message.topic), qos=1).wait_ready(60)
        writer.publish("secret/old", "x").wait(60)
        writer.publish("both/over", "x").wait(60)
        wait_until(lambda: "both/over" in heard, reader.explain)
        with pytest.raises(switchgear.SubscriptionRefused):
            reader.subscribe("secret/old", lambda message: heard.append(message.topic)).wait_ready(30)
    assert "secret/old" not in heard


def test_a_configuration_says_itself_what_speaks_tls(tmp_path: Path, tls_files: TlsFiles) -> None:
    """TLS files beside a configuration of one's own are refused: they would silently change nothing."""
    with pytest.raises(ValueError, match="leave out `tls`"):
        ActiveMQPair(tmp_path, configuration="<beans/>", tls=tls_files)


def test_the_drill(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], require_brokers: Callable[[str], None]
) -> None:
    """`drill --local` starts a real pair under the example's permissions, kills the active broker, and loses nothing."""
    require_brokers("activemq")
    file = tmp_path / "permissions.toml"
    file.write_text(re.sub(r"(\[users.*\])", r'\1\npassword = "correct-horse"', EXAMPLE), encoding="utf-8")
    code = main(["activemq", "drill", "--local", "--permissions", str(file), "--topic", "orders/drill", "--settle", "1", "--json"])  # fmt: skip
    out, err = capfdbinary.readouterr()
    told = json.loads(out)
    assert (code, err) == (0, b"")
    assert (told["lost"], told["unfinished"]) == (0, None)
    assert told["accepted"] == told["arrived"] > 50
    assert all(told[side]["outages"] for side in ("publisher", "subscriber"))


def test_every_user_of_the_drill_is_known(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], require_brokers: Callable[[str], None]
) -> None:
    """A user that the file of permissions does not have is refused before a broker is started."""
    require_brokers("activemq")
    file = tmp_path / "permissions.toml"
    file.write_text(re.sub(r"(\[users.*\])", r'\1\npassword = "correct-horse"', EXAMPLE), encoding="utf-8")
    code = main(["activemq", "drill", "--local", "--permissions", str(file), "--username", "nobody"])
    assert code == 2
    assert b"'nobody' is no user of the pair; users: admin, publisher, subscriber" in capfdbinary.readouterr().err
