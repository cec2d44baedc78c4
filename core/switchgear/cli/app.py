"""The application: its commands, what an error becomes, and the exit codes."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

import switchgear
from switchgear.cli.visible import visible
from switchgear.errors import (
    ConfigurationError,
    ConnectionFailed,
    PluginError,
    SwitchgearError,
    redact,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OK, UNDELIVERED, USAGE, CONNECTION, INTERRUPTED = 0, 1, 2, 3, 130

EPILOG = """
Exit codes: 0 it worked, 1 something was not delivered or did not arrive, 2 wrong usage or configuration,
3 no connection and no hope of one, 130 interrupted with something left to do.

Colours and moving displays appear on a terminal only; NO_COLOR switches colours off.
"""


def exit_code(error: BaseException) -> int:
    """The exit code that *error* means."""
    if isinstance(error, ConfigurationError | PluginError):
        return USAGE
    return CONNECTION if isinstance(error, ConnectionFailed) else UNDELIVERED


def complain(text: object) -> None:
    """Write one line to standard error."""
    line = visible(" ".join(str(text).split()))
    with suppress(OSError, ValueError):
        sys.stderr.write(f"switchgear: {line}\n")
        sys.stderr.flush()


def silence_stdout() -> None:
    """Let nothing more be written to a pipe that nobody reads; without it Python complains when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


EXPECTED: Final = (SwitchgearError, OSError, KeyboardInterrupt)
"""What may happen to a command without being a bug of it: ours, the system's, and the user's."""


def end_with(error: BaseException) -> int:
    """Tell people of *error*, one of `EXPECTED`, and return the exit code that it means."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SwitchgearError):
        complain(error)
        return exit_code(error)
    silence_stdout()
    if isinstance(error, BrokenPipeError):
        return OK
    complain(getattr(error, "strerror", None) or error)  # a wait that ran out, a full disk, no free port
    return UNDELIVERED


UsageError: Final[Any] = typer.BadParameter.__base__
"""The base of what Typer says of wrong usage; which Click it is of depends on Typer's version."""


def _presentable(text: str) -> str:
    """What Typer says of a command line, fit to be seen: it repeats what stood there, be it a URI with a password."""
    return visible("".join(redact(part) for part in re.split(r"((?<!\S)[-('\"]+)", redact(text))), keeps="\n")


class Group(TyperGroup):
    """The group of all commands: an error of ours becomes one line and an exit code, whoever's command raised it."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read the command line up to the name of the command."""
        with _saying_no_more_than_it_may():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            with _saying_no_more_than_it_may():
                return super().invoke(ctx)
        except EXPECTED as error:
            raise typer.Exit(end_with(error)) from None


@contextmanager
def _saying_no_more_than_it_may() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        error.message = _presentable(error.message)
        raise


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"switchgear {switchgear.__version__}")
        raise typer.Exit


def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """A resilient MQTT transport: it keeps the connection alive, and the messages safe, while the broker moves."""


def paragraphs(text: str) -> str:
    """*text* with its lines joined within each paragraph; Typer breaks them anew."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def build() -> typer.Typer:
    """A new application with every command, those of plugins included."""
    from switchgear.cli import demo, doctor, outbox, plugins_command, pub, simulate, sub

    logging.getLogger("switchgear").addHandler(logging.NullHandler())  # people are told by `Notes` and `complain`
    app = typer.Typer(
        name="switchgear",
        cls=Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(epilog=paragraphs(EPILOG))(_root)
    for command, summary, epilog in (
        (demo.demo, "Kill brokers again and again: nothing is lost.", demo.EPILOG),
        (pub.pub, "Publish, and wait for acknowledgements.", pub.EPILOG),
        (sub.sub, "Subscribe, and write what arrives.", sub.EPILOG),
        (doctor.doctor, "Say what is wrong with a connection, and what to do.", doctor.EPILOG),
        (simulate.simulate, "Simulate a fleet's return: what to set.", simulate.EPILOG),
        (plugins_command.plugins, "Show plugins, drivers and URI schemes.", plugins_command.EPILOG),
    ):
        app.command(short_help=summary, epilog=paragraphs(epilog))(command)
    outbox.add(app, paragraphs(outbox.EPILOG))
    plugins_command.add_plugin_commands(app)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (None: this process's) and return its exit code."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the process was started without it
            setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
    if isinstance(sys.stdout, TextIOWrapper):  # what a terminal of another encoding cannot show is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        build()(args=None if argv is None else list(argv), prog_name="switchgear")
    except EXPECTED as error:  # before a command had begun
        return end_with(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else OK if end.code is None else UNDELIVERED
    return OK
