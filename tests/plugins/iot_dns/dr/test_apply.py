"""``dr apply``: records first, then clients, and nothing where nothing is to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from switchgear_iot_dns.dr import saved_plan
from switchgear_iot_dns.dr.errors import (
    Locked,
    NotSwitched,
    RegionSwitchError,
    StalePlan,
)
from switchgear_iot_dns.dr.lock import Lock
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.testing.bench import CHANGE, DELETE, EAST, EVERYBODY, ONE, TARGETS, TWO, WEST

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from switchgear_iot_dns.dr.plan import Plan
    from switchgear_iot_dns.dr.testing import Bench
    from switchgear_iot_dns.dr.testing.batches import Change


def save(bench: Bench, plan: Plan) -> Path:
    saved_plan.save(path := bench.folder / "saved.json", plan)
    return path


def test_a_mode_is_brought_about(bench: Bench) -> None:
    """After apply a record leads elsewhere, a client of it is not in the target region, or the lock is still there."""
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.regions() == {ONE: WEST, TWO: WEST}
    assert bench.connected(EAST) == []
    assert bench.connected(WEST) == EVERYBODY
    assert bench.locked_by() is None


def test_only_clients_of_domains_that_move_are_disconnected(bench: Bench) -> None:
    """A client of a domain that stays where it is was disconnected."""
    assert bench.operations().apply("split", Wishes()).code == 0
    assert bench.connected(EAST) == ["press-1", "press-2"]
    assert bench.listed(EAST).ended == {"lathe-1": 1}


def test_the_state_that_holds_is_left_alone(bench: Bench) -> None:
    """Applying what holds already changes a record, disconnects somebody, asks, or is no success."""
    before = bench.records(ONE)
    ended = bench.operations().apply("east", Wishes())
    assert (ended.code, ended.run) == (0, None)
    assert bench.records(ONE) == before
    assert bench.confirmed == []
    assert bench.aws.count("route53", CHANGE) == 0
    assert bench.aws.count("iotdata") == 0


def test_applying_twice_changes_nothing_more(bench: Bench) -> None:
    """The second apply of a mode disconnects somebody again."""
    bench.operations().apply("west", Wishes())
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.listed(EAST).ended == dict.fromkeys(EVERYBODY, 1)
    assert len(bench.journals()) == 1


def test_no_is_no(bench: Bench) -> None:
    """Something is changed, or a journal or lock is left, although the user said no."""
    bench.answer = False
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 1
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    assert bench.journals() == []
    assert bench.aws.count("route53", CHANGE) == 0


def test_records_are_swapped_in_one_batch(bench: Bench) -> None:
    """A moment exists at which one domain has switched and the other has not, or has no record at all."""
    batches: list[list[Change]] = []

    def keep(changes: list[Change]) -> None:
        batches.append(changes)
        bench.mirror(changes)

    bench.aws.on_change = keep
    bench.operations().apply("west", Wishes())
    switch = [batch for batch in batches if any(each.type == "CNAME" for each in batch)]
    assert [[(each.action, each.name) for each in batch] for batch in switch] == [
        [("DELETE", ONE), ("CREATE", ONE), ("DELETE", TWO), ("CREATE", TWO)]
    ]


def test_the_ttl_alone_changes_without_a_kick(bench: Bench) -> None:
    """A plan file with another TTL does not change the record, or disconnects people for it."""
    bench.write(**{f'domains."{ONE}"': "ttl = 30"})
    assert bench.operations().apply("east", Wishes()).code == 0
    assert bench.records(ONE)[0].ttl == 30
    assert bench.aws.count("iotdata", DELETE) == 0


def test_a_missing_record_is_created(bench: Bench) -> None:
    """A domain without a record gets none, or an error, or somebody is disconnected for it."""
    bench.change("DELETE", ONE, "CNAME", [TARGETS[ONE][EAST]], ttl=0)
    bench.dns.set_a(ONE, "127.0.0.1")
    ended = bench.operations().apply("east", Wishes(despite_checks=True))
    assert ended.code == 0, ended.text
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    assert bench.aws.count("iotdata", DELETE) == 0


# The DNS phase


def test_nobody_is_disconnected_while_a_change_is_pending(bench: Bench) -> None:
    """A change that stays PENDING does not end the run at its deadline, or people are disconnected all the same."""
    bench.aws.pending = math.inf
    with pytest.raises(NotSwitched, match=r"Route 53 was not in sync after 180 s \(PENDING\)"):
        bench.operations().apply("west", Wishes())
    assert bench.aws.count("iotdata", DELETE) == 0
    assert bench.entries()[-1]["outcome"] == "NOT_SWITCHED"
    assert bench.locked_by() is None


def test_a_pending_change_is_gone_on_with(bench: Bench) -> None:
    """After a change that was not in sync in time, apply changes the record again, or does not finish."""
    bench.aws.pending = math.inf
    with pytest.raises(NotSwitched):
        bench.operations().apply("west", Wishes())
    bench.aws.pending = 0
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(WEST) == EVERYBODY
    assert len(bench.journals()) == 1
    assert [each["entry"] for each in bench.entries()].count("changing") == 1


def test_nobody_is_disconnected_while_a_name_server_answers_with_the_old_target(bench: Bench) -> None:
    """Name servers that did not follow do not end the run, or people are disconnected all the same."""
    bench.aws.on_change = lambda _: None
    with pytest.raises(NotSwitched, match=r"name servers still answer one-ats\.iot\.us-east-1\.amazonaws\.com"):
        bench.operations().apply("west", Wishes())
    assert bench.aws.count("iotdata", DELETE) == 0
    assert bench.regions() == {ONE: WEST, TWO: WEST}


def test_nobody_is_disconnected_when_the_change_is_refused(bench: Bench) -> None:
    """A refused change does not end the run with its reason, or people are disconnected all the same."""
    plan = bench.operations().plan("west")
    bench.aws.before("route53", lambda: bench.aws.fail("route53", "InvalidChangeBatch", 400, what=CHANGE), what=CHANGE)
    with pytest.raises(NotSwitched, match="InvalidChangeBatch: on demand"):
        bench.operations().apply("west", Wishes(), saved=plan)
    assert bench.aws.count("iotdata", DELETE) == 0
    assert bench.regions() == {ONE: EAST, TWO: EAST}


def test_a_change_in_the_last_moment_is_not_overwritten(bench: Bench) -> None:
    """Somebody else's change between our look and our change is overwritten: the swap does not compare."""

    def meddle() -> None:
        bench.aws.before("route53", lambda: bench.upsert(ONE, "CNAME", ["elsewhere.example.net"]), what=CHANGE)

    bench.aws.before("route53", meddle, what=CHANGE)  # the first is the lock
    with pytest.raises((NotSwitched, StalePlan)):
        bench.operations().apply("west", Wishes())
    assert bench.records(ONE)[0].target == "elsewhere.example.net"
    assert bench.region_of(TWO) == EAST
    assert bench.aws.count("iotdata", DELETE) == 0


def test_a_lost_answer_is_no_failure(bench: Bench) -> None:
    """A change that was carried out and whose answer was lost counts as failed."""
    bench.aws.before("route53", lambda: bench.aws.lose("route53", what=CHANGE), what=CHANGE)
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.connected(WEST) == EVERYBODY


def test_route53_is_asked_again_when_it_throttles(bench: Bench) -> None:
    """A throttled or failing control plane of Route 53 ends the run."""
    bench.aws.fail("route53", "Throttling", 400, times=2)
    bench.aws.fail("route53", "ServiceUnavailable", 503, what="/change/", times=2)
    assert bench.operations().apply("west", Wishes()).code == 0


def test_resolvers_get_the_old_ttl_and_the_grace(bench: Bench) -> None:
    """The first client is disconnected before the old record has expired everywhere and the grace is over."""
    bench.set_records({ONE: EAST, TWO: EAST}, ttl=300)
    bench.operations().apply("west", Wishes())
    entries = bench.entries()
    answered = next(e["at"] for e in entries if e["entry"] == "finished" and e["phase"] == "ANSWER")
    first = next(e["at"] for e in entries if e["entry"] == "disconnecting")
    assert first - answered >= 300 + 30


def test_a_run_after_the_clock_was_put_back_is_the_last_one(bench: Bench) -> None:
    """An unfinished run is forgotten, or another is undone, because the clock was put back before it began."""
    bench.operations().apply("west", Wishes())
    bench.clock._time -= 3600
    bench.aws.pending = 1e9
    with pytest.raises(NotSwitched):
        bench.operations().apply("east", Wishes())
    bench.aws.pending = 0.0
    (bench.folder / "dr-journal" / "notes.jsonl").touch()  # somebody's, and not in the way
    assert bench.operations().status()["last_run"]["mode"] == "east"
    assert bench.operations().apply("east", Wishes()).text.startswith("mode east: done; 3 of 3 clients disconnected")
    bench.clock._time -= 3600
    assert bench.operations().rollback(Wishes()).code == 0
    assert bench.regions() == {ONE: WEST, TWO: WEST}
    last = bench.operations().status()["last_run"]
    assert (last["mode"], last["undoes"]) == ("undo east", bench.journals()[1].stem)


def test_a_clock_that_is_put_back_does_not_lengthen_the_grace(bench: Bench) -> None:
    """A run that is gone on with after the clock was put back by a day waits for a day."""
    bench.set_records({ONE: EAST, TWO: EAST}, ttl=300)
    wait = bench.clock.wait

    def put_back(seconds: float, stop: threading.Event) -> bool:
        bench.clock.wait = wait  # type: ignore[method-assign]  # once
        raise KeyboardInterrupt

    bench.clock.wait = put_back  # type: ignore[method-assign]  # the first wait of a run is in the grace
    with pytest.raises(KeyboardInterrupt):
        bench.operations().apply("west", Wishes())
    bench.clock._time -= 86400
    assert bench.operations().apply("west", Wishes()).code == 0
    assert sum(bench.clock.waits) < 400


def test_the_whole_run_has_a_deadline_in_the_grace_too(bench: Bench) -> None:
    """A TTL that is longer than waits.total holds the run for longer; or the run cannot go on afterwards."""
    bench.set_records({ONE: EAST, TWO: EAST}, ttl=86400)
    began = bench.clock.now()
    ended = bench.operations().apply("west", Wishes())
    assert bench.clock.now() - began < 7300
    assert ended.code == 6
    assert "the 7200 s of waits.total were over" in ended.text
    assert bench.aws.count("iotdata", DELETE) == 0
    assert bench.confirmed[-1].endswith("and stops after the 7200 s of waits.total; apply again goes on then")
    while (ended := bench.operations().apply("west", Wishes())).code == 6:
        assert bench.clock.now() - began < 100_000
    assert ended.code == 0
    assert bench.clock.now() - began > 86400


def test_a_record_that_is_written_otherwise_is_the_same(bench: Bench) -> None:
    """A target with capitals or a dot at its end counts as another one, or cannot be deleted to the letter."""
    bench.upsert(ONE, "CNAME", [f"{TARGETS[ONE][EAST].upper()}."], ttl=0)
    assert bench.operations().apply("east", Wishes()).run is None
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.operations().rollback(Wishes()).code == 0
    assert bench.records(ONE)[0].written == (f"{TARGETS[ONE][EAST].upper()}.",)


# Saved plans


def test_a_saved_plan_is_applied(bench: Bench) -> None:
    """A plan that was saved a moment ago counts as stale."""
    saved = saved_plan.load(save(bench, bench.operations().plan("west")))
    assert bench.operations().apply("west", Wishes(), saved=saved).code == 0
    assert bench.connected(WEST) == EVERYBODY


def test_a_saved_plan_is_stale_when_a_record_changed(bench: Bench) -> None:
    """A saved plan is applied to a record that is not what it was."""
    saved = saved_plan.load(save(bench, bench.operations().plan("west")))
    bench.set_records({ONE: EAST}, ttl=77)
    with pytest.raises(StalePlan, match=r"mqtt1\.example\.com was '.* 0 CNAME .*' and is '.* 77 CNAME .*' now"):
        bench.operations().apply("west", Wishes(), saved=saved)
    assert bench.region_of(TWO) == EAST


def test_a_saved_plan_is_stale_when_the_plan_file_changed(bench: Bench) -> None:
    """A saved plan is applied with another plan file than it was made from."""
    saved = bench.operations().plan("west")
    bench.write(pace="workers = 3")
    with pytest.raises(StalePlan, match="the plan file was edited since"):
        bench.operations().apply("west", Wishes(), saved=saved)


def test_an_edited_plan_is_refused(bench: Bench) -> None:
    """A saved plan that somebody edited is applied."""
    plan = bench.operations().plan("west")
    path = save(bench, plan)
    path.write_text(path.read_text().replace("press-2", "press-3"))
    with pytest.raises(StalePlan, match="was edited or damaged"):
        saved_plan.load(path)


def test_a_saved_plan_whose_work_is_done_is_no_error(bench: Bench) -> None:
    """Applying a saved plan twice is an error the second time."""
    saved = bench.operations().plan("west")
    bench.operations().apply("west", Wishes(), saved=saved)
    assert bench.operations().apply("west", Wishes(), saved=saved).code == 0


# Two operators


def test_two_operators_exclude_each_other(bench: Bench) -> None:
    """A second operator changes something while the first is at work."""
    operations = bench.operations()
    Lock(operations.world.records, "example.com").take("other", "bob@there", force=False)
    with pytest.raises(Locked, match=r"run other of bob@there since .*--force-unlock"):
        operations.apply("west", Wishes())
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    assert "bob@there" in (bench.locked_by() or "")


def test_the_lock_is_had_by_one_of_two_who_try_at_once(bench: Bench) -> None:
    """Two operators who look at the same moment both get the lock."""
    records = bench.operations().world.records
    bench.aws.before("route53", lambda: Lock(records, "example.com").take("b", "bob", force=False), what=CHANGE)
    with pytest.raises(Locked, match="run b of bob"):
        Lock(records, "example.com").take("a", "alice", force=False)


def test_a_lock_can_be_taken_by_force(bench: Bench) -> None:
    """--force-unlock does not get past the lock of a run that is dead."""
    Lock(bench.operations().world.records, "example.com").take("other", "bob@there", force=False)
    assert bench.operations().apply("west", Wishes(force_unlock=True)).code == 0
    assert bench.locked_by() is None


def test_another_mode_does_not_run_over_an_unfinished_one(bench: Bench) -> None:
    """A half-done switch is forgotten when another mode is applied, or --fresh does not get past it."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what=DELETE)
    bench.operations().apply("west", Wishes())
    with pytest.raises(RegionSwitchError, match=r"run .* \(mode west\) is unfinished.*rollback.*--fresh"):
        bench.operations().apply("split", Wishes())
    bench.aws.lift()
    assert bench.operations().apply("split", Wishes(fresh=True)).code == 0
    assert bench.regions() == {ONE: EAST, TWO: WEST}


def test_what_changed_nothing_does_not_stand_in_the_way(bench: Bench) -> None:
    """A run whose change was refused has to be left by --fresh before another mode."""
    bench.aws.before("route53", lambda: bench.aws.fail("route53", "InvalidChangeBatch", 400, what=CHANGE), what=CHANGE)
    with pytest.raises(NotSwitched):
        bench.operations().apply("west", Wishes())
    bench.aws.lift()
    assert bench.operations().apply("split", Wishes()).code == 0
