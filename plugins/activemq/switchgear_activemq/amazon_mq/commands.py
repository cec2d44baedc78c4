"""The commands ``switchgear activemq endpoints``, ``broker-xml``, ``template`` and ``drill``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from attrs import evolve
from switchgear.cli.app import INTERRUPTED, OK, UNDELIVERED, paragraphs
from switchgear.cli.interrupts import Interrupts
from switchgear.cli.notes import Notes, write_note
from switchgear.cli.options import Connection, connecting
from switchgear.cli.output import as_json, write_line
from switchgear.cli.visible import visible
from switchgear.errors import InvalidOption
from switchgear.message import check_topic
from switchgear.profile import Profile
from switchgear.secrets import env

from switchgear_activemq.amazon_mq import broker_xml as xml
from switchgear_activemq.amazon_mq import template as cloud_formation
from switchgear_activemq.amazon_mq.aws import amazon_mq
from switchgear_activemq.amazon_mq.drill import Drill, DrillPlan, Target
from switchgear_activemq.amazon_mq.endpoints import Place, failover_uri, place
from switchgear_activemq.amazon_mq.permissions import EXAMPLE
from switchgear_activemq.amazon_mq.permissions_file import example, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from switchgear.testing.processes import ActiveMQPair

    from switchgear_activemq.amazon_mq.permissions import Permissions

BrokerId = Annotated[
    str | None,
    typer.Option("--broker-id", help="The broker's id on Amazon MQ, b-....", metavar="ID", show_default=False),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region", help="AWS region; default: the environment's or the profile's.", metavar="NAME", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object.")]

ENDPOINTS_EPILOG: Final = """
Needs boto3 (pip install 'switchgear-activemq[aws]') and the right mq:DescribeBroker. The URI goes wherever Switchgear takes one.

Exit codes: 0 it was written, 1 AWS did not answer, 2 there is no such broker, no right to see it, or no MQTT there.

Example: switchgear sub "$(switchgear activemq endpoints --broker-id b-1234)" 'orders/#'
"""

XML_EPILOG: Final = """
Notes on standard error tell what is allowed and may surprise. With --local the output holds the users' passwords; the
Java properties switchgear.port, switchgear.store and switchgear.data give each broker of a pair its own port and folders.

Exit codes: 0 it was written, 2 the file cannot be used.
"""

TEMPLATE_EPILOG: Final = """
The passwords are made in Secrets Manager, one secret for each user, and the broker reads them there. They are never in the text.

Exit codes: 0 it was written, 2 the file cannot be used.

Example: switchgear activemq template permissions.toml > pair.json
"""

DRILL_EPILOG: Final = """
A publisher and a subscriber of Switchgear run on a topic of their own while the broker is struck. The drill ends when
both lost their connection, came back and stayed for --settle seconds. Then the sessions that it made are removed.

With --broker-id the broker is rebooted: a pair changes sides, a single instance is away for minutes. It needs boto3, the rights
mq:DescribeBroker and mq:RebootBroker, and a user who may publish, subscribe and create on --topic. It asks first.
With --endpoint or --profile the clients connect there, for a broker that is reached through a tunnel.

With --local two ActiveMQ brokers are started on this machine on one store, and the active one is killed. It needs Java and
Debian's packages activemq and libmqtt-client-java. With --permissions they run under that file.

Exit codes: 0 nothing was lost, 1 something was lost, not everybody came back, or you said no, 2 wrong usage or configuration,
3 no connection and no hope of one, 130 interrupted.
"""


def endpoints(
    *,
    broker_id: Annotated[
        str, typer.Option("--broker-id", help="The broker's id on Amazon MQ, b-....", metavar="ID", show_default=False)
    ],
    region: Region = None,
    replica: Annotated[
        bool, typer.Option("--replica", help="Add the broker of the other region that data is replicated with (CRDR).")
    ] = False,
    json: Json = False,
) -> None:
    """Write the failover: URI of an Amazon MQ broker, with all its instances."""
    places = [_place(broker_id, region)]
    if replica:
        other = places[0].replica
        if other is None:
            raise InvalidOption("replica", f"broker {broker_id} has no counterpart in another region")
        places.append(_place(*other))
    uri = failover_uri(places)
    if json:
        write_line(as_json({"uri": uri, "brokers": [_facts(each) for each in places]}))
    else:
        write_line(uri.encode())


def _place(broker_id: str, region: str | None) -> Place:
    mq = amazon_mq(region)
    return place(mq.describe_broker(broker_id), region=mq.region)


def _facts(each: Place) -> dict[str, object]:
    return {
        "broker_id": each.broker_id,
        "name": each.name,
        "region": each.region,
        "state": each.state,
        "deployment": each.deployment,
        "endpoints": list(each.endpoints),
    }


def broker_xml(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="TOML file of permissions.", show_default=False)
    ] = None,
    *,
    local: Annotated[
        bool, typer.Option("--local", help="For an ActiveMQ of your own: with users, connector and store.")
    ] = False,
    example_: Annotated[bool, typer.Option("--example", help="Write an example of FILE instead.")] = False,
) -> None:
    """Write a broker's configuration: who may publish, subscribe and create what."""
    if (path is None) != example_:
        raise typer.BadParameter("give FILE or --example, not both or neither")
    if path is None:
        write_line(EXAMPLE.rstrip("\n").encode())
        return
    permissions = load(path)
    text = xml.local(permissions) if local else xml.amazon(permissions)
    _tell_notes(permissions)
    write_line(text.rstrip("\n").encode())


def template(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="TOML file of permissions; default: the example.", show_default=False),
    ] = None,
) -> None:
    """Write the CloudFormation template of an active-standby pair on Amazon MQ, as JSON."""
    permissions = example() if path is None else load(path)
    text = cloud_formation.template(permissions)
    if path is not None:
        _tell_notes(permissions)
    write_line(text.rstrip("\n").encode())


def _tell_notes(permissions: Permissions) -> None:
    for note in permissions.notes():
        write_note(note)


@connecting
def drill(
    connection: Connection,
    *,
    broker_id: BrokerId = None,
    region: Region = None,
    local: Annotated[bool, typer.Option("--local", help="Use two ActiveMQ brokers on this machine.")] = False,
    permissions: Annotated[
        Path | None,
        typer.Option(
            "--permissions", help="With --local: the TOML file they run under.", metavar="FILE", show_default=False
        ),
    ] = None,
    subscriber_username: Annotated[
        str | None,
        typer.Option(
            "--subscriber-username", help="Another user for the subscriber.", metavar="NAME", show_default=False
        ),
    ] = None,
    subscriber_password_env: Annotated[
        str | None,
        typer.Option(
            "--subscriber-password-env", help="Variable with that user's password.", metavar="NAME", show_default=False
        ),
    ] = None,
    topic: Annotated[str, typer.Option("--topic", help="Topic to publish to.")] = "switchgear/drill",
    rate: Annotated[float, typer.Option("--rate", help="Messages a second.", min=1, max=10000)] = 50.0,
    settle: Annotated[
        float, typer.Option("--settle", help="Seconds that both must stay connected at the end.", min=0)
    ] = 10.0,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait for that after the strike.", min=1)
    ] = 900.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a broker is rebooted.")] = False,
    json: Json = False,
) -> int:
    """Strike a broker under a publisher and a subscriber, and count what was lost."""
    if local == (broker_id is not None):
        raise typer.BadParameter("give --broker-id ID or --local, and not both")
    if permissions is not None and not local:
        raise typer.BadParameter("--permissions goes with --local")
    has_place = bool(connection.given["endpoint"] or connection.given["profile"])
    if local and has_place:
        raise typer.BadParameter("--local says where; leave out --endpoint and --profile")
    if local and connection.given["protocol"] == "5":
        raise typer.BadParameter("ActiveMQ 5 closes connections of MQTT 5; with --local leave out --protocol 5")
    for name in ("client_id", "outbox", "session"):
        if connection.given[name] is not None:
            raise typer.BadParameter(f"a drill has its own clients and sessions; leave out --{name.replace('_', '-')}")
    check_topic(topic)

    def run(target: Target, publisher: Profile, subscriber: Profile) -> int:
        plan = DrillPlan(
            publisher=evolve(publisher, client_id=None, outbox=None, session=None),  # what a profile's file may say
            subscriber=evolve(subscriber, client_id=None, outbox=None, session=None),
            topic=topic,
            rate=rate,
            settle=settle,
            timeout=timeout,
            on_event=Notes(everything=True) if connection.shows_events else None,
        )
        is_shown = sys.stderr.isatty() and not (json or connection.is_quiet or connection.shows_events)
        return _run(plan, target, is_shown=is_shown, as_json_=json)

    if broker_id is None:
        from switchgear_activemq.amazon_mq.targets import LocalPair

        users = (connection.given["username"] or "publisher", subscriber_username or "subscriber")
        with _local_pair(permissions, users) as pair:
            base, _ = connection.profile([pair.failover_uri])
            sides = [Profile.of(base, username=name, password=pair.users[name]) for name in users]
            return run(LocalPair(pair), *sides)
    target, uri = _amazon_target(broker_id, region, is_sure=yes, needs_uri=not has_place)
    publisher, _ = connection.profile([uri] if uri else [])
    changes = {
        "username": subscriber_username,
        "password": env(subscriber_password_env) if subscriber_password_env else None,
    }
    subscriber = Profile.of(publisher, **{name: value for name, value in changes.items() if value is not None})
    return run(target, publisher, subscriber)


def _amazon_target(broker_id: str, region: str | None, *, is_sure: bool, needs_uri: bool) -> tuple[Target, str | None]:
    """The broker to reboot, once the user is sure, and where it is."""
    from switchgear_activemq.amazon_mq.targets import AmazonBroker

    mq = amazon_mq(region)
    answer = mq.describe_broker(broker_id)
    state, name = answer.get("BrokerState"), answer.get("BrokerName")
    if state != "RUNNING":
        raise InvalidOption(
            "broker-id", f"broker {broker_id} ({name}) is {state}; a drill begins with one that is RUNNING"
        )
    uri = failover_uri([place(answer, region=mq.region)]) if needs_uri else None
    if not is_sure:
        if not sys.stdin.isatty():
            raise InvalidOption("yes", "nobody can be asked here whether to reboot the broker; give --yes")
        typer.confirm(
            visible(f"Reboot the broker {name} ({broker_id}) in {mq.region}? All its clients are disconnected."),
            abort=True,
            err=True,
        )
    return AmazonBroker(mq, broker_id), uri


@contextmanager
def _local_pair(permissions: Path | None, users: Iterable[str]) -> Iterator[ActiveMQPair]:
    """A local pair that runs and has *users*."""
    from switchgear.testing.processes import ActiveMQPair, BrokerMissing

    options: dict[str, Any] = {}
    if permissions is not None:
        wanted = load(permissions)
        options = {
            "users": {user.name: xml.password(user) for user in wanted.users},
            "configuration": xml.local(wanted),
        }
    with tempfile.TemporaryDirectory(prefix="switchgear-drill-") as folder:
        try:
            pair = ActiveMQPair(Path(folder), **options)
        except BrokerMissing as error:
            raise InvalidOption("local", str(error)) from None
        for name in users:
            if name not in pair.users:
                raise InvalidOption("username", f"{name!r} is no user of the pair; users: {', '.join(pair.users)}")
        if sys.stderr.isatty():
            write_note("starting two ActiveMQ brokers")
        with pair:
            pair.wait_standby(60)
            yield pair


def _run(plan: DrillPlan, target: Target, *, is_shown: bool, as_json_: bool) -> int:
    """Run the drill, show it, and return the exit code."""
    from switchgear_activemq.amazon_mq.drill_screen import display, print_ledger

    async def perform() -> tuple[Drill, bool]:
        one = Drill(plan, target)
        loop, ending = asyncio.get_running_loop(), asyncio.Event()
        with Interrupts(lambda: loop.call_soon_threadsafe(ending.set)) as interrupts:
            with display(one) if is_shown else nullcontext():
                await one.perform(ending)
            return one, interrupts.count > 0

    done, was_interrupted = asyncio.run(perform())
    if as_json_:
        write_line(as_json(done.facts()))
    else:
        print_ledger(done)
    if was_interrupted:
        return INTERRUPTED
    return OK if done.went_well else UNDELIVERED


def add(app: typer.Typer) -> None:
    """Add the commands to the group ``activemq``."""
    for command, summary, epilog in (
        (endpoints, "The failover: URI of an Amazon MQ broker.", ENDPOINTS_EPILOG),
        (broker_xml, "A broker's configuration from a file of permissions.", XML_EPILOG),
        (template, "A CloudFormation template of a pair.", TEMPLATE_EPILOG),
        (drill, "Reboot or kill a broker, and count what is lost.", DRILL_EPILOG),
    ):
        app.command(short_help=summary, epilog=paragraphs(epilog))(command)
