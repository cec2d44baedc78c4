"""What was accepted, beside what arrived at the brokers and what was handled: lost, twice, out of order. Pure.

The brokers' logs are the independent witness. A message that is there twice has to be explained by what they show:

- it *arrived again* on another connection of its publisher, and the publisher had not been told that it was acknowledged
  (or was killed so soon after that it could not note it);
- it was *handled again* because the broker delivered it again, on another connection of the consumer;
- in either case, a fault struck the client or the broker shortly before; where there was none, before the first and in
  the steady publishing at the end, nothing is excused, neither a repetition nor a lost connection.

A message of QoS 2 is handled once in one life of the consumer, for each session of its publisher in which it came; and
once more where mosquitto was killed between its PUBREL and PUBCOMP: 2.0.11 then begins with PUBLISH again (see chaos.md).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from attrs import asdict, define, field

from switchgear_chaos.journal import qos_of
from switchgear_chaos.order import out_of_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from switchgear_chaos.evidence import Arrival, Delivered, Evidence, Handled, Key, Strike

SLACK: Final = 1.5
"""Seconds: mosquitto's log has whole ones."""

NOTED: Final = 0.5
"""Seconds after an acknowledgement within which a kill comes before the outbox's note of it: 0.05 s, and a busy machine."""

WRITABLE: Final = 2.0
"""The same, after there was space on the disk again: the outbox tries once a second."""

AFTER: Final = 30.0
"""Seconds for which a fault explains what its victims do twice; backing off and detecting take their time."""

FAULTY: Final = ("ended", "lost", "unhandled", "unexplained", "twice_effective", "reordered")
"""What must be 0; at QoS 0 a loss is no fault, when something had struck. No fault of a run may end a message otherwise."""


NO_FAULT: Final = "none"
"""What the tables call it when nothing had struck."""


@define
class Row:
    """One line of a table: what was counted.

    Attributes:
        stored: Messages that were reported to be stored.
        arrived: Of these, those that reached a broker.
        handled: Of these, those that the consumer handled.
        ended: Those that their delivery reported as ended otherwise, stored or not.
        lost: Stored, not ended, and they never reached a broker.
        unhandled: They reached a broker, and were never handled.
        arrived_again: Arrivals beyond the first of a message.
        handled_again: Handlings beyond the first.
        unexplained: Of the last two, those that nothing explains.
        effective: Messages that had an effect, of the publishers whose messages carry an id.
        twice_effective: Of these, those that had more than one.
        reordered: Messages that came before an older one on the same connection.
    """

    stored: int = 0
    arrived: int = 0
    handled: int = 0
    ended: int = 0
    lost: int = 0
    unhandled: int = 0
    arrived_again: int = 0
    handled_again: int = 0
    unexplained: int = 0
    effective: int = 0
    twice_effective: int = 0
    reordered: int = 0


@define
class Verdict:
    """The outcome of one stage: rows by QoS and by kind of fault, and what is wrong, with examples.

    Attributes:
        strikes: How often each kind of fault happened.
        felt: How often what it struck was there and at work.
        losses: Connections that ended after it.
    """

    by_qos: dict[int, Row] = field(factory=lambda: {qos: Row() for qos in (0, 1, 2)})
    by_fault: dict[str, Row] = field(factory=lambda: defaultdict(Row))
    strikes: Counter[str] = field(factory=Counter)
    felt: Counter[str] = field(factory=Counter)
    losses: Counter[str] = field(factory=Counter)
    examples: list[str] = field(factory=list)

    @property
    def problems(self) -> list[str]:
        """What must not be, in words; empty when all is well."""
        found = []
        for qos, row in self.by_qos.items():
            for name in FAULTY:
                count = getattr(row, name)
                if count and not (qos == 0 and name in {"lost", "unhandled"}):
                    found.append(f"{count} message(s) of QoS {qos} {name}")
        if count := self.losses[NO_FAULT]:
            found.append(f"{count} connection(s) lost without a fault")
        return found


def judge(evidence: Evidence) -> Verdict:
    """Compare everything with everything."""
    return _Judge(evidence).verdict()


class _Judge:
    """The work of `judge`, with the indexes that it needs."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.found = Verdict()
        self.arrivals: dict[Key, list[Arrival]] = defaultdict(list)
        self.delivered: dict[Key, list[Delivered]] = defaultdict(list)
        self.handled: dict[Key, list[Handled]] = defaultdict(list)
        for arrival in evidence.arrivals:
            self.arrivals[arrival.key].append(arrival)
        self.lines_again: Counter[tuple[Key, tuple[int, int]]] = Counter()
        """Deliveries that stand twice in a row in a log: mosquitto writes the line again when it could not send (seen)."""
        last: dict[tuple[int, int], Key] = {}
        for delivery in evidence.delivered:
            place = (delivery.broker, delivery.connection)
            self.delivered[delivery.key].append(delivery)
            self.lines_again[delivery.key, place] += last.get(place) == delivery.key
            last[place] = delivery.key
        for handling in evidence.handled:
            self.handled[handling.key].append(handling)
        self.by_client: dict[str, list[Strike]] = defaultdict(list)
        for strike in sorted(evidence.strikes, key=lambda strike: strike.began):
            self.found.strikes[strike.kind] += 1
            self.found.felt[strike.kind] += strike.felt
            for client in strike.touched:
                self.by_client[client].append(strike)

    def verdict(self) -> Verdict:
        evidence = self.evidence
        for key in {**evidence.stored, **evidence.ended, **dict.fromkeys(self.arrivals), **dict.fromkeys(self.handled)}:
            self._count(key)
        for client, time in self.evidence.losses:
            self.found.losses[self._kind_before(client, time)] += 1
        for key, time, why in out_of_order(evidence):
            self._blame("reordered", key, time, why)
        return self.found

    def _rows(self, key: Key, time: float, client: str) -> tuple[Row, Row]:
        return self.found.by_qos[qos_of(key[1])], self.found.by_fault[self._kind_before(client, time)]

    def _kind_before(self, client: str, time: float) -> str:
        strike = self._strike_before(client, time)
        return NO_FAULT if strike is None else strike.kind

    def _strike_before(self, client: str, time: float) -> Strike | None:
        """The last fault that touched *client* and began before *time*, not too long before."""
        steady_from = self.evidence.steady_from
        if steady_from is not None and time > steady_from + SLACK:
            return None
        strikes = self.by_client[client]
        index = bisect_right(strikes, time + SLACK, key=lambda strike: strike.began)
        if index == 0:
            return None
        last = max(strikes[max(0, index - 4) : index], key=lambda strike: strike.ended)
        return strikes[index - 1] if time - SLACK - last.ended <= AFTER else None

    def _add(self, name: str, key: Key, time: float, client: str) -> None:
        for row in self._rows(key, time, client):
            setattr(row, name, getattr(row, name) + 1)

    def _blame(self, name: str, key: Key, time: float, why: str, client: str | None = None) -> None:
        self._add(name, key, time, client or f"publisher-{key[0]}")
        if len(self.found.examples) < 40 and not (qos_of(key[1]) == 0 and name in {"lost", "unhandled"}):
            self.found.examples.append(f"publisher {key[0]} message {key[1]} (QoS {qos_of(key[1])}): {why}")

    # One message. ------------------------------------------------------------------------------------------------

    def _count(self, key: Key) -> None:
        evidence, publisher = self.evidence, f"publisher-{key[0]}"
        arrivals, handled = self.arrivals.get(key, []), self.handled.get(key, [])
        stored_at = evidence.stored.get(key)
        if stored_at is not None:
            self._add("stored", key, stored_at, publisher)
            if arrivals:
                self._add("arrived", key, stored_at, publisher)
            if handled:
                self._add("handled", key, stored_at, publisher)
            if key in evidence.ended:
                pass
            elif not arrivals and not handled:
                self._blame("lost", key, stored_at, "stored, and never arrived at a broker")
            elif not handled:
                self._blame("unhandled", key, arrivals[-1].time, "arrived at a broker, and was never handled")
            if not handled and qos_of(key[1]) == 0 and not self._has_struck(publisher, stored_at):
                self._blame("unexplained", key, stored_at, "not handled at QoS 0, although no fault had struck")
        if key in evidence.ended:
            self._blame("ended", key, evidence.ended[key][0], f"ended as {evidence.ended[key][1]}")
        if handled and not arrivals:
            self._blame("unexplained", key, handled[0].time, "handled, and in no broker's log")
        if key[0] in evidence.exactly_once and handled:
            self._count_effects(key, handled)
        for before, again in self._repetitions(arrivals) if len(arrivals) > 1 else ():
            self._add("arrived_again", key, again.time, publisher)
            if why := self._unexplained_arrival(before, again):
                self._blame("unexplained", key, again.time, why)
        for number, repeated in enumerate(handled[1:], 2):  # it arrived again, or was delivered again
            self._add("handled_again", key, repeated.time, publisher if number <= len(arrivals) else "consumer")
        if handled:
            for why in self._unexplained_handling(key, arrivals, handled):
                self._blame("unexplained", key, handled[-1].time, why, "consumer")

    def _count_effects(self, key: Key, handled: Sequence[Handled]) -> None:
        effects = self.evidence.effects[key]
        if effects == 0:
            self._blame("unhandled", key, handled[-1].time, "handled, and without its effect", "consumer")
            return
        self._add("effective", key, handled[-1].time, "consumer")
        if effects > 1:
            self._blame("twice_effective", key, handled[-1].time, f"had its effect {effects} times", "consumer")

    def _has_struck(self, publisher: str, time: float) -> bool:
        """Whether a fault may have taken a message of QoS 0 that was published at *time*, on its way or at its end."""
        return any(self._strike_before(client, time) is not None for client in (publisher, "consumer"))

    def _repetitions(self, arrivals: Sequence[Arrival]) -> Iterator[tuple[Sequence[Arrival], Arrival]]:
        """Each arrival after the first with those before it; where the broker knows a QoS 2 packet again, it is none."""
        ordered = sorted(arrivals, key=lambda arrival: arrival.time)
        for index, again in enumerate(ordered[1:], 1):
            known = [
                before
                for before in ordered[:index]
                if (before.broker, before.session) == (again.broker, again.session)
                and before.packet_id == again.packet_id
                and before.connection != again.connection
            ]
            if qos_of(again.key[1]) != 2 or not known:
                yield ordered[:index], again

    def _unexplained_arrival(self, before: Sequence[Arrival], again: Arrival) -> str | None:
        qos = qos_of(again.key[1])
        if qos == 0:
            killed = self._kills(again.key[0], before[-1].time, again.time)
            return None if killed else "a message of QoS 0 was sent twice by one process"
        if any((b.broker, b.connection) == (again.broker, again.connection) for b in before):
            return f"sent twice on connection {again.connection} to broker {again.broker}"
        if qos == 2 and any((b.broker, b.session) == (again.broker, again.session) for b in before):
            return f"sent again with another packet id in session {again.session} of broker {again.broker}"
        if why := self._unexplained_by_kills(again):
            return why
        if self._strike_before(f"publisher-{again.key[0]}", again.time) is None:
            return "sent again, although no fault had touched its publisher"
        return None

    def _unexplained_by_kills(self, again: Arrival) -> str | None:
        """What is sent again after it was acknowledged takes a kill, before the outbox has noted it."""
        publisher = again.key[0]
        sent_after = max(again.time, again.begun)
        acked = max((at for at in self.evidence.acked.get(again.key, ()) if at < sent_after), default=None)
        if acked is None:
            return None
        kills = self._kills(publisher, acked, again.time)
        if not kills:
            return "sent again, acknowledged before, and no kill between"
        full = any(
            strike.kind == "disk_full"
            and strike.target == f"publisher-{publisher}"
            and strike.began <= kills[0] <= strike.ended + WRITABLE
            for strike in self.evidence.strikes
        )
        if kills[0] - acked > NOTED and not full:
            return f"sent again, acknowledged {kills[0] - acked:.1f} s before the process was killed"
        return None

    def _kills(self, publisher: int, first: float, last: float) -> list[float]:
        """When this publisher was killed between *first* and *last*, which a broker's log says."""
        return [at for at in self.evidence.kills[publisher] if first <= at <= last + SLACK]

    def _unexplained_handling(self, key: Key, arrivals: Sequence[Arrival], handled: Sequence[Handled]) -> Iterator[str]:
        delivered = self.delivered.get(key, [])
        for broker, count in Counter(handling.broker for handling in handled).items():
            sent = [d for d in delivered if self.evidence.one_store or d.broker == broker]
            if count > len(sent):
                yield f"handled {count} times, delivered {len(sent)} times by broker {broker}"
                continue
            came = [a for a in arrivals if self.evidence.one_store or a.broker == broker]
            if qos_of(key[1]) == 2:
                came = list({(a.broker, a.session): a for a in came}.values())
            places = Counter((d.broker, d.connection) for d in sent)
            most = max(times - self.lines_again[key, place] for place, times in places.items())
            in_one_life = self._most_in_one_life([h for h in handled if h.broker == broker])
            if most > len(came):
                yield f"delivered {most} times on one connection, having arrived {len(came)} times at broker {broker}"
            elif (
                qos_of(key[1]) == 2
                and in_one_life > len(came) + self._begun_again(sent)
                and not self.evidence.one_store
            ):
                yield f"handled {in_one_life} times by one process, having arrived {len(came)} times at broker {broker}"
            elif count > len(came) and self._strike_before("consumer", handled[-1].time) is None:
                yield "handled again, although no fault had touched the consumer"

    def _begun_again(self, sent: Sequence[Delivered]) -> int:
        """How often the broker was killed between a PUBREL and the same message's next PUBLISH; its log has whole seconds."""
        target = f"broker-{sent[0].broker}"
        kills = [s.began for s in self.evidence.strikes if (s.kind, s.target) == ("broker_kill", target)]
        return sum(
            before.released and any(before.time - SLACK <= at <= again.time + SLACK for at in kills)
            for before, again in itertools.pairwise(sent)
        )

    def _most_in_one_life(self, handled: Sequence[Handled]) -> int:
        return max(Counter(bisect_right(self.evidence.lives, handling.time) for handling in handled).values())


def total(rows: Iterable[Row]) -> Row:
    """The sum of *rows*."""
    sums = Row()
    for row in rows:
        for name in asdict(sums):
            setattr(sums, name, getattr(sums, name) + getattr(row, name))
    return sums
