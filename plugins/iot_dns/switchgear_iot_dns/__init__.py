"""AWS IoT custom domains that DNS switches from one region to another: followed by devices, led by operators."""

from switchgear.hookspecs import hookimpl
from switchgear.report import Event


@hookimpl
def on_event(event: Event) -> None:
    """Nothing yet."""
