from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from switchgear import default_strategy
from switchgear.cause import Cause, Failure
from switchgear.endpoint import Endpoint, Group, parse_uri
from switchgear.hook_runner import HookRunner, InlineRunner
from switchgear.hookspecs import Context, Delay, GiveUp, Move, Proceed, Recheck, Restart, Verdict, hookimpl
from switchgear.plugins import Registry, Strategies
from switchgear.report import Event
from switchgear.strategies import REPEAT

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = parse_uri("mqtt://a"), parse_uri("mqtt://b")
CONTEXT = Context(
    now=1.0,
    candidates=(A, B),
    health={},
    endpoint=None,
    attempt=1,
    sweep=1,
    outage=0.0,
    failure=None,
    generation=1,
)


def test_cause_of_a_context() -> None:
    """A hook finds the cause of the last ending without a look into the failure, and None before the first."""
    assert CONTEXT.cause is None
    assert attrs.evolve(CONTEXT, failure=Failure(Cause.PORT_REFUSED)).cause is Cause.PORT_REFUSED


def plugin_of(**hooks: Callable[..., object]) -> object:
    """An object with these hooks, each taking what its function takes."""
    return type("Made", (), {name: staticmethod(hookimpl(function)) for name, function in hooks.items()})()


def make(*plugins: object, **more: Any) -> tuple[Strategies, list[tuple[str, str, str]]]:
    """Strategies of *plugins* without threads, and the problems that they report."""
    problems: list[tuple[str, str, str]] = []
    report = more.pop("on_problem", lambda *problem: problems.append(problem))
    runner = more.pop("runner", None) or InlineRunner()
    return Registry.load(entry_points=[]).strategies(plugins, on_problem=report, runner=runner, **more), problems


def test_select_first_valid_answer_wins() -> None:
    """None, exceptions and nonsense are passed over, the latter two reported; the first valid answer wins."""
    foreign = parse_uri("mqtt://user:secret@elsewhere")
    answers: list[Callable[[], object]] = [lambda: None, lambda: 1 / 0, lambda: foreign, lambda: False, lambda: B]
    plugins = [plugin_of(select_endpoint=answer) for answer in answers]
    strategies, problems = make(*plugins)
    assert asyncio.run(strategies.select_endpoint(CONTEXT)) == (B, "Made-5")
    assert problems == [
        ("Made-2", "select_endpoint", "raised ZeroDivisionError: division by zero"),
        ("Made-3", "select_endpoint", "answered mqtt://elsewhere:1883, which is none of the candidates"),
        ("Made-4", "select_endpoint", "answered bool, not an endpoint"),
    ]
    assert strategies.problems == {"Made-2": 1, "Made-3": 1, "Made-4": 1}


def test_select_may_give_another_address() -> None:
    """A candidate with another address is taken, with what the list knows of it; another host is not."""
    strategies, problems = make(plugin_of(select_endpoint=lambda: attrs.evolve(B, address="west.example")))
    there = attrs.evolve(B, address="west.example")
    assert asyncio.run(strategies.select_endpoint(CONTEXT)) == (there, "Made")
    assert problems == []


def test_notes_are_kept_for_each_plugin() -> None:
    """What a plugin notes is there at its next call, whatever the hook; another plugin has notes of its own."""

    def select(context: Context) -> None:
        seen.append(dict(context.notes))
        context.notes["number"] = len(seen)

    def verdict(context: Context) -> None:
        seen.append(dict(context.notes))

    seen: list[dict[str, object]] = []
    strategies, _ = make(
        plugin_of(select_endpoint=select, before_reconnect=verdict), plugin_of(before_reconnect=verdict)
    )
    asyncio.run(strategies.select_endpoint(CONTEXT))
    asyncio.run(strategies.before_reconnect(CONTEXT))
    assert seen == [{}, {"number": 1}, {}]


def test_while_connected_asks_again_after_a_failure() -> None:
    """Recheck, Move and None come back as they are; a call that raised, or answered nonsense, is to be made again."""
    answers: list[Callable[[], object]] = [
        lambda: Recheck(7),
        lambda: Move("west"),
        lambda: None,
        lambda: 1 / 0,
        lambda: [0],
    ]
    strategies, problems = make(*(plugin_of(while_connected=answer) for answer in answers))
    names = [f"Made-{n}" if n > 1 else "Made" for n in range(1, 6)]
    assert strategies.watchers() == names
    given = [asyncio.run(strategies.while_connected(name, CONTEXT)) for name in names]
    again = Recheck(REPEAT, "the last call failed")
    assert given == [Recheck(7), Move("west"), None, again, again]
    assert [why for _, _, why in problems] == [
        "raised ZeroDivisionError: division by zero",
        "answered list, not Recheck, Move or None",
    ]


def test_default_strategy_decides_alone_without_threads() -> None:
    """With no opinion from others the default takes the first candidate and proceeds, without any thread."""
    strategies, _ = make(runner=HookRunner())
    before = threading.active_count()
    assert asyncio.run(strategies.select_endpoint(CONTEXT)) == (A, "default_strategy")
    assert asyncio.run(strategies.before_reconnect(CONTEXT)) == (Proceed(), "default_strategy")
    assert threading.active_count() == before
    assert default_strategy.select_endpoint(attrs.evolve(CONTEXT, candidates=())) is None


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        ([None], (Proceed(), "default_strategy")),
        ([Proceed()], (Proceed(), "Made")),
        ([Delay(1), Delay(5), Delay(2)], (Delay(5), "Made-2")),
        ([Delay(90), Recheck(1), Recheck(1, "x")], (Recheck(1), "Made-2")),
        ([Recheck(9), Restart()], (Restart(), "Made-2")),
        ([Proceed("x"), Proceed("y", ask_again=5), Proceed(starts_afresh=True)], (Proceed("y", ask_again=5), "Made-2")),
        ([GiveUp("a"), Restart(), GiveUp("b")], (GiveUp("a"), "Made")),
        ([True, Verdict(), Delay(1)], (Delay(1), "Made-3")),
    ],
)
def test_strictest_verdict_wins(answers: list[object], winner: tuple[Verdict, str]) -> None:
    """The strictest of all verdicts wins, the longest and then the first of equals; no verdict is a problem."""
    strategies, problems = make(*(plugin_of(before_reconnect=lambda a=a: a) for a in answers))
    assert asyncio.run(strategies.before_reconnect(CONTEXT)) == winner
    kinds = [type(a).__name__ for a in answers if a is not None and type(a) in {bool, Verdict}]
    assert [why for _, _, why in problems] == [f"answered {kind}, not a verdict" for kind in kinds]


def test_each_plugin_gets_its_own_options() -> None:
    """A hook sees the options of its plugin only, and takes only the parameters that it names."""
    seen: list[object] = []
    note = plugin_of(on_connected=lambda context: seen.append(context.options), on_disconnect=lambda: seen.append("-"))
    other = plugin_of(on_connected=lambda context: seen.append(context.options))
    strategies, problems = make(note, other, options={"Made": {"a": 1}})
    assert [strategies.has(hook) for hook in ("on_connected", "on_event", "select_endpoint")] == [True, False, False]

    async def main() -> None:
        strategies.on_connected(CONTEXT)
        strategies.on_disconnect(CONTEXT)
        await strategies.close(1)
        strategies.on_disconnect(CONTEXT)

    asyncio.run(main())
    assert seen == [{"a": 1}, {}, "-"]
    assert problems == []


def test_repeated_problem_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The same problem, but for numbers in it, is told and warned of once in ten seconds; every time counts."""
    serial = itertools.count()

    def fail(context: Context) -> None:
        raise ValueError(f"number {next(serial)}")

    strategies, problems = make(plugin_of(select_endpoint=fail))
    for _ in range(3):
        assert asyncio.run(strategies.select_endpoint(CONTEXT)) == (A, "default_strategy")
    assert problems == [("Made", "select_endpoint", "raised ValueError: number 0")]
    assert strategies.problems == {"Made": 3}
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING and "plugin" in vars(r)]
    assert (record.message, vars(record)["hook"]) == ("switchgear.plugin_failed", "select_endpoint")


def test_failing_listeners_do_not_chase_each_other() -> None:
    """Two plugins that raise on every event, when problems are events themselves, end after one report each."""
    names = iter("abcdefghij")

    def fail(event: Event) -> None:
        raise ValueError(next(names))

    told: list[str] = []

    def on_problem(plugin: str, hook: str, why: str) -> None:
        told.append(plugin)
        strategies.on_event(Event("plugin_failed", 0.0, {"plugin": plugin, "hook": hook, "why": why}))

    strategies, _ = make(plugin_of(on_event=fail), plugin_of(on_event=fail), on_problem=on_problem)
    strategies.on_event(Event("stopped", 0.0))
    assert sorted(told) == ["Made", "Made-2"]


def test_plugin_does_not_hear_of_its_own_failures() -> None:
    """The event plugin_failed goes to every plugin but the one that it is about."""
    heard: list[str] = []
    strategies, _ = make(plugin_of(on_event=lambda: heard.append("1")), plugin_of(on_event=lambda: heard.append("2")))
    strategies.on_event(Event("plugin_failed", 0.0, {"plugin": "Made", "hook": "on_event", "why": "?"}))
    assert heard == ["2"]


def test_hanging_plugin_leaves_the_decision_to_the_next() -> None:
    """A plugin that hangs costs its answer, with a problem; the next one is asked."""
    release = threading.Event()
    slow = plugin_of(select_endpoint=lambda: release.wait(20), before_reconnect=lambda: release.wait(20))
    runner = HookRunner(idle=0.02)
    strategies, problems = make(slow, runner=runner, hook_timeout=0.02)
    try:
        assert asyncio.run(strategies.select_endpoint(CONTEXT)) == (A, "default_strategy")
        assert asyncio.run(strategies.before_reconnect(CONTEXT)) == (Proceed(), "default_strategy")
    finally:
        release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("switchgear-hook-"):
            thread.join(20)
    assert problems[0][:2] == ("Made", "select_endpoint")


def test_trace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """SWITCHGEAR_TRACE=1 prints one line for each call, with plugin, answer and time, and no password."""
    secret: Endpoint = parse_uri("mqtt://user:hunter2@b")
    monkeypatch.setenv("SWITCHGEAR_TRACE", "1")
    strategies, _ = make(plugin_of(select_endpoint=lambda: secret, before_reconnect=lambda: 1 / 0))
    context = attrs.evolve(CONTEXT, candidates=(A, secret))
    asyncio.run(strategies.select_endpoint(context))
    asyncio.run(strategies.before_reconnect(context))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("(")[0] for line in lines if "Made" in line] == [
        "switchgear: Made.select_endpoint -> Endpoint",
        "switchgear: Made.before_reconnect raised ZeroDivisionError: division by zero ",
    ]
    assert all(line.endswith(" ms)") for line in lines)
    assert "hunter2" not in "".join(lines)


def test_dynamic_endpoints_never_raise() -> None:
    """Asking the owner of a dynamic list again gives its groups, or None with a problem."""

    def provide(where: str, options: dict[str, str]) -> object:
        answers = {"right": [Group((parse_uri(options["to"]),))], "other": None, "odd": "mqtt://a", "empty": []}
        return answers[where]

    strategies, problems = make(plugin_of(provide_endpoints=provide), options={"Made": {"to": "mqtt://b"}})
    groups = asyncio.run(strategies.provide_endpoints("Made", "right"))
    assert [e for group in groups or [] for e in group.endpoints] == [B]
    for where in ("other", "boom", "odd", "empty"):
        assert asyncio.run(strategies.provide_endpoints("Made", where)) is None
    assert [why for _, _, why in problems] == [
        "raised KeyError: 'boom'",
        "answered str, not a list of groups",
        "answered list, not a list of groups",
    ]
    assert asyncio.run(strategies.provide_endpoints("gone", "right")) is None
