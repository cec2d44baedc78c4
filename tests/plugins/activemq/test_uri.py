from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from switchgear.errors import ConfigurationError, InvalidOption, InvalidURI, redact
from switchgear_activemq import TOLERANCES, Reading, plan, read
from switchgear_activemq.commands import as_dict
from switchgear_activemq.options import OPTIONS, VALID
from switchgear_activemq.uri import DEEPEST, java_order, leaves

HERE = Path(__file__).parent


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


VECTORS = load("activemq_failover_uris.jsonl")  # 180 URIs and what ActiveMQ 5.17.2 made of them
MORE = load("activemq_failover_uris_more.jsonl")  # 240 mutations of these, run through the same jar

TOLERATED = set(TOLERANCES.values())


def is_tolerant(reading: Reading) -> bool:
    return any(note.why in TOLERATED for note in reading.warnings)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["uri"][:60])
def test_vector(vector: dict[str, Any]) -> None:
    """A URI is malformed, refused or read exactly as by ActiveMQ 5.17.2, but for the listed tolerances."""
    try:
        reading = read(vector["uri"])
    except InvalidURI:
        assert "malformed" in vector
        return
    except InvalidOption:
        # Where a space was the only thing malformed, the options are looked at as well.
        assert "refused" in vector or ("malformed" in vector and " " in vector["uri"])
        return
    if "transport" not in vector:
        assert is_tolerant(reading)
        return
    assert tuple(vector["components"]) == reading.components
    assert vector["parameters"] == dict(reading.parameters)
    theirs = dict(vector["transport"])
    del theirs["uris"]  # what is left of the components; test_failover looks at repeated ones
    assert theirs.pop("nestedExtraQueryOptions") == reading.nested_query
    theirs["reconnectDelayExponent"] = theirs.pop("backOffMultiplier")
    theirs["priorityURIs"] = tuple(theirs["priorityURIs"])
    assert theirs == {name: reading.options[name] for name in theirs}
    assert [type(v) for v in theirs.values()] == [type(reading.options[name]) for name in theirs]


@pytest.mark.parametrize("vector", MORE, ids=range(len(MORE)))
def test_more_vectors(vector: dict[str, Any]) -> None:
    """The same holds for URIs that were mutated at random, with every value compared as Java prints it."""
    try:
        reading = read(vector["uri"])
    except InvalidURI:
        assert "malformed" in vector
        return
    except InvalidOption:
        assert "refused" in vector or ("malformed" in vector and " " in vector["uri"])
        return
    if "transport" not in vector:
        assert is_tolerant(reading)
        return
    assert tuple(vector["components"]) == reading.components
    assert vector["parameters"] == dict(reading.parameters)
    theirs = dict(vector["transport"])
    nested = theirs.pop("nestedExtraQueryOptions")
    assert sorted(nested.split("&")) == sorted(reading.nested_query.split("&"))
    assert float(theirs.pop("backOffMultiplier")) == reading.options["reconnectDelayExponent"]
    assert theirs.pop("priorityList") == f"[{', '.join(reading.options['priorityURIs'])}]"  # type: ignore[arg-type]  # always a tuple
    for name, value in theirs.items():
        ours = reading.options[name]
        assert value == (ours if ours is None else str(ours).lower() if isinstance(ours, bool) else str(ours))


def test_tolerances_are_few() -> None:
    """Of the 180 vectors, those that only we take hold white space beside a comma or a parenthesis, or the alias."""
    only_ours = []
    for vector in VECTORS:
        if "transport" in vector:
            continue
        try:
            read(vector["uri"])
        except ConfigurationError:
            continue
        only_ours.append(vector["uri"])
    assert only_ours
    assert all(" " in uri or "backOffMultiplier" in uri for uri in only_ours)


def test_space_after_comma() -> None:
    """A list over several lines reads like the same list on one line."""
    written = "\n failover:(\n  ssl://a:1,\n\tssl://b:2 )?randomize=false\n"
    reading = read(written)
    assert reading.components == ("ssl://a:1", "ssl://b:2")
    assert reading.options["randomize"] is False
    assert [note.part for note in reading.warnings] == ["white space"]


@pytest.mark.parametrize("uri", ["failover:(tcp://a b:1)", "failover:(tcp://a:1)?timeout= 5", "fail over:(tcp://a:1)"])
def test_other_space(uri: str) -> None:
    """White space that stands beside no comma and no parenthesis is refused."""
    with pytest.raises(InvalidURI, match="cannot stand"):
        read(uri)


def test_alias() -> None:
    """The name backOffMultiplier is read as reconnectDelayExponent, with a warning."""
    reading = read("failover:(tcp://a:1)?backOffMultiplier=3")
    assert reading.options["reconnectDelayExponent"] == 3.0
    assert reading.written == {"reconnectDelayExponent"}
    assert [note.part for note in reading.warnings] == ["backOffMultiplier"]


@pytest.mark.parametrize(
    "order", ["backOffMultiplier=3&reconnectDelayExponent=4", "reconnectDelayExponent=4&backOffMultiplier=3"]
)
def test_alias_and_name(order: str) -> None:
    """Where both names are written, ActiveMQ's own wins."""
    assert read(f"failover:(tcp://a:1)?{order}").options["reconnectDelayExponent"] == 4.0


def test_jms_options() -> None:
    """Options of the JMS connection factory are taken with a warning."""
    reading = read("failover:(tcp://a:1)?jms.useAsyncSend=true&randomize=false")
    assert [note.part for note in reading.warnings] == ["jms.useAsyncSend"]
    assert reading.written == {"randomize"}


def test_unknown_option_lists_valid() -> None:
    """An unknown option is refused with the list of those that exist, and the other wrong ones are named."""
    with pytest.raises(InvalidOption) as caught:
        read("failover:(tcp://a:1)?bogus=1&max-reconnect-attempts=2")
    assert {"bogus", "max-reconnect-attempts"} == {
        w for w in ("bogus", "max-reconnect-attempts") if w in str(caught.value)
    }
    assert caught.value.valid == tuple(sorted(VALID))
    assert "maxReconnectAttempts" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("failover:(tcp://a:1)randomize=false", "path"),
        ("failover:(tcp://a:1)#x", "fragment"),
        ("failover:(tcp://a:1)?timeout=3?randomize=false", "query"),
        ("failover:(tcp://a:1)?randomize=yes", "randomize"),
        ("failover:(tcp://a:1)?priorityURIs=a%20b", "priorityURIs"),
    ],
)
def test_surprises_are_noted(text: str, part: str) -> None:
    """What ActiveMQ drops in silence is noted."""
    assert [note.part for note in read(text).warnings] == [part]


def test_last_question_mark() -> None:
    """An option that is unknown because of a second question mark is refused with a word about it."""
    with pytest.raises(InvalidOption, match="only what follows the last"):
        read("failover:(tcp://a:1)?priorityURIs=ssl://a:1?x=1&randomize=false")


def test_slashes_and_brackets() -> None:
    """An IPv6 address behind failover:// is refused, as by ActiveMQ, and the error says how to write it."""
    with pytest.raises(InvalidURI, match=r"write failover:\(\.\.\.\)"):
        read("failover://(mqtt://[::1]:1883)")
    assert read("failover:(mqtt://[::1]:1883)").components == ("mqtt://[::1]:1883",)


def test_both_cases_of_a_name() -> None:
    """Of Randomize and randomize the one wins that Java's HashMap gives back last, whatever the written order."""
    assert java_order(["randomize", "Randomize"]) == ["randomize", "Randomize"]
    for query in ("Randomize=false&randomize=true", "randomize=true&Randomize=false"):
        assert read(f"failover:(tcp://a:1)?{query}").options["randomize"] is False


def test_nested_overrides() -> None:
    """nested.* is added to each endpoint, inner lists included, and wins over what stands there."""
    reading = read(
        "failover:(tcp://a:1?keepAlive=false&trace=true,failover:(tcp://b:2)?nested.trace=no)?nested.keepAlive=true"
    )
    found, notes = leaves(reading)
    assert [(leaf.uri, dict(leaf.parameters)) for leaf in found] == [
        ("tcp://a:1", {"keepAlive": "true", "trace": "true"}),
        ("tcp://b:2", {"trace": "no", "keepAlive": "true"}),
    ]
    assert notes == ()


def test_inner_options() -> None:
    """Options of an inner list are checked, and noted as ignored."""
    _, notes = leaves(read("failover:(failover:(tcp://a:1)?timeout=5,tcp://b:2)"))
    assert [note.part for note in notes] == ["timeout"]
    with pytest.raises(InvalidOption):
        leaves(read("failover:(failover:(tcp://a:1)?bogus=5)"))


def nest(depth: int) -> str:
    return "failover:(" * depth + "tcp://a:1" + ")" * depth


def test_depth_is_bounded() -> None:
    """Lists may nest to the documented depth, and a hundred thousand levels are refused without recursion."""
    found, _ = leaves(read(nest(DEEPEST + 1)))
    assert len(found) == 1
    with pytest.raises(InvalidURI, match="deep"):
        leaves(read(nest(DEEPEST + 2)))
    with pytest.raises(InvalidURI, match="deep"):
        plan(read(nest(100_000)))


@pytest.mark.parametrize(
    "text",
    [
        "failover:(" * 20_000,
        "failover:(" + "," * 100_000 + ")",
        "failover:(tcp://a:1)?reconnectDelayExponent=" + "1" * 100_000 + "x",
        "failover:(tcp://a:1)?maxReconnectAttempts=" + "1" * 100_000,
        "failover:(tcp://" + "u:" * 50_000 + ")",
        "failover:" + " " * 100_000 + "x",
        "failover:(tcp://a:1)?" + "&".join(f"nested.{i}=1" for i in range(20_000)),
        "//:" * 50_000,
    ],
    ids=lambda text: text[:30],
)
def test_long_texts_are_quick(text: str) -> None:
    """Reading takes no more than linear time, on texts made to be slow."""
    started = time.process_time()
    with contextlib.suppress(ConfigurationError):
        plan(read(text))
    assert time.process_time() - started < 5


PIECES = st.sampled_from(
    [
        "failover:",
        "(",
        ")",
        ",",
        "//",
        "tcp://a:1",
        "ssl://u:p@b",
        "?",
        "&",
        "=",
        "nested.",
        "#",
        "%",
        "%41",
        "[::1]",
        " ",
        "\n",
    ]
    + [f"{name}=" for name in OPTIONS]
    + ["true", "-1", "0", "99999999999999999999", "1e400", "0x1p99999", "NaN", "-Infinity"]
)
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=25).map("".join))


@given(TEXTS)
@example("failover:(tcp://a:1)?=x")
@example("failover:(\ud800)")
def test_any_text(text: str) -> None:
    """Any text gives a Reading and a plan, or an error of our tree that has a message."""
    assert outcome(text)


@given(st.sampled_from(sorted(OPTIONS)), st.text(alphabet="0123456789+-.eExXpPnNaAiIfFtruesl%", max_size=12))
def test_any_value(name: str, value: str) -> None:
    """Any text as the value of any option gives a plan with finite delays, or an error of our tree."""
    try:
        group = plan(read(f"failover:(tcp://a:1)?{name}={value}")).group
    except ConfigurationError:
        return
    if group.backoff is not None:
        delay = group.backoff.longest(10**9)  # type: ignore[attr-defined]  # always Listed here
        assert 0 < delay <= 1e12


PASSWORD = "Zq7xWv"


def outcome(text: str) -> str:
    """All that can be shown of *text*: the reading and the plan, or the error with its attributes."""
    try:
        reading = read(text)
        made = plan(reading)
    except ConfigurationError as error:
        return f"{error} {vars(error)}"
    assert set(reading.options) == set(OPTIONS)
    assert made.group.endpoints
    return f"{reading!r} {made!r} {json.dumps(as_dict(reading, made))}"


@given(st.data())
def test_no_password_in_errors(data: st.DataObject) -> None:
    """A password never shows in an error or a repr, whatever is wrong with the URI round it."""
    before = data.draw(st.sampled_from(["", "tcp://a:1,", "failover:(", "bogus://x,", "tcp://a b,"]))
    scheme = data.draw(st.sampled_from(["ssl://", "bogus://", "ssl:", "", "wss://"]))
    odd = data.draw(st.sampled_from(["", ",", "/", "?", "#", "@", "(", ":", "%zz", " ", "=", "&"]))
    after = data.draw(st.sampled_from(["", ":99999", ":x", "/path", "?bogus=1", "?priority=x", "]", ",,", ")", "#f"]))
    query = data.draw(st.sampled_from(["", "?bogus=1", "?timeout=x", "?backup=true", "?nested.bogus=1"]))
    text = f"failover:({before}{scheme}user:{PASSWORD}{odd}{PASSWORD}@host\u2100{after}){query}"
    for candidate in (text, text.replace("\u2100", "")):
        assert PASSWORD not in outcome(candidate)


def test_hide_encoded() -> None:
    """A password in an encoded URI inside a query is hidden."""
    shown = redact("failover:(tcp://a:1)?updateURIsURL=http%3A%2F%2Fuser%3ASecret%40host&bogus")
    assert "Secret" not in shown
    assert "user" in shown


def test_reading_is_frozen() -> None:
    """A Reading cannot be changed, neither its fields nor its mappings."""
    reading = read("failover:(tcp://a:1)")
    with pytest.raises(AttributeError):
        reading.scheme = "x"  # type: ignore[misc]  # what is tested
    with pytest.raises(TypeError):
        reading.options["randomize"] = False  # type: ignore[index]  # what is tested


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x1p3", 8.0),
        ("-0x.8P1d", -1.0),
        ("0x1p99999", float("inf")),
        ("-0x1p99999f", float("-inf")),
        (".5e1F", 5.0),
        ("%202%20", 2.0),
    ],
)
def test_java_doubles(text: str, value: float) -> None:
    """Numbers are read as Java's Double.valueOf reads them, hexadecimal ones and type suffixes included."""
    assert value == read(f"failover:(tcp://a:1)?reconnectDelayExponent={text}").options["reconnectDelayExponent"]


@pytest.mark.parametrize(
    "host", ["[::1%25eth0]:1", "u:p@[fe80::1]", "[::ffff:1.2.3.4]:2147483647", "x_y:99999999999", "é"]
)
def test_odd_hosts(host: str) -> None:
    """What Java takes for an authority is a component, though it may be no endpoint."""
    assert read(f"failover:(tcp://{host})").components == (f"tcp://{host}",)


@pytest.mark.parametrize(
    "host", ["[::1", "[::g]", "[::1%]", "[::1%25-]", "[::1]:2147483648", "[::1]x", "%4", "a%zz", "^", "a^[::1]"]
)
def test_impossible_hosts(host: str) -> None:
    """What Java does not take for an authority is refused."""
    with pytest.raises(InvalidURI):
        read(f"failover:(tcp://{host})")
