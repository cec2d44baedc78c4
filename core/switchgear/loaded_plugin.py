"""One plugin that works, and the checks that say so. Imports nothing, calls no hook.

pluggy compares the implementations with `hookspecs`; what it would leave silent is looked for here: a misspelt name, a
missing mark, ``async def``, a function whose body would never run.
"""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Final

import pluggy
from attrs import field, frozen

from switchgear import hookspecs
from switchgear.errors import PluginError
from switchgear.hook_line import describe
from switchgear.hookspecs import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping

HOOKS: Final = tuple(sorted(name for name, spec in vars(hookspecs).items() if hasattr(spec, f"{PROJECT}_spec")))


@frozen
class LoadedPlugin:
    """One plugin that works.

    Attributes:
        name: Of its entry point; of an object given directly, its module's or class's name.
        distribution: Where it came from; None for an object given directly.
        version: Of the distribution.
        plugin: The module or object.
        hooks: Names of the hooks that it implements, sorted.
        is_builtin: Whether it is part of Switchgear itself.
    """

    name: str
    distribution: str | None
    version: str | None
    plugin: object = field(repr=False)
    hooks: tuple[str, ...]
    is_builtin: bool = False
    _impls: Mapping[str, pluggy.HookImpl] = field(factory=dict, repr=False, eq=False)

    def call(self, hook: str, **values: object) -> object:
        """Call the implementation of *hook* with those of *values* that it names."""
        impl = self._impls[hook]
        return impl.function(*(values[name] for name in impl.argnames))

    def lists(self, attribute: str) -> tuple[str, ...]:
        """What the plugin says that it provides, in ``DRIVERS`` or ``SCHEMES``."""
        names = getattr(self.plugin, attribute, ())
        return tuple(n for n in names if isinstance(n, str)) if isinstance(names, tuple | list) else ()


class _Unfit(Exception):
    """A plugin cannot be used; the text says why."""


def _implementations(plugin: object, name: str) -> dict[str, pluggy.HookImpl]:
    """What *plugin* implements, by hook, after every check that can be made without calling it."""
    if isinstance(plugin, type):
        raise _Unfit(f"{plugin.__name__} is a class; name an instance of it, or a module")
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    seen = set()
    for attribute in dir(plugin):
        marks = manager.parse_hookimpl_opts(plugin, attribute)
        if marks is None:
            _check_unmarked(plugin, attribute)
            continue
        hook, function = marks.get("specname") or attribute, getattr(plugin, attribute)
        if hook not in HOOKS:
            near = difflib.get_close_matches(hook, HOOKS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; hooks: {', '.join(HOOKS)}"
            raise _Unfit(f"there is no hook {hook!r}{hint}")
        if marks.get("wrapper") or marks.get("hookwrapper"):
            raise _Unfit(f"{hook} is a hook wrapper; hooks cannot be wrapped here")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise _Unfit(f"{hook} is async def; hooks are synchronous, they run on threads and may block")
        if inspect.isgeneratorfunction(function):
            raise _Unfit(f"{hook} is a generator function; its body would never run")
        if hook in seen:
            raise _Unfit(f"{hook} is implemented twice")
        seen.add(hook)
    manager.register(plugin, name=name)
    manager.check_pending()
    found = {hook: impls[0] for hook in HOOKS if (impls := getattr(manager.hook, hook).get_hookimpls())}
    if not found:
        raise _Unfit("it implements no hook; mark its functions with @hookimpl")
    for hook, impl in found.items():
        try:
            inspect.signature(impl.function).bind(*impl.argnames)
        except TypeError as error:
            raise _Unfit(f"{hook} cannot be called with the hook's parameters: {error}") from error
    return found


def _check_unmarked(plugin: object, attribute: str) -> None:
    """Refuse a function that looks like a hook, in name and parameters, but carries no mark: it would be silent."""
    near = difflib.get_close_matches(attribute, HOOKS, 1, 0.85)
    if not near or not inspect.isroutine(function := inspect.getattr_static(plugin, attribute)):
        return
    function = getattr(plugin, attribute)
    try:
        parameters = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # it is no Python function
        return
    if parameters <= set(inspect.signature(getattr(hookspecs, near[0])).parameters):
        meant = "" if near[0] == attribute else f" and is misspelt: {near[0]}"
        raise _Unfit(f"{attribute} looks like a hook but has no @hookimpl mark{meant}")


def load_object(
    plugin: object,
    *,
    name: str | None = None,
    distribution: str | None = None,
    version: str | None = None,
    is_builtin: bool = False,
) -> LoadedPlugin:
    """The plugin that a module or an object is, checked.

    Raises:
        PluginError: it cannot be used; the message says why.
    """
    name = name or str(getattr(plugin, "__name__", type(plugin).__name__))
    try:
        impls = _implementations(plugin, name)
    except (_Unfit, pluggy.PluginValidationError) as error:
        raise PluginError(name, " ".join(str(error).split()), distribution=distribution) from error
    except Exception as error:
        raise PluginError(name, f"looking at it {describe(error)}", distribution=distribution) from error
    return LoadedPlugin(name, distribution, version, plugin, tuple(impls), is_builtin, impls)
