"""The publisher under test, a process of its own: numbered messages into an outbox file, and a journal of what was stored.

Commands come as lines on stdin: ``pause WORD`` (drain, and say so in the journal), ``resume``, ``burst COUNT``,
``clock SECONDS``, ``leave`` (close at once), ``stop`` (drain, then close).
When stdin ends, so does the process.
"""

from __future__ import annotations

# isort: off
from switchgear_chaos import clock  # first: switchgear takes hold of the time when it is imported
# isort: on

import json
import logging
import sys
import time
from collections import deque
from pathlib import Path

import switchgear
from switchgear.outbox import windowed

from switchgear_chaos.journal import (
    BLOCK,
    Journal,
    Options,
    Reader,
    as_ranges,
    held,
    now,
    payload_of,
    qos_of,
    topic_of,
)
from switchgear_chaos.under_test import InternalErrors, commands

TICK = 0.02
"""Seconds between two batches."""

BATCH = 200
"""Messages of a burst that are published together."""

LONG = 600
"""Seconds after which one message in four expires: longer than any waits, much shorter than most jumps of the clock. So none
may expire, and where a jump counted as time that passes, hundreds would."""

TOGETHER = 0.05
"""Seconds within which acknowledgements are written down as one."""


class Publisher:
    """Publishes until it is told to stop."""

    def __init__(self, options: Options) -> None:
        self.index: int = options["index"]
        self.outbox = Path(options["outbox"])
        path = Path(options["journal"])
        reserved = [int(words[1]) for words in Reader(path) if words[0] == "reserve"]
        self.next = self.reserved = max(reserved, default=0)
        self.journal = Journal(path)
        logging.getLogger("switchgear").addHandler(InternalErrors(self.journal))
        self.journal.write("start", now(), self.next)
        self.rate: int = options["rate"]
        self.acked: deque[tuple[float, int]] = deque()
        self.heard = commands()
        self.paused: str | None = None
        self.transport = self.connected(options)

    def connected(self, options: Options) -> switchgear.Transport:
        """The transport; a supervisor would start us again and again while the disk is too full to open the outbox."""
        while True:
            try:
                return switchgear.connect(
                    options["where"],
                    outbox=str(self.outbox),
                    on_event=self.on_event,
                    outbox_limits=switchgear.OutboxLimits(max_messages=100_000),
                    backoff=switchgear.exponential(cap=1.0),
                    stable_after=1.0,
                    connect_timeout=2.0,
                    keepalive=5,
                    ack_timeout=2.0,
                    **options["profile"],
                )
            except switchgear.UnreadableFile as error:
                if "full" not in str(error) and "No space" not in str(error):
                    raise
                self.journal.write("event", now(), "unreadable", str(error))
                time.sleep(0.1)

    def on_event(self, event: switchgear.Event) -> None:
        if event.name in {"connected", "connection_lost"} or event.name.startswith(("outbox_", "message_")):
            at = now() - time.monotonic() + event.at  # when it was, not when we hear of it
            self.journal.write("event", at, event.name, str(event).replace("\n", " "))

    def run(self) -> str:
        """Until ``stop`` or ``leave``; which it was."""
        due = 0.0
        before = time.monotonic()
        while True:
            while self.heard:
                word, _, rest = self.heard.popleft().partition(" ")
                if word in {"stop", "leave"}:
                    return word
                if word == "clock":
                    clock.jump(float(rest))
                    self.journal.write("jumped", now())
                elif word == "burst":
                    for _ in range(int(rest) // BATCH):
                        self.publish(BATCH, expires=False)
                        self.write_acked()
                else:
                    self.paused = rest if word == "pause" else None
            time.sleep(TICK)
            now_ = time.monotonic()
            due = min(due + (now_ - before) * self.rate, self.rate / 4)
            before = now_
            if self.paused is None:
                self.publish(int(due))
                due -= int(due)
            elif self.paused and self.transport.depth == 0:
                self.say_drained(self.paused)
                self.paused = ""
            self.write_acked()

    def publish(self, count: int, *, expires: bool = True) -> None:
        """Publish *count* messages, and write down those that are reported to be stored.

        What expires is remembered for a while after its end, up to 1024 messages, which would hide a leak of a backlog.
        """
        batch = []
        for number in range(self.next, self.next + count):
            if number >= self.reserved:
                self.reserved = number + BLOCK
                self.journal.write("reserve", self.reserved)
            batch.append((number, self.accepted(number, LONG if expires and number % 4 == 0 else None)))
        self.next += count
        stored = []
        for number, delivery in batch:
            while True:
                try:
                    delivery.wait_stored(0.5)
                except (switchgear.OutboxUnwritable, TimeoutError):
                    self.write_acked()  # we may be killed while we wait
                    time.sleep(0.05)
                except switchgear.MessageError:
                    break  # `ended` has written it down
                else:
                    stored.append(number)
                    break
        if stored:
            self.journal.write("stored", now(), as_ranges(stored))

    def accepted(self, number: int, expires_after: float | None) -> switchgear.Delivery:
        """The message *number*, once the outbox takes it."""
        topic, payload = topic_of(self.index, number), payload_of(self.index, number)
        while True:
            try:
                delivery = self.transport.publish(topic, payload, qos=qos_of(number), expires_after=expires_after)
            except switchgear.OutboxUnwritable:
                self.write_acked()
                time.sleep(0.05)
            else:
                delivery.add_done_callback(lambda delivery: self.ended(number, delivery))
                return delivery

    def ended(self, number: int, delivery: switchgear.Delivery) -> None:
        if delivery.state is switchgear.DeliveryState.ACKNOWLEDGED:
            self.acked.append((now(), number))
        else:
            self.journal.write("ended", now(), number, delivery.state.value)

    def write_acked(self) -> None:
        """Write down what was acknowledged, and when that was."""
        while self.acked:
            first, number = self.acked.popleft()
            at, numbers = first, [number]
            while self.acked and self.acked[0][0] - first < TOGETHER:
                at, number = self.acked.popleft()
                numbers.append(number)
            self.journal.write("acked", at, as_ranges(numbers))  # never earlier than it was

    def say_drained(self, word: str) -> None:
        """Nothing waits: how much memory and disk is held all the same."""
        time.sleep(0.5)  # rows are removed a little later
        files = (self.outbox, self.outbox.with_name(f"{self.outbox.name}-wal"))
        self.journal.write("drained", now(), word, *held(), *(f.stat().st_size if f.exists() else 0 for f in files))


def main() -> None:
    """Run with the options on the command line."""
    options: Options = json.loads(sys.argv[1])
    windowed.WINDOW = options.get("window", windowed.WINDOW)  # type: ignore[misc]  # so that a short outage spills
    windowed.LOW = windowed.CHUNK = windowed.WINDOW // 8  # type: ignore[misc]  # the same
    publisher = Publisher(options)
    publisher.transport.close(drain=30 if publisher.run() == "stop" else 0)
    publisher.write_acked()
    publisher.journal.write("stopped", now())


if __name__ == "__main__":
    main()
