"""ActiveMQ and Amazon MQ for Switchgear: ``failover:`` URIs, and topics checked for these brokers."""

from switchgear_activemq.failover import Decision, Plan, plan
from switchgear_activemq.plugin import provide_endpoints, register_commands
from switchgear_activemq.topics import check_topic
from switchgear_activemq.uri import TOLERANCES, Note, Reading, read

SCHEMES = ("failover",)
"""URI schemes that this plugin owns, for messages."""

__all__ = [
    "TOLERANCES",
    "Decision",
    "Note",
    "Plan",
    "Reading",
    "check_topic",
    "plan",
    "provide_endpoints",
    "read",
    "register_commands",
]
