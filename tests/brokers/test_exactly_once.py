"""Exactly-once effects: a consumer that is killed while it handles, and brokers that share nothing."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import switchgear
from switchgear.testing.processes import Mosquitto

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

CONSUMER = """
import contextlib, os, sqlite3, sys
import switchgear

where, database_file, kills_itself = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
handled = switchgear.HandledTable()
seen = 0

def handle(message):
    global seen
    seen += 1
    with contextlib.closing(sqlite3.connect(database_file)) as database, database:
        if handled.mark(database, message):
            database.execute("INSERT INTO effects VALUES (?)", (message.text,))
        if seen == kills_itself:
            os.kill(os.getpid(), 9)  # in the middle of the transaction
    if seen == kills_itself + 7:
        os.kill(os.getpid(), 9)  # after the effects, before the acknowledgement

transports = [
    switchgear.connect(uri, client_id="consumer", protocol="5", session_expiry=3600, handler_retries=0) for uri in where
]
for subscription in [transport.subscribe("orders/#", handle, qos=1) for transport in transports]:
    subscription.wait_ready(60)  # what is published before has nobody to go to
print("ready", flush=True)
sys.stdin.read()
for transport in transports:
    transport.close()
"""

COUNT = 300


def consumer(brokers: list[Mosquitto], database: Path, kills_itself: int) -> subprocess.Popen[str]:
    """A consumer of its own process; it kills itself at so many messages, or when it is told to end at 0."""
    where = ",".join(broker.uri for broker in brokers)
    arguments = [sys.executable, "-c", CONSUMER, where, str(database), str(kills_itself or -(10**9))]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def effects(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM effects")]


def test_effects_happen_once(mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    """Each order has one effect, whatever is repeated.

    The publisher is switched between two brokers that share nothing and sends again what the first had not
    acknowledged; consumers die in the middle of a transaction, or after it and before the acknowledgement.
    """
    brokers = [mosquitto(persistence=True), mosquitto(persistence=True)]
    database = tmp_path / "orders.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE effects (id TEXT)")
    running = consumer(brokers, database, 20)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    deaths = 0
    try:
        with switchgear.connect(
            [broker.uri for broker in brokers], client_id="publisher", protocol="5", message_id=True
        ) as transport:
            for number in range(COUNT):
                transport.publish(f"orders/{number}", str(number), qos=1)
                if number == COUNT // 2:
                    transport.wait_connected(60)
                    assert transport.endpoint is not None
                    used = next(b for b in brokers if b.port == transport.endpoint.port)
                    used.stop()  # orderly: mosquitto writes down what it has acknowledged
                    transport.drain(60)
                    used.start()
                time.sleep(0.002)
            # What the application itself sends again under the same id is a repetition too.
            again = switchgear.Properties(user={"message-id": "by-hand"})
            for _ in range(2):
                transport.publish("orders/again", "again", properties=again)
            transport.drain(60)
            deadline = time.monotonic() + 150
            while len(set(effects(database))) < COUNT + 1 and time.monotonic() < deadline:
                if running.poll() is not None:
                    deaths += 1
                    for pipe in (running.stdin, running.stdout):
                        assert pipe is not None
                        pipe.close()
                    running = consumer(brokers, database, (0 if deaths > 4 else 20 + 7 * (deaths % 2)))
                time.sleep(0.05)
    finally:
        running.kill()
        running.communicate()
    found = effects(database)
    assert sorted(found) == sorted([*(str(number) for number in range(COUNT)), "again"])
    assert deaths >= 3
