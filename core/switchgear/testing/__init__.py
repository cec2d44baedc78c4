"""The testing kit: virtual time, a network in memory, a scripted driver, and a small broker. For third parties too.

Real brokers in processes of their own are in `switchgear.testing.processes`, which is imported only when asked for.
"""

from switchgear.testing.broker import Broker, Faults, Ledger, Store
from switchgear.testing.clock import StuckError, VirtualLoop, run_virtual
from switchgear.testing.network import Dialled, MemoryNetwork
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
from switchgear.testing.wire import End, Wire, connect_wire

__all__ = [
    "Accept",
    "Answer",
    "Broker",
    "Call",
    "Dialled",
    "End",
    "Fail",
    "Faults",
    "Hang",
    "Ledger",
    "MemoryNetwork",
    "Script",
    "ScriptedConnection",
    "ScriptedDriver",
    "ScriptedLink",
    "Step",
    "Store",
    "StuckError",
    "VirtualLoop",
    "Wire",
    "connect_wire",
    "run_virtual",
]
