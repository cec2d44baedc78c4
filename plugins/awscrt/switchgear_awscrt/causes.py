"""What the SDK's error codes mean, as causes: one table. Pure: no I/O, and no import of the SDK.

Codes are those of aws-c-io and aws-c-mqtt, by name. A code that is not here is DRIVER_FAILED, and shows its name.
"""

from __future__ import annotations

from typing import Any, Final

from switchgear.cause import Cause, Failure, from_exception, from_reason_code

TABLE: Final[dict[str, Cause]] = {
    # Names. The SDK resolves none for us, but says these of a proxy or of a socket that is gone.
    "AWS_IO_DNS_INVALID_NAME": Cause.NAME_NOT_RESOLVED,
    "AWS_IO_DNS_QUERY_FAILED": Cause.NAME_NOT_RESOLVED,
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
    # TLS. A certificate that the SDK refuses is a negotiation failure too: `switchgear_awscrt.probe` tells them apart.
    "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE": Cause.TLS_FAILED,
    "AWS_IO_TLS_ERROR_NOT_NEGOTIATED": Cause.TLS_FAILED,
    "AWS_IO_TLS_ERROR_ALERT_RECEIVED": Cause.TLS_FAILED,
    "AWS_IO_TLS_ALERT_NOT_GRACEFUL": Cause.TLS_FAILED,
    "AWS_IO_TLS_ERROR_WRITE_FAILURE": Cause.CONNECTION_LOST,
    "AWS_IO_TLS_NEGOTIATION_TIMEOUT": Cause.TLS_TIMEOUT,
    # WebSocket.
    "AWS_ERROR_HTTP_WEBSOCKET_UPGRADE_FAILURE": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_UNSUPPORTED_PROTOCOL": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_PROTOCOL_ERROR": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_PROTOCOL_SWITCH_FAILURE": Cause.WEBSOCKET_REFUSED,
    "AWS_ERROR_HTTP_PROXY_CONNECT_FAILED": Cause.UNREACHABLE,
    "AWS_ERROR_HTTP_CONNECTION_CLOSED": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_HTTP_WEBSOCKET_CLOSE_FRAME_SENT": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_HTTP_WEBSOCKET_PROTOCOL_ERROR": Cause.PROTOCOL_ERROR,
    # Credentials for signing.
    "AWS_AUTH_SIGNING_NO_CREDENTIALS": Cause.CREDENTIALS_UNAVAILABLE,
    "AWS_AUTH_CREDENTIALS_PROVIDER_INVALID_ENVIRONMENT": Cause.CREDENTIALS_UNAVAILABLE,
    "AWS_AUTH_CREDENTIALS_PROVIDER_INVALID_DELEGATE": Cause.CREDENTIALS_UNAVAILABLE,
    "AWS_AUTH_CREDENTIALS_PROVIDER_PROFILE_SOURCE_FAILURE": Cause.CREDENTIALS_UNAVAILABLE,
    "AWS_AUTH_CREDENTIALS_PROVIDER_IMDS_SOURCE_FAILURE": Cause.CREDENTIALS_UNAVAILABLE,
    "AWS_AUTH_CREDENTIALS_PROVIDER_HTTP_STATUS_FAILURE": Cause.CREDENTIALS_UNAVAILABLE,
    # MQTT.
    "AWS_ERROR_MQTT5_CONNACK_TIMEOUT": Cause.CONNACK_TIMEOUT,
    "AWS_ERROR_MQTT5_PING_RESPONSE_TIMEOUT": Cause.KEEPALIVE_TIMEOUT,
    "AWS_ERROR_MQTT5_USER_REQUESTED_STOP": Cause.REQUESTED,
    "AWS_ERROR_MQTT5_CLIENT_TERMINATED": Cause.REQUESTED,
    "AWS_ERROR_MQTT_UNEXPECTED_HANGUP": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_MQTT_TIMEOUT": Cause.KEEPALIVE_TIMEOUT,
    "AWS_ERROR_MQTT5_DECODE_PROTOCOL_ERROR": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT5_INVALID_INBOUND_TOPIC_ALIAS": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_PROTOCOL_ERROR": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_INVALID_REMAINING_LENGTH": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_INVALID_RESERVED_BITS": Cause.PROTOCOL_ERROR,
    "AWS_ERROR_MQTT_INVALID_PACKET_TYPE": Cause.PROTOCOL_ERROR,
    # What CONNACK and DISCONNECT say is in their packets; this is said only when the SDK could not read the reason.
    "AWS_ERROR_MQTT5_CONNACK_CONNECTION_REFUSED": Cause.CLOSED_BY_BROKER,
    "AWS_ERROR_MQTT5_DISCONNECT_RECEIVED": Cause.CLOSED_BY_BROKER,
}

VAGUE: Final = frozenset({Cause.CLOSED_BY_BROKER, Cause.CONNECTION_LOST})
"""Causes of which the socket knows more than the SDK."""


def failure_of(error: BaseException, packet: Any = None) -> Failure:
    """The failure that an event of the SDK's tells: *packet* is the CONNACK or DISCONNECT that came with it, if any."""
    code = getattr(packet, "reason_code", None)
    if code is not None:
        return from_reason_code(int(code), packet.reason_string or "", server_reference=packet.server_reference)
    name = getattr(error, "name", None)
    if isinstance(name, str) and name.startswith("AWS_"):
        cause = TABLE.get(name, Cause.DRIVER_FAILED)
        return Failure(cause, f"{name}: {getattr(error, 'message', '')}")
    return from_exception(error)
