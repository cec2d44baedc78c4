"""Why a connection or an attempt ended, and what follows from it: one table. Pure: no I/O.

Drivers map their library's codes and exceptions onto `Cause`; nobody else decides what is worth a retry.
"""

from __future__ import annotations

import enum
import errno
import socket
import ssl
from typing import Final

from attrs import field, frozen


class Policy(enum.Enum):
    """What a cause means for the endpoint where it happened."""

    TRANSIENT = "transient"
    """Try again; nothing is wrong that time does not mend."""
    ELSEWHERE = "elsewhere"
    """This endpoint does not want us now; others are preferred for a while."""
    FATAL = "fatal"
    """Repeating cannot help until something is changed: two strikes, then the endpoint is quarantined."""


class Cause(enum.Enum):
    """Why a connection or an attempt ended."""

    # The network.
    NAME_NOT_RESOLVED = "name not resolved"
    PORT_REFUSED = "connection refused"
    UNREACHABLE = "host unreachable"
    CONNECT_TIMEOUT = "no answer in time"
    CONNECTION_LOST = "connection lost"
    CLOSED_BY_BROKER = "closed by the broker"
    KEEPALIVE_TIMEOUT = "broker stopped answering"
    # TLS.
    TLS_TIMEOUT = "TLS handshake not finished in time"
    TLS_FAILED = "TLS handshake failed"
    CERTIFICATE_INVALID = "broker's certificate not trusted"
    CERTIFICATE_EXPIRED = "broker's certificate expired"
    CERTIFICATE_NAME = "broker's certificate is for another name"
    CLIENT_CERTIFICATE_REFUSED = "broker refused our certificate"
    WEBSOCKET_REFUSED = "WebSocket upgrade refused"
    # What CONNACK says.
    CONNACK_TIMEOUT = "broker accepted the connection but did not answer CONNECT"
    PROTOCOL_VERSION = "broker does not speak this MQTT version"
    CLIENT_ID_REFUSED = "client id refused"
    BAD_CREDENTIALS = "user name or password refused"
    NOT_AUTHORIZED = "not authorised"
    BANNED = "banned"
    BROKER_UNAVAILABLE = "broker unavailable"
    BROKER_BUSY = "broker busy"
    QUOTA_EXCEEDED = "quota exceeded"
    CONNECTION_RATE = "connection rate exceeded"
    USE_ANOTHER_SERVER = "broker says: use another server"
    SERVER_MOVED = "broker says: server moved"
    WILL_REFUSED = "will refused"
    # What DISCONNECT says.
    SHUTTING_DOWN = "broker is shutting down"
    SESSION_TAKEN_OVER = "another client connected with our client id"
    ADMINISTRATIVE = "disconnected by an administrator"
    PACKET_TOO_LARGE = "packet too large for the broker"
    MESSAGE_RATE = "message rate too high"
    PROTOCOL_ERROR = "protocol error"
    # Our side.
    RESTORE_TIMEOUT = "broker did not answer SUBSCRIBE in time"
    SUPERSEDED = "another endpoint answered sooner"
    REQUESTED = "reconnect was asked for"
    STOPPED = "transport closed"
    RESTARTED = "driver restarted by a plugin"
    CREDENTIALS_UNAVAILABLE = "the credentials could not be read"
    DRIVER_FAILED = "the driver failed"
    DRIVER_SILENT = "the driver reported nothing in time"


_T, _E, _F = Policy.TRANSIENT, Policy.ELSEWHERE, Policy.FATAL

TABLE: Final[dict[Cause, tuple[Policy, str]]] = {
    # cause: (policy, what to do about it)
    Cause.NAME_NOT_RESOLVED: (_T, "check the host name and the resolver"),
    Cause.PORT_REFUSED: (_T, "nothing listens there now"),
    Cause.UNREACHABLE: (_T, "check the network and the address"),
    Cause.CONNECT_TIMEOUT: (_T, "check address, port and firewall"),
    Cause.CONNECTION_LOST: (_T, "the network or the broker went away"),
    Cause.CLOSED_BY_BROKER: (_T, "see the broker's log; a duplicate client id or a forbidden topic are usual reasons"),
    Cause.KEEPALIVE_TIMEOUT: (_T, "the peer is dead or hangs (is its disk full?), or the link is cut"),
    Cause.TLS_TIMEOUT: (_T, "check that this port speaks TLS"),
    Cause.TLS_FAILED: (_T, "check that this port speaks TLS, and its versions"),
    Cause.CERTIFICATE_INVALID: (
        _F,
        "check ca_file: it must hold the CA that signed the broker's certificate, which must be for servers (serverAuth)",
    ),
    Cause.CERTIFICATE_EXPIRED: (_F, "renew the broker's certificate, and check this machine's clock"),
    Cause.CERTIFICATE_NAME: (_F, "connect to a name that the certificate holds, or issue one for this name"),
    Cause.CLIENT_CERTIFICATE_REFUSED: (_F, "check cert_file and key_file, and that the broker trusts their CA"),
    Cause.WEBSOCKET_REFUSED: (_T, "check the path of the ws:// or wss:// URI"),
    Cause.CONNACK_TIMEOUT: (_T, "check that this port speaks MQTT; the broker may still be starting"),
    Cause.PROTOCOL_VERSION: (_F, 'set protocol="3.1.1" or protocol="5"'),
    Cause.CLIENT_ID_REFUSED: (_F, "choose another client_id"),
    Cause.BAD_CREDENTIALS: (_F, "check username and password"),
    Cause.NOT_AUTHORIZED: (_F, "check username and password, and what this user may do"),
    Cause.BANNED: (_F, "ask the broker's administrator"),
    Cause.BROKER_UNAVAILABLE: (_E, "the broker is starting, stopping or overloaded"),
    Cause.BROKER_BUSY: (_E, "the broker is overloaded"),
    Cause.QUOTA_EXCEEDED: (_E, "a limit of the broker or of the account was reached"),
    Cause.CONNECTION_RATE: (_E, "slow down: use switchgear.fleet() with the broker's limit"),
    Cause.USE_ANOTHER_SERVER: (_E, "the broker is being emptied"),
    Cause.SERVER_MOVED: (_E, "update the list of endpoints"),
    Cause.WILL_REFUSED: (_F, "check the will's topic, QoS and retain flag"),
    Cause.SHUTTING_DOWN: (_E, "the broker is being stopped"),
    Cause.SESSION_TAKEN_OVER: (_T, "give every client an id of its own"),
    Cause.ADMINISTRATIVE: (_T, "the broker's administrator ended the connection"),
    Cause.PACKET_TOO_LARGE: (_T, "send smaller messages"),
    Cause.MESSAGE_RATE: (_T, "send more slowly: see drain_rate"),
    Cause.PROTOCOL_ERROR: (_T, "please report it, with the broker's name and version"),
    Cause.RESTORE_TIMEOUT: (_T, "the broker is overloaded"),
    Cause.SUPERSEDED: (_T, "nothing is wrong"),
    Cause.REQUESTED: (_T, "nothing is wrong"),
    Cause.STOPPED: (_T, "nothing is wrong"),
    Cause.RESTARTED: (_T, "nothing is wrong"),
    Cause.CREDENTIALS_UNAVAILABLE: (_T, "check what passwords, certificates and keys are read from"),
    Cause.DRIVER_FAILED: (_T, "please report it with the log"),
    Cause.DRIVER_SILENT: (_T, "the MQTT library may be wedged; the plugin sdk_restart replaces it"),
}

MESSAGE_MAY_BE_WHY: Final = frozenset(
    {
        Cause.CONNECTION_LOST,
        Cause.CLOSED_BY_BROKER,
        Cause.NOT_AUTHORIZED,
        Cause.QUOTA_EXCEEDED,
        Cause.PACKET_TOO_LARGE,
        Cause.PROTOCOL_ERROR,
        Cause.WILL_REFUSED,  # in DISCONNECT: QoS or retain not supported
    }
)
"""How a broker ends a connection because of a message. With any other cause nothing that was in flight is suspected."""


@frozen
class Failure:
    """One ending: the cause, what the library or the broker said, and the broker's reason code.

    Attributes:
        cause: The row of the table.
        detail: What was said, without secrets; may be empty.
        code: MQTT 5 reason code, or MQTT 3.1.1 return code; None where the broker gave none.
        server_reference: Where the broker sends us (MQTT 5, 3.2.2.3.16), if it does.
    """

    cause: Cause
    detail: str = ""
    code: int | None = None
    server_reference: str | None = field(default=None, kw_only=True)

    @property
    def policy(self) -> Policy:
        """What the table says of the cause."""
        return TABLE[self.cause][0]

    @property
    def advice(self) -> str:
        """What to do about it, in one phrase."""
        return TABLE[self.cause][1]

    def __str__(self) -> str:
        code = f" (reason 0x{self.code:02X})" if self.code is not None else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.cause.value}{code}{detail}; {self.advice}"


# MQTT 3.1.1, table 3.1.
_RETURN_CODES: Final[dict[int, Cause]] = {
    1: Cause.PROTOCOL_VERSION,
    2: Cause.CLIENT_ID_REFUSED,
    3: Cause.BROKER_UNAVAILABLE,
    4: Cause.BAD_CREDENTIALS,
    5: Cause.NOT_AUTHORIZED,
}

# MQTT 5, 3.2.2.2 (CONNACK) and 3.14.2.1 (DISCONNECT): one table, for a code means the same in both.
_REASON_CODES: Final[dict[int, Cause]] = {
    0x00: Cause.CLOSED_BY_BROKER,
    0x80: Cause.CLOSED_BY_BROKER,
    0x81: Cause.PROTOCOL_ERROR,
    0x82: Cause.PROTOCOL_ERROR,
    0x83: Cause.CLOSED_BY_BROKER,
    0x84: Cause.PROTOCOL_VERSION,
    0x85: Cause.CLIENT_ID_REFUSED,
    0x86: Cause.BAD_CREDENTIALS,
    0x87: Cause.NOT_AUTHORIZED,
    0x88: Cause.BROKER_UNAVAILABLE,
    0x89: Cause.BROKER_BUSY,
    0x8A: Cause.BANNED,
    0x8B: Cause.SHUTTING_DOWN,
    0x8C: Cause.BAD_CREDENTIALS,
    0x8D: Cause.KEEPALIVE_TIMEOUT,
    0x8E: Cause.SESSION_TAKEN_OVER,
    0x8F: Cause.PROTOCOL_ERROR,
    0x90: Cause.PROTOCOL_ERROR,
    0x93: Cause.PROTOCOL_ERROR,
    0x94: Cause.PROTOCOL_ERROR,
    0x95: Cause.PACKET_TOO_LARGE,
    0x96: Cause.MESSAGE_RATE,
    0x97: Cause.QUOTA_EXCEEDED,
    0x98: Cause.ADMINISTRATIVE,
    0x99: Cause.PROTOCOL_ERROR,
    0x9A: Cause.WILL_REFUSED,
    0x9B: Cause.WILL_REFUSED,
    0x9C: Cause.USE_ANOTHER_SERVER,
    0x9D: Cause.SERVER_MOVED,
    0x9E: Cause.PROTOCOL_ERROR,
    0x9F: Cause.CONNECTION_RATE,
    0xA0: Cause.QUOTA_EXCEEDED,
    0xA1: Cause.PROTOCOL_ERROR,
    0xA2: Cause.PROTOCOL_ERROR,
}


def from_return_code(code: int, detail: str = "") -> Failure:
    """The failure that an MQTT 3.1.1 CONNACK return code means. Source: MQTT 3.1.1, table 3.1."""
    return Failure(_RETURN_CODES.get(code, Cause.PROTOCOL_ERROR), detail, code)


def from_reason_code(code: int, detail: str = "", *, server_reference: str | None = None) -> Failure:
    """The failure that an MQTT 5 CONNACK or DISCONNECT reason code means. Source: MQTT 5, 3.2.2.2 and 3.14.2.1."""
    cause = _REASON_CODES.get(code, Cause.PROTOCOL_ERROR)
    return Failure(cause, detail, code, server_reference=server_reference)


_UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EACCES})


def from_exception(error: BaseException) -> Failure:
    """The failure that an exception of sockets, TLS or name resolution means; the one place where they are judged."""
    detail = str(error) or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(_certificate_cause(error), error.verify_message or detail)
    if isinstance(error, ssl.SSLError):
        return Failure(_alert_cause(detail), detail)
    if isinstance(error, socket.gaierror | UnicodeError):
        return Failure(Cause.NAME_NOT_RESOLVED, detail)
    if isinstance(error, ConnectionRefusedError):
        return Failure(Cause.PORT_REFUSED)
    if isinstance(error, TimeoutError):
        return Failure(Cause.CONNECT_TIMEOUT)
    if isinstance(error, OSError):
        if error.errno in _UNREACHABLE:
            return Failure(Cause.UNREACHABLE, detail)
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            detail += "; no descriptor is left, which is not the network's fault: raise the limit (ulimit -n)"
        return Failure(Cause.CONNECTION_LOST, detail)
    return Failure(Cause.DRIVER_FAILED, f"{type(error).__name__}: {detail}")


def _certificate_cause(error: ssl.SSLCertVerificationError) -> Cause:
    """Which of the three things was wrong with the broker's certificate. Codes: OpenSSL's X509_V_ERR_*."""
    if error.verify_code in {9, 10}:  # not yet valid, has expired
        return Cause.CERTIFICATE_EXPIRED
    if error.verify_code in {62, 63, 64}:  # host name, e-mail, IP address mismatch
        return Cause.CERTIFICATE_NAME
    return Cause.CERTIFICATE_INVALID


def _alert_cause(text: str) -> Cause:
    """Whether a TLS alert from the broker is about our certificate. Source: RFC 8446, 6.2, in OpenSSL's spelling."""
    alerts = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED")
    upper = text.upper().replace(" ", "_")
    if "ALERT" in upper and any(alert in upper for alert in (*alerts, "CERTIFICATE_REVOKED", "ACCESS_DENIED")):
        return Cause.CLIENT_CERTIFICATE_REFUSED
    return Cause.TLS_FAILED
