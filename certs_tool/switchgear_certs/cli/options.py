"""Options that several commands take, and where passphrases come from. Reads the environment, files and the terminal."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from attrs import frozen

from switchgear_certs.errors import CertsError, WrongPassphrase
from switchgear_certs.keys import KeyType
from switchgear_certs.store import read

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder for everything.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON object for a program to read.")]
Days = Annotated[int | None, typer.Option("--days", help="Lifetime in days.", metavar="N", show_default=False)]
Rsa = Annotated[bool, typer.Option("--rsa", help="RSA-2048 instead of P-256.")]
LeafRsa = Annotated[
    bool | None,
    typer.Option("--rsa/--p256", help="The kind of key; left out: that of the authority.", show_default=False),
]
BeyondAws = Annotated[
    bool, typer.Option("--beyond-aws", help="Lift the limits of AWS IoT: four names; P-256 or RSA-2048.")
]
Ask = Annotated[bool, typer.Option("--passphrase", help="Ask for the passphrase of the CA key on the terminal.")]
AskEnv = Annotated[
    str | None, typer.Option("--passphrase-env", help="The variable with it.", metavar="NAME", show_default=False)
]
AskFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="The file whose first line it is.", metavar="FILE", show_default=False),
]
File = Annotated[str, typer.Argument(help="A certificate file, or a name in --out.", metavar="FILE|NAME")]

DEFAULT_OUT = Path("certs")


class UsageError(CertsError):
    """Options that do not go together, or that this machine cannot serve."""


@frozen(kw_only=True)
class Passphrase:
    """Where a passphrase comes from: at most one of terminal, variable and file."""

    ask: bool = False
    env: str | None = None
    file: Path | None = None
    option: str = "--passphrase"

    def __attrs_post_init__(self) -> None:
        """Refuse two sources."""
        if self.ask + (self.env is not None) + (self.file is not None) > 1:
            raise UsageError(f"only one of {self.option}, {self.option}-env and {self.option}-file")

    @property
    def is_given(self) -> bool:
        """Whether a source was named."""
        return self.ask or self.env is not None or self.file is not None

    def existing(self, what: str) -> str:
        """The passphrase that opens *what*; asked on the terminal where no source was named and there is one.

        Raises:
            WrongPassphrase: there is none.
        """
        if not self.is_given and not sys.stdin.isatty():
            raise WrongPassphrase(
                f"{what} is encrypted; give its passphrase with {self.option}-env or {self.option}-file"
            )
        return self._get(f"Passphrase of {what}: ")

    def new(self, what: str) -> str:
        """A passphrase for *what*; on the terminal it is asked for twice.

        Raises:
            WrongPassphrase: there is none, or the second was another one.
        """
        passphrase = self._get(f"New passphrase for {what}: ")
        if self.ask and self._get("The same again: ") != passphrase:
            raise WrongPassphrase("the two passphrases differ")
        return passphrase

    def _get(self, prompt: str) -> str:
        if self.env is not None:
            found, where = os.environ.get(self.env, ""), f"the variable {self.env}"
        elif self.file is not None:
            text = read(self.file).decode("utf-8", "surrogateescape")
            found, where = text.partition("\n")[0].removesuffix("\r"), str(self.file)
        elif not sys.stdin.isatty():
            raise WrongPassphrase(
                f"{self.option} asks on a terminal, and there is none; use {self.option}-env or -file"
            )
        else:
            try:
                found, where = getpass.getpass(prompt), "what was typed"
            except EOFError as error:
                raise WrongPassphrase("the terminal was closed before a passphrase was typed") from error
        if not found:
            raise WrongPassphrase(f"{where} is empty; that is no passphrase")
        try:
            found.encode()
        except UnicodeEncodeError as error:
            raise WrongPassphrase(f"{where} is not in UTF-8") from error
        return found


def leaf_key(rsa: bool | None) -> KeyType | None:  # noqa: FBT001 - Typer's own value
    """The `KeyType` that ``--rsa/--p256`` asks for."""
    return None if rsa is None else KeyType.RSA2048 if rsa else KeyType.P256
