from __future__ import annotations

import socket
import sys
import time
from typing import Any

import pytest
from switchgear.cli.demo_acts import CannotPlay, Show
from switchgear.plugins import Registry
from switchgear.testing.broker import Closed, Connected, Ledger, Origin, Published
from switchgear_iot_dns import demo
from switchgear_iot_dns.demo_ledger import Counts, Move, Step, first_message


def has(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


needs_two = pytest.mark.skipif(not has("127.0.0.2"), reason="this machine has no 127.0.0.2")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The act in a hurry."""
    monkeypatch.setattr(demo, "STAY", 0.3)
    monkeypatch.setattr(demo, "LATE", 0.3)


@needs_two
async def test_four_patterns() -> None:
    """Both clients are led through all four patterns; nothing is lost, commands arrive, no client is there twice."""
    began = time.monotonic()
    outcome = await demo.play(Show(is_watched=False))
    took = 1000 * (time.monotonic() - began)
    facts: Any = outcome.facts
    assert (outcome.lost, facts["lost"]) == (0, 0)
    assert facts["published"] > 100
    assert [(move["pattern"], move["client"], move["from"], move["to"]) for move in facts["moves"]] == [
        ("split", "mqtt2", "east", "west"),
        ("both west", "mqtt1", "east", "west"),
        ("split the other way", "mqtt2", "west", "east"),
    ]
    assert facts["most_connections_at_once"] == 1
    assert facts["commands_sent"] == facts["commands_arrived"] == 3
    assert all(0 < move["settled_to_first_message_ms"] < took for move in facts["moves"])
    late = facts["moves"][1]
    assert late["record_came_late"]
    assert late["disconnect_to_first_message_ms"] >= 300
    assert outcome.rows[0][0] == "both east"
    assert outcome.verdict.endswith("Every accepted message is in one region or the other.")


@needs_two
async def test_who_has_seen_enough() -> None:
    """An act that is ended at once connects, moves nobody, and tells what it counted."""
    show = Show(is_watched=False)
    show.ending.set()
    outcome = await demo.play(show)
    assert outcome.facts["moves"] == []
    assert outcome.lost == 0


@needs_two
async def test_notes_tell_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    """Who watches hears of each record that changes, each disconnect, and each decision of the plugin."""
    await demo.play(Show(is_watched=True))
    out = capsys.readouterr().out
    for said in (
        "pattern: both east",
        "DNS: mqtt2.example.com is west.iot.example from now on",
        "disconnected by an administrator (reason 0x98)",
        "the name leads to west.iot.example now, not to east.iot.example",
        "the region sent us away, the name leads to east.iot.example still",
    ):
        assert said in out


@pytest.mark.skipif(not has("::1"), reason="this machine has no ::1")
async def test_addresses_of_two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where 127.0.0.2 is missing, as on macOS, the regions are 127.0.0.1 and ::1."""
    monkeypatch.setattr(demo, "PLACES", (("192.0.2.1", "192.0.2.2"), ("127.0.0.1", "::1")))
    outcome = await demo.play(Show(is_watched=False))
    assert (outcome.lost, len(list(outcome.rows))) == (0, 4)


async def test_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without two addresses the act says which it needs."""
    monkeypatch.setattr(demo, "PLACES", (("192.0.2.1", "192.0.2.2"),))
    with pytest.raises(CannotPlay, match=r"the regions need two addresses of this machine, 192.0.2.1 and 192.0.2.2"):
        await demo.play(Show(is_watched=False))


async def test_without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without switchgear-certs the act says what to install."""
    monkeypatch.setitem(sys.modules, "switchgear_certs", None)
    with pytest.raises(CannotPlay, match=r"pip install 'switchgear-iot-dns\[demo\]'"):
        await demo.play(Show(is_watched=False))


async def test_without_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plugin disabled there is nobody to follow DNS, and the act says so."""
    monkeypatch.setattr(demo, "registry", lambda: Registry.load(disabled=["iot_dns"]))
    with pytest.raises(CannotPlay, match="iot_dns was skipped"):
        await demo.play(Show(is_watched=False))


def published(at: float, payload: bytes, *, client: str = "mqtt1", region: str = "east") -> Published:
    origin = Origin(region, 1, client)
    return Published(
        at=at, origin=origin, topic=f"demo/{client}", payload=payload, qos=1, is_retained=False, packet_id=1, dup=False
    )


def connected(at: float, region: str) -> Connected:
    origin = Origin(region, 1, "mqtt1")
    return Connected(
        at=at, origin=origin, version=5, clean=True, keepalive=30, username=None, session_present=False, code=0
    )


def counts(east: list[Any], west: list[Any], **more: Any) -> Counts:
    ledgers = {"east": Ledger(), "west": Ledger()}
    for name, entries in (("east", east), ("west", west)):
        for entry in entries:
            ledgers[name].record(entry)
    return Counts(ledgers, **{"published": {"mqtt1": 3}, **more})


def test_a_loss_is_counted() -> None:
    """A message that no region has is lost, one that both have is a duplicate, and the last word says so."""
    seen = counts([published(1, b"0"), published(2, b"1")], [published(3, b"1", region="west")])
    assert (seen.lost, seen.duplicates) == (1, 1)
    assert seen.outcome().verdict == "1 message(s) were LOST. Please report it."


def test_two_connections_at_once_are_counted() -> None:
    """A client that enters one region before it has left the other is there twice; one that has left is not."""
    leaving = Closed(at=2.0, origin=Origin("east", 1, "mqtt1"), how="disconnect")
    assert counts([connected(1, "east"), leaving], [connected(2, "west")]).most_at_once == 1
    assert counts([connected(1, "east"), leaving], [connected(1.5, "west")]).most_at_once == 2


def test_the_first_message_after_a_move() -> None:
    """Only messages of that client, and only those after the move, count as the first."""
    seen = counts([published(1, b"0"), published(4, b"1", client="mqtt2"), published(5, b"2"), published(6, b"3")], [])
    assert first_message(seen.ledgers["east"], "mqtt1", 2) == 5
    assert first_message(seen.ledgers["east"], "mqtt1", 7) is None


def test_the_last_word_names_the_times() -> None:
    """Median and longest of the moves are told, in milliseconds."""
    step = Step(pattern="split", client="mqtt1", to="west")
    moves = [Move(step=step, came_from="east", after_disconnect=0.1, after_settled=each) for each in (0.1, 0.2, 0.6)]
    verdict = counts([], [], published={"mqtt1": 0}, moves=moves).outcome().verdict
    assert "median 200 ms, longest 600 ms" in verdict
