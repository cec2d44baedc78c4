import pytest
from hypothesis import given
from hypothesis import strategies as st
from switchgear_certs import InvalidName
from switchgear_certs.names import authority_name, client_name, covers, server_name, server_names

LABEL = st.from_regex(r"[a-z]([a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected", "stem"),
    [
        ("mqtt1.example.com", "mqtt1.example.com", "mqtt1.example.com"),
        ("MQTT1.Example.COM", "mqtt1.example.com", "mqtt1.example.com"),
        ("localhost", "localhost", "localhost"),
        ("*.example.com", "*.example.com", "_wildcard.example.com"),
        ("bücher.example.com", "xn--bcher-kva.example.com", "xn--bcher-kva.example.com"),
        ("straße.example.com", "xn--strae-oqa.example.com", "xn--strae-oqa.example.com"),
        ("*.bücher.example", "*.xn--bcher-kva.example", "_wildcard.xn--bcher-kva.example"),
        ("xn--bcher-kva.example.com", "xn--bcher-kva.example.com", "xn--bcher-kva.example.com"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("::1", "::1", "__1"),
        ("[2001:DB8::0:1]", "2001:db8::1", "2001_db8__1"),
        ("a" * 63 + ".example", "a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_names_that_are_taken(text: str, expected: str, stem: str) -> None:
    """A DNS name, a wildcard, an internationalized name and an address come out canonical, with their file names."""
    name = server_name(text)
    assert (name.text, name.stem) == (expected, stem)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" ", "spaces"),
        ("a b.example.com", "spaces"),
        ("a\tb.example.com", "control"),
        ("a\x00b.example.com", "control"),
        ("a\x7f.example.com", "control"),
        ("a\u202eb.example.com", "control"),
        ("my_host.example.com", "underscore"),
        ("a" * 64 + ".example.com", "64 characters; at most 63"),
        (".".join(["a" * 49] * 5) + ".abcd", "254 characters"),
        ("mqtt..example.com", "empty label"),
        (".example.com", "empty label"),
        ("mqtt1.example.com.", "dot at the end"),
        ("-a.example.com", "inner hyphens"),
        ("a-.example.com", "inner hyphens"),
        ("a/b.example.com", "inner hyphens"),
        ("../x", "inner hyphens"),
        ("https://example.com", "inner hyphens"),
        ("example.com:8883", "inner hyphens"),
        ("user@example.com", "inner hyphens"),
        ("*", "whole first label"),
        ("*.com", "two labels"),
        ("f*.example.com", "whole first label"),
        ("*.*.example.com", "whole first label"),
        ("a.*.example.com", "whole first label"),
        ("10.0.0.256", "neither an IP address"),
        ("1.2.3", "neither an IP address"),
        ("10.0.0.0/8", "neither an IP address|inner hyphens"),
        ("fe80::1%eth0", "zone"),
        ("xn--.example.com", "A-label|inner hyphens"),
        ("xn--zzzzzz.example.com", "A-label"),
        ("ab--cd.example.com", "A-label"),
        ("☃\ufe0f.example.com", "no internationalized name"),
        ("ca", "authority"),
        ("issuing", "authority"),
        ("CA", "authority"),
    ],
)
def test_names_that_are_refused(text: str, why: str) -> None:
    """Each name that no certificate may carry is refused with its own reason, in one line."""
    with pytest.raises(InvalidName, match=why) as caught:
        server_name(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_more_names_than_aws_takes() -> None:
    """Five names are refused with the limit of four, and taken when the limit is lifted."""
    five = [f"m{number}.example.com" for number in range(5)]
    with pytest.raises(InvalidName, match=r"5 names.*at most 4.*--beyond-aws"):
        server_names(five)
    assert len(server_names(five, aws_limits=False)) == 5
    assert len(server_names([*five[:4], five[0].upper()])) == 4


def test_no_names_at_all() -> None:
    """A server certificate without a name is refused."""
    with pytest.raises(InvalidName, match="at least one"):
        server_names([])


@pytest.mark.parametrize("text", ["press-7", "press_7", "a", "7", "line4.press@site", "x" * 64])
def test_clients_that_are_taken(text: str) -> None:
    """A client's name stays as it was written."""
    assert client_name(text) == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "a\n", "a/b", "../a", ".a", "-a", "@a", "ä", "a\\b", "a:b", "x" * 65, "ca", "CA", "Issuing"],
)
def test_clients_that_are_refused(text: str) -> None:
    """A client's name that could not be a file name, or is the authority's, is refused."""
    with pytest.raises(InvalidName):
        client_name(text)


@pytest.mark.parametrize("text", ["", "  ", " a", "a ", "a\nb", "a\x00", "x" * 57])
def test_authorities_that_are_refused(text: str) -> None:
    """An authority's name has no control characters, no spaces at its ends, and at most 56 characters."""
    with pytest.raises(InvalidName):
        authority_name(text)


def test_wildcards_cover_one_label() -> None:
    """A wildcard stands for exactly one label, never for none or two, and never for another wildcard."""
    assert covers("*.example.com", "a.EXAMPLE.com")
    assert not covers("*.example.com", "example.com")
    assert not covers("*.example.com", "a.b.example.com")
    assert not covers("*.example.com", "*.example.com")
    assert covers("a.example.com", "A.example.com")
    assert not covers("a.example.com", "b.example.com")


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    """Any text is either refused with a printable line, or gives a name that gives itself again."""
    try:
        name = server_name(text)
    except InvalidName as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
        return
    assert server_name(name.text) == name
    assert len(name.text) <= 253
    assert "/" not in name.stem
    assert not name.stem.startswith(".")


@given(st.text(max_size=80))
def test_any_text_is_a_client_or_refused(text: str) -> None:
    """Any text is either refused with a printable line, or a client's name as it stands."""
    try:
        assert client_name(text) == text
    except InvalidName as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right


@given(st.lists(LABEL, min_size=1, max_size=4), st.lists(LABEL, min_size=1, max_size=4))
def test_different_names_have_different_files(one: list[str], other: list[str]) -> None:
    """Two names share a file name only when they are the same name."""
    names = [server_name(".".join([*labels, "example"])) for labels in (one, other)]
    names.append(server_name(".".join(["*", *one, "example"])))
    assert len({name.stem for name in names}) == len({name.text for name in names})
