"""A ``failover:`` URI, read as ActiveMQ 5.17.2 reads it. Pure: no I/O.

Grammar (``URISupport.parseComposite``)::

    scheme ":" ["//"] ( "(" [uri *("," uri)] ")" [ignored] ["?" query] | uri *("," uri) ) ["#" ignored]

Commas separate components only outside parentheses, so components may be lists themselves. Without parentheses all
is components, and a query belongs to the last of them. A query is what follows the *last* question mark; its pairs
are separated by ``&`` and decoded, the last of two equal names wins. ``nested.NAME`` is added to the query of each
component, behind what stands there, so that it wins. `tests/plugins/activemq/` holds what ActiveMQ made of hundreds.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus, unquote_plus

from attrs import field, frozen
from switchgear.errors import InvalidOption, InvalidURI, redact

from switchgear_activemq import options as known
from switchgear_activemq import syntax

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOLERANCES: Final = {
    "backOffMultiplier": (
        "ActiveMQ refuses it (the setter is called reconnectDelayExponent), but its own field, stompest and older "
        "documentation have this name; it is read as reconnectDelayExponent"
    ),
    "jms.*": (
        "ActiveMQConnectionFactory takes these off before the failover transport would refuse them; "
        "they configure JMS and say nothing to an MQTT client"
    ),
    "white space": (
        "ActiveMQ refuses it anywhere; beside commas and parentheses, and round the whole, nothing else can be meant, "
        "and lists in configuration files are written over several lines"
    ),
}
"""Where we take what ActiveMQ refuses, with the reason, which is also the text of the warning."""

DEEPEST: Final = 8
"""Lists within lists. Nobody nests deeper on purpose, and a bound keeps every reading short."""


@frozen
class Note:
    """Something in a URI that is read in another way than its writer may expect.

    Attributes:
        part: An option's name, or ``white space``, ``path``, ``fragment``, ``query``, ``component``.
        why: What is made of it, and why.
        is_option: Whether *part* is an option.
    """

    part: str
    why: str
    is_option: bool = True


def _freeze(value: Mapping[str, known.Value]) -> Mapping[str, known.Value]:
    return MappingProxyType(dict(value))


def _freeze_text(value: Mapping[str, str | None]) -> Mapping[str, str | None]:
    return MappingProxyType(dict(value))


def _show(value: str) -> str:
    return repr(redact(value))


def _show_list(value: tuple[str, ...]) -> str:
    return repr(redact(",".join(value)))  # as one text, for a comma in a password makes two components of one


def _show_values(value: Mapping[str, known.Value]) -> str:
    shown = {name: _show_list(v) if isinstance(v, tuple) else _show(str(v)) for name, v in value.items()}
    return ", ".join(f"{redact(name)}={text}" for name, text in shown.items())


@frozen(kw_only=True)
class Reading:
    """What a ``failover:`` URI says. Passwords in it are hidden in ``repr``.

    Attributes:
        uri: The text as it was given.
        scheme: As written; empty where there is none.
        components: What stands in the list, as ActiveMQ keeps it: a list within it is one component. `leaves` has
            the endpoints with all nesting resolved.
        parameters: The query, decoded; None: a name without ``=``.
        options: Each option of ActiveMQ, by its own name, with its value: the URI's, else the default.
        written: The names, in ``options``, of those that the URI writes.
        nested: What ``nested.*`` adds to each component.
        warnings: What may surprise.
    """

    uri: str = field(repr=_show)
    scheme: str
    components: tuple[str, ...] = field(repr=_show_list)
    parameters: Mapping[str, str | None] = field(converter=_freeze_text, repr=_show_values)
    options: Mapping[str, known.Value] = field(converter=_freeze, repr=_show_values)
    written: frozenset[str]
    nested: tuple[tuple[str, str], ...] = field(repr=lambda pairs: _show_values(dict(pairs)))
    warnings: tuple[Note, ...]

    @property
    def nested_query(self) -> str:
        """``nested`` as ActiveMQ appends it to a component's query."""
        return "&".join(f"{_form_quote(name)}={_form_quote(value)}" for name, value in self.nested)


def read(uri: str) -> Reading:
    """What ActiveMQ makes of *uri*, with the differences that `TOLERANCES` lists.

    The scheme is not looked at, no more than ActiveMQ's parser does; `switchgear_activemq.failover.group` does.

    Raises:
        InvalidURI: ActiveMQ would not take it for a URI.
        InvalidOption: ActiveMQ has no such option, or would not take the value.

    Since: 0.1.
    """
    notes: list[Note] = []
    text = _without_white_space(uri)
    if text != uri:
        notes.append(Note("white space", TOLERANCES["white space"], is_option=False))
    parts = _split(uri, text)
    rest = parts.rest.removeprefix("//")
    if rest.count("(") != rest.count(")"):
        raise InvalidURI(redact(uri), f"it opens {rest.count('(')} parentheses and closes {rest.count(')')}")
    query = ""
    inner = rest
    if rest.startswith("("):
        end = _closing(rest)
        inner = rest[1:end]
        path, mark, query = rest[end + 1 :].partition("?")
        if path:
            notes.append(
                Note("path", "ActiveMQ ignores what stands between ) and ?; options need the ?", is_option=False)
            )
        if mark and "?" in query:
            notes.append(
                Note(
                    "query", "ActiveMQ reads only what follows the last ?; write a ? in a value as %3F", is_option=False
                )
            )
    if parts.fragment is not None:
        notes.append(Note("fragment", "ActiveMQ ignores what follows #", is_option=False))
    components = tuple(_components(inner))
    for place, component in enumerate(components, 1):
        _split(uri, component, f"in component {place} of the list ")
    parameters = parse_query(query)
    return _with_options(uri, parts.scheme or "", components, parameters, notes)


def _split(uri: str, text: str, where: str = "") -> syntax.Parts:
    try:
        return syntax.split(text)
    except syntax.MalformedError as error:
        hint = "; in a password write , as %2C, ( as %28, ) as %29, @ as %40" if where and "@" in text else ""
        if re.match(r"[^:/?#]*://[^/]*//[^?#]*[\[\]]", text):
            hint = "; without the slashes behind the first colon it can: write failover:(...)"
        raise InvalidURI(redact(uri), f"{where}{error}{hint}") from None


def _without_white_space(text: str) -> str:
    """*text* without the white space that `TOLERANCES` speaks of."""
    pieces: list[str] = []
    last = 0
    for match in re.finditer(r"[ \t\r\n]+", text):
        before = text[match.start() - 1] if match.start() else ""
        after = text[match.end()] if match.end() < len(text) else ""
        gone = not before or not after or before in "()," or after in "(),"
        pieces.append(text[last : match.start()] + ("" if gone else match.group()))
        last = match.end()
    return "".join(pieces) + text[last:]


def _closing(rest: str) -> int:
    """Where the parenthesis that *rest* starts with is closed; *rest* closes as many as it opens."""
    depth = 0
    for match in re.finditer(r"[()]", rest):
        depth += 1 if match.group() == "(" else -1
        if depth == 0:
            break
    return match.start()


def _components(inner: str) -> Iterable[str]:
    """The parts between the commas outside parentheses; an empty last one does not count, as for ActiveMQ."""
    depth = last = 0
    for match in re.finditer(r"[(),]", inner):
        if match.group() == "(":
            depth += 1
        elif match.group() == ")":
            depth -= 1
        elif depth == 0:
            yield inner[last : match.start()]
            last = match.end()
    if last < len(inner):
        yield inner[last:]


def parse_query(query: str) -> dict[str, str | None]:
    """The pairs of *query*, as ``URISupport.parseQuery`` reads it (see the module's grammar). Since: 0.1."""
    pairs: dict[str, str | None] = {}
    parts = query.rpartition("?")[2].split("&")
    while parts and not parts[-1]:  # Java's split leaves out empty strings at the end, and only there
        parts.pop()
    for part in parts:
        name, equals, value = part.partition("=")
        if equals:
            pairs[unquote_plus(name)] = unquote_plus(value)
        else:
            pairs[part] = None
    return pairs


def _with_options(
    uri: str, scheme: str, components: tuple[str, ...], parameters: dict[str, str | None], notes: list[Note]
) -> Reading:
    values: dict[str, known.Value] = {name: option.default for name, option in known.OPTIONS.items()}
    written: set[str] = set()
    nested: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for name in java_order(parameters):
        text = parameters[name]
        if name.startswith("nested."):
            if text is None:
                wrong.append((name, "it needs a value: write NAME=VALUE"))
            else:
                nested.append((name.removeprefix("nested."), text))
            continue
        if name.startswith("jms."):
            notes.append(Note(name, TOLERANCES["jms.*"]))
            continue
        option = known.find(name)
        is_alias = option is None and name in {"backOffMultiplier", "BackOffMultiplier"}
        if is_alias:
            option = known.OPTIONS["reconnectDelayExponent"]
            notes.append(Note(name, TOLERANCES["backOffMultiplier"]))
        if option is None:
            wrong.append((name, "ActiveMQ's failover transport has no such option"))
            continue
        try:
            value = known.convert(option, text)
        except ValueError as error:
            wrong.append((name, str(error) if text is None else f"{redact(text)[:80]!r} is refused: {error}"))
            continue
        if is_alias and ("reconnectDelayExponent" in parameters or "ReconnectDelayExponent" in parameters):
            continue  # ActiveMQ's own name wins
        if option.kind is known.Kind.BOOLEAN and text is not None and text.lower() not in {"true", "false"}:
            notes.append(Note(name, f"{text[:80]!r} counts as false: everything but true does in ActiveMQ"))
        if isinstance(value, tuple) and len(value) < len([*filter(None, (text or "").split(","))]):
            notes.append(Note(name, "ActiveMQ leaves out what is no URI, such as one with a space"))
        values[option.name] = value
        written.add(option.name)
    if wrong:
        name, why = wrong[0]
        others = f" (wrong too: {', '.join(other for other, _ in wrong[1:])})" if len(wrong) > 1 else ""
        others += "".join(f"; {note.why}" for note in notes if note.part == "query")
        raise InvalidOption(name, why + others, valid=known.VALID)
    return Reading(
        uri=uri,
        scheme=scheme,
        components=components,
        parameters=parameters,
        options=values,
        written=frozenset(written),
        nested=tuple(nested),
        warnings=tuple(notes),
    )


def java_order(names: Iterable[str]) -> list[str]:
    """*names* in the order in which a Java ``HashMap`` that they were put into gives them back.

    ActiveMQ sets its options in this order; it shows when ``Randomize`` and ``randomize`` are both written.
    Source: the documented ``String.hashCode`` and OpenJDK's table of at least 16 places, at most three quarters full.
    """
    listed = list(names)
    places = 16
    while len(listed) > places * 3 // 4:
        places *= 2
    return sorted(listed, key=lambda name: _java_hash(name) & (places - 1))


def _java_hash(name: str) -> int:
    units = name.encode("utf-16-be", "surrogatepass")
    value = 0
    for i in range(0, len(units), 2):
        value = (31 * value + units[i] * 256 + units[i + 1]) & 0xFFFFFFFF
    return value ^ (value >> 16)


def _form_quote(text: str) -> str:
    return quote_plus(text, safe="*", errors="replace").replace("~", "%7E")


@frozen
class Leaf:
    """One endpoint of a list: the URI as it was written, without its query, and the query with ``nested.*`` applied."""

    uri: str = field(repr=_show)
    parameters: Mapping[str, str | None] = field(converter=_freeze_text, repr=_show_values)


def leaves(reading: Reading) -> tuple[tuple[Leaf, ...], tuple[Note, ...]]:
    """The endpoints of *reading* in their order, lists within lists opened, and notes about what was passed over.

    A list within the list is a transport of its own for ActiveMQ, tried as one endpoint. One transport holds one
    connection here, so its endpoints take its place; its options are read, and nothing but ``nested.*`` is used.

    Raises:
        InvalidURI: an inner list is malformed, or lists are nested more than `DEEPEST` deep.
        InvalidOption: an inner list writes a wrong option.

    Since: 0.1.
    """
    found: list[Leaf] = []
    notes: list[Note] = []
    stack: list[tuple[str, tuple[tuple[str, str], ...], int]] = [
        (c, reading.nested, 1) for c in reversed(reading.components)
    ]
    while stack:
        component, nested, depth = stack.pop()
        if not component:
            notes.append(Note("component", "an empty place in the list is passed over", is_option=False))
            continue
        if component[:9].lower() != "failover:":
            bare, _, query = component.partition("?")
            found.append(Leaf(bare, {**parse_query(query), **dict(nested)}))
            continue
        if depth > DEEPEST:
            raise InvalidURI(redact(reading.uri), f"it nests lists more than {DEEPEST} deep")
        inner = read(component)
        notes.extend(inner.warnings)
        notes.extend(Note(name, "an option of a list within the list is ignored") for name in sorted(inner.written))
        stack.extend((c, inner.nested + nested, depth + 1) for c in reversed(inner.components))
    return tuple(found), tuple(notes)
