"""One component of a ``failover:`` list as a Switchgear endpoint. Pure: no I/O.

Source for the names of options: the setters of ``TcpTransport``, ``SslTransport``, ``NIOSSLTransport`` and
``InactivityMonitor`` in ActiveMQ 5.17.2, which read what stands behind a component's question mark.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from attrs import evolve, frozen
from switchgear.endpoint import OPTIONS as OWN_OPTIONS
from switchgear.endpoint import Endpoint, parse_uri
from switchgear.errors import InvalidOption, InvalidURI, redact

from switchgear_activemq.options import find
from switchgear_activemq.uri import Note

if TYPE_CHECKING:
    from switchgear_activemq.uri import Leaf

SCHEMES: Final = {
    "tcp": "mqtt",
    "nio": "mqtt",
    "mqtt": "mqtt",
    "mqtt+nio": "mqtt",
    "ssl": "mqtts",
    "nio+ssl": "mqtts",
    "mqtts": "mqtts",
    "mqtt+ssl": "mqtts",
    "mqtt+nio+ssl": "mqtts",
    "ws": "ws",
    "wss": "wss",
}
"""ActiveMQ's transports that carry MQTT, and what they are here. ``nio`` is how a Java program waits, nothing on the wire."""

_SOCKET: Final = "sockets are set up by the driver"
_JMX: Final = "it configures ActiveMQ's logging of frames"
_WATCH: Final = "it sets ActiveMQ's inactivity monitor; MQTT's keep-alive does that work (keepalive=)"
_TLS: Final = "TLS is configured with TLS(...); host names are always checked"
_JAVA: Final = "it sets up Java's threads"
IGNORED: Final = {
    "closeAsync": _SOCKET,
    "diffServ": _SOCKET,
    "ioBufferSize": _SOCKET,
    "keepAlive": _SOCKET,
    "soLinger": _SOCKET,
    "soTimeout": _SOCKET,
    "soWriteTimeout": _SOCKET,
    "socketBufferSize": _SOCKET,
    "tcpNoDelay": _SOCKET,
    "typeOfService": _SOCKET,
    "useLocalHost": _SOCKET,
    "dynamicManagement": _JMX,
    "jmxPort": _JMX,
    "logWriterName": _JMX,
    "startLogging": _JMX,
    "trace": _JMX,
    "connectAttemptTimeout": _WATCH,
    "initialDelayTime": _WATCH,
    "keepAliveResponseRequired": _WATCH,
    "readCheckTime": _WATCH,
    "useInactivityMonitor": _WATCH,
    "useKeepAlive": _WATCH,
    "writeCheckTime": _WATCH,
    "enabledCipherSuites": _TLS,
    "enabledProtocols": _TLS,
    "needClientAuth": _TLS,
    "verifyHostName": _TLS,
    "wantClientAuth": _TLS,
    "daemon": _JAVA,
    "stackSize": _JAVA,
    "minmumWireFormatVersion": "it is about OpenWire; we speak MQTT",
    "wireFormat": "it is about OpenWire; we speak MQTT",
}
"""What ActiveMQ's client knows and an MQTT client has no use for, with the reason."""

IGNORED_FAMILIES: Final = {
    "wireFormat.": "it is about OpenWire; we speak MQTT",
    "transport.": "it configures the broker's side",
    "socket.": _SOCKET,
}

VALID: Final = (*OWN_OPTIONS, "connectionTimeout", *IGNORED, *(f"{family}*" for family in IGNORED_FAMILIES))

LONGEST_TIMEOUT: Final = 3600.0
"""Seconds. A connect that may take longer is a mistake in units; core has the same bound."""

_OPENWIRE_PORTS: Final = {61616, 61617}


@frozen
class Place:
    """An endpoint, whether its component writes a priority, and notes about it."""

    endpoint: Endpoint
    has_priority: bool
    notes: tuple[Note, ...]


def place(leaf: Leaf) -> Place:
    """The endpoint that *leaf* names.

    Raises:
        InvalidURI: it is no endpoint, or its transport carries no MQTT; passwords are not shown.
        InvalidOption: an option is unknown to ActiveMQ and to us, or has an impossible value.

    Since: 0.1.
    """
    own: dict[str, str] = {}
    notes: list[Note] = []
    timeout: float | None = None
    base = _base(leaf)
    for name, value in leaf.parameters.items():
        plain = name[:1].lower() + name[1:]  # a Java setter is found with either
        why = IGNORED.get(plain) or next((w for f, w in IGNORED_FAMILIES.items() if name.startswith(f)), None)
        if why is not None:
            notes.append(Note(name, f"{why}: this option of a component changes nothing"))
        elif name in OWN_OPTIONS or plain == "connectionTimeout":
            if value is None:
                raise InvalidOption(name, "it needs a value: write NAME=VALUE")
            if name in OWN_OPTIONS:
                own[name] = value
            else:
                timeout = _milliseconds(name, value)
                if timeout is None:
                    notes.append(Note(name, "no limit is no choice here; the transport's connect_timeout counts"))
        else:
            why = "neither ActiveMQ's client nor Switchgear has it for a component"
            if find(name) is not None or name.startswith("nested."):
                why += "; an option of the list stands behind its parentheses: failover:(URI,URI)?NAME=VALUE"
            raise InvalidOption(name, why, valid=VALID)
    endpoint = _parse(leaf, f"{base}?{urlencode(own)}" if own else base)
    if timeout is not None and endpoint.connect_timeout is None:
        endpoint = evolve(endpoint, connect_timeout=timeout)
    if endpoint.port in _OPENWIRE_PORTS:
        notes.append(
            Note(
                "component",
                f"{endpoint.port} is ActiveMQ's usual port for OpenWire; MQTT is usually at 1883, or 8883 with TLS",
                is_option=False,
            )
        )
    return Place(endpoint, "priority" in own, tuple(notes))


def spot(endpoint: Endpoint) -> tuple[str, int]:
    """Host and port, by which ActiveMQ tells its URIs apart; the spelling of an address does not matter."""
    try:
        return str(ipaddress.ip_address(endpoint.host)), endpoint.port
    except ValueError:
        return endpoint.host.lower(), endpoint.port


def _base(leaf: Leaf) -> str:
    """The leaf's URI with a scheme of ours, once nothing in it can be part of a password."""
    scheme, mark, rest = leaf.uri.partition("://")
    known = ", ".join(SCHEMES)
    if not mark:
        raise InvalidURI(_shown(leaf), f"write each endpoint as scheme://host:port, with one of the schemes {known}")
    if scheme.lower() not in SCHEMES:
        raise InvalidURI(_shown(leaf), f"its scheme is none of those that carry MQTT: {known}")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    beyond = rest[len(authority) :]
    texts = [beyond, *leaf.parameters, *(v for v in leaf.parameters.values() if v is not None and "@" not in authority)]
    if any("@" in text for text in texts):
        raise InvalidURI(
            _shown(leaf),
            "there is an @ behind the host; in a password write / as %2F, ? as %3F, # as %23, @ as %40",
        )
    host = authority.rpartition("@")[2]
    if not re.search(r":[0-9]*$", host) and ":" in host.rpartition("]")[2]:
        raise InvalidURI(_shown(leaf), "the port is no number; in a password write , as %2C")
    return f"{SCHEMES[scheme.lower()]}://{rest}"


def _shown(leaf: Leaf) -> str:
    """The leaf's URI for an error. What may be half of a password that holds a comma or a ? is left out."""
    scheme, mark, rest = leaf.uri.partition("://")
    if not mark:
        scheme, rest = "", leaf.uri
    name, colon, port = rest.partition(":")
    if "@" not in rest:
        return leaf.uri if not colon or re.match(r"[0-9]*(?:[/#]|$)", port) else f"{scheme}{mark}{name}:***"
    return (
        redact(leaf.uri)
        if mark and "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]
        else f"{scheme}{mark}***@{rest.rpartition('@')[2]}"
    )


def _parse(leaf: Leaf, text: str) -> Endpoint:
    try:
        return parse_uri(text)
    except InvalidURI as error:
        why = "it holds characters that cannot stand in a host" if "@" in error.why else error.why
        raise InvalidURI(_shown(leaf), why) from None


def _milliseconds(name: str, value: str) -> float | None:
    """*value*, in milliseconds, as seconds; None where Java would wait without a limit."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        raise InvalidOption(name, f"{redact(value)[:40]!r} is no whole number of milliseconds")
    seconds = int(value) / 1000
    if seconds > LONGEST_TIMEOUT:
        raise InvalidOption(name, f"{value} ms is more than an hour; it is counted in milliseconds")
    return seconds if seconds > 0 else None
