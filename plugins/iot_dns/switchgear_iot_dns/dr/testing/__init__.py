"""An AWS for tests on loopback: moto behind a proxy that enforces, breaks and forgets; fleets tied to embedded brokers.

It needs moto; nothing else of this distribution does.
"""

from switchgear_iot_dns.dr.testing.bench import Bench
from switchgear_iot_dns.dr.testing.clock import SteppingClock
from switchgear_iot_dns.dr.testing.exchanges import Seen
from switchgear_iot_dns.dr.testing.fake_aws import FakeAws
from switchgear_iot_dns.dr.testing.fleets import BrokerFleet, Fleet, ListedFleet

__all__ = ["Bench", "BrokerFleet", "FakeAws", "Fleet", "ListedFleet", "Seen", "SteppingClock"]
