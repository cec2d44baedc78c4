"""The pure parts: paces, client ids, presence events, plans, canaries, journals."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from switchgear_iot_dns.dr import client_ids, iam, journal
from switchgear_iot_dns.dr.disconnect import canaries
from switchgear_iot_dns.dr.errors import BrokenJournal, InvalidClientId, Locked
from switchgear_iot_dns.dr.journal import Journal
from switchgear_iot_dns.dr.name_servers import disagreement
from switchgear_iot_dns.dr.pacing import Pacer, Stopped
from switchgear_iot_dns.dr.plan import Check, Move, Plan, estimate, inverse
from switchgear_iot_dns.dr.record import Record, cname
from switchgear_iot_dns.dr.settings import Settings, Waits, Zone
from switchgear_iot_dns.dr.state import Victim
from switchgear_iot_dns.dr.testing import SteppingClock

if TYPE_CHECKING:
    from pathlib import Path

EAST, WEST = "us-east-1", "ap-northeast-1"
D, C = ("disconnect", EAST), ("connect", WEST)


def most_in_a_second(slots: list[float]) -> int:
    """The most of *slots* in any half-open second."""
    return max(sum(start <= slot < start + 1 for slot in slots) for start in slots)


# Pace


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300))
def test_no_second_has_more_than_either_budget(disconnects: int, connects: int, count: int) -> None:
    """More slots fall into a second than the smaller budget has, or a slot comes later than 1.3 of the ideal time."""
    pacer = Pacer({D: float(disconnects), C: float(connects)}, SteppingClock())
    slots = [pacer.reserve(D, C) for _ in range(count)]
    rate = min(disconnects, connects)
    relative = [slot - slots[0] for slot in slots]
    assert most_in_a_second([round(slot, 6) for slot in relative]) <= rate
    assert relative[-1] <= 1.3 * count / rate


def test_a_slow_target_is_not_outrun_by_two_sources() -> None:
    """Two source regions together send the target more clients than it takes."""
    pacer = Pacer({("disconnect", "a"): 50.0, ("disconnect", "b"): 50.0, C: 10.0}, SteppingClock())
    slots = sorted(pacer.reserve(("disconnect", "ab"[n % 2]), C) for n in range(40))
    assert min(b - a for a, b in pairwise(slots)) > 0.1


def test_slots_on_many_threads_are_all_different() -> None:
    """Two threads get the same slot."""
    pacer = Pacer({D: 1000.0}, SteppingClock())
    with ThreadPoolExecutor(8) as pool:
        slots = list(pool.map(lambda _: pacer.reserve(D), range(400)))
    assert len(set(slots)) == 400


def test_who_was_late_does_not_make_a_burst() -> None:
    """Slots that were reserved, and come to be used all at once, are used closer together than the budget allows."""
    clock = SteppingClock()
    pacer = Pacer({D: 50.0}, clock)
    for _ in range(5):
        pacer.reserve(D)
    clock.wait(1.0, pacer.stop)  # this machine was busy
    went = []
    for _ in range(5):
        while ready := pacer._go((D,)):
            clock.wait(ready - clock.monotonic(), pacer.stop)
        went.append(clock.monotonic())
    assert min(b - a for a, b in pairwise(went)) > 0.0199


def test_a_slot_after_the_deadline_is_not_given() -> None:
    """Somebody waits for a slot beyond the deadline, or after the run was stopped."""
    clock = SteppingClock()
    pacer = Pacer({D: 1.0}, clock)
    pacer.deadline = clock.monotonic() + 1.5
    assert [pacer.reserve(D) is not None for _ in range(2)] == [True, True]
    with pytest.raises(Stopped):
        pacer.reserve(D)
    pacer.deadline = None
    pacer.stop.set()
    with pytest.raises(Stopped):
        pacer.take(D)


def test_what_has_no_budget_does_not_wait() -> None:
    """A region whose quota is unknown holds requests up."""
    clock = SteppingClock()
    Pacer({}, clock).take(("connect", "nowhere"))
    assert sum(clock.waits) <= 0


def test_the_real_clock_ends_a_wait_when_it_is_stopped() -> None:
    """A wait goes on after the run was stopped."""
    from switchgear_iot_dns.dr.clock import RealClock

    stop = threading.Event()
    stop.set()
    assert RealClock().wait(600, stop) is True


def test_the_real_clock_takes_any_wait() -> None:
    """The wait that a tiny rate of a plan file means is an error of the system's clock."""
    from switchgear_iot_dns.dr.clock import RealClock

    stop = threading.Event()
    stop.set()
    assert RealClock().wait(1e300, stop) is True


def test_the_first_slot_of_a_slow_budget_is_at_once() -> None:
    """How long the machine has been up decides when the first client may go."""
    clock = SteppingClock()
    clock._time = 1.0
    Pacer({D: 1e-3}, clock).take(D)
    assert sum(clock.waits) <= 0


# Client ids


@given(st.text(max_size=140))
def test_any_text_is_an_id_or_an_error_of_ours(text: str) -> None:
    """Some text makes the check fail otherwise than with its own error."""
    try:
        assert client_ids.check(text, "here") == text
    except InvalidClientId as error:
        assert str(error).startswith("here: the client id ")  # noqa: PT017 - either is right


def test_a_file_of_ids() -> None:
    """Comments, empty lines or repetitions count as ids, or an error does not name the line."""
    text = "# presses\npress-1\n\npress-2\npress-1\n#3\n"
    assert client_ids.from_lines(text, "ids.txt") == ("press-1", "press-2", "#3")
    with pytest.raises(InvalidClientId, match=r"ids\.txt, line 2: the client id 'press-2 ' has white space"):
        client_ids.from_lines("press-1\npress-2 \n", "ids.txt")


def event(client_id: str, kind: str, at: int, version: int) -> str:
    facts = {"clientId": client_id, "eventType": kind, "timestamp": at * 1000, "versionNumber": version}
    return client_ids.presence_line(EAST, facts) or ""


@given(st.permutations(range(4)), st.integers(0, 3))
def test_presence_events_may_come_in_any_order_and_twice(order: list[int], twice: int) -> None:
    """The order in which events arrive changes who is connected."""
    events = [
        event("a", "connected", 100, 0),
        event("a", "disconnected", 101, 1),
        event("a", "connected", 102, 2),
        event("b", "connected", 100, 0),
    ]
    lines = "\n".join([events[n] for n in order] + [events[twice]])
    presence = client_ids.from_presence(lines, "seen")
    assert presence.connected(EAST) == ("a", "b")
    assert presence.connected(WEST) == ()
    assert (presence.since(EAST, "a"), presence.since(EAST, "b"), presence.since(WEST, "a")) == (102, 100, None)


def test_a_version_that_began_anew_does_not_hide_an_event() -> None:
    """A client that connects again hours later, with version 0, counts as gone."""
    lines = "\n".join([event("a", "disconnected", 100, 7), event("a", "connected", 20_000, 0)])
    assert client_ids.from_presence(lines, "seen").connected(EAST) == ("a",)


def test_a_torn_last_event_is_left_out() -> None:
    """A presence file that is being written cannot be read."""
    text = event("a", "connected", 100, 0) + '\n{"region": "us-e'
    assert client_ids.from_presence(text, "seen").connected(EAST) == ("a",)


@pytest.mark.parametrize(
    "wrong", ['"version": Infinity', '"client_id": "\\ud800"', '"version": ' + "[" * 50_000, '"at": "soon"']
)
def test_a_presence_line_that_is_none_is_named(wrong: str) -> None:
    """A number that no event has, or nesting without end, gives a traceback."""
    line = '{"region": "us-east-1", "client_id": "a", "connected": true, "at": 1, "version": 0, ' + wrong + "}"
    with pytest.raises(InvalidClientId, match=r"line 1: .*is no line of `dr watch`"):
        client_ids.from_presence(f"{line}\n", "seen")


@pytest.mark.parametrize("told", [{}, {"clientId": "a"}, {"clientId": 1, "eventType": "connected", "timestamp": 1}])
def test_what_is_no_event_makes_no_line(told: dict[str, object]) -> None:
    """Something else on the topic makes a line."""
    assert client_ids.presence_line(EAST, told) is None


# Plans


def a_plan(**changed: Any) -> Plan:
    before, after = cname("m.example.com", "east.example.net", 300), cname("m.example.com", "west.example.net", 300)
    move = Move(domain="m.example.com", before=before, after=after, source=EAST, target=WEST, clients=("a", "b"))
    plan = Plan(
        mode="west",
        zone="Z1",
        zone_name="example.com",
        digest="d",
        made_at=1.5,
        operator="alice@here",
        moves=(move,),
        endpoints={EAST: "data.east"},
        connects={WEST: 100.0},
        disconnects={EAST: None},
        checks=(Check(what="w", where="x", state="ok", text="t"),),
    )
    return evolve(plan, **changed)


def settings(**changed: Any) -> Settings:
    made = Settings(
        path="dr.toml", digest="d", zone=Zone(id="Z1"), domains={}, modes={}, regions={}, journal="j", waits=Waits()
    )
    return evolve(made, **changed)


def test_a_plan_comes_back_from_json() -> None:
    """A saved plan is another one when it is read."""
    plan = a_plan()
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict())), "saved") == plan


def test_the_estimate_counts_every_wait() -> None:
    """The old TTL, the grace or the clients are not in the estimate."""
    many = tuple(f"c{n}" for n in range(1000))
    plan = a_plan()
    plan = evolve(plan, moves=(evolve(plan.moves[0], clients=many),))
    assert estimate(plan, settings()) == 60 + 300 + 30 + 10 + 1000 / 50
    assert estimate(evolve(plan, connects={WEST: 20.0}), settings()) == 60 + 300 + 30 + 10 + 1000 / 10
    assert estimate(a_plan(moves=()), settings()) == 0


def test_the_inverse_of_the_inverse_is_the_plan() -> None:
    """Undoing twice is not where one began."""
    plan = a_plan()
    again = inverse(inverse(plan, {"m.example.com": ("a",)}), {"m.example.com": ("a", "b")})
    assert again.moves == plan.moves


def test_a_record_that_was_made_is_not_unmade() -> None:
    """Undoing deletes the only record of a domain."""
    plan = a_plan()
    made = evolve(plan, moves=(evolve(plan.moves[0], before=None, source=None),))
    assert inverse(made, {}).moves == ()


def test_canaries_are_of_every_domain() -> None:
    """A domain has no canary, or too many are taken."""
    presses = [Victim(EAST, f"p{n}", WEST, "one") for n in range(200)]
    lathe = Victim(EAST, "lathe", WEST, "two")
    chosen = canaries([*presses, lathe], 0.01)
    assert chosen == (presses[0], presses[100], lathe)
    assert canaries(presses, 0.0) == ()
    assert canaries(presses, 1.0) == tuple(presses)
    assert canaries([], 0.5) == ()


def test_records_are_told_as_people_write_them() -> None:
    """An alias or a policy does not show."""
    alias = Record(name="a", type="A", ttl=None, values=("b",), is_alias=True)
    assert str(alias) == "a ALIAS b"
    assert str(Record(name="a", type="CNAME", ttl=5, values=("b",), identifier="x")) == "a 5 CNAME [x] b"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"a": "west", "b": "west"}, None),
        ({}, "there is no name server to ask"),
        ({"a": "west", "b": None}, "1 of 2 name servers did not answer (b)"),
        ({"a": "west", "b": "east"}, "name servers still answer east"),
        ({"a": "west", "b": ""}, "name servers still answer nothing"),
    ],
)
def test_all_name_servers_have_to_agree(answers: dict[str, str | None], why: str | None) -> None:
    """A server that is silent, or answers otherwise, does not count."""
    assert disagreement(answers, "west") == why


def test_the_policy_holds_every_action() -> None:
    """An action that the tool calls is not in the policy that the documentation shows."""
    policy = iam.policy(zone="Z1")
    statements = policy["Statement"]
    assert isinstance(statements, list)
    assert sorted(action for each in statements for action in each["Action"]) == sorted(iam.RESOURCES)


# Journals


def a_journal(path: Path) -> Path:
    with Journal(path) as written:
        written.write("began", at=1.0, run="r", operator="o", plan=a_plan().as_dict())
        written.write("started", at=2.0, phase="CHANGE")
    return path


def test_a_journal_may_be_cut_anywhere(tmp_path: Path) -> None:
    """A journal that was cut at some byte cannot be opened, or has more than its whole lines."""
    whole = a_journal(tmp_path / "whole.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(0, len(whole) + 1, 7):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:size])
        with Journal(path) as opened:
            assert len(opened.entries) == (size >= first) + (size >= len(whole))
            assert opened.was_torn == (size not in {0, first, len(whole)})
            opened.write("noted", at=3.0, note="x")
        assert path.read_bytes().endswith(b"}\n")


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    """A damaged line in the middle is skipped."""
    path = a_journal(tmp_path / "r.jsonl")
    path.write_bytes(path.read_bytes().replace(b'{"entry":"began"', b'{"entry":7', 1))
    with pytest.raises(BrokenJournal, match="line 1 is damaged"):
        journal.read(path)
    path.write_bytes(b'{"entry":"started"}\n{"entry":"x"}\n')
    with pytest.raises(BrokenJournal, match="it has no beginning"):
        journal.read(path)


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    """Two processes write one journal."""
    path = a_journal(tmp_path / "r.jsonl")
    with Journal(path), pytest.raises(Locked):
        Journal(path)
