"""The plan file: what it may say, and which key is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear_iot_dns.dr import plan_file, settings
from switchgear_iot_dns.dr.errors import InvalidPlanFile
from switchgear_iot_dns.dr.plan_file import KEYS, load

ROOT = Path(__file__).parents[4]

GOOD = """
[zone]
id = "Z1"
[domains."M.example.com."]
targets = {us-east-1 = "e.example.net", eu-west-1 = "w.example.net"}
[modes.east]
"m.example.com" = "us-east-1"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dr.toml"
    path.write_text(text)
    return path


def test_the_least_file(tmp_path: Path) -> None:
    """A file with the needed keys alone is refused, or names are not compared as DNS does."""
    read = load(written(tmp_path, GOOD))
    assert list(read.domains) == ["m.example.com"]
    assert read.modes == {"east": {"m.example.com": "us-east-1"}}
    assert read.journal == str(tmp_path / "dr-journal")
    assert read.domains["m.example.com"].region_of("E.example.net.") == "us-east-1"
    assert read.domains["m.example.com"].region_of("x.example.net") is None
    assert read.region("us-east-1") == settings.Region()


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    """A relative path depends on where the command is run."""
    more = '[domains."m.example.com".clients]\nsource = "file"\nfile = "ids.txt"\n[handshake]\nca_file = "ca.pem"'
    text = 'journal = "runs"\n' + GOOD.replace('"M.example.com."', '"m.example.com"') + more
    read = load(written(tmp_path, text))
    assert read.journal == str(tmp_path / "runs")
    assert read.domains["m.example.com"].clients.file == str(tmp_path / "ids.txt")
    assert read.handshake.ca_file == str(tmp_path / "ca.pem")


DOMAIN = '[domains."M.example.com."]'


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ('id = "Z1"', "", "zone.id: it is missing"),
        ('id = "Z1"', 'id = "no zone"', "zone.id: 'no zone' is not a hosted zone id such as Z0123456789ABC"),
        ('id = "Z1"', 'id = "Z1"\nttl = 3', "zone.ttl: there is no such key; valid keys: authoritative, id, name_servers"),
        ('[zone]\nid = "Z1"', "zone = 3", "zone: 3 is no table"),
        ('[zone]\nid = "Z1"', "", "zone: the table is missing"),
        ("[zone]", "[other]\n[zone]", "other: there is no such key; valid keys: domains, handshake, journal, modes"),
        (DOMAIN, "[domains.local]", "domains.local: it is no DNS name; quote it"),
        (DOMAIN, f"{DOMAIN}\nttl = -1", "domains.M.example.com..ttl: -1 is not a whole number from 0 to 2147483647"),
        ("us-east-1 = ", "east = ", "domains.M.example.com..targets: 'east' is not a region such as us-east-1"),
        ('"e.example.net"', '"e"', "domains.M.example.com..targets.us-east-1: 'e' is not a host name"),
        ('"e.example.net"', '"W.example.net."', "domains.M.example.com..targets: two regions have the same host"),
        ('"m.example.com" = "us-east-1"', "", "modes.east: it does not say where m.example.com goes"),
        ('= "us-east-1"', '= "us-west-2"', "modes.east.m.example.com: 'us-west-2' is no region of its targets; they are eu-west-1, us-east-1"),
        ('"m.example.com" =', '"x.example.com" =', "modes.east.x.example.com: there is no such domain; the file has m.example.com"),
        ('= "us-east-1"', '= ["us-east-1"]', "modes.east.m.example.com: ['us-east-1'] is no region of its targets; they are eu-west-1"),
        ('"e.example.net"', '"10.0.0.1"', "domains.M.example.com..targets.us-east-1: '10.0.0.1' is not a host name"),
        ('"e.example.net"', '"m.Example.com"', "domains.M.example.com..targets.us-east-1: it is the domain itself"),
        ("[modes.east]", '[domains."m.example.com"]\n[modes.east]', "domains.m.example.com: it is there twice; upper case and a dot"),
        ("[zone]", 'journal = "a\\u0000b"\n[zone]', "journal: 'a\\x00b' is no path"),
        ("[zone]", f"pace = {'[' * 3000}\n[zone]", "it is no TOML: "),
        ("[zone]", f"waits = {'9' * 5000}\n[zone]", "it is no TOML: "),
        ("[modes.east]", "[modes]\n[regions.east]", "regions.east: it is no region such as us-east-1"),
        ("[zone]", "journal = 3\n[zone]", "journal: 3 is no path"),
        ("[zone]", "pace = {workers = 0}\n[zone]", "pace.workers: 0 is not a whole number from 1 to 256"),
        ("[zone]", "pace = {canary_share = 2}\n[zone]", "pace.canary_share: 2 is not a share from 0 to 1"),
        ("[zone]", "pace = {connect_share = 0}\n[zone]", "pace.connect_share: 0 is not a share above 0"),
        ("[zone]", "pace = {prevent_will = 1}\n[zone]", "pace.prevent_will: 1 is neither True nor False"),
        ("[zone]", "waits = {total = 0}\n[zone]", "waits.total: 0 is not a number of seconds above 0"),
        ("[zone]", 'handshake = {port = "x"}\n[zone]', "handshake.port: 'x' is not a whole number from 1 to 65535"),
        ("[zone]", 'regions.us-east-1.handshake_to = "x"\n[zone]', "regions.us-east-1.handshake_to: 'x' is not a HOST:PORT"),
        ("[zone]", 'regions.us-east-1.handshake_to = "x:99999"\n[zone]', "regions.us-east-1.handshake_to: 'x:99999' is not a HOST:PORT"),
        ("[zone]", 'regions.us-east-1.data_endpoint = "::: x"\n[zone]', "regions.us-east-1.data_endpoint: '::: x' is not a host name"),
        ('id = "Z1"', 'id = "Z1"\nname_servers = ["10.0.0.2:99999"]', "zone.name_servers: ('10.0.0.2:99999',) is not a list of ADDRESS"),
        ('id = "Z1"', 'id = "Z1"\nname_servers = ["no server"]', "zone.name_servers: ('no server',) is not a list of ADDRESS"),
    ],
)  # fmt: skip
def test_the_wrong_key_is_named(tmp_path: Path, before: str, after: str, line: str) -> None:
    """A wrong key or value is taken, or its error does not name the key, the value and what is valid."""
    assert before in GOOD
    path = written(tmp_path, GOOD.replace(before, after, 1))
    with pytest.raises(InvalidPlanFile) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("clients", "line"),
    [
        ('source = "guess"', "clients.source: "),
        ('source = "file"', "clients.file: it is missing; the source file reads it"),
        ('source = "presence"', "clients.file: it is missing; the source presence reads it"),
        ('source = "list"', "clients.ids: it is missing; the source list is it"),
        ("ids = [3]", "clients.ids: (3,) is not a list of texts"),
    ],
)
def test_clients_have_to_come_from_somewhere(tmp_path: Path, clients: str, line: str) -> None:
    """A source without what it reads is taken for one that names nobody."""
    with pytest.raises(InvalidPlanFile, match=re.escape(line)):
        load(written(tmp_path, GOOD.replace(DOMAIN, f"{DOMAIN}\nclients = {{{clients.replace(chr(10), ', ')}}}")))


def test_places_are_taken_as_they_are_written(tmp_path: Path) -> None:
    """A name server or an endpoint that is right is refused."""
    servers = ("10.0.0.2", "10.0.0.2:5353", "ns-1.example.net", "2001:db8::2", "::1")
    text = GOOD.replace('id = "Z1"', f'id = "Z1"\nname_servers = {json.dumps(servers)}')
    for endpoint in ("a1-ats.iot.us-east-1.amazonaws.com", "https://vpce-1.example.com:8443/", "http://127.0.0.1:80"):
        read = load(written(tmp_path, f'regions.us-east-1.data_endpoint = "{endpoint}"\n{text}'))
        assert read.region("us-east-1").data_endpoint == endpoint
        assert read.zone.name_servers == servers


def test_a_file_of_an_editor_of_windows(tmp_path: Path) -> None:
    """A byte order mark, or lines that end as they do there, are no TOML."""
    (tmp_path / "dr.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load(tmp_path / "dr.toml").zone.id == "Z1"


def test_a_file_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that never ends takes the machine's memory."""
    monkeypatch.setattr(plan_file, "LARGEST", 2**20)
    with pytest.raises(InvalidPlanFile, match="it has more than 1 MiB; that is no plan file"):
        load(Path("/dev/zero"))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A file that is missing, no text or no TOML gives a traceback."""
    with pytest.raises(InvalidPlanFile, match="No such file or directory"):
        load(tmp_path / "none.toml")
    with pytest.raises(InvalidPlanFile, match="it is no TOML"):
        load(written(tmp_path, "[zone"))
    (tmp_path / "dr.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidPlanFile, match="it is not UTF-8 text"):
        load(tmp_path / "dr.toml")


@given(st.text(alphabet='[]="a.1{}\n,-_ ', max_size=60))
def test_any_text_is_a_plan_file_or_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Some text makes the reader fail otherwise than with its own error."""
    path = written(tmp_path_factory.getbasetemp(), GOOD + text)
    try:
        load(path)
    except InvalidPlanFile as error:
        assert str(path) in str(error)  # noqa: PT017 - either is right


def test_the_file_of_the_how_to_works(tmp_path: Path) -> None:
    """The plan file that the documentation shows cannot be read, or has other modes than the four patterns."""
    page = (ROOT / "docs/how-to/switch-regions.md").read_text()
    found = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    read = load(written(tmp_path, found[1]))
    assert list(read.modes) == ["east", "split", "west", "swapped"]
    assert read.domains["mqtt1.example.com"].clients.file == str(tmp_path / "presses.txt")


def test_every_key_is_in_the_reference() -> None:
    """A key of the plan file is not on its page, or a table of settings has no table there."""
    page = (ROOT / "docs/reference/dr-plan-file.md").read_text()
    firsts = {cell.partition(".")[0] for cell in re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)}
    assert [key for key in KEYS if key not in firsts] == []
    for name in ("Zone", "Region", "Clients", "Domain", "Pace", "Waits", "Handshake"):
        assert f"<!-- begin: dr options of {name} -->" in page
        assert [f.name for f in attrs.fields(getattr(settings, name)) if f.name not in firsts] == []


def test_the_how_to_says_what_is_true() -> None:
    """A command, option, phase or file that the page names does not exist."""
    from switchgear_iot_dns.dr import commands, lock
    from switchgear_iot_dns.dr.state import Phase

    page = (ROOT / "docs/how-to/switch-regions.md").read_text()
    names = {each.name or getattr(each.callback, "__name__", "") for each in commands.app.registered_commands}
    assert set(re.findall(r"switchgear dr (\w+)", page)) <= names
    assert f"`{lock.LABEL}.ZONE`" in page
    assert len(re.findall(r"^\| (?!---|Phase)\w", page, re.MULTILINE)) == len(Phase)
    for option in set(re.findall(r"`(--[\w-]+)`", page)):
        source = Path(commands.__file__).read_text()
        assert f'"{option}"' in source, option
