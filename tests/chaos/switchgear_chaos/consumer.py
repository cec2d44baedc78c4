"""The consumer under test, a process of its own: it writes each message down when it is handled, before it is acknowledged.

It has a connection with a fixed client id and a kept session for each place, and subscribes to everything. Commands come
as lines on stdin: ``doze SECONDS`` (handle nothing meanwhile), ``weigh WORD`` (say how much memory is held), ``stop`` or
``leave``.
"""

from __future__ import annotations

import functools
import json
import logging
import sqlite3
import sys
import time
from pathlib import Path

import switchgear

from switchgear_chaos.journal import Journal, Options, held, now, number_of, payload_of
from switchgear_chaos.under_test import InternalErrors, commands

RAISES = 1999
"""The handler fails once for each message whose number this divides."""

SLEEPS = 997
"""And takes its time for those that this divides."""


class Consumer:
    """Handles what comes."""

    def __init__(self, options: Options) -> None:
        self.journal = Journal(Path(options["journal"]))
        logging.getLogger("switchgear").addHandler(InternalErrors(self.journal))
        self.journal.write("start", now())
        self.heard = commands()
        self.failed: set[str] = set()
        self.dozes_until = 0.0
        self.once = switchgear.HandledTable(size=10**9)
        self.databases = [self.opened(options["database"]) for _ in options["where"]]
        self.transports = [
            switchgear.connect(
                where,
                on_event=functools.partial(self.on_event, index),
                backoff=switchgear.exponential(cap=1.0),
                stable_after=1.0,
                connect_timeout=2.0,
                keepalive=5,
                **options["profile"],
            )
            for index, where in enumerate(options["where"])
        ]
        self.subscriptions = [
            transport.subscribe("chaos/#", functools.partial(self.handle, index), qos=2)
            for index, transport in enumerate(self.transports)
        ]

    @staticmethod
    def opened(path: str) -> sqlite3.Connection:
        """A connection for one subscription's handler; effects survive SIGKILL, and need not survive the machine."""
        database = sqlite3.connect(path, timeout=30, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL").fetchall()
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE IF NOT EXISTS effect (topic TEXT)")
        return database

    def on_event(self, index: int, event: switchgear.Event) -> None:
        if event.name in {"connected", "connection_lost"}:
            self.journal.write("event", now(), event.name, index, str(event).replace("\n", " "))

    def handle(self, index: int, message: switchgear.Message) -> None:
        publisher, number = number_of(message.topic)
        if number % RAISES == 0 and message.topic not in self.failed:
            self.failed.add(message.topic)
            raise RuntimeError("the handler fails once")
        pause = max(0.05 if number % SLEEPS == 0 else 0.0, self.dozes_until - time.monotonic())
        if pause > 0:
            time.sleep(pause)
        if message.id is not None:
            self.take_effect(index, message)
        word = "handled" if message.payload == payload_of(publisher, number) else "corrupt"
        self.journal.write(word, now(), index, publisher, number)

    def take_effect(self, index: int, message: switchgear.Message) -> None:
        """The effect of *message*, once: noted in the transaction that holds it."""
        database = self.databases[index]
        with database:
            if self.once.mark(database, message):
                database.execute("INSERT INTO effect VALUES (?)", (message.topic,))

    def run(self) -> None:
        """Until ``stop`` or ``leave``."""
        waiting = set(range(len(self.transports)))
        while True:
            for index in sorted(waiting):
                try:
                    self.subscriptions[index].wait_ready(0.05)
                except (TimeoutError, switchgear.SubscriptionRefused):
                    continue
                waiting.discard(index)
                self.journal.write("ready", now(), index)
            while self.heard:
                word, _, rest = self.heard.popleft().partition(" ")
                if word in {"stop", "leave"}:
                    return
                if word == "weigh":
                    time.sleep(0.5)  # the last handlers return, and are acknowledged
                    self.journal.write("drained", now(), rest, *held())
                if word == "doze":
                    self.dozes_until = time.monotonic() + float(rest)
            time.sleep(0.02)


def main() -> None:
    """Run with the options on the command line."""
    logging.getLogger("switchgear.receiver").addFilter(
        lambda record: record.getMessage() != "switchgear.handler_failed"
    )
    consumer = Consumer(json.loads(sys.argv[1]))
    consumer.run()
    for transport in consumer.transports:
        transport.close()
    consumer.journal.write("stopped", now())


if __name__ == "__main__":
    main()
