"""A plan file (TOML) as `Settings`. Reads that one file."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
from switchgear import checks
from switchgear.errors import InvalidOption

from switchgear_iot_dns.dr.errors import InvalidPlanFile
from switchgear_iot_dns.dr.settings import (
    Clients,
    Domain,
    Handshake,
    Pace,
    Region,
    Settings,
    Waits,
    Zone,
    host_name,
    is_host_name,
    is_region,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

KEYS: Final = ("zone", "domains", "modes", "regions", "pace", "waits", "handshake", "journal")
"""The keys of the file itself."""

LARGEST: Final = 2**26
"""Bytes of a plan file at most: half a million of the longest client ids."""

JOURNAL: Final = "dr-journal"
"""The folder of the journals where the file names none."""


def load(path: Path) -> Settings:
    """The plan file *path*.

    Raises:
        InvalidPlanFile: it cannot be read, or a key or value of it is wrong; the error names the key.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise InvalidPlanFile(str(path), "", f"it has more than {LARGEST >> 20} MiB; that is no plan file")
        data = tomllib.loads(raw.decode("utf-8-sig"))  # editors of Windows begin with a mark
    except OSError as error:
        raise InvalidPlanFile(str(path), "", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise InvalidPlanFile(str(path), "", "it is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # besides TOMLDecodeError: numbers and nesting that Python bounds
        raise InvalidPlanFile(str(path), "", f"it is no TOML: {error}") from error
    return _Reader(path).settings(data, hashlib.sha256(raw).hexdigest())


class _Reader:
    """Reads one file, and names its keys in errors."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def error(self, key: str, why: str) -> InvalidPlanFile:
        return InvalidPlanFile(str(self._path), key, why)

    def settings(self, data: dict[str, Any], digest: str) -> Settings:
        self._known("", data, KEYS)
        zone = self._make(Zone, "zone", data.get("zone"))
        domains = self._domains(data.get("domains"))
        regions = {
            self._region(f"regions.{name}", name): self._make(Region, f"regions.{name}", each)
            for name, each in self._table("regions", data.get("regions", {})).items()
        }
        journal = data.get("journal", JOURNAL)
        if not isinstance(journal, str) or not journal or "\0" in journal:
            raise self.error("journal", f"{checks.show(journal)} is no path")
        handshake = self._make(Handshake, "handshake", data.get("handshake", {}))
        return Settings(
            path=str(self._path),
            digest=digest,
            zone=zone,
            domains=domains,
            modes=self._modes(data.get("modes"), domains),
            regions=regions,
            journal=self._beside(journal),
            pace=self._make(Pace, "pace", data.get("pace", {})),
            waits=self._make(Waits, "waits", data.get("waits", {})),
            handshake=attrs.evolve(
                handshake, ca_file=None if handshake.ca_file is None else self._beside(handshake.ca_file)
            ),
        )

    def _domains(self, value: object) -> dict[str, Domain]:
        domains: dict[str, Domain] = {}
        for name, each in self._table("domains", value).items():
            key = f"domains.{name}"
            if not is_host_name(name):
                raise self.error(key, 'it is no DNS name; quote it: [domains."mqtt1.example.com"]')
            table = dict(self._table(key, each))
            clients = self._make(Clients, f"{key}.clients", table.pop("clients", {}))
            if clients.file is not None:
                clients = attrs.evolve(clients, file=self._beside(clients.file))
            if host_name(name) in domains:
                raise self.error(key, "it is there twice; upper case and a dot at the end make no other name")
            domain = self._make(Domain, key, table, clients=clients)
            if (region := domain.region_of(name)) is not None:
                raise self.error(f"{key}.targets.{region}", "it is the domain itself; a CNAME leads to another name")
            domains[host_name(name)] = domain
        if not domains:
            raise self.error("domains", "it is empty; name at least one domain")
        return domains

    def _modes(self, value: object, domains: dict[str, Domain]) -> dict[str, dict[str, str]]:
        modes: dict[str, dict[str, str]] = {}
        for name, each in self._table("modes", value).items():
            mode: dict[str, str] = {}
            for domain, region in self._table(f"modes.{name}", each).items():
                key = f"modes.{name}.{domain}"
                known = domains.get(host_name(domain))
                if known is None:
                    raise self.error(key, f"there is no such domain; the file has {_listed(domains)}")
                if not isinstance(region, str) or region not in known.targets:
                    raise self.error(
                        key, f"{checks.show(region)} is no region of its targets; they are {_listed(known.targets)}"
                    )
                mode[host_name(domain)] = region
            if missing := [domain for domain in domains if domain not in mode]:
                raise self.error(f"modes.{name}", f"it does not say where {_listed(missing)} goes")
            modes[name] = mode
        if not modes:
            raise self.error("modes", "it is empty; name at least one mode")
        return modes

    def _region(self, key: str, name: str) -> str:
        if not is_region(name):
            raise self.error(key, "it is no region such as us-east-1")
        return name

    def _make(self, cls: type[T], key: str, value: object, **more: object) -> T:
        table = self._table(key, value)
        names = [each.name for each in attrs.fields(cls) if each.name not in more]  # type: ignore[arg-type]  # attrs classes
        self._known(key, table, names)
        needed = [
            each.name
            for each in attrs.fields(cls)  # type: ignore[arg-type]  # as above
            if each.default is attrs.NOTHING and each.name not in table and each.name not in more
        ]
        if needed:
            raise self.error(f"{key}.{needed[0]}", "it is missing")
        given = {name: tuple(each) if isinstance(each, list) else each for name, each in table.items()}
        try:
            return cls(**given, **more)
        except InvalidOption as error:
            raise self.error(f"{key}.{error.name}", error.why) from None

    def _table(self, key: str, value: object) -> dict[str, Any]:
        if value is None:
            raise self.error(key, "the table is missing")
        if not isinstance(value, dict):
            raise self.error(key, f"{checks.show(value)} is no table")
        return value

    def _known(self, key: str, table: dict[str, Any], names: Iterable[str]) -> None:
        valid = tuple(names)
        for name in table:
            if name not in valid:
                whole = f"{key}.{name}" if key else name
                raise self.error(whole, f"there is no such key; valid keys: {', '.join(sorted(valid))}")

    def _beside(self, path: str) -> str:
        return str(Path(self._path).parent / path)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
