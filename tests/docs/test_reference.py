"""The reference is complete, and holds nothing that no longer exists."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import switchgear
from switchgear import cause, errors, hookspecs, report
from switchgear.cli.app import CONNECTION, INTERRUPTED, OK, UNDELIVERED, USAGE, build
from switchgear.drivers.base import DriverFeatures
from switchgear.loaded_plugin import HOOKS
from switchgear.plugins import registry
from switchgear.transport import DRAIN
from typer.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in (ROOT / "core/switchgear", ROOT / "plugins", ROOT / "certs_tool")
    for path in sorted(folder.rglob("*.py"))
    if "testing" not in path.parts
]


def reference(pages: dict[str, str], name: str) -> str:
    return pages[f"docs/reference/{name}.md"]


def first_cells(page: str) -> set[str]:
    """What stands in code in the first column of the tables of a page."""
    return set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))


def test_the_pages_are_what_the_generator_makes(generate: ModuleType) -> None:
    """No page on disk differs from what ``python docs/generate.py`` would write."""
    stale = [page.name for page in generate.pages() if generate.fill(page.read_text()) != page.read_text()]
    assert stale == [], "run .venv/bin/python docs/generate.py, and read what it changed"


def test_every_generated_block_is_on_a_page(generate: ModuleType, pages: dict[str, str]) -> None:
    """No block, and no command, is left out of the pages, and no page asks for one that does not exist."""
    placed = re.findall(r"<!-- begin: ([^>]+?) -->", "".join(pages.values()))
    assert {*generate.BLOCKS, *(f"command {name}" for name in generate.commands())} == set(placed)


def test_every_hook_has_its_exact_signature(pages: dict[str, str]) -> None:
    """A hook whose parameters or answer differ from the page, or that has no heading there, does not exist."""
    page = reference(pages, "hooks")
    headings = re.findall(r"^## `(\w+)`", page, re.MULTILINE)
    assert sorted(headings) == sorted(HOOKS)
    tree = ast.parse(Path(hookspecs.__file__).read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in HOOKS:
            node.decorator_list, node.body = [], [ast.Expr(ast.Constant(...))]
            assert ast.unparse(node).replace("\n    ", " ") in page


def test_every_hook_says_when_where_what_and_what_if(pages: dict[str, str]) -> None:
    """Each hook's section answers the same four questions."""
    sections = re.split(r"^## ", reference(pages, "hooks"), flags=re.MULTILINE)
    for section in sections:
        if re.match(r"`\w+`", section):
            assert re.findall(r"^\| (When|Thread|Answer|Errors) \|", section, re.MULTILINE) == [
                "When",
                "Thread",
                "Answer",
                "Errors",
            ]


def test_every_error_is_listed(pages: dict[str, str]) -> None:
    """The table of errors names exactly the classes of the module of errors, and so does the list of public names."""
    known = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.SwitchgearError)}
    assert first_cells(reference(pages, "errors")) == known
    assert known <= set(switchgear.__all__)


def test_every_cause_is_listed(pages: dict[str, str]) -> None:
    """The table of causes names exactly the causes, each with its policy."""
    page = reference(pages, "causes")
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| (\w+) \|", page, re.MULTILINE))
    assert listed == {each.name: policy.value for each, (policy, _) in cause.TABLE.items()}
    assert {p.value for p in cause.Policy} == set(re.findall(r"^\| (transient|elsewhere|fatal) \|", page, re.MULTILINE))


def test_every_event_is_listed_with_the_facts_that_its_words_need(generate: ModuleType, pages: dict[str, str]) -> None:
    """The table of events names exactly the events, and no event's words use a fact that nobody gives."""
    assert set(report.WORDS) <= first_cells(reference(pages, "events"))
    facts = generate.event_facts()
    assert set(facts) == set(report.WORDS)
    for name, words in report.WORDS.items():
        assert set(re.findall(r"{(\w+)", words)) <= set(facts[name]), name


def test_every_option_is_listed(pages: dict[str, str]) -> None:
    """The first table of options names exactly the fields of a profile."""
    table = reference(pages, "options").partition("<!-- end: options -->")[0]
    assert first_cells(table) == {field.name for field in attrs.fields(switchgear.Profile)}


def test_every_driver_of_this_repository_is_listed(generate: ModuleType, pages: dict[str, str]) -> None:
    """A driver that a plugin of this repository lists has its column, and every feature has its row."""
    listed = set()
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "DRIVERS" and node.value:
                listed.update(ast.literal_eval(node.value))
    assert listed == set(generate.DRIVERS)
    assert {f.name for f in attrs.fields(DriverFeatures)} <= first_cells(reference(pages, "drivers"))


def test_every_public_name_is_explained(pages: dict[str, str]) -> None:
    """No name of ``switchgear.__all__`` is missing from the page of public names."""
    page = reference(pages, "api")
    code = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    assert [name for name in switchgear.__all__ if name not in code] == []
    assert f"up to {['zero', 'one', 'two', 'three', 'four', 'five'][int(DRAIN)]} seconds" in page


def test_every_command_is_listed(generate: ModuleType, pages: dict[str, str]) -> None:
    """The headings of the page of commands are exactly the commands, and its exit codes are the program's."""
    page = reference(pages, "commands")
    assert re.findall(r"^## `switchgear ([^`]+)`", page, re.MULTILINE) == list(generate.commands())
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    assert codes == [OK, UNDELIVERED, USAGE, CONNECTION, INTERRUPTED]


@pytest.mark.parametrize("name", ["sub", "pub", "certs demo", "certs server", "dr apply", "outbox show"])
def test_a_usage_line_is_that_of_the_help(name: str, pages: dict[str, str]) -> None:
    """What the page says may be repeated or left out is what the command's own help says."""
    said = CliRunner(env={"COLUMNS": "200"}).invoke(build(), [*name.split(), "--help"]).stdout.splitlines()[0]
    usage = said.translate(str.maketrans("", "", "{}")).partition("[OPTIONS]")[2]
    assert f"\nswitchgear {name} [OPTIONS]{usage}\n" in reference(pages, "commands")


def test_every_log_line_is_listed(generate: ModuleType, pages: dict[str, str]) -> None:
    """No message that a logger is given in the source is missing from the page of log lines, and none is left over."""
    said = {
        message
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if (message := generate.log_message(node)) is not None
    }
    assert said - {"switchgear.%s"} == first_cells(reference(pages, "log"))


def test_every_log_line_has_its_logger_and_its_levels(pages: dict[str, str]) -> None:
    """No row leaves the logger out, and one that is an error only at first says both."""
    page = reference(pages, "log")
    assert re.findall(r"^\| `switchgear\.[\w.]+` \| (?!`switchgear\.[\w.]+` \| \w).*", page, re.MULTILINE) == []
    assert "| `switchgear.sdk_restart.budget_exhausted` | `switchgear.plugins.sdk_restart` | error; debug " in page


def mentions(pages: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Every dotted name of ours that stands in code on a page."""
    for page, text in pages.items():
        code = re.findall(r"`([^`\n]+)`", text) + re.findall(
            r"^```python.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL
        )
        for name in re.findall(r"(?<![\w./-])switchgear(?:\.\w+)+", "\n".join(code)):
            yield page, name


def exists(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def test_no_page_names_what_does_not_exist(pages: dict[str, str]) -> None:
    """Every ``switchgear.something`` on a page can be imported, or is a log line, a logger or a file."""
    known = first_cells(reference(pages, "log")) | {f"switchgear.{name}" for name in report.WORDS}
    known |= set(re.findall(r"`(switchgear[\w.]+)`", reference(pages, "log")))
    known |= {"switchgear.toml", *(f"switchgear.{plugin.name}" for plugin in registry().loaded)}
    known |= {"switchgear.drivers"}
    assert [(page, name) for page, name in mentions(pages) if name not in known and not exists(name)] == []


def test_no_page_shows_an_option_of_the_command_line_that_does_not_exist(pages: dict[str, str]) -> None:
    """Every ``--option`` that stands beside ``switchgear`` on a page is one of its commands'."""
    listed = set(re.findall(r"`(--[\w-]+)`", reference(pages, "commands")))
    shown = set()
    for page, text in pages.items():
        if page != "docs/reference/commands.md":
            lines = re.findall(
                r"^(?:\$ |    )?.*\bswitchgear (?:pub|sub|demo|simulate|plugins|activemq)\b.*$", text, re.MULTILINE
            )
            shown |= set(re.findall(r"(?<!\w)--[a-z][\w-]*", "\n".join(lines)))
    assert shown - listed == set()


@pytest.mark.parametrize("page", ["how-to/profile.md", "how-to/write-a-plugin.md"])
def test_every_toml_block_is_toml(pages: dict[str, str], page: str) -> None:
    """No TOML example has a syntax error."""
    found = re.findall(r"^```toml.*?\n(.*?)^```", pages[f"docs/{page}"], re.MULTILINE | re.DOTALL)
    assert [bool(tomllib.loads(text)) for text in found] == [True] * len(found)
    assert found


def test_every_page_of_the_site_is_written(pages: dict[str, str]) -> None:
    """The navigation and the folder hold the same pages, so none is unreachable and none is missing."""
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(f"docs/{name}" for name in listed) == sorted(page for page in pages if page != "README.md")


def test_links_of_the_readme_lead_to_files(pages: dict[str, str]) -> None:
    """No link of the README, which MkDocs does not read, is broken."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", pages["README.md"])
    assert [link for link in links if not (ROOT / link).exists()] == []
