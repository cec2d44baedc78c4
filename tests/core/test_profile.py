from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear import checks
from switchgear.backoff import GiveUpAfter, exponential, fleet
from switchgear.endpoint import Endpoint, Group, SessionKind, parse_uri
from switchgear.errors import InvalidOption, SwitchgearError
from switchgear.message import Will
from switchgear.profile import OPTIONS, OutboxLimits, Profile
from switchgear.secrets import Secret, env
from switchgear.tls import TLS

if TYPE_CHECKING:
    from collections.abc import Iterator

URI = "mqtt://broker.example"


GROUP: Any = Group


def of(where: object = URI, /, **options: object) -> Profile:
    made: Any = Profile.of
    profile = made(where, **options)
    assert isinstance(profile, Profile)
    return profile


def test_defaults() -> None:
    """A profile made of a URI alone has the defaults that the documentation states."""
    profile = Profile(URI)
    assert profile == of(URI)
    assert profile.where == (URI,)
    assert profile.outbox_limits == OutboxLimits(max_messages=1_000_000, max_bytes=268_435_456, when_full="block")
    assert profile.backoff == exponential()
    assert (profile.driver, profile.protocol, profile.keepalive) == ("paho", None, 30)
    assert (profile.ack_timeout, profile.drain_rate, profile.inbox_limit) == (10.0, None, 10_000)


@pytest.mark.parametrize("place", [URI, parse_uri(URI), GROUP((parse_uri(URI),))], ids=["uri", "endpoint", "group"])
def test_single_place_is_no_list(place: str | Endpoint | Group) -> None:
    """One URI, endpoint or group is no list, even after its profile was changed; a list of one is a list."""
    assert not Profile(place).is_list
    assert not of(Profile(place), keepalive=5).is_list
    assert Profile([place]).is_list
    assert Profile((place,)).is_list
    assert of(Profile([place]), keepalive=5).is_list


def test_of_replaces_fields() -> None:
    """Options given beside a profile replace its fields and keep the others."""
    first = of(URI, client_id="a", keepalive=7)
    second = of(first, client_id="b")
    assert (second.client_id, second.keepalive, second.where) == ("b", 7, first.where)


def test_unknown_option_lists_valid_names() -> None:
    """An unknown option is refused with all valid names."""
    with pytest.raises(InvalidOption) as caught:
        of(URI, keep_alive=5)
    assert caught.value.name == "keep_alive"
    assert caught.value.valid == tuple(sorted(OPTIONS))
    with pytest.raises(InvalidOption):
        of(URI, where="mqtt://other")


def test_accepted_spellings() -> None:
    """Paths, sessions, secrets, names and options are accepted in the spellings that users write."""
    profile = of(
        [URI, parse_uri(URI)],
        password="hush",
        session="hunt",
        protocol="5",
        outbox=Path("a") / "b",
        plugins=["one", object()],
        disable_plugins=["two"],
        plugin_options={"one": {"limit": 3}},
        will=Will("gone", b"!"),  # as publish takes them
        backoff=fleet(clients=3, connects_per_second=10),
        give_up_after=GiveUpAfter(sweeps=3),
        tls=TLS(),
        max_packet_size=1000,
        drain_rate=0.5,
        ack_timeout=None,
        connect_timeout=3,
        on_event=print,
    )
    assert profile.password is not None
    assert profile.password.reveal() == b"hush"
    assert profile.session is SessionKind.HUNT
    assert profile.outbox == "a/b"
    assert profile.plugins[0] == "one"
    assert profile.disable_plugins == ("two",)
    assert of(URI, session=SessionKind.CLEAN).session is SessionKind.CLEAN
    assert of(URI, protocol=5).protocol == "5"
    assert of(URI, password=lambda: b"later").password.reveal() == b"later"  # type: ignore[union-attr]  # it has one


class Unprintable:
    """An object whose text cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError


WRONG: list[tuple[str, object]] = [
    ("client_id", ""),
    ("client_id", 5),
    ("client_id", "a\0b"),
    ("client_id", "\ud800"),
    ("client_id", "x" * 65536),
    ("username", b"bytes"),
    ("reply_topic", Unprintable()),
    ("password", 5),
    ("password", ["a"]),
    ("driver", ""),
    ("driver", None),
    ("protocol", 4),
    ("protocol", "4"),
    ("protocol", "mqttv5"),
    ("tls", True),
    ("tls", "ca.pem"),
    ("keepalive", True),
    ("keepalive", 30.0),
    ("keepalive", -1),
    ("keepalive", 65536),
    ("keepalive", None),
    ("connect_timeout", 0),
    ("connect_timeout", float("nan")),
    ("connect_timeout", float("inf")),
    ("connect_timeout", 10**400),
    ("connect_timeout", 10**5000),
    ("connect_timeout", "5"),
    ("connect_timeout", True),
    ("session", "sticky"),
    ("session", 1),
    ("session_expiry", 2**32),
    ("will", "gone"),
    ("will", Will(topic="t", delay=-1)),
    ("will", Will(topic="t", delay=True)),
    ("will", Will(topic="t", retain=1)),  # type: ignore[arg-type]  # it is wrong on purpose
    ("will", Will(topic="t", payload=b"x" * 65536)),
    ("outbox", ""),
    ("outbox", 5),
    ("outbox", "a\0b"),
    ("outbox_limits", None),
    ("outbox_limits", {"max_messages": 5}),
    ("backoff", None),
    ("backoff", 5),
    ("backoff", type(exponential())),
    ("give_up_after", 5),
    ("startup_give_up_after", {"seconds": 5}),
    ("give_up_on_fatal", 1),
    ("give_up_on_fatal", None),
    ("plugins", "one"),
    ("plugins", [None]),
    ("plugins", [""]),
    ("plugins", [5]),
    ("plugins", {"one"}),
    ("disable_plugins", "one"),
    ("disable_plugins", [5]),
    ("plugin_options", []),
    ("plugin_options", {"one": 5}),
    ("plugin_options", {1: {}}),
    ("plugin_options", {"one": {1: 2}}),
    ("hook_timeout", 0),
    ("stable_after", -1),
    ("dial_ahead_after", "soon"),
    ("max_in_flight", 0),
    ("max_in_flight", 65536),
    ("ack_timeout", 0),
    ("drain_rate", 0),
    ("drain_rate", float("inf")),
    ("inbox_limit", 0),
    ("handler_retries", -1),
    ("dead_letter", "t"),
    ("message_id", "yes"),
    ("envelope", "lines"),
    ("envelope", object()),
    ("deduplicate", 0),
    ("deduplicate", ""),
    ("deduplicate", 1.5),
    ("deduplicate", None),
    ("receive_maximum", 0),
    ("max_packet_size", 0),
    ("max_packet_size", 268_435_461),
    ("on_event", 5),
    ("keepalive", Unprintable()),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}-{i}" for i, (name, _) in enumerate(WRONG)])
def test_wrong_values_are_refused(name: str, value: object) -> None:
    """Every wrong type and impossible value is an `InvalidOption` that names the option."""
    with pytest.raises(InvalidOption) as caught:
        of(URI, **{name: value})
    assert caught.value.name.split(".")[0] == name


def _yielding(_: object) -> Iterator[None]:
    """A generator function, as one writes by mistake."""
    yield


@pytest.mark.parametrize("name", ["dead_letter", "on_event"])
@pytest.mark.parametrize("function", [_yielding, functools.partial(_yielding)])
def test_functions_that_yield_are_refused(name: str, function: object) -> None:
    """A generator function is taken, and each message or event handed to it is gone without a line of it being run."""
    with pytest.raises(InvalidOption, match=rf"^option '{name}': calling a generator function runs nothing of it"):
        of(URI, **{name: function})


@pytest.mark.parametrize("where", [None, 5, [], (), "", "  ", [5], [[URI]], {"a": URI}, b"mqtt://h", [URI, ""]])
def test_wrong_where_is_refused(where: object) -> None:
    """What is no URI, endpoint, group or list of them, and an empty list, is refused."""
    with pytest.raises(InvalidOption) as caught:
        of(where)
    assert caught.value.name == "where"


@pytest.mark.parametrize(
    ("name", "value"), [("max_messages", 0), ("max_bytes", True), ("when_full", "drop"), ("when_full", ["block"])]
)
def test_wrong_outbox_limits_are_refused(name: str, value: object) -> None:
    """An impossible limit, and an unknown policy, is refused by its name."""
    limits: Any = OutboxLimits
    with pytest.raises(InvalidOption) as caught:
        limits(**{name: value})
    assert caught.value.name == name


def test_repr_hides_secrets() -> None:
    """No password, no credentials of a URI and no value of a plugin option shows in the text of a profile."""
    profile = of(
        ["mqtt://user:s3cret@h", "failover:(ssl://u:s3cret@a,ssl://b)?password=s3cret", parse_uri("mqtt://u:s3cret@h")],
        password="s3cret",
        plugin_options={"one": {"token": "s3cret"}},
        tls=TLS(key_password=Secret("s3cret")),
    )
    assert "s3cret" not in repr(profile)
    assert "token" in repr(profile)
    assert repr(Profile(URI)).startswith(f"Profile(where='{URI}', ")


def test_errors_hide_secrets() -> None:
    """A refused value shows no credentials, however long it is."""
    uri = "mqtt://user:" + "s3cret" * 5 + "@h" + "x" * 100
    for where, options in [
        (None, {"outbox_limits": uri}),
        ([URI, [uri]], {}),
        ({uri: uri}, {}),
        (URI, {"password": 5}),
        (URI, {"plugin_options": [uri]}),
    ]:
        with pytest.raises(InvalidOption) as caught:
            of(where, **options)  # type: ignore[arg-type]  # mixed on purpose
        assert "s3cret" not in str(caught.value)
    with pytest.raises(InvalidOption) as caught:
        of(URI, password=123456)
    assert "123456" not in str(caught.value)


def test_options_of_a_profile_cannot_be_changed_from_outside() -> None:
    """A profile keeps its own copy of lists and mappings."""
    options: dict[str, dict[str, object]] = {"one": {"limit": 3}}
    places = [URI]
    profile = of(places, plugin_options=options)
    options["one"]["limit"] = 4
    places.append("mqtt://other")
    assert profile.plugin_options == {"one": {"limit": 3}}
    assert profile.where == (URI,)


def test_env_is_read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret from the environment is read when it is asked for, not when the profile is made."""
    profile = of(URI, password=env("SWITCHGEAR_TEST"))
    monkeypatch.setenv("SWITCHGEAR_TEST", "now")
    assert profile.password is not None
    assert profile.password.reveal() == b"now"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from([10**400, URI, object(), object, print])
    | st.builds(Unprintable),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=5,
)


@given(st.data())
def test_any_value_gives_a_profile_or_our_error(data: st.DataObject) -> None:
    """Any value of any option gives a profile, or an error of our tree whose text names the option."""
    name = data.draw(st.sampled_from(["where", *OPTIONS]))
    value = data.draw(anything)
    refusal = None
    try:
        made = of(value) if name == "where" else of(URI, **{name: value})
    except InvalidOption as error:
        refusal = error
    assert name in str(refusal) if refusal else made.where


@given(anything)
def test_show_never_raises(value: object) -> None:
    """Any value has a text for an error message."""
    assert len(checks.show(value)) < 2000


def test_names_are_errors_of_our_tree() -> None:
    """What a profile refuses can be caught as one of our errors and as a ``ValueError``."""
    with pytest.raises(SwitchgearError):
        of(URI, keepalive=-1)
    with pytest.raises(ValueError, match="keepalive"):
        of(URI, keepalive=-1)
