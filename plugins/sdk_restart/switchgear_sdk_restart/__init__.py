"""The last resort for a wedged SDK, as a Switchgear strategy: rebuild, re-exec or exit, within a budget."""

from switchgear.hookspecs import hookimpl
from switchgear.report import Event


@hookimpl
def on_event(event: Event) -> None:
    """Nothing yet."""
