"""What a transport hears: of one connection, for its parts, and of every event, for the application. Runs on the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear import events as ev
from switchgear.arrival import AckQueue
from switchgear.hookspecs import hookimpl
from switchgear.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.cause import Failure
    from switchgear.delivery import Delivery
    from switchgear.gate import Gate
    from switchgear.message import Message
    from switchgear.report import Event


class EventCallback:
    """The ``on_event`` option, as a plugin: called in order, on a worker thread, isolated."""

    def __init__(self, callback: Callable[[Event], object]) -> None:
        self._callback = callback

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Pass it on."""
        self._callback(event)


class Ears:
    """Hears one connection for what is behind *gate*."""

    def __init__(self, gate: Gate, generation: int) -> None:
        self._gate = gate
        self._generation = generation
        self._is_proved = False
        self._sender = gate.sender
        self.acks = AckQueue()

    def on_acknowledged(self, delivery: Delivery, code: int) -> None:
        """Part of `Listener`."""
        if not self._is_proved:
            self.on_healthy()
        self._sender.acknowledge(delivery, code)

    def on_message(self, message: Message, token: object) -> None:
        """Part of `Listener`."""
        self._gate.subscriber.arrived(message, token, self.acks)

    def on_batch_end(self) -> None:
        """Part of `Listener`."""
        self._sender.batch_end()

    def on_writable(self) -> None:
        """Part of `Listener`."""
        self._gate.heard += 1
        self._sender.pump()

    def on_healthy(self) -> None:
        """Part of `Listener`."""
        self._gate.heard += 1
        if not self._is_proved and self._gate.manager.machine.state in {State.RESTORING, State.CONNECTED}:
            self._is_proved = True
            self._gate.manager.feed(ev.HealthProved(self._generation))

    def on_lost(self, failure: Failure) -> None:
        """Part of `Listener`."""
        self._gate.manager.lost(self._generation, failure)
