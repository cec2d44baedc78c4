"""The elements and attributes of a broker's configuration that Amazon MQ keeps; it removes all others. Pure: no I/O.

Only what `broker_xml` may write stands here. Sources, read 2026-11: the developer guide's pages "Elements permitted in
Amazon MQ configurations", "Elements and their attributes" and "Elements, child collection elements, and their child
elements"; for ``policyEntry``, ``queue`` and ``topic`` the configuration that Amazon MQ gives a new broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen
from switchgear.errors import InternalError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


@frozen
class Permitted:
    """What one element may have."""

    attributes: frozenset[str]
    children: frozenset[str]


def _element(attributes: str = "", children: str = "") -> Permitted:
    return Permitted(frozenset(attributes.split()), frozenset(children.split()))


PERMITTED: Final = {
    "broker": _element(
        "xmlns offlineDurableSubscriberTaskSchedule offlineDurableSubscriberTimeout schedulePeriodForDestinationPurge",
        "destinationPolicy destinations plugins",
    ),
    "destinationPolicy": _element(children="policyMap"),
    "policyMap": _element(children="policyEntries"),
    "policyEntries": _element(children="policyEntry"),
    "policyEntry": _element("gcInactiveDestinations inactiveTimoutBeforeGC queue topic"),
    "destinations": _element(children="topic"),
    "topic": _element("physicalName"),
    "plugins": _element(children="authorizationPlugin"),
    "authorizationPlugin": _element(children="map"),
    "map": _element(children="authorizationMap"),
    "authorizationMap": _element(children="authorizationEntries"),
    "authorizationEntries": _element(children="authorizationEntry"),
    "authorizationEntry": _element("admin queue read topic write"),
}
"""Each element with its attributes and children."""


def check(broker: Element) -> None:
    """Raise `InternalError` when *broker* holds what Amazon MQ would remove: an element, attribute or expression.

    Amazon MQ takes static values only (developer guide, "Amazon MQ for ActiveMQ broker configurations").
    """
    if broker.tag != "broker":
        raise InternalError(f"the configuration is a <{broker.tag}> and no <broker>")
    _check(broker)


def _check(element: Element) -> None:
    permitted = PERMITTED[element.tag]
    for name, value in element.attrib.items():
        if name not in permitted.attributes:
            raise InternalError(f"Amazon MQ does not permit the attribute {name} of <{element.tag}>")
        if "${" in value or "#{" in value:
            raise InternalError(f"Amazon MQ does not permit an expression in {name} of <{element.tag}>")
    for child in element:
        if child.tag not in permitted.children:
            raise InternalError(f"Amazon MQ does not permit <{child.tag}> in <{element.tag}>")
        _check(child)
