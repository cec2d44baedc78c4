"""A broker's configuration with its authorization map, for Amazon MQ or for an ActiveMQ of one's own. Pure: no I/O.

How ActiveMQ reads the map (seen with 5.17.2, 2026-11-22): every entry that matches a topic counts, so rights add up and
nothing takes one away; what no entry matches is forbidden. A subscription that ends in ``#`` is refused unless it lies
within what is allowed. One with ``+`` is accepted when it overlaps what is allowed; of the topics that exist then it
hears only those, but it hears whatever is created later and matches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET  # it only writes

from switchgear.errors import ConfigurationError

from switchgear_activemq.amazon_mq import permitted, rules
from switchgear_activemq.topics import to_activemq

if TYPE_CHECKING:
    from collections.abc import Iterable

    from switchgear_activemq.amazon_mq.permissions import Permissions, Purge, User

CORE: Final = "http://activemq.apache.org/schema/core"
BEANS: Final = "http://www.springframework.org/schema/beans"
RIGHTS: Final = ("read", "write", "admin")
"""ActiveMQ's words for subscribe, publish and create."""

PORT: Final = "switchgear.port"
STORE: Final = "switchgear.store"
DATA: Final = "switchgear.data"
"""Java properties (``-Dswitchgear.port=1884``) of a local broker: its MQTT port, the folder of the store that a pair
shares, and its own folder. So one file serves both brokers of a pair."""

DEFAULTS: Final = {PORT: "1883", STORE: "store", DATA: "data"}
LOCK_MS: Final = 500
"""Milliseconds between a local standby's looks at the store's lock; stock ActiveMQ waits 10 s."""


def amazon(permissions: Permissions) -> str:
    """The configuration for Amazon MQ: no users, for those are kept beside it, and nothing that it would remove."""
    broker = _broker(permissions)
    permitted.check(broker)
    return _text(broker)


def local(permissions: Permissions) -> str:
    """The same for a local ActiveMQ 5.17 or later: with users and their passwords, connectors, and a store to share.

    Raises:
        ConfigurationError: a user has no password, or one that Amazon MQ or Spring would not take.
    """
    broker = _broker(permissions)
    for name, value in (("brokerName", permissions.name), ("useJmx", "false"), ("dataDirectory", _property(DATA))):
        broker.set(name, value)
    plugins = broker.find("plugins")
    assert plugins is not None
    users = ET.Element("simpleAuthenticationPlugin")
    plugins.insert(0, users)
    users = ET.SubElement(users, "users")
    for user in permissions.users:
        groups = (*user.groups, *([rules.CONSOLE_GROUP] if user.console else []))
        attributes = {"username": user.name, "password": password(user), "groups": ",".join(groups)}
        ET.SubElement(users, "authenticationUser", attributes)
    store = ET.SubElement(ET.SubElement(broker, "persistenceAdapter"), "kahaDB")
    store.set("directory", _property(STORE))
    store.set("lockKeepAlivePeriod", str(LOCK_MS))
    ET.SubElement(ET.SubElement(store, "locker"), "shared-file-locker", lockAcquireSleepInterval=str(LOCK_MS))
    connectors = ET.SubElement(broker, "transportConnectors")
    ET.SubElement(connectors, "transportConnector", name="mqtt", uri=f"mqtt://127.0.0.1:{_property(PORT)}")
    beans = ET.Element(
        "beans",
        {
            "xmlns": BEANS,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{BEANS} {BEANS}/spring-beans.xsd {CORE} {CORE}/activemq-core.xsd",
        },
    )
    ET.SubElement(beans, "bean", {"class": "org.springframework.beans.factory.config.PropertyPlaceholderConfigurer"})
    beans.append(broker)
    return _text(beans)


def password(user: User) -> str:
    """The password of *user*, for a local broker.

    Raises:
        ConfigurationError: there is none, or one that Amazon MQ or Spring would not take.
    """
    where = f"permissions, users.{user.name}.password"
    if user.password is None:
        raise ConfigurationError(f'{where}: a local broker needs it; write text, {{env = "NAME"}} or {{file = "path"}}')
    try:
        text = user.password.reveal().decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: it is no UTF-8 text") from None
    why = rules.wrong_password(text)
    if why is None and ("${" in text or "#{" in text or not text.isprintable()):
        why = "a local broker takes no ${, #{ or control characters in it"
    if why is not None:
        raise ConfigurationError(f"{where}: {why}")
    return text


def entries(permissions: Permissions) -> list[dict[str, str]]:
    """The attributes of each ``authorizationEntry``, in the order in which they are written."""
    everybody = [group.name for group in permissions.groups]
    masters = [group.name for group in permissions.groups if group.admin] + [rules.CONSOLE_GROUP]
    map_: dict[str, dict[str, set[str]]] = {}

    def allow(topic: str, right: str, groups: Iterable[str]) -> None:
        map_.setdefault(topic, {}).setdefault(right, set()).update(groups)

    for right in RIGHTS:
        allow(">", right, masters)
    allow(rules.ADVISORIES, "admin", [*everybody, rules.CONSOLE_GROUP])
    for group in permissions.groups:
        for right, topics in zip(RIGHTS, (group.subscribe, group.publish, group.create), strict=True):
            for topic in topics:
                allow(to_activemq(topic), right, [group.name])
    queues = {"queue": ">", **{right: ",".join(sorted(masters)) for right in RIGHTS}}
    return [
        queues,
        *(
            {"topic": topic, **{right: ",".join(sorted(rights[right])) for right in RIGHTS if right in rights}}
            for topic, rights in sorted(map_.items())
        ),
    ]


def _broker(permissions: Permissions) -> ET.Element:
    purge = permissions.purge
    broker = ET.Element("broker", xmlns=CORE)
    if purge.inactive_s:
        broker.set("schedulePeriodForDestinationPurge", str(purge.every_s * 1000))
    if purge.offline_session_s:
        broker.set("offlineDurableSubscriberTimeout", str(purge.offline_session_s * 1000))
        broker.set("offlineDurableSubscriberTaskSchedule", str(purge.every_s * 1000))
    policies = _down(broker, "destinationPolicy", "policyMap", "policyEntries")
    for policy in _policies(purge, permissions.topics):
        ET.SubElement(policies, "policyEntry", policy)
    if permissions.topics:
        destinations = ET.SubElement(broker, "destinations")
        for topic in sorted(permissions.topics):
            ET.SubElement(destinations, "topic", physicalName=to_activemq(topic))
    map_ = _down(broker, "plugins", "authorizationPlugin", "map", "authorizationMap", "authorizationEntries")
    for entry in entries(permissions):
        ET.SubElement(map_, "authorizationEntry", entry)
    return broker


def _policies(purge: Purge, topics: tuple[str, ...]) -> Iterable[dict[str, str]]:
    """The attributes of each ``policyEntry``."""
    removed = {"gcInactiveDestinations": "true", "inactiveTimoutBeforeGC": str(purge.inactive_s * 1000)}
    for kind in ("queue", "topic"):
        yield {kind: ">", **(removed if purge.inactive_s else {"gcInactiveDestinations": "false"})}
    if purge.inactive_s:
        for topic in sorted({to_activemq(topic) for topic in (*purge.keep, *topics)}):
            yield {"topic": topic, "gcInactiveDestinations": "false"}


def _down(element: ET.Element, *tags: str) -> ET.Element:
    for tag in tags:
        element = ET.SubElement(element, tag)
    return element


def _property(name: str) -> str:
    return f"${{{name}:{DEFAULTS[name]}}}"


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'
