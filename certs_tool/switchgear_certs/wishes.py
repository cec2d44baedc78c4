"""What is to be there, and what came of it: the values that `ensure` and `handover` take and return. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from switchgear_certs.files import Files
from switchgear_certs.keys import KeyType
from switchgear_certs.names import client_name, server_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from switchgear_certs.certificate import Certificate


@frozen(kw_only=True)
class AuthorityWish:
    """What `ensure_authority` is to find or make. None of *name* and *days* takes what is there, or the default."""

    name: str | None = None
    key_type: KeyType = KeyType.P256
    days: int | None = None
    intermediate: bool = False
    permitted: tuple[str, ...] = ()
    passphrase: Callable[[str], str] | None = None
    """Asked with the key's path; called only where the keys are to be encrypted."""


@frozen(kw_only=True)
class LeafWish:
    """What `ensure_leaves` is to find or make: *names* for a server, the first also the file's; *client* for a client."""

    names: tuple[str, ...] = ()
    client: str | None = None
    key_type: KeyType | None = None
    days: int | None = None
    aws_limits: bool = True

    def checked(self) -> LeafWish:
        """The same with canonical names. Raises `InvalidName`."""
        if self.client is not None:
            return LeafWish(client=client_name(self.client), key_type=self.key_type, days=self.days)
        names = server_names(self.names, aws_limits=self.aws_limits)
        return LeafWish(
            names=tuple(name.text for name in names),
            key_type=self.key_type,
            days=self.days,
            aws_limits=self.aws_limits,
        )

    @property
    def stem(self) -> str:
        """The file name without the ending."""
        return self.client if self.client is not None else Files.stem(self.names[0])

    @property
    def purpose(self) -> str:
        """``server`` or ``client``."""
        return "server" if self.client is None else "client"


@define
class Outcome:
    """What is there in the end: the files, which of them this call wrote, and what people should know."""

    files: list[Path] = field(factory=list)
    written: set[Path] = field(factory=set)
    certificates: dict[str, Certificate] = field(factory=dict)
    """By file name without the ending."""
    notes: list[str] = field(factory=list)

    @property
    def is_changed(self) -> bool:
        """Whether this call wrote anything."""
        return bool(self.written)
