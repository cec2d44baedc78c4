"""From a TOML file to `Permissions`. Reads that one file and nothing else; passwords are read when they are needed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, fields
from switchgear import checks
from switchgear.errors import ConfigurationError, InvalidTopic, UnreadableFile
from switchgear.message import check_filter, check_topic
from switchgear.secrets import Secret, env, file

from switchgear_activemq.amazon_mq import rules
from switchgear_activemq.amazon_mq.permissions import EXAMPLE, STOCK_NAME, Group, Permissions, Purge, User
from switchgear_activemq.topics import what_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Table = dict[str, Any]

KEYS: Final = {
    "": tuple(f.name for f in fields(Permissions)),
    "users.NAME": tuple(f.name for f in fields(User) if f.name != "name"),
    "groups.NAME": tuple(f.name for f in fields(Group) if f.name != "name"),
    "purge": tuple(f.name for f in fields(Purge)),
}
"""The keys of each table; the first is the file itself."""

MOST: Final = {"inactive_s": 31_536_000, "every_s": 86_400, "offline_session_s": 31_536_000}
"""Seconds: a day between looks, for ActiveMQ counts those milliseconds in 32 bits; a year for the others."""


class InvalidPermissions(ConfigurationError):
    """A file of permissions holds a wrong type, an unknown key, or what Amazon MQ or ActiveMQ does not take."""

    def __init__(self, where: str, why: str, *, valid: Iterable[str] = ()) -> None:
        self.where = where
        self.why = why
        self.valid = tuple(sorted(valid))
        hint = f"; valid keys: {', '.join(self.valid)}" if self.valid else ""
        super().__init__(f"permissions, {where}: {why}{hint}")


def load(path: Path) -> Permissions:
    """The permissions in the TOML file *path*.

    Raises:
        UnreadableFile: it cannot be read.
        InvalidPermissions: something in it is wrong; names the key.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidPermissions(str(path), f"it is no UTF-8 at byte {error.start}") from None
    except (OSError, ValueError) as error:
        raise UnreadableFile(str(path), "permissions", getattr(error, "strerror", None) or str(error)) from error
    return parse(text, path)


def example() -> Permissions:
    """The permissions of `EXAMPLE`."""
    return parse(EXAMPLE, Path("the example"))


def parse(text: str, path: Path) -> Permissions:
    """The permissions in *text*; *path* is named in errors, and paths of password files start from its folder.

    Raises:
        InvalidPermissions: something in it is wrong; names the key.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise InvalidPermissions(str(path), "its values are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and int() past 4300 digits
        raise InvalidPermissions(str(path), f"it is no TOML: {error}") from None
    return _File(path).permissions(data)


@define
class _File:
    """One file: what its tables become, and errors that name its keys."""

    path: Path

    def error(self, key: str, why: str, *, valid: Iterable[str] = ()) -> InvalidPermissions:
        return InvalidPermissions(f"{self.path}: {key}", why, valid=valid)

    def permissions(self, data: Table) -> Permissions:
        self.table("", data)
        name = data.get("name", STOCK_NAME)
        if not isinstance(name, str):
            raise self.error("name", f"{checks.show(name)} is no text")
        if why := rules.wrong_broker_name(name):
            raise self.error("name", f"{checks.show(name)}: {why}")
        groups = tuple(self.group(name, value) for name, value in self.named("groups", data))
        users = tuple(self.user(name, value, {g.name for g in groups}) for name, value in self.named("users", data))
        if len(users) > rules.MOST_USERS:
            raise self.error("users", f"there are {len(users)}; Amazon MQ takes {rules.MOST_USERS} for one broker")
        return Permissions(
            name=name,
            topics=self.topics("topics", data.get("topics", []), check_topic),
            users=users,
            groups=groups,
            purge=self.purge(data.get("purge", {})),
        )

    def table(self, key: str, value: object, keys: str | None = None) -> Table:
        """*value* when it is a table with no keys but those of `KEYS` at *keys* (*key* where that is None)."""
        known = KEYS[key if keys is None else keys]
        if not isinstance(value, dict):
            raise self.error(key, f"{checks.show(value)} is no table", valid=known)
        for name in value:
            if name not in known:
                raise self.error(f"{key}.{name}" if key else name, "there is no such key", valid=known)
        return value

    def named(self, key: str, data: Table) -> list[tuple[str, object]]:
        """The tables of users or of groups, by their names."""
        value = data.get(key)
        if not isinstance(value, dict) or not value:
            raise self.error(key, f"there are none; write a table [{key}.NAME] for each")
        for name in value:
            if why := rules.wrong_name(name):
                raise self.error(f"{key}.{name}", why)
        return sorted(value.items())

    def user(self, name: str, value: object, groups: set[str]) -> User:
        key = f"users.{name}"
        data = self.table(key, value, "users.NAME")
        mine = self.texts(f"{key}.groups", data.get("groups", []))
        console = self.flag(f"{key}.console", data.get("console", False))
        for group in mine:
            if group == rules.CONSOLE_GROUP:
                raise self.error(f"{key}.groups", f"{group} is Amazon MQ's own; write console = true instead")
            if group not in groups:
                raise self.error(
                    f"{key}.groups", f"there is no [groups.{group}]; groups here: {', '.join(sorted(groups))}"
                )
        if len(mine) > rules.MOST_GROUPS:
            raise self.error(
                f"{key}.groups", f"there are {len(mine)}; Amazon MQ takes {rules.MOST_GROUPS} for one user"
            )
        if not mine and not console:
            raise self.error(f"{key}.groups", "the user is in no group, so it could do nothing; name at least one")
        return User(name=name, groups=mine, console=console, password=self.password(f"{key}.password", data))

    def password(self, key: str, data: Table) -> Secret | None:
        value = data.get("password")
        if value is None:
            return None
        if isinstance(value, str):
            if why := rules.wrong_password(value):
                raise self.error(key, why)
            return Secret(value)
        if isinstance(value, dict) and len(value) == 1 and all(isinstance(v, str) and v for v in value.values()):
            if "env" in value:
                return env(value["env"])
            if "file" in value and "\0" not in value["file"]:
                return file(self.path.parent / value["file"])
        raise self.error(key, 'write text, {env = "NAME"} or {file = "path"}')

    def group(self, name: str, value: object) -> Group:
        key = f"groups.{name}"
        if name == rules.CONSOLE_GROUP:
            raise self.error(key, "it is Amazon MQ's own and may do everything; write console = true at a user")
        data = self.table(key, value, "groups.NAME")
        admin = self.flag(f"{key}.admin", data.get("admin", False))
        lists = {
            k: self.topics(f"{key}.{k}", data.get(k, []), check_filter) for k in ("publish", "subscribe", "create")
        }
        if admin and any(lists.values()):
            raise self.error(key, "admin = true allows everything; leave out publish, subscribe and create")
        if not admin and not any(lists.values()):
            raise self.error(key, "it may do nothing; give it admin, publish, subscribe or create")
        return Group(name=name, admin=admin, **lists)

    def purge(self, value: object) -> Purge:
        data = dict(self.table("purge", value))
        keep = self.topics("purge.keep", data.pop("keep", []), check_filter)
        for name, number in data.items():
            least = 1 if name == "every_s" else 0
            if not checks.is_whole(number) or not least <= number <= MOST[name]:
                raise self.error(
                    f"purge.{name}", f"{checks.show(number)} is no whole number of {least} to {MOST[name]} seconds"
                )
        return Purge(keep=keep, **data)

    def topics(self, key: str, value: object, check: Callable[[str], None]) -> tuple[str, ...]:
        """Topic names or filters, which *check* looks at; none that ActiveMQ or Amazon MQ would change."""
        found = self.texts(key, value)
        for topic in found:
            try:
                check(topic)
            except InvalidTopic as error:
                raise self.error(key, f"{checks.show(topic)}: {error.why}") from None
            if why := what_changes(topic):
                raise self.error(key, f"{checks.show(topic)}: {why}")
            if "${" in topic or any(ord(character) < 0x20 for character in topic):
                raise self.error(
                    key, f"{checks.show(topic)}: Amazon MQ removes rules with ${{ or control characters in them"
                )
            if any(level == "" for level in topic.split("/")):
                raise self.error(key, f"{checks.show(topic)}: ActiveMQ's rules do not know empty levels")
        return found

    def texts(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.error(key, f"{checks.show(value)} is no list of texts")
        if len(set(value)) < len(value):
            twice = next(each for each in value if value.count(each) > 1)
            raise self.error(key, f"{checks.show(twice)} is there twice")
        return tuple(value)

    def flag(self, key: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.error(key, f"{checks.show(value)} is neither true nor false")
        return value
