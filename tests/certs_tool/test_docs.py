"""The page about certificates names every command, option and rule that exists, and none that does not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from switchgear_certs import Files
from switchgear_certs.aws_iot import RULES

PAGE = Path(__file__).parents[2] / "docs/how-to/certificates.md"
README = Path(__file__).parents[2] / "certs_tool/README.md"
COMMANDS = (
    ["init"],
    ["server"],
    ["client"],
    ["sign"],
    ["renew"],
    ["needs-renewal"],
    ["inspect"],
    ["verify"],
    ["check", "aws-iot"],
    ["bundle"],
    ["p12"],
    ["acm"],
    ["demo"],
)


@pytest.fixture
def options(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The options of every command, by command."""
    monkeypatch.setenv("COLUMNS", "200")
    found = {}
    for command in COMMANDS:
        ran = run(*command, "--help")
        assert ran.code == 0
        found[" ".join(command)] = set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", ran.out))
    return found


def test_every_command_and_option_is_on_the_page(options: dict[str, set[str]]) -> None:
    """Nothing that the commands take is left out, but for what only repeats --passphrase and --password."""
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in options if f"switchgear-certs {name}" not in text and f"`{name}`" not in text] == []
    unnamed = {option for each in options.values() for option in each if not re.search(rf"{option}(?![\w-])", text)}
    assert unnamed <= {"--help", "--key", "--name", "--timeout", "--profile"}


@pytest.mark.parametrize("page", [PAGE, README], ids=["page", "README"])
def test_no_option_on_the_page_is_made_up(page: Path, options: dict[str, set[str]]) -> None:
    """Each command line on the page uses options that this command has."""
    lines = [
        line for line in page.read_text(encoding="utf-8").splitlines() if line.strip().startswith("switchgear-certs ")
    ]
    assert lines
    for line in lines:
        for part in line.partition("#")[0].split("&&"):
            words = part.split()[1:]
            name = " ".join(words[:2]) if words[0] == "check" else words[0]
            assert {word for word in words if word.startswith("--")} <= options[name], line


def test_every_rule_is_on_the_page() -> None:
    """The table of rules has each rule once, and no other."""
    table = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and "-" in line.split("|")[1]
    ]
    cells = [name for line in table for name in re.findall(r"`([a-z0-9-]+)`", line.split("|")[1])]
    rules = [name for name, _, _ in RULES]
    assert sorted(name for name in cells if name in rules) == sorted(rules)
    assert [name for name in cells if name not in rules and "." not in name] == []


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python examples of the page and the README run, and leave the files that they speak of."""
    for page, fence in ((PAGE, r"^```python\n(.*?)^```"), (README, r"^In Python:\n\n(.*?)^\S")):
        folder = tmp_path / page.stem
        folder.mkdir()
        monkeypatch.chdir(folder)
        found = re.search(fence, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        assert found is not None
        source = re.sub(r"^    ", "", found[1], flags=re.MULTILINE)
        exec(compile(source, str(page), "exec"), {})  # noqa: S102 - our own page
        assert Files("certs").certificate("localhost").names == ("localhost", "127.0.0.1")
