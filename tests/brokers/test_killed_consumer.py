"""A consumer that is killed while it handles a message: its next process gets that again, and nothing else twice."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import switchgear
from switchgear.testing.threads import ThreadedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from switchgear.testing.processes import Mosquitto

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

CONSUMER = """
import asyncio, os, sys, threading, time
import switchgear

uri, protocol, qos, way, ends_at, window = sys.argv[1:]
options = {"client_id": "consumer", "protocol": protocol}
if window:
    options["deduplicate"] = window

at_end = threading.Event()

def say(line):
    os.write(1, f"{line}\\n".encode())  # at once: print() of two threads may mix

def take(message):
    say(f"begun {message.text}")
    if message.text == ends_at:
        at_end.set()
        time.sleep(600)  # it is killed here
    say(f"done {message.text}")

async def take_async(message):
    say(f"begun {message.text}")
    if message.text == ends_at:
        at_end.set()
        await asyncio.sleep(600)
    say(f"done {message.text}")

def tell(transport):
    at_end.wait()
    transport.publish("probe").wait(30)  # when the broker has this, it has the acknowledgements before it
    say("killable")

def take_by_hand(message):
    take(message)
    message.ack()

with switchgear.connect(uri, **options) as transport:
    handler = {"function": take, "coroutine": take_async, "manual": take_by_hand, "iterator": None}[way]
    subscription = transport.subscribe("orders", handler, qos=int(qos), ack="manual" if way == "manual" else "after")
    subscription.wait_ready(30)
    say("ready")
    threading.Thread(target=tell, args=(transport,), daemon=True).start()
    if handler is None:
        for message in subscription:
            take(message)
    time.sleep(600)
"""


@contextmanager
def consumer(*arguments: str) -> Iterator[Iterator[str]]:
    """The lines that a consumer in a process of its own prints; it is killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", CONSUMER, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield iter(process.stdout.readline, "")
    finally:
        process.kill()
        process.communicate()


def lines_until(lines: Iterator[str], last: str) -> list[str]:
    """What is said up to *last*, but for when it was ready."""
    found: list[str] = []
    for line in lines:
        if line.strip() != "ready":
            found.append(line.strip())
        if line.strip() == last:
            return found
    raise AssertionError(f"it ended without {last!r}, after {found}")


@pytest.fixture(params=["mosquitto", "embedded"])
def broker_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a broker listens that keeps sessions."""
    if request.param == "embedded":
        with ThreadedBroker() as embedded:
            yield embedded.uri
    else:
        start: Callable[..., Mosquitto] = request.getfixturevalue("mosquitto")
        yield start().uri


@pytest.mark.parametrize("way", ["function", "coroutine", "manual", "iterator"])
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_killed_while_it_handles(broker_uri: str, protocol: str, qos: int, way: str) -> None:
    """The message that a consumer is killed at comes again with all after it, in order, and none that was handled."""
    arguments = (broker_uri, protocol, str(qos), way)
    with switchgear.connect(broker_uri, client_id="publisher") as publisher:
        with consumer(*arguments, "3", "") as lines:
            assert next(lines) == "ready\n"
            for number in range(1, 6):
                publisher.publish("orders", str(number), qos=2).wait(30)
            before = lines_until(lines, "killable")
        publisher.publish("orders", "6", qos=2).wait(30)
        with consumer(*arguments, "", "") as lines:
            after = lines_until(lines, "done 6")
    assert before == ["begun 1", "done 1", "begun 2", "done 2", "begun 3", "killable"]
    assert [line for line in after if line.startswith("done")] == ["done 3", "done 4", "done 5", "done 6"]


@pytest.mark.parametrize("qos", [1, 2])
def test_killed_with_a_window(broker_uri: str, tmp_path: Path, qos: int) -> None:
    """A window in a file hides nothing that was not handled: what the consumer was killed at comes again, with all after it."""
    arguments = (broker_uri, "5", str(qos), "function")
    window = str(tmp_path / "handled")
    with switchgear.connect(broker_uri, client_id="publisher", protocol="5", message_id=True) as publisher:
        with consumer(*arguments, "3", window) as lines:
            assert next(lines) == "ready\n"
            for number in range(1, 6):
                publisher.publish("orders", str(number), qos=2).wait(30)
            lines_until(lines, "killable")
        publisher.publish("orders", "6", qos=2).wait(30)
        with consumer(*arguments, "", window) as lines:
            after = lines_until(lines, "done 6")
    done = [line for line in after if line.startswith("done")]
    assert done[-4:] == ["done 3", "done 4", "done 5", "done 6"]
    assert set(done[:-4]) <= {"done 1", "done 2"}  # killed before the worker thread had written these down
