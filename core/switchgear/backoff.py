"""When the next sweep may start: the back-off policies, the limits and the CONNECT budget. Pure: no clock, no I/O.

Times are seconds on whatever clock the caller uses; randomness comes from the generator that is handed in.
One sweep offers every candidate once; only a failed sweep backs off, but every delay is jittered.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from attrs import Factory, define, field, frozen

from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    import random

SMALLEST_DELAY: Final = 0.05
"""Seconds. The first wait after a loss is half to all of it: long enough to spread the clients of one host."""

GROWTH: Final = 0.15
"""Share of the outage so far. The broker's return is noticed at most this share of the outage too late."""

BETWEEN: Final = 0.01
"""Seconds. Two attempts of one sweep are up to this far apart, so that clients do not march in step."""

FAR: Final = 1e12
"""Seconds; no time beyond it is computed, so that nothing overflows."""


@frozen
class Outage:
    """What a policy may look at.

    Attributes:
        lost_at: When the last usable connection was lost, or trying began; kept while connections are unstable.
        phase: Uniform in [0, 1), drawn once for each outage.
        sweeps: Sweeps that have failed since then.
        is_startup: Whether there never was a usable connection.
        flaps: Connections in a row that were lost before they were stable.
    """

    lost_at: float
    phase: float
    sweeps: int = 0
    is_startup: bool = False
    flaps: int = 0


class Backoff(Protocol):
    """A policy: when the next sweep may start."""

    def next_sweep(self, outage: Outage, now: float, rng: random.Random) -> float:
        """The time, at or after *now*, at which the next sweep may start."""
        ...

    @property
    def connects_per_second(self) -> float | None:
        """What one broker takes from this process, for the shared budget; None: no budget."""
        ...


def growing_delay(elapsed: float, cap: float, rng: random.Random) -> float:
    """Seconds to wait when the outage has lasted *elapsed* seconds.

    Formula: ``U(0.5, 1) * min(cap, max(0.05, 0.15 * elapsed))``. It lies between 0.025 and *cap* for every *elapsed*.
    The jitter comes after the cap: a cap applied last removes the jitter in long outages (aws-c-mqtt, measured).
    """
    longest = min(cap, max(SMALLEST_DELAY, GROWTH * max(0.0, elapsed)))
    return rng.uniform(0.5, 1.0) * longest


@frozen
class Exponential:
    """The safe default: delays that grow with the outage, as `growing_delay` computes them, up to ``cap`` seconds."""

    cap: float = 30.0

    @property
    def connects_per_second(self) -> float | None:
        """None: this policy knows nothing of the broker."""
        return None

    def next_sweep(self, outage: Outage, now: float, rng: random.Random) -> float:
        """At once when the application starts; else `growing_delay` from now."""
        if outage.is_startup and outage.sweeps == 0:
            return now
        return now + growing_delay(now - outage.lost_at, self.cap, rng)


@frozen
class Fleet:
    """Back as soon as the broker's budget allows for ``clients`` that lost it together.

    Formula: with ``w = max(1, 25 / R)``, ``b = R * w`` and ``m = (sqrt(b + 6.25) - 2.5)**2 / w`` the period is
    ``W = max(0.04, N / m)``, for N = 1 ``max(0.04, 1.1 / R)``. One phase, uniform in [0, W), is drawn for each outage;
    then there is one sweep each W; missed slots are skipped; there is no cap; so too at startup.
    The budget: at most b CONNECT packets to one broker in any w seconds. Source: the page "Back-off".
    """

    clients: int
    rate: float

    @property
    def connects_per_second(self) -> float | None:
        """What the broker takes, for the budget that the transports of one process share."""
        return self.rate

    @property
    def window(self) -> float:
        """Seconds, w."""
        return max(1.0, 25.0 / self.rate)

    @property
    def budget(self) -> float:
        """CONNECT packets in each window, b."""
        return self.rate * self.window

    @property
    def period(self) -> float:
        """Seconds between two sweeps of one client, W."""
        if self.clients == 1:
            return max(0.04, 1.1 / self.rate)
        m = (math.sqrt(self.budget + 6.25) - 2.5) ** 2 / self.window
        return max(0.04, self.clients / m)

    def next_sweep(self, outage: Outage, now: float, rng: random.Random) -> float:
        """The first free slot; a client that flaps waits at least as `Exponential` would."""
        period = self.period
        first = outage.lost_at + outage.phase * period
        slot = first if now <= first else first + math.ceil((now - first) / period) * period
        if outage.sweeps > 0 and slot - now < 1e-9:
            slot += period
        if outage.flaps >= FLAPS:
            slot = max(slot, now + growing_delay(now - outage.lost_at, 30.0, rng))
        return max(now, slot)


FLAPS: Final = 3
"""Connections in a row that were lost before they were stable: from here on we call it flapping."""


@frozen
class Listed:
    """ActiveMQ's delays, used where a ``failover:`` URI writes them: ``initial * multiplier**n`` up to ``cap``.

    Formula: ``U(0.5, 1) * min(cap, initial * multiplier**sweeps)``, seconds, the exponent clamped. ActiveMQ has no
    jitter; ours stays, because a fleet that follows one URI would else march in step.
    """

    initial: float = 0.01
    cap: float = 30.0
    multiplier: float = 2.0

    @property
    def connects_per_second(self) -> float | None:
        """None: the URI says nothing of the broker."""
        return None

    def next_sweep(self, outage: Outage, now: float, rng: random.Random) -> float:
        """At once when the application starts, else after the delay."""
        if outage.is_startup and outage.sweeps == 0:
            return now
        steps = max(0, outage.sweeps - (1 if outage.is_startup else 0)) + max(0, outage.flaps - 1)
        return now + rng.uniform(0.5, 1.0) * self.longest(steps)

    def longest(self, steps: int) -> float:
        """Seconds, before jitter, after *steps* failed sweeps; never overflows."""
        if self.multiplier <= 1 or self.initial <= 0:
            return min(self.cap, self.initial)
        clamp = math.log(FAR) / math.log(self.multiplier)
        return min(self.cap, self.initial * math.pow(self.multiplier, min(steps, clamp)))


def exponential(*, cap: float = 30.0) -> Exponential:
    """The safe default policy; *cap* is the longest delay in seconds.

    Raises:
        InvalidOption: *cap* is below 0.05 or no finite number.

    Since: 0.1.
    """
    if not _is_number(cap) or not SMALLEST_DELAY <= cap <= FAR:
        raise InvalidOption("cap", f"{cap!r} is no number of seconds of at least {SMALLEST_DELAY}")
    return Exponential(float(cap))


def fleet(*, clients: int, connects_per_second: float) -> Fleet:
    """The policy for *clients* that lose their broker together, when it takes *connects_per_second*.

    Raises:
        InvalidOption: *clients* is no whole number of at least 1, or *connects_per_second* is not above zero.

    Since: 0.1.
    """
    if isinstance(clients, bool) or not isinstance(clients, int) or not 1 <= clients <= 10**12:
        raise InvalidOption("clients", f"{clients!r} is no whole number of at least 1")
    if not _is_number(connects_per_second) or not 1e-6 <= connects_per_second <= FAR:
        raise InvalidOption("connects_per_second", f"{connects_per_second!r} is no number from 1e-06 to {FAR:g}")
    return Fleet(clients, float(connects_per_second))


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= FAR if isinstance(value, int) else math.isfinite(value)  # isfinite(10**400) raises


@frozen(kw_only=True)
class GiveUpAfter:
    """When to stop trying; None: never. Counted from the loss, or from the start while nothing ever worked.

    Attributes:
        attempts: Tries at single endpoints.
        sweeps: Rounds through all candidates (what ActiveMQ's ``maxReconnectAttempts`` counts).
        seconds: Time without a usable connection.
    """

    attempts: int | None = field(default=None)
    sweeps: int | None = field(default=None)
    seconds: float | None = field(default=None)

    def __attrs_post_init__(self) -> None:
        for name in ("attempts", "sweeps"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InvalidOption(f"give_up_after.{name}", f"{value!r} is no whole number of at least 0")
        if self.seconds is not None and (not _is_number(self.seconds) or self.seconds < 0):
            raise InvalidOption("give_up_after.seconds", f"{self.seconds!r} is no number of seconds of at least 0")

    def reached(self, *, attempts: int, sweeps: int, seconds: float) -> str | None:
        """The limit that is reached, in words, or None."""
        if self.attempts is not None and attempts >= self.attempts:
            return f"{attempts} attempt{'s' * (attempts != 1)}"
        if self.sweeps is not None and sweeps >= self.sweeps:
            return f"{sweeps} sweep{'s' * (sweeps != 1)} of all endpoints"
        if self.seconds is not None and seconds >= self.seconds:
            return f"{self.seconds:g} seconds without a connection"
        return None


@define
class ConnectBudget:
    """At most ``limit`` CONNECT packets in any ``window`` seconds, kept exactly, for all transports that share a broker.

    Each is sent at least *window* seconds after the one *limit* places before it. A place is reserved when it is wanted
    and confirmed when the packet is about to go, for a busy loop wakes later than it was asked to; exact as long as it
    is less than *window* late. Where the way to the wire takes differently long, the packets are counted there (`send`).
    """

    limit: int
    window: float
    _times: deque[float] = field(factory=deque, init=False)
    _first: int = field(default=0, init=False)  # the place of the first that is remembered
    _sent: deque[float] = field(default=Factory(lambda self: deque(maxlen=self.limit), takes_self=True), init=False)

    def reserve(self, now: float) -> tuple[int, float]:
        """A place for one more CONNECT, and the earliest time for it, at or after *now*."""
        while len(self._times) > 2 * self.limit and self._times[self.limit] + self.window < now:
            self._times.popleft()
            self._first += 1
        place = self._first + len(self._times)
        self._times.append(now)
        return place, self.confirm(place, now)

    def confirm(self, place: int, now: float) -> float:
        """*now*, when the CONNECT of *place* may go now, and is taken as sent; else the time to ask again."""
        here = place - self._first
        if here < 0:
            return now  # so long ago that nobody remembers
        at = max(now, self._times[here - 1]) if here else now  # nobody overtakes
        if here >= self.limit:
            at = max(at, self._times[here - self.limit] + self.window)
        self._times[here] = at
        return at

    def send(self, now: float) -> float:
        """*now*, when a CONNECT may go on the wire now, and is taken as sent; else the time to ask again."""
        if len(self._sent) == self.limit and (at := self._sent[0] + self.window) > now:
            return at
        self._sent.append(now)
        return now
