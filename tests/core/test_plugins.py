from __future__ import annotations

import functools
import gc
import importlib.metadata
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import typer
from switchgear import AsyncTransport, Profile, hookspecs
from switchgear.drivers.base import DriverSettings
from switchgear.endpoint import parse_uri
from switchgear.errors import InvalidOption, InvalidURI, PluginError, UnknownDriver, UnknownPlugin
from switchgear.hookspecs import hookimpl
from switchgear.loaded_plugin import HOOKS, load_object
from switchgear.plugins import Registry, registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

B = parse_uri("mqtt://b")
SETTINGS = DriverSettings(client_id="c", protocol="5", keepalive=30, connect_timeout=5.0)
HEAD = "from switchgear.hookspecs import hookimpl, Proceed\nfrom switchgear import endpoint, errors\n"
GOOD = "@hookimpl\ndef on_event(event): pass\n"
_serial = itertools.count()


class Site:
    """A folder of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, source: str = GOOD, *, distribution: str = "") -> None:
        """Install a plugin called *name* whose module holds *source*."""
        module = f"switchgear_test_{next(_serial)}"
        (self.path / f"{module}.py").write_text(HEAD + source)
        info = self.path / f"{module}-1.5.dist-info"
        info.mkdir()
        title = distribution or f"switchgear-{name}"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {title}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[switchgear]\n{name} = {module}\n")

    def load(self, *, disabled: tuple[str, ...] = (), backwards: bool = False) -> Registry:
        """What is loaded from the folder."""
        entries = [e for d in importlib.metadata.distributions(path=[str(self.path)]) for e in d.entry_points]
        entries.sort(key=lambda e: e.value, reverse=backwards)
        return Registry.load(entry_points=entries, disabled=disabled)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty folder of distributions, on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SWITCHGEAR_DISABLE_PLUGINS", raising=False)
    monkeypatch.delenv("SWITCHGEAR_TRACE", raising=False)
    return Site(tmp_path)


def others(loaded: Registry) -> list[str]:
    return [plugin.name for plugin in loaded.loaded if not plugin.is_builtin]


def plugin_of(**hooks: Callable[..., object]) -> object:
    """An object with these hooks, each taking what its function takes."""
    return type("Made", (), {name: staticmethod(hookimpl(function)) for name, function in hooks.items()})()


def test_hooks_are_those_of_the_surface() -> None:
    """Every hook specification is known, and nothing else is."""
    kinds = {"provide", "select", "on", "before", "while", "check", "register"}
    ours = {name for name in vars(hookspecs) if name.partition("_")[0] in kinds}
    assert set(HOOKS) == ours


def test_options_are_checked_when_a_transport_is_built() -> None:
    """`check_options` is asked for each plugin of a transport with its own options, and what it says is not wrapped."""
    asked: list[dict[str, object]] = []

    def check(options: dict[str, object]) -> None:
        asked.append(options)
        if "colour" in options:
            raise InvalidOption("colour", "there is none")

    plugin = plugin_of(check_options=check)
    AsyncTransport(Profile("mqtt://a", plugins=[plugin], plugin_options={"Made": {"size": 1}, "paho": {"x": 2}}))
    AsyncTransport(Profile("mqtt://a", plugins=[plugin]))
    assert asked == [{"size": 1}, {}]
    with pytest.raises(InvalidOption, match="there is none"):
        AsyncTransport(Profile("mqtt://a", plugins=[plugin], plugin_options={"Made": {"colour": "red"}}))
    with pytest.raises(PluginError, match=r"check_options.*ZeroDivisionError"):
        AsyncTransport(Profile("mqtt://a", plugins=[plugin_of(check_options=lambda: 1 / 0)]))


def test_options_for_a_plugin_that_is_not_there_are_refused() -> None:
    """A misspelt name in plugin_options is taken in silence, and what was set for the plugin is not."""
    with pytest.raises(UnknownPlugin) as caught:
        AsyncTransport(Profile("mqtt://a", plugin_options={"pahoo": {"x": 2}}))
    assert str(caught.value).startswith(
        "plugin 'pahoo': plugin_options are given for it, but it is not installed, did you mean 'paho'?; plugins here: "
    )
    absent: dict[str, dict[str, object]] = {"nothing.of.the-kind": {}}
    with pytest.raises(UnknownPlugin, match="but it is not installed; plugins here: "):
        AsyncTransport(Profile("mqtt://a", plugin_options=absent))
    AsyncTransport(Profile("mqtt://a", plugin_options=absent, disable_plugins=list(absent)))  # it is not to be here


def test_registry_is_built_once() -> None:
    """The process has one registry, and it holds the built-in default strategy."""
    assert registry() is registry()
    assert "default_strategy" in [p.name for p in registry().loaded if p.is_builtin]


def test_order_is_by_name(site: Site) -> None:
    """Plugins are sorted by name, however they were installed, and know their distribution and hooks."""
    for name in ("zeta", "alpha", "mid"):
        site.install(name)
    assert others(site.load()) == others(site.load(backwards=True)) == ["alpha", "mid", "zeta"]
    first = site.load().loaded[0]
    assert (first.distribution, first.version, first.hooks) == ("switchgear-alpha", "1.5", ("on_event",))


BROKEN = {
    "import": ("import no_such_module_at_all", "raised ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "exit": ("raise SystemExit(3)", "raised SystemExit: 3"),
    "syntax": ("def f(:", "raised SyntaxError"),
    "parameter": ("@hookimpl\ndef on_event(evnt): pass", "'evnt'"),
    "keyword": ("@hookimpl\ndef on_event(event, *, more): pass", "on_event cannot be called"),
    "misspelt": ("@hookimpl\ndef on_disconect(context): pass", "did you mean on_disconnect?"),
    "unknown": ("@hookimpl\ndef frobnicate(): pass", "there is no hook 'frobnicate'; hooks: before_reconnect, "),
    "unmarked": ("def on_disconnect(context): pass\n" + GOOD, "on_disconnect looks like a hook but has no @hookimpl"),
    "both": ("def on_disconect(context): pass\n" + GOOD, "is misspelt: on_disconnect"),
    "async": ("@hookimpl\nasync def on_event(event): pass", "on_event is async def"),
    "generator": ("@hookimpl\ndef on_event(event): yield", "on_event is a generator"),
    "old wrapper": ("@hookimpl(hookwrapper=True)\ndef on_event(event): yield", "on_event is a hook wrapper"),
    "wrapper": ("@hookimpl(wrapper=True)\ndef on_event(event): yield", "on_event is a hook wrapper"),
    "twice": (GOOD + "@hookimpl(specname='on_event')\ndef second(event): pass", "on_event is implemented twice"),
    "empty": ("x = 1", "it implements no hook"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_skipped_alone(site: Site, caplog: pytest.LogCaptureFixture, case: str) -> None:
    """A plugin that cannot be used is skipped with its reason and one warning, and those beside it work."""
    source, why = BROKEN[case]
    for name, text in (("a", GOOD), ("bad", source), ("c", GOOD)):
        site.install(name, text)
    loaded = site.load()
    assert others(loaded) == ["a", "c"]
    [skip] = [s for s in loaded.skipped if s.name != "paho"]
    assert (skip.name, skip.distribution) == ("bad", "switchgear-bad")
    assert why in skip.why
    [record] = [r for r in caplog.records if vars(r).get("plugin") == "bad"]
    assert (record.levelname, record.message) == ("WARNING", "switchgear.plugin_skipped")
    assert vars(record)["why"] == skip.why
    with pytest.raises(UnknownPlugin) as caught:
        loaded.select(["bad"])
    assert caught.value.why == skip.why


def test_helpers_that_look_like_hooks_may_stay(site: Site) -> None:
    """A function of another library's callback, with parameters that no hook has, is no misspelt hook."""
    site.install("driver", GOOD + "def on_connect(client, userdata, flags, rc): pass\ndef on_disconnect(c, u): pass\n")
    assert others(site.load()) == ["driver"]


def test_duplicate_name(site: Site) -> None:
    """Of two plugins of one name the first by distribution works, the other is skipped and reported."""
    for distribution in ("zz", "aa", "mm"):
        site.install("twin", distribution=distribution)
    site.install("paho", distribution="aaa")
    for backwards in (False, True):
        loaded = site.load(backwards=backwards)
        assert [p.distribution for p in loaded.loaded if p.name == "twin"] == ["aa"]
        why = {s.distribution: s.why for s in loaded.skipped if s.distribution != "switchgear"}
        assert why["zz"] == why["mm"] == "aa has a plugin of this name already"
        assert [p.distribution for p in loaded.loaded if p.name == "default_strategy"] == ["switchgear"]


def test_disabled(site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Plugins are disabled by argument and by the environment, never imported, and asking for one says so."""
    site.install("a")
    site.install("b", "raise SystemError('was imported')")
    site.install("c", "raise SystemError('was imported')")
    monkeypatch.setenv("SWITCHGEAR_DISABLE_PLUGINS", " c, default_strategy ,not_here")
    loaded = site.load(disabled=("b",))
    assert others(loaded) == ["a"]
    why = {s.name: s.why for s in loaded.skipped if s.distribution != "switchgear"}
    assert why == {"b": "disabled", "c": "disabled by SWITCHGEAR_DISABLE_PLUGINS"}
    assert "default_strategy" in [p.name for p in loaded.loaded]
    assert not [r for r in caplog.records if vars(r).get("plugin") in {"b", "c"}]
    with pytest.raises(UnknownPlugin, match="disabled by SWITCHGEAR_DISABLE_PLUGINS"):
        loaded.select(["c"])
    with pytest.raises(UnknownPlugin, match="disabled for this transport"):
        loaded.select(["a"], disabled=("a",))


def test_selection_keeps_the_order_given(site: Site) -> None:
    """A transport's plugins keep the profile's order, objects among them, each once; the default is always last."""
    for name in ("a", "b", "c"):
        site.install(name)
    loaded = site.load()
    given = plugin_of(on_event=lambda: None)
    twin = plugin_of(on_event=lambda: None)
    chosen = loaded.select(["default_strategy", "c", given, "a", "c"], extra=[twin, given])
    assert [p.name for p in chosen] == ["c", "Made", "a", "Made-2", "default_strategy"]
    assert [p.name for p in loaded.select([])] == ["default_strategy"]
    assert [p.name for p in loaded.select([loaded.loaded[0].plugin])] == ["a", "default_strategy"]


def test_unknown_plugin_and_unfit_object(site: Site) -> None:
    """A name that is not installed lists those that are; an object that is no plugin is refused at once."""
    site.install("here")
    with pytest.raises(UnknownPlugin, match=r"'gone': it is not installed; plugins here: .*here"):
        site.load().select(["gone"])
    with pytest.raises(PluginError, match="Path is a class; name an instance"):
        site.load().select([type("Path", (), {})])
    with pytest.raises(PluginError, match="it implements no hook"):
        load_object(object())


def test_provide_driver() -> None:
    """A plugin that lists a driver is asked before others; unknown drivers, raising and wrong answers are told apart."""
    driver = type("D", (), dict.fromkeys(("name", "features", "dial", "connect", "close")))()

    def provide(name: str) -> object:
        return {"it": driver, "odd": 5, "boom": None}[name] if name != "boom" else 1 / 0

    made: Any = plugin_of(provide_driver=provide)
    type(made).DRIVERS = ("it", "odd", "boom")
    loaded = Registry.load(entry_points=[])
    assert loaded.provide_driver("it", SETTINGS, extra=[made]) is driver
    with pytest.raises(PluginError, match="hook provide_driver: answered int: not a driver: it has no name"):
        loaded.provide_driver("odd", SETTINGS, extra=[made])
    with pytest.raises(PluginError, match="raised ZeroDivisionError") as caught:
        loaded.provide_driver("boom", SETTINGS, extra=[made])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(UnknownDriver) as unknown:
        Registry((load_object(plugin_of(provide_driver=lambda: None)),)).provide_driver("x", SETTINGS)
    assert unknown.value.known == ()


def test_driver_factories() -> None:
    """A factory, be it a function or a class, makes the driver of the settings; what it raises is the plugin's blame."""
    parts: dict[str, object] = dict.fromkeys(("name", "features", "dial", "connect", "close"))
    kind: Any = type("D", (), {**parts, "__init__": lambda self, settings: setattr(self, "settings", settings)})
    answers: dict[str, object] = {
        "class": kind,
        "function": functools.partial(kind),
        "odd": lambda settings: settings,
        "boom": lambda _: 1 / 0,
    }
    made = plugin_of(provide_driver=lambda name: answers[name])
    loaded = Registry.load(entry_points=[])
    for name in ("class", "function"):
        driver: Any = loaded.provide_driver(name, SETTINGS, extra=[made])
        assert isinstance(driver, kind)
        assert driver.settings is SETTINGS
    with pytest.raises(PluginError, match="answered DriverSettings: not a driver"):
        loaded.provide_driver("odd", SETTINGS, extra=[made])
    with pytest.raises(PluginError, match="hook provide_driver: raised ZeroDivisionError"):
        loaded.provide_driver("boom", SETTINGS, extra=[made])


ENDPOINTS = """
SCHEMES = ("seven", "eight")
@hookimpl
def provide_endpoints(where, options):
    if where.startswith("bad:"): raise errors.InvalidURI(where, "no")
    if where.startswith("boom:"): raise KeyError(where)
    if where.startswith("odd:"): return "mqtt://a"
    if where.startswith("odder:"): return [endpoint.parse_uri("mqtt://a")]
    if where.startswith("empty:"): return []
    if where.startswith("seven:"):
        return [endpoint.Group((endpoint.parse_uri(options["to"]),))]
"""


def test_provide_endpoints(site: Site) -> None:
    """The owner of a scheme gets its own options; our errors pass unchanged, others and wrong answers are its fault."""
    site.install("owner", ENDPOINTS)
    site.install("alpha", "@hookimpl\ndef provide_endpoints(where): return 1 if where == 'seven:x' else None")
    loaded = site.load()
    assert loaded.known_schemes() == ("eight", "seven")
    found = loaded.provide_endpoints("SEVEN:y", {"owner": {"to": "mqtt://b"}, "alpha": {"to": "mqtt://no"}})
    assert found is None  # the plugin compares case-sensitively, and nobody else owns it
    found = loaded.provide_endpoints("seven:x", {"owner": {"to": "mqtt://b"}})
    assert found is not None
    groups, owner = found
    assert (groups[0].endpoints, owner) == ((B,), "owner")
    with pytest.raises(InvalidURI):
        loaded.provide_endpoints("bad:x", {})
    for scheme, why in (("boom", "KeyError"), ("odd", "answered str"), ("odder", "Endpoint"), ("empty", "no group")):
        with pytest.raises(PluginError, match=why) as caught:
            loaded.provide_endpoints(f"{scheme}:x", {})
        assert (caught.value.plugin, caught.value.distribution) == ("owner", "switchgear-owner")


def test_register_commands_is_isolated(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that fails to add its commands is logged, and the commands of the others are there."""
    site.install("a", "@hookimpl\ndef register_commands(app): raise RuntimeError('no')")
    site.install("b", "@hookimpl\ndef register_commands(app): app.command('fine')(lambda: None)")
    app = typer.Typer()
    site.load().register_commands(app)
    assert [command.name for command in app.registered_commands] == ["fine"]
    [record] = [r for r in caplog.records if r.message == "switchgear.plugin_failed"]
    facts = vars(record)
    assert (facts["plugin"], facts["hook"], facts["why"]) == ("a", "register_commands", "raised RuntimeError: no")


def test_coroutine_answers_are_closed(site: Site) -> None:
    """A coroutine as an answer of provide_endpoints is a plugin error, and nothing warns that it was never awaited."""
    site.install("a", "async def later(): pass\n@hookimpl\ndef provide_endpoints(where): return later()")
    with pytest.raises(PluginError, match="hooks are synchronous"):
        site.load().provide_endpoints("seven:x", {})
    gc.collect()
