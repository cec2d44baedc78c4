"""A Switchgear driver on AWS's SDK (awsiotsdk, awscrt): MQTT 5, mutual TLS, WebSockets with SigV4."""

from switchgear.hookspecs import hookimpl
from switchgear.report import Event


@hookimpl
def on_event(event: Event) -> None:
    """Nothing yet."""
