"""The loop that people write round paho-mqtt: a broker at random, and ``sleep(min(2**attempt, 30))`` on failure.

It publishes to TOPIC fifty times a second until it is killed. ``python paho_loop.py TOPIC PORT PORT``
"""

import random
import sys
import threading
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def publish(client: paho.Client, topic: str) -> None:
    """Publish for ever; paho keeps what it cannot send."""
    while True:
        client.publish(topic, b"x", 1)
        time.sleep(0.02)


def main() -> None:
    """Connect, and connect again."""
    topic, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho-loop", reconnect_on_failure=False)
    started = False
    attempt = 0
    while True:
        try:
            client.connect("127.0.0.1", random.choice(ports))
        except OSError:
            time.sleep(min(2**attempt, 30))
            attempt += 1
            continue
        attempt = 0
        if not started:
            started = True
            threading.Thread(target=publish, args=(client, topic), daemon=True).start()
            print("ready", flush=True)
        client.loop_forever()


if __name__ == "__main__":
    main()
