"""A driver without a broker: every dial, CONNECT, SUBSCRIBE and PUBLISH ends as the test says. Fully recorded.

It implements `switchgear.drivers.base.Driver` and touches nothing but the running loop.
"""

from __future__ import annotations

import asyncio
import enum
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from attrs import field, frozen

from switchgear.cause import Cause, Failure
from switchgear.drivers.base import AttemptFailed, DriverFeatures, Limits
from switchgear.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from switchgear.delivery import Delivery
    from switchgear.drivers.base import ConnectRequest, DriverSettings, Filter, Listener
    from switchgear.endpoint import Endpoint


class Step(enum.Enum):
    """What a driver is asked to do, and a script answers."""

    DIAL = "dial"
    CONNECT = "connect"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    SEND = "send"
    PING = "ping"


@frozen(kw_only=True)
class Accept:
    """It works, after *after* seconds.

    Attributes:
        after: Seconds until the answer.
        session_present: For CONNECT.
        code: For SUBSCRIBE (each filter; None: the QoS asked for), UNSUBSCRIBE and SEND.
        lose_after: For CONNECT: seconds after CONNACK until the connection is lost; 0: at once; None: it lasts.
    """

    after: float = 0.0
    session_present: bool = False
    code: int | None = None
    lose_after: float | None = None


@frozen
class Fail:
    """It fails, after *after* seconds: the attempt, or the connection on which it was asked."""

    failure: Failure
    after: float = field(default=0.0, kw_only=True)


@frozen
class Hang:
    """There is never an answer."""


Answer: TypeAlias = Accept | Fail | Hang

_YES: Final = Accept()


@frozen
class Call:
    """One thing that a driver was asked: when (loop time), what, where, and with which argument."""

    at: float
    step: Step
    endpoint: Endpoint
    argument: object = None


Decide: TypeAlias = "Callable[[Call], Answer | None]"


class Script:
    """What scripted drivers answer, and what they were asked. Since: 0.1.

    Answers come from `then` (each used once, in order), else from *decide*, else everything is accepted.
    ``AsyncTransport(profile, make_driver=script.make_driver)`` uses it; drivers made after a restart share it.
    """

    def __init__(self, decide: Decide | None = None, *, features: DriverFeatures | None = None) -> None:
        self.decide = decide
        self.features = features or DriverFeatures()
        self.calls: list[Call] = []
        self.drivers: list[ScriptedDriver] = []
        self.connections: list[ScriptedConnection] = []
        self._queues: defaultdict[Step, deque[Answer]] = defaultdict(deque)

    def then(self, step: Step, *answers: Answer) -> Script:
        """Give the next calls of *step* these answers, one each; itself, to be chained."""
        self._queues[step].extend(answers)
        return self

    def make_driver(self, settings: DriverSettings) -> ScriptedDriver:
        """A new driver of this script."""
        driver = ScriptedDriver(settings, self)
        self.drivers.append(driver)
        return driver

    def called(self, step: Step) -> list[Call]:
        """The calls of one step, in order."""
        return [call for call in self.calls if call.step is step]

    @property
    def live(self) -> list[ScriptedConnection]:
        """The connections that are open, the oldest first."""
        return [connection for connection in self.connections if connection.is_open]

    def lose(self, failure: Failure | None = None) -> int:
        """Lose every open connection, with *failure*; how many there were."""
        live = self.live
        for connection in live:
            connection.lose(failure)
        return len(live)

    def answer(self, step: Step, endpoint: Endpoint, argument: object = None) -> Answer:
        """Note a call, and say what comes of it."""
        call = Call(asyncio.get_running_loop().time(), step, endpoint, argument)
        self.calls.append(call)
        if self._queues[step]:
            return self._queues[step].popleft()
        return (self.decide(call) if self.decide is not None else None) or _YES


async def _play(answer: Answer) -> Accept:
    """Wait as *answer* says. Raises `AttemptFailed`."""
    if isinstance(answer, Hang):
        await asyncio.Event().wait()
        return _YES  # never
    await asyncio.sleep(answer.after)
    if isinstance(answer, Fail):
        raise AttemptFailed(answer.failure)
    return answer


class ScriptedLink:
    """A dialled connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.is_open = True

    def abort(self) -> None:
        """Drop it."""
        self.is_open = False


class ScriptedDriver:
    """The driver port on a `Script`. It keeps deadlines as a real driver must. Since: 0.1."""

    name = "scripted"

    def __init__(self, settings: DriverSettings, script: Script | None = None) -> None:
        self.settings = settings
        self.script = script or Script()
        self.features = self.script.features
        self.links: list[ScriptedLink] = []
        self.is_closed = False

    async def dial(self, endpoint: Endpoint) -> ScriptedLink:
        """See `switchgear.drivers.base.Driver`."""
        answer = self.script.answer(Step.DIAL, endpoint)
        timeout = endpoint.connect_timeout or self.settings.connect_timeout
        try:
            async with asyncio.timeout(timeout):
                await _play(answer)
        except TimeoutError as error:
            raise AttemptFailed(Failure(Cause.CONNECT_TIMEOUT, f"not in {timeout:g} s")) from error
        link = ScriptedLink(endpoint)
        self.links.append(link)
        return link

    async def connect(self, link: object, request: ConnectRequest, listener: Listener) -> ScriptedConnection:
        """See `switchgear.drivers.base.Driver`."""
        assert isinstance(link, ScriptedLink)
        answer = self.script.answer(Step.CONNECT, request.endpoint, request)
        try:
            async with asyncio.timeout(request.timeout):
                accepted = await _play(answer)
        except TimeoutError as error:
            raise AttemptFailed(Failure(Cause.CONNACK_TIMEOUT, f"not in {request.timeout:g} s")) from error
        connection = ScriptedConnection(self.script, link, listener, session_present=accepted.session_present)
        self.script.connections.append(connection)
        if accepted.lose_after is not None:
            asyncio.get_running_loop().call_later(accepted.lose_after, connection.lose)
        return connection

    def close(self) -> None:
        """See `switchgear.drivers.base.Driver`."""
        self.is_closed = True


class ScriptedConnection:
    """An MQTT connection that exists only here."""

    def __init__(self, script: Script, link: ScriptedLink, listener: Listener, *, session_present: bool) -> None:
        self.session_present = session_present
        self.limits = Limits()
        self.in_flight = 0
        self.is_writable = True
        self.endpoint = link.endpoint
        self.sent: list[Delivery] = []
        self.acknowledged: list[object] = []
        self.ended_by: str | None = None
        self._script = script
        self._link = link
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_open(self) -> bool:
        """Whether nobody has ended it."""
        return self.ended_by is None

    # What a test does

    def lose(self, failure: Failure | None = None) -> None:
        """Lose the connection; nothing when it has ended."""
        if self._end("lost"):
            self._listener.on_lost(failure or Failure(Cause.CONNECTION_LOST, "the script says so"))

    def receive(self, topic: str, payload: bytes = b"", *, qos: int = 0) -> object:
        """Have a message arrive; its token, which shows up in `acknowledged`."""
        token = object() if qos else None
        if self.is_open:
            self._listener.on_message(Message(topic, payload, qos), token)
            self._listener.on_batch_end()
        return token

    # What the transport does

    def send(self, delivery: Delivery) -> None:
        """See `switchgear.drivers.base.Connection`."""
        self.sent.append(delivery)
        answer = self._script.answer(Step.SEND, self.endpoint, delivery)
        if delivery.qos == 0:
            return
        self.in_flight += 1
        if delivery.packet_id == 0:
            delivery.packet_id = len(self.sent)
            delivery.phase = 1
        if not isinstance(answer, Hang):
            self._loop.call_later(answer.after, self._answered, delivery, answer)

    def _answered(self, delivery: Delivery, answer: Accept | Fail) -> None:
        if not self.is_open:
            return
        if isinstance(answer, Fail):
            self.lose(answer.failure)
            return
        self.in_flight -= 1
        delivery.packet_id = delivery.phase = 0
        self._listener.on_acknowledged(delivery, answer.code or 0)
        self._listener.on_batch_end()

    async def subscribe(self, filters: Sequence[Filter]) -> list[int]:
        """See `switchgear.drivers.base.Connection`."""
        accepted = await self._ask(Step.SUBSCRIBE, tuple(filters))
        return [wanted.qos if accepted.code is None else accepted.code for wanted in filters]

    async def unsubscribe(self, topic_filters: Sequence[str]) -> list[int]:
        """See `switchgear.drivers.base.Connection`."""
        accepted = await self._ask(Step.UNSUBSCRIBE, tuple(topic_filters))
        return [accepted.code or 0] * len(topic_filters)

    async def _ask(self, step: Step, argument: object) -> Accept:
        playing: asyncio.Future[Accept] = asyncio.ensure_future(
            _play(self._script.answer(step, self.endpoint, argument))
        )
        try:
            waited: list[asyncio.Future[Any]] = [playing, self._over]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                accepted = playing.result()
                self._listener.on_healthy()
                return accepted
            raise ConnectionError("the connection was lost")
        except AttemptFailed as error:
            self.lose(error.failure)
            raise ConnectionError(str(error)) from error
        finally:
            playing.cancel()

    def acknowledge(self, token: object) -> None:
        """See `switchgear.drivers.base.Connection`."""
        if token is not None and self.is_open:
            self.acknowledged.append(token)

    def ping(self) -> None:
        """See `switchgear.drivers.base.Connection`."""
        answer = self._script.answer(Step.PING, self.endpoint)
        if isinstance(answer, Accept):
            self._loop.call_later(answer.after, self._pong)
        elif isinstance(answer, Fail):
            self._loop.call_later(answer.after, self.lose, answer.failure)

    def _pong(self) -> None:
        if self.is_open:
            self._listener.on_healthy()

    async def disconnect(self) -> None:
        """See `switchgear.drivers.base.Connection`."""
        self._end("disconnect")
        await asyncio.sleep(0)

    def abort(self) -> None:
        """See `switchgear.drivers.base.Connection`."""
        self._end("abort")

    def _end(self, how: str) -> bool:
        """End it; whether it was open."""
        if self.ended_by is not None:
            return False
        self.ended_by = how
        self._link.abort()
        if not self._over.done():
            self._over.set_result(None)
        return True
