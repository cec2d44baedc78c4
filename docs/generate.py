"""The parts of the pages that are made from the code: tables of causes, events, options, hooks, errors and the rest.

A page says where they belong::

    <!-- begin: causes -->
    <!-- end: causes -->

``python docs/generate.py`` brings the pages on disk up to date. A build does the same to the pages that it reads
(`on_page_markdown`), and a test fails where the two differ.
"""

# ruff: noqa: INP001 - a script of the documentation, in no package
from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

import attrs
import switchgear
import typer
from switchgear import TLS, GiveUpAfter, Profile, Will, aio, cause, endpoint, errors, hookspecs, report
from switchgear.drivers.base import DriverFeatures
from switchgear.loaded_plugin import HOOKS
from switchgear.narrator import LEVELS
from switchgear.profile import OutboxLimits
from switchgear.profile_file import _FOLDED, KEYS
from switchgear_iot_dns.dr import iam as dr_iam
from switchgear_iot_dns.dr import settings as dr_settings
from switchgear_iot_dns.dr.errors import EXIT_CODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DOCS: Final = Path(__file__).parent
ROOT: Final = DOCS.parent

DRIVERS: Final = json.loads((DOCS / "reference" / "drivers.json").read_text(encoding="utf-8"))
"""The drivers of this repository, with the features that their contract has seen (`tests/contract`)."""

INSIDE: Final = {"AsyncTransport": {"accept"}}
"""Methods that other parts of the package call and users do not."""

_BLOCK: Final = re.compile(r"(<!-- begin: (?P<name>[^>]+?) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)


# Small things. -------------------------------------------------------------------------------------------------------


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def words(text: str) -> str:
    """A docstring's text as Markdown: one line, code marked as Markdown marks it."""
    text = re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))
    return re.sub(r"(?<![\w*])\*(\w+)\*(?![\w*])", r"`\1`", text)


def first(thing: object) -> str:
    """The first paragraph of a docstring."""
    return words((inspect.getdoc(thing) or "").partition("\n\n")[0])


def attributes_of(thing: object) -> dict[str, str]:
    """What the section ``Attributes:`` of a docstring says of each."""
    _, _, section = (inspect.getdoc(thing) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.strip() or not line.startswith("    "):
            break
        match = re.match(r"    (\w+): (.*)", line)
        if match:
            name = match[1]
            found[name] = match[2]
        else:
            found[name] += " " + line.strip()
    return {name: words(text) for name, text in found.items()}


def code(text: str) -> str:
    """*text* as code in a table."""
    return f"`{text}`"


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def sources() -> tuple[Path, ...]:
    """The files of the core (without ``testing``) and of the other distributions of this repository."""
    core = [p for p in (ROOT / "core/switchgear").rglob("*.py") if "testing" not in p.parts]
    others = [*(ROOT / "plugins").glob("*/switchgear_*/**/*.py"), *(ROOT / "certs_tool").glob("switchgear_*/**/*.py")]
    return tuple(sorted([*core, *others]))


def source_of(thing: Any) -> ast.Module:
    """The syntax tree of the module *thing*."""
    return parsed(Path(thing.__file__))


def definition(thing: Any) -> Any:
    """The syntax tree of a class or function."""
    tree = source_of(sys.modules[thing.__module__])
    return next(node for node in tree.body if getattr(node, "name", "") == thing.__name__)


def signature(node: Any, *, with_self: bool = False) -> str:
    """The first line of a function, as it is written."""
    arguments = ast.unparse(node.args)
    if not with_self:
        arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
    result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"{node.name}({arguments}){result}"


# Causes, errors, drivers. --------------------------------------------------------------------------------------------


def causes() -> str:
    """Every cause: what it means for the endpoint, the broker's codes for it, and what to do."""
    returned, reasons = cause._RETURN_CODES, cause._REASON_CODES
    rows = []
    for each, (policy, advice) in cause.TABLE.items():
        old = [str(number) for number, meant in returned.items() if meant is each]
        new = [f"0x{number:02X}" for number, meant in reasons.items() if meant is each]
        rows.append([code(each.name), each.value, policy.value, ", ".join(old), ", ".join(new), advice])
    return table(["Cause", "In words", "Policy", "3.1.1 code", "5 codes", "What to do"], rows)


def _children(error: type) -> list[type]:
    """The direct subclasses that the module of errors defines, in the order in which it defines them."""
    return [c for c in vars(errors).values() if isinstance(c, type) and error in c.__bases__]


def error_tree() -> str:
    """The classes as a tree."""

    def lines(error: type, indent: str) -> Iterator[str]:
        children = _children(error)
        for child in children:
            is_last = child is children[-1]
            also = [b.__name__ for b in child.__bases__ if b.__module__ == "builtins"]
            shown = child.__name__ + (f" (also {', '.join(also)})" if also else "")
            yield f"{indent}{'└── ' if is_last else '├── '}{shown}"
            yield from lines(child, indent + ("    " if is_last else "│   "))

    return "\n".join(["```text", "SwitchgearError", *lines(errors.SwitchgearError, ""), "```"])


def _facts_of(error: type) -> list[str]:
    """The attributes that a class of error has, its bases' included."""
    found: list[str] = []
    for each in reversed(error.__mro__):
        if each.__module__ != errors.__name__:
            continue
        stored = (
            n for n in ast.walk(definition(each)) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
        )
        found += [node.attr for node in stored if node.attr != "args"]
    return list(dict.fromkeys(found))


def error_table() -> str:
    """Every error: when, and the facts that it carries."""

    def walk(error: type) -> Iterator[type]:
        yield error
        for child in _children(error):
            yield from walk(child)

    rows = [[code(e.__name__), first(e), ", ".join(map(code, _facts_of(e)))] for e in walk(errors.SwitchgearError)]
    return table(["Error", "When", "Attributes"], rows)


def drivers() -> str:
    """One column for each driver, one row for each feature, as their contract has seen them."""
    rows = [
        [code(each.name), *(_feature(seen[each.name]) for seen in DRIVERS.values())]
        for each in attrs.fields(DriverFeatures)
    ]
    return table(["Feature", *map(code, DRIVERS)], rows)


def driver_features() -> str:
    """What each feature means."""
    return table(["Feature", "Meaning"], ([code(n), meaning] for n, meaning in attributes_of(DriverFeatures).items()))


def _feature(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(each) for each in sorted(value))
    return str(value)


# Events and log lines. -----------------------------------------------------------------------------------------------


def event_facts() -> dict[str, list[str]]:
    """The facts of each event, from every place that emits it."""
    found: dict[str, list[str]] = {name: [] for name in report.WORDS}
    for path in sources():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            told = node.args[0]
            if (
                name in {"emit", "_emit", "emit_soon"}
                and isinstance(told, ast.Constant)
                and isinstance(told.value, str)
            ):
                facts = [k.arg for k in node.keywords if k.arg]
                found[told.value] = list(dict.fromkeys([*found[told.value], *facts]))
    return found


def _level(name: str) -> str:
    if name == "reconnect_scheduled":
        return "warning, once for each doubling of the outage; else debug"
    return logging.getLevelName(LEVELS.get(name, logging.DEBUG)).lower()


def events() -> str:
    """Every event: what it says, its facts, and the level of its log line."""
    facts = event_facts()
    rows = [
        [code(name), code(said), ", ".join(map(code, facts[name])), _level(name)] for name, said in report.WORDS.items()
    ]
    return table(["Event", "In words", "Facts", "Log level"], rows)


def log_lines() -> str:
    """Every log line that is no event of a transport: logger, message, level and fields."""
    rows = []
    for path in sources():
        tree = parsed(path)
        logger = _logger_of(path, tree)
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                said = log_message(node)
                if said is not None and "%" not in said:
                    assert isinstance(node, ast.Call)
                    rows.append(
                        [code(said), code(logger), _level_of(node, function), ", ".join(map(code, _extra(node, function)))]
                    )
    unique = {tuple(row): row for row in sorted(rows)}
    return table(["Message", "Logger", "Level", "Fields"], unique.values())


def log_message(node: ast.AST) -> str | None:
    """The message of a call of a logger; None for anything else."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr not in {"debug", "info", "warning", "error", "exception", "critical", "log"}:
        return None
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return texts[0] if texts and texts[0].startswith("switchgear.") else None


def _logger_of(path: Path, tree: ast.Module) -> str:
    """The name of the logger of a module, also where it comes from a module beside it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "getLogger" and node.args:
            return str(ast.literal_eval(node.args[0]))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and any(name.name == "log" for name in node.names):
            beside = path.parent / f"{node.module.rpartition('.')[2]}.py"
            return _logger_of(beside, parsed(beside))
    return ""


def _level_of(node: ast.Call, function: ast.AST) -> str:
    """The level of a log call; where the function chooses between two, the second is that of repetitions."""
    assert isinstance(node.func, ast.Attribute)
    method = node.func.attr
    if method == "log":
        choices = [each.value for each in ast.walk(function) if isinstance(each, ast.Assign) and _is_level(each)]
        (choice,) = (value for value in choices if isinstance(value, ast.IfExp))
        first, again = (ast.unparse(value).rpartition(".")[2].lower() for value in (choice.body, choice.orelse))
        return f"{first}; {again} when it is repeated"
    return "error" if method == "exception" else method


def _is_level(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "level" for target in node.targets)


def _extra(node: ast.Call, function: ast.AST) -> list[str]:
    """The names of the fields of a log call, also where they stand in a variable of the function."""
    given = next((k.value for k in node.keywords if k.arg == "extra"), None)
    if isinstance(given, ast.Name):
        name = given.id
        for each in ast.walk(function):
            if isinstance(each, ast.Assign) and any(getattr(t, "id", "") == name for t in each.targets):
                given = each.value
    if not isinstance(given, ast.Dict):
        return []
    return [str(ast.literal_eval(key)) for key in given.keys if key is not None]


# Options. ------------------------------------------------------------------------------------------------------------


def _type(name: str, annotation: object) -> str:
    """A type as users read it."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    literals = {
        "WhenFull": "'block' | 'raise' | 'drop_oldest' | 'drop_newest'",
        "Literal['3.1.1', '5', 5] | None": "'3.1.1' | '5' | 5 | None",
        "SessionKind | Literal['shared', 'hunt', 'clean'] | None": "'shared' | 'hunt' | 'clean' | SessionKind | None",
        "Place | Sequence[Place]": "str | Endpoint | Group | Sequence of these",
        "Sequence[Any]": "Sequence[str | object]",
    }
    return "Sequence[str]" if name == "disable_plugins" else literals.get(text, text)


def _default(attribute: Any) -> str:
    default = attribute.default
    if default is attrs.NOTHING:
        return "needed"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
        if default.factory is dict:
            return code("{}")
        return code(f"{default.factory.__name__}()")
    return code(repr(default))


def _fields(cls: Any, meanings: Mapping[str, str]) -> list[list[str]]:
    kinds = cls.__init__.__annotations__
    rows = []
    for each in attrs.fields(cls):
        kind = _type(each.name, kinds.get(each.name, each.type))
        rows.append([code(each.name), code(kind), _default(each), meanings[each.name]])
    return rows


def options() -> str:
    """Every field of `Profile`, with its spelling in TOML."""
    rows = []
    for row in _fields(Profile, attributes_of(Profile)):
        name = row[0].strip("`")
        rows.append([*row, _toml(name)])
    return table(["Option", "Type", "Default", "Meaning", "In TOML"], rows)


def _toml(name: str) -> str:
    if name in _FOLDED:
        return {
            "outbox_limits": "keys of the table `outbox`",
            "disable_plugins": "`plugins.disable`",
            "plugin_options": "`plugins.NAME` tables",
        }[name]
    if name not in KEYS:
        return "no"
    return {
        "password": 'text, `{env = "NAME"}` or `{file = "path"}`',
        "tls": "table `tls`",
        "will": "table `will`",
        "outbox": "`outbox` or `outbox.path`",
        "backoff": "table `backoff` with `policy`",
        "give_up_after": "table `give_up_after`",
        "startup_give_up_after": "table `startup_give_up_after`",
        "failback": "`failback = false`",
        "plugins": "`plugins.order`, and each `plugins.NAME` table",
    }.get(name, code(name))


def schemes() -> str:
    """The URI schemes of the core."""
    carried = {"mqtt": "TCP", "mqtts": "TLS", "ws": "WebSocket", "wss": "WebSocket over TLS"}
    rows = [[code(name), carried[kind], str(port)] for name, (kind, port) in endpoint.SCHEMES.items()]
    return table(["Scheme", "MQTT over", "Default port"], rows)


def options_of(cls: Any) -> str:
    """The fields of a value that an option holds."""
    return table(["Field", "Type", "Default", "Meaning"], _fields(cls, attributes_of(cls)))


def _awscrt(name: str) -> Any:
    """A class of options of the plugin awscrt."""
    return getattr(importlib.import_module("switchgear_awscrt.options"), name)


def fleet_periods() -> str:
    """Periods of some fleets."""
    sizes = ((1, 50), (10, 50), (400, 50), (1000, 500), (10_000, 500))
    made = ((clients, rate, switchgear.fleet(clients=clients, connects_per_second=rate)) for clients, rate in sizes)
    rows = [[str(clients), str(rate), f"{policy.period:.3g} s"] for clients, rate, policy in made]
    return table(["Clients", "Connects a second", "One client tries once in"], rows)


def permissions(where: str) -> str:
    """The keys of one table of a file of permissions (of the plugin activemq)."""
    from switchgear_activemq.amazon_mq import permissions as written
    from switchgear_activemq.amazon_mq.permissions_file import KEYS as known

    cls = {"": written.Permissions, "users.NAME": written.User, "groups.NAME": written.Group, "purge": written.Purge}[
        where
    ]
    meanings = attributes_of(cls)
    return table(
        ["Key", "Default", "Meaning"],
        [[code(key), _toml_default(getattr(attrs.fields(cls), key)), meanings[key]] for key in known[where]],
    )


def _toml_default(attribute: Any) -> str:
    """A default as TOML writes it; nothing for none, or for a table."""
    default = attribute.default
    if default is attrs.NOTHING:
        return "needed"
    if default is None or attrs.has(type(default)):
        return ""
    return code("[]" if default == () else str(default).lower() if isinstance(default, bool) else json.dumps(default))


def permitted() -> str:
    """The elements of a broker's configuration that are written, with their attributes."""
    from switchgear_activemq.amazon_mq.permitted import PERMITTED

    rows = [
        [code(name), ", ".join(map(code, sorted(each.attributes))), ", ".join(map(code, sorted(each.children)))]
        for name, each in PERMITTED.items()
    ]
    return table(["Element", "Attributes", "Elements in it"], rows)


def dr_exit_codes() -> str:
    """The exit codes of ``switchgear dr``."""
    return table(["Exit code of `dr`", "Meaning"], [[code(str(number)), text] for number, text in EXIT_CODES.items()])


def dr_policy() -> str:
    """The IAM policy that ``switchgear dr`` needs."""
    return f"```json\n{json.dumps(dr_iam.policy(zone='Z0123456789ABC'), indent=2)}\n```"


DR_TABLES: Final = ("Zone", "Domain", "Clients", "Region", "Pace", "Waits", "Handshake")
"""The tables of a plan file of ``switchgear dr``."""


# Hooks, signatures. --------------------------------------------------------------------------------------------------


def hook(name: str) -> str:
    """One hook: its exact signature and its docstring."""
    text = inspect.getdoc(getattr(hookspecs, name)) or ""
    paragraphs = [words(paragraph) for paragraph in text.split("\n\n")]
    return "\n".join(
        ["```python", f"def {signature(definition(getattr(hookspecs, name)))}: ...", "```", "", "\n\n".join(paragraphs)]
    )


def context() -> str:
    """The attributes of `Context`."""
    kinds = {f.name: str(f.type) for f in attrs.fields(hookspecs.Context)}
    rows = [[code(n), code(kinds[n]), text] for n, text in attributes_of(hookspecs.Context).items()]
    return table(["Attribute", "Type", "Meaning"], rows)


def verdicts() -> str:
    """The verdicts, the mildest first."""
    kinds = (hookspecs.Proceed, hookspecs.Delay, hookspecs.Recheck, hookspecs.Restart, hookspecs.GiveUp)
    rows = [
        [code(f"{k.__name__}({', '.join(_argument(f) for f in attrs.fields(k))})"), words(inspect.getdoc(k) or "")]
        for k in kinds
    ]
    return table(["Verdict", "Meaning"], rows)


def _argument(attribute: Any) -> str:
    return attribute.name if attribute.default is attrs.NOTHING else f"{attribute.name}={attribute.default!r}"


def members(cls: Any) -> str:
    """The public methods and properties of a class: how they are called, and what one gets."""
    rows = []
    for node in definition(cls).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        told = words((ast.get_docstring(node) or "").partition("\n\n")[0])
        if node.name in INSIDE.get(cls.__name__, ()) or told.startswith("Part of `switchgear."):
            continue
        is_property = any(getattr(d, "id", "") == "property" for d in node.decorator_list)
        shown = node.name if is_property else signature(node)
        if is_property and node.returns is not None:
            shown = f"{node.name}: {ast.unparse(node.returns)}"
        rows.append([code(("await " if isinstance(node, ast.AsyncFunctionDef) else "") + shown), told])
    return table(["Call", "What you get"], rows)


def values(cls: Any) -> str:
    """The attributes of a value."""
    return table(["Attribute", "Meaning"], [[code(n), text] for n, text in attributes_of(cls).items()])


# Commands. -----------------------------------------------------------------------------------------------------------


def _parameters(callback: Callable[..., Any]) -> Iterator[tuple[str, Any, Any, inspect.Parameter]]:
    """Name, type and Typer's description of each parameter of a command."""
    for parameter in inspect.signature(callback, eval_str=True).parameters.values():
        if get_origin(parameter.annotation) is None or not hasattr(parameter.annotation, "__metadata__"):
            continue
        kind, *described = get_args(parameter.annotation)
        yield parameter.name, kind, described[0], parameter


def commands() -> dict[str, Any]:
    """Every command by what one types after ``switchgear``."""
    from switchgear.cli.app import build

    found: dict[str, Any] = {}

    def collect(app: typer.Typer, prefix: str) -> None:
        for each in app.registered_commands:
            assert each.callback is not None
            name = each.name or each.callback.__name__.replace("_", "-")
            found[f"{prefix}{name}"] = each
        for group in app.registered_groups:
            assert group.typer_instance is not None
            collect(group.typer_instance, f"{prefix}{group.name} ")

    collect(build(), "")
    return found


def command(name: str) -> str:
    """One command: what it does, its arguments and options, what its help says below them."""
    info = commands()[name]
    arguments, own, shared = [], [], 0
    for parameter, kind, described, given in _parameters(info.callback):
        if isinstance(described, typer.models.ArgumentInfo):
            shown = described.metavar or parameter.upper()
            shown = shown if given.default is inspect.Parameter.empty else f"[{shown}]"
            takes_many = any(get_origin(each) is list for each in (kind, *get_args(kind)))
            arguments.append((f"{shown}..." if takes_many else shown, words(described.help or "")))
        elif getattr(described, "rich_help_panel", None) == "Connection":
            shared += 1
        else:
            own.append(_option(described, given))
    usage = " ".join(["switchgear", name, "[OPTIONS]", *(metavar for metavar, _ in arguments)])
    parts = ["```text", usage, "```", "", first(info.callback)]
    if arguments:
        parts += ["", table(["Argument", "Meaning"], [[code(m), text] for m, text in arguments])]
    if own:
        parts += ["", table(["Option", "Default", "Meaning"], own)]
    if shared:
        parts += ["", "It also takes the [connection options](#connection-options)."]
    epilog = [words(paragraph) for paragraph in (info.epilog or "").strip().split("\n\n") if paragraph.strip()]
    return "\n".join([*parts, *(line for paragraph in epilog for line in ("", paragraph))])


def _option(described: Any, parameter: inspect.Parameter) -> list[str]:
    # Inside Annotated the first name is given where a default would be.
    shown = ", ".join(map(code, [described.default, *described.param_decls]))
    if described.metavar:
        shown += f" {described.metavar}"
    default = parameter.default
    if default is inspect.Parameter.empty:
        text = "must be given"
    else:
        text = "" if default in (None, False) else code(str(default))
    return [shown, text, words(described.help or "")]


def connection_options() -> str:
    """The options that every connecting command takes."""
    rows = [
        _option(described, given)
        for _, _, described, given in _parameters(commands()["pub"].callback)
        if getattr(described, "rich_help_panel", None) == "Connection"
    ]
    return table(["Option", "Default", "Meaning"], rows)


# Files. --------------------------------------------------------------------------------------------------------------

SHOWN: Final = {
    "examples/switchgear-nightshift/switchgear_nightshift/__init__.py": "python",
    "examples/switchgear-nightshift/pyproject.toml": "toml",
    "examples/switchgear-nightshift/demo.py": "python",
    "examples/switchgear-nightshift/tests/test_nightshift.py": "python",
}
"""Files that pages show as they are, and their languages. They are run where they stand."""


def shown(path: str) -> str:
    """A whole file."""
    title = path.partition("/")[2].partition("/")[2]
    text = (ROOT / path).read_text(encoding="utf-8")
    return f'```{SHOWN[path]} title="{title}"\n{text}```'


# Pages. --------------------------------------------------------------------------------------------------------------

BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "causes": causes,
    "error tree": error_tree,
    "errors": error_table,
    "drivers": drivers,
    "driver features": driver_features,
    "events": events,
    "log lines": log_lines,
    "options": options,
    "schemes": schemes,
    "options of OutboxLimits": lambda: options_of(OutboxLimits),
    "options of TLS": lambda: options_of(TLS),
    "options of Will": lambda: options_of(Will),
    "options of GiveUpAfter": lambda: options_of(GiveUpAfter),
    "options of Failback": lambda: options_of(switchgear.Failback),
    "options of awscrt": lambda: options_of(_awscrt("Options")),
    "options of awscrt http_proxy": lambda: options_of(_awscrt("Proxy")),
    "options of awscrt sigv4": lambda: options_of(_awscrt("Signing")),
    "options of awscrt custom_authorizer": lambda: options_of(_awscrt("Authorizer")),
    "options of iot_dns": lambda: options_of(importlib.import_module("switchgear_iot_dns").Settings),
    "fleet periods": fleet_periods,
    "context": context,
    "verdicts": verdicts,
    "Transport": lambda: members(switchgear.Transport),
    "Subscription": lambda: members(switchgear.Subscription),
    "AsyncTransport": lambda: members(switchgear.AsyncTransport),
    "AsyncSubscription": lambda: members(aio.Subscription),
    "Delivery": lambda: members(switchgear.Delivery),
    "Stats": lambda: values(switchgear.Stats),
    "Message": lambda: values(switchgear.Message),
    "Properties": lambda: values(switchgear.Properties),
    "Endpoint": lambda: values(switchgear.Endpoint),
    "Group": lambda: values(switchgear.Group),
    "Failure": lambda: values(switchgear.Failure),
    "EndpointHealth": lambda: values(switchgear.EndpointHealth),
    "Event": lambda: values(switchgear.Event),
    "connection options": connection_options,
    "dr exit codes": dr_exit_codes,
    "dr policy": dr_policy,
    **{f"dr options of {name}": functools.partial(options_of, getattr(dr_settings, name)) for name in DR_TABLES},
    "permissions file": lambda: permissions(""),
    "permissions users": lambda: permissions("users.NAME"),
    "permissions groups": lambda: permissions("groups.NAME"),
    "permissions purge": lambda: permissions("purge"),
    "permitted elements": permitted,
    **{f"file {path}": functools.partial(shown, path) for path in SHOWN},
    **{f"hook {name}": functools.partial(hook, name) for name in HOOKS},
}


def block(name: str) -> str:
    """The text of the block *name*."""
    if name.startswith("command "):
        return command(name.removeprefix("command "))
    return BLOCKS[name]()


def fill(text: str) -> str:
    """*text* with every block made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{block(found['name'])}\n\n{found[3]}", text)


def pages() -> list[Path]:
    """The pages, in order."""
    return sorted(DOCS.rglob("*.md"))


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs for each page: the site is made from the code as it is."""
    return fill(markdown)


def main() -> int:
    """Bring every page up to date; say which ones were not."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{page.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
