"""Real brokers as processes of their own: mosquitto, and ActiveMQ as an active-standby pair on one store."""

from switchgear.testing.processes.activemq import DEFAULT_USERS, ActiveMQPair, find_activemq
from switchgear.testing.processes.child import BrokerMissing
from switchgear.testing.processes.ledger import LoggedConnect, LoggedDelivery, LoggedPublish, LoggedRelease
from switchgear.testing.processes.mosquitto import Mosquitto, find_mosquitto
from switchgear.testing.processes.ports import free_port, port_accepts, wait_port
from switchgear.testing.processes.relay import Relay
from switchgear.testing.processes.tls_files import TlsFiles, make_tls_files

__all__ = [
    "DEFAULT_USERS",
    "ActiveMQPair",
    "BrokerMissing",
    "LoggedConnect",
    "LoggedDelivery",
    "LoggedPublish",
    "LoggedRelease",
    "Mosquitto",
    "Relay",
    "TlsFiles",
    "find_activemq",
    "find_mosquitto",
    "free_port",
    "make_tls_files",
    "port_accepts",
    "wait_port",
]
