"""``updateURIsURL``: a list in a file or on a web page."""

from __future__ import annotations

import asyncio
import http.server
import threading
from typing import TYPE_CHECKING

import pytest
import switchgear
from switchgear.errors import InvalidOption
from switchgear.testing.broker import Broker
from switchgear_activemq.plugin import provide_endpoints
from switchgear_activemq.update import LARGEST, read_list

if TYPE_CHECKING:
    from pathlib import Path


def hosts(where: str) -> list[str]:
    groups = provide_endpoints(where, {})
    assert groups is not None
    return [endpoint.host for endpoint in groups[0].endpoints]


def test_file_replaces_the_list(tmp_path: Path) -> None:
    """The list in the file takes the place of the written one, and is read again each time."""
    file = tmp_path / "brokers"
    where = f"failover:(tcp://a:1)?updateURIsURL={file}"
    file.write_text("tcp://b:1, tcp://c:1\ntcp://d:1  # new\n")
    assert hosts(where) == ["b", "c", "d"]
    file.write_text("tcp://e:1")
    assert hosts(where) == ["e"]


@pytest.mark.parametrize("content", [None, "", "nonsense://x", "tcp://b:1,("])
def test_written_list_stays_in_force(tmp_path: Path, content: str | None) -> None:
    """A list that is missing, empty or wrong leaves the written one in force."""
    file = tmp_path / "brokers"
    if content is not None:
        file.write_text(content)
    assert hosts(f"failover:(tcp://a:1)?updateURIsURL={file}") == ["a"]


@pytest.mark.parametrize("content", [None, "", "nonsense://x", "tcp://b:1,("])
def test_the_last_list_stays_in_force(tmp_path: Path, content: str | None) -> None:
    """A list that goes missing, is emptied or becomes wrong does not lead back to the written one, which may be long gone."""
    file = tmp_path / "brokers"
    where = f"failover:(tcp://a:1)?updateURIsURL={file}"
    file.write_text("tcp://b:1")
    assert hosts(where) == ["b"]
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    assert hosts(where) == ["b"]
    file.write_text("tcp://c:1")
    assert hosts(where) == ["c"]


def test_trouble_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However many sweeps an outage has, a list that cannot be read is one line in the log, until it could be read again."""
    file = tmp_path / "brokers"
    where = f"failover:(tcp://a:1)?updateURIsURL={file}"

    def lines() -> int:
        return sum(record.message == "switchgear.activemq.list_not_used" for record in caplog.records)

    for _ in range(5):
        hosts(where)
    assert lines() == 1
    file.write_text("tcp://b:1")
    hosts(where)
    file.unlink()
    for _ in range(5):
        hosts(where)
    assert lines() == 2


def test_web_page() -> None:
    """A list on a web page is read over http."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"tcp://web:1")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            assert read_list(f"http://127.0.0.1:{server.server_port}/brokers") == ["tcp://web:1"]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("where", ["ftp://x/y", "/no/such/file", "http://127.0.0.1:1/", "data:,x"])
def test_unreadable(where: str) -> None:
    """What cannot be read is refused with the reason."""
    with pytest.raises(InvalidOption, match="updateURIsURL"):
        read_list(where)


def test_too_large(tmp_path: Path) -> None:
    """A file larger than any list of brokers is refused."""
    file = tmp_path / "huge"
    file.write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(InvalidOption, match="more than"):
        read_list(str(file))


async def test_moves_to_a_list_that_changed(tmp_path: Path) -> None:
    """After an outage the transport connects to a broker that only the new list names, and loses nothing."""
    file = tmp_path / "brokers"
    async with Broker(name="old") as old, Broker(name="new") as new:
        await old.start()
        await new.start()
        file.write_text(old.uri)
        where = f"failover:(tcp://127.0.0.1:1)?updateURIsURL={file}"
        async with switchgear.aio.connect(where, client_id="mover") as transport:
            await transport.wait_connected(10)
            assert old.clients == ["mover"]
            file.write_text(new.uri)
            await old.kill()
            await asyncio.wait_for(transport.publish("a", b"b"), 10)
            assert new.clients == ["mover"]
            assert new.ledger.payloads() == [b"b"]
