"""The application: its commands, what an error becomes, and the exit codes."""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from switchgear_certs.cli import hand, look, make
from switchgear_certs.cli.show import printable
from switchgear_certs.errors import CertsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OK, NO, USAGE, INTERRUPTED = 0, 1, 2, 130

HELP: Final = "Certificates for MQTT brokers and AWS IoT custom domains, right the first time."

EPILOG: Final = (
    "Exit codes: 0 it worked (needs-renewal: yes), 1 a check failed (needs-renewal: no), 2 wrong usage or an error,"
    " 130 interrupted. Making the same again changes nothing; nothing is replaced without --force."
)


class Group(TyperGroup):
    """The group of all commands: an error of ours becomes one line and exit code 2, whoever runs the group."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        if isinstance(sys.stdout, io.TextIOWrapper):  # a path or a subject may hold what this terminal cannot show
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            with warnings.catch_warnings():  # of odd certificates, which our own checks report
                warnings.simplefilter("ignore", UserWarning)
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # nobody reads any more
            _silence()
            raise typer.Exit(OK) from None
        except (CertsError, OSError) as error:
            _complain(error)
            raise typer.Exit(USAGE) from None


def _complain(error: BaseException) -> None:
    line = printable(" ".join(str(error).split()))
    with suppress(OSError, ValueError):
        sys.stderr.write(f"switchgear-certs: {line}\n")
        sys.stderr.flush()


def _silence() -> None:
    """Let nothing more be written to a pipe that nobody reads; without it Python complains when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"switchgear-certs {version('switchgear-certs')}")
        raise typer.Exit


def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=lambda value: _show_version(wanted=value),
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Certificates for MQTT brokers and AWS IoT custom domains, right the first time."""


def build() -> typer.Typer:
    """A new application with every command."""
    app = typer.Typer(
        name="switchgear-certs",
        cls=Group,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(help=HELP, epilog=EPILOG)(_root)
    commands: dict[str, Callable[..., None]] = {
        "init": make.init,
        "server": make.server,
        "client": make.client,
        "sign": make.sign,
        "renew": make.renew,
        "needs-renewal": look.needs,
        "inspect": look.inspect,
        "verify": look.verify,
        "bundle": hand.bundle,
        "p12": hand.p12,
        "acm": hand.acm,
        "demo": make.demo,
    }
    for name, command in commands.items():
        app.command(name)(command)
    check = typer.Typer(help="Check a certificate against somebody's rules.", no_args_is_help=True)
    check.callback()(_nothing)
    check.command("aws-iot")(look.check_aws)
    app.add_typer(check, name="check")
    return app


def _nothing() -> None:
    """Check a certificate against somebody's rules."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (None: this process's) and return its exit code."""
    try:
        build()(args=None if argv is None else list(argv), prog_name="switchgear-certs")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else OK if end.code is None else NO
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK
