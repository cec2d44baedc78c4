"""Ours: publishes fifty times a second until it is killed, and tells when the first message after an outage is acknowledged.

``python switchgear_client.py POLICY TOPIC WHERE...`` with POLICY ``fleet`` or ``default``; a line of output for each
acknowledgement that comes after half a second without one: the time on the monotonic clock.
"""

import logging
import sys
import time

import switchgear


def main() -> None:
    """Publish."""
    policy, topic, *where = sys.argv[1:]
    logging.getLogger("switchgear").addHandler(logging.NullHandler())
    backoff = switchgear.fleet(clients=1, connects_per_second=50) if policy == "fleet" else switchgear.exponential()
    last = 0.0

    def acknowledged(_delivery: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.4:
            print(now, flush=True)
        last = now

    place = where if len(where) > 1 else where[0]
    with switchgear.connect(place, client_id=topic.replace("/", "-"), backoff=backoff) as transport:
        while True:
            transport.publish(topic, b"x").add_done_callback(acknowledged)
            time.sleep(0.02)


if __name__ == "__main__":
    main()
