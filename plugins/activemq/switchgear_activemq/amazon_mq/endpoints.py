"""Where an Amazon MQ broker is: from what ``describe_broker`` says to a ``failover:`` URI. Pure: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from attrs import frozen
from switchgear.errors import ConfigurationError

from switchgear_activemq.failover import plan
from switchgear_activemq.uri import read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MQTT: Final = "mqtt+ssl"
"""The scheme of MQTT endpoints in Amazon MQ's answers."""


class NoEndpoints(ConfigurationError):
    """A broker of Amazon MQ that MQTT clients cannot connect to; says why."""


@frozen(kw_only=True)
class Place:
    """A broker of Amazon MQ.

    Attributes:
        broker_id: Its id.
        name: Its name.
        region: Where it is.
        state: Amazon MQ's word, such as ``RUNNING``.
        deployment: Amazon MQ's word: ``ACTIVE_STANDBY_MULTI_AZ`` is a pair.
        endpoints: Host and port of each instance, as URIs of TLS.
        replica: Id and region of the broker in the other region, where data is replicated to or from one.
    """

    broker_id: str
    name: str
    region: str
    state: str
    deployment: str
    endpoints: tuple[str, ...]
    replica: tuple[str, str] | None = None


def place(answer: Mapping[str, Any], *, region: str) -> Place:
    """The broker of which ``describe_broker`` gave *answer*.

    Raises:
        NoEndpoints: it speaks no MQTT, is not ready, or its endpoints are no addresses.
    """
    broker_id, state = str(answer.get("BrokerId", "")), str(answer.get("BrokerState", ""))
    name = str(answer.get("BrokerName", ""))
    who = f"broker {broker_id} ({name})"
    engine = str(answer.get("EngineType", "")).upper()
    if engine != "ACTIVEMQ":
        raise NoEndpoints(f"{who} is a {engine or 'broker of unknown kind'}; on Amazon MQ only ActiveMQ speaks MQTT")
    listed = [str(uri) for each in answer.get("BrokerInstances") or () for uri in each.get("Endpoints") or ()]
    found = [urlsplit(uri) for uri in dict.fromkeys(listed) if uri.partition(":")[0] == MQTT]
    if not found:
        hint = "wait until it is RUNNING" if state != "RUNNING" else "its endpoints are not for MQTT"
        raise NoEndpoints(f"{who} has no {MQTT} endpoint; it is {state or 'in no known state'}: {hint}")
    for uri in found:
        if not uri.hostname or "." not in uri.hostname or uri.port is None:
            raise NoEndpoints(
                f"{who} has the endpoint {uri.geturl()!r}, which is no address; is this an emulator of AWS?"
            )
    other = (answer.get("DataReplicationMetadata") or {}).get("DataReplicationCounterpart") or {}
    return Place(
        broker_id=broker_id,
        name=name,
        region=region,
        state=state,
        deployment=str(answer.get("DeploymentMode", "")),
        endpoints=tuple(f"ssl://{uri.hostname}:{uri.port}" for uri in found),
        replica=(str(other["BrokerId"]), str(other["Region"]))
        if other.get("BrokerId") and other.get("Region")
        else None,
    )


def failover_uri(places: Sequence[Place]) -> str:
    """One URI for all instances of *places*, read once by this plugin's own reader."""
    uri = f"failover:({','.join(endpoint for each in places for endpoint in each.endpoints)})"
    plan(read(uri))
    return uri
