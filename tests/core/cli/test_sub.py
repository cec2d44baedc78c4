from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from switchgear.cli.sub import json_line, payload_line, topic_line
from switchgear.message import Message, Properties
from switchgear.testing.broker import Broker, Subscribed

Ended: TypeAlias = Any  # of conftest.py, which cannot be imported
Process: TypeAlias = Any  # of conftest.py, which cannot be imported
Start: TypeAlias = Any  # of conftest.py, which cannot be imported
WithBroker = Callable[[Callable[[Broker], Awaitable[Any]]], Any]
NOWHERE = "mqtt://127.0.0.1:1"


async def subscribed(broker: Broker, count: int = 1) -> None:
    """Wait until the broker has granted *count* filters."""
    await asyncio.wait_for(broker.ledger.until(lambda: broker.ledger.counts[Subscribed] >= count), 90)


async def start_sub(start: Start, broker: Broker, *arguments: str, filters: int = 1) -> Process:
    process = await start("sub", broker.uri, *arguments)
    await subscribed(broker, filters)
    return process


def test_payloads(with_broker: WithBroker, start: Start) -> None:
    """Payloads are written as they are, a line feed after each, and --count ends with 0."""

    async def scenario(broker: Broker) -> Ended:
        process = await start_sub(start, broker, "a/#", "b", "--count", "3", filters=2)
        broker.publish("a/x", b"one", qos=1)
        broker.publish("b", b"\xff\x00", qos=0)
        broker.publish("c", b"no", qos=1)
        broker.publish("a/y", b"", qos=1)
        return await process.end()

    ended = with_broker(scenario)
    assert (ended.code, sorted(ended.lines), ended.err) == (0, [b"", b"one", b"\xff\x00"], "")


def test_topics(with_broker: WithBroker, start: Start) -> None:
    """With --topics the topic stands before the payload."""

    async def scenario(broker: Broker) -> Ended:
        process = await start_sub(start, broker, "a/#", "-n", "1", "-v")
        broker.publish("a/ä", b"one", qos=1)
        return await process.end()

    assert with_broker(scenario).out == "a/ä one\n".encode()


def test_json(with_broker: WithBroker, start: Start) -> None:
    """With --json each message is an object with all that is known of it."""

    async def scenario(broker: Broker) -> Ended:
        broker.publish("a", b"kept", qos=1, retain=True)
        process = await start_sub(start, broker, "a", "-n", "2", "--json", "--protocol", "5")
        await process.line()
        broker.publish("a", b"\xff", qos=2)
        return await process.end()

    ended = with_broker(scenario)
    assert [json.loads(line) for line in ended.lines] == [
        {"topic": "a", "payload_base64": "/w==", "qos": 1, "retain": False, "duplicate": False, "properties": {}}
    ]


def test_each_line_is_flushed(with_broker: WithBroker, start: Start) -> None:
    """A message can be read from the pipe before the next one comes."""

    async def scenario(broker: Broker) -> list[bytes]:
        process = await start_sub(start, broker, "a")
        seen = []
        for payload in (b"one", b"two"):
            broker.publish("a", payload, qos=1)
            seen.append(await process.line())
        process.process.send_signal(signal.SIGINT)
        assert (await process.end()).code == 0
        return seen

    assert with_broker(scenario) == [b"one\n", b"two\n"]


def test_what_comes_too_late_stays_with_the_broker(with_broker: WithBroker, start: Start) -> None:
    """With a client id, messages after the last that was asked for are delivered to the next call, none twice."""

    async def scenario(broker: Broker) -> list[list[bytes]]:
        arguments = ("a", "--client-id", "me", "--count")
        process = await start_sub(start, broker, *arguments, "1")
        for payload in (b"one", b"two", b"three"):
            broker.publish("a", payload, qos=1)
        first = await process.end()
        second = await (await start("sub", broker.uri, *arguments, "2")).end()
        third = await (await start("sub", broker.uri, *arguments, "1", "--timeout", "0.5")).end()
        assert third.code == 1
        assert "0 of 1 message(s) arrived in 0.5 s" in third.err
        return [first.lines, second.lines, third.lines]

    assert with_broker(scenario) == [[b"one"], [b"two", b"three"], []]


def test_time_is_over(with_broker: WithBroker, start: Start) -> None:
    """When the time is over the exit code is 0, for no number of messages was asked for."""

    async def scenario(broker: Broker) -> Ended:
        return await (await start("sub", broker.uri, "a", "--timeout", "0.3")).end()

    ended = with_broker(scenario)
    assert (ended.code, ended.out, ended.err) == (0, b"", "")


@pytest.mark.parametrize("comes", [True, False])
def test_closed_pipe(with_broker: WithBroker, start: Start, *, comes: bool) -> None:
    """When the reader closes the pipe, the command ends quietly with 0, whether or not another message comes."""

    async def scenario(broker: Broker) -> Ended:
        process = await start_sub(start, broker, "a")
        broker.publish("a", b"one", qos=1)
        assert await process.line() == b"one\n"
        transport: Any = process.process._transport  # the only way to close our end
        transport.get_pipe_transport(1).close()
        if comes:
            broker.publish("a", b"two", qos=1)
        return await process.end()

    ended = with_broker(scenario)
    assert (ended.code, ended.err) == (0, "")


def test_head(with_broker: WithBroker) -> None:
    """``sub | head -1`` prints a line and ends."""

    async def scenario(broker: Broker) -> tuple[bytes, bytes]:
        command = f"{sys.executable} -m switchgear sub {broker.uri} a | head -1"
        pipe = subprocess.PIPE
        process = await asyncio.create_subprocess_shell(command, stdout=pipe, stderr=pipe)
        await subscribed(broker)
        broker.publish("a", b"one", qos=1)
        return await asyncio.wait_for(process.communicate(), 90)

    assert with_broker(scenario) == (b"one\n", b"")


def test_full_disk(with_broker: WithBroker) -> None:
    """When a message cannot be written, the exit code is 1 and the reason is told."""

    async def scenario(broker: Broker) -> tuple[int | None, bytes]:
        command = f"{sys.executable} -m switchgear sub {broker.uri} a > /dev/full"
        process = await asyncio.create_subprocess_shell(command, stderr=subprocess.PIPE)
        await subscribed(broker)
        broker.publish("a", b"one", qos=1)
        _, err = await asyncio.wait_for(process.communicate(), 90)
        return process.returncode, err

    code, err = with_broker(scenario)
    assert code == 1
    assert b"No space left" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--count", "1"), 130)])
def test_interrupt(with_broker: WithBroker, start: Start, arguments: tuple[str, ...], code: int) -> None:
    """Ctrl-C ends with 0, and with 130 when messages that were asked for are missing."""

    async def scenario(broker: Broker) -> Ended:
        process = await start_sub(start, broker, "a", *arguments)
        process.process.send_signal(signal.SIGINT)
        return await process.end()

    assert with_broker(scenario).code == code


def test_giving_up(with_broker: WithBroker, start: Start) -> None:
    """Giving up ends with 3 and the reason."""

    async def scenario(_: Broker) -> Ended:
        return await (await start("sub", NOWHERE, "a", "--give-up-after", "0.5")).end()

    ended = with_broker(scenario)
    assert ended.code == 3
    assert "gave up" in ended.err


def test_broker_that_dies(with_broker: WithBroker, start: Start) -> None:
    """A subscription survives its broker: what is published after the restart arrives."""

    async def scenario(broker: Broker) -> Ended:
        process = await start_sub(start, broker, "a", "--count", "1", "--events")
        await broker.kill()
        await broker.restart()
        await subscribed(broker, 2)
        broker.publish("a", b"back", qos=1)
        return await process.end()

    ended = with_broker(scenario)
    assert (ended.code, ended.out) == (0, b"back\n")
    assert "waiting -> selecting" in ended.err


def test_lines() -> None:
    """A message is written as its payload, with its topic, or as an object with its properties."""
    properties = Properties(content_type="text/plain", correlation_data=b"\xff", user=(("k", "v"),), message_expiry=0)
    message = Message("a", b"x", 1, False, True, properties)
    assert payload_line(message) == b"x"
    assert topic_line(message) == b"a x"
    assert json.loads(json_line(message)) == {
        "topic": "a",
        "payload": "x",
        "qos": 1,
        "retain": False,
        "duplicate": True,
        "properties": {
            "content_type": "text/plain",
            "correlation_data_base64": "/w==",
            "user": [["k", "v"]],
            "message_expiry": 0,
        },
    }
