"""What goes to standard output: files and what they are for, findings, facts; for people or as one JSON object."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import typer

from switchgear_certs.cli import advice
from switchgear_certs.facts import facts
from switchgear_certs.findings import Finding, Verdict, failed
from switchgear_certs.lifetimes import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from switchgear_certs.wishes import Outcome


def write_json(found: Mapping[str, object]) -> None:
    """Write *found* as one JSON object, in ASCII: a terminal in another encoding would spoil it."""
    typer.echo(json.dumps(found, indent=2))


def say(line: str) -> None:
    """Write *line*, in which certificates and paths may hold what steers terminals or begins another line."""
    typer.echo(printable(line))


def printable(line: str) -> str:
    """*line* with its control characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in line)


def show_outcome(
    outcome: Outcome,
    folder: Path,
    *,
    as_json: bool,
    with_advice: bool = True,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Tell which files are there, what each is for, and where it goes."""
    paths = list(dict.fromkeys(outcome.files))
    where = advice.lines(folder, outcome.certificates) if with_advice else {}
    if as_json:
        write_json(
            {
                "folder": str(folder),
                "changed": outcome.is_changed,
                "files": [
                    {
                        "path": str(path),
                        "what": _what(path, outcome),
                        "written": path in outcome.written,
                        "mode": f"{stat.S_IMODE(path.stat().st_mode):04o}",
                    }
                    for path in paths
                ],
                "certificates": {
                    stem: facts(each.leaf, now=moment(None)) for stem, each in outcome.certificates.items()
                },
                "notes": outcome.notes,
                "use": where,
            }
            | dict(extra or {})
        )
        return
    width = max((len(str(path)) for path in paths), default=0)
    for path in paths:
        state = "wrote" if path in outcome.written else "kept "
        say(f"{state}  {str(path).ljust(width)}  {_what(path, outcome)}")
    if not outcome.is_changed:
        typer.echo("Nothing was changed: everything is there already.")
    for note in outcome.notes:
        say(f"note: {note}")
    if outcome.is_changed:
        for title, lines in where.items():
            typer.echo()
            say(f"{title}:")
            for line in lines:
                say(f"    {line}")


def show_findings(findings: Sequence[Finding], *, what: str, as_json: bool) -> int:
    """Tell how each rule went; return the exit code: 0, or 1 when one failed."""
    wrong = failed(findings)
    if as_json:
        write_json({"what": what, "ok": not wrong, "findings": [finding.as_dict() for finding in findings]})
    else:
        width = max(len(finding.rule) for finding in findings)
        for finding in findings:
            say(f"{finding.verdict.value}  {finding.rule.ljust(width)}  {finding.text}  [{finding.source}]")
        warned = sum(finding.verdict is Verdict.WARN for finding in findings)
        say(f"{what}: {len(findings)} rules, {len(wrong)} failed, {warned} to know about")
    return 1 if wrong else 0


def show_facts(found: Mapping[str, object]) -> None:
    """Tell what a certificate says, a fact a line."""
    width = max(len(name) for name in found)
    for name, value in found.items():
        text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        if isinstance(value, bool):
            text = "yes" if value else "no"
        say(f"{name.replace('_', ' ').ljust(width)}  {text}")


def _what(path: Path, outcome: Outcome) -> str:
    stem = path.name.removesuffix(".bundle.pem") if path.name.endswith(".bundle.pem") else path.stem
    return advice.what(path, outcome.certificates.get(stem))
