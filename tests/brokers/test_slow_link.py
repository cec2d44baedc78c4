import time
from collections.abc import Callable

import pytest
import switchgear
from switchgear.testing.processes import Mosquitto, Relay

RATE = 80_000
"""Bytes a second that the link carries."""

LARGE = 5 * RATE
"""Bytes of a message that takes longer than the patience below."""

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


@pytest.mark.parametrize("driver", ["paho", "awscrt"])
def test_a_large_message_over_a_slow_link(
    mosquitto: Callable[..., Mosquitto], relay: Callable[[int], Relay], driver: str
) -> None:
    """A message that takes longer than an answer may gets through at once, and does not begin anew for ever."""
    broker = mosquitto()
    way = relay(broker.port)
    way.slow(rate=RATE)
    with switchgear.connect(
        way.uri, client_id="press-slow", driver=driver, ack_timeout=1.0, connect_timeout=1.0
    ) as transport:
        transport.publish("large", b"x" * LARGE).wait(60)
        assert transport.stats.connections == 1


def test_a_large_message_that_comes_over_a_slow_link(
    mosquitto: Callable[..., Mosquitto], relay: Callable[[int], Relay]
) -> None:
    """PINGRESP behind a message that takes longer than an answer may is waited for: what comes shows that the peer lives."""
    broker = mosquitto()
    way = relay(broker.port)
    heard: list[int] = []
    with (
        switchgear.connect(way.uri, client_id="reader-slow", keepalive=3, connect_timeout=1.0) as reader,
        switchgear.connect(broker.uri, client_id="press-quick") as writer,
    ):
        reader.subscribe("large", lambda message: heard.append(len(message.payload))).wait_ready(30)
        writer.wait_connected(30)
        way.slow(rate=RATE)
        writer.publish("large", b"x" * LARGE).wait(60)
        while not heard:
            assert reader.stats.connections == 1, reader.explain()
            time.sleep(0.01)
    assert heard == [LARGE]
