from __future__ import annotations

import inspect

import pytest
import switchgear
from switchgear import Cause, Failure, errors
from switchgear.errors import SwitchgearError


def classes() -> dict[str, type[BaseException]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, SwitchgearError)
    }


def drawn() -> dict[str, str]:
    """Each class of the module docstring's tree with its parent."""
    parents: dict[str, str] = {}
    path = ["SwitchgearError"]
    for line in (errors.__doc__ or "").splitlines():
        if "\u2500\u2500 " not in line:
            continue
        before, _, text = line.partition("\u2500\u2500 ")
        depth = (len(before.removeprefix("    ")) - 1) // 4 + 1
        name = text.split()[0]
        del path[depth:]
        parents[name] = path[-1]
        path.append(name)
    return parents


def test_tree() -> None:
    """The tree in the module docstring is the tree of the classes."""
    actual = {name: cls.__mro__[1].__name__ for name, cls in classes().items() if cls is not SwitchgearError}
    assert actual == drawn()


def test_also() -> None:
    """Where the tree says "also", the class is one of the built-in kind."""
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(errors.ConnectionFailed, ConnectionError)


def test_exported() -> None:
    """Every error can be imported from `switchgear`."""
    assert {name for name in classes() if getattr(switchgear, name, None) is not classes()[name]} == set()
    assert set(classes()) <= set(switchgear.__all__)


REFUSED = Failure(Cause.NOT_AUTHORIZED, "go away", 135)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (errors.InvalidURI("mqtt://u:p@h", "why"), ["mqtt://u:***@h", "why"]),
        (errors.InvalidOption("qos", "why", valid=["b", "a"]), ["'qos'", "why", "valid options: a, b"]),
        (errors.InvalidProfile("line 3", "why", valid=["b", "a"]), ["line 3", "why", "valid keys: a, b"]),
        (errors.InvalidTopic("a/+", "why"), ["'a/+'", "why"]),
        (errors.UnknownDriver("x", ["paho"]), ["'x'", "paho", "switchgear plugins"]),
        (errors.UnknownDriver("x", []), ["none"]),
        (errors.UnknownDriver("x", [], why="y is missing"), ["plugin 'x': y is missing"]),
        (errors.UnknownPlugin("x", ["b", "a"], why="why"), ["'x'", "why", "a, b"]),
        (errors.UnreadableFile("/x", "ca_file", "why"), ["ca_file", "'/x'", "why"]),
        (errors.PluginError("p", "why", hook="h", distribution="d"), ["'p'", "(from d)", "hook h", "why"]),
        (errors.ConnectionFailed(REFUSED, endpoint="mqtt://h:1", attempt=3), ["mqtt://h:1", "not authorised", "0x87"]),
        (errors.GaveUp(REFUSED, "after 3 attempts", endpoint="mqtt://h:1"), ["after 3 attempts", "h:1", "reconnect()"]),
        (errors.OutboxFull("messages", 7), ["7 messages", "ready()", "overflow policy"]),
        (
            errors.MessageTooLarge("t", 9, 8, whose="the broker"),
            ["'t'", "9 bytes", "the broker takes at most 8", "parts"],
        ),
        (errors.Refused("t", "why", reason_code=0x87), ["'t'", "why"]),
        (errors.SubscriptionRefused("f/#", 0x87, "why"), ["'f/#'", "0x87", "why", "check"]),
        (errors.TransportClosed("drain()"), ["drain()", "closed", "make a new one"]),
        (errors.WouldDeadlock("drain()", "a hook"), ["drain()", "a hook", "thread of your own"]),
        (errors.Forked("publish()", 17), ["publish()", "17", "after the fork"]),
    ],
)
def test_messages(error: SwitchgearError, parts: list[str]) -> None:
    """Each message names the value and the way out."""
    for part in parts:
        assert part in str(error)


def test_long_topic() -> None:
    """A long topic is cut in the message and whole in the attribute."""
    error = errors.InvalidTopic("x" * 70000, "why")
    assert len(str(error)) < 120
    assert error.topic == "x" * 70000


def test_facts() -> None:
    """Facts are attributes."""
    error = errors.GaveUp(REFUSED, "why", endpoint="mqtt://h:1", attempt=3)
    assert (error.failure, error.cause, error.reason_code) == (REFUSED, Cause.NOT_AUTHORIZED, 135)
    assert (error.endpoint, error.attempt, error.why) == ("mqtt://h:1", 3, "why")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mqtt://h:1/x?y=1", "mqtt://h:1/x?y=1"),
        ("mqtt://u@h:1", "mqtt://u@h:1"),
        ("mqtt://u:p@h:1", "mqtt://u:***@h:1"),
        ("failover:(tcp://u:p@a:1,tcp://v:q@b:2)?x=1", "failover:(tcp://u:***@a:1,tcp://v:***@b:2)?x=1"),
        ("x://h?token=abc&y=1", "x://h?token=***&y=1"),
        ("x://h?PASSWORD=abc", "x://h?PASSWORD=***"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    """Passwords are hidden, and nothing else is."""
    assert errors.redact(text) == shown
