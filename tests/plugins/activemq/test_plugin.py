from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal

import pluggy
import pytest
import switchgear_activemq
from switchgear import Profile, hookspecs
from switchgear.errors import InvalidOption, InvalidURI
from switchgear.plan import make_plan
from switchgear.plugins import registry
from switchgear_activemq import check_topic

if TYPE_CHECKING:
    from switchgear.endpoint import Group


@pytest.fixture
def plugins() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(switchgear_activemq, "activemq")
    manager.check_pending()
    return manager


def groups(plugins: pluggy.PluginManager, where: str, **options: object) -> list[Group] | None:
    answer: list[Group] | None = plugins.hook.provide_endpoints(where=where, options=options)
    return answer


def test_entry_point() -> None:
    """The distribution names its package in the group of entry points where Switchgear looks."""
    (found,) = entry_points(group="switchgear", name="activemq")
    assert found.load() is switchgear_activemq


def test_hooks(plugins: pluggy.PluginManager) -> None:
    """The plugin implements exactly the two hooks that it needs."""
    callers = plugins.get_hookcallers(switchgear_activemq) or []
    assert sorted(caller.name for caller in callers) == ["provide_endpoints", "register_commands"]


@pytest.mark.parametrize("where", ["failover:(tcp://a:1)", "FailOver:(tcp://a:1)", " failover:(tcp://a:1)"])
def test_own_scheme(plugins: pluggy.PluginManager, where: str) -> None:
    """A failover: URI in any case gives one group."""
    found = groups(plugins, where)
    assert found is not None
    assert [e.host for e in found[0].endpoints] == ["a"]
    assert len(found) == 1


@pytest.mark.parametrize(("asked", "spoken"), [(None, "3.1.1"), ("3.1.1", "3.1.1"), ("5", "5")])
def test_protocol(asked: Literal["3.1.1", "5"] | None, spoken: str) -> None:
    """A failover: URI means MQTT 3.1.1, which is all that ActiveMQ speaks, unless the transport is told another version."""
    assert make_plan(Profile("failover:(tcp://a:1)", protocol=asked), registry()).protocol == spoken


@pytest.mark.parametrize("where", ["tcp://a:1", "iot+dns://a", "", "failover", "static:(tcp://a:1)"])
def test_other_scheme(plugins: pluggy.PluginManager, where: str) -> None:
    """Another scheme is left to other plugins."""
    assert groups(plugins, where, anything=1) is None


def test_topics_option(plugins: pluggy.PluginManager) -> None:
    """Topics are checked unless the option topics is "any"."""
    for options, check in (({}, check_topic), ({"topics": "safe"}, check_topic), ({"topics": "any"}, None)):
        found = groups(plugins, "failover:(tcp://a:1)", **options)
        assert found is not None
        assert found[0].check_topic is check


@pytest.mark.parametrize(("options", "valid"), [({"topics": "x"}, ("any", "safe")), ({"topic": "any"}, ("topics",))])
def test_wrong_option(plugins: pluggy.PluginManager, options: dict[str, object], valid: tuple[str, ...]) -> None:
    """An unknown option of the plugin, or value of one, is refused with the list of valid ones."""
    with pytest.raises(InvalidOption) as caught:
        groups(plugins, "failover:(tcp://a:1)", **options)
    assert caught.value.valid == valid


def test_wrong_uri(plugins: pluggy.PluginManager) -> None:
    """A wrong URI of the plugin's scheme is an error, not left to others."""
    with pytest.raises(InvalidURI):
        groups(plugins, "failover:(tcp://a:1")


def test_warnings_are_logged(plugins: pluggy.PluginManager, caplog: pytest.LogCaptureFixture) -> None:
    """Each note is one warning with a constant name; an option's has the fields option and why."""
    with caplog.at_level(logging.INFO, "switchgear.plugins.activemq"):
        groups(plugins, "failover:(tcp://a:1, tcp://b:2)?trackMessages=true")
    assert [(r.levelname, r.name, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "switchgear.plugins.activemq", "switchgear.activemq.uri_adjusted"),
        ("WARNING", "switchgear.plugins.activemq", "switchgear.activemq.option_ignored"),
    ]
    assert vars(caplog.records[0])["part"] == "white space"
    assert vars(caplog.records[1])["option"] == "trackMessages"
    assert "outbox" in vars(caplog.records[1])["why"]


def test_nothing_to_warn_of(plugins: pluggy.PluginManager, caplog: pytest.LogCaptureFixture) -> None:
    """A URI that is honoured in full logs nothing."""
    with caplog.at_level(logging.DEBUG):
        groups(
            plugins, "failover:(ssl://a:1,ssl://b:2)?randomize=false&maxReconnectAttempts=20&initialReconnectDelay=100"
        )
    assert caplog.records == []
