"""The commands that make files for others: ``bundle``, ``p12``, ``acm``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer needs it when it reads the annotations
from typing import Annotated

import typer

from switchgear_certs import acm as acm_module
from switchgear_certs import handover
from switchgear_certs.cli.advice import acm_command
from switchgear_certs.cli.options import DEFAULT_OUT, File, Force, Json, Out, Passphrase, UsageError
from switchgear_certs.cli.show import show_outcome
from switchgear_certs.files import Files
from switchgear_certs.lifetimes import moment


def bundle(
    target: File,
    *,
    with_key: Annotated[bool, typer.Option("--with-key", help="Put the key in too; the file is then secret.")] = False,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make NAME.bundle.pem: the certificate, its issuers, the root last."""
    outcome = handover.bundle(Files(out), target, with_key=with_key, force=force)
    show_outcome(outcome, out, as_json=json, with_advice=False)


def p12(
    target: File,
    *,
    trust_store: Annotated[
        bool, typer.Option("--trust-store", help="Make ca.p12 too, for Java programs to trust.")
    ] = False,
    password: Annotated[bool, typer.Option("--password", help="Ask for the password on the terminal.")] = False,
    password_env: Annotated[
        str | None, typer.Option("--password-env", help="The variable with it.", metavar="NAME", show_default=False)
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="The file whose first line it is.", metavar="FILE", show_default=False),
    ] = None,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make NAME.p12, a PKCS #12 key store for ActiveMQ; without a password the one in keystore.password."""
    source = Passphrase(ask=password, env=password_env, file=password_file, option="--password")
    files = Files(out)
    stem = files.locate(target).stem
    get = source.new if not (out / f"{stem}.p12").exists() else source.existing
    outcome = handover.p12(
        files,
        target,
        password=get(f"{stem}.p12") if source.is_given else None,
        with_trust_store=trust_store,
        force=force,
    )
    show_outcome(outcome, out, as_json=json)


def acm(
    target: File,
    *,
    import_: Annotated[bool, typer.Option("--import", help="Import them with boto3, and print the ARN.")] = False,
    arn: Annotated[
        str | None,
        typer.Option(
            "--arn",
            help="Import again into this one, which AWS IoT then takes over.",
            metavar="ARN",
            show_default=False,
        ),
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="The AWS region.", metavar="NAME", show_default=False)
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="The AWS profile.", metavar="NAME", show_default=False)
    ] = None,
    out: Out = DEFAULT_OUT,
    force: Force = False,
    json: Json = False,
) -> None:
    """Make the three files that ACM wants in NAME.acm, after every rule of AWS IoT was checked."""
    if not import_ and (arn, region, profile) != (None, None, None):
        raise UsageError("--arn, --region and --profile go with --import")
    files = Files(out)
    outcome = handover.acm_files(files, target, force=force)
    if not import_:
        stem, certificate = next(iter(outcome.certificates.items()))
        outcome.notes.append(f"import them: {acm_command((out / f'{stem}.acm').absolute())}")
        show_outcome(outcome, out, as_json=json, with_advice=False)
        return
    certificate = next(iter(outcome.certificates.values()))
    contents = acm_module.acm_set(certificate, now=moment(None))
    made = acm_module.import_certificate(contents, certificate, region=region, profile=profile, arn=arn)
    if json:
        show_outcome(outcome, out, as_json=True, with_advice=False, extra={"arn": made})
    else:
        typer.echo(made)
