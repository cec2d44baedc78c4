"""What every plugin must do, as tests: subclass `PluginContract` in a test module, and pytest runs them.

    class TestMine(PluginContract):
        plugin = "mine"

``plugin`` is the name of its entry point, where its distribution is installed, or the module or object itself. The
hooks are called as Switchgear calls them: on a thread of their own, each bounded, with values as real outages have them,
and with more than they know. At last two transports with the plugin live through an outage, on virtual time.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
import queue
import random
import re
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import pytest
from attrs import define, evolve, frozen

from switchgear.cause import Cause, Failure
from switchgear.drivers.base import DriverSettings
from switchgear.endpoint import SCHEMES, Endpoint, Group, parse_uri
from switchgear.errors import ConfigurationError, ConnectionFailed, PluginError, UnknownPlugin
from switchgear.health import EndpointHealth
from switchgear.hook_line import InlineLine, run_call
from switchgear.hookspecs import Context, Move, Recheck
from switchgear.plan import make_plan
from switchgear.plugins import Registry, registry
from switchgear.profile import Profile
from switchgear.report import WORDS, Event
from switchgear.states import State
from switchgear.strategies import STRICTNESS
from switchgear.testing.broker import Broker, Ledger
from switchgear.testing.clock import run_virtual
from switchgear.testing.network import MemoryNetwork
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from switchgear.hook_line import Line, Report
    from switchgear.loaded_plugin import LoadedPlugin

Outcome: TypeAlias = tuple[object, BaseException | None]
"""What a hook answered, and what it raised."""

REPORTS: Final = ("on_connected", "on_disconnect")
QUESTIONS: Final = ("select_endpoint", "before_reconnect", "while_connected")

FOREIGN: Final = ("mqtt://a", "SSL://a:1", "foreign-scheme://a", "foreign-scheme:(mqtt://a)", "no scheme", "", ":", "(")
"""What no plugin owns: schemes of the core and of nobody, and what is no URI."""

PASSWORD: Final = "squeamish"  # noqa: S105 - made up, and looked for in what plugins say

AWAY: Final = 60.0
"""Seconds for which all brokers are away in the outage of the contract."""

LONGEST: Final = 24 * 3600.0
"""Virtual seconds after which the outage must be over. A plugin may well hold transports back for hours."""


@frozen(kw_only=True)
class FutureContext(Context):
    """A `Context` as a later version may have it: it grows, and signatures do not."""

    colour: str = "unheard of"


@frozen
class FutureEvent(Event):
    """An `Event` that this version does not have."""

    def __str__(self) -> str:
        return "something happened that nobody knew"


class PluginContract:
    """The tests, for one plugin. Since: 0.1.

    Attributes:
        plugin: Name of its entry point, or the module or object.
        options: The plugin's options, for every call and for the outage.
        uris: URIs of the schemes that it owns, at least one for each; two show that they go together.
        hook_timeout: Seconds that each call may take, as the transport's option of that name.
    """

    plugin: Any
    options: Mapping[str, object] = MappingProxyType({})
    uris: Sequence[str] = ()
    hook_timeout: float = 5.0

    # What it is. -------------------------------------------------------------------------------------------------

    def test_it_loads(self) -> None:
        """The plugin loads: its hooks have known names and parameters, and are plain functions."""
        loaded = self.loaded
        assert loaded.hooks != ()
        if isinstance(self.plugin, str):
            assert loaded.name == self.plugin
            assert loaded.distribution, "its entry point belongs to no distribution"

    def test_what_it_provides_is_listed(self) -> None:
        """A plugin with drivers or schemes lists their names in DRIVERS or SCHEMES, and none of the core's own."""
        loaded = self.loaded
        for hook, attribute in (("provide_driver", "DRIVERS"), ("provide_endpoints", "SCHEMES")):
            names = loaded.lists(attribute)
            assert bool(names) == (hook in loaded.hooks), f"{attribute} and the hook {hook} belong together"
            assert len(set(names)) == len(names)
        schemes = loaded.lists("SCHEMES")
        assert [scheme for scheme in schemes if scheme in SCHEMES or scheme != scheme.lower()] == []

    # Strategy hooks, one call at a time. ---------------------------------------------------------------------------

    def test_answers_are_legal(self) -> None:
        """Whatever the outage is like, the answer is None or what the hook may answer, and in time."""
        hooks = self.need(*QUESTIONS)
        with Caller(self.hook_timeout) as caller:
            for hook, context in itertools.product(hooks, self.contexts()):
                answer = caller.call(self.loaded, hook, context=context)
                legal = answer is None
                if hook == "select_endpoint" and isinstance(answer, Endpoint):
                    legal = any(evolve(e, address=answer.address) == answer for e in context.candidates)
                elif hook != "select_endpoint":
                    legal = legal or isinstance(answer, STRICTNESS if hook == "before_reconnect" else (Recheck, Move))
                assert legal, f"{hook} answered {answer!r} to {context}"

    def test_reports_are_heard(self) -> None:
        """A report of any ending and any connection is taken without an error, and in time."""
        hooks = self.need(*REPORTS)
        with Caller(self.hook_timeout) as caller:
            for hook, context, flag in itertools.product(hooks, self.contexts(), (False, True)):
                told = evolve(context, was_connected=flag, session_present=flag)
                caller.call(self.loaded, hook, context=told)

    def test_events_are_heard(self) -> None:
        """Every event is taken without an error, in time: with all its facts, with unknown ones, and an unknown event."""
        self.need("on_event")
        rng = random.Random(0)
        with Caller(self.hook_timeout) as caller:
            for name in WORDS:
                for facts in (_facts(name, rng), _facts(name, rng) | {"colour": "unheard of"}):
                    event = Event(name, rng.choice((0.0, 1000.5, 1e9)), facts)
                    before = copy.deepcopy(facts)
                    caller.call(self.loaded, "on_event", event=event)
                    assert event.facts == before, "on_event changed the facts of an event"
            caller.call(self.loaded, "on_event", event=FutureEvent("something_new", 1.0, {"colour": "unheard of"}))

    def test_unknown_fields_do_no_harm(self) -> None:
        """A context with fields that a later version may add is handled as any other."""
        hooks = self.need(*QUESTIONS, *REPORTS)
        with Caller(self.hook_timeout) as caller:
            for hook, context in itertools.product(hooks, self.contexts(FutureContext)):
                caller.call(self.loaded, hook, context=context)

    def test_nothing_is_changed(self) -> None:
        """What a hook was given is the same after it: other plugins get the same values."""
        hooks = self.need(*QUESTIONS, *REPORTS)
        with Caller(self.hook_timeout) as caller:
            for hook, context in itertools.product(hooks, self.contexts()):
                health, options = dict(context.health), copy.deepcopy(dict(context.options))
                caller.call(self.loaded, hook, context=context)
                assert context.health == health, f"{hook} changed context.health"
                assert context.options == options, f"{hook} changed context.options"

    def test_it_works_beside_the_default_strategy(self) -> None:
        """With the default strategy behind it every question has an answer, and the plugin causes no problem."""
        problems: list[tuple[str, str, str]] = []
        with Caller(self.hook_timeout) as caller:
            strategies = self.registry.strategies(
                [self.plugin],
                hook_timeout=self.hook_timeout,
                on_problem=lambda *problem: problems.append(problem),
                runner=StrictRunner(caller),
                options={self.loaded.name: self.options},
            )
            assert strategies.plugins[-1].name == "default_strategy"

            async def ask() -> None:
                for context in self.contexts():
                    endpoint, _ = await strategies.select_endpoint(context)
                    assert endpoint is not None
                    verdict, _ = await strategies.before_reconnect(context)
                    assert isinstance(verdict, STRICTNESS)
                    for watcher in strategies.watchers():
                        await strategies.while_connected(watcher, context)
                await strategies.close(1)

            asyncio.run(ask())
        assert problems == []

    def test_wrong_options_are_refused_before_anything_starts(self) -> None:
        """Its own options are accepted; one that nobody knows is a configuration error that names it."""
        self.need("check_options")
        with Caller(self.hook_timeout) as caller:
            for good in ({}, self.options):
                caller.call(self.loaded, "check_options", options=good)
            wrong = {**self.options, "no_such_option": 1}
            _, error = caller.outcome(self.loaded, "check_options", options=wrong)
            assert isinstance(error, ConfigurationError), f"it takes the option no_such_option: {error!r}"
            assert "no_such_option" in str(error)

    # The other hooks. ----------------------------------------------------------------------------------------------

    def test_foreign_uris_are_left_alone(self) -> None:
        """A URI of a scheme that is not the plugin's, or no URI at all, gets None and no error."""
        self.need("provide_endpoints")
        with Caller(self.hook_timeout) as caller:
            for where, options in itertools.product(FOREIGN, ({}, self.options)):
                answer = caller.call(self.loaded, "provide_endpoints", where=where, options=options)
                assert answer is None, f"{where!r} is not its own"

    def test_own_uris_become_named_groups(self) -> None:
        """Each URI of the plugin's schemes, however its scheme is spelt, becomes groups; all together have names."""
        self.need("provide_endpoints")
        missing = {s for s in self.loaded.lists("SCHEMES") if not any(u.startswith(f"{s}:") for u in self.uris)}
        assert not missing, f"set `uris` in {type(self).__name__}: one for each of {', '.join(sorted(missing))}"
        with Caller(self.hook_timeout) as caller:
            for uri in self.uris:
                scheme, _, rest = uri.partition(":")
                for where in (uri, f"{scheme.upper()}:{rest}"):
                    groups = caller.call(self.loaded, "provide_endpoints", where=where, options=self.options)
                    assert isinstance(groups, list | tuple)
                    assert groups, "a list of no groups; None says that a URI is not yours"
                    assert all(isinstance(group, Group) for group in groups)
        profile = Profile(
            list(self.uris),
            client_id="press-7",
            plugins=[] if isinstance(self.plugin, str) else [self.plugin],
            plugin_options={self.loaded.name: self.options},
        )
        plan = make_plan(profile, self.registry)
        names = {group.name for group in plan.groups}
        assert "" not in names
        assert {endpoint.group for endpoint in plan.endpoints} == names

    def test_wrong_uris_are_refused_with_reasons(self) -> None:
        """A wrong URI of its own scheme gets groups or a configuration error, which never shows a password."""
        self.need("provide_endpoints")
        with Caller(self.hook_timeout) as caller:
            for scheme, rest in itertools.product(
                self.loaded.lists("SCHEMES"),
                ("", "//", "((", "//a:99999999", "()", f"//u:{PASSWORD}@", f"(mqtt://u:{PASSWORD}@a b:x)", "//a?b=c&b"),
            ):
                where = f"{scheme}:{rest}"
                answer, error = caller.outcome(self.loaded, "provide_endpoints", where=where, options=self.options)
                if error is None:
                    assert answer is not None, f"{where!r} is its own; None makes it an unknown scheme"
                else:
                    assert isinstance(error, ConfigurationError), f"{where!r}: {error!r}"
                    said = f"{error} {error!r}"
                    assert PASSWORD not in said, f"the password of {where!r} is in its error: {said}"

    def test_drivers_are_drivers(self) -> None:
        """A driver of a name in DRIVERS has what a driver must have; for any other name the answer is None."""
        self.need("provide_driver")
        settings = DriverSettings(client_id="press-7", protocol="3.1.1", keepalive=30, connect_timeout=5.0)
        with Caller(self.hook_timeout) as caller:
            for name in ("no-such-driver", "", *(n.upper() + "-" for n in self.loaded.lists("DRIVERS"))):
                assert (
                    caller.call(self.loaded, "provide_driver", name=name, settings=settings, options=self.options)
                    is None
                )
            for name in self.loaded.lists("DRIVERS"):
                driver = self.registry.provide_driver(name, settings, extra=self.extra)
                assert driver.name == name
                assert driver.features.protocols <= {"3.1.1", "5"}
                driver.close()

    def test_commands_are_added(self) -> None:
        """The sub-commands that it adds can be asked for help, and each says what it does."""
        self.need("register_commands")
        import typer
        from typer.testing import CliRunner

        app = typer.Typer()
        app.command("first")(lambda: None)
        app.command("second")(lambda: None)
        before = len(app.registered_commands) + len(app.registered_groups)
        self.loaded.call("register_commands", app=app)
        assert len(app.registered_commands) + len(app.registered_groups) > before, "it adds no command"
        ended = CliRunner().invoke(app, ["--help"])
        assert ended.exit_code == 0, ended.output
        command = typer.main.get_command(app)
        for name, added in getattr(command, "commands", {}).items():
            assert name in {"first", "second"} or added.help, f"{name} has no help"

    # A whole outage. -------------------------------------------------------------------------------------------------

    def test_an_outage_ends_connected_and_nothing_is_lost(self) -> None:
        """Two transports with the plugin come back after each loss, and the brokers have every message."""
        with Caller(self.hook_timeout) as caller:
            run_virtual(self._live_through_it(StrictRunner(caller)))

    async def _live_through_it(self, runner: StrictRunner) -> None:
        ledger = Ledger()
        brokers = [Broker(name=name, ledger=ledger) for name in ("b-1", "b-2")]
        network = MemoryNetwork({f"{broker.name}.example.com:1883": broker for broker in brokers})
        transports = [
            AsyncTransport(
                Profile(
                    [f"mqtt://{broker.name}.example.com" for broker in brokers],
                    client_id=client_id,
                    plugins=[self.plugin],
                    plugin_options={self.loaded.name: self.options},
                    hook_timeout=self.hook_timeout,
                ),
                registry=self.registry,
                rng=random.Random(7),
                runner=runner,
                make_driver=network.make_driver,
            )
            for client_id in ("press-1", "press-2")
        ]
        numbers = itertools.count()
        sent = []
        async with transports[0], transports[1]:

            def publish(count: int = 5) -> None:
                for transport, _ in itertools.product(transports, range(count)):
                    sent.append(f"{transport.client_id} {next(numbers)}".encode())
                    transport.publish("plugin/contract", sent[-1])

            async def settle() -> None:
                for transport in transports:
                    try:
                        await transport.wait_connected(LONGEST)
                        await transport.drain(LONGEST)
                    except (TimeoutError, ConnectionFailed) as error:
                        pytest.fail(f"{error}; the last decisions were:\n{_last(transport)}")

            publish()
            await settle()
            for broker in brokers:  # the other one takes over
                publish()
                await broker.kill()
                publish()
                await settle()
                await broker.restart()
            for broker in brokers:  # nobody is there
                await broker.kill()
            publish()
            await asyncio.sleep(AWAY)
            await brokers[1].restart()
            await settle()
            brokers[1].faults.drop_after_connack(times=3)
            brokers[1].faults.refuse(3, times=2)
            network.cut("b-2.example.com:1883")
            publish()
            await settle()
            for transport in transports:
                assert (transport.state, transport.depth) == (State.CONNECTED, 0), _last(transport)
                assert transport.stats.plugin_problems == {}, f"it caused problems:\n{_last(transport)}"
        assert sorted(set(ledger.payloads())) == sorted(sent)
        for broker in brokers:
            await broker.stop()

    # What the tests use; a subclass may too. -------------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """What is installed."""
        return registry()

    @property
    def loaded(self) -> LoadedPlugin:
        """The plugin, checked as Switchgear checks it; the test fails where it does not load."""
        try:
            return self.registry.select([self.plugin])[0]
        except (UnknownPlugin, PluginError) as error:
            pytest.fail(str(error))

    @property
    def extra(self) -> list[object]:
        """The plugin, where it was given as an object."""
        return [] if isinstance(self.plugin, str) else [self.plugin]

    def need(self, *hooks: str) -> list[str]:
        """Those of *hooks* that the plugin implements; the test is skipped where there are none."""
        found = [hook for hook in hooks if hook in self.loaded.hooks]
        if not found:
            pytest.skip(f"{self.loaded.name} has no {' and no '.join(hooks)}")
        return found

    def contexts(self, kind: type[Context] = Context) -> Iterator[Context]:
        """Contexts as outages have them: each cause, one endpoint and many, a moment and a year; always the same ones."""
        rng = random.Random(0)
        lists = _lists()
        own = [registry().provide_endpoints(u, {self.loaded.name: self.options}, extra=self.extra) for u in self.uris]
        own_profiles = [Profile(uri, client_id="press-7") for uri in self.uris]
        lists += [tuple(e for group in found[0] for e in group.endpoints) for found in own if found is not None]
        for number, cause in enumerate((None, *Cause, *Cause)):
            candidates = lists[number % len(lists)]
            failure = None if cause is None else Failure(cause, "as the broker says")
            outage = rng.choice((0.0, 0.04, 1.0, 59.9, 86400.0, 3e7))
            now = rng.choice((0.0, 1000.0, 1e9))
            yield kind(
                now=now,
                candidates=candidates,
                health={e.key: _health(failure, now, rng) for e in candidates},
                endpoint=None if cause is None else rng.choice(candidates),
                attempt=rng.choice((1, 2, 100, 10**9)),
                sweep=rng.choice((1, 2, 10**9)),
                outage=outage,
                failure=failure,
                generation=rng.choice((1, 10**9)),
                outbox_depth=rng.choice((0, 1, 10**6)),
                client_id="press-7",
                profile=rng.choice((None, Profile("mqtt://a", client_id="press-7"), *own_profiles)),
                options=copy.deepcopy(dict(self.options)),
            )


class Caller:
    """Calls hooks as Switchgear does: on a thread without an event loop, where they may block, for a bounded time.

    *timeout* is in seconds, for each call. To be used in a ``with`` block.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._calls: queue.Queue[Callable[[], Outcome] | None] = queue.Queue()
        self._answers: queue.Queue[Outcome] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="plugin-contract", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._calls.put(None)
        if kind is None:  # else it may hang for ever
            self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._answers.put(call())

    def run(self, what: str, call: Callable[[], object]) -> Outcome:
        """What *call* answers, and what it raises; *what* names it."""
        self._calls.put(functools.partial(run_call, what, call))
        try:
            return self._answers.get(timeout=self.timeout)
        except queue.Empty:
            pytest.fail(f"{what} has not returned within {self.timeout:g} s")

    def outcome(self, plugin: LoadedPlugin, hook: str, **values: object) -> Outcome:
        """What the hook answers, and what it raises."""
        return self.run(f"{plugin.name}.{hook}", functools.partial(plugin.call, hook, **values))

    def call(self, plugin: LoadedPlugin, hook: str, **values: object) -> object:
        """What the hook answers; the test fails where it raises."""
        answer, error = self.outcome(plugin, hook, **values)
        if error is not None:
            raise AssertionError(f"{plugin.name}.{hook} raised {error!r} when it was given {values}") from error
        return answer


@define
class StrictRunner:
    """A runner for virtual time: each call is made on the caller's thread, and the loop stands still until it is done."""

    caller: Caller

    def line(self, plugin: str, *, timeout: float, report: Report) -> Line:  # noqa: ARG002 - the caller has its own
        """See `switchgear.hook_runner.Runner`."""
        return _StrictLine(plugin, report, caller=self.caller)


@define(eq=False, kw_only=True)
class _StrictLine(InlineLine):
    caller: Caller

    def _call(self, hook: str, call: Callable[[], object]) -> object:
        return super()._call(hook, functools.partial(self._elsewhere, hook, call))

    def _elsewhere(self, hook: str, call: Callable[[], object]) -> object:
        answer, error = self.caller.run(f"{self.plugin}.{hook}", call)
        if error is not None:
            raise error
        return answer


def _last(transport: AsyncTransport) -> str:
    """The last decisions of a transport, in words."""
    return "\n".join(transport.explain().splitlines()[-12:])


def _lists() -> list[tuple[Endpoint, ...]]:
    """Lists of endpoints: one, two, equal hosts, every kind of endpoint, many."""
    kinds = (
        "mqtt://b-1.example.com",
        "mqtts://b-2.example.com?priority=1",
        f"mqtts://user:{PASSWORD}@b-3.example.com:18883?priority=2&address=192.0.2.7",
        "wss://b-4.example.com/mqtt?connect_timeout=1",
        "mqtt://[2001:db8::1]",
        "mqtt://192.0.2.9",
    )
    every = tuple(evolve(parse_uri(uri), group=f"group{i % 2}") for i, uri in enumerate(kinds))
    many = tuple(parse_uri(f"mqtt://b-{n}.example.com?priority={n % 3}") for n in range(100))
    return [every[:1], every[:2], every, (every[0], evolve(every[0], port=1884)), many]


def _health(failure: Failure | None, now: float, rng: random.Random) -> EndpointHealth:
    """What may be remembered of an endpoint."""
    until = now + rng.choice((-1.0, 30.0, 3600.0))
    return rng.choice(
        (
            EndpointHealth(),
            EndpointHealth(last=failure, failures=1),
            EndpointHealth(last=failure, failures=10**6, penalised_until=until, quarantined_until=until),
        )
    )


def _facts(name: str, rng: random.Random) -> dict[str, object]:
    """Facts that the words of an event may need."""
    facts: dict[str, object] = {"generation": rng.choice((1, 10**9))}
    for fact in re.findall(r"{(\w+)", WORDS[name]):
        if f"{{{fact}:." in WORDS[name]:
            facts[fact] = rng.choice((0.0, 0.5, 1e7))
        elif fact in {"attempt", "sweep", "count", "flaps"}:
            facts[fact] = rng.choice((1, 10**9))
        else:
            facts[fact] = "text"
    return facts
