"""``dr rollback``: the inverse of the last run, by the same phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from switchgear_iot_dns.dr import report
from switchgear_iot_dns.dr.errors import BrokenJournal, InvalidPlanFile, Locked, NotSwitched, StalePlan
from switchgear_iot_dns.dr.lock import Lock
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.route53 import Route53Records
from switchgear_iot_dns.dr.testing.bench import DELETE, EAST, EVERYBODY, ONE, TWO, WEST

if TYPE_CHECKING:
    from switchgear_iot_dns.dr.testing import Bench


def test_everything_goes_back(bench: Bench) -> None:
    """After a rollback a record, its TTL or a client is not where it was."""
    bench.set_records({ONE: EAST, TWO: EAST}, ttl=33)
    before = (bench.records(ONE), bench.records(TWO))
    bench.operations().apply("west", Wishes())
    ended = bench.operations().rollback(Wishes())
    assert ended.code == 0, ended.text
    assert (bench.records(ONE), bench.records(TWO)) == before
    assert bench.connected(EAST) == EVERYBODY
    assert ended.run is not None
    assert ended.run.undoes == bench.journals()[0].stem


def test_a_run_that_failed_halfway_is_undone(bench: Bench) -> None:
    """After a failing kick, rollback leaves the records, or clients that had moved."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what="DELETE /connections/press-2")
    assert bench.operations().apply("west", Wishes()).code == 6
    bench.aws.lift()
    assert bench.operations().rollback(Wishes()).code == 0
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    assert bench.connected(EAST) == EVERYBODY
    assert bench.operations().apply("split", Wishes()).code == 0  # and nothing is unfinished


def test_a_rollback_that_is_repeated_changes_nothing(bench: Bench) -> None:
    """A script that asks for a rollback twice switches back to where the trouble was."""
    bench.operations().apply("west", Wishes())
    done = bench.operations().rollback(Wishes())
    assert done.run is not None
    asked = bench.aws.count("route53", "POST")
    again = bench.operations().rollback(Wishes())
    undone = bench.journals()[0].stem
    assert (again.code, again.run, again.text) == (
        0,
        None,
        f"nothing to do: run {done.run.name} has undone run {undone}; to undo it in its turn, name it with --run",
    )
    assert bench.aws.count("route53", "POST") == asked
    assert bench.regions() == {ONE: EAST, TWO: EAST}


def test_a_rollback_is_undone_by_its_name(bench: Bench) -> None:
    """The rollback of a rollback that is named does not switch again, or does so a second time."""
    bench.operations().apply("west", Wishes())
    first = bench.operations().rollback(Wishes()).run
    assert first is not None
    for _ in range(2):
        assert bench.operations().rollback(Wishes(), name=first.name).code == 0
        assert bench.regions() == {ONE: WEST, TWO: WEST}
    assert bench.connected(WEST) == EVERYBODY
    assert len(bench.journals()) == 3


def test_an_interruption_after_the_end_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback that is done says that it was interrupted, so that people repeat it."""

    def interrupted(_: object) -> str:
        raise KeyboardInterrupt

    bench.operations().apply("west", Wishes())
    with monkeypatch.context() as patch:
        patch.setattr(report, "page", interrupted)
        assert bench.operations().rollback(Wishes()).code == 0
        bench.aws.fail("iotdata", "InvalidRequestException", 400, what=DELETE)
        with pytest.raises(KeyboardInterrupt):
            bench.operations().apply("west", Wishes())
    assert bench.shown.notes[0].endswith("was done already")
    assert bench.regions() == {ONE: WEST, TWO: WEST}


def test_an_interrupted_rollback_goes_on(bench: Bench) -> None:
    """A rollback that stopped halfway is undone by the next one instead of being finished."""
    bench.operations().apply("west", Wishes())
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what=DELETE)
    assert bench.operations().rollback(Wishes()).code == 6
    bench.aws.lift()
    assert bench.operations().rollback(Wishes()).code == 0
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    assert bench.connected(EAST) == EVERYBODY
    assert len(bench.journals()) == 2


def test_a_run_that_changed_nothing_needs_no_undoing(bench: Bench) -> None:
    """Undoing a run whose change was refused changes something, or is an error."""
    rrset = "POST .*/rrset"
    bench.aws.before("route53", lambda: bench.aws.fail("route53", "InvalidChangeBatch", 400, what=rrset), what=rrset)
    with pytest.raises(NotSwitched):
        bench.operations().apply("west", Wishes())
    bench.aws.lift()
    ended = bench.operations().rollback(Wishes())
    assert (ended.code, ended.text.startswith("nothing to undo")) == (0, True)
    assert bench.aws.count("iotdata", DELETE) == 0


def test_somebody_elses_change_is_not_undone(bench: Bench) -> None:
    """A rollback overwrites what somebody else wrote after the run."""
    bench.operations().apply("west", Wishes())
    bench.set_records({ONE: WEST}, ttl=5)
    with pytest.raises(StalePlan, match=r"mqtt1\.example\.com was '.*' after run .* and is '.* 5 CNAME .*' now"):
        bench.operations().rollback(Wishes())
    assert bench.region_of(TWO) == WEST


def test_what_is_back_already_is_left(bench: Bench) -> None:
    """A rollback of what somebody has put back changes something, or is an error."""
    bench.operations().apply("west", Wishes())
    bench.set_records({ONE: EAST, TWO: EAST})
    ended = bench.operations().rollback(Wishes())
    assert (ended.code, ended.run) == (0, None)


def test_an_earlier_run_is_undone_by_its_name(bench: Bench) -> None:
    """--run undoes another run than the one it names."""
    bench.operations().apply("split", Wishes())
    first = bench.journals()[0].stem
    bench.operations().apply("west", Wishes())
    bench.operations().rollback(Wishes(), name=first)
    assert bench.regions() == {ONE: WEST, TWO: EAST}


def test_there_has_to_be_a_run(bench: Bench) -> None:
    """A rollback without a run, or of one that does not exist, is no clear error."""
    with pytest.raises(BrokenJournal, match="it holds no run; there is nothing to undo"):
        bench.operations().rollback(Wishes())
    bench.operations().apply("west", Wishes())
    with pytest.raises(InvalidPlanFile, match=rf"there is no run 'x'; runs: {bench.journals()[0].stem}"):
        bench.operations().rollback(Wishes(), name="x")


def test_a_rollback_does_not_ask_a_dead_region_for_its_clients(bench: Bench) -> None:
    """With the region that is left gone, its records are not put back."""
    bench.operations().apply("west", Wishes())
    bench.aws.kill(WEST, "iot", "iotdata", "servicequotas", "acm")
    for each in EVERYBODY:
        bench.listed(EAST).connect(each)
    assert bench.operations().rollback(Wishes()).code == 0
    assert bench.regions() == {ONE: EAST, TWO: EAST}


def test_a_run_that_never_began_is_not_the_last_one(bench: Bench) -> None:
    """After an apply that the lock refused, rollback says that there is nothing to undo, and leaves the run before it."""
    assert bench.operations().apply("west", Wishes()).code == 0
    Lock(Route53Records(bench.client_of_aws(), bench.zone), "example.com").take("other", "alice", force=False)
    with pytest.raises(Locked):
        bench.operations().apply("split", Wishes())
    assert bench.operations().rollback(Wishes(force_unlock=True)).code == 0
    assert bench.regions() == {ONE: EAST, TWO: EAST}
