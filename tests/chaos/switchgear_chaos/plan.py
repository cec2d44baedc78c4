"""What is going to fail, and when: a pure function of the seed. Pure: no I/O, no clock.

A plan has stages, which run one after the other. Each has brokers, publishers, one consumer, and its faults.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict, field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

PUBLISHER: Final = "publisher"
CONSUMER: Final = "consumer"
"""The process; its connection to broker N is ``consumer-N``."""
BROKER: Final = "broker"
LINK: Final = "link"
"""A client's way to its brokers: targets are publishers and connections of the consumer."""


@frozen(kw_only=True)
class Kind:
    """One kind of fault.

    Attributes:
        target: What it strikes.
        share: How often, beside the others.
        lasts: Seconds, from and to.
        words: What happens, for the table.
    """

    target: str
    share: int
    lasts: tuple[float, float]
    words: str


KINDS: Final[dict[str, Kind]] = {
    "broker_kill": Kind(target=BROKER, share=12, lasts=(0.1, 2.5), words="SIGKILL of a broker, which comes back"),
    "broker_freeze": Kind(target=BROKER, share=8, lasts=(0.1, 4.0), words="SIGSTOP of a broker, then SIGCONT"),
    "publisher_kill": Kind(target=PUBLISHER, share=8, lasts=(0.0, 1.5), words="SIGKILL of a publisher, then restart"),
    "consumer_kill": Kind(target=CONSUMER, share=6, lasts=(0.0, 2.0), words="SIGKILL of the consumer, then restart"),
    "publisher_restart": Kind(
        target=PUBLISHER, share=5, lasts=(0.0, 1.0), words="a publisher closes without draining, then restart"
    ),
    "consumer_restart": Kind(target=CONSUMER, share=4, lasts=(0.0, 1.0), words="the consumer closes, then restart"),
    "reset": Kind(target=LINK, share=8, lasts=(0.0, 0.0), words="TCP reset on both sides"),
    "cut_within": Kind(target=LINK, share=8, lasts=(0.5, 2.0), words="reset in the middle of a packet, by bytes"),
    "half_close": Kind(target=LINK, share=6, lasts=(0.0, 0.0), words="FIN in one direction"),
    "blackhole": Kind(
        target=LINK, share=6, lasts=(0.2, 4.0), words="nothing passes, nothing ends, then it passes again"
    ),
    "forget": Kind(target=LINK, share=4, lasts=(0.0, 0.0), words="a NAT forgets the connection"),
    "slow": Kind(target=LINK, share=6, lasts=(0.5, 4.0), words="a slow and late link"),
    "refuse": Kind(target=LINK, share=4, lasts=(0.2, 2.0), words="connections are reset and refused"),
    "connack": Kind(target=LINK, share=5, lasts=(0.5, 2.0), words="CONNACK says no"),
    "drop": Kind(target=LINK, share=5, lasts=(0.5, 2.0), words="accepted, then dropped"),
    "silence": Kind(target=LINK, share=4, lasts=(0.5, 2.5), words="accepted, and never an answer"),
    "disk_full": Kind(
        target=PUBLISHER,
        share=5,
        lasts=(0.3, 2.5),
        words="no space left on the outbox's disk; half with a SIGKILL in it",
    ),
    "clock_jump": Kind(target=PUBLISHER, share=5, lasts=(0.0, 0.0), words="the wall clock is set, up to a day"),
    "takeover": Kind(target=LINK, share=5, lasts=(0.1, 1.0), words="another client takes the client id"),
}
"""By name. Shares are small whole numbers, so that a table of a run has every kind in it."""

REST: Final = (0.3, 2.0)
"""Seconds that a target is left alone after a fault, from and to."""


@frozen(kw_only=True)
class Fault:
    """One fault.

    Attributes:
        number: Counted from 1, over the stage.
        at: Seconds after the start of the stage.
        kind: A name of `KINDS`.
        target: ``broker-N``, ``publisher-N``, ``consumer`` or ``consumer-N``.
        lasts: Seconds.
        detail: What else there is to it, such as the rate of a slow link.
    """

    number: int
    at: float
    kind: str
    target: str
    lasts: float
    detail: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True)
class Stage:
    """What runs together.

    Attributes:
        name: ``mosquitto`` (two brokers that share nothing), ``activemq`` (a pair on one store) or ``kills`` (as
            mosquitto, and nothing but kills of the one publisher).
        publishers: How many.
        rate: Messages a second of each.
        seconds: How long the faults go on.
        faults: In order of time.
        backlogs: How many are built up and drained after the faults, to see whether memory or file grow.
        backlog: Messages in each.
        steady: Seconds of publishing without any fault at the end, in which nothing is excused.
    """

    name: str
    publishers: int
    rate: int
    seconds: float
    faults: tuple[Fault, ...]
    backlogs: int = 3
    backlog: int = 10_000
    steady: float = 0.0

    @property
    def least_stored(self) -> int:
        """Messages of QoS 1 that are stored at least, or the stage has shown nothing.

        All of the backlogs, and four in ten of what the rate makes: publishers are held up, killed, and start again.
        """
        return int(0.9 * self.publishers * (0.4 * self.rate * self.seconds + self.backlogs * self.backlog))

    @property
    def consumers(self) -> tuple[str, ...]:
        """The consumer's connections: one to each broker, or one to whichever of a pair is active."""
        return ("consumer-0",) if self.name == "activemq" else ("consumer-0", "consumer-1")


@frozen(kw_only=True)
class Plan:
    """All stages of a run, and the seed that made them.

    Attributes:
        least_faults: Faults that must be felt by what they strike, or the run has shown too little.
        least_stored: The same of messages of QoS 1 that are reported to be stored.
    """

    seed: int
    name: str
    stages: tuple[Stage, ...]
    least_faults: int = 0
    least_stored: int = 0

    @property
    def faults(self) -> int:
        """How many there are."""
        return sum(len(stage.faults) for stage in self.stages)

    def as_json(self) -> str:
        """It as a text that `read_plan` reads."""
        return json.dumps(asdict(self), indent=1)


LEAST: Final = {"least_faults": 300, "least_stored": 200_000}
"""What a whole run has to show."""

PLANS: Final = ("all", "mosquitto", "activemq", "kills", "short", "few_kills")
"""Names that `make_plan` knows."""


def make_plan(seed: int, name: str = "all") -> Plan:
    """The plan *name* for *seed*; the same for the same arguments, on every machine.

    Raises:
        ValueError: there is no plan of that name.
    """
    if name not in PLANS:
        raise ValueError(f"{name!r} is no plan; choose one of {', '.join(PLANS)}, or name a file")
    rng = random.Random(f"{seed} {name}")
    stages = {
        "mosquitto": lambda: _stage(rng, "mosquitto", publishers=2, rate=600, seconds=240, faults=250, steady=5.0),
        "activemq": lambda: _stage(
            rng, "activemq", publishers=1, rate=50, seconds=110, faults=40, backlog=1000, steady=5.0
        ),
        "kills": lambda: _kills(rng, count=100, rate=500, backlogs=3),
        "short": lambda: _stage(
            rng, "mosquitto", publishers=1, rate=300, seconds=8, faults=len(KINDS), backlog=6000, backlogs=2
        ),
        "few_kills": lambda: _kills(rng, count=5, rate=500, backlogs=0),
    }
    chosen = ("mosquitto", "activemq", "kills") if name == "all" else (name,)
    least = LEAST if name == "all" else {}
    return Plan(seed=seed, name=name, stages=tuple(stages[each]() for each in chosen), **least)


def read_plan(text: str) -> Plan:
    """The plan that `Plan.as_json` wrote.

    Raises:
        ValueError: *text* is something else; the message says where.
    """
    try:
        facts = json.loads(text)
        stages = tuple(
            Stage(**{**stage, "faults": tuple(Fault(**fault) for fault in stage["faults"])})
            for stage in facts["stages"]
        )
        plan = Plan(**{**facts, "stages": stages})
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"this is no plan: {error}") from None
    for fault in (fault for stage in plan.stages for fault in stage.faults):
        if fault.kind not in KINDS:
            raise ValueError(f"fault {fault.number} is {fault.kind!r}; known are {', '.join(KINDS)}")
    return plan


def _stage(
    rng: random.Random,
    name: str,
    *,
    publishers: int,
    rate: int,
    seconds: float,
    faults: int,
    backlog: int = 10_000,
    backlogs: int = 3,
    steady: float = 0.0,
) -> Stage:
    """A stage with *faults* of every kind, on targets that are not being struck already."""
    empty = Stage(
        name=name,
        publishers=publishers,
        rate=rate,
        seconds=seconds,
        faults=(),
        backlogs=backlogs,
        backlog=backlog,
        steady=steady,
    )
    chosen: list[Fault] = []
    free: dict[str, float] = {}  # when each target may be struck again
    for index, kind in enumerate(_kinds(rng, faults)):
        at = (index + rng.random()) * seconds / faults
        target = rng.choice(_targets(empty, kind))
        lasts = rng.uniform(*KINDS[kind].lasts)
        at = max(at, free.get(target, 0.0))
        free[target] = at + lasts + rng.uniform(*REST)
        chosen.append(
            Fault(
                number=0,
                at=round(at, 3),
                kind=kind,
                target=target,
                lasts=round(lasts, 3),
                detail=_detail(rng, kind),
            )
        )
    return _numbered(empty, chosen)


def _kinds(rng: random.Random, count: int) -> list[str]:
    """*count* kinds in a random order, each about as often as its share says, and at least once where that fits."""
    kinds = list(KINDS)
    rng.shuffle(kinds)
    while len(kinds) < count:
        kinds += rng.choices(list(KINDS), weights=[each.share for each in KINDS.values()])
    kinds = kinds[:count]
    rng.shuffle(kinds)
    return kinds


def _targets(stage: Stage, kind: str) -> list[str]:
    """What *kind* may strike in *stage*."""
    publishers = [f"{PUBLISHER}-{index}" for index in range(stage.publishers)]
    if KINDS[kind].target == BROKER:
        return ["broker-0"] if stage.name == "activemq" else ["broker-0", "broker-1"]
    if KINDS[kind].target == LINK:
        return [*publishers, *stage.consumers]
    return publishers if KINDS[kind].target == PUBLISHER else [CONSUMER]


def _detail(rng: random.Random, kind: str) -> dict[str, float]:
    """What else there is to a fault of *kind*."""
    if kind == "broker_kill":
        return {"frozen_before": round(rng.choice([0.0, rng.uniform(0.02, 0.2)]), 3)}
    if kind in {"publisher_kill", "publisher_restart"}:
        return {"cut_off": round(rng.choice([0.0, rng.uniform(0.05, 0.5)]), 3)}
    if kind in {"consumer_kill", "consumer_restart"}:
        return {"dozing": round(rng.choice([0.0, rng.uniform(0.05, 0.5)]), 3)}
    if kind == "disk_full":
        return {"killed": rng.randint(0, 1)}
    if kind == "slow":
        return {"delay": round(rng.uniform(0.01, 0.4), 3), "rate": rng.choice([0, 20_000, 200_000])}
    if kind == "cut_within":
        return {"bytes": rng.randint(1, 20_000), "to_broker": rng.randint(0, 1)}
    if kind == "half_close":
        return {"to_broker": rng.randint(0, 1)}
    if kind == "connack":
        return {"code": rng.choice([3, 3, 5])}
    if kind == "drop":
        return {"after_connect": rng.randint(0, 1)}
    if kind == "clock_jump":
        return {
            "seconds": round(rng.choice([-1, 1]) * rng.choice([1.5, 60.0, 3600.0, 86_400.0]) * rng.uniform(0.5, 1), 1)
        }
    if kind in {"blackhole", "refuse", "silence"}:
        return {"everywhere": rng.randint(0, 1)}
    return {}


def _kills(rng: random.Random, *, count: int, rate: int, backlogs: int) -> Stage:
    """Nothing but kills of one publisher, each once so many of its messages were reported to be stored."""
    at = 0.0
    faults = []
    for _ in range(count):
        at += 1.0
        detail = {"stored": rng.choice([1, rng.randint(1, 500)]), **_detail(rng, "publisher_kill")}
        faults.append(Fault(number=0, at=at, kind="publisher_kill", target="publisher-0", lasts=0.0, detail=detail))
    steady = 5.0 if backlogs else 0.0
    empty = Stage(name="kills", publishers=1, rate=rate, seconds=at, faults=(), backlogs=backlogs, steady=steady)
    return _numbered(empty, faults)


def _numbered(stage: Stage, faults: list[Fault]) -> Stage:
    facts: dict[str, Any] = asdict(stage, recurse=False)
    ordered = sorted(faults, key=lambda fault: fault.at)
    numbered = tuple(
        Fault(**{**asdict(fault, recurse=False), "number": number}) for number, fault in enumerate(ordered, 1)
    )
    return Stage(**{**facts, "faults": numbered})
