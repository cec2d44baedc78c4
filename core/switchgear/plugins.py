"""Plugins: loaded in a fixed order, isolated from each other, called through typed methods.

Installation order and the file system never matter: entry points are sorted by name. What cannot be imported or does
not fit the hooks is skipped with a reason, and the others work. pluggy checks implementations against `hookspecs`; the
calls are ours, for each needs its own bound, its own options and its own blame.

``SWITCHGEAR_DISABLE_PLUGINS`` holds names to leave out, separated by commas; ``SWITCHGEAR_TRACE=1`` prints each call.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import inspect
import logging
import os
from typing import TYPE_CHECKING, Final

import attrs
from attrs import field, frozen

from switchgear.endpoint import Group, scheme_of
from switchgear.errors import ConfigurationError, PluginError, UnknownDriver, UnknownPlugin
from switchgear.hook_line import describe
from switchgear.hook_runner import shared_runner
from switchgear.hookspecs import PROJECT
from switchgear.loaded_plugin import HOOKS, LoadedPlugin, load_object
from switchgear.strategies import DEFAULT, Strategies, is_traced, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import typer

    from switchgear.drivers.base import Driver, DriverSettings
    from switchgear.hook_runner import Runner

    _Found = tuple[bool, importlib.metadata.EntryPoint, str | None, str | None]  # builtin, entry, distribution, version

BUILTIN: Final = {DEFAULT: "switchgear.default_strategy", "paho": "switchgear.drivers.paho"}

logger = logging.getLogger("switchgear.plugins")


@frozen
class SkippedPlugin:
    """One plugin that is installed and not used, and why."""

    name: str
    distribution: str | None
    why: str


@frozen
class Registry:
    """What is installed: ``loaded`` and ``skipped`` plugins. Since: 0.1."""

    loaded: tuple[LoadedPlugin, ...]
    skipped: tuple[SkippedPlugin, ...] = ()
    _trace: bool = field(factory=is_traced, repr=False)

    @classmethod
    def load(
        cls,
        *,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        disabled: Collection[str] = (),
    ) -> Registry:
        """The built-in plugins and those behind *entry_points*; None: all of the group ``switchgear``.

        Names in *disabled* and in ``SWITCHGEAR_DISABLE_PLUGINS`` are left out; the default strategy cannot be.
        """
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=PROJECT)
        off = dict.fromkeys(_disabled_by_environment(), "disabled by SWITCHGEAR_DISABLE_PLUGINS")
        off |= dict.fromkeys(disabled, "disabled")
        off.pop(DEFAULT, None)
        own = [importlib.metadata.EntryPoint(name, value, PROJECT) for name, value in BUILTIN.items()]
        others: list[_Found] = [(False, e, *_distribution(e)) for e in entry_points]
        found: list[_Found] = [(True, e, PROJECT, _version(PROJECT)) for e in own]
        found += sorted(others, key=lambda row: (row[1].name, row[2] or "", row[1].value))
        loaded: dict[str, LoadedPlugin] = {}
        skipped: list[SkippedPlugin] = []
        for is_builtin, entry, distribution, version in found:
            name = entry.name
            if name in off:
                skipped.append(SkippedPlugin(name, distribution, off[name]))
                continue
            try:
                _check_free(name, loaded)
                loaded[name] = load_object(
                    _import(entry), name=name, distribution=distribution, version=version, is_builtin=is_builtin
                )
            except PluginError as error:
                skipped.append(SkippedPlugin(name, distribution, error.why))
                extra = {"plugin": name, "distribution": distribution, "why": error.why}
                exc_info = error.__cause__ if logger.isEnabledFor(logging.DEBUG) else None
                logger.warning("switchgear.plugin_skipped", extra=extra, exc_info=exc_info)
        return cls(tuple(sorted(loaded.values(), key=lambda p: p.name)), tuple(skipped))

    def provide_driver(
        self,
        name: str,
        settings: DriverSettings,
        *,
        options: Mapping[str, Mapping[str, object]] | None = None,
        extra: Sequence[object] = (),
    ) -> Driver:
        """A new driver called *name*. Those who list it in ``DRIVERS`` are asked first, then the others by name.

        *options* are those of each plugin, by its name.

        Raises:
            UnknownDriver: no plugin provides it.
            PluginError: the plugin that was asked raised or answered something else.
            ConfigurationError: what the plugin says of the settings, unchanged.
        """
        plugins = self._for_building("provide_driver", extra)
        for plugin in sorted(plugins, key=lambda p: name not in p.lists("DRIVERS")):
            own = (options or {}).get(plugin.name, {})
            answer = self._build(plugin, "provide_driver", name=name, settings=settings, options=own)
            if answer is None:
                continue
            if callable(answer) and (isinstance(answer, type) or not hasattr(answer, "dial")):  # a factory
                answer = _guarded(plugin, "provide_driver", functools.partial(answer, settings))
            missing = [part for part in ("name", "features", "dial", "connect", "close") if not hasattr(answer, part)]
            if missing:
                raise _wrong(plugin, "provide_driver", answer, f"not a driver: it has no {', '.join(missing)}")
            return answer  # type: ignore[return-value]  # all parts of the protocol were just found
        known = {driver for plugin in plugins for driver in plugin.lists("DRIVERS")}
        raise UnknownDriver(name, known, why=self._why_skipped(name))

    def _why_skipped(self, name: str) -> str:
        """Why the plugin called *name* was skipped; empty: none was."""
        return next((skip.why for skip in self.skipped if skip.name == name), "")

    def provide_endpoints(
        self, where: str, options: Mapping[str, Mapping[str, object]], *, extra: Sequence[object] = ()
    ) -> tuple[list[Group], str] | None:
        """The groups behind the URI *where* and the name of the plugin that owns its scheme; None: nobody does.

        *options* are those of each plugin, by its name.

        Raises:
            ConfigurationError: what the plugin says of the URI, unchanged.
            PluginError: it raised something else, or answered no list of groups.
        """
        scheme = scheme_of(where)
        plugins = self._for_building("provide_endpoints", extra)
        for plugin in sorted(plugins, key=lambda p: scheme not in p.lists("SCHEMES")):
            own = options.get(plugin.name, {})
            answer = self._build(plugin, "provide_endpoints", where=where, options=own)
            if answer is not None:
                return _groups(plugin, answer), plugin.name
        return None

    def register_commands(self, app: typer.Typer) -> None:
        """Have every plugin add its sub-commands to *app*; one that fails is logged and the others go on."""
        for plugin in self.loaded:
            if "register_commands" in plugin.hooks:
                try:
                    self._build(plugin, "register_commands", app=app)
                except (PluginError, ConfigurationError) as error:
                    why = error.why if isinstance(error, PluginError) else describe(error)
                    extra = {"plugin": plugin.name, "hook": "register_commands", "why": why}
                    logger.warning("switchgear.plugin_failed", extra=extra, exc_info=error.__cause__)

    def select(
        self, names: Sequence[str | object], *, extra: Sequence[object] = (), disabled: Collection[str] = ()
    ) -> tuple[LoadedPlugin, ...]:
        """The plugins of one transport: *names* and objects as given, then *extra*; the default strategy last.

        Raises:
            UnknownPlugin: a name is not loaded; the message says why.
            PluginError: an object cannot be used as a plugin.
        """
        by_name = {plugin.name: plugin for plugin in self.loaded}
        chosen: dict[str, LoadedPlugin] = {}
        for wanted in (*names, *extra):
            if isinstance(wanted, str):
                if wanted in disabled and wanted != DEFAULT:
                    raise UnknownPlugin(wanted, by_name, why="it is disabled for this transport")
                if wanted not in by_name:
                    raise UnknownPlugin(wanted, by_name, why=self._why_skipped(wanted) or "it is not installed")
                chosen[wanted] = by_name[wanted]
            else:
                self._add_object(chosen, wanted)
        chosen.pop(DEFAULT, None)
        return (*chosen.values(), by_name[DEFAULT])

    def select_checked(
        self,
        names: Sequence[str | object],
        *,
        extra: Sequence[object] = (),
        disabled: Collection[str] = (),
        options: Mapping[str, Mapping[str, object]] | None = None,
    ) -> tuple[LoadedPlugin, ...]:
        """As `select`, once each plugin has found nothing wrong with its *options*.

        Those of an installed plugin that is not chosen are left alone: a profile may serve several transports.

        Raises:
            ConfigurationError: what a plugin's ``check_options`` says, unchanged.
            PluginError, UnknownPlugin: as for `select`; also where *options* are those of a plugin that is not installed.
        """
        options = options or {}
        chosen = self.select(names, extra=extra, disabled=disabled)
        known = {plugin.name for plugin in (*self.loaded, *chosen)}
        for name in options:
            if name not in {*known, *disabled} and not self._why_skipped(name):
                near = difflib.get_close_matches(name, known, 1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                raise UnknownPlugin(name, known, why=f"plugin_options are given for it, but it is not installed{hint}")
        for plugin in chosen:
            if "check_options" in plugin.hooks:
                self._build(plugin, "check_options", options=options.get(plugin.name, {}))
        return chosen

    def strategies(
        self,
        names: Sequence[str | object],
        *,
        extra: Sequence[object] = (),
        disabled: Collection[str] = (),
        hook_timeout: float = 5.0,
        on_problem: Callable[[str, str, str], None] | None = None,
        runner: Runner | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Strategies:
        """The strategy calls of one transport; see `select` for who is called and `Strategies` for the rest.

        Raises:
            ConfigurationError, PluginError, UnknownPlugin: as for `select_checked`.
        """
        return Strategies(
            self.select_checked(names, extra=extra, disabled=disabled, options=options),
            hook_timeout=hook_timeout,
            on_problem=on_problem or (lambda _plugin, _hook, _why: None),
            runner=runner or shared_runner(),
            options=options or {},
        )

    def known_drivers(self) -> tuple[str, ...]:
        """Names of drivers that the plugins list, sorted."""
        return tuple(sorted({name for plugin in self.loaded for name in plugin.lists("DRIVERS")}))

    def known_schemes(self) -> tuple[str, ...]:
        """URI schemes that the plugins list, sorted."""
        return tuple(sorted({name for plugin in self.loaded for name in plugin.lists("SCHEMES")}))

    def _add_object(self, chosen: dict[str, LoadedPlugin], given: object) -> None:
        if any(plugin.plugin is given for plugin in chosen.values()):
            return
        known = [plugin for plugin in self.loaded if plugin.plugin is given]
        plugin = known[0] if known else load_object(given)
        taken = {p.name for p in self.loaded if p is not plugin} | set(chosen)
        name, number = plugin.name, 1
        while name in taken:  # two instances of one class: each has its queue and its blame
            number += 1
            name = f"{plugin.name}-{number}"
        chosen[name] = attrs.evolve(plugin, name=name)

    def _for_building(self, hook: str, extra: Sequence[object]) -> list[LoadedPlugin]:
        """Who implements *hook*: objects given directly, built-in plugins, the others by name."""
        given: dict[str, LoadedPlugin] = {}
        for each in extra:
            if not isinstance(each, str):  # a name is among the loaded anyway
                self._add_object(given, each)
        loaded = [plugin for plugin in self.loaded if all(plugin.plugin is not g.plugin for g in given.values())]
        everyone = [*given.values(), *sorted(loaded, key=lambda p: not p.is_builtin)]
        return [plugin for plugin in everyone if hook in plugin.hooks]

    def _build(self, plugin: LoadedPlugin, hook: str, **values: object) -> object:
        """Call a hook on this thread, as transports are built and command lines start."""
        call = functools.partial(plugin.call, hook, **values)
        return _guarded(plugin, hook, traced(plugin.name, hook, call) if self._trace else call)


def _guarded(plugin: LoadedPlugin, hook: str, call: Callable[[], object]) -> object:
    """What *call*, which runs the plugin's code, answers; what it raises becomes a `PluginError` that names the plugin."""
    try:
        answer = call()
    except (ConfigurationError, PluginError):
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(plugin.name, describe(error), hook=hook, distribution=plugin.distribution) from error
    if inspect.iscoroutine(answer):
        answer.close()
        raise _wrong(plugin, hook, answer, "hooks are synchronous")
    return answer


def _groups(plugin: LoadedPlugin, answer: object) -> list[Group]:
    if not isinstance(answer, list | tuple):
        raise _wrong(plugin, "provide_endpoints", answer, "not a list of groups")
    for each in answer:
        if not isinstance(each, Group):
            raise _wrong(plugin, "provide_endpoints", each, "not a group, in its list")
    if not answer:
        raise _wrong(plugin, "provide_endpoints", answer, "no group at all; None says that a URI is not yours")
    return list(answer)


def _wrong(plugin: LoadedPlugin, hook: str, answer: object, why: str) -> PluginError:
    kind = type(answer).__name__  # never its text: it may hold a secret
    return PluginError(plugin.name, f"answered {kind}: {why}", hook=hook, distribution=plugin.distribution)


def _check_free(name: str, loaded: Mapping[str, LoadedPlugin]) -> None:
    if name in loaded:
        whose = loaded[name].distribution or "an unknown distribution"
        raise PluginError(name, f"{whose} has a plugin of this name already")


def _import(entry: importlib.metadata.EntryPoint) -> object:
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise PluginError(entry.name, f"importing {entry.value} {describe(error)}") from error


def _distribution(entry: importlib.metadata.EntryPoint) -> tuple[str | None, str | None]:
    """Name and version of where *entry* comes from; None where its metadata cannot be read."""
    try:
        return (entry.dist.name, entry.dist.version) if entry.dist is not None else (None, None)
    except Exception as error:
        logger.debug("switchgear.unreadable_metadata", extra={"plugin": entry.name, "why": describe(error)})
        return None, None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # run from the source tree
        return None


def _disabled_by_environment() -> list[str]:
    return [name.strip() for name in os.environ.get("SWITCHGEAR_DISABLE_PLUGINS", "").split(",") if name.strip()]


@functools.cache
def registry() -> Registry:
    """What is installed, looked up once for each process."""
    return Registry.load()


__all__ = ["HOOKS", "LoadedPlugin", "Registry", "SkippedPlugin", "Strategies", "load_object", "registry"]
