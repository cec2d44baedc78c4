"""What happens to a broker when many clients lose it together: a simulation on virtual time. Pure: no clock, no I/O.

The model:

1. N clients lose one broker at second 0; with ``notice`` they notice it evenly over so many seconds, in steps of 10 ms.
2. The broker is down for T seconds: an attempt is refused at once, and no CONNECT packet is sent.
3. From then on each attempt is one CONNECT. The broker serves R a second in the order of arrival and holds at most
   ``queue`` of them waiting; a CONNECT that finds the queue full is refused at once. The stock queue is the budget b of
   `switchgear.fleet`, so that clients that keep the budget are never refused.
4. A refused client waits as its policy says; a served one is back, and stays.

Up to `INDIVIDUALLY` clients each one is simulated with its own draws. Beyond that, clients that failed equally often and
try within the same slot (`slot`) draw together: their number is split binomially into cells of equal probability, one
draw lies in each cell, and the clients of a cell go on together. Every client's delay has the policy's distribution all
the same. Policies without jitter, and those with a phase for each client, are exact for any number.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from switchgear import peer_policies
from switchgear.backoff import Backoff, Exponential, Fleet, Outage, fleet
from switchgear.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable

INDIVIDUALLY: Final = 10_000
"""Clients. More than these are moved in groups, or a million of them would take an hour of computing."""

CELLS: Final = 256
"""Most draws for the clients of one slot; fewer where a cell would have fewer than two clients."""

TICK: Final = 0.01
"""Seconds between two groups of clients that notice the loss at different times."""

MOST_CLIENTS: Final = 10_000_000
LONGEST_OUTAGE: Final = 21_600.0
LONGEST_RETURN: Final = 14_400.0
"""Seconds. Beyond these three limits the simulation would take more than minutes."""

PATIENCE: Final = 500.0
"""The simulation ends after so many times what the broker alone would need for all clients, and an hour."""


@frozen(kw_only=True)
class Storm:
    """What the clients are up against.

    Attributes:
        clients: How many lose the broker.
        connects_per_second: What the broker takes, R.
        outage: Seconds that it is down.
        notice: Seconds over which the clients notice the loss.
        queue: CONNECTs that may wait at the broker; None: the budget b.

    Raises:
        InvalidOption: a number is impossible, or so large that the simulation would not end in minutes.
    """

    clients: int
    connects_per_second: float
    outage: float
    notice: float = 0.0
    queue: int | None = None

    def __attrs_post_init__(self) -> None:
        policy = self.fleet  # refuses what `switchgear.fleet` refuses
        if self.clients > MOST_CLIENTS:
            raise InvalidOption("clients", f"{self.clients} are more than the {MOST_CLIENTS} that can be simulated")
        alone = self.clients / policy.rate
        if alone > LONGEST_RETURN:
            raise InvalidOption(
                "connects_per_second",
                f"at {policy.rate:g} a second {self.clients} clients need {alone:.0f} s to connect at best; "
                f"up to {LONGEST_RETURN:.0f} s can be simulated",
            )
        for name in ("outage", "notice"):
            seconds = getattr(self, name)
            if not 0 <= seconds <= LONGEST_OUTAGE:
                raise InvalidOption(name, f"{seconds!r} is no number of seconds from 0 to {LONGEST_OUTAGE:.0f}")
        if self.queue is not None and (not isinstance(self.queue, int) or self.queue < 1):
            raise InvalidOption("queue", f"{self.queue!r} is no whole number of at least 1")

    @property
    def fleet(self) -> Fleet:
        """The policy that we recommend here."""
        return fleet(clients=self.clients, connects_per_second=self.connects_per_second)

    @property
    def room(self) -> int:
        """CONNECTs that may wait at the broker."""
        return max(1, int(self.fleet.budget)) if self.queue is None else self.queue


@frozen
class Contender:
    """A policy with what the simulator must know to be quick.

    Attributes:
        name: For people.
        backoff: The policy.
        has_jitter: Whether two clients in the same state may wait differently.
        has_phase: Whether a client keeps a phase through the outage.
        counts: Failures after which the policy makes no difference any more.
    """

    name: str
    backoff: Backoff
    has_jitter: bool = True
    has_phase: bool = False
    counts: int = 64


def contenders(storm: Storm) -> tuple[Contender, ...]:
    """Our two policies, and those of the peers."""
    return (
        Contender("fleet", storm.fleet, has_phase=True, counts=1),
        Contender("exponential", Exponential(), counts=1),
        Contender("ActiveMQ failover", peer_policies.ACTIVEMQ, has_jitter=False),
        Contender("MQTT.js", peer_policies.MQTT_JS, has_jitter=False, counts=1),
        Contender("paho-mqtt", peer_policies.PAHO, has_jitter=False),
        Contender("awscrt", peer_policies.AWSCRT),
        Contender("full jitter", peer_policies.FULL_JITTER, counts=8),
        Contender("loop min(2**n, 30)", peer_policies.LOOP, has_jitter=False),
    )


@frozen(kw_only=True)
class Run:
    """What became of one policy. Times are seconds after the broker's return.

    Attributes:
        policy: Its name.
        storm: What it was up against.
        peak_per_second: Most CONNECTs that reached the broker in any one second.
        peak_in_window: Most CONNECTs in any ``window`` seconds of the budget.
        half_back: When half of the clients (at least one) were served; None: not within the simulated time.
        most_back: The same for 99 % of them.
        all_back: The same for the last one.
        connects: CONNECTs in all.
        refused: Those of them that found the queue full.
        attempts: Attempts in all, with those while the broker was down.
        per_second: CONNECTs by whole second; seconds without any are left out.
    """

    policy: str
    storm: Storm
    peak_per_second: int
    peak_in_window: int
    half_back: float | None
    most_back: float | None
    all_back: float | None
    connects: int
    refused: int
    attempts: int
    per_second: dict[int, int]

    @property
    def of_budget(self) -> float:
        """The peak as a share of the budget; above 1 the budget was exceeded."""
        return self.peak_in_window / int(self.storm.fleet.budget)

    @property
    def keeps_budget(self) -> bool:
        """Whether there were never more CONNECTs than the budget in any window."""
        return self.peak_in_window <= self.storm.fleet.budget


def simulate(
    contender: Contender, storm: Storm, *, seed: int = 1, on_progress: Callable[[float], object] | None = None
) -> Run:
    """Run *storm* against *contender*'s policy. The same *seed* gives the same result.

    *on_progress* is called now and then with the share that is done, from 0 to 1.
    """
    return _Simulation(contender, storm, random.Random(f"{seed} {contender.name}"), on_progress).run()


def slot(time: float, back_at: float) -> float:
    """The width in seconds of the slots at *time*, when clients are moved in groups.

    1 ms in the first 10 s after the loss, 10 ms until 100 s, then 0.1 s; but 1 s while the broker stays down for longer
    than two of the longest delays, for what happens then is forgotten when it returns.
    """
    finest = min(0.1, max(0.001, 10.0 ** math.floor(math.log10(max(time, 1.0))) / 1000))
    return 1.0 if 300.0 < time < back_at - 300.0 else finest


class _Halves(random.Random):
    """A generator whose next draw lies in a given part of [0, 1), for stratified draws."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(0)
        self._rng = rng
        self.low = 0.0
        self.width = 1.0

    def random(self) -> float:
        return self.low + self.width * self._rng.random()


def split(count: int, cells: int, rng: random.Random) -> list[int]:
    """*count* clients thrown into *cells* equally likely cells, a power of two: an exact multinomial draw."""
    if cells == 1:
        return [count]
    left = rng.getrandbits(count).bit_count() if count else 0  # the ones among n fair bits are Binomial(n, 1/2)
    return split(left, cells // 2, rng) + split(count - left, cells // 2, rng)


@define
class _Peak:
    """The most arrivals in any window of *width* seconds, both ends not included together."""

    width: float
    most: int = 0
    _sum: int = 0
    _log: deque[tuple[float, int]] = field(factory=deque)

    def add(self, time: float, count: int) -> None:
        log, width = self._log, self.width
        log.append((time, count))
        self._sum += count
        while log[0][0] <= time - width + 1e-9:
            self._sum -= log.popleft()[1]
        self.most = max(self.most, self._sum)


@define
class _Broker:
    """Serves in order of arrival, from *back_at* on."""

    storm: Storm
    back_at: float
    free_at: float = 0.0
    served: int = 0
    connects: int = 0
    refused: int = 0
    per_second: dict[int, int] = field(factory=dict)
    peak: _Peak = field(init=False)
    peak_in_window: _Peak = field(init=False)
    milestones: dict[int, float] = field(factory=dict)
    _rate: float = field(init=False)
    _room: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        policy = self.storm.fleet
        self._rate, self._room = policy.rate, self.storm.room
        self.peak, self.peak_in_window = _Peak(1.0), _Peak(policy.window)

    def arrive(self, time: float, count: int) -> int:
        """*count* CONNECTs at once; how many of them are refused."""
        self.connects += count
        self.peak.add(time, count)
        self.peak_in_window.add(time, count)
        second = int(time - self.back_at)
        self.per_second[second] = self.per_second.get(second, 0) + count
        start = max(self.free_at, time)
        taken = min(count, max(0, self._room - math.ceil((start - time) * self._rate - 1e-6)))
        if taken:
            for wanted in self.milestones:
                if self.served < wanted <= self.served + taken:
                    self.milestones[wanted] = start + (wanted - self.served) / self._rate - self.back_at
            self.served += taken
            self.free_at = start + taken / self._rate
        self.refused += count - taken
        return count - taken


class _Simulation:
    """One run: parcels of clients on an agenda; most parcels are one client."""

    def __init__(
        self,
        contender: Contender,
        storm: Storm,
        rng: random.Random,
        on_progress: Callable[[float], object] | None,
    ) -> None:
        self.contender, self.storm, self.rng, self.on_progress = contender, storm, rng, on_progress
        self.next_sweep = contender.backoff.next_sweep
        self.halves = _Halves(rng)
        self.back_at = float(storm.outage)
        self.is_grouped = contender.has_jitter and not contender.has_phase and storm.clients > INDIVIDUALLY
        self.heap: list[tuple[float, int, float, float, int]] = []  # time, failures, lost_at, phase, count
        self.grouped: dict[tuple[float, int, float], int] = {}
        self.outages: dict[tuple[int, float], Outage] = {}
        self.attempts = 0

    def run(self) -> Run:
        clients = self.storm.clients
        wanted = (max(1, math.ceil(clients / 2)), math.ceil(clients * 0.99), clients)
        broker = _Broker(self.storm, self.back_at, milestones=dict.fromkeys(wanted, math.nan))
        self._lose()
        heapq.heapify(self.heap)
        self._go(broker)
        half, most, everyone = (_known(broker.milestones[count]) for count in wanted)
        return Run(
            policy=self.contender.name,
            storm=self.storm,
            peak_per_second=broker.peak.most,
            peak_in_window=broker.peak_in_window.most,
            half_back=half,
            most_back=most,
            all_back=everyone,
            connects=broker.connects,
            refused=broker.refused,
            attempts=self.attempts,
            per_second=broker.per_second,
        )

    def _lose(self) -> None:
        """Every client notices the loss and plans its first attempt."""
        clients, notice = self.storm.clients, self.storm.notice
        moments = max(1, min(clients, int(notice / TICK)))
        for number in range(moments):
            lost_at = notice * number / moments
            count = clients * (number + 1) // moments - clients * number // moments
            self._plan(lost_at, 0, lost_at, -1.0, count)

    def _go(self, broker: _Broker) -> None:
        """Attempts in the order of time, until everybody is back or it takes too long."""
        heap, grouped, back_at, counts = self.heap, self.grouped, self.back_at, self.contender.counts
        end = back_at + 3600.0 + PATIENCE * self.storm.clients / self.storm.connects_per_second
        steps = 0
        while heap:
            now, failures, lost_at, phase, count = heapq.heappop(heap)
            if now > end:
                break
            if count == 0:
                count = grouped.pop((now, failures, lost_at))
            self.attempts += count
            left = count if now < back_at else broker.arrive(now, count)
            if left:
                self._plan(now, min(failures + 1, counts), lost_at, phase, left)
            steps += 1
            if steps % 16_384 == 0 and self.on_progress is not None:
                self.on_progress(self._share(now, broker.served))

    def _share(self, now: float, served: int) -> float:
        down, alone = self.back_at, self.storm.clients / self.storm.connects_per_second
        return (min(now, down) + alone * served / self.storm.clients) / (down + alone)

    # Planning the next attempt of clients that failed together. --------------------------------------------------

    def _plan(self, now: float, failures: int, lost_at: float, phase: float, count: int) -> None:
        rng, contender = self.rng, self.contender
        if contender.has_phase:
            for _ in range(count):
                each = rng.random() if phase < 0 else phase
                at = self.next_sweep(Outage(lost_at, each, failures), now, rng)
                self._push(at, failures, lost_at, each, 1)
            return
        outage = self.outages.get((failures, lost_at))
        if outage is None:
            outage = self.outages[failures, lost_at] = Outage(lost_at, 0.0, failures)
        if not contender.has_jitter:
            self._push(self.next_sweep(outage, now, rng), failures, lost_at, 0.0, count)
        elif not self.is_grouped or count <= 4 or failures == 0:
            for _ in range(count):
                self._push(self.next_sweep(outage, now, rng), failures, lost_at, 0.0, 1)
        else:
            halves = self.halves
            cells = min(CELLS, 1 << (count // 2).bit_length() - 1)
            halves.width = 1.0 / cells
            for number, part in enumerate(split(count, cells, rng)):
                if part:
                    halves.low = number * halves.width
                    self._push(self.next_sweep(outage, now, halves), failures, lost_at, 0.0, part)

    def _push(self, at: float, failures: int, lost_at: float, phase: float, count: int) -> None:
        if self.is_grouped:
            width = slot(at, self.back_at)
            at = math.ceil(at / width) * width  # never earlier than the policy allows
            key = (at, failures, lost_at)
            before = self.grouped.get(key)
            self.grouped[key] = count + (before or 0)
            if before is not None:
                return
            count = 0
        heapq.heappush(self.heap, (at, failures, lost_at, phase, count))


def _known(time: float) -> float | None:
    return None if math.isnan(time) else time
