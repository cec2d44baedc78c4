from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear.errors import ConfigurationError, UnreadableFile
from switchgear.message import topic_matches
from switchgear_activemq.amazon_mq import rules
from switchgear_activemq.amazon_mq.permissions import EXAMPLE, Permissions, _covers
from switchgear_activemq.amazon_mq.permissions_file import MOST, InvalidPermissions, example, load, parse

BASE = """
[users.me]
groups = ["gg"]
[groups.gg]
publish = ["a/#"]
create = ["a/#"]
"""


def made(text: str) -> Permissions:
    return parse(text, Path("p.toml"))


def user(keys: str) -> str:
    return f"[users.me]\n{keys}\n[groups.gg]\nadmin = true\n[groups.hh]\nadmin = true\n"


def group(keys: str) -> str:
    return f'[users.me]\ngroups = ["gg"]\n[groups.gg]\n{keys}\n'


def test_example() -> None:
    """The example is a file that works, without notes: administrators, publishers and subscribers."""
    permissions = example()
    assert permissions.name == "press"
    assert [u.name for u in permissions.users] == ["admin", "publisher", "subscriber"]
    assert [g.name for g in permissions.groups] == ["admins", "publishers", "subscribers"]
    assert permissions.purge.keep == ("state/#",)
    assert permissions.notes() == ()


def test_a_file(tmp_path: Path) -> None:
    """A file with a byte order mark is read, and the password file beside it; its text shows in no representation."""
    (tmp_path / "pw").write_text("correct horse battery\n", encoding="utf-8")
    path = tmp_path / "p.toml"
    path.write_bytes(b"\xef\xbb\xbf" + user('groups = ["gg"]\npassword = {file = "pw"}').encode())
    (one,) = load(path).users
    assert one.password is not None
    assert one.password.reveal() == b"correct horse battery"
    assert "correct" not in repr(load(path))


def test_a_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in a variable is read when it is needed and not before, so that `template` does without it."""
    (one,) = made(user('groups = ["gg"]\npassword = {env = "NO_SUCH_VARIABLE"}')).users
    assert one.password is not None
    with pytest.raises(ConfigurationError, match="NO_SUCH_VARIABLE is not set"):
        one.password.reveal()
    monkeypatch.setenv("NO_SUCH_VARIABLE", "x")
    assert one.password.reveal() == b"x"


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("x = ", "p.toml", "it is no TOML"),
        ("x = " + "[" * 5000, "p.toml", "it is no TOML|nested too deeply"),
        ("x = 1" + BASE, "p.toml: x", "there is no such key; valid keys: groups, name, purge, topics, users"),
        ('name = "a b"' + BASE, "p.toml: name", "broker names of 1 to 50"),
        ("name = 7" + BASE, "p.toml: name", "7 is no text"),
        ('name = "' + "n" * 51 + '"' + BASE, "p.toml: name", "broker names of 1 to 50"),
        ("", "p.toml: groups", "there are none"),
        ("users = 1\n[groups.gg]\nadmin = true", "p.toml: users", "there are none"),
        ("[groups.gg]\nadmin = true\n[users.me]\nadmin = true", "p.toml: users.me.admin", "no such key; valid keys: console"),
        ("[groups.gg]\nadmin = true\n[users]\nu1 = 1", "p.toml: users.u1", "1 is no table"),
        ("[groups.gg]\nadmin = true\n[users.me]\n", "p.toml: users.me.groups", "in no group"),
        ('[groups.gg]\nadmin = true\n[users."a b"]\ngroups = ["gg"]', "p.toml: users.a b", "2 to 100 letters"),
        ('[groups.gg]\nadmin = true\n[users.x]\ngroups = ["gg"]', "p.toml: users.x", "2 to 100 letters"),
        ('[groups."g,h"]\nadmin = true', "p.toml: groups.g,h", "2 to 100 letters"),
        (user('groups = ["gg", "k"]'), "p.toml: users.me.groups", r"there is no \[groups.k\]; groups here: gg, hh"),
        (user('groups = ["gg", "gg"]'), "p.toml: users.me.groups", "'gg' is there twice"),
        (user('groups = "gg"'), "p.toml: users.me.groups", "no list of texts"),
        (user('groups = ["activemq-webconsole"]'), "p.toml: users.me.groups", "write console = true instead"),
        (user('groups = ["gg"]\nconsole = 1'), "p.toml: users.me.console", "1 is neither true nor false"),
        (user('groups = ["gg"]\npassword = 1'), "p.toml: users.me.password", "write text"),
        (user('groups = ["gg"]\npassword = {env = ""}'), "p.toml: users.me.password", "write text"),
        (user('groups = ["gg"]\npassword = "short"'), "p.toml: users.me.password", "it has 5 characters; Amazon MQ takes 12"),
        (user('groups = ["gg"]\npassword = "aaaaaaaaaaaaaab"'), "p.toml: users.me.password", "2 different characters"),
        (user('groups = ["gg"]\npassword = "abcdefghijkl=m"'), "p.toml: users.me.password", "an equals sign"),
        ("[groups.activemq-webconsole]\nadmin = true", "p.toml: groups.activemq-webconsole", "Amazon MQ's own"),
        (group(""), "p.toml: groups.gg", "it may do nothing"),
        (group('admin = true\npublish = ["a"]'), "p.toml: groups.gg", "admin = true allows everything"),
        (group('publishes = ["a"]'), "p.toml: groups.gg.publishes", "no such key; valid keys: admin, create, publish"),
        (group('publish = ["a.b"]'), "p.toml: groups.gg.publish", "'a.b': ActiveMQ writes '.' as '/'"),
        (group('publish = ["a/*"]'), "p.toml: groups.gg.publish", r"ActiveMQ writes '\*' as '\+'"),
        (group('publish = ["a,b"]'), "p.toml: groups.gg.publish", "comma"),
        (group('subscribe = ["a?b"]'), "p.toml: groups.gg.subscribe", "question mark"),
        (group('subscribe = [" a"]'), "p.toml: groups.gg.subscribe", "white space"),
        (group('subscribe = ["$share/g/a"]'), "p.toml: groups.gg.subscribe", "no shared subscriptions"),
        (group('subscribe = ["a/#/b"]'), "p.toml: groups.gg.subscribe", "# stands alone"),
        (group('create = ["a//b"]'), "p.toml: groups.gg.create", "empty levels"),
        (group('create = ["/a"]'), "p.toml: groups.gg.create", "empty levels"),
        (group('create = ["a${b}"]'), "p.toml: groups.gg.create", "Amazon MQ removes"),
        (group('create = ["a\\u0007b"]'), "p.toml: groups.gg.create", "control characters"),
        (group('create = [""]'), "p.toml: groups.gg.create", "it is empty"),
        ('topics = ["a/+"]' + BASE, "p.toml: topics", "wildcard"),
        (BASE + "[purge]\ninactive = 1", "p.toml: purge.inactive", "no such key; valid keys: every_s"),
        (BASE + "[purge]\ninactive_s = -1", "p.toml: purge.inactive_s", "-1 is no whole number of 0 to"),
        (BASE + "[purge]\ninactive_s = 1.5", "p.toml: purge.inactive_s", "no whole number"),
        (BASE + "[purge]\ninactive_s = true", "p.toml: purge.inactive_s", "no whole number"),
        (BASE + "[purge]\nevery_s = 0", "p.toml: purge.every_s", "0 is no whole number of 1 to"),
        ("purge = 1" + BASE, "p.toml: purge", "1 is no table"),
    ],
)  # fmt: skip
def test_refused(text: str, where: str, why: str) -> None:
    """Each thing that is wrong is refused in one line that names the key, the value and what is valid."""
    with pytest.raises(InvalidPermissions, match=why) as caught:
        made(text)
    assert caught.value.where == where
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("password", ["correct horse, battery", "abc-def:ghi-jkl"])
def test_a_refused_password_does_not_show(password: str) -> None:
    """The error about a password does not quote it."""
    with pytest.raises(InvalidPermissions) as caught:
        made(user(f'groups = ["gg"]\npassword = "{password}"'))
    assert password[:5] not in str(caught.value)


def test_limits() -> None:
    """251 users, or 21 groups of one user, are refused with the number; 250 and 20 are taken."""
    groups = "".join(f"[groups.g{n:02}]\nadmin = true\n" for n in range(rules.MOST_GROUPS + 1))
    many = ", ".join(f'"g{n:02}"' for n in range(rules.MOST_GROUPS))
    made(f"{groups}[users.me]\ngroups = [{many}]")
    with pytest.raises(InvalidPermissions, match="there are 21; Amazon MQ takes 20"):
        made(f'{groups}[users.me]\ngroups = [{many}, "g{rules.MOST_GROUPS}"]')
    users = "".join(f'[users.u{n:03}]\ngroups = ["g00"]\n' for n in range(rules.MOST_USERS))
    made(groups + users)
    with pytest.raises(InvalidPermissions, match="there are 251; Amazon MQ takes 250"):
        made(groups + users + '[users.one-more]\ngroups = ["g00"]')


def test_a_day_in_milliseconds_fits() -> None:
    """The longest time between two looks fits into the 32 bits in which ActiveMQ counts its milliseconds."""
    assert MOST["every_s"] * 1000 < 2**31


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, and bytes that are no UTF-8 are each one line."""
    for path in (tmp_path / "missing", tmp_path, Path("a\0b")):
        with pytest.raises(UnreadableFile, match="permissions"):
            load(path)
    path = tmp_path / "latin"
    path.write_bytes(b"name = '\xe9'")
    with pytest.raises(InvalidPermissions, match="no UTF-8 at byte 8"):
        load(path)


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (BASE, []),
        (BASE.replace("create", "subscribe"), ["group gg: me may publish to a/# and not create it"]),
        (group('publish = ["a/1"]\ncreate = ["a/+"]'), []),
        (group('publish = ["a/#"]\ncreate = ["a/+"]'), ["group gg: me may publish to a/#"]),
        ('topics = ["a"]\n' + group('publish = ["a"]\nsubscribe = ["a"]'), []),
        (group('subscribe = ["a/1", "a/+", "a/#"]'), ["group gg: me may subscribe to a/1 and not create it"]),
        (group('subscribe = ["ActiveMQ/Advisory/#"]'), ["group gg: with the right to read ActiveMQ/Advisory/#"]),
        (BASE + "[groups.nobody]\nadmin = true", ["group nobody: no user is in it"]),
        (BASE.replace("[users.me]", "[users.me]\nconsole = true"), ["user me: console = true lets it do everything"]),
        (user('groups = ["gg"]\nconsole = true').replace("[groups.hh]\nadmin = true", ""), []),
        (
            '[users.me]\ngroups = ["gg", "makers"]\n[groups.gg]\npublish = ["a"]\n[groups.makers]\ncreate = ["#"]',
            [],
        ),
    ],
)  # fmt: skip
def test_notes(text: str, notes: list[str]) -> None:
    """What is allowed and surprises is told: no right to create, an empty group, a console user who is no administrator."""
    found = made(text).notes()
    assert len(found) == len(notes)
    for note, begin in zip(found, notes, strict=True):
        assert note.startswith(begin)


LEVEL = st.sampled_from(["a", "b", "+"])
FILTER = st.builds(
    lambda levels, end: "/".join([*levels, *end]), st.lists(LEVEL, min_size=1, max_size=3), st.sampled_from([[], ["#"]])
)
TOPIC = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join)


@given(wider=FILTER, narrower=FILTER, topic=TOPIC)
def test_covers(wider: str, narrower: str, topic: str) -> None:
    """Where one filter covers another, each topic of the other is one of its own."""
    if _covers(wider, narrower) and topic_matches(narrower, topic):
        assert topic_matches(wider, topic)


def test_example_is_documented() -> None:
    """The page of the how-to shows the example as it is."""
    page = Path(__file__).parents[3] / "docs/how-to/amazon-mq.md"
    assert EXAMPLE.strip() in page.read_text(encoding="utf-8")
