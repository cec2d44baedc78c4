"""Client ids: which are taken, what people are told of odd ones, and that each is named exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from switchgear.cli.app import main
from switchgear_iot_dns.dr import client_ids
from switchgear_iot_dns.dr.errors import InvalidClientId
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.sightings import PresenceSightings
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TWO, WEST

if TYPE_CHECKING:
    from pathlib import Path

    from switchgear_iot_dns.dr.testing import Bench

ODD = ["plant/line 1/press", "100%", "a%2Fb", "cost$", "a b", "ä+#?&="]


@pytest.mark.parametrize(
    ("client_id", "why"),
    [
        ("$aws-thing", "begins with $, which AWS IoT does not take"),
        (" press-9", "has white space at an end; take it away"),
        ("press-9 ", "has white space at an end; take it away"),
        ("x" * 129, "has 129 characters; AWS IoT takes at most 128"),
        ("..", "is a step in a path, so that no request can name it"),
        (".", "is a step in a path, so that no request can name it"),
        ("", "is empty"),
        ("a\tb", "holds a control character"),
    ],
)
def test_a_client_id_that_cannot_be(client_id: str, why: str) -> None:
    """A client id that no request can name is taken, or its error does not say where it stands and what is wrong."""
    with pytest.raises(InvalidClientId) as caught:
        client_ids.check(client_id, "dr.toml: domains.a.clients.ids")
    assert str(caught.value) == f"dr.toml: domains.a.clients.ids: the client id {client_id!r} {why}"


@pytest.mark.parametrize("source", ["list", "file"])
def test_a_client_id_that_cannot_be_stops_everything(
    bench: Bench, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """A written id that cannot be is skipped in silence, or the records are switched without its client."""
    (bench.folder / "ids.txt").write_text("# presses\n\npress-1\n$aws-thing\n")
    where = 'ids = ["press-1", "$aws-thing"]' if source == "list" else 'file = "ids.txt"'
    bench.more[f'domains."{ONE}".clients'] = f'source = "{source}"\n{where}'
    code = main(["dr", "apply", "west", "--yes", "--file", str(bench.write())])
    told = capsys.readouterr().err
    place = f"domains.{ONE}.clients.ids" if source == "list" else "ids.txt, line 4"
    assert (code, told.count("\n")) == (2, 1)
    assert f"{place}: the client id '$aws-thing' begins with $" in told
    assert bench.regions() == {ONE: EAST, TWO: EAST}
    assert bench.aws.count("iotdata", "DELETE") == 0


def test_odd_client_ids_are_named_exactly(bench: Bench) -> None:
    """A client id with a slash, a per cent sign, a dollar sign or a space is encoded twice: another session ends."""
    bench.clients[ONE] = ODD
    bench.home()
    bench.write()
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(WEST) == sorted([*ODD, "lathe-1"])
    assert bench.listed(EAST).ended == dict.fromkeys([*ODD, "lathe-1"], 1)


def test_people_are_told_of_odd_client_ids(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan does not say how an id with a slash is sent, or that one looks encoded already."""
    bench.clients[ONE] = ["press-1", "plant/line 1", "a%2Fb"]
    main(["dr", "plan", "west", "--file", str(bench.write())])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("client ids "))
    assert "note" in line
    assert "2 with slash, %, $, ?, # or a space, such as 'plant/line 1': sent as written here, encoded once" in line
    assert "'a%2Fb' looks encoded already: write the id that the device has" in line


def test_plain_client_ids_need_no_remark() -> None:
    """Ids that mean nothing else in a path are remarked on."""
    assert client_ids.remark(["press-1", "press_2.3:x+~ä"]) is None


def test_what_no_request_can_name_does_not_hold_the_others_up(bench: Bench) -> None:
    """A device that calls itself .. stops the switch of all that the fleet index knows, or ends something else."""
    bench.more[f'domains."{ONE}".clients'] = 'source = "index"'
    bench.aws.index[EAST] = ["press-1", "..", "press-2", " padded "]
    bench.clients[ONE] = ["press-1", "press-2", " padded "]
    bench.home()
    bench.write()
    plan = bench.operations().plan("west")
    assert plan.moves[0].clients == ("press-1", "press-2", " padded ")
    assert "1 called . or .., which no request can name: left alone" in [each.text for each in plan.checks]
    assert bench.operations().apply("west", Wishes()).code == 0
    assert bench.connected(WEST) == [" padded ", "lathe-1", "press-1", "press-2"]


def test_a_presence_file_that_is_none() -> None:
    """A file of something else counts as events."""
    with pytest.raises(InvalidClientId, match=r"seen, line 1: .* is no line of `dr watch`"):
        client_ids.from_presence("hello\nworld\n", "seen")


def test_a_presence_file_may_end_within_a_letter(tmp_path: Path) -> None:
    """A presence file whose last line is torn within a letter of several bytes ends the run in a traceback."""
    event = {"clientId": "pressä", "eventType": "connected", "timestamp": 1000, "versionNumber": 0}
    line = (client_ids.presence_line(EAST, event) or "").encode()
    path = tmp_path / "seen.jsonl"
    path.write_bytes(line + b"\n" + line[: line.index("ä".encode()) + 1])
    sightings = PresenceSightings(str(path))
    sightings.refresh()
    assert sightings.look(EAST, "pressä") is not None
    assert client_ids.from_presence(path.read_text(errors="replace"), "seen").connected(EAST) == ("pressä",)
