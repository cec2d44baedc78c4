"""The ledger on made-up evidence: it must find what is wrong, and not cry out at what is right."""

from typing import Any

import pytest
from attrs import evolve
from switchgear_chaos.evidence import Arrival, Delivered, Evidence, Handled, Strike
from switchgear_chaos.ledger import judge

ONE, QOS_2, QOS_0 = (0, 1), (0, 10), (0, 20)
"""Messages of QoS 1, 2 and 0, by their numbers."""


def arrival(
    key: tuple[int, int] = ONE,
    *,
    broker: int = 0,
    connection: int = 1,
    session: int = 1,
    time: float = 100,
    packet_id: int = 1,
) -> Arrival:
    return Arrival(key=key, broker=broker, connection=connection, session=session, time=time, packet_id=packet_id)


def delivered(key: tuple[int, int] = ONE, *, broker: int = 0, connection: int = 1, time: float = 100) -> Delivered:
    return Delivered(key=key, broker=broker, connection=connection, time=time)


def handled(key: tuple[int, int] = ONE, *, broker: int = 0, time: float = 100) -> Handled:
    return Handled(key=key, broker=broker, time=time)


def strike(kind: str = "reset", *, target: str = "publisher-0", began: float = 100, ended: float = 100) -> Strike:
    return Strike(kind=kind, target=target, began=began, ended=ended, touched=frozenset({target}))


def whole(*keys: tuple[int, int]) -> Evidence:
    """Each of *keys* was stored, arrived, was delivered and handled once, in order."""
    return Evidence(
        stored=dict.fromkeys(keys, 99.0),
        arrivals=[arrival(key) for key in keys],
        delivered=[delivered(key) for key in keys],
        handled=[handled(key) for key in keys],
    )


def test_all_is_well() -> None:
    """Messages that arrived and were handled once, in order, are no problem."""
    verdict = judge(whole((0, 1), (0, 2), QOS_2, QOS_0))
    assert verdict.problems == []
    assert [verdict.by_qos[qos].handled for qos in (0, 1, 2)] == [1, 2, 1]


def test_a_loss_is_found() -> None:
    """A message that was reported to be stored and reached no broker is lost, and put down to the fault before it."""
    evidence = whole((0, 1), (0, 2))
    evidence.stored[0, 3] = 101.0
    evidence.strikes = [strike("disk_full", began=50), strike("publisher_kill", began=101)]
    verdict = judge(evidence)
    assert verdict.problems == ["1 message(s) of QoS 1 lost"]
    assert verdict.by_fault["publisher_kill"].lost == 1
    assert verdict.examples == ["publisher 0 message 3 (QoS 1): stored, and never arrived at a broker"]


def test_what_was_not_stored_is_not_lost() -> None:
    """A message that nobody reported as stored may vanish with its process; at QoS 0 also one that was."""
    evidence = whole((0, 1))
    evidence.stored[QOS_0] = 100.0
    evidence.strikes = [strike(target="consumer")]
    verdict = judge(evidence)
    assert verdict.problems == []
    assert verdict.by_qos[0].lost == 1
    evidence.strikes = []
    assert judge(evidence).problems == ["1 message(s) of QoS 0 unexplained"]


@pytest.mark.parametrize("stored", [{}, {(0, 2): 100.0}])
def test_what_ended_otherwise_is_found(stored: dict[tuple[int, int], float]) -> None:
    """A message whose delivery reported another end is no loss and still a problem, stored or not."""
    evidence = whole((0, 1))
    evidence.stored |= stored
    evidence.ended[0, 2] = (100.5, "refused")
    verdict = judge(evidence)
    assert verdict.problems == ["1 message(s) of QoS 1 ended"]
    assert verdict.examples == ["publisher 0 message 2 (QoS 1): ended as refused"]


def test_a_message_that_nobody_handled_is_found() -> None:
    """A message that reached a broker and no handler is a problem too."""
    evidence = whole((0, 1), (0, 2))
    evidence.handled.pop()
    assert judge(evidence).problems == ["1 message(s) of QoS 1 unhandled"]


def test_a_witness_that_saw_nothing_is_found() -> None:
    """A message that was handled and stands in no broker's log is a problem: that log cannot have been read."""
    evidence = whole((0, 1), (0, 2))
    evidence.arrivals.pop()
    assert judge(evidence).examples[0] == "publisher 0 message 2 (QoS 1): handled, and in no broker's log"
    evidence = whole((0, 1), (0, 2))
    evidence.delivered.pop()
    assert judge(evidence).examples == ["publisher 0 message 2 (QoS 1): handled 1 times, delivered 0 times by broker 0"]


def test_a_connection_that_nothing_ended_is_found() -> None:
    """A connection that is lost before any fault is a problem, and after one it is put down to it."""
    evidence = whole(ONE)
    evidence.losses = [("publisher-0", 103.0)]
    assert judge(evidence).problems == ["1 connection(s) lost without a fault"]
    evidence.strikes = [strike()]
    verdict = judge(evidence)
    assert verdict.problems == []
    assert verdict.losses == {"reset": 1}


def test_nothing_is_excused_while_nothing_is_struck() -> None:
    """In the steady publishing at the end an earlier fault explains no repetition, no loss, and no missing QoS 0."""
    evidence = whole(ONE)
    evidence.stored[QOS_0] = 103.0
    evidence.arrivals.append(arrival(connection=2, time=103))
    evidence.losses = [("consumer", 103.0)]
    evidence.strikes = [strike(), strike(target="consumer")]
    assert judge(evidence).problems == []
    evidence.steady_from = 101.0
    assert judge(evidence).problems == [
        "1 message(s) of QoS 0 unexplained",
        "1 message(s) of QoS 1 unexplained",
        "1 connection(s) lost without a fault",
    ]


def test_faults_that_nobody_felt_are_told_apart() -> None:
    """A fault that struck nothing is counted, and not among those that were felt."""
    evidence = whole(ONE)
    evidence.strikes = [strike(), evolve(strike(), felt=False)]
    verdict = judge(evidence)
    assert (verdict.strikes["reset"], verdict.felt["reset"]) == (2, 1)


def test_a_repetition_after_a_loss_is_explained() -> None:
    """A message that came again on the next connection, not having been acknowledged, after a fault, is explained."""
    evidence = whole(ONE)
    evidence.arrivals.append(arrival(connection=2, time=103))
    evidence.delivered.append(delivered(time=103))
    evidence.handled.append(handled(time=103))
    evidence.strikes = [strike(began=101)]
    verdict = judge(evidence)
    assert verdict.problems == []
    assert (verdict.by_qos[1].arrived_again, verdict.by_qos[1].handled_again) == (1, 1)
    assert verdict.by_fault["reset"].arrived_again == 1


@pytest.mark.parametrize(
    ("again", "acked", "kills", "strikes", "why"),
    [
        (arrival(time=103), [], [], [strike()], "sent twice on connection 1 to broker 0"),
        (arrival(connection=2, time=103), [], [], [], "although no fault had touched its publisher"),
        (arrival(connection=2, time=103), [], [], [strike(target="publisher-1")], "although no fault"),
        (arrival(connection=2, time=103), [100.5], [100.0], [strike()], "acknowledged before, and no kill between"),
        (
            arrival(connection=2, time=120),
            [100.5],
            [117.0],
            [strike(began=117)],
            "16.5 s before the process was killed",
        ),
        (
            arrival(connection=3, time=120),
            [100.5, 110.0],
            [100.6, 117.0],
            [strike(began=117)],
            "acknowledged 7.0 s before",
        ),
    ],
)
def test_an_unexplained_repetition_is_found(
    again: Arrival, acked: list[float], kills: list[float], strikes: list[Strike], why: str
) -> None:
    """A message that came again on one connection, without a fault, or after it was acknowledged, is a problem."""
    evidence = whole(ONE)
    evidence.arrivals.append(again)
    evidence.strikes = strikes
    evidence.kills[0] = kills
    evidence.acked[ONE] = acked
    verdict = judge(evidence)
    assert verdict.problems == ["1 message(s) of QoS 1 unexplained"]
    assert why in verdict.examples[0]


def test_a_repetition_on_one_connection_is_found_behind_another() -> None:
    """A message that came twice on one connection is a problem also when it came on another one in between."""
    evidence = whole(ONE)
    evidence.strikes = [strike()]
    evidence.arrivals += [arrival(broker=1, time=102), arrival(time=103)]
    assert "sent twice on connection 1 to broker 0" in judge(evidence).examples[0]


@pytest.mark.parametrize(
    ("kill", "strikes"),
    [
        (100.2, []),
        (110.0, [strike("disk_full", began=100, ended=109)]),
    ],
)
def test_a_kill_before_the_note_explains_a_repetition(kill: float, strikes: list[Strike]) -> None:
    """A publisher that was killed just after the acknowledgement, or whose disk was full, sends again in its next life."""
    evidence = whole(ONE)
    evidence.acked[ONE] = [100.0]
    evidence.kills[0] = [kill]
    evidence.strikes = [*strikes, strike("publisher_kill", began=kill, ended=kill)]
    evidence.arrivals.append(arrival(connection=2, time=114))
    assert judge(evidence).problems == []


def test_an_acknowledgement_in_the_second_of_the_repetition_counts() -> None:
    """Where the log has whole seconds, what was acknowledged before its next connection was usable was not to be sent."""
    evidence = whole(ONE)
    evidence.acked[ONE] = [100.3]
    evidence.strikes = [strike()]
    evidence.arrivals.append(arrival(connection=2, time=100))
    assert judge(evidence).problems == []  # it may have been for the second
    evidence.arrivals[-1] = evolve(evidence.arrivals[-1], begun=100.4)
    assert judge(evidence).problems == ["1 message(s) of QoS 1 unexplained"]


def test_a_message_of_qos_0_comes_twice_after_a_kill_only() -> None:
    """One process sends QoS 0 once; its next life may not know that it did."""
    evidence = whole(QOS_0)
    evidence.strikes = [strike()]
    evidence.arrivals.append(arrival(QOS_0, connection=2, time=103))
    assert judge(evidence).problems == ["1 message(s) of QoS 0 unexplained"]
    evidence.kills[0] = [102.0]
    assert judge(evidence).problems == []


def test_a_redelivery_is_explained() -> None:
    """What the broker delivered again on another connection of the consumer may be handled again."""
    evidence = whole(ONE)
    evidence.delivered.append(delivered(connection=2, time=103))
    evidence.handled.append(handled(time=103))
    evidence.strikes = [strike("consumer_kill", target="consumer", began=101)]
    verdict = judge(evidence)
    assert verdict.problems == []
    assert verdict.by_fault["consumer_kill"].handled_again == 1


@pytest.mark.parametrize(
    ("redelivered", "strikes", "why"),
    [
        (None, [strike(target="consumer")], "handled 2 times, delivered 1 times"),
        (delivered(connection=1), [strike(target="consumer")], "delivered 2 times on one connection"),
        (delivered(connection=2), [strike()], "although no fault had touched the consumer"),
    ],
)
def test_an_unexplained_handling_is_found(redelivered: Delivered | None, strikes: list[Strike], why: str) -> None:
    """What was delivered once, or without a fault, must not be handled twice."""
    evidence = whole(ONE, (0, 2))
    evidence.handled.append(handled(time=101))
    evidence.delivered += [redelivered] if redelivered is not None else []
    evidence.strikes = strikes
    verdict = judge(evidence)
    assert verdict.problems == ["1 message(s) of QoS 1 unexplained"]
    assert why in verdict.examples[0]


def test_qos_2_is_once_in_one_session() -> None:
    """A QoS 2 packet that comes again in its session is the same message; handled twice, it is a problem."""
    evidence = whole(QOS_2)
    evidence.strikes = [strike(), strike(target="consumer")]
    evidence.arrivals.append(arrival(QOS_2, connection=2))
    assert judge(evidence).problems == []
    assert judge(evidence).by_qos[2].arrived_again == 0
    evidence.delivered.append(delivered(QOS_2))
    evidence.handled.append(handled(QOS_2))
    assert judge(evidence).problems == ["1 message(s) of QoS 2 unexplained"]


def test_a_delivery_that_is_logged_again_at_once_is_one() -> None:
    """mosquitto logs a delivery again when it could not send it; with another one between, it has delivered twice."""
    evidence = whole(ONE)
    evidence.delivered.append(delivered())
    assert judge(evidence).problems == []
    evidence.delivered.insert(1, delivered(QOS_2))
    assert "delivered 2 times on one connection" in judge(evidence).examples[0]


def test_qos_2_keeps_its_packet_id() -> None:
    """A QoS 2 message that comes again in its session under another packet id is another message to the broker."""
    evidence = whole(QOS_2)
    evidence.strikes = [strike()]
    evidence.arrivals.append(arrival(QOS_2, connection=2, packet_id=2))
    assert "with another packet id in session 1" in judge(evidence).examples[0]


def test_qos_2_is_handled_once_in_one_life() -> None:
    """QoS 2 that was delivered again is handled again by the consumer's next life only."""
    evidence = whole(QOS_2)
    evidence.strikes = [strike(target="consumer")]
    evidence.delivered.append(delivered(QOS_2, connection=2, time=103))
    evidence.handled.append(handled(QOS_2, time=103))
    evidence.lives = [90.0]
    assert "handled 2 times by one process" in judge(evidence).examples[0]
    evidence.lives = [90.0, 102.0]
    assert judge(evidence).problems == []


def test_qos_2_that_mosquitto_began_again() -> None:
    """mosquitto that was killed after PUBREL begins with PUBLISH again: once for each kill, and only after a PUBREL."""
    evidence = whole(QOS_2)
    evidence.lives = [90.0]
    kill = evolve(strike("broker_kill", target="broker-0", began=102), touched=frozenset({"consumer"}))
    evidence.strikes = [kill]
    evidence.delivered = [evolve(delivered(QOS_2), released=True), delivered(QOS_2, connection=2, time=103)]
    evidence.handled.append(handled(QOS_2, time=103))
    assert judge(evidence).problems == []
    evidence.strikes = [evolve(kill, target="broker-1")]
    assert "handled 2 times by one process" in judge(evidence).examples[0]
    evidence.strikes = [kill]
    evidence.delivered[0] = delivered(QOS_2)
    assert "handled 2 times by one process" in judge(evidence).examples[0]
    evidence.delivered = [evolve(evidence.delivered[0], released=True), evidence.delivered[1]]
    evidence.delivered.append(delivered(QOS_2, connection=3, time=103))
    evidence.handled.append(handled(QOS_2, time=104))
    assert "handled 3 times by one process" in judge(evidence).examples[0]


def test_qos_2_comes_again_in_another_session() -> None:
    """Where the broker has forgotten the session, QoS 2 is at least once."""
    evidence = whole(QOS_2)
    evidence.strikes = [strike()]
    evidence.arrivals.append(arrival(QOS_2, connection=2, session=2))
    evidence.delivered.append(delivered(QOS_2))
    evidence.handled.append(handled(QOS_2))
    verdict = judge(evidence)
    assert verdict.problems == []
    assert verdict.by_qos[2].handled_again == 1


@pytest.mark.parametrize(
    ("effects", "problems"),
    [
        (1, []),
        (0, ["1 message(s) of QoS 1 unhandled"]),
        (2, ["1 message(s) of QoS 1 twice_effective"]),
    ],
)
def test_effects_are_counted(effects: int, problems: list[str]) -> None:
    """A message with an id that was handled has one effect; none or two are a problem, others' effects do not count."""
    evidence = whole(ONE, (1, 1))
    evidence.exactly_once = frozenset({0})
    evidence.effects[ONE] = effects
    verdict = judge(evidence)
    assert verdict.problems == problems
    assert verdict.by_qos[1].effective == min(effects, 1)


def test_a_reordering_on_one_connection_is_found() -> None:
    """A message that reaches a broker after a younger one is a problem on the same connection, and none on the next."""
    keys = [(0, 1), (0, 2), (0, 3)]
    evidence = whole(*keys)
    evidence.strikes = [strike()]
    evidence.arrivals.append(arrival((0, 2), connection=2))
    assert judge(evidence).problems == []
    evidence.arrivals = [arrival((0, 1)), arrival((0, 3)), arrival((0, 2))]
    verdict = judge(evidence)
    assert verdict.problems == ["1 message(s) of QoS 1 reordered"]
    assert verdict.by_fault["reset"].reordered == 1


@pytest.mark.parametrize(
    ("old", "young", "problems"),
    [
        ({"connection": 2, "time": 103}, {"time": 103}, ["1 message(s) of QoS 1 reordered"]),
        ({"broker": 1, "time": 106}, {"time": 103}, ["1 message(s) of QoS 1 reordered"]),
        ({"broker": 1, "time": 104}, {"time": 103}, []),
        ({"broker": 1, "time": 103}, {"time": 106}, []),
    ],
)
def test_a_message_that_was_overtaken_is_found(old: dict[str, Any], young: dict[str, Any], problems: list[str]) -> None:
    """A message whose first arrival comes after a younger one's is a problem on any connection, where the logs can tell."""
    evidence = whole((0, 1), (0, 2))
    evidence.strikes = [strike()]
    evidence.arrivals = [arrival((0, 2), **young), arrival((0, 1), **old)]
    evidence.delivered = [delivered(a.key, broker=a.broker) for a in evidence.arrivals]
    evidence.handled = [handled(a.key, broker=a.broker) for a in evidence.arrivals]
    assert judge(evidence).problems == problems


def test_a_reordering_by_the_consumer_is_found() -> None:
    """Messages handled in another order than delivered are a problem; QoS 2, which ends later, has an order of its own."""
    evidence = whole((0, 1), QOS_2, (0, 12), (0, 13))
    evidence.handled = [handled((0, 1)), handled((0, 12)), handled((0, 13)), handled(QOS_2)]
    assert judge(evidence).problems == []
    evidence.handled = [handled((0, 12)), handled((0, 1)), handled((0, 13)), handled(QOS_2)]
    assert judge(evidence).problems == ["1 message(s) of QoS 1 reordered"]
