from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import pytest
import switchgear
from switchgear.cli.app import build
from switchgear.cli.output import JsonLines
from switchgear.cli.pub import Tally, conclude, open_source
from switchgear.delivery import Delivery
from switchgear.errors import Expired, OutboxFull, UnreadableFile
from switchgear.message import DeliveryState
from switchgear.testing.broker import Broker, Published
from switchgear.waits import Waits
from switchgear_certs import Authority
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path


Ended: TypeAlias = Any  # of conftest.py, which cannot be imported
Start: TypeAlias = Any  # of conftest.py, which cannot be imported
WithBroker = Callable[[Callable[[Broker], Awaitable[Any]]], Any]
NOWHERE = "mqtt://127.0.0.1:1"


def pub(with_broker: WithBroker, start: Start, *arguments: str, given: bytes = b"") -> tuple[Ended, list[Published]]:
    """What became of ``pub WHERE ARGUMENTS``, and what the broker got."""

    async def scenario(broker: Broker) -> tuple[Ended, list[Published]]:
        ended = await (await start("pub", broker.uri, *arguments)).end(given)
        return ended, broker.ledger.published()

    result: tuple[Ended, list[Published]] = with_broker(scenario)
    return result


def test_message_argument(with_broker: WithBroker, start: Start) -> None:
    """A message on the command line reaches the broker with its QoS and retain flag, and the exit code is 0."""
    ended, published = pub(with_broker, start, "a/b", "hello", "--qos", "2", "--retain")
    assert (ended.code, ended.out, ended.err) == (0, b"", "")
    assert [(p.topic, p.payload, p.qos, p.is_retained) for p in published] == [("a/b", b"hello", 2, True)]


def test_standard_input_by_lines(with_broker: WithBroker, start: Start) -> None:
    """Each line of standard input is a message, whatever bytes it holds, the last one also without a line feed."""
    ended, published = pub(with_broker, start, "t", given=b"one\n\n\xff\x00\r\nlast")
    assert ended.code == 0
    assert [p.payload for p in published] == [b"one", b"", b"\xff\x00\r", b"last"]


def test_many_lines(with_broker: WithBroker, start: Start) -> None:
    """Ten thousand lines are all acknowledged, in order, when the command ends."""
    lines = [b"%d" % i for i in range(10_000)]
    ended, published = pub(with_broker, start, "t", given=b"\n".join(lines))
    assert ended.code == 0
    assert [p.payload for p in published] == lines


@pytest.mark.parametrize(("options", "expected"), [((), [b"a\nb\n"]), (("--lines",), [b"a", b"b"])])
def test_files(
    with_broker: WithBroker, start: Start, tmp_path: Path, options: tuple[str, ...], expected: list[bytes]
) -> None:
    """A file is one message, or one for each line; - is standard input as one message."""
    path = tmp_path / "f"
    path.write_bytes(b"a\nb\n")
    _, published = pub(with_broker, start, "t", "--file", str(path), *options)
    assert [p.payload for p in published] == expected
    _, published = pub(with_broker, start, "t", "--file", "-", *options, given=b"a\nb\n")
    assert [p.payload for p in published] == expected


def test_json(with_broker: WithBroker, start: Start) -> None:
    """With --json every message is told when it is accepted and when it is acknowledged, and the sum at the end."""
    ended, _ = pub(with_broker, start, "t", "--json", given=b"x\ny\n")
    told = [json.loads(line) for line in ended.lines]
    assert [t["number"] for t in told if t["event"] == "accepted"] == [1, 2]
    assert sorted(t["number"] for t in told if t["event"] == "acknowledged") == [1, 2]
    assert told[-1] == {"event": "summary", "accepted": 2, "acknowledged": 2, "failed": 0, "left": 0}


def test_closed_pipe_does_not_stop_publishing(with_broker: WithBroker, start: Start) -> None:
    """When nobody reads the JSON lines, the messages are delivered all the same."""

    async def scenario(broker: Broker) -> int:
        process = await start("pub", broker.uri, "t", "--json")
        transport: Any = process.process._transport  # the only way to close our end
        transport.get_pipe_transport(1).close()
        assert (await process.end(b"x\n" * 2000)).code == 0
        return len(broker.ledger.published())

    assert with_broker(scenario) == 2000


def test_credentials_from_the_environment(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """User name and password come from the environment; a wrong password is fatal, exit code 3, and is not shown."""

    async def scenario() -> list[int]:
        async with Broker(users={"ann": "s3cret"}) as broker:
            await broker.start()
            codes = []
            for password in ("s3cret", "wrong-one"):
                monkeypatch.setenv("SWITCHGEAR_USERNAME", "ann")
                monkeypatch.setenv("SWITCHGEAR_PASSWORD", password)
                ended = await (await start("pub", broker.uri, "t", "m", "--give-up-after", "20")).end()
                assert password not in ended.err
                codes.append(ended.code)
            return codes

    assert asyncio.run(scenario()) == [0, 3]


def test_tls(tmp_path: Path, start: Start) -> None:
    """A broker whose certificate the given CA signed is trusted; one that the system's CAs do not know is not."""

    async def scenario() -> list[tuple[int, str]]:
        authority = Authority.create()
        (tmp_path / "ca.pem").write_bytes(authority.ca_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.server("localhost").configure(context)
        async with Broker() as broker:
            port = await broker.start(ssl=context)
            where = ("pub", f"mqtts://localhost:{port}?address=127.0.0.1", "t", "m", "--give-up-after", "20")
            known = await (await start(*where, "--ca-file", str(tmp_path / "ca.pem"))).end()
            unknown = await (await start(*where)).end()
            assert len(broker.ledger.published()) == 1
        return [(known.code, known.err), (unknown.code, unknown.err)]

    (known, nothing), (unknown, why) = asyncio.run(scenario())
    assert (known, nothing, unknown) == (0, "", 3)
    assert "certificate not trusted" in why


def test_list_of_endpoints(with_broker: WithBroker, start: Start) -> None:
    """With --endpoint repeated, a message reaches whichever broker answers."""

    async def scenario(broker: Broker) -> tuple[int, list[bytes]]:
        ended = await (await start("pub", "-e", NOWHERE, "-e", broker.uri, "t", "m", "--fleet", "1@50")).end()
        return ended.code, broker.ledger.payloads()

    assert with_broker(scenario) == (0, [b"m"])


def test_no_broker(start: Start, with_broker: WithBroker) -> None:
    """Giving up ends with exit code 3 and says how many messages were not delivered."""

    async def scenario(_: Broker) -> Ended:
        return await (await start("pub", NOWHERE, "t", "m", "--give-up-after", "0.5", "--json")).end()

    ended = with_broker(scenario)
    assert ended.code == 3
    assert "gave up" in ended.err
    assert "1 of 1 message(s)" in ended.err
    assert json.loads(ended.lines[-1]) == {"event": "summary", "accepted": 1, "acknowledged": 0, "failed": 0, "left": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_with_messages_left(start: Start, with_broker: WithBroker, number: int) -> None:
    """Ctrl-C and SIGTERM wait for acknowledgements for the given time, say what is left, and end with 130."""

    async def scenario(_: Broker) -> Ended:
        process = await start("pub", NOWHERE, "t", "m", "--drain-timeout", "0.2", "--json")
        assert b"accepted" in await process.line()
        process.process.send_signal(number)
        return await process.end()

    ended = with_broker(scenario)
    assert ended.code == 130
    assert "1 of 1 message(s) were not acknowledged" in ended.err


def test_second_interrupt_ends_at_once(start: Start, with_broker: WithBroker) -> None:
    """A second Ctrl-C ends the process with 130 while it waits for acknowledgements."""

    async def scenario(_: Broker) -> Ended:
        process = await start("pub", NOWHERE, "t", "m", "--drain-timeout", "600", "--json")
        assert b"accepted" in await process.line()
        process.process.send_signal(signal.SIGINT)
        while "waiting up to 600 s" not in await process.error_line():
            pass
        process.process.send_signal(signal.SIGINT)
        return await process.end()

    assert with_broker(scenario).code == 130


def test_interrupt_with_nothing_left(start: Start, with_broker: WithBroker) -> None:
    """Ctrl-C while standard input is read ends with 0 when everything accepted is acknowledged."""

    async def scenario(broker: Broker) -> Ended:
        process = await start("pub", broker.uri, "t", "--json")
        assert process.process.stdin is not None
        process.process.stdin.write(b"x\n")
        while b"acknowledged" not in await process.line():
            pass
        process.process.send_signal(signal.SIGINT)
        return await process.end()

    assert with_broker(scenario).code == 0


def test_broker_that_dies_meanwhile(start: Start, with_broker: WithBroker) -> None:
    """Messages that were given while the broker was down are delivered when it is back; the outage is told."""

    async def scenario(broker: Broker) -> tuple[Ended, list[bytes]]:
        process = await start("pub", broker.uri, "t", "--json")
        stdin = process.process.stdin
        assert stdin is not None
        stdin.write(b"before\n")
        while b"acknowledged" not in await process.line():
            pass
        await broker.kill()
        stdin.write(b"during\n")
        while b"accepted" not in await process.line():
            pass
        await broker.restart()
        ended = await process.end(b"after\n")
        return ended, broker.ledger.payloads()

    ended, payloads = with_broker(scenario)
    assert ended.code == 0
    assert payloads == [b"before", b"during", b"after"]
    assert "lost mqtt://" in ended.err
    assert "connected to mqtt://" in ended.err


def test_quiet(start: Start, with_broker: WithBroker) -> None:
    """With --quiet nothing is said about the connection."""

    async def scenario(_: Broker) -> Ended:
        return await (await start("pub", NOWHERE, "t", "m", "-q", "--give-up-after", "0.3")).end()

    assert "attempt" not in with_broker(scenario).err


def delivery() -> Delivery:
    return Delivery(Waits(), 1, "t", b"x", 1, False)


def test_tally_counts_every_end() -> None:
    """A message is waiting until it is acknowledged or has failed; after closing nothing is counted."""
    with JsonLines(is_on=False) as lines:
        tally = Tally(lines)
        first, second, third = delivery(), delivery(), delivery()
        for each in (first, second, third):
            tally.accept(each)
        first._set(DeliveryState.ACKNOWLEDGED)
        second._set(DeliveryState.EXPIRED, Expired("too late"))
        tally.refuse(OutboxFull("messages", 5))
        assert (tally.accepted, tally.acknowledged, tally.failed, tally.left) == (3, 1, 2, 1)
        tally.is_closed = True
        third._set(DeliveryState.CANCELLED)
        assert tally.left == 1
        assert str(tally) == "3 accepted, 1 acknowledged, 2 failed, 1 waiting"


def test_conclusions(capsys: pytest.CaptureFixture[str]) -> None:
    """Failed messages mean 1; messages left mean the given code, and a durable outbox is said to keep them."""
    with JsonLines(is_on=False) as lines:
        tally = Tally(lines)
        assert conclude(tally, None, 130, None) == 0
        tally.refuse(OutboxFull("messages", 5))
        assert conclude(tally, None, 130, None) == 1
        tally.accept(delivery())
        assert conclude(tally, "press.outbox", 130, None) == 130
    assert "stay in press.outbox" in capsys.readouterr().err


def test_sources(tmp_path: Path) -> None:
    """The argument's bytes are sent as they were typed; a file that cannot be opened is an error at once."""
    assert list(open_source("a\udcff", None, lines=False)) == [b"a\xff"]
    with pytest.raises(UnreadableFile):
        open_source(None, tmp_path, lines=True)


def test_too_large_messages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is refused by publish() is counted as failed, and the others are sent."""
    served = threading.Event()

    class Transport:
        """Refuses every message."""

        def __init__(self, profile: object) -> None:
            self.profile = profile

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            served.set()

        def publish(self, topic: str, payload: bytes, **_: object) -> Delivery:
            raise OutboxFull("messages", 5)

        def drain(self) -> None:
            return

        def close(self) -> None:
            return

    monkeypatch.setattr(switchgear, "connect", Transport)
    monkeypatch.setattr(sys, "argv", ["switchgear"])
    result = CliRunner().invoke(build(), ["pub", NOWHERE, "t"], input="a\nb\n")
    assert result.exit_code == 1
    assert served.is_set()
    assert "2 of 2 message(s) were not delivered; the first: the outbox is full" in result.stderr
