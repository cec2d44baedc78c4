"""The commands that make certificates: ``init``, ``server``, ``client``, ``sign``, ``renew``, ``demo``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path  # noqa: TC003 - Typer needs it when it reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from switchgear_certs import ensure, handover
from switchgear_certs.cli.options import (
    DEFAULT_OUT,
    Ask,
    AskEnv,
    AskFile,
    BeyondAws,
    Days,
    Force,
    Json,
    LeafRsa,
    Out,
    Passphrase,
    Rsa,
    UsageError,
    leaf_key,
)
from switchgear_certs.cli.show import show_outcome
from switchgear_certs.files import Files
from switchgear_certs.keys import KeyType
from switchgear_certs.lifetimes import moment, needs_renewal
from switchgear_certs.wishes import AuthorityWish, LeafWish, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

Intermediate = Annotated[bool, typer.Option("--intermediate", help="Add an issuing CA (path length 0) below the root.")]
Permit = Annotated[
    list[str] | None,
    typer.Option(
        "--permit",
        help="A domain or IP network that the issuing CA may name; repeat it. Needs --intermediate.",
        metavar="DOMAIN|NETWORK",
        show_default=False,
    ),
]


class Purpose(Enum):
    """What a signed request is for."""

    SERVER = "server"
    CLIENT = "client"


def init(
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="The authority's common name.", metavar="NAME", show_default=False)
    ] = None,
    intermediate: Intermediate = False,
    permit: Permit = None,
    rsa: Rsa = False,
    days: Days = None,
    passphrase: Ask = False,
    passphrase_env: AskEnv = None,
    passphrase_file: AskFile = None,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make the authority: a root, and with --intermediate an issuing CA below it."""
    source = Passphrase(ask=passphrase, env=passphrase_env, file=passphrase_file)
    wish = _authority_wish(
        name, rsa=rsa, days=days, intermediate=intermediate, permit=permit, source=source, out=out, force=force
    )
    outcome = ensure.ensure_authority(Files(out), wish, force=force)
    show_outcome(outcome, out, as_json=json)


def server(
    names: Annotated[
        list[str], typer.Argument(help="DNS names, also wildcards and IDN, or IP addresses.", metavar="NAME")
    ],
    *,
    san: Annotated[
        list[str] | None,
        typer.Option("--san", help="One more name in each certificate; repeat it.", metavar="NAME", show_default=False),
    ] = None,
    days: Days = None,
    rsa: LeafRsa = None,
    beyond_aws: BeyondAws = False,
    passphrase: Ask = False,
    passphrase_env: AskEnv = None,
    passphrase_file: AskFile = None,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make a certificate and a key for each NAME."""
    source = Passphrase(ask=passphrase, env=passphrase_env, file=passphrase_file)
    wishes = [
        LeafWish(names=(name, *(san or ())), key_type=leaf_key(rsa), days=days, aws_limits=not beyond_aws)
        for name in names
    ]
    outcome = ensure.ensure_leaves(Files(out), wishes, passphrase=_key(source), force=force)
    show_outcome(outcome, out, as_json=json)


def client(
    names: Annotated[list[str], typer.Argument(help="Common names, such as client ids.", metavar="NAME")],
    *,
    days: Days = None,
    rsa: LeafRsa = None,
    passphrase: Ask = False,
    passphrase_env: AskEnv = None,
    passphrase_file: AskFile = None,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make a client certificate (clientAuth only) and a key for each NAME."""
    source = Passphrase(ask=passphrase, env=passphrase_env, file=passphrase_file)
    wishes = [LeafWish(client=name, key_type=leaf_key(rsa), days=days) for name in names]
    outcome = ensure.ensure_leaves(Files(out), wishes, passphrase=_key(source), force=force)
    show_outcome(outcome, out, as_json=json)


def sign(
    request: Annotated[Path, typer.Argument(help="A certificate signing request, PEM or DER.", metavar="CSR")],
    *,
    purpose: Annotated[Purpose, typer.Option("--purpose", help="What it is for.")] = Purpose.SERVER,
    days: Days = None,
    beyond_aws: BeyondAws = False,
    passphrase: Ask = False,
    passphrase_env: AskEnv = None,
    passphrase_file: AskFile = None,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Certify the names and the key of a CSR."""
    source = Passphrase(ask=passphrase, env=passphrase_env, file=passphrase_file)
    outcome = ensure.ensure_signed(
        Files(out),
        request,
        purpose=purpose.value,
        days=days,
        aws_limits=not beyond_aws,
        passphrase=_key(source),
        force=force,
    )
    show_outcome(outcome, out, as_json=json)


def renew(
    what: Annotated[list[str], typer.Argument(help="Certificate files, or names in --out.", metavar="FILE|NAME")],
    *,
    keep_key: Annotated[bool, typer.Option("--keep-key", help="Certify the same key again; else a new one.")] = False,
    if_needed: Annotated[bool, typer.Option("--if-needed", help="Only those that `needs-renewal` names.")] = False,
    days: Days = None,
    passphrase: Ask = False,
    passphrase_env: AskEnv = None,
    passphrase_file: AskFile = None,
    out: Out = DEFAULT_OUT,
    json: Json = False,
) -> None:
    """Replace certificates by new ones: same names, purpose and algorithm, as a re-import into ACM demands."""
    source = Passphrase(ask=passphrase, env=passphrase_env, file=passphrase_file)
    files, total = Files(out), Outcome()
    due: list[Path] = []
    once: dict[Path, Path] = {}
    for path in map(files.locate, what):
        once.setdefault(path.parent.resolve() / path.name, path)
    for path in once.values():
        found = files.certificate(path, with_key=False)
        if if_needed and not needs_renewal(found.leaf, moment(None)):
            total.certificates[path.stem] = found
            total.files.append(path)
        else:
            due.append(path)
    if due:
        ensure.renew_all(files, due, total, keep_key=keep_key, days=days, passphrase=_key(source))
    show_outcome(total, out, as_json=json)


def demo(
    names: Annotated[
        list[str] | None, typer.Argument(help="The servers' names.", metavar="NAME", show_default=False)
    ] = None,
    *,
    san: Annotated[
        list[str] | None,
        typer.Option(
            "--san", help="One more name in each server certificate; repeat it.", metavar="NAME", show_default=False
        ),
    ] = None,
    intermediate: Intermediate = False,
    permit: Permit = None,
    rsa: Rsa = False,
    days: Days = None,
    passphrase: Ask = False,
    passphrase_env: AskEnv = None,
    passphrase_file: AskFile = None,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make everything for two domains (mqtt1.example.com, mqtt2.example.com): CA, pairs, a client, stores, ACM's files.

    --days holds for the servers and the client.
    """
    source = Passphrase(ask=passphrase, env=passphrase_env, file=passphrase_file)
    outcome = handover.demo(
        Files(out),
        names or handover.DEMO_NAMES,
        authority=_authority_wish(
            None, rsa=rsa, days=None, intermediate=intermediate, permit=permit, source=source, out=out, force=force
        ),
        san=san or (),
        days=days,
        passphrase=_key(source),
        force=force,
    )
    show_outcome(outcome, out, as_json=json)


def _authority_wish(
    name: str | None,
    *,
    rsa: bool,
    days: int | None,
    intermediate: bool,
    permit: list[str] | None,
    source: Passphrase,
    out: Path,
    force: bool,
) -> AuthorityWish:
    if permit and not intermediate:
        raise UsageError("--permit needs --intermediate: many verifiers ignore name constraints on a root")
    is_new = force or not Files(out).ca_file.exists()
    get = source.new if is_new else source.existing
    return AuthorityWish(
        name=name,
        key_type=KeyType.RSA2048 if rsa else KeyType.P256,
        days=days,
        intermediate=intermediate,
        permitted=tuple(permit or ()),
        passphrase=get if source.is_given else None,
    )


def _key(source: Passphrase) -> Callable[[str], str]:
    return source.existing
