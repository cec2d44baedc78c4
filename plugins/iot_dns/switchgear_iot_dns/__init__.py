"""AWS IoT custom domains that DNS switches from one region to another: followed by devices, led by operators."""

from importlib.util import find_spec

if find_spec("dns") is None:  # said now: `switchgear plugins` shows it, and no look-up fails of it later
    raise ImportError("dnspython is missing: pip install dnspython")

from switchgear_iot_dns.dr.plugin import register_commands
from switchgear_iot_dns.lookup import look
from switchgear_iot_dns.options import Settings
from switchgear_iot_dns.plugin import (
    before_reconnect,
    check_options,
    provide_endpoints,
    select_endpoint,
    while_connected,
)
from switchgear_iot_dns.settle import Answer, Decision, Kind, Loss, Settling

SCHEMES = ("iot+dns",)
"""URI schemes that this plugin owns, for messages."""

SESSION = "hunt"
"""Sessions are regional: another target is another broker, also behind an ordinary URI that this plugin follows."""

__all__ = [
    "Answer",
    "Decision",
    "Kind",
    "Loss",
    "Settings",
    "Settling",
    "before_reconnect",
    "check_options",
    "look",
    "provide_endpoints",
    "register_commands",
    "select_endpoint",
    "while_connected",
]
