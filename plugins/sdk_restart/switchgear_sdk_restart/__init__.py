"""The last resort for a wedged SDK, as a Switchgear strategy: rebuild, re-exec or exit, within a budget."""

from switchgear_sdk_restart.budget import Restarted
from switchgear_sdk_restart.options import Options
from switchgear_sdk_restart.plugin import before_reconnect, check_options, history, on_connected, on_disconnect

__all__ = ["Options", "Restarted", "before_reconnect", "check_options", "history", "on_connected", "on_disconnect"]
