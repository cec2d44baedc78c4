from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from switchgear.backoff import GiveUpAfter, exponential, fleet
from switchgear.endpoint import SessionKind
from switchgear.errors import InvalidProfile, SwitchgearError, UnreadableFile
from switchgear.failback import Failback
from switchgear.profile import OPTIONS, OutboxLimits, Profile
from switchgear.profile_file import KEYS
from switchgear.secrets import Secret

WHOLE = """
where = ["ssl://b-1.example:8883", "ssl://b-2.example:8883"]
client_id = "press-7"
username = "publisher"
password = { env = "MQ_PASSWORD" }
protocol = "5"
session = "shared"
keepalive = 20
connect_timeout = 3
drain_rate = 100.5

[tls]
ca_file = "certs/ca.pem"
key_password = { file = "key.secret" }
alpn = ["mqtt"]
verify = true

[will]
topic = "presses/7/gone"
payload = "bye"
qos = 1

[outbox]
path = "press-7.outbox"
max_messages = 5
when_full = "drop_oldest"

[backoff]
policy = "fleet"
clients = 400
connects_per_second = 50

[give_up_after]
sweeps = 20

[startup_give_up_after]
seconds = 60

[plugins]
order = ["b", "a"]
disable = ["c"]

[plugins.a]
limit = 3

[plugins.c]

[plugins.d]
"""


def save(folder: Path, text: str) -> Path:
    path = folder / "switchgear.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def test_every_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile with every table gives the values that it writes, paths beside the file, secrets read late."""
    profile = Profile.load(save(tmp_path, WHOLE))
    assert profile.is_list
    assert profile.where == ("ssl://b-1.example:8883", "ssl://b-2.example:8883")
    assert (profile.client_id, profile.username, profile.protocol) == ("press-7", "publisher", "5")
    assert profile.session is SessionKind.SHARED
    assert profile.tls is not None
    assert profile.tls.ca_file == str(tmp_path / "certs" / "ca.pem")
    assert profile.tls.alpn == ("mqtt",)
    assert profile.will is not None
    assert profile.will.payload == b"bye"
    assert profile.outbox == str(tmp_path / "press-7.outbox")
    assert profile.outbox_limits == OutboxLimits(max_messages=5, when_full="drop_oldest")
    assert profile.backoff == fleet(clients=400, connects_per_second=50)
    assert profile.give_up_after == GiveUpAfter(sweeps=20)
    assert profile.startup_give_up_after == GiveUpAfter(seconds=60)
    assert profile.plugins == ("b", "a", "d")
    assert profile.disable_plugins == ("c",)
    assert profile.plugin_options == {"a": {"limit": 3}, "c": {}, "d": {}}
    monkeypatch.setenv("MQ_PASSWORD", "hush")
    (tmp_path / "key.secret").write_text("open\n", encoding="utf-8")
    assert isinstance(profile.password, Secret)
    assert profile.password.reveal() == b"hush"
    assert profile.tls.key_password is not None
    assert profile.tls.key_password.reveal() == b"open"


def test_short_forms(tmp_path: Path) -> None:
    """One URI is no list; an outbox may be a path alone, a password a text, an absolute path stays."""
    profile = Profile.load(
        save(
            tmp_path,
            'where = "mqtt://h"\noutbox = "/var/x"\npassword = "hush"\n[backoff]\npolicy = "exponential"\ncap = 5',
        )
    )
    assert not profile.is_list
    assert profile.outbox == "/var/x"
    assert profile.backoff == exponential(cap=5)
    assert "hush" not in repr(profile)


def test_certificates_in_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CAs and our certificate may stand in the profile, and the key in the environment; a key in a file has its own key."""
    pem = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    text = (
        f"where = 'mqtts://h'\n[tls]\nca_pem = '''{pem}'''\ncert_pem = '''{pem}'''\nkey_pem = {{env = 'PRESS_KEY'}}\n"
    )
    profile = Profile.load(save(tmp_path, text))
    monkeypatch.setenv("PRESS_KEY", "s3cret")
    assert profile.tls is not None
    assert profile.tls.read_ca() == profile.tls.read_certificate() == pem.encode()
    assert profile.tls.read_key() == b"s3cret"
    with pytest.raises(InvalidProfile, match=r"tls\.key_pem.*key_file"):
        Profile.load(save(tmp_path, text.replace("env = 'PRESS_KEY'", "file = 'key.pem'")))
    with pytest.raises(InvalidProfile, match=r"tls\.ca_pem.*ca_file is set too"):
        Profile.load(save(tmp_path, text + 'ca_file = "ca.pem"\n'))
    with pytest.raises(InvalidProfile, match=r"tls\.cert_pem: it is no text") as caught:
        Profile.load(save(tmp_path, "where = 'mqtts://h'\n[tls]\ncert_pem = ['certificate', 's3cret']\n"))
    assert "s3cret" not in str(caught.value)


NAMED = 'keepalive = 9\n[profile.a]\nwhere = "mqtt://a"\n[profile.b]\nwhere = "mqtt://b"\nkeepalive = 3\n'


def test_named_profiles(tmp_path: Path) -> None:
    """A name chooses a table; keys outside the tables count for all of them; a wrong name lists the right ones."""
    path = save(tmp_path, NAMED)
    a, b = Profile.load(path, name="a"), Profile.load(path, name="b")
    assert (a.where, a.keepalive) == (("mqtt://a",), 9)
    assert (b.where, b.keepalive) == (("mqtt://b",), 3)
    for name in (None, "c"):
        with pytest.raises(InvalidProfile) as caught:
            Profile.load(path, name=name)
        assert caught.value.valid == ("a", "b")
    with pytest.raises(InvalidProfile, match="without a name"):
        Profile.load(save(tmp_path, 'where = "mqtt://h"'), name="a")


WRONG = [
    ("", "where", "missing"),
    ("where = 5", "where", "5"),
    ("where = []", "where", "empty"),
    ("wher = 'mqtt://h'", "wher", "there is no such key"),
    ("press = {where = 'mqtt://h'}", "press", "a profile of this name is a table [profile.press]"),
    ("keepalive = 70000", "keepalive", "70000"),
    ("keepalive = true", "keepalive", "True"),
    ("connect_timeout = nan", "connect_timeout", "nan"),
    ("password = 5", "password", "env"),
    ("password = {env = 5}", "password.env", "5"),
    ("password = {env = 'A', file = 'b'}", "password", "write it as"),
    ("password = {file = ''}", "password.file", "path"),
    ("tls = 5", "tls", "table"),
    ("tls.ca = 'x'", "tls.ca", "no such key"),
    ("tls.ca_file = 5", "tls.ca_file", "5"),
    ("tls.alpn = 'x'", "tls.alpn", "list"),
    ("tls.alpn = [5]", "tls.alpn", "5"),
    ("tls.verify = 'no'", "tls.verify", "true"),
    ("will = {}", "will.topic", "missing"),
    ("will = {topic = 'a/#'}", "will.topic", "wildcard"),
    ("will = {topic = 5}", "will.topic", "str"),
    ("will = {topic = 'a', qos = 3}", "will.qos", "3"),
    ("will = {topic = 'a', payload = 5}", "will.payload", "5"),
    ("will = {topic = 'a', delay = 'x'}", "will.delay", "'x'"),
    ("will = {topic = 'a', later = 5}", "will.later", "no such key"),
    ("outbox = 5", "outbox", "5"),
    ("outbox = ''", "outbox.path", "path"),
    ("outbox.max_messages = 0", "outbox.max_messages", "0"),
    ("outbox.when_full = 'x'", "outbox.when_full", "'x'"),
    ("outbox.size = 5", "outbox.size", "no such key"),
    ("backoff = {}", "backoff.policy", "exponential"),
    ("backoff = {policy = 'x'}", "backoff.policy", "fleet"),
    ("backoff = {policy = 'fleet', clients = 5}", "backoff.connects_per_second", "missing"),
    ("backoff = {policy = 'exponential', clients = 5}", "backoff.clients", "no such key"),
    ("backoff = {policy = 'exponential', cap = 0}", "backoff.cap", "0"),
    ("backoff = {policy = 'exponential', cap = " + "9" * 400 + "}", "backoff.cap", "finite"),
    ("give_up_after = {tries = 5}", "give_up_after.tries", "no such key"),
    ("startup_give_up_after = {seconds = -1}", "startup_give_up_after.seconds", "-1"),
    ("plugins = ['a']", "plugins", "table"),
    ("plugins.order = 'a'", "plugins.order", "list"),
    ("plugins.disable = [5]", "plugins.disable", "list"),
    ("plugins.a = 5", "plugins.a", "table"),
    ("profile = 5", "profile", "table"),
    ("on_event = 'x'", "on_event", "no such key"),
]


@pytest.mark.parametrize(("text", "key", "word"), WRONG, ids=[text[:30] for text, _, _ in WRONG])
def test_wrong_keys_and_values(tmp_path: Path, text: str, key: str, word: str) -> None:
    """A wrong key or value is an error that names the file, the key and what is wrong with it."""
    path = save(tmp_path, text if "wher" in text or not text else f"where = 'mqtt://h'\n{text}")
    with pytest.raises(InvalidProfile) as caught:
        Profile.load(path)
    assert caught.value.where == f"{path}: {key}"
    assert word in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    """A missing file, a folder, bytes that are no UTF-8 and what is no TOML are told apart, with the line."""
    for path in (tmp_path / "none.toml", tmp_path, Path("a\0b")):
        with pytest.raises(UnreadableFile) as unreadable:
            Profile.load(path)
        assert unreadable.value.role == "profile"
    broken = save(tmp_path, "where = 'mqtt://h'\nkeepalive = = 5")
    with pytest.raises(InvalidProfile, match="line 2"):
        Profile.load(broken)
    broken.write_bytes(b"where = '\xff'")
    with pytest.raises(InvalidProfile, match="UTF-8"):
        Profile.load(broken)
    for text in ("keepalive = " + "9" * 5000, "where = " + "[" * 5000):
        with pytest.raises(InvalidProfile):
            Profile.load(save(tmp_path, text))


def test_errors_hide_secrets(tmp_path: Path) -> None:
    """A refused password, and credentials in a refused URI, are not in the error."""
    for text in ("where='mqtt://h'\npassword = ['s3cret']", "where=[['mqtt://u:s3cret@h']]", "passwd = 's3cret'"):
        with pytest.raises(InvalidProfile) as caught:
            Profile.load(save(tmp_path, text))
        assert "s3cret" not in str(caught.value)


def test_keys_are_those_of_the_profile() -> None:
    """Every option of a profile can be written in a file, but for functions and what the tables hold."""
    missing = {"on_event", "dead_letter", "outbox_limits", "disable_plugins", "plugin_options"}
    assert {"where", *OPTIONS} - missing == set(KEYS)


scalars = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["mqtt://h", "fleet", "exponential", "shared", "5", "a/b", 10**400])
)
names = st.sampled_from(
    [
        *KEYS,
        "policy",
        "cap",
        "clients",
        "connects_per_second",
        "topic",
        "qos",
        "payload",
        "ca_file",
        "env",
        "file",
        "order",
        "disable",
        "path",
        "max_messages",
        "seconds",
        "sweeps",
        "attempts",
        "key_password",
        "alpn",
        "delay",
    ]
)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=4), max_leaves=4)


def toml(value: Any) -> str:
    """*value* in TOML, tables inline."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(c):08X}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in value) + '"'
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
        case _:
            return str(value)


@given(table=st.dictionaries(names, values, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_any_toml_gives_a_profile_or_our_error(tmp_path: Path, table: dict[str, object]) -> None:
    """Any TOML file gives a profile or an error of our tree that names the file."""
    path = save(tmp_path, "\n".join(f"{key} = {toml(value)}" for key, value in {"where": "mqtt://h", **table}.items()))
    refusal = None
    try:
        profile = Profile.load(path)
    except SwitchgearError as error:
        refusal = error
    assert str(path) in str(refusal) if refusal else profile.where


@given(text=st.text(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_any_text_gives_a_profile_or_our_error(tmp_path: Path, text: str) -> None:
    """Any text in a file is refused by an error of our tree, for hardly any is a profile."""
    with pytest.raises(SwitchgearError):
        Profile.load(save(tmp_path, text))


def test_failback(tmp_path: Path) -> None:
    """A table describes the fail-back, and false switches it off."""
    path = tmp_path / "switchgear.toml"
    path.write_text('where = "mqtt://a"\n[failback]\nevery = 2\nsuccesses = 1\nprobe_client_id = "scout"\n')
    assert Profile.load(path).failback == Failback(every=2, successes=1, probe_client_id="scout")
    path.write_text('where = "mqtt://a"\nfailback = false\n')
    assert Profile.load(path).failback is False
