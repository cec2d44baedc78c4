"""The testing kit: virtual time, a network in memory, a scripted driver, a small broker, a fault proxy. For third parties too.

Real brokers in processes of their own are in `switchgear.testing.processes`, which is imported only when asked for.
"""

from switchgear.hook_runner import InlineRunner
from switchgear.testing.broker import Broker, Faults, Ledger, Store
from switchgear.testing.clock import StuckError, VirtualLoop, run_virtual
from switchgear.testing.network import Dialled, MemoryNetwork
from switchgear.testing.proxy import FaultProxy
from switchgear.testing.scripted import (
    Accept,
    Answer,
    Call,
    Fail,
    Hang,
    Script,
    ScriptedConnection,
    ScriptedDriver,
    ScriptedLink,
    Step,
)
from switchgear.testing.threads import BackgroundLoop, ThreadedBroker, ThreadedPair, ThreadedProxy
from switchgear.testing.wire import End, Wire, connect_wire

__all__ = [
    "Accept",
    "Answer",
    "BackgroundLoop",
    "Broker",
    "Call",
    "Dialled",
    "End",
    "Fail",
    "FaultProxy",
    "Faults",
    "Hang",
    "InlineRunner",
    "Ledger",
    "MemoryNetwork",
    "Script",
    "ScriptedConnection",
    "ScriptedDriver",
    "ScriptedLink",
    "Step",
    "Store",
    "StuckError",
    "ThreadedBroker",
    "ThreadedPair",
    "ThreadedProxy",
    "VirtualLoop",
    "Wire",
    "connect_wire",
    "run_virtual",
]
