"""The driver awscrt beside AWS's SDK and paho-mqtt, both bare: acknowledged publishes a second, and 2 000 connections.

Publishing: QoS 1, one connection, a mosquitto without logging and without limits of its own; the end is the broker's
acknowledgement of the last message. The SDK is handed all messages at once, on one event loop of its own, as is ours;
paho runs on its own thread, without a limit of messages in flight. Subjects take turns in every round, each for about a
third of a second; shown are medians of rounds and the median ratios within a round.

Connections: memory of a process that holds so many, with ours and with bare clients of the SDK, each a process of its own.
"""

import asyncio
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import switchgear
from awscrt import io, mqtt5
from throughput import FEWEST, LIMIT, MOST, SECONDS, TOPIC, Place, broker, paho_publish

SDK, PAHO = "awscrt", "paho-mqtt"
NEEDED = {SDK: 0.6, PAHO: 1.8}
"""Times what each of them does in the same run, publishing 128 bytes over TCP."""

CASES = [(link, size) for link in ("TCP", "TLS") for size in (128, 4096)]

Publish = Callable[[Place, int, bytes, int], float]


def sdk_publish(place: Place, qos: int, payload: bytes, count: int) -> float:
    """A bare client of the SDK, published from an event loop that runs after every 256: from a thread it is slower."""

    async def work() -> float:
        loop = asyncio.get_running_loop()
        connected, done, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        acknowledged = itertools.count(1)

        def tell(event: asyncio.Event) -> Callable[[], object]:
            return lambda: loop.call_soon_threadsafe(event.set)

        def count_one(_future: object) -> None:
            if next(acknowledged) == count:
                tell(done)()

        group = io.EventLoopGroup(1)
        bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
        client = bare_client(place, bootstrap, "bare", tell(connected), tell(stopped))
        client.start()
        async with asyncio.timeout(LIMIT):
            await connected.wait()
            started = time.perf_counter()
            for number in range(count):
                packet = mqtt5.PublishPacket(payload, mqtt5.QoS(qos), topic=TOPIC)
                client.publish(packet).add_done_callback(count_one)
                if number % 256 == 255:
                    await asyncio.sleep(0)
            await done.wait()
            seconds = time.perf_counter() - started
            client.stop()
            await stopped.wait()
        return seconds

    return asyncio.run(work())


def bare_client(
    place: Place,
    bootstrap: Any,
    client_id: str,
    connected: Callable[[], object] = lambda: None,
    stopped: Callable[[], object] = lambda: None,
) -> Any:
    """A client of the SDK, with the few settings that a bare one needs."""
    sockets = io.SocketOptions()
    sockets.domain = io.SocketDomain.IPv4
    return mqtt5.Client(
        mqtt5.ClientOptions(
            host_name=place.host,
            port=place.port,
            bootstrap=bootstrap,
            socket_options=sockets,
            tls_ctx=_tls_context(place),
            connect_options=mqtt5.ConnectPacket(client_id=client_id, keep_alive_interval_sec=600),
            on_lifecycle_event_connection_success_fn=lambda _data: connected(),
            on_lifecycle_event_stopped_fn=lambda _data: stopped(),
            disable_metrics=True,
        )
    )


def _tls_context(place: Place) -> Any:
    if place.files is None:
        return None
    options = io.TlsContextOptions()
    options.override_default_trust_store(place.files.ca_file.read_bytes())
    return io.ClientTlsContext(options)


def async_publish(place: Place, qos: int, payload: bytes, count: int) -> float:
    """`AsyncTransport` on the driver awscrt, letting the loop run after every 256."""

    async def work() -> float:
        async with switchgear.aio.connect(
            place.uri, client_id="async", tls=place.tls(), driver="awscrt", protocol="5"
        ) as transport:
            await transport.wait_connected(10)
            started = time.perf_counter()
            for number in range(count):
                transport.publish(TOPIC, payload, qos=qos)
                if number % 256 == 255:
                    await asyncio.sleep(0)
            await transport.drain(LIMIT)
            return time.perf_counter() - started

    return asyncio.run(work())


def sync_publish(place: Place, qos: int, payload: bytes, count: int) -> float:
    """`Transport` on the driver awscrt, published from the main thread."""
    with switchgear.connect(place.uri, client_id="sync", tls=place.tls(), driver="awscrt", protocol="5") as transport:
        transport.wait_connected(10)
        started = time.perf_counter()
        for _ in range(count):
            transport.publish(TOPIC, payload, qos=qos)
        transport.drain(LIMIT)
        return time.perf_counter() - started


PUBLISHERS: dict[str, Publish] = {
    PAHO: paho_publish,
    SDK: sdk_publish,
    "AsyncTransport": async_publish,
    "Transport": sync_publish,
}


def publishing(place: Place, link: str, size: int, rounds: int) -> list[dict[str, Any]]:
    payload = bytes(size)
    counts: dict[str, int] = {}
    rates: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for name, publish in PUBLISHERS.items():
            count = counts.get(name, FEWEST)
            found = count / publish(place, 1, payload, count)
            if turn == 0:
                counts[name] = int(min(MOST, max(FEWEST, found * SECONDS)))
            else:
                rates.setdefault(name, []).append(found)
    rows = []
    for name, found_ in rates.items():
        print(
            link,
            size,
            name,
            round(statistics.median(found_)),
            {b: round(statistics.median(m / t for m, t in zip(found_, rates[b])), 2) for b in NEEDED},
        )
    return rows


if __name__ == "__main__":
    with broker() as places:
        for link, size in CASES[: int(sys.argv[1]) if len(sys.argv) > 1 else 9]:
            publishing(places[link], link, size, 5)
