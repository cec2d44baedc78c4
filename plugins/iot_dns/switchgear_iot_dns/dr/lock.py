"""The lock between two operators: a TXT record that Route 53 creates for one of them only. Opens connections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from switchgear_iot_dns.dr.errors import AwsTrouble, Locked
from switchgear_iot_dns.dr.record import Record, Swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear_iot_dns.dr.record import Records

LABEL: Final = "_switchgear-dr"
TTL: Final = 60


class Lock:
    """The record ``_switchgear-dr.ZONE``; its text says which run of whom has held it since when.

    CREATE is refused where the record exists (API reference, ChangeResourceRecordSets), so of two operators one gets
    it. Nothing ends a lock but its holder and ``--force-unlock``: a run that seems dead may only be slow.
    """

    def __init__(self, records: Records, zone: str) -> None:
        self._records = records
        self.name = f"{LABEL}.{zone}"

    def holder(self) -> str | None:
        """Who holds it, as the record says; None when nobody does."""
        found = self._record()
        return None if found is None else " ".join(value.strip('"') for value in found.values)

    def take(self, run: str, operator: str, *, force: bool, now: Callable[[], float] = time.time) -> None:
        """Get the lock for *run*; a run that has it already keeps it. With *force* it is taken from anybody.

        Raises:
            Locked: another run has it.
            AwsTrouble: it can neither be had nor seen.
        """
        held = self._record()
        if held is not None and self._is_of(held, run):
            return
        if held is not None and not force:
            raise Locked(self.name, self.holder() or "unknown")
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now()))
        text = f"run {run} of {operator} since {since}".replace('"', "").replace("\\", "")
        text = text.encode("ascii", "replace").decode()  # a TXT record takes no more without escapes
        record = Record(name=self.name, type="TXT", ttl=TTL, values=(f'"{text[:250]}"',))
        try:
            self._records.swap([Swap(before=held, after=record)], f"switchgear dr lock, {run}")
        except AwsTrouble as error:
            if error.code != "InvalidChangeBatch":
                raise
            found = self._record()
            if found is None or not self._is_of(found, run):  # ours: a request that was answered and repeated
                raise Locked(self.name, self.holder() or "it came and went; try again") from error

    def release(self, run: str) -> bool:
        """Give the lock back when *run* has it; whether it had."""
        held = self._record()
        if held is None or not self._is_of(held, run):
            return False
        self._records.swap([Swap(before=held, after=None)], f"switchgear dr unlock, {run}")
        return True

    def _record(self) -> Record | None:
        return next((each for each in self._records.read(self.name) if each.type == "TXT"), None)

    @staticmethod
    def _is_of(record: Record, run: str) -> bool:
        return any(f"run {run} of " in value for value in record.values)
