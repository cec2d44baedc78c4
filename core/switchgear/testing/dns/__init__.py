"""A small authoritative DNS server for tests and demos. It needs dnspython; nothing else in `switchgear.testing` does."""

try:
    import dns.message  # noqa: F401 - asked for here, so that one message says what is missing
except ImportError as error:
    raise ImportError("switchgear.testing.dns needs dnspython: pip install 'switchgear[doctor]'") from error

from switchgear.testing.dns.server import DnsServer, Query
from switchgear.testing.dns.threaded import ThreadedDnsServer
from switchgear.testing.dns.zones import Fault

__all__ = ["DnsServer", "Fault", "Query", "ThreadedDnsServer"]
