from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from switchgear.cli.demo_ledger import DemoLedger, Switch


def publish(ledger: DemoLedger, count: int) -> list[bytes]:
    payloads = []
    for _ in range(count):
        payloads.append(ledger.accept())
        ledger.accepted()
    return payloads


@given(count=st.integers(0, 50), arrivals=st.lists(st.integers(0, 49), max_size=100))
def test_every_message_is_counted_once(count: int, arrivals: list[int]) -> None:
    """Whatever arrives in whatever order: distinct ones are delivered, the rest duplicates, what is missing is lost."""
    ledger = DemoLedger()
    payloads = publish(ledger, count)
    came = [payloads[number] for number in arrivals if number < count]
    for payload in came:
        ledger.arrive(payload)
    assert ledger.published == count
    assert ledger.delivered == len(set(came))
    assert ledger.lost == count - len(set(came))
    assert ledger.duplicates == len(came) - len(set(came))


def test_foreign_messages_are_no_deliveries() -> None:
    """A payload that is no number of ours is counted apart."""
    ledger = DemoLedger()
    publish(ledger, 3)
    for payload in (b"", b"x", b"-1", b"7", b"9" * 50, "²".encode()):
        ledger.arrive(payload)
    assert (ledger.delivered, ledger.foreign, ledger.lost) == (0, 6, 3)


def test_facts() -> None:
    """The facts name every count and one number for each switch."""
    ledger = DemoLedger()
    ledger.arrive(publish(ledger, 2)[0])
    ledger.switches.append(Switch(number=1, killed_at=1.0, opened_at=1.5, first_message=0.0404))
    assert ledger.facts() == {
        "published": 2,
        "delivered": 1,
        "lost": 1,
        "duplicates": 0,
        "switches": 1,
        "reconnect_ms": [40.4],
        "down_ms": [500.0],
        "killed_at_s": [1.0],
    }
