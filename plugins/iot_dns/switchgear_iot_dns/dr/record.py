"""DNS records as values, and how a change of them is asked for. Pure; `Records` is the port to where they live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from switchgear_iot_dns.dr.settings import host_name

if TYPE_CHECKING:
    from collections.abc import Sequence


@frozen(kw_only=True)
class Record:
    """One record set. ``ttl`` is in seconds, None for an alias; ``identifier`` is that of a weighted or other policy.

    Names in ``values`` are as names are compared; ``written`` are the values as they stand, for a DELETE has to have them
    to the letter.
    """

    name: str
    type: str
    ttl: int | None
    values: tuple[str, ...]
    written: tuple[str, ...] | None = field(default=None, eq=False)
    identifier: str | None = None
    is_alias: bool = False

    @property
    def target(self) -> str:
        """Where a CNAME leads, as names are compared."""
        return self.values[0] if self.values else ""

    @property
    def is_simple(self) -> bool:
        """Whether it is neither an alias nor part of a routing policy."""
        return self.identifier is None and not self.is_alias

    def __str__(self) -> str:
        kind = "ALIAS" if self.is_alias else self.type
        policy = f" [{self.identifier}]" if self.identifier is not None else ""
        ttl = "" if self.ttl is None else f" {self.ttl}"
        return f"{self.name}{ttl} {kind}{policy} {' '.join(self.values)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        written = None if self.written is None else list(self.written)
        return {
            "name": self.name,
            "type": self.type,
            "ttl": self.ttl,
            "values": list(self.values),
            "written": written,
        }

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Record:
        """What `as_dict` gave."""
        return cls(
            name=facts["name"],
            type=facts["type"],
            ttl=facts["ttl"],
            values=tuple(facts["values"]),
            written=None if facts["written"] is None else tuple(facts["written"]),
        )


def cname(name: str, target: str, ttl: int) -> Record:
    """The record that makes *name* lead to *target*."""
    return Record(name=host_name(name), type="CNAME", ttl=ttl, values=(host_name(target),))


@frozen(kw_only=True)
class Swap:
    """A compare-and-swap of one record: ``before`` must be there exactly so (None: nothing may be there)."""

    before: Record | None
    after: Record | None


@frozen(kw_only=True)
class ZoneFacts:
    """What is known of a hosted zone; None is unknown: this boto3, or this account, cannot tell.

    ``accelerated_recovery`` is Route 53's word for it, such as ENABLED; ``protected`` are names that it guards.
    """

    name: str
    is_private: bool
    name_servers: tuple[str, ...]
    accelerated_recovery: str | None
    protected: frozenset[str] | None


class Records(Protocol):
    """Where records are read and changed: Route 53's record sets today. Every call may block, and is bounded."""

    def zone(self) -> ZoneFacts:
        """The zone.

        Raises:
            RegionSwitchError: it is not there, not ours, or AWS did not answer.
        """

    def read(self, name: str) -> tuple[Record, ...]:
        """All record sets at *name*, of every type."""

    def swap(self, swaps: Sequence[Swap], comment: str) -> str:
        """Carry out all of *swaps* or none; the id of the change.

        Raises:
            AwsTrouble: it was refused; with the code InvalidChangeBatch a record was not what ``before`` says.
        """

    def is_insync(self, change: str) -> bool:
        """Whether every name server has that change."""
