"""The drill: strike a broker under a publisher and a subscriber, and count what they lost. Does I/O, on one event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import switchgear.aio
from attrs import define, evolve, field, frozen
from switchgear.cli.demo_ledger import DemoLedger
from switchgear.cli.notes import words
from switchgear.errors import InternalError, OutboxFull, SwitchgearError

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.message import Message
    from switchgear.profile import Profile
    from switchgear.report import Event

TURN: Final = 0.02
"""Seconds between two looks at the clock."""
WARM_UP: Final = 2.0
"""Seconds of publishing before the strike."""
FIRST: Final = 60.0
"""Seconds for the first connections, and for the first message to arrive."""
LAST_WORDS: Final = 30.0
"""Seconds for the last acknowledgements, and then for the last arrivals."""
SHOWN: Final = frozenset({"connected", "connection_lost", "gave_up", "flapping", "quarantined", "subscription_refused"})


class NothingArrives(SwitchgearError):
    """Before the strike no message made the whole way, so that a drill would prove nothing."""


class Target(Protocol):
    """What the drill strikes."""

    @property
    def deed(self) -> str:
        """What is done to it, in the past tense."""
        ...

    async def strike(self) -> None:
        """Do it, and return when it is done or ordered."""
        ...

    async def wait_back(self) -> None:
        """Return when the broker has all its parts again."""
        ...


@frozen(kw_only=True)
class DrillPlan:
    """What the user asked for.

    Attributes:
        publisher: The publisher's profile, without a client id: closing then ends the session on the broker too.
        subscriber: The subscriber's.
        topic: Where the messages go.
        rate: Messages a second.
        settle: Seconds that both must stay connected at the end.
        timeout: Seconds from the strike after which the drill ends, whatever the state.
        on_event: Hears every event of both sides too.
    """

    publisher: Profile
    subscriber: Profile
    topic: str
    rate: float
    settle: float
    timeout: float
    on_event: Callable[[Event], object] | None = None


@define
class Outage:
    """One time without a connection; seconds of the event loop's clock."""

    lost_at: float
    back_at: float | None = None


@define(eq=False)
class Side:
    """The publisher or the subscriber: its connection, and its outages."""

    name: str
    note: Callable[[str], None]
    on_event: Callable[[Event], object] | None = None
    outages: list[Outage] = field(factory=list)
    transport: switchgear.aio.AsyncTransport | None = None

    def hear(self, event: Event) -> None:
        """Listen to one event of the transport; called on a worker thread."""
        if event.name == "connection_lost":
            self.outages.append(Outage(event.at))
        elif event.name == "connected" and self.outages and self.outages[-1].back_at is None:
            self.outages[-1].back_at = event.at
        if event.name in SHOWN:
            self.note(f"{self.name}: {words(event).partition(';')[0]}")
        if self.on_event is not None:
            self.on_event(event)

    @property
    def back_at(self) -> float | None:
        """When the last outage ended; None while there was none, or it lasts."""
        return self.outages[-1].back_at if self.outages else None

    def without_connection(self, now: float) -> float:
        """Seconds of all outages."""
        return sum((outage.back_at or now) - outage.lost_at for outage in self.outages)


@define(eq=False)
class Drill:
    """Everything that happened; written on the loop, read by the display's thread."""

    plan: DrillPlan
    target: Target
    connect: Callable[[Profile], switchgear.aio.AsyncTransport] = switchgear.aio.connect
    ledger: DemoLedger = field(factory=DemoLedger)
    log: deque[str] = field(factory=lambda: deque(maxlen=8))
    sides: tuple[Side, ...] = field(init=False)
    doing: str = "connecting"
    started: float = 0.0
    struck_at: float | None = None
    ended_at: float | None = None
    why_unfinished: str | None = "it was stopped before the strike"
    where: str = ""
    _run: str = field(factory=lambda: secrets.token_hex(4))
    _arrived: asyncio.Event = field(factory=asyncio.Event)
    _now: Callable[[], float] = field(default=lambda: 0.0)

    def __attrs_post_init__(self) -> None:
        self.sides = tuple(Side(name, self.note, self.plan.on_event) for name in ("subscriber", "publisher"))

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return (self.ended_at or self._now()) - self.started

    @property
    def went_well(self) -> bool:
        """Whether both were disconnected and came back, and nothing was lost."""
        return self.why_unfinished is None and self.ledger.lost == 0

    def note(self, text: str) -> None:
        """Remember *text* among the last events."""
        self.log.append(f"{self.elapsed:6.2f} s  {text}")

    def facts(self) -> dict[str, object]:
        """Everything, for JSON; times in seconds, those of outages from the strike."""
        now, struck = self.ended_at or self._now(), self.struck_at or self.started
        return {
            "deed": self.target.deed,
            "where": self.where,
            "seconds": round(self.elapsed, 3),
            "rate": self.plan.rate,
            "accepted": self.ledger.published,
            "arrived": self.ledger.delivered,
            "lost": self.ledger.lost,
            "duplicates": self.ledger.duplicates,
            **{
                side.name: {
                    "seconds_without_connection": round(side.without_connection(now), 3),
                    "outages": [
                        {
                            "lost_s": round(each.lost_at - struck, 3),
                            "back_s": None if each.back_at is None else round(each.back_at - struck, 3),
                        }
                        for each in side.outages
                    ],
                }
                for side in self.sides
            },
            "unfinished": self.why_unfinished,
        }

    async def perform(self, ending: asyncio.Event) -> None:
        """Run the drill; with *ending* set it stops where it is, and still waits for the last messages.

        Raises:
            SwitchgearError: there was no connection, the subscription was refused, or nothing arrived before the strike.
        """
        self._now = asyncio.get_running_loop().time
        self.started = self._now()
        subscriber, publisher = (
            evolve(profile, on_event=side.hear)
            for side, profile in zip(self.sides, (self.plan.subscriber, self.plan.publisher), strict=True)
        )
        try:
            async with self.connect(subscriber) as reader, self.connect(publisher) as writer:
                self.sides[0].transport, self.sides[1].transport = reader, writer
                await _connected(reader)
                await _connected(writer)
                # The topic has to be there before somebody subscribes who may not create it.
                async with asyncio.timeout(FIRST):
                    await writer.publish(self.plan.topic, b"switchgear drill", qos=1)
                await reader.subscribe(self.plan.topic, self._take, qos=1).ready(FIRST)
                self.where = str(writer.endpoint)
                await self._strike_while_publishing(writer, ending)
        finally:
            self.ended_at = self._now()

    async def _strike_while_publishing(self, writer: switchgear.aio.AsyncTransport, ending: asyncio.Event) -> None:
        publishing = asyncio.create_task(self._publish(writer))
        back: asyncio.Task[str | None] | None = None
        try:
            self.doing = "publishing; all is well yet"
            await self._first_arrival(ending)
            if await _is_set_within(ending, WARM_UP):
                return
            self.struck_at = self._now()
            await self.target.strike()
            self.doing = self.target.deed
            self.note(self.target.deed)
            back = asyncio.create_task(self._wait_back())
            await self._settle(back, publishing, ending)
        finally:
            for task in (publishing, back):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            self.doing = "waiting for the last messages"
            await self._last_arrival(writer)

    async def _wait_back(self) -> str | None:
        """None once the broker has all its parts again, or why nobody knows."""
        try:
            await self.target.wait_back()
        except (SwitchgearError, TimeoutError) as error:  # the ledger is worth more than the end of the reboot
            return " ".join(str(error).split())
        return None

    async def _settle(
        self, back: asyncio.Task[str | None], publishing: asyncio.Task[None], ending: asyncio.Event
    ) -> None:
        """Wait until both sides lost their connection, have one again, and keep it."""
        assert self.struck_at is not None
        while not await _is_set_within(ending, TURN):
            now = self._now()
            if publishing.done():
                error = publishing.exception()
                if not isinstance(error, SwitchgearError):
                    raise InternalError("the drill stopped publishing") from error
                self.why_unfinished = str(error)
                return
            backs = [side.back_at for side in self.sides]
            if back.done() and all(at is not None and now - at >= self.plan.settle for at in backs):
                self.why_unfinished = back.result()
                return
            if now - self.struck_at >= self.plan.timeout:
                self.why_unfinished = self._what_is_missing(is_back=back.done())
                return
        self.why_unfinished = "it was interrupted"

    def _what_is_missing(self, *, is_back: bool) -> str:
        within = f"within {self.plan.timeout:g} s"
        for side in self.sides:
            if not side.outages:
                return f"the {side.name} kept its connection {within}, so nothing was tried"
            if side.back_at is None:
                return f"the {side.name} had no connection again {within}"
        return f"the connections were not stable {within}" if is_back else f"the broker was not whole again {within}"

    async def _publish(self, writer: switchgear.aio.AsyncTransport) -> None:
        """Publish numbered messages, *rate* a second, until cancelled; outages are not noticed here.

        Raises:
            SwitchgearError: the transport gave up.
        """
        began, due = self._now(), 0
        while True:
            while due <= (self._now() - began) * self.plan.rate:
                try:
                    writer.publish(self.plan.topic, self._run.encode() + b" " + self.ledger.accept(), qos=1)
                except OutboxFull:
                    await writer.ready()
                    continue
                self.ledger.accepted()
                due += 1
                if due % 1000 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(TURN)

    async def _take(self, message: Message) -> None:
        run, _, number = message.payload.partition(b" ")
        if run == self._run.encode():
            self.ledger.arrive(number)
            self._arrived.set()

    async def _first_arrival(self, ending: asyncio.Event) -> None:
        began = self._now()
        while not self.ledger.delivered and not await _is_set_within(ending, TURN):
            if self._now() - began > FIRST:
                raise NothingArrives(
                    f"nothing arrived on {self.plan.topic!r} within {FIRST:g} s of {self.ledger.published} messages; check "
                    "that the publisher may publish to it and create it: ActiveMQ acknowledges what it forbids"
                )

    async def _last_arrival(self, writer: switchgear.aio.AsyncTransport) -> None:
        with suppress(TimeoutError, SwitchgearError):
            await writer.drain(LAST_WORDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while self.ledger.lost:
                    self._arrived.clear()
                    await self._arrived.wait()


async def _connected(transport: switchgear.aio.AsyncTransport) -> None:
    """Wait for the first connection; one that does not come is told by its last error."""
    try:
        await transport.wait_connected(FIRST)
    except TimeoutError:
        if transport.last_error is None:
            raise
        raise transport.last_error from None


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether *event* was set before *seconds* were over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
