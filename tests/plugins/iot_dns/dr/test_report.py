"""The report: JSON, and one page that needs nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from switchgear_iot_dns.dr import report, timeline
from switchgear_iot_dns.dr.operations import Wishes
from switchgear_iot_dns.dr.state import Phase
from switchgear_iot_dns.dr.testing.bench import EAST, ONE, WEST

if TYPE_CHECKING:
    from pathlib import Path

    from switchgear_iot_dns.dr.state import Run
    from switchgear_iot_dns.dr.testing import Bench


class Links(HTMLParser):
    """Collects what a page fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {value}" for name, value in attrs if name in {"src", "href", "data", "action"}]
        self.found += [tag] if tag in {"script", "link", "iframe", "img", "object"} else []


def a_run(bench: Bench) -> tuple[Run, Path]:
    ended = bench.operations().apply("west", Wishes())
    assert ended.run is not None
    assert ended.report is not None
    return ended.run, ended.report


def test_the_page_stands_alone(bench: Bench) -> None:
    """The page fetches something, runs a script, or has no picture."""
    _, path = a_run(bench)
    text = path.read_text()
    links = Links()
    links.feed(text)
    assert links.found == []
    assert re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text) is None
    assert text.count("<svg ") == 1


def test_the_picture_has_every_phase(bench: Bench) -> None:
    """A phase is not in the picture, or the picture is no SVG."""
    run, _ = a_run(bench)
    picture = ET.fromstring(timeline.svg(run))  # noqa: S314 - our own
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [phase.value for phase in Phase if phase.value not in texts] == []
    assert "disconnected 3" in texts
    assert "arrived 3" in texts
    bars = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("class") == "bar"]
    assert len(bars) == len(Phase)
    assert all(200 <= float(each.get("x", "0")) <= 900 for each in bars)


def test_an_unfinished_phase_is_open(bench: Bench) -> None:
    """A phase that did not end looks as if it had, or a run without clients has no picture."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what="DELETE /connections/(?!.*probe)")
    run, _ = a_run(bench)
    assert 'class="open"' in timeline.svg(run)
    assert "incomplete" in report.page(run)


def test_names_are_escaped(bench: Bench) -> None:
    """A client id with markup is markup in the page."""
    bench.clients[ONE] = ["<b>press</b>"]
    bench.aws.fail(
        "iotdata", "InvalidRequestException", 400, what="DELETE /connections/%3Cb%3Epress%3C%2Fb%3E?", message="<i>"
    )
    bench.home()
    bench.write()
    bench.aws.lift()
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what="DELETE /connections/(?!.*probe)")
    _, path = a_run(bench)
    assert "<b>press" not in path.read_text()
    assert "&lt;b&gt;press&lt;/b&gt;" in path.read_text()


def test_the_json_names_who_is_left(bench: Bench) -> None:
    """A client that was not disconnected, or did not arrive, is not named."""
    bench.aws.fail("iotdata", "InvalidRequestException", 400, what="DELETE /connections/press-2")
    _, path = a_run(bench)
    told = json.loads(path.with_name(path.name.replace(".html", ".json")).read_text())
    assert told["outcome"] == "incomplete"
    assert told["clients"]["not_disconnected"] == [[EAST, "press-2", "InvalidRequestException: on demand"]]
    assert told["domains"][0]["to"] == WEST


def test_no_secret_is_anywhere(bench: Bench) -> None:
    """A credential is in a journal or a report."""
    a_run(bench)
    for path in (bench.folder / "dr-journal").iterdir():
        assert "testing" not in path.read_text().replace(str(bench.folder), "")
