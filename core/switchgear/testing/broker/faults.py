"""What a broker does wrong on demand. Holds settings and counters; touches live connections only when told to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import define, frozen

from switchgear.testing.broker.reasons import NOT_AUTHORIZED, SERVER_MOVED, USE_ANOTHER_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REFUSE: Final = "refuse"
SILENCE: Final = "silence"
DELAY_CONNACK: Final = "delay_connack"
DROP_AFTER_CONNACK: Final = "drop_after_connack"
DROP_AFTER_PUBLISH: Final = "drop_after_publish"
DROP_AFTER_PUBREC: Final = "drop_after_pubrec"
WITHHOLD_ACKS: Final = "withhold_acks"
SWALLOW_PINGS: Final = "swallow_pings"
SLOW: Final = "slow"
REFUSE_SUBSCRIBE: Final = "refuse_subscribe"
POISON: Final = "poison"


class Target(Protocol):
    """A live connection, as far as a fault acts on it."""

    @property
    def client_id(self) -> str:
        """The client id, "" before CONNECT."""

    def reset(self) -> None:
        """End it at once, as a peer that vanished: TCP reset, what was not yet sent is lost."""

    def half_close(self) -> None:
        """Send no more, and go on reading."""

    def release_acks(self) -> None:
        """Send the acknowledgements that were withheld."""


@frozen
class Refusal:
    """The CONNACK that a refused client gets."""

    code: int
    server_reference: str | None = None


@define
class _Armed:
    """A fault that is set: its setting, and how often it still strikes (`None`: until it is lifted)."""

    value: Any
    left: int | None
    seen: int = 0


class Faults:
    """The faults of one broker; each may be set, changed and lifted at any moment, from the broker's loop.

    `times` is how often a fault strikes before it lifts itself; `None` means until `lift` or `clear`. Setting a
    fault again replaces it. `hits` counts how often each has struck, by the name of its method.
    """

    def __init__(self, *, targets: Callable[[], Iterable[Target]]) -> None:
        self.hits: Counter[str] = Counter()
        self._armed: dict[str, _Armed] = {}
        self._targets = targets

    def __repr__(self) -> str:
        return f"Faults({', '.join(f'{name}={armed.left}' for name, armed in self._armed.items())})"

    @property
    def active(self) -> dict[str, int | None]:
        """The faults that are set, by the name of their method, and how often each still strikes."""
        return {name: armed.left for name, armed in self._armed.items()}

    # Connecting

    def refuse(self, code: int, *, times: int | None = None) -> None:
        """Answer CONNECT with *code* and close.

        *code* is a return code of 3.1.1 (1 to 5) or a reason code of 5 (0x80 and above); a client of the other
        version gets the one that says the same, or "server unavailable".
        """
        self._arm(REFUSE, Refusal(code), times)

    def redirect(self, server_reference: str, *, is_permanent: bool = False, times: int | None = None) -> None:
        """Answer CONNECT with "use another server" or, if permanent, "server moved", and with the reference.

        A client of 3.1.1 gets "server unavailable". It shares its place with `refuse`: the later call counts.
        """
        code = SERVER_MOVED if is_permanent else USE_ANOTHER_SERVER
        self._arm(REFUSE, Refusal(code, server_reference), times)

    def silence(self, *, times: int | None = None) -> None:
        """Accept the connection and never answer its CONNECT, nor anything else on it; no session is touched."""
        self._arm(SILENCE, value=True, times=times)

    def delay_connack(self, seconds: float, *, times: int | None = None) -> None:
        """Take *seconds* to handle a CONNECT; what the client sends meanwhile is handled after it."""
        self._arm(DELAY_CONNACK, seconds, times)

    def drop_after_connack(self, *, times: int | None = None) -> None:
        """Close the connection right after a CONNACK that says success."""
        self._arm(DROP_AFTER_CONNACK, value=True, times=times)

    # Publishing

    def drop_after_publish(self, nth: int = 1, *, is_stored: bool = True, times: int | None = 1) -> None:
        """Reset the connection when the *nth* PUBLISH arrives, before it is acknowledged.

        PUBLISHes are counted from 1, over all connections, from this call and again after each strike. With
        *is_stored* the message is accepted before the reset, so a client that sends it again makes a duplicate at
        QoS 1; without, it is lost.
        """
        self._arm(DROP_AFTER_PUBLISH, (nth, is_stored), times)

    def drop_after_pubrec(self, *, times: int | None = 1) -> None:
        """Close the connection right after a PUBREC."""
        self._arm(DROP_AFTER_PUBREC, value=True, times=times)

    def withhold_acks(self, *, times: int | None = None) -> None:
        """Accept PUBLISHes and hold their PUBACK or PUBREC back, until the fault is lifted or the connection ends."""
        self._arm(WITHHOLD_ACKS, value=True, times=times)

    def poison(self, is_poison: Callable[[str], bool], *, times: int | None = None) -> None:
        """Reset the connection that publishes to a topic for which *is_poison* is true; the message is lost.

        AWS IoT Core treats a PUBLISH that the policy does not allow like this.
        """
        self._arm(POISON, is_poison, times)

    # Everything else

    def refuse_subscribe(self, *filters: str, code: int = NOT_AUTHORIZED, times: int | None = None) -> None:
        """Refuse these filters, or all if none is given; SUBACK says *code*, and 0x80 in 3.1.1."""
        self._arm(REFUSE_SUBSCRIBE, (frozenset(filters), code), times)

    def swallow_pings(self, *, times: int | None = None) -> None:
        """Never answer PINGREQ."""
        self._arm(SWALLOW_PINGS, value=True, times=times)

    def slow(self, seconds: float) -> None:
        """Hold every write back for *seconds*; their order is kept."""
        self._arm(SLOW, seconds, None)

    def half_close(self, client_id: str | None = None) -> int:
        """Shut the writing side of this client's connection, or of all, now; they stay open for reading.

        Returns how many there were.
        """
        chosen = self._chosen(client_id)
        for target in chosen:
            target.half_close()
        return len(chosen)

    def reset(self, client_id: str | None = None) -> int:
        """Reset this client's connection, or all, now; returns how many there were."""
        chosen = self._chosen(client_id)
        for target in chosen:
            target.reset()
        return len(chosen)

    def lift(self, name: str) -> None:
        """Lift one fault, named like its method; acknowledgements that it held back are sent."""
        self._armed.pop(name, None)
        if name == WITHHOLD_ACKS:
            for target in self._chosen(None):
                target.release_acks()

    def clear(self) -> None:
        """Lift all faults; acknowledgements that were held back are sent. `hits` stays."""
        self._armed.clear()
        self.lift(WITHHOLD_ACKS)

    # Asked by the broker

    def take(self, name: str) -> bool:
        """Whether the fault *name* strikes now; if it does, this counts as one of its times."""
        armed = self._armed.get(name)
        if armed is None:
            return False
        self._strike(name, armed)
        return True

    def take_refusal(self) -> Refusal | None:
        """The refusal for this CONNECT, if there is to be one."""
        armed = self._armed.get(REFUSE)
        if armed is None:
            return None
        self._strike(REFUSE, armed)
        refusal: Refusal = armed.value
        return refusal

    def take_delay(self) -> float:
        """Seconds that this CONNECT has to wait."""
        armed = self._armed.get(DELAY_CONNACK)
        if armed is None:
            return 0.0
        self._strike(DELAY_CONNACK, armed)
        return float(armed.value)

    @property
    def write_delay(self) -> float:
        """Seconds that each write has to wait."""
        armed = self._armed.get(SLOW)
        return float(armed.value) if armed is not None else 0.0

    def take_publish(self, topic: str) -> str | None:
        """The fault that this PUBLISH meets: `POISON`, `DROP_AFTER_PUBLISH`, or "" for a drop that stores it first."""
        armed = self._armed.get(POISON)
        if armed is not None and armed.value(topic):
            self._strike(POISON, armed)
            return POISON
        armed = self._armed.get(DROP_AFTER_PUBLISH)
        if armed is None:
            return None
        nth, is_stored = armed.value
        armed.seen += 1
        if armed.seen < nth:
            return None
        armed.seen = 0
        self._strike(DROP_AFTER_PUBLISH, armed)
        return "" if is_stored else DROP_AFTER_PUBLISH

    def take_subscribe(self, name: str) -> int | None:
        """The code that refuses the filter *name*, if it is to be refused."""
        armed = self._armed.get(REFUSE_SUBSCRIBE)
        if armed is None:
            return None
        filters, code = armed.value
        if filters and name not in filters:
            return None
        self._strike(REFUSE_SUBSCRIBE, armed)
        return int(code)

    def _arm(self, name: str, value: object, times: int | None) -> None:
        if times is not None and times < 1:
            raise ValueError(f"{name}: times counts from 1; call lift({name!r}) to end a fault")
        self._armed[name] = _Armed(value, times)

    def _strike(self, name: str, armed: _Armed) -> None:
        self.hits[name] += 1
        if armed.left is not None:
            armed.left -= 1
            if not armed.left:
                del self._armed[name]

    def _chosen(self, client_id: str | None) -> list[Target]:
        return [target for target in self._targets() if client_id in (None, target.client_id)]
