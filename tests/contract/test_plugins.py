"""Every plugin of this repository passes the contract of plugins; and plugins that break it are found out."""

from __future__ import annotations

import asyncio
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from switchgear import default_strategy
from switchgear.endpoint import Group, parse_uri
from switchgear.errors import InvalidOption, InvalidURI
from switchgear.hookspecs import Context, GiveUp, Recheck, hookimpl
from switchgear.testing.plugin_contract import Caller, PluginContract

if TYPE_CHECKING:
    from collections.abc import Callable


class TestActiveMQ(PluginContract):
    """The plugin of ``failover:`` URIs."""

    plugin = "activemq"
    uris = (
        "failover:(tcp://b-1.example.com:1883,tcp://b-2.example.com:1883)?maxReconnectAttempts=20",
        "failover:(ssl://b-3.example.com:8883)?randomize=false",
    )


class TestAwscrt(PluginContract):
    """The driver on AWS's SDK."""

    plugin = "awscrt"


class TestDefaultStrategy(PluginContract):
    """The built-in strategy, by its name."""

    plugin = "default_strategy"


class TestDefaultStrategyAsModule(PluginContract):
    """The built-in strategy, as third parties give theirs while they develop."""

    plugin = default_strategy


class TestPaho(PluginContract):
    """The built-in driver."""

    plugin = "paho"


class TestSdkRestart(PluginContract):
    """The last resort for a wedged SDK, with its defaults."""

    plugin = "sdk_restart"


class TestSdkRestartThatEscalates(PluginContract):
    """The same, where it replaces the process."""

    plugin = "sdk_restart"
    options = MappingProxyType({"escalate_to": "exit", "rebuilds": 0, "budget": 100, "causes": ["DRIVER_SILENT"]})


def made(schemes: tuple[str, ...] = (), drivers: tuple[str, ...] = (), **hooks: Callable[..., object]) -> object:
    """An object with these hooks, which lists these schemes and drivers."""
    parts: dict[str, Any] = {name: staticmethod(hookimpl(function)) for name, function in hooks.items()}
    return type("Made", (), parts | {"SCHEMES": schemes, "DRIVERS": drivers})()


def contract(plugin: object, **more: Any) -> PluginContract:
    """The contract for *plugin*."""
    suite: type[PluginContract] = type("TestMade", (PluginContract,), {"plugin": plugin, "hook_timeout": 30.0} | more)
    return suite()


async def later() -> None:
    """No hook."""


def change(mapping: Any) -> None:
    mapping["changed"] = 1


def misspelt(evnt: object) -> None:
    """A hook with a parameter that does not exist."""


def know_all_fields(context: Any) -> None:
    """As if a context never grew."""
    fields = {name: getattr(context, name) for name in attrs.fields_dict(type(context))}
    Context(**fields)


def group_of(where: str) -> list[Group] | None:
    """The group behind a URI of the scheme ``seven``."""
    if not where.lower().startswith("seven:"):
        return None
    return [Group((parse_uri("mqtt://a"),), name="seven")]


def careless(where: str) -> object:
    """As `group_of`, with an error that tells the password."""
    if where.startswith("seven:("):
        raise InvalidURI("mqtt://a", where)
    return group_of(where)


def nameless_help(app: Any) -> None:
    app.command("mine")(lambda: None)


HANGING = threading.Event()

BROKEN: dict[str, tuple[object, str, str]] = {
    # what is wrong: the plugin, the test that finds it, what that says
    "async": (made(on_event=later), "test_it_loads", "hooks are synchronous"),
    "parameter": (made(on_event=misspelt), "test_it_loads", "evnt"),
    "not installed": ("no-such-plugin", "test_it_loads", "not installed"),
    "unlisted scheme": (made(provide_endpoints=group_of), "test_what_it_provides_is_listed", "SCHEMES"),
    "listed scheme": (made(schemes=("x",), on_event=lambda: None), "test_what_it_provides_is_listed", "SCHEMES"),
    "core's scheme": (made(schemes=("mqtt",), provide_endpoints=group_of), "test_what_it_provides_is_listed", "mqtt"),
    "takes any option": (
        made(check_options=lambda: None),
        "test_wrong_options_are_refused",
        "takes the option no_such_option",
    ),
    "foreign endpoint": (
        made(select_endpoint=lambda: parse_uri("mqtt://elsewhere")),
        "test_answers_are_legal",
        "select_endpoint answered",
    ),
    "no verdict": (made(before_reconnect=lambda: True), "test_answers_are_legal", "answered True"),
    "no move": (made(while_connected=lambda: True), "test_answers_are_legal", "while_connected answered True"),
    "coroutine": (made(before_reconnect=lambda: later()), "test_answers_are_legal", "synchronous"),  # noqa: PLW0108 - the call is what is tested
    "raises": (made(select_endpoint=lambda context: context.failure.cause), "test_answers_are_legal", "raised"),
    "hangs": (
        made(select_endpoint=lambda: HANGING.wait(60) and None),
        "test_answers_are_legal",
        "not returned within 0.5 s",
    ),
    "raises in a report": (made(on_disconnect=lambda: 1 / 0), "test_reports_are_heard", "ZeroDivision"),
    "knows its events": (
        made(on_event=lambda event: {"connected": 1}[event.name]),
        "test_events_are_heard",
        "raised KeyError",
    ),
    "changes facts": (made(on_event=lambda event: change(event.facts)), "test_events_are_heard", "changed the facts"),
    "counts the fields": (
        made(on_connected=know_all_fields),
        "test_unknown_fields_do_no_harm",
        "raised",
    ),
    "changes options": (made(on_connected=lambda context: change(context.options)), "test_nothing_is_changed", "opt"),
    "changes health": (made(on_connected=lambda context: change(context.health)), "test_nothing_is_changed", "health"),
    "problem beside": (
        made(select_endpoint=lambda: 5),
        "test_it_works_beside_the_default_strategy",
        "answered int, not an endpoint",
    ),
    "owns everything": (
        made(schemes=("seven",), provide_endpoints=lambda: group_of("seven:")),
        "test_foreign_uris_are_left_alone",
        "not its own",
    ),
    "no URIs": (made(schemes=("seven",), provide_endpoints=group_of), "test_own_uris_become_named_groups", "set `uris"),
    "tells passwords": (
        made(schemes=("seven",), provide_endpoints=careless),
        "test_wrong_uris_are_refused_with_reasons",
        "squeamish",
    ),
    "none for its own": (
        made(schemes=("seven",), provide_endpoints=lambda: None),
        "test_wrong_uris_are_refused_with_reasons",
        "unknown scheme",
    ),
    "provides everything": (made(drivers=("x",), provide_driver=lambda: 1), "test_drivers_are_drivers", "1 is None"),
    "adds nothing": (made(register_commands=lambda: None), "test_commands_are_added", "it adds no command"),
    "no help": (made(register_commands=nameless_help), "test_commands_are_added", "mine has no help"),
    "gives up": (made(before_reconnect=lambda: GiveUp("I am tired")), "test_an_outage_ends_connected", "tired"),
    "never goes on": (
        made(before_reconnect=lambda: Recheck(3600)),
        "test_an_outage_ends_connected",
        "asking the plugins again",
    ),
    "fails in an outage": (made(on_event=lambda: 1 / 0), "test_an_outage_ends_connected", "it caused problems"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_found_out(case: str) -> None:
    """The test of the contract that is meant for it fails, and its message says what is wrong."""
    plugin, name, message = BROKEN[case]
    if name == "test_an_outage_ends_connected":
        name += "_and_nothing_is_lost"
    if name == "test_wrong_options_are_refused":
        name += "_before_anything_starts"
    HANGING.clear()
    with pytest.raises(BaseException, match=message) as caught:
        getattr(contract(plugin, **({"hook_timeout": 0.5} if case == "hangs" else {})), name)()
    HANGING.set()
    assert not isinstance(caught.value, pytest.skip.Exception | KeyboardInterrupt)


def test_two_groups_of_one_name_are_found_out() -> None:
    """A plugin that gives every group one name does not go together with itself."""
    broken = contract(made(schemes=("seven",), provide_endpoints=group_of), uris=("seven:a", "seven:b"))
    with pytest.raises(InvalidOption, match="two groups have the name 'seven'"):
        broken.test_own_uris_become_named_groups()


def test_a_strategy_that_fails_for_its_own_uri_is_found_out() -> None:
    """Some contexts are of a transport to the plugin's own URI; without them its `while_connected` was never tried."""

    def watch(context: Context) -> Recheck | None:
        if context.profile is not None and context.profile.where == ("seven:a",):
            raise OSError("the list is away")
        return None

    broken = contract(made(schemes=("seven",), provide_endpoints=group_of, while_connected=watch), uris=("seven:a",))
    with pytest.raises(BaseException, match="the list is away"):
        broken.test_answers_are_legal()


def test_hooks_may_use_a_loop_of_their_own() -> None:
    """A hook that runs a coroutine of its own passes: it has a thread without a loop, as in production."""

    def ask_a_server() -> None:
        asyncio.run(later())

    fine = contract(made(before_reconnect=ask_a_server, on_event=lambda event: f"{event}"))
    fine.test_answers_are_legal()
    fine.test_events_are_heard()
    fine.test_an_outage_ends_connected_and_nothing_is_lost()
    with Caller(30) as caller:
        assert caller.run("x", ask_a_server) == (None, None)
