"""What the SDK's error codes mean, as causes: one table. Pure: no I/O, and no import of the SDK.

Codes are those of aws-c-io and aws-c-mqtt, by name. A code that is not here is DRIVER_FAILED, and shows its name.
"""

from __future__ import annotations

from typing import Any, Final

from switchgear.cause import Cause, Failure, from_exception, from_reason_code

from switchgear_awscrt.packets import UNKNOWN

TABLE: Final[dict[str, Cause]] = {
    # Names. The SDK resolves none for us; a provider of credentials may have one to resolve.
    "AWS_IO_DNS_INVALID_NAME": Cause.NAME_NOT_RESOLVED,
    "AWS_IO_DNS_QUERY_FAILED": Cause.NAME_NOT_RESOLVED,
    "AWS_IO_DNS_QUERY_AGAIN": Cause.NAME_NOT_RESOLVED,
    "AWS_IO_DNS_NO_ADDRESS_FOR_HOST": Cause.NAME_NOT_RESOLVED,
    "AWS_IO_DNS_HOST_REMOVED_FROM_CACHE": Cause.NAME_NOT_RESOLVED,
    # TCP.
    "AWS_IO_SOCKET_CONNECTION_REFUSED": Cause.PORT_REFUSED,
    "AWS_IO_SOCKET_NO_ROUTE_TO_HOST": Cause.UNREACHABLE,
    "AWS_IO_SOCKET_NETWORK_DOWN": Cause.UNREACHABLE,
    "AWS_IO_SOCKET_TIMEOUT": Cause.CONNECT_TIMEOUT,
    "AWS_IO_SOCKET_CLOSED": Cause.CLOSED_BY_BROKER,
    "AWS_IO_SOCKET_NOT_CONNECTED": Cause.CONNECTION_LOST,
    "AWS_IO_SOCKET_CONNECT_ABORTED": Cause.CONNECTION_LOST,
    "AWS_ERROR_SYS_CALL_FAILURE": Cause.CONNECTION_LOST,
    # TLS. A certificate that the SDK refuses is, on Linux, a negotiation failure too: the probe tells them apart.
    "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE": Cause.TLS_FAILED,
    "AWS_IO_TLS_ERROR_NOT_NEGOTIATED": Cause.TLS_FAILED,
    "AWS_IO_TLS_ERROR_ALERT_RECEIVED": Cause.TLS_FAILED,
    "AWS_IO_TLS_ALERT_NOT_GRACEFUL": Cause.TLS_FAILED,
    "AWS_IO_TLS_ERROR_READ_FAILURE": Cause.TLS_FAILED,
    "AWS_IO_TLS_ERROR_WRITE_FAILURE": Cause.TLS_FAILED,
    "AWS_IO_TLS_NEGOTIATION_TIMEOUT": Cause.TLS_TIMEOUT,
    "AWS_IO_TLS_CLOSED_GRACEFUL": Cause.CLOSED_BY_BROKER,
    "AWS_IO_TLS_CLOSED_ABORT": Cause.CONNECTION_LOST,
    "AWS_IO_TLS_UNKNOWN_ROOT_CERTIFICATE": Cause.CERTIFICATE_INVALID,
    "AWS_IO_TLS_NO_ROOT_CERTIFICATE_FOUND": Cause.CERTIFICATE_INVALID,
    "AWS_IO_TLS_INVALID_CERTIFICATE_CHAIN": Cause.CERTIFICATE_INVALID,
    "AWS_IO_TLS_BAD_CERTIFICATE": Cause.CERTIFICATE_INVALID,
    "AWS_IO_TLS_CERTIFICATE_EXPIRED": Cause.CERTIFICATE_EXPIRED,
    "AWS_IO_TLS_CERTIFICATE_NOT_YET_VALID": Cause.CERTIFICATE_EXPIRED,
    "AWS_IO_TLS_HOST_NAME_MISMATCH": Cause.CERTIFICATE_NAME,
    "AWS_IO_TLS_PEER_CERTIFICATE_EXPIRED": Cause.CLIENT_CERTIFICATE_REFUSED,  # what the peer says of ours
    "AWS_IO_TLS_PEER_CERTIFICATE_REVOKED": Cause.CLIENT_CERTIFICATE_REFUSED,
    "AWS_IO_TLS_PEER_CERTIFICATE_UNKNOWN": Cause.CLIENT_CERTIFICATE_REFUSED,
    "AWS_IO_TLS_BAD_PEER_CERTIFICATE": Cause.CLIENT_CERTIFICATE_REFUSED,
    "AWS_IO_TLS_CTX_ERROR": Cause.CREDENTIALS_UNAVAILABLE,
    "AWS_IO_TLS_ERROR_DEFAULT_TRUST_STORE_NOT_FOUND": Cause.CREDENTIALS_UNAVAILABLE,
    # HTTP: the WebSocket's upgrade, and the door that the SDK comes through.
    "AWS_ERROR_HTTP_WEBSOCKET_UPGRADE_FAILURE": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_UNSUPPORTED_PROTOCOL": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_PROTOCOL_ERROR": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_PROTOCOL_SWITCH_FAILURE": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_RESPONSE_FIRST_BYTE_TIMEOUT": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_PROXY_CONNECT_FAILED": Cause.UNREACHABLE,
    "AWS_ERROR_HTTP_CONNECTION_CLOSED": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_HTTP_SERVER_CLOSED": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_HTTP_WEBSOCKET_CLOSE_FRAME_SENT": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_HTTP_WEBSOCKET_PROTOCOL_ERROR": Cause.PROTOCOL_ERROR,
    # MQTT.
    "AWS_ERROR_MQTT5_CONNACK_TIMEOUT": Cause.CONNACK_TIMEOUT,
    "AWS_ERROR_MQTT5_PING_RESPONSE_TIMEOUT": Cause.KEEPALIVE_TIMEOUT,
    "AWS_ERROR_MQTT_TIMEOUT": Cause.KEEPALIVE_TIMEOUT,
    "AWS_ERROR_MQTT_UNEXPECTED_HANGUP": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_MQTT5_DECODE_PROTOCOL_ERROR": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT5_INVALID_INBOUND_TOPIC_ALIAS": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_PROTOCOL_ERROR": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_INVALID_REMAINING_LENGTH": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_INVALID_RESERVED_BITS": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_INVALID_PACKET_TYPE": Cause.PROTOCOL_ERROR,
    # What CONNACK and DISCONNECT say is in their packets.
    "AWS_ERROR_MQTT5_CONNACK_CONNECTION_REFUSED": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_MQTT5_DISCONNECT_RECEIVED": Cause.CLOSED_BY_BROKER,
    # Our own doing: the client was stopped, and what it had left was dropped. The outbox has the messages.
    "AWS_ERROR_MQTT5_USER_REQUESTED_STOP": Cause.REQUESTED,
    "AWS_ERROR_MQTT5_CLIENT_TERMINATED": Cause.REQUESTED,
    "AWS_ERROR_MQTT5_OPERATION_FAILED_DUE_TO_OFFLINE_QUEUE_POLICY": Cause.REQUESTED,
}

SIGNING: Final = "AWS_AUTH_"
"""Errors of this beginning are about the credentials that sign a WebSocket."""

VAGUE: Final = frozenset({Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST})
"""Causes of which the socket knows more than the SDK."""


def failure_of(error: BaseException, packet: Any = None) -> Failure:
    """The failure that an event of the SDK's tells: *packet* is the CONNACK or DISCONNECT that came with it, if any."""
    code = getattr(packet, "reason_code", None)
    if code is not None:
        return from_reason_code(int(code), packet.reason_string or "", server_reference=packet.server_reference)
    if packet is not None:
        said = f", and says {packet.reason_string!r}" if packet.reason_string else ""
        return from_reason_code(UNKNOWN, f"AWS's SDK does not know the reason code that it gives{said}")
    name = getattr(error, "name", None)
    if isinstance(name, str) and name.startswith("AWS_"):
        unknown = Cause.CREDENTIALS_UNAVAILABLE if name.startswith(SIGNING) else Cause.DRIVER_FAILED
        cause = TABLE.get(name, unknown)
        return Failure(cause, f"{name}: {getattr(error, 'message', '')}")
    return from_exception(error)
