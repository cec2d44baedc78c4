"""The examples of the README and the pages.

A ```python block is run as a script in a folder of its page; the blocks of a page run in order. A comment before it may
say otherwise:

    <!-- example: run with pytest -->
    <!-- example: write only, REASON -->      the file is put into the folder; another example uses it
    <!-- example: compile only, REASON -->    it needs the outside world

A block with a title, of any language, is put into the folder under that name. After ``<!-- prints -->`` a text block is
what the example before it prints, and after ``<!-- prints, and more -->`` how that begins.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field, frozen
from switchgear.testing.broker import Broker, Store
from switchgear_certs import Authority

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?:<!-- (?P<note>example|prints)(?:: |, )?(?P<how>[^>]*?) -->\n+)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LIMIT = 200


@define
class Block:
    """One fenced block of a page."""

    language: str
    title: str
    text: str
    line: int
    how: str = ""
    prints: str | None = None
    prints_more: bool = False
    before: list[Block] = field(factory=list)

    @property
    def is_example(self) -> bool:
        return self.language == "python" and not self.how.startswith("write only")


def blocks_of(page: Path) -> list[Block]:
    """The blocks of *page*, each knowing those before it."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<!-- begin: .*?<!-- end: ", lambda made: "\n" * made[0].count("\n"), text, flags=re.DOTALL)
    found: list[Block] = []
    for match in FENCE.finditer(text):
        if match["note"] == "prints":
            found[-1].prints = match["text"]
            found[-1].prints_more = bool(match["how"])
            continue
        line = text.count("\n", 0, match.start("text"))
        how = match["how"] or ""
        found.append(Block(match["language"], match["title"] or "", match["text"], line, how, before=[*found]))
    return found


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}:{block.line}")
    for page in PAGES
    for block in blocks_of(page)
    if block.is_example
]


@frozen
class Stage:
    """What examples meet in place of the outside world.

    Attributes:
        uris: What is written in an example, and what is run instead.
        files: Certificates and secrets, put into the folder of the example.
        environment: Variables for its process.
    """

    uris: dict[str, str]
    files: dict[str, bytes]
    environment: dict[str, str]

    def cast(self, text: str) -> str:
        """*text* with the places of the outside world replaced."""
        for written, run in self.uris.items():
            text = text.replace(written, run)
        return text


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Brokers under the names that the examples use.

    ``broker.example.com`` and ``other.example.com`` are one broker each, with and without TLS; ``b-1.example.com`` and
    ``b-2.example.com`` are an active-standby pair with TLS.
    """
    authority = Authority.create()
    server, client = authority.server("localhost"), authority.client("press-7")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.configure(context)
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "ca.pem").write_bytes(authority.ca_pem)
    files = {
        "ca.pem": authority.ca_pem,
        "client.pem": client.certificate_pem,
        "client.key": client.key_pem,
    }
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="examples")
    thread.start()

    def do(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    async def open_all() -> tuple[list[Broker], dict[str, str]]:
        store = Store()
        one, other = Broker(name="broker"), Broker(name="other")
        active, standby = Broker(name="b-1", store=store), Broker(name="b-2", store=store, standby=True)
        uris = {}
        for broker in (one, other):
            uris[f"mqtts://{broker.name}.example.com"] = f"mqtts://localhost:{await broker.start(ssl=context)}"
            uris[f"mqtt://{broker.name}.example.com"] = f"mqtt://127.0.0.1:{await broker.start()}"
        for broker in (active, standby):
            uris[f"ssl://{broker.name}.example.com:8883"] = f"ssl://localhost:{await broker.start(ssl=context)}"
        return [one, other, active, standby], uris

    brokers, uris = do(open_all())
    secrets = {"MQ_PASSWORD": "squeamish", "PRESS_KEY": client.key_pem.decode()}
    yield Stage(uris, files, {"SSL_CERT_FILE": str(folder / "ca.pem"), **secrets})
    for broker in brokers:
        do(broker.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def install(folder: Path) -> None:
    """Make the project in *folder* look installed, as its ``pyproject.toml`` says."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("block", EXAMPLES)
def test_each_example_runs_and_prints_what_the_page_says(block: Block, stage: Stage, tmp_path: Path) -> None:
    """Every Python example of every page ends without an error or a warning, and prints what stands below it."""
    compile(block.text, "example.py", "exec")
    if block.how.startswith("compile only, "):
        return
    for name, data in stage.files.items():
        (tmp_path / name).write_bytes(data)
    for each in [*block.before, block]:
        if each.title:
            (tmp_path / each.title).write_text(stage.cast(each.text), encoding="utf-8")
    if (tmp_path / "pyproject.toml").exists():
        install(tmp_path)
    script = tmp_path / (block.title or "example.py")
    script.write_text(stage.cast(block.text), encoding="utf-8")
    how = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if block.how == "run with pytest" else []
    ended = subprocess.run(
        [sys.executable, "-W", "error", *how, script.name],
        cwd=tmp_path,
        env=os.environ | stage.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout  # no log lines either: nobody configured logging
    if block.prints is not None:
        shown = ended.stdout[: len(block.prints)] if block.prints_more else ended.stdout
        assert shown == block.prints


def test_every_directive_is_known() -> None:
    """No comment before an example says something that this file does not understand."""
    known = re.compile(r"|run with pytest|(write only|compile only), .+")
    assert [b.how for page in PAGES for b in blocks_of(page) if not known.fullmatch(b.how)] == []
    assert len(EXAMPLES) >= 15
