"""The commands that look and change nothing: ``inspect``, ``verify``, ``check aws-iot``, ``needs-renewal``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from switchgear_certs import chain, live
from switchgear_certs.aws_iot import Subject, check_aws_iot
from switchgear_certs.cli.options import DEFAULT_OUT, File, Json, Out, UsageError
from switchgear_certs.cli.show import say, show_facts, show_findings, write_json
from switchgear_certs.facts import facts
from switchgear_certs.files import CA, ISSUING, KEY_MARK, Files
from switchgear_certs.findings import Finding, Verdict, failed
from switchgear_certs.lifetimes import days_left, moment, needs_renewal
from switchgear_certs.names import server_name
from switchgear_certs.store import read, read_if_there
from switchgear_certs.verify import CHAIN_SOURCE
from switchgear_certs.verify import verify as verify_certificates

if TYPE_CHECKING:
    from cryptography import x509

Target = Annotated[
    str, typer.Argument(help="A certificate file, a name in --out, or a live endpoint.", metavar="FILE|NAME|HOST:PORT")
]
ServerName = Annotated[
    str | None,
    typer.Option("--name", help="The host name (SNI for a live endpoint).", metavar="NAME", show_default=False),
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds for each step with a live endpoint.", min=0.1, max=86400)
]


class Purpose(Enum):
    """What a certificate is to be used for."""

    SERVER = "server"
    CLIENT = "client"


def inspect(
    target: Target,
    *,
    name: ServerName = None,
    timeout: Timeout = 10.0,
    out: Out = DEFAULT_OUT,
    json: Json = False,
) -> None:
    """Show what a certificate says, its chain, the days left, and how it stands with AWS IoT."""
    certificates, known = _certificates(target, Files(out), name, timeout)
    now = moment(None)
    issuers = chain.issuers_of(certificates[0], [*certificates[1:], *known])
    found = facts(certificates[0], now=now)
    found["chain"] = [chain.title(each) for each in issuers]
    if not found["is_authority"]:
        subject = Subject(pem=chain.to_pem(certificates), certificates=tuple(certificates), beside=tuple(known))
        found["aws_iot"] = [finding.rule for finding in failed(check_aws_iot(subject, now=now))]
    if json:
        write_json(found | {"issuers": [facts(each, now=now) for each in issuers]})
        return
    if "aws_iot" in found:
        rules = found["aws_iot"]
        found["aws_iot"] = (
            f"fails {', '.join(rules)}; see `check aws-iot`" if isinstance(rules, list) and rules else "no rule fails"
        )
    show_facts(found)


def verify(
    target: Target,
    *,
    name: ServerName = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            help="The roots to trust; left out: ca.crt in --out, for a live endpoint else the system's.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    purpose: Annotated[Purpose, typer.Option("--purpose", help="What it is to be used for.")] = Purpose.SERVER,
    timeout: Timeout = 10.0,
    out: Out = DEFAULT_OUT,
    json: Json = False,
) -> None:
    """Verify dates, name, purpose and chain of a file, or of what a live endpoint shows.

    A live endpoint is also asked the way a client does it, by OpenSSL with the name as SNI.
    """
    files, now = Files(out), moment(None)
    where = _place(target, files)
    if ca is None and files.ca_file.is_file():
        ca = files.ca_file
    if where is None:
        if ca is None:
            raise UsageError(f"nothing to trust: there is no {files.ca_file}; name the roots with --ca")
        certificates, known = _certificates(target, files, name, timeout)
        trusted = chain.load_pem(read(ca), where=str(ca))
        findings = verify_certificates([*certificates, *known], trusted, name=name, purpose=purpose.value, now=now)
        raise typer.Exit(show_findings(findings, what=target, as_json=json))
    if purpose is not Purpose.SERVER:
        raise UsageError("a live endpoint is a server; --purpose client is for files")
    wanted = server_name(name or where.host).text
    reason = live.refusal(where, name=wanted, ca_file=ca, timeout=timeout)
    findings = []
    if ca is not None:
        shown = live.shown_by(where, name=wanted, timeout=timeout)
        trusted = chain.load_pem(read(ca), where=str(ca))
        findings = verify_certificates(shown, trusted, name=wanted, now=now)
    verdict = Verdict.PASS if reason is None else Verdict.FAIL
    findings.append(Finding("handshake", verdict, reason or f"OpenSSL trusts it as {wanted}", CHAIN_SOURCE))
    raise typer.Exit(show_findings(findings, what=f"{where} as {wanted}", as_json=json))


def check_aws(
    target: File,
    *,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain", help="The domain name of the domain configuration.", metavar="NAME", show_default=False
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", help="The private key; left out: the file beside it.", metavar="FILE", show_default=False
        ),
    ] = None,
    out: Out = DEFAULT_OUT,
    json: Json = False,
) -> None:
    """Check a certificate against each rule of AWS IoT custom domains and of imports into ACM."""
    files = Files(out)
    path = files.locate(target)
    pem = read(path)
    if key is not None:
        key_pem: bytes | None = read(key)
    else:
        key_pem = pem if KEY_MARK in pem else read_if_there(files.key_file(path))
    subject = Subject(
        pem=pem,
        certificates=tuple(chain.load_pem(pem, where=str(path))),
        beside=tuple(_beside(path, files)),
        key_pem=key_pem,
        domain=None if domain is None else server_name(domain).text,
    )
    raise typer.Exit(show_findings(check_aws_iot(subject, now=moment(None)), what=str(path), as_json=json))


def needs(
    targets: Annotated[
        list[str], typer.Argument(help="Files, names in --out, or live endpoints.", metavar="FILE|NAME|HOST:PORT")
    ],
    *,
    within: Annotated[
        float | None,
        typer.Option(
            "--within",
            help="Days left below which it is time; left out: a third of the life.",
            metavar="DAYS",
            min=0,
            show_default=False,
        ),
    ] = None,
    name: ServerName = None,
    timeout: Timeout = 10.0,
    out: Out = DEFAULT_OUT,
    json: Json = False,
) -> None:
    """Tell by the exit code whether one of them needs renewal: 0 yes, 1 no."""
    now, rows = moment(None), []
    for target in targets:
        certificates, _ = _certificates(target, Files(out), name, timeout)
        leaf = certificates[0]
        is_due = needs_renewal(leaf, now, within_days=within)
        rows.append({"what": target, "days_left": round(days_left(leaf, now), 2), "needs_renewal": is_due})
    any_due = any(row["needs_renewal"] for row in rows)
    if json:
        write_json({"needs_renewal": any_due, "certificates": rows})
    else:
        for row in rows:
            say(f"{row['what']}: {row['days_left']} days left, {'renew it' if row['needs_renewal'] else 'no need yet'}")
    raise typer.Exit(0 if any_due else 1)


def _certificates(
    target: str, files: Files, name: str | None, timeout: float
) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """What *target* holds or shows, the leaf first; and the authority's certificates beside it."""
    where = _place(target, files)
    if where is not None:
        return live.shown_by(where, name=name, timeout=timeout), _beside(None, files)
    path = files.locate(target)
    return chain.load_pem(read(path), where=str(path)), _beside(path, files)


def _place(target: str, files: Files) -> live.Place | None:
    """The live endpoint that *target* is, unless it is a file or a name that is there."""
    try:
        if Path(target).is_file() or files.pair(target)[0].is_file():
            return None
    except (OSError, ValueError):
        return None
    return live.place(target)


def _beside(path: Path | None, files: Files) -> list[x509.Certificate]:
    folders = dict.fromkeys(([] if path is None else [path.parent]) + [files.folder])
    found: list[x509.Certificate] = []
    for folder in folders:
        for stem in (ISSUING, CA):
            each = folder / f"{stem}.crt"
            if each != path and each.is_file():
                found += chain.load_pem(read(each), where=str(each))
    return found
