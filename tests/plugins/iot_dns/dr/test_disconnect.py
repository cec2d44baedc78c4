"""The clients of ``dr apply``: disconnected within every budget, each once, seen to arrive; dead regions."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from switchgear_iot_dns.dr.errors import (
    AwsTrouble,
    MissingPermission,
    StalePlan,
    Unfit,
)
from switchgear_iot_dns.dr.journal import Journal
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.testing.bench import DELETE, EAST, EVERYBODY, ONE, TWO, WEST
from switchgear_iot_dns.dr.testing.clock import SteppingClock

if TYPE_CHECKING:
    from switchgear_iot_dns.dr.testing import Bench


def test_an_id_that_is_not_connected_is_done(bench: Bench) -> None:
    """A client that was not connected (404) counts as a failure, or as missing in the target region."""
    bench.clients[ONE].append("ghost")
    bench.write()
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0
    assert ended.run is not None
    assert ended.run.results[EAST, "ghost"] == "absent"
    assert "4 of 4 clients disconnected (1 were not there), 3 arrived" in ended.text


def test_throttled_requests_are_repeated(bench: Bench) -> None:
    """A throttled DeleteConnection loses a client."""
    bench.aws.fail("iotdata", "ThrottlingException", 429, what=DELETE, times=3)
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(WEST) == EVERYBODY


def test_wills_are_prevented_unless_asked_for(bench: Bench) -> None:
    """A switch publishes every device's last will, or the option does not."""
    bench.operations().apply("west", Wishes())
    assert bench.aws.count("iotdata", DELETE + ".*preventWillMessage=true") == 3
    bench.write(pace="prevent_will = false")
    bench.operations().apply("east", Wishes())
    assert bench.aws.count("iotdata", DELETE + ".*preventWillMessage=false") == 3


def test_a_failing_kick_leaves_the_records(bench: Bench) -> None:
    """A region that refuses to disconnect has the records rolled back, or is no exit code 6."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what=DELETE)
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 6
    assert "were not disconnected; the first error: InvalidRequestException: on demand" in ended.text
    assert bench.regions() == {ONE: WEST, TWO: WEST}
    assert bench.locked_by() is None


def test_those_that_failed_are_disconnected_by_the_next_apply(bench: Bench) -> None:
    """Apply after a failing kick does not finish the work, or disconnects somebody a second time."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what="DELETE /connections/press-2")
    assert bench.operations().apply("west", Wishes()).code == 6
    bench.aws.lift()
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(WEST) == EVERYBODY
    assert bench.listed(EAST).ended == dict.fromkeys(EVERYBODY, 1)


def test_canaries_that_do_not_arrive_stop_the_rest(bench: Bench) -> None:
    """Everybody is disconnected although the canaries did not come back in the target region."""
    bench.clients[ONE] = [f"press-{n}" for n in range(20)]
    bench.home()
    bench.write(pace="canary_share = 0.1\ncanary_least = 0.9")
    for region in (EAST, WEST):
        bench.listed(region).home = lambda _: None
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 6
    assert "only 0 of 3 canaries arrived within 60 s; the other clients were left alone" in ended.text
    assert sum(bench.listed(EAST).ended.values()) == 3


def test_clients_that_go_back_are_reported(bench: Bench) -> None:
    """Clients that come back to the old region make no exit code 6, or are not named."""
    bench.write(pace="canary_share = 0", waits="verify = 5")
    east = bench.listed(EAST)
    east.home = lambda client_id: east if client_id == "lathe-1" else bench.listed(WEST)
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 6
    assert "2 of 3 clients arrived; 1 of them are connected to the old region" in ended.text.replace(
        "1 of them is", "1 of them are"
    )
    assert ended.run is not None
    assert ended.run.behind == ((EAST, "lathe-1"),)
    assert bench.regions() == {ONE: WEST, TWO: WEST}


def test_a_record_that_was_put_back_by_somebody_keeps_the_clients(bench: Bench) -> None:
    """People are disconnected although somebody put the record back during the grace."""
    operations = bench.operations()

    class Meddling(type(bench.clock)):  # type: ignore[misc]  # a class at run time
        def wait(self, seconds: float, stop: object) -> bool:
            if seconds == 1.0:
                bench.set_records({ONE: EAST})
            return super().wait(seconds, stop)  # type: ignore[no-any-return]  # as above

    bench.clock.__class__ = Meddling
    with pytest.raises(StalePlan, match="somebody changed it back"):
        operations.apply("west", Wishes())
    assert bench.aws.count("iotdata", DELETE) == 0


def test_a_dead_old_region_does_not_hold_the_switch_up(bench: Bench) -> None:
    """With the old region's planes gone apply fails, waits for each of its clients, or does not say how they are gone."""
    bench.aws.kill(EAST, "iot", "iotdata", "servicequotas", "acm")
    for each in EVERYBODY:  # they drop by themselves, and follow DNS
        bench.listed(WEST).connect(each)
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.regions() == {ONE: WEST, TWO: WEST}
    note = next(note for note in bench.shown.notes if "us-east-1 does not answer" in note)
    assert "drop by themselves" in note
    assert "Connection was closed before we received a valid response" in note


def test_a_dead_region_without_a_list_of_clients_is_left(bench: Bench) -> None:
    """The fleet index of a dead region stops the switch of the records."""
    for name in (ONE, TWO):
        bench.more[f'domains."{name}".clients'] = 'source = "index"'
    bench.write()
    bench.aws.kill(EAST, "iot", "iotdata", "servicequotas", "acm")
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.regions() == {ONE: WEST, TWO: WEST}


def test_a_saved_plan_brings_the_clients_of_a_region_that_died(bench: Bench) -> None:
    """A plan that was saved in time does not know the clients and endpoints of the region that died since."""
    for name in (ONE, TWO):
        bench.more[f'domains."{name}".clients'] = 'source = "index"'
    bench.more |= {f"regions.{EAST}": f'handshake_to = "127.0.0.1:{bench.tls_port}"'}
    bench.write()
    bench.aws.index[EAST] = EVERYBODY
    saved = bench.operations().plan("west")
    assert saved.endpoints[EAST]
    bench.aws.kill(EAST, "iot", "iotdata", "servicequotas", "acm")
    operations = bench.operations()
    decided = operations.world.decided("west")
    cached = operations.world.complete(decided, cached=saved)
    assert cached.endpoints == saved.endpoints
    assert [move.clients for move in cached.moves] == [tuple(EVERYBODY), tuple(EVERYBODY)]


def test_a_target_region_that_is_dead_is_refused(bench: Bench) -> None:
    """The records are switched to a region whose control plane does not answer."""
    bench.aws.kill(WEST, "iot")
    with pytest.raises(Unfit, match=r"domain configuration of mqtt1\.example\.com in ap-northeast-1"):
        bench.operations().apply("west", Wishes())
    assert bench.regions() == {ONE: EAST, TWO: EAST}


def test_failed_checks_can_be_overruled(bench: Bench) -> None:
    """--despite-checks does not go on."""
    bench.aws.kill(WEST, "iot")
    assert bench.operations().apply("west", Wishes(despite_checks=True)).code == 0


def test_a_missing_permission_stops_before_the_switch(bench: Bench) -> None:
    """Somebody without iot:DeleteConnection finds that out after the records are switched."""
    message = "not authorized to perform: iot:DeleteConnection on arn:aws:iot:us-east-1:123456789012:client/x"
    bench.aws.fail("iotdata", "ForbiddenException", 403, message=message)
    with pytest.raises(MissingPermission) as caught:
        bench.operations().apply("west", Wishes())
    assert caught.value.statement == (
        '{"Effect": "Allow", "Action": "iot:DeleteConnection", '
        '"Resource": "arn:aws:iot:us-east-1:123456789012:client/*"}'
    )
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    assert bench.journals() == []


def test_a_quota_bounds_the_pace(bench: Bench) -> None:
    """The target's CONNECT quota, or the source's own, does not bound the pace."""
    from switchgear_iot_dns.dr.plan import rates

    bench.aws.quotas[WEST] = {"Connect requests per second per account": 40.0}
    bench.aws.quotas[EAST] = {"DeleteConnection requests per second per account": 30.0}
    operations = bench.operations()
    plan = operations.plan("west")
    assert rates(plan, operations.settings) == {("disconnect", EAST): 30.0, ("connect", WEST): 20.0}
    unknown = evolve(plan, connects={WEST: None}, disconnects={EAST: None})
    assert rates(unknown, operations.settings) == {("disconnect", EAST): 50.0}


@pytest.mark.parametrize("killed_after", [None, 60])
def test_a_fleet_goes_within_the_budget(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed_after: int | None
) -> None:
    """Of many clients one is missed or disconnected twice, or the target gets more CONNECTs in a second than it takes."""
    bench.clients = {ONE: [f"press-{number}" for number in range(120)], TWO: []}
    bench.home()
    bench.aws.quotas[WEST] = {"Connect requests per second per account": 100.0}
    bench.more[f'domains."{TWO}".clients'] = ""
    bench.write(pace="workers = 1\ncanary_share = 0.01\ndisconnects_per_second = 200\nlooks_per_second = 100000")

    if killed_after is not None:
        add = Journal.add

        def crashing(journal: Journal, entry: str, *, at: float, **facts: object) -> None:
            if len(bench.listed(WEST).connects) >= killed_after:
                raise KeyboardInterrupt
            add(journal, entry, at=at, **facts)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "add", crashing)
            with pytest.raises(KeyboardInterrupt):
                bench.operations().apply("west", Wishes())
        assert 50 < len(bench.connected(EAST)) <= 120 - killed_after  # one may be under way
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.connected(WEST) == sorted(bench.clients[ONE])
    assert bench.listed(EAST).ended == dict.fromkeys(bench.clients[ONE], 1)
    times = bench.listed(WEST).connects
    assert max(sum(start <= at < start + 1 for at in times) for start in times) <= 50
    if killed_after is None:
        assert times[-1] - times[0] <= 1.3 * 120 / 50


def test_each_region_has_its_own_data_endpoint(bench: Bench) -> None:
    """Requests go to the common endpoint of a region although the plan knows the account's own."""
    operations = bench.operations()
    plan = operations.plan("west")
    plan = evolve(plan, endpoints={EAST: "own-ats.iot.us-east-1.amazonaws.com", WEST: None})
    regions = operations._regions(plan)
    assert regions.data(EAST).meta.endpoint_url == "https://own-ats.iot.us-east-1.amazonaws.com"
    assert regions.data(EAST, is_patient=True).meta.endpoint_url == "https://own-ats.iot.us-east-1.amazonaws.com"
    assert regions.data(WEST).meta.endpoint_url == bench.aws.url


def test_a_service_that_was_silent_is_not_waited_for_again(bench: Bench) -> None:
    """Each question to a dead region waits for its own time-out."""
    bench.write(waits="request = 0.2")
    bench.aws.hang("iot", region=EAST)
    aws = bench.operations().world.aws
    for _ in range(5):
        with pytest.raises(AwsTrouble):
            aws.call(aws.client("iot", EAST), "describe_endpoint", endpointType="iot:Data-ATS")
    assert bench.aws.count("iot", "/endpoint") == 2  # one call, asked twice
    bench.aws.lift()


def test_who_is_looked_for_too_late_has_not_arrived(bench: Bench) -> None:
    """Clients that could not be looked for before the deadline count as arrived."""
    bench.clients[ONE] = [f"press-{n}" for n in range(30)]
    bench.home()
    bench.write(pace="canary_share = 0\nlooks_per_second = 1\nworkers = 1", waits="total = 12\nresolvers = 0")
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 6
    assert "of 31 clients arrived" in ended.text
    assert bench.connected(WEST) == sorted([*bench.clients[ONE], "lathe-1"])


def test_going_on_is_asked_for_too(bench: Bench) -> None:
    """An unfinished run goes on although the user said no."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what=DELETE)
    bench.operations().apply("west", Wishes())
    bench.aws.lift()
    bench.answer = False
    assert bench.operations().apply("west", Wishes()).code == 1
    assert bench.connected(WEST) == []


def test_disconnecting_has_a_deadline(bench: Bench) -> None:
    """A run goes on disconnecting after its time is over, or the next one does not finish it."""
    bench.clients[ONE] = [f"press-{n}" for n in range(20)]
    bench.home()
    bench.write(pace="canary_share = 0\ndisconnects_per_second = 1", waits="total = 8\nresolvers = 0")
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 6
    assert re.search(r"\d+ of 21 clients were not disconnected, for \d+ s were over", ended.text)
    assert 1 <= len(bench.connected(WEST)) < 10
    bench.write(pace="canary_share = 0")
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(EAST) == []
    assert set(bench.listed(EAST).ended.values()) == {1}


def test_a_request_that_is_never_answered_ends(bench: Bench) -> None:
    """A DeleteConnection without an answer holds the run for ever, or hides that somebody is left."""
    bench.write(waits="request = 0.05", pace="canary_share = 0")
    bench.aws.hang("iotdata", what="DELETE /connections/press-2[?]")
    ended = bench.operations().apply("west", Wishes())
    bench.aws.lift()
    assert ended.code == 6
    assert "1 of 3 clients were not disconnected; the first error: Read timeout" in ended.text
    assert bench.connected(WEST) == ["lathe-1", "press-1"]


def test_an_answer_that_was_lost_makes_no_second_kick(bench: Bench) -> None:
    """A client whose disconnect was carried out and not answered is disconnected again, or counts as failed."""
    bench.aws.lose("iotdata", what=DELETE, times=2)
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert bench.listed(EAST).ended == dict.fromkeys(EVERYBODY, 1)


def test_errors_of_the_data_plane_are_repeated(bench: Bench) -> None:
    """A 500 or 503 of iot-data loses a client."""
    bench.aws.fail("iotdata", "InternalFailureException", 500, what=DELETE, times=2)
    bench.aws.fail("iotdata", "ServiceUnavailableException", 503, what=DELETE, times=2)
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(WEST) == EVERYBODY


def test_arrivals_are_told_while_a_long_round_lasts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where looking for everybody takes long, all arrivals have the time of the last look, and the bar stands still."""
    jump = SteppingClock.wait

    def wait(clock: SteppingClock, seconds: float, stop: threading.Event) -> bool:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.3)  # whoever waits for a look hears of it before the next one's time has passed
        return jump(clock, seconds, stop)

    monkeypatch.setattr(SteppingClock, "wait", wait)
    bench.write(pace="looks_per_second = 0.5\ncanary_share = 0\nworkers = 1")
    ended = bench.operations().apply("west", Wishes())
    assert ended.run is not None
    times = sorted(ended.run.arrived.values())
    assert len(times) == 3
    assert times[-1] - times[0] >= 2
