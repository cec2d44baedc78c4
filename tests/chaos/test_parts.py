"""The parts of the chaos ledger that touch something: journals, the wrong clock, the packets of those not under test."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from switchgear_chaos.journal import (
    Journal,
    Reader,
    as_ranges,
    from_ranges,
    held,
    number_of,
    payload_of,
    qos_of,
    topic_of,
)
from switchgear_chaos.wire import connect_packet, refuser, take_over


def test_ranges_read_back() -> None:
    """Numbers with gaps, in any order, come back sorted."""
    assert as_ranges([7, 1, 2, 3, 9, 8]) == "1-3,7-9"
    assert list(from_ranges("1-3,7-9")) == [1, 2, 3, 7, 8, 9]


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Each line is read once, and one that a kill cut short is never read."""
    path = tmp_path / "journal"
    reader = Reader(path)
    assert list(reader) == []
    journal = Journal(path)
    journal.write("stored", 1.5, "1-3")
    assert list(reader) == [["stored", "1.5", "1-3"]]
    journal.write("stopped", 2.0)
    with path.open("ab") as file:
        file.write(b"stored 2.5 4-")
    assert list(reader) == [["stopped", "2.0"]]
    assert list(Reader(path)) == [["stored", "1.5", "1-3"], ["stopped", "2.0"]]


def test_the_next_life_takes_a_cut_line_away(tmp_path: Path) -> None:
    """What a kill left of a line does not become the beginning of the next life's first one."""
    path = tmp_path / "journal"
    Journal(path).write("reserve", 10_000)
    with path.open("ab") as file:
        file.write(b"reserve 2")
    Journal(path).write("start", 1.5)
    assert list(Reader(path)) == [["reserve", "10000"], ["start", "1.5"]]


def test_what_is_held_counts_objects() -> None:
    """One object kept for each message shows, however small it is."""
    before = held()[1]
    kept = [str(number) for number in range(1000, 4000)]
    assert held()[1] - before > 0.9 * len(kept)


async def test_who_is_not_let_in_has_taken_nothing_over() -> None:
    """A client id counts as taken over once the broker has said so."""
    async with refuser(5) as address:
        with pytest.raises(ConnectionRefusedError, match="did not let somebody in"):
            await take_over(int(address.rpartition(":")[2]), "somebody", None, 5.0)


def test_messages_follow_from_their_number() -> None:
    """Topic, QoS and payload are a function of the number, so that whoever reads one can check it."""
    assert number_of(topic_of(1, 250)) == (1, 250)
    assert [qos_of(number) for number in (0, 1, 10, 20, 30)] == [0, 1, 2, 0, 2]
    assert payload_of(0, 1) != payload_of(1, 1)
    assert [len(payload_of(0, number)) for number in (1, 250, 500)] == [128, 19_878, 19_628]


def test_the_clock_is_wrong_from_the_start_and_jumps() -> None:
    """Both wall clocks are wrong by the variable and by each jump; monotonic time and the machine's clock are not."""
    code = (
        "from switchgear_chaos import clock, journal\nimport time\n"
        "clock.jump(-50)\n"
        "print(time.time() - journal.now(), time.time_ns() / 1e9 - journal.now(), time.monotonic())"
    )
    path = str(Path(__file__).parent)
    environment = {**os.environ, "SWITCHGEAR_CHAOS_CLOCK": "1050", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    wrong, wrong_ns, monotonic = map(float, done.stdout.split())
    assert (round(wrong, -1), round(wrong_ns, -1)) == (1000, 1000)
    assert abs(monotonic - time.monotonic()) < 60


@pytest.mark.parametrize(("level", "answer"), [(4, b"\x20\x02\x00\x05"), (5, b"\x20\x03\x00\x87\x00")])
async def test_a_refusal_speaks_the_clients_version(level: int, answer: bytes) -> None:
    """CONNECT of 3.1.1 and of 5 get the CONNACK of theirs, and then the connection ends."""
    packet = bytearray(connect_packet("somebody", None))
    packet[8] = level
    async with refuser(5) as address:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(packet)
        assert await reader.read() == answer
        writer.close()
