from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from switchgear.backoff import GiveUpAfter, fleet
from switchgear.cli.options import Connection, is_uri, parse_fleet
from switchgear.endpoint import SessionKind
from switchgear.errors import ConfigurationError, InvalidOption, UnreadableFile

NOTHING: dict[str, Any] = dict.fromkeys(
    [
        "endpoint", "profile", "profile_name", "client_id", "username", "password_env", "password_file", "ca_file",
        "cert_file", "key_file", "protocol", "session", "keepalive", "outbox", "fleet_size", "give_up_after", "driver",
        "plugin",
    ]
)  # fmt: skip
URI = "mqtt://h"


def given(**options: object) -> Connection:
    return Connection(NOTHING | {"events": False, "quiet": False} | options)


def test_where_is_the_first_argument() -> None:
    """Without --endpoint and --profile the first argument is WHERE, one place and no list."""
    profile, rest = given().profile([URI, "topic", "message"])
    assert (profile.where, profile.is_list, rest) == ((URI,), False, ["topic", "message"])


@pytest.mark.parametrize(("endpoints", "is_list"), [([URI], False), ([URI, "mqtt://i"], True)])
def test_endpoints_take_the_place_of_where(endpoints: list[str], is_list: bool) -> None:  # noqa: FBT001 - a parameter
    """With --endpoint there is no WHERE; given twice it is a list."""
    profile, rest = given(endpoint=endpoints).profile(["topic"])
    assert (profile.where, profile.is_list, rest) == (tuple(endpoints), is_list, ["topic"])


def test_profile_takes_the_place_of_where(tmp_path: Path) -> None:
    """With --profile there is no WHERE, and options replace what the file says."""
    path = tmp_path / "p.toml"
    path.write_text(
        '[profile.a]\nwhere = ["mqtt://a"]\nkeepalive = 9\nclient_id = "x"\nplugins.order = ["one"]\n', "utf-8"
    )
    profile, rest = given(profile=path, profile_name="a", keepalive=5, plugin=["two"]).profile(["topic"])
    assert (profile.where, profile.is_list, rest) == (("mqtt://a",), True, ["topic"])
    assert (profile.keepalive, profile.client_id, profile.plugins) == (5, "x", ("one", "two"))
    assert profile.give_up_on_fatal


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, []),
        ({"endpoint": [URI]}, [URI, "topic"]),
        ({"endpoint": [URI]}, ["failover:(mqtt://h)", "topic"]),
        ({"endpoint": [URI], "profile": Path("p.toml")}, ["topic"]),
        ({"profile_name": "a"}, [URI]),
        ({"password_env": "A", "password_file": Path("b")}, [URI]),
        ({"password_env": "NOT_THERE"}, [URI]),
        ({"password_env": ""}, [URI]),
        ({"password_env": "TOO_LONG"}, [URI]),
        ({"password_file": Path("/not/there")}, [URI]),
        ({"ca_file": Path("/not/there")}, [URI]),
        ({"key_file": Path(__file__)}, [URI]),
        ({"give_up_after": -1.0}, [URI]),
        ({"session": "sticky"}, [URI]),
        ({"fleet_size": "many"}, [URI]),
    ],
)
def test_what_cannot_be_meant_is_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], arguments: list[str]
) -> None:
    """Contradicting options, missing secrets and files, and wrong values are errors before anything starts."""
    monkeypatch.setenv("TOO_LONG", "x" * 65536)
    with pytest.raises(ConfigurationError):
        given(**options).profile(arguments)


def test_options_reach_the_profile() -> None:
    """Every option that was given is in the profile."""
    options = {
        "client_id": "me",
        "protocol": "5",
        "session": "shared",
        "keepalive": 3,
        "outbox": Path("x"),
        "driver": "d",
    }
    more = {"fleet_size": "40@5", "give_up_after": 7.5}
    profile, _ = given(**options, **more).profile([URI])
    assert (profile.client_id, profile.protocol, profile.session) == ("me", "5", SessionKind.SHARED)
    assert (profile.keepalive, profile.outbox, profile.driver) == (3, "x", "d")
    assert profile.backoff == fleet(clients=40, connects_per_second=5)
    assert profile.give_up_after == GiveUpAfter(seconds=7.5)


def test_credentials_come_from_options_then_profile_then_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option beats the profile, and the profile beats the environment."""
    monkeypatch.setenv("SWITCHGEAR_USERNAME", "from-environment")
    monkeypatch.setenv("SWITCHGEAR_PASSWORD", "from-environment")
    monkeypatch.setenv("OTHER", "from-option")
    path = tmp_path / "p.toml"
    path.write_text(f'where = "{URI}"\nusername = "from-profile"\npassword = "from-profile"\n', "utf-8")
    secret = tmp_path / "secret"
    secret.write_text("from-file\n", "utf-8")

    def credentials(connection: Connection, *arguments: str) -> tuple[str | None, bytes]:
        profile, _ = connection.profile(list(arguments))
        assert profile.password is not None
        return profile.username, profile.password.reveal()

    assert credentials(given(), URI) == ("from-environment", b"from-environment")
    assert credentials(given(profile=path)) == ("from-profile", b"from-profile")
    assert credentials(given(profile=path, username="u", password_env="OTHER")) == ("u", b"from-option")
    assert credentials(given(password_file=secret), URI) == ("from-environment", b"from-file")


@pytest.mark.parametrize("text", ["mqtt://h", "failover:(mqtt://h)", "IOT+DNS://x"])
def test_places_are_told_from_topics(text: str) -> None:
    """What has a scheme and // or a list is a place."""
    assert is_uri(text)


@pytest.mark.parametrize("text", ["", "a/b", "a:b", "//a", "sensor:1/temp", "://"])
def test_topics_are_told_from_places(text: str) -> None:
    """A topic with a colon in it is no place."""
    assert not is_uri(text)


@pytest.mark.parametrize(
    "text", ["", "@", "4", "4@", "@4", "x@4", "4@x", "4.5@1", "0@1", "1@0", "1@nan", "9" * 5000 + "@1"]
)
def test_wrong_fleets_are_refused(text: str) -> None:
    """What is not N@R is refused with an example."""
    with pytest.raises(InvalidOption) as caught:
        parse_fleet(text)
    assert caught.value.name == "fleet"


def test_missing_key_is_named() -> None:
    """A file that is missing is named in the error."""
    with pytest.raises(UnreadableFile) as caught:
        given(cert_file=Path("/not/there.pem")).profile([URI])
    assert caught.value.path == "/not/there.pem"
