"""One ``mqtt5.Client`` for one connection, as the options say; their secrets were asked for. Starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from switchgear.drivers.heartbeat import PING_ANSWER
from switchgear.errors import InvalidOption
from switchgear.tls import TLS

from switchgear_awscrt.identity import sdk_context
from switchgear_awscrt.packets import connect_packet
from switchgear_awscrt.sdk import sdk

if TYPE_CHECKING:
    from switchgear.drivers.base import ConnectRequest, DriverSettings
    from switchgear.endpoint import Endpoint

    from switchgear_awscrt.identity import Identity
    from switchgear_awscrt.options import Options
    from switchgear_awscrt.relay import Door

NEVER_MS: Final = 86_400_000
"""Milliseconds, a day: deadlines and delays of the SDK's that are ours to keep, and must not race with them."""

ALPN_MQTT: Final = "x-amzn-mqtt-ca"
"""What AWS IoT wants to be offered for MQTT with a certificate on port 443 (developer guide, device communication)."""


def make_client(  # noqa: PLR0917 - what a connection is made of
    settings: DriverSettings,
    options: Options,
    request: ConnectRequest,
    identity: Identity | None,
    door: Door,
    bootstrap: Any,
    callbacks: dict[str, Any],
) -> Any:
    """A client on *bootstrap* that will connect through *door*, as *identity* where there is TLS, once it is started.

    Raises:
        ConfigurationError: certificates cannot be used.
        InvalidOption: the options do not go with the endpoint.
    """
    made, endpoint = sdk(), request.endpoint
    values = _client_options(made, settings, request, door, bootstrap, callbacks)
    tls = settings.tls or TLS()
    if options.is_for_aws:
        if identity is None:
            raise InvalidOption("where", f"sigv4 and custom_authorizer need TLS; {endpoint} has none")
        return _aws_client(made, values, options, request, identity.ca)
    if identity is not None:
        tls.warn()
        values.tls_ctx = sdk_context(made.io, identity, alpn=alpn_of(tls, options, endpoint), verify=tls.verify)
    if endpoint.is_websocket:
        values.websocket_handshake_transform = _handshake(endpoint)
    return made.mqtt5.Client(values)


def alpn_of(tls: TLS, options: Options, endpoint: Endpoint) -> tuple[str, ...]:
    """The protocols that TLS offers to *endpoint*."""
    if tls.alpn or endpoint.is_websocket or endpoint.port != 443 or not options.port_443_alpn:
        return tls.alpn
    return (ALPN_MQTT,)


def _client_options(  # noqa: PLR0917 - the same
    made: Any, settings: DriverSettings, request: ConnectRequest, door: Door, bootstrap: Any, callbacks: dict[str, Any]
) -> Any:
    mqtt5, io, endpoint = made.mqtt5, made.io, request.endpoint
    sockets = io.SocketOptions()
    sockets.domain = io.SocketDomain.Local if door.is_local else io.SocketDomain.IPv4
    behaviour = mqtt5.ClientSessionBehaviorType
    values = mqtt5.ClientOptions(
        host_name=door.host,
        port=door.port,
        bootstrap=bootstrap,
        socket_options=sockets,
        connect_options=connect_packet(mqtt5, settings, request),
        session_behavior=behaviour.CLEAN if request.clean_start else behaviour.REJOIN_ALWAYS,
        extended_validation_and_flow_control_options=mqtt5.ExtendedValidationAndFlowControlOptions.NONE,
        offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
        retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.NONE,
        min_reconnect_delay_ms=NEVER_MS,
        max_reconnect_delay_ms=NEVER_MS,
        ping_timeout_ms=int(1000 * min(PING_ANSWER, settings.connect_timeout)),
        connack_timeout_ms=NEVER_MS,
        ack_timeout_sec=NEVER_MS,
        disable_metrics=True,  # it would be written into the user name, which only AWS IoT understands
        **callbacks,
    )
    if endpoint.is_tls:
        values.host_name, values.port = endpoint.host, endpoint.port
        kind = made.http.HttpProxyConnectionType.Tunneling
        values.http_proxy_options = made.http.HttpProxyOptions(door.host, door.port, connection_type=kind)
    return values


def _handshake(endpoint: Endpoint) -> Any:
    """What changes the SDK's request for a WebSocket: the path, and the host where it would name our door."""

    def transform(transform_args: Any) -> None:
        request = transform_args.http_request
        request.path = endpoint.path
        request.headers.set("Host", endpoint.authority)
        transform_args.set_done()

    return transform


def _aws_client(made: Any, values: Any, options: Options, request: ConnectRequest, ca: bytes | None) -> Any:
    """A client from the SDK's builders for AWS IoT: they sign, and write the user name that an authorizer reads."""
    endpoint, builder = request.endpoint, made.builder
    policy = made.io.TlsCipherPref.TLSv1_2_2025_07  # the builders' own default takes TLS 1.0 too
    common = {
        "endpoint": endpoint.host,
        "client_options": values,
        "ca_bytes": ca,
        "enable_metrics_collection": False,
        "cipher_pref": policy if policy.is_supported() else made.io.TlsCipherPref.DEFAULT,
    }
    signing, authorizer = options.sigv4, options.custom_authorizer
    if signing is not None:
        if not endpoint.is_websocket:
            raise InvalidOption("sigv4", f"it signs a WebSocket; write wss:// in place of {endpoint.scheme}://")
        return builder.websockets_with_default_aws_signing(
            signing.region, _credentials(made, signing.profile, values.bootstrap), **common
        )
    assert authorizer is not None
    build = (
        builder.websockets_with_custom_authorizer if endpoint.is_websocket else builder.direct_with_custom_authorizer
    )
    token, signature = authorizer.token, authorizer.signature
    return build(
        auth_username=request.username,
        auth_authorizer_name=authorizer.name,
        auth_authorizer_signature=None if signature is None else signature.reveal().decode(),
        auth_password=request.password,
        auth_token_key_name=authorizer.token_key,
        auth_token_value=None if token is None else token.reveal().decode(),
        **common,
    )


def _credentials(made: Any, profile: str | None, bootstrap: Any) -> Any:
    """Where the SDK finds credentials: its default chain, or one profile of the user's AWS files."""
    provider = made.auth.AwsCredentialsProvider
    try:
        if profile is None:
            return provider.new_default_chain(bootstrap)
        return provider.new_profile(bootstrap, profile_name=profile)
    except Exception as error:  # the SDK raises RuntimeError for all of it
        why = f"AWS's SDK finds no credentials for profile {profile!r} ({error}); check ~/.aws, or AWS_PROFILE"
        raise InvalidOption("sigv4", why) from error
