"""The options that every connecting command takes, and the `Profile` that they make."""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path  # noqa: TC003 - Typer needs it when it reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer
from attrs import evolve, frozen

from switchgear.backoff import GiveUpAfter, fleet
from switchgear.checks import fit_password
from switchgear.endpoint import scheme_of
from switchgear.errors import InvalidOption, redact
from switchgear.profile import Profile
from switchgear.secrets import Secret, env, file
from switchgear.tls import TLS

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

PANEL = "Connection"
USERNAME_VARIABLE = "SWITCHGEAR_USERNAME"
PASSWORD_VARIABLE = "SWITCHGEAR_PASSWORD"  # noqa: S105 - the name of a variable, no password


def _option(*names: str, help: str, metavar: str | None = None) -> Any:  # noqa: A002 - Typer's own word
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=PANEL, show_default=False)


def _signature(
    *,
    endpoint: Annotated[
        list[str] | None,
        _option("--endpoint", "-e", help="Connect to this URI instead of WHERE; repeat it for a list.", metavar="URI"),
    ] = None,
    profile: Annotated[
        Path | None,
        _option("--profile", help="Read the options from this TOML file; it replaces WHERE.", metavar="FILE"),
    ] = None,
    profile_name: Annotated[
        str | None, _option("--profile-name", help="Use the table profile.NAME of that file.", metavar="NAME")
    ] = None,
    client_id: Annotated[
        str | None, _option("--client-id", help="MQTT client id; with it the broker keeps the session.", metavar="ID")
    ] = None,
    username: Annotated[
        str | None, _option("--username", "-u", help=f"User name; default: ${USERNAME_VARIABLE}.", metavar="NAME")
    ] = None,
    password_env: Annotated[
        str | None,
        _option("--password-env", help=f"Variable with the password; default: ${PASSWORD_VARIABLE}.", metavar="NAME"),
    ] = None,
    password_file: Annotated[
        Path | None, _option("--password-file", help="File whose first line is the password.", metavar="FILE")
    ] = None,
    ca_file: Annotated[
        Path | None,
        _option("--ca-file", help="PEM file with the CAs to trust instead of the system's.", metavar="FILE"),
    ] = None,
    cert_file: Annotated[
        Path | None, _option("--cert-file", help="PEM file with our certificate, for mutual TLS.", metavar="FILE")
    ] = None,
    key_file: Annotated[
        Path | None, _option("--key-file", help="PEM file with the certificate's key.", metavar="FILE")
    ] = None,
    protocol: Annotated[
        str | None, _option("--protocol", "-V", help="MQTT version: 3.1.1 or 5.", metavar="VERSION")
    ] = None,
    session: Annotated[
        str | None, _option("--session", help="What the brokers share: shared, hunt or clean.", metavar="KIND")
    ] = None,
    keepalive: Annotated[
        int | None, _option("--keepalive", "-k", help="Seconds between signs of life; 0: none.", metavar="SECONDS")
    ] = None,
    outbox: Annotated[
        Path | None,
        _option("--outbox", help="File that keeps accepted messages until they are acknowledged.", metavar="FILE"),
    ] = None,
    fleet_size: Annotated[
        str | None,
        _option("--fleet", help="Back-off for N clients of a broker that takes R connects a second.", metavar="N@R"),
    ] = None,
    give_up_after: Annotated[
        float | None,
        _option("--give-up-after", help="Stop after so long without a connection; default: never.", metavar="SECONDS"),
    ] = None,
    driver: Annotated[str | None, _option("--driver", help="Driver; see `switchgear plugins`.", metavar="NAME")] = None,
    plugin: Annotated[
        list[str] | None, _option("--plugin", help="Run this plugin's hooks; may be repeated.", metavar="NAME")
    ] = None,
    events: Annotated[bool, _option("--events", help="Show every decision of the transport on stderr.")] = False,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Say nothing about the connection on stderr.")] = False,
) -> None:
    """The options themselves; never called."""


_PARAMETERS = tuple(inspect.signature(_signature, eval_str=True).parameters.values())


@frozen
class Connection:
    """What the user said about the connection, before WHERE is known."""

    given: dict[str, Any]

    @property
    def shows_events(self) -> bool:
        """Whether every decision is to be shown."""
        return bool(self.given["events"])

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to be said about the connection."""
        return bool(self.given["quiet"])

    def profile(self, arguments: list[str]) -> tuple[Profile, list[str]]:
        """The profile, and those of *arguments* that come after WHERE.

        WHERE is the first argument, unless ``--endpoint`` or ``--profile`` take its place.

        Raises:
            ConfigurationError: an option, the profile or a secret is wrong or missing.
        """
        given = self.given
        where: Any
        if given["endpoint"] or given["profile"]:
            if arguments and is_uri(arguments[0]):
                raise InvalidOption("WHERE", "--endpoint or --profile takes its place; repeat --endpoint for a list")
            if given["endpoint"] and given["profile"]:
                raise InvalidOption("endpoint", "give --endpoint or --profile, not both")
            where, rest = given["endpoint"], arguments
            if len(where or ()) == 1:
                where = where[0]
        elif arguments:
            where, rest = arguments[0], arguments[1:]
        else:
            raise InvalidOption("WHERE", "it is missing; give a URI, --endpoint or --profile")
        if given["profile_name"] and not given["profile"]:
            raise InvalidOption("profile-name", "it needs --profile FILE")
        base = Profile.load(given["profile"], name=given["profile_name"]) if given["profile"] else Profile(where)
        return Profile.of(base, **self._options(base)), rest

    def _options(self, base: Profile) -> dict[str, object]:
        """The options that were given, over those of *base*."""
        given = self.given
        names = ("client_id", "protocol", "session", "keepalive", "outbox", "driver")
        options: dict[str, object] = {name: given[name] for name in names if given[name] is not None}
        options["give_up_on_fatal"] = True
        username = given["username"] or (None if base.username else os.environ.get(USERNAME_VARIABLE))
        if username:
            options["username"] = username
        password = self._password(base)
        if password is not None:
            fit_password(
                password.reveal()
            )  # now, so that a missing variable or file is an error before anything starts
            options["password"] = password
        files = {name: given[name] for name in ("ca_file", "cert_file", "key_file") if given[name] is not None}
        if files:
            given_instead: dict[str, Any] = {name.replace("_file", "_pem"): None for name in files}
            options["tls"] = evolve(base.tls or TLS(), **files, **given_instead)
        tls = options.get("tls", base.tls)
        if isinstance(tls, TLS):
            tls.check()
        if given["fleet_size"] is not None:
            options["backoff"] = parse_fleet(given["fleet_size"])
        if given["give_up_after"] is not None:
            options["give_up_after"] = GiveUpAfter(seconds=given["give_up_after"])
        if given["plugin"]:
            options["plugins"] = (*base.plugins, *given["plugin"])
        return options

    def _password(self, base: Profile) -> Secret | None:
        name, path = self.given["password_env"], self.given["password_file"]
        if name is not None and path is not None:
            raise InvalidOption("password-env", "give --password-env or --password-file, not both")
        if name is not None:
            return env(name)
        if path is not None:
            return file(path)
        return env(PASSWORD_VARIABLE) if base.password is None and PASSWORD_VARIABLE in os.environ else None


def is_uri(text: str) -> bool:
    """Whether *text* is written like a place to connect to, and not like a topic."""
    return bool(scheme_of(text)) and text.partition(":")[2].startswith(("//", "("))


def parse_fleet(text: str) -> object:
    """The back-off policy for ``N@R``: N clients, R connects a second.

    Raises:
        InvalidOption: it is written otherwise, or a number is impossible.
    """
    clients, _, rate = text.partition("@")
    try:
        return fleet(clients=int(clients), connects_per_second=float(rate))
    except InvalidOption as error:
        raise InvalidOption("fleet", f"{error.name}: {error.why}") from None
    except (ValueError, OverflowError):
        raise InvalidOption(
            "fleet", f"{redact(text)!r} is not N@R, clients and connects a second, such as 400@50"
        ) from None


def connecting(command: Callable[Concatenate[Connection, P], int]) -> Callable[..., None]:
    """*command*, taking every connection option too; what it returns is the exit code."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    names = {parameter.name for parameter in _PARAMETERS}

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> None:
        connection = Connection({name: given.pop(name) for name in names})
        raise typer.Exit(command(connection, *args, **given))

    parameters = [*own, *_PARAMETERS]
    del run.__wrapped__  # Typer would look through it, at the old signature
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # how Python says it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
