"""What came before something older than it: at the brokers, and at the consumer's handler. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from switchgear_chaos.journal import qos_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from switchgear_chaos.evidence import Arrival, Evidence, Key

WHOLE: Final = 1.0
"""Seconds: what two brokers' logs say to be less apart may have happened in either order; mosquitto's has whole ones."""


def out_of_order(evidence: Evidence) -> Iterator[tuple[Key, float, str]]:
    """Messages that came too late: which, when, and where it was seen."""
    for key, time in _on_a_connection(evidence):
        yield key, time, "arrived out of order"
    for key, time in _overtaken(evidence):
        yield key, time, "arrived for the first time after a younger one that was sent on another connection"
    for key, time in _at_the_consumer(evidence):
        yield key, time, "handled out of order"


def _on_a_connection(evidence: Evidence) -> Iterator[tuple[Key, float]]:
    """Messages that reached a broker after a younger one of their publisher, on the same connection."""
    last: dict[tuple[int, int, int], int] = {}
    for arrival in evidence.arrivals:
        publisher, number = arrival.key
        place = (publisher, arrival.broker, arrival.connection)
        if number < last.get(place, -1):
            yield arrival.key, arrival.time
        last[place] = max(number, last.get(place, -1))


def _overtaken(evidence: Evidence) -> Iterator[tuple[Key, float]]:
    """Messages whose first arrival anywhere comes after that of a younger one, which came on another connection.

    What is not acknowledged is sent first on the next connection; so a younger one never arrives before an older one
    has. At QoS 0 nothing is sent again.
    """
    first: dict[Key, Arrival] = {}
    for arrival in sorted(evidence.arrivals, key=lambda arrival: arrival.time):  # one broker's stay in its order
        first.setdefault(arrival.key, arrival)
    youngest: dict[tuple[int, int], Arrival] = {}  # of each publisher, at each broker
    for arrival in first.values():
        publisher, number = arrival.key
        for (other, broker), young in youngest.items():
            if other != publisher or young.key[1] < number or qos_of(number) == 0:
                continue
            if (young.broker, young.connection) == (arrival.broker, arrival.connection):
                continue  # told already
            if broker == arrival.broker or arrival.time - young.time > WHOLE:
                yield arrival.key, arrival.time
                break
        place = (publisher, arrival.broker)
        if place not in youngest or number > youngest[place].key[1]:
            youngest[place] = arrival


def _at_the_consumer(evidence: Evidence) -> Iterator[tuple[Key, float]]:
    """Messages that were handled in another order than that in which one broker delivered them, at one QoS.

    QoS 2 is handled at its PUBREL, so each QoS has an order of its own.
    """

    def lane_of(broker: int, key: Key) -> tuple[int, int]:
        return (0 if evidence.one_store else broker), qos_of(key[1])

    sent: dict[tuple[int, int], list[Key]] = defaultdict(list)
    for delivery in evidence.delivered:
        sent[lane_of(delivery.broker, delivery.key)].append(delivery.key)
    places: dict[tuple[int, int], Mapping[Key, Sequence[int]]] = {}
    for lane, keys in sent.items():
        index: dict[Key, list[int]] = defaultdict(list)
        for place, key in enumerate(keys):
            index[key].append(place)
        places[lane] = index
    at: dict[tuple[int, int], int] = defaultdict(lambda: -1)
    times: Counter[tuple[tuple[int, int], Key]] = Counter()
    for handling in evidence.handled:
        lane = lane_of(handling.broker, handling.key)
        known = places.get(lane, {}).get(handling.key, ())
        following = bisect_right(known, at[lane])
        if following < len(known):
            at[lane] = known[following]
        elif times[lane, handling.key] < len(known):  # more often than delivered: unexplained, not out of order
            yield handling.key, handling.time
            at[lane] = known[-1]
        times[lane, handling.key] += 1
