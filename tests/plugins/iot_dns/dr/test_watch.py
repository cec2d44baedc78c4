"""``dr watch``: lifecycle events in a file, and a switch that lives on them."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from switchgear.cli.app import main
from switchgear.testing import ThreadedBroker
from switchgear_iot_dns.dr import client_ids
from switchgear_iot_dns.dr.errors import InvalidPlanFile
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, TWO, WEST
from switchgear_iot_dns.dr.watch import Collector

if TYPE_CHECKING:
    from pathlib import Path

    from switchgear_iot_dns.dr.testing import Bench


def event(client_id: str, kind: str, version: int) -> bytes:
    facts = {
        "clientId": client_id,
        "eventType": kind,
        "timestamp": 1_800_000_000_000 + version,
        "versionNumber": version,
    }
    return json.dumps(facts).encode()


def test_events_are_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event is not in the file, something else is, or the command does not end in time."""
    out = tmp_path / "seen.jsonl"

    def monotonic() -> float:
        """The time is over when all three have come, however long that takes."""
        return 600.0 if out.exists() and len(out.read_text().splitlines()) == 3 else 0.0

    monkeypatch.setattr("switchgear_iot_dns.dr.watch.time", SimpleNamespace(monotonic=monotonic))
    with ThreadedBroker() as broker:

        def publish() -> None:
            broker.wait_until(lambda: len(broker.ledger.entries) >= 3)  # connected, and subscribed twice
            topic = "$aws/events/presence/"
            broker.publish(topic + "connected/press-1", event("press-1", "connected", 0), qos=1)
            broker.publish(topic + "connected/press-2", event("press-2", "connected", 0), qos=1)
            broker.publish(topic + "connected/press-2", b"no event", qos=1)
            broker.publish(topic + "disconnected/press-1", event("press-1", "disconnected", 1), qos=1)

        thread = threading.Thread(target=publish)
        thread.start()
        code = main(["dr", "watch", EAST, broker.uri, "--out", str(out), "--seconds", "600", "--client-id", "watcher"])
        thread.join()
    assert (code, capsys.readouterr().err) == (0, "")
    assert len(out.read_text().splitlines()) == 3
    assert client_ids.from_presence(out.read_text(), "seen").connected(EAST) == ("press-2",)


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A region that is none, or a file that cannot be written, gives a traceback."""
    assert main(["dr", "watch", "nowhere", "mqtt://127.0.0.1:1", "--out", str(tmp_path / "x")]) == 2
    assert "'nowhere' is no region such as us-east-1" in capsys.readouterr().err
    assert main(["dr", "watch", EAST, "mqtt://127.0.0.1:1", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"switchgear: {tmp_path}: Is a directory\n"


def test_a_torn_line_does_not_spoil_those_behind_it(tmp_path: Path) -> None:
    """What is collected after a kill in the middle of a line cannot be read."""
    out = tmp_path / "seen.jsonl"
    line = client_ids.presence_line(EAST, json.loads(event("press-1", "connected", 0)))
    for torn in ("", '{"region": "us-e'):
        for whole in ("", f"{line}\n"):
            out.write_text(whole + torn)
            Collector(EAST, out).close()
            assert out.read_text() == whole


@pytest.mark.parametrize("text", ["[zone]\n", "[zone]", "press-1\npress-2\n", "x" * 5000, '{"a": 1}\n'])
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    """Events are written behind a plan file, a list of ids or anything else that `--out` names by mistake."""
    out = tmp_path / "dr.toml"
    out.write_text(text)
    with pytest.raises(InvalidPlanFile, match=r"line 1: .*is no line of `dr watch`; choose another --out"):
        Collector(EAST, out)
    assert out.read_text() == text


def test_a_switch_by_presence(bench: Bench) -> None:
    """Clients that only the presence file names are not disconnected, or their arrival is not seen in it."""
    seen = bench.folder / "seen.jsonl"
    for name in (ONE, TWO):
        bench.more[f'domains."{name}".clients'] = 'source = "presence"\nfile = "seen.jsonl"'
    bench.clients = {ONE: ["press-1"], TWO: ["press-1"]}
    bench.home()
    bench.write()
    seen.write_text(f"{client_ids.presence_line(EAST, json.loads(event('press-1', 'connected', 0)))}\n")
    east = bench.listed(EAST)
    home = east.home

    def go_home(client_id: str) -> object:
        told = json.loads(event(client_id, "connected", 1)) | {"timestamp": time.time() * 1000}
        with seen.open("a") as file:
            file.write(f"{client_ids.presence_line(WEST, told)}\n")
        return home(client_id)

    east.home = go_home  # type: ignore[assignment]  # it gives what home gives
    ended = bench.operations().apply("west", Wishes())
    assert ended.code == 0, ended.text
    assert ended.run is not None
    assert list(ended.run.arrived) == [(EAST, "press-1")]
    assert bench.aws.count("iotdata", "GET") == 0
