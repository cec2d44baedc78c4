"""The options of the plugin and of its URIs: what is read, and how what is wrong is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from switchgear.endpoint import Endpoint, SessionKind
from switchgear.errors import InvalidOption, InvalidURI
from switchgear.profile import Profile
from switchgear.transport import AsyncTransport
from switchgear_iot_dns import Settings, options, provide_endpoints, uri


def test_defaults_are_what_users_do_by_hand() -> None:
    """Without options: the system's resolver, five seconds, three answers a second apart, no watch."""
    made = options.read({})
    assert made == Settings()
    assert (made.resolver, made.wait, made.answers, made.poll, made.watch) == ("os", 5.0, 3, 0.5, 0.0)


def test_an_unknown_option_of_a_uri_names_those_that_there_are() -> None:
    """A misspelt option is told apart from the plugin's own, and in the URI that was written."""
    with pytest.raises(InvalidOption) as caught:
        uri.read("iot+dns://m.example.com?whatch=20", {})
    line = str(caught.value)
    assert "option 'whatch': is unknown in 'iot+dns://m.example.com?whatch=20'; valid options: answers, bound," in line
    assert line.endswith("priority, resolver, timeout, wait, watch, window")
    assert "address" not in line
    with pytest.raises(InvalidOption, match="option 'priority'"):
        uri.read("iot+dns://m.example.com?priority=x", {})


def test_every_option_is_read_from_texts_and_numbers() -> None:
    """Each option has the same meaning as a number of a profile and as the text of a URI."""
    numbers = {"poll": 0.7, "answers": 2, "wait": 0, "bound": 9, "timeout": 1.5, "watch": 20, "window": 3, "drain": 4}
    texts = {name: str(value) for name, value in numbers.items()}
    expected = Settings(poll=0.7, answers=2, wait=0, bound=9, timeout=1.5, watch=20, window=3, drain=4)
    assert options.read(numbers) == options.read(texts) == expected
    assert set(options.NAMES) == set(numbers) | {"resolver"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("os", "os"),
        ("authoritative", "authoritative"),
        ("192.0.2.53", ("192.0.2.53",)),
        ("192.0.2.53:5353,2001:db8::53", ("192.0.2.53:5353", "2001:db8::53")),
        (["[2001:db8::53]:5353"], ("[2001:db8::53]:5353",)),
    ],
)
def test_resolvers(value: object, expected: object) -> None:
    """A resolver is one of two words or a list of name servers, as a text with commas or as a list."""
    assert options.read({"resolver": value}).resolver == expected


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_places_of_servers(server: str, expected: tuple[str, int]) -> None:
    """Addresses of both families are read with and without a port."""
    assert options.place(server) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pol": 1}, "the plugin iot_dns has no such option; valid options: answers, bound"),
        ({"poll": 0}, "0 is no number of seconds from 0.1 to 60"),
        ({"poll": "1s"}, "'1s' is no number of seconds"),
        ({"poll": True}, "True is no number"),
        ({"bound": float("nan")}, "nan is no number"),
        ({"bound": 10**400}, "is no number of seconds from 0 to 86400"),
        ({"answers": 2.5}, "2.5 is no whole number from 1 to 20"),
        ({"answers": 0}, "0 is no whole number from 1 to 20"),
        ({"resolver": "ns1.example.com"}, "'ns1.example.com' is no IP address of a name server"),
        ({"resolver": "192.0.2.53:99999"}, "no port from 1 to 65535"),
        ({"resolver": ""}, "'' is no IP address"),
        ({"resolver": 5}, '5 is neither "os" nor "authoritative" nor a list'),
        ({"resolver": []}, "nor a list of name servers"),
        ({"resolver": ["192.0.2.1"] * 9}, "9 name servers are more than the 8"),
    ],
)
def test_wrong_options(wrong: dict[str, object], message: str) -> None:
    """A wrong option is refused with its name, its value and what is valid."""
    with pytest.raises(InvalidOption, match=message.replace("(", r"\(")):
        options.read(wrong)


def test_wrong_options_are_refused_before_anything_starts() -> None:
    """A transport with the plugin and a wrong option is not built, however its endpoints are given."""
    for where in ("mqtts://mqtt1.example.com", "iot+dns://mqtt1.example.com"):
        profile = Profile(where, plugins=["iot_dns"], plugin_options={"iot_dns": {"poll": "soon"}})
        with pytest.raises(InvalidOption, match="'soon' is no number of seconds"):
            AsyncTransport(profile)


@pytest.mark.parametrize(("asked", "spoken"), [(None, "5"), ("3.1.1", "3.1.1"), ("5", "5")])
def test_protocol(asked: str | None, spoken: str) -> None:
    """A name speaks MQTT 5 unless somebody asks for another version: only there a broker says why it sends us away."""
    transport = AsyncTransport(Profile("iot+dns://mqtt1.example.com", client_id="c", protocol=asked))  # type: ignore[arg-type]
    assert transport._plan.protocol == spoken


def test_uri() -> None:
    """A URI is one endpoint over TLS on 8883, a hunt group, with the endpoint's own options beside ours."""
    found = uri.read("IOT+DNS://Mqtt1.Example.com?watch=20&priority=2&connect_timeout=3", {"watch": 60, "poll": 2})
    assert found is not None
    endpoint, settings = found
    assert endpoint == Endpoint("mqtts", "mqtt1.example.com", 8883, priority=2, connect_timeout=3.0)
    assert settings == Settings(watch=20, poll=2)
    groups = provide_endpoints("iot+dns://mqtt1.example.com:443", {})
    assert groups is not None
    [group] = groups
    assert (group.session, group.endpoints) == (SessionKind.HUNT, (Endpoint("mqtts", "mqtt1.example.com", 443),))
    assert provide_endpoints("mqtts://mqtt1.example.com", {}) is None


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("iot+dns://192.0.2.1", InvalidURI, "'192.0.2.1' is an address; DNS switches names"),
        ("iot+dns://[2001:db8::1]:8883", InvalidURI, "is an address"),
        ("iot+dns://a.example?address=192.0.2.1", InvalidURI, "address= pins the place"),
        ("iot+dns://a.example/path", InvalidURI, "cannot read the URI 'iot.dns://a.example/path'"),
        ("iot+dns://a b", InvalidURI, "iot.dns://a b"),
        ("iot+dns://a.example?pol=1", InvalidOption, "option 'pol'"),
        ("iot+dns://a.example?poll=x", InvalidOption, "'x' is no number"),
    ],
)
def test_wrong_uris(wrong: str, error: type[Exception], message: str) -> None:
    """A wrong URI is refused with the URI as it was written, and the reason."""
    with pytest.raises(error, match=message):
        provide_endpoints(wrong, {})


def test_missing_dnspython() -> None:
    """Without dnspython the plugin is skipped, and whoever uses its scheme or names it is told what to install."""
    program = (
        "import sys; sys.modules['dns'] = None\n"
        "import switchgear\n"
        "for where, more in (('iot+dns://mqtt1.example.com', {}), ('mqtts://mqtt1.example.com', {'plugins': ['iot_dns']})):\n"
        "    try: switchgear.connect(where, **more)\n"
        "    except switchgear.ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert [line.count("dnspython is missing: pip install dnspython") for line in done.stdout.splitlines()] == [1, 1]
