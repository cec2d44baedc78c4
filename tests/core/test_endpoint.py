from __future__ import annotations

import traceback
from typing import Any

import pytest
import switchgear
from hypothesis import example, given
from hypothesis import strategies as st
from switchgear import Endpoint, Group, InvalidOption, InvalidURI, Profile, SessionKind, SwitchgearError, parse_uri
from switchgear.endpoint import OPTIONS, SCHEMES, name_groups, scheme_of
from switchgear.errors import redact


@pytest.mark.parametrize(
    ("scheme", "canonical", "port", "is_tls", "is_websocket"),
    [
        ("mqtt", "mqtt", 1883, False, False),
        ("tcp", "mqtt", 1883, False, False),
        ("mqtts", "mqtts", 8883, True, False),
        ("ssl", "mqtts", 8883, True, False),
        ("mqtt+ssl", "mqtts", 8883, True, False),
        ("ws", "ws", 80, False, True),
        ("wss", "wss", 443, True, True),
    ],
)
def test_schemes(scheme: str, canonical: str, port: int, is_tls: bool, is_websocket: bool) -> None:  # noqa: FBT001 - a table
    """Each scheme gives its canonical name and default port, in any case of letters."""
    for written in (scheme, scheme.upper()):
        endpoint = parse_uri(f"{written}://broker.example.com")
        assert (endpoint.scheme, endpoint.host, endpoint.port) == (canonical, "broker.example.com", port)
        assert (endpoint.is_tls, endpoint.is_websocket) == (is_tls, is_websocket)
        assert endpoint.path == ("/mqtt" if is_websocket else "")


def test_every_scheme_is_tested() -> None:
    """The table of schemes holds those of the test above and no others."""
    assert set(SCHEMES) == {"mqtt", "tcp", "mqtts", "ssl", "mqtt+ssl", "ws", "wss"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mqtt://h", Endpoint("mqtt", "h", 1883)),
        (" mqtt://h:1 ", Endpoint("mqtt", "h", 1)),
        ("mqtt://h:65535/", Endpoint("mqtt", "h", 65535)),
        ("mqtt://10.0.0.1:1884", Endpoint("mqtt", "10.0.0.1", 1884)),
        ("mqtts://[::1]:8884", Endpoint("mqtts", "::1", 8884)),
        ("mqtts://[2001:db8::7]", Endpoint("mqtts", "2001:db8::7", 8883)),
        ("ws://h/broker/a", Endpoint("ws", "h", 80, path="/broker/a")),
        ("wss://h", Endpoint("wss", "h", 443, path="/mqtt")),
        ("mqtt://HOST", Endpoint("mqtt", "host", 1883)),
        ("mqtt://b\u00fccher.example", Endpoint("mqtt", "xn--bcher-kva.example", 1883)),
        ("mqtt://under_score", Endpoint("mqtt", "under_score", 1883)),
        ("mqtt://h?priority=2", Endpoint("mqtt", "h", 1883, priority=2)),
        ("mqtt://h?priority=2&priority=3", Endpoint("mqtt", "h", 1883, priority=3)),
        ("mqtts://h?address=10.1.2.3", Endpoint("mqtts", "h", 8883, address="10.1.2.3")),
        ("mqtts://h?address=::1", Endpoint("mqtts", "h", 8883, address="::1")),
        ("mqtt://h?connect_timeout=0.5", Endpoint("mqtt", "h", 1883, connect_timeout=0.5)),
    ],
)
def test_read(uri: str, expected: Endpoint) -> None:
    """A URI gives the endpoint that it names."""
    assert expected == parse_uri(uri)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("", "scheme://host:port"),
        ("broker.example.com", "scheme://host:port"),
        ("broker.example.com:1883", "scheme://host:port"),
        ("mqtt:h", "host is missing"),
        ("http://h", "'http'"),
        ("mqtt://", "host is missing"),
        ("mqtt://:1883", "host is missing"),
        ("mqtt://h:0", "port 0"),
        ("mqtt://h:65536", "1 to 65535"),
        ("mqtt://h:x", "1 to 65535"),
        ("mqtt://h:-1", "1 to 65535"),
        ("mqtt://h:1883/path", "ws:// or wss://"),
        ("mqtt://h#there", "fragment"),
        ("mqtt://a b", "space"),
        ("mqtt://h\n", None),
        ("mqtt://h\x00", "control character"),
        ("mqtt://[::1", "cannot be read"),
        ("mqtt://::1:1883", "brackets, as in [::1]:1883"),
        ("mqtt://fe80::1", "brackets"),
        ("mqtt://h:1883:1883", "1 to 65535"),
        ("mqtt://[::g]", None),
        ("mqtt://..", "host name"),
        ("mqtt://" + "a" * 64, "63"),
        ("mqtt://" + "a." * 127 + "a", "253"),
        ("mqtt://a%2Fb", "host name"),
        ("mqtt://h?nonsense=1", "valid options: address, connect_timeout, priority"),
        ("mqtt://h?priority=-1", "whole number"),
        ("mqtt://h?address=h2", "no IP address"),
        ("mqtt://h?connect_timeout=0", "above 0"),
        ("mqtt://h?connect_timeout=nan", "above 0"),
        ("mqtt://h?connect_timeout=" + "9" * 500, "above 0"),
    ],
)
def test_malformed(uri: str, why: str | None) -> None:
    """A malformed URI is refused with the value and what is wrong with it; a line end around it is no harm."""
    if why is None and uri.endswith("\n"):
        assert parse_uri(uri).host == "h"
        return
    with pytest.raises((InvalidURI, InvalidOption)) as caught:
        parse_uri(uri)
    assert (why or "") in str(caught.value)
    if isinstance(caught.value, InvalidURI):
        assert repr(uri) in str(caught.value)


@pytest.mark.parametrize("credentials", ["a%00b", "a%ffb", "u:p%ff", "x" * 65536, "u:" + "x" * 65536])
def test_credentials_that_mqtt_does_not_take(credentials: str) -> None:
    """User and password that no packet can hold are refused, and not replaced by something else."""
    with pytest.raises(InvalidURI, match="user or password, percent-decoded") as caught:
        parse_uri(f"mqtt://{credentials}@h")
    assert "p%ff" not in str(caught.value)


def test_credentials() -> None:
    """User and password are percent-decoded, kept out of the host, and shown nowhere."""
    endpoint = parse_uri("mqtts://us%40er:p%3A%2F%23ss@h:1")
    assert (endpoint.username, endpoint.host, endpoint.port) == ("us@er", "h", 1)
    assert endpoint.password is not None
    assert endpoint.password.reveal() == b"p:/#ss"
    for shown in (repr(endpoint), str(endpoint), endpoint.key, endpoint.authority):
        assert "p:/#ss" not in shown
        assert "us@er" not in shown


PASSWORDS = ("hunter2", "hun,ter2", "hun(ter)2", "hun/ter2", "hun#ter2", "hun?ter2", "hun@ter2", "hun:ter2", "hun ter2")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("user", ["u", "", "some.body@example.com"])
@pytest.mark.parametrize("rest", ["h", "h:99999", "h?foo=1", "[h", "h/path", "h,mqtt://other", "h\uff03"])
def test_no_password_in_errors(user: str, password: str, rest: str) -> None:
    """However a URI is wrong, no part of its password stands in the error, its traceback, or the profile's repr."""
    uri = f"mqtt://{user}:{password}@{rest}"
    try:
        switchgear.connect(uri, client_id="c").close()
    except SwitchgearError as error:
        shown = "".join(traceback.format_exception_only(error)) + repr(vars(error))
    else:
        shown = ""
    shown += repr(Profile(uri)) + redact(uri) + redact(f"failover:(tcp://a:1,{uri})?x=1")
    assert "hun" not in shown
    assert "ter2" not in shown
    assert "ter)2" not in shown


SAFE = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=9, max_size=20)


@given(
    user=st.text(st.sampled_from("ab.@-%"), max_size=5), password=SAFE, rest=st.sampled_from(["h", "h:1?x=1", "", "/"])
)
@example(user="@", password="012345678", rest="h")
def test_redact_any(user: str, password: str, rest: str) -> None:
    """No password of nine characters or more, whatever it holds, survives redact."""
    assert password not in redact(f"mqtts://{user}:{password}@{rest}")


@given(st.text() | st.builds("{}://{}".format, st.sampled_from([*SCHEMES, "x"]), st.text()))
@example("mqtt://[::1%25eth0]")
@example("mqtt://h?" + "&".join(["a=1"] * 2000))
@example("mqtt://\u3002")
@example("mqtt://xn--")
@example("ws://\u2100")
@example("mqtt://[v1.x]")
def test_any_text(text: str) -> None:
    """Any text gives an endpoint that can be dialled, or an error of our tree."""
    try:
        endpoint = parse_uri(text)
    except SwitchgearError:
        return
    again = parse_uri(str(endpoint))
    parts = ("scheme", "host", "port", "path")
    assert [getattr(endpoint, part) for part in parts] == [getattr(again, part) for part in parts]
    assert 1 <= endpoint.port <= 65535
    assert endpoint.host
    assert endpoint.host.isascii()


def test_scheme_of() -> None:
    """The scheme is what stands before the first colon, in lower case, when it can be one."""
    texts = ("Failover:(x)", " iot+dns:h", "h:1883", "1a:b", "://x", "", "a b:c")
    assert [scheme_of(text) for text in texts] == ["failover", "iot+dns", "h", "", "", "", ""]


def test_key() -> None:
    """The key tells endpoints apart by scheme, host, port, path and pinned address, not by credentials or priority."""
    base = parse_uri("ws://h:1/p")
    same = parse_uri("ws://u:p@h:1/p?priority=3&connect_timeout=1")
    others = ["wss://h:1/p", "ws://g:1/p", "ws://h:2/p", "ws://h:1/q", "ws://h:1/p?address=1.2.3.4"]
    assert base.key == same.key
    assert len({base.key, *(parse_uri(uri).key for uri in others)}) == 6


def test_groups() -> None:
    """Groups get names of their own and mark their endpoints; an empty one is refused."""
    one, two = name_groups(
        [Group([parse_uri("mqtt://a")]), Group([parse_uri("mqtt://b")], SessionKind.SHARED, name="x")]
    )
    assert (one.name, one.endpoints[0].group) == ("group1", "group1")
    assert (two.name, two.endpoints[0].group) == ("x", "x")
    assert (one.session, two.session) == (SessionKind.HUNT, SessionKind.SHARED)
    with pytest.raises(InvalidURI, match="at least one"):
        Group([])


@pytest.mark.parametrize(
    ("written", "scheme"), [("ssl", "mqtts"), ("MQTTS", "mqtts"), ("mqtt+ssl", "mqtts"), ("tcp", "mqtt")]
)
def test_schemes_of_endpoints(written: str, scheme: str) -> None:
    """An endpoint made without a URI reads every spelling of its scheme, so that ssl is never taken for plain TCP."""
    endpoint = Endpoint(written, "h", 8883)
    assert (endpoint.scheme, endpoint.is_tls) == (scheme, scheme == "mqtts")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("scheme", ("failover", "h", 1)),
        ("scheme", (None, "h", 1)),
        ("host", ("mqtt", "", 1)),
        ("host", ("mqtt", b"h", 1)),
        ("port", ("mqtt", "h", -1)),
        ("port", ("mqtt", "h", 65536)),
        ("port", ("mqtt", "h", "1883")),
    ],
)
def test_wrong_endpoints(name: str, values: tuple[Any, Any, Any]) -> None:
    """What can be no endpoint is refused where it is made, not at every attempt to dial it."""
    with pytest.raises(InvalidOption, match=f"option '{name}'"):
        Endpoint(*values)


def test_password_of_an_endpoint() -> None:
    """A password that an endpoint is given as text is a secret, and shows nowhere."""
    endpoint = Endpoint("mqtt", "h", 1, username="u", password="s3cret")
    assert endpoint.password is not None
    assert endpoint.password.reveal() == b"s3cret"
    assert "s3cret" not in f"{endpoint!r} {endpoint}"


def test_groups_by_name() -> None:
    """A group takes URIs for endpoints and the name of a session's kind for the kind; a wrong name is refused."""
    group = Group(["mqtt://a", parse_uri("ssl://b")], session="shared")
    assert group.endpoints == (Endpoint("mqtt", "a", 1883), Endpoint("mqtts", "b", 8883))
    assert group.session is SessionKind.SHARED
    with pytest.raises(InvalidOption, match="'sticky' is none of 'shared', 'hunt', 'clean'"):
        Group(["mqtt://a"], session="sticky")  # type: ignore[arg-type]  # that is the point
    for wrong in ("mqtt://a", Endpoint("mqtt", "a", 1883), [7], None):
        with pytest.raises(InvalidOption, match="option 'endpoints'"):
            Group(wrong)  # type: ignore[arg-type]  # the same


def test_options_are_documented() -> None:
    """The error of an unknown option lists every option."""
    with pytest.raises(InvalidOption) as caught:
        parse_uri("mqtt://h?x=1")
    assert tuple(sorted(OPTIONS)) == caught.value.valid


def test_groups_never_share_a_name() -> None:
    """A name that was filled in is none that another group has, and one that was given twice is refused."""
    a = parse_uri("mqtt://a")
    groups = [Group([a]), Group([a], name="group1"), Group([a]), Group([a], name="group4"), Group([a])]
    assert [group.name for group in name_groups(groups)] == ["group2", "group1", "group3", "group4", "group5"]
    with pytest.raises(InvalidOption, match="two groups have the name 'x'"):
        name_groups([Group([a], name="x"), Group([a], name="x")])
    with pytest.raises(InvalidOption, match="two groups have the name 'x'"):
        switchgear.connect([Group([a], name="x"), Group([a], name="x")])
