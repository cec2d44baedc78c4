"""From a TOML file to a `Profile`. Reads that one file and nothing else; secrets are read when they are needed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, fields

from switchgear import checks
from switchgear.backoff import GiveUpAfter, exponential, fleet
from switchgear.errors import InvalidOption, InvalidProfile, InvalidTopic, UnreadableFile
from switchgear.failback import Failback
from switchgear.message import Will
from switchgear.profile import OutboxLimits, Profile
from switchgear.secrets import Secret, env, file
from switchgear.tls import TLS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

Table = dict[str, Any]

_FUNCTIONS: Final = {"dead_letter", "on_event"}  # no text can hold them
_FOLDED: Final = {"outbox_limits", "disable_plugins", "plugin_options"}  # parts of the tables outbox and plugins
KEYS: Final = tuple(f.name for f in fields(Profile) if f.name not in _FUNCTIONS | _FOLDED)
"""The keys of a profile."""

_FIELD_TO_KEY: Final = {"outbox_limits": "outbox", "disable_plugins": "plugins.disable", "plugin_options": "plugins"}


def load(path: str | os.PathLike[str], *, name: str | None = None) -> Profile:
    """The profile in *path*; what `Profile.load` says."""
    shown = str(path)
    data = _select(_File(shown), _read(shown), name)
    return _File(shown).profile(data)


def _read(path: str) -> Table:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise InvalidProfile(path, f"it is no UTF-8 at byte {error.start}") from None
        raise UnreadableFile(path, "profile", getattr(error, "strerror", None) or str(error)) from error
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InvalidProfile(path, "its values are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and int() past 4300 digits
        raise InvalidProfile(path, f"it is no TOML: {error}") from None


def _select(source: _File, data: Table, name: str | None) -> Table:
    """The keys that count: those outside ``[profile.NAME]`` tables, replaced by those of the named one."""
    if "profile" not in data:
        if name is not None:
            raise source.error("profile", f"there is no [profile.{name}]; the file holds one profile without a name")
        return data
    tables = source.table("profile", data["profile"])
    if name is None:
        raise source.error("profile", "the file holds several profiles; choose one by its name", valid=tables)
    if name not in tables:
        raise source.error("profile", f"there is no [profile.{name}]", valid=tables)
    common = {key: value for key, value in data.items() if key != "profile"}
    return {**common, **source.table(f"profile.{name}", tables[name])}


@define
class _File:
    """One profile file: what its tables become, and errors that name its keys."""

    path: str

    def error(self, key: str, why: str, *, valid: Mapping[str, object] | tuple[str, ...] = ()) -> InvalidProfile:
        return InvalidProfile(f"{self.path}: {key}", why, valid=valid)

    def table(self, key: str, value: object, *names: str) -> Table:
        """*value* when it is a table; with *names*, one that has no other keys."""
        if not isinstance(value, dict):
            raise self.error(key, f"{checks.show(value)} is no table", valid=names)
        for name in value:
            if names and name not in names:
                raise self.error(f"{key}.{name}", "there is no such key", valid=names)
        return value

    def profile(self, data: Table) -> Profile:
        for key in data:
            if key not in KEYS:
                hint = f"; a profile of this name is a table [profile.{key}]" if isinstance(data[key], dict) else ""
                raise self.error(key, f"there is no such key{hint}", valid=KEYS)
        if "where" not in data:
            raise self.error("where", "it is missing; give a URI or a list of them")
        values = dict(data)
        for key, convert in _CONVERTERS.items():
            if key in values:
                values.update(convert(self, key, values.pop(key)))
        try:
            return Profile(**values)
        except InvalidOption as error:
            first, dot, rest = error.name.partition(".")
            key = _FIELD_TO_KEY.get(first, first) + dot + rest
            raise self.error(key, error.why, valid=error.valid) from None

    def made(self, key: str, make: Callable[..., Any], values: Table) -> Any:
        """What *make* makes of *values*; what it refuses is an error that names the key."""
        try:
            return make(**values)
        except InvalidOption as error:
            raise self.error(f"{key}.{error.name.rpartition('.')[2]}", error.why, valid=error.valid) from None
        except InvalidTopic as error:
            raise self.error(f"{key}.topic", f"{checks.show(error.topic)}: {error.why}") from None

    def beside(self, key: str, value: object) -> str:
        """The path *value*, from the profile's folder where it is relative."""
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.error(key, f"{checks.show(value)} is no path")
        return str(Path(self.path).parent / value)

    def text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self.error(key, f"{checks.show(value)} is no text of at least one character")
        return value

    def flag(self, key: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.error(key, f"{checks.show(value)} is neither true nor false")
        return value

    def secret(self, key: str, value: object) -> Secret:
        """A literal text, ``{env = "NAME"}`` or ``{file = "path"}``; a wrong value is not shown, for it may be one."""
        if isinstance(value, str):
            return Secret(value)
        if isinstance(value, dict) and set(value) == {"env"}:
            return env(self.text(f"{key}.env", value["env"]))
        if isinstance(value, dict) and set(value) == {"file"}:
            return file(self.beside(f"{key}.file", value["file"]))
        raise self.error(key, 'write it as a text, {env = "NAME"} or {file = "path"}')

    # One method for each key that is not taken as it stands; each gives the fields of the profile. -----------------

    def to_password(self, key: str, value: object) -> Table:
        return {key: self.secret(key, value)}

    def to_tls(self, key: str, value: object) -> Table:
        table = self.table(key, value, *(f.name for f in fields(TLS)))
        made: Table = {}
        for name, item in table.items():
            at = f"{key}.{name}"
            if name == "key_pem" and isinstance(item, dict) and "file" in item:
                raise self.error(at, 'for a key in a file write key_file = "path"')  # a secret is a file's first line
            if name in {"key_password", "key_pem"}:
                made[name] = self.secret(at, item)
            elif name == "verify":
                made[name] = self.flag(at, item)
            elif name in {"ca_pem", "cert_pem"}:
                if not isinstance(item, str):  # it is not shown: a key may be with the certificate
                    raise self.error(at, "it is no text; write the lines of the PEM file between three quotes")
                made[name] = item
            elif name == "alpn":
                if not isinstance(item, list):
                    raise self.error(at, f"{checks.show(item)} is no list of names")
                made[name] = tuple(self.text(at, protocol) for protocol in item)
            else:
                made[name] = self.beside(at, item)
        return {key: self.made(key, TLS, made)}

    def to_will(self, key: str, value: object) -> Table:
        table = self.table(key, value, *(f.name for f in fields(Will)))
        if "topic" not in table:
            raise self.error(f"{key}.topic", "it is missing")
        if not isinstance(table.get("payload", ""), str):
            raise self.error(f"{key}.payload", f"{checks.show(table['payload'])} is no text")
        return {key: self.made(key, Will, table)}

    def to_outbox(self, key: str, value: object) -> Table:
        if isinstance(value, str):
            value = {"path": value}
        table = self.table(key, value, "path", *(f.name for f in fields(OutboxLimits)))
        limits = {name: item for name, item in table.items() if name != "path"}
        made: Table = {"outbox_limits": self.made(key, OutboxLimits, limits)}
        if "path" in table:
            made["outbox"] = self.beside(f"{key}.path", table["path"])
        return made

    def to_backoff(self, key: str, value: object) -> Table:
        table = dict(self.table(key, value))
        policy = table.pop("policy", None)
        makers: dict[str, tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]] = {
            "exponential": (exponential, (), ("cap",)),
            "fleet": (fleet, ("clients", "connects_per_second"), ("clients", "connects_per_second")),
        }
        if not isinstance(policy, str) or policy not in makers:
            raise self.error(f"{key}.policy", f"{checks.show(policy)} is none of {', '.join(map(repr, makers))}")
        make, needed, names = makers[policy]
        self.table(key, table, "policy", *names)
        for name in needed:
            if name not in table:
                raise self.error(f"{key}.{name}", f"it is missing; the policy {policy!r} needs it")
        self._finite(key, table)
        return {key: self.made(key, make, table)}

    def to_limits(self, key: str, value: object) -> Table:
        table = self.table(key, value, *(f.name for f in fields(GiveUpAfter)))
        self._finite(key, table)
        return {key: self.made(key, GiveUpAfter, table)}

    def to_failback(self, key: str, value: object) -> Table:
        if value is False:
            return {key: False}
        table = self.table(key, value, *(f.name for f in fields(Failback)))
        self._finite(key, {name: item for name, item in table.items() if name != "probe_client_id"})
        return {key: self.made(key, Failback, table)}

    def _finite(self, key: str, table: Table) -> None:
        """Refuse integers that no float can hold; TOML has them."""
        for name, item in table.items():
            if not checks.is_number(item):
                raise self.error(f"{key}.{name}", f"{checks.show(item)} is no finite number")

    def to_plugins(self, key: str, value: object) -> Table:
        """``order`` and ``disable`` are lists of names; every other key is a plugin's table, which names it too."""
        table = self.table(key, value)
        options = {name: self.table(f"{key}.{name}", item) for name, item in table.items() if name not in _LISTS}
        lists: dict[str, list[str]] = {}
        for name in _LISTS:
            names = table.get(name, [])
            if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
                raise self.error(f"{key}.{name}", f"{checks.show(names)} is no list of plugin names")
            lists[name] = names
        order, disable = lists["order"], lists["disable"]
        named = [*order, *(name for name in options if name not in order and name not in disable)]
        return {"plugins": tuple(named), "disable_plugins": tuple(disable), "plugin_options": options}

    def to_deduplicate(self, key: str, value: object) -> Table:
        return {key: self.beside(key, value) if isinstance(value, str) else value}


_LISTS: Final = ("order", "disable")

_CONVERTERS: Final[dict[str, Callable[[_File, str, object], Table]]] = {
    "password": _File.to_password,
    "tls": _File.to_tls,
    "will": _File.to_will,
    "outbox": _File.to_outbox,
    "backoff": _File.to_backoff,
    "give_up_after": _File.to_limits,
    "startup_give_up_after": _File.to_limits,
    "failback": _File.to_failback,
    "plugins": _File.to_plugins,
    "deduplicate": _File.to_deduplicate,
}
