"""The strategy hooks of one transport: typed calls, each plugin for itself, every problem named and counted.

All methods are called on the transport's event loop; the hooks run where the runner runs them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Final

import attrs

from switchgear.endpoint import Endpoint, Group
from switchgear.hook_line import describe
from switchgear.hookspecs import Context, Delay, GiveUp, Move, Proceed, Recheck, Restart, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from switchgear.hook_line import Line
    from switchgear.hook_runner import Runner
    from switchgear.loaded_plugin import LoadedPlugin
    from switchgear.report import Event

DEFAULT: Final = "default_strategy"
"""The built-in plugin that is asked last."""

REPEAT: Final = 10.0
"""Seconds for which a problem is not reported again; it is counted all the same. One that comes back at every attempt
would fill the log of a long outage."""

STRICTNESS: Final[tuple[type[Verdict], ...]] = (Proceed, Delay, Recheck, Restart, GiveUp)

logger = logging.getLogger("switchgear.plugins")


class Strategies:
    """Calls the strategy hooks of *plugins*, in their order; the default strategy is the last of them.

    *hook_timeout* is in seconds, for each call. *on_problem* is told plugin, hook and why, on the loop, at most once
    in `REPEAT` seconds for the same three. *options* are those of each plugin, by its name. Since: 0.1.

    Attributes:
        plugins: As given.
        problems: How often each plugin failed, by its name; every time counts.
    """

    def __init__(
        self,
        plugins: Sequence[LoadedPlugin],
        *,
        hook_timeout: float,
        on_problem: Callable[[str, str, str], None],
        runner: Runner,
        options: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.plugins = tuple(plugins)
        self.problems: dict[str, int] = {}
        self._on_problem = on_problem
        self._options = options
        self._notes: dict[str, dict[str, object]] = {plugin.name: {} for plugin in self.plugins}
        self._trace = is_traced()
        self._said: dict[tuple[str, str, str], float] = {}
        self._lines: dict[str, Line] = {
            plugin.name: runner.line(
                plugin.name, timeout=hook_timeout, report=functools.partial(self._problem, plugin.name)
            )
            for plugin in self.plugins
            if not _is_default(plugin)
        }

    def has(self, hook: str) -> bool:
        """Whether a plugin besides the default strategy implements *hook*."""
        return any(hook in plugin.hooks and not _is_default(plugin) for plugin in self.plugins)

    async def select_endpoint(self, context: Context) -> tuple[Endpoint | None, str]:
        """The endpoint that the first plugin with an opinion chose, and that plugin's name; or None and ""."""
        hook = "select_endpoint"
        for plugin in self._with(hook):
            answer = await self._ask(plugin, hook, context)
            if answer is None:
                continue
            if not isinstance(answer, Endpoint):
                self._problem(plugin.name, hook, f"answered {type(answer).__name__}, not an endpoint")
            elif (chosen := _chosen(answer, context.candidates)) is None:
                self._problem(plugin.name, hook, f"answered {answer}, which is none of the candidates")
            else:
                return chosen, plugin.name
        return None, ""

    async def before_reconnect(self, context: Context) -> tuple[Verdict, str]:
        """The strictest verdict and its plugin's name; all are asked at the same time. Proceed and "": no opinions.

        Of equals, the longest `Delay` or `Recheck` wins, or the `Proceed` that says more, then the first plugin.
        """
        hook = "before_reconnect"
        plugins = self._with(hook)
        asks = (self._ask(plugin, hook, context) for plugin in plugins)
        # Most often the default strategy is alone: no tasks for it.
        answers = [await ask for ask in asks] if len(plugins) == 1 else await asyncio.gather(*asks)
        best: tuple[Verdict, str] = (Proceed(), "")
        rank = (-1, 0.0)
        for plugin, answer in zip(plugins, answers, strict=True):
            if answer is None:
                continue
            grade = next((i for i, kind in enumerate(STRICTNESS) if isinstance(answer, kind)), None)
            if grade is None or not isinstance(answer, Verdict):
                self._problem(plugin.name, hook, f"answered {type(answer).__name__}, not a verdict")
                continue
            own = (grade, _weight(answer))
            if own > rank:
                best, rank = (answer, plugin.name), own
        return best

    def watchers(self) -> list[str]:
        """Names of the plugins that want to be asked while a connection is usable."""
        return [plugin.name for plugin in self._with("while_connected")]

    async def while_connected(self, plugin: str, context: Context) -> Recheck | Move | None:
        """What *plugin* says of the present connection. A call that failed is to be made again in `REPEAT` seconds."""
        hook = "while_connected"
        owner = next(p for p in self._with(hook) if p.name == plugin)
        before = self.problems.get(plugin, 0)
        answer = await self._ask(owner, hook, context)
        if isinstance(answer, Recheck | Move):
            return answer
        if answer is not None:
            self._problem(plugin, hook, f"answered {type(answer).__name__}, not Recheck, Move or None")
        return Recheck(REPEAT, "the last call failed") if self.problems.get(plugin, 0) > before else None

    async def provide_endpoints(self, plugin: str, where: str) -> list[Group] | None:
        """The groups that *plugin*, which owns the scheme of *where*, answers now; None where it has none or failed.

        For groups that say they are dynamic: on a worker thread, bounded, never raising.
        """
        hook = "provide_endpoints"
        owner = next((p for p in self._with(hook) if p.name == plugin), None)
        if owner is None:
            return None
        call = functools.partial(owner.call, hook, where=where, options=self._options.get(plugin, {}))
        answer = await self._lines[plugin].ask(hook, self._traced(plugin, hook, call))
        if answer is None:
            return None
        if not isinstance(answer, list | tuple) or not answer or not all(isinstance(g, Group) for g in answer):
            self._problem(plugin, hook, f"answered {type(answer).__name__}, not a list of groups")
            return None
        return list(answer)

    def on_connected(self, context: Context) -> None:
        """Queue the report that a connection is usable."""
        self._tell("on_connected", context)

    def on_disconnect(self, context: Context) -> None:
        """Queue the report that a connection or an attempt ended."""
        self._tell("on_disconnect", context)

    def on_event(self, event: Event) -> None:
        """Queue *event* for every plugin; a plugin does not hear of its own failures, for that could go on for ever."""
        about = event.facts.get("plugin") if event.name == "plugin_failed" else None
        for plugin in self._with("on_event"):
            if plugin.name != about:
                call = functools.partial(plugin.call, "on_event", event=event)
                self._lines[plugin.name].tell("on_event", self._traced(plugin.name, "on_event", call))

    async def settle(self, timeout: float) -> None:
        """Wait, for *timeout* seconds at most, until the plugins have heard the events that they were told so far."""
        loop = asyncio.get_running_loop()
        heard: list[asyncio.Future[None]] = []
        for plugin in self._with("on_event"):
            future: asyncio.Future[None] = loop.create_future()
            call = functools.partial(loop.call_soon_threadsafe, _hear, future)
            self._lines[plugin.name].tell("on_event", call)
            heard.append(future)
        if heard:
            await asyncio.wait(heard, timeout=timeout)

    async def close(self, timeout: float) -> None:
        """Let the queued calls run for at most *timeout* seconds, then drop them; nothing is called afterwards."""
        await asyncio.gather(*(line.close(timeout) for line in self._lines.values()))

    def _with(self, hook: str) -> list[LoadedPlugin]:
        return [plugin for plugin in self.plugins if hook in plugin.hooks]

    def _bound(self, plugin: LoadedPlugin, hook: str, context: Context) -> Callable[[], object]:
        own = attrs.evolve(context, options=self._options.get(plugin.name, {}), notes=self._notes[plugin.name])
        return self._traced(plugin.name, hook, functools.partial(plugin.call, hook, context=own))

    def _traced(self, plugin: str, hook: str, call: Callable[[], object]) -> Callable[[], object]:
        return traced(plugin, hook, call) if self._trace else call

    async def _ask(self, plugin: LoadedPlugin, hook: str, context: Context) -> object:
        call = self._bound(plugin, hook, context)
        if _is_default(plugin):  # ours: it neither blocks nor raises, and needs no thread
            return call()
        return await self._lines[plugin.name].ask(hook, call)

    def _tell(self, hook: str, context: Context) -> None:
        for plugin in self._with(hook):
            if not _is_default(plugin):
                self._lines[plugin.name].tell(hook, self._bound(plugin, hook, context))

    def _problem(self, plugin: str, hook: str, why: str, error: BaseException | None = None) -> None:
        """Count a problem; log it and tell the transport, unless the same was said a moment ago."""
        self.problems[plugin] = self.problems.get(plugin, 0) + 1
        now = time.monotonic()
        # Numbers in the text do not make it another problem; and reports about on_event cause events themselves.
        key = (plugin, hook, "" if hook == "on_event" else re.sub(r"\d+", "0", why))
        is_new = now - self._said.get(key, -REPEAT) >= REPEAT
        level = logging.WARNING if is_new else logging.DEBUG
        extra = {"plugin": plugin, "hook": hook, "why": why}
        logger.log(level, "switchgear.plugin_failed", extra=extra, exc_info=error)
        if is_new:
            self._said = {k: at for k, at in self._said.items() if now - at < REPEAT}
            self._said[key] = now
            self._on_problem(plugin, hook, why)


def _chosen(answer: Endpoint, candidates: Sequence[Endpoint]) -> Endpoint | None:
    """The candidate that *answer* is, with the address that it gives; None when it is none of them."""
    if answer in candidates:
        return candidates[candidates.index(answer)]
    found = next((c for c in candidates if attrs.evolve(c, address=answer.address) == answer), None)
    return found if found is None else attrs.evolve(found, address=answer.address)


def _weight(verdict: Verdict) -> float:
    """By what verdicts of one kind are compared."""
    if isinstance(verdict, Delay | Recheck):
        return verdict.seconds
    return float(isinstance(verdict, Proceed) and (verdict.starts_afresh or verdict.ask_again is not None))


def _hear(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_default(plugin: LoadedPlugin) -> bool:
    return plugin.is_builtin and plugin.name == DEFAULT


def is_traced() -> bool:
    """Whether ``SWITCHGEAR_TRACE=1`` asks for a line on stderr for each call of a hook."""
    return os.environ.get("SWITCHGEAR_TRACE", "") not in {"", "0"}


def traced(plugin: str, hook: str, call: Callable[[], object]) -> Callable[[], object]:
    """*call*, which prints one line when it has ended: plugin, hook, answer, milliseconds. Secrets hide in ``repr``."""

    def run() -> object:
        result = "did not return"
        start = time.perf_counter()
        try:
            answer = call()
            result = f"-> {_shown(answer)}"
        except BaseException as error:
            result = describe(error)
            raise
        else:
            return answer
        finally:
            took = (time.perf_counter() - start) * 1000
            sys.stderr.write(f"switchgear: {plugin}.{hook} {result} ({took:.1f} ms)\n")

    return run


def _shown(answer: object) -> str:
    try:
        return " ".join(repr(answer).split())
    except Exception as error:  # safe: the text is only for people
        return f"{type(answer).__name__} whose repr {describe(error)}"
