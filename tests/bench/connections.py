"""Two thousand transports in one process: threads, memory, CPU when idle, and what their broker sees when it returns.

Once on each driver; and, for the memory, as many bare clients of AWS's SDK in a process of their own. Memory and CPU are
measured in the process of the transports. CONNECTs are counted by the kernel's time stamps on the loopback interface, in
any second (that takes root), and over TLS in the whole seconds of mosquitto's log.
"""

import argparse
import asyncio
import collections
import ctypes
import gc
import itertools
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import switchgear
from switchgear.testing.processes import Mosquitto, TlsFiles, make_tls_files

COUNT = 2000
RATE = 500.0
IDLE = 10.0
"""Seconds over which the CPU of idle connections is measured."""

DOWN = 3.0
LIMIT = 120.0
"""Seconds after which a step has failed."""

ETH_P_IP = 0x0800
SO_TIMESTAMPNS, SO_ATTACH_FILTER, SO_RCVBUFFORCE = 35, 26, 33  # Linux's; Python has no names for them
SOL_PACKET, PACKET_STATISTICS = 263, 6

NEEDED = {"threads": 10, "idle": 0.05}
KILOBYTES = {("paho", "TCP"): 40.0, ("paho", "TLS"): 80.0, ("awscrt", "TCP"): 70.0, ("awscrt", "TLS"): 70.0}
"""At most so many for each transport, by driver and link."""


def raise_limit() -> None:
    """As many open files as we may have; what we start inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# The process of the transports. One line in, one line of JSON out.


def resident_kb() -> float:
    """Kilobytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


async def hold(driver: str, uri: str, ca_file: str | None, count: int, rate: float) -> None:
    """Hold *count* transports; tell what they cost, and when all of them are back."""
    tls = switchgear.TLS(ca_file=Path(ca_file)) if ca_file else None
    policy = switchgear.fleet(clients=count, connects_per_second=rate)
    protocol = "5" if driver == "awscrt" else None

    def make(number: int) -> switchgear.AsyncTransport:
        name = f"client-{number}"
        return switchgear.aio.connect(
            uri, client_id=name, tls=tls, backoff=policy, driver=driver, protocol=protocol
        ).start()

    first = make(0)  # loads what is loaded once, such as the certificates
    await first.wait_connected(LIMIT)
    gc.collect()
    before = resident_kb()
    started = time.monotonic()
    transports = [first, *(make(number) for number in range(1, count))]
    for transport in transports:
        await transport.wait_connected(LIMIT)
    connected = time.monotonic() - started
    gc.collect()
    each = (resident_kb() - before) / (count - 1)
    await asyncio.sleep(1)
    cpu, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(IDLE)
    idle = (time.process_time() - cpu) / (time.monotonic() - wall)
    tell({"threads": threading.active_count(), "kb_each": each, "idle": idle, "connected_s": connected})
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), gone.set)  # no thread of our own is to be counted
    await gone.wait()
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    deadline = time.monotonic() + LIMIT
    back = 0
    while back < count and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        back = sum(1 for each in transports if each.is_connected and each.stats.connections >= 2)
    tell({"back": back, "at": time.time(), "threads_after": os_threads()})
    await asyncio.gather(*(each.close() for each in transports))


def hold_bare(uri: str, ca_file: str | None, count: int) -> None:
    """Hold *count* bare clients of AWS's SDK, on one event loop and with one TLS context; tell what they cost."""
    from awscrt import io, mqtt5  # type: ignore[import-untyped]  # AWS's SDK has no types; only this process needs it

    group = io.EventLoopGroup(1)
    bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
    sockets = io.SocketOptions()
    sockets.domain = io.SocketDomain.IPv4
    context = None
    if ca_file is not None:
        options = io.TlsContextOptions()
        options.override_default_trust_store(Path(ca_file).read_bytes())
        context = io.ClientTlsContext(options)
    parts = urlsplit(uri)
    turns = threading.Semaphore(0)

    def make(number: int) -> Any:
        client = mqtt5.Client(
            mqtt5.ClientOptions(
                host_name=parts.hostname,
                port=parts.port,
                bootstrap=bootstrap,
                socket_options=sockets,
                tls_ctx=context,
                connect_options=mqtt5.ConnectPacket(client_id=f"client-{number}", keep_alive_interval_sec=60),
                on_lifecycle_event_connection_success_fn=lambda _data: turns.release(),
                disable_metrics=True,
            )
        )
        client.start()
        return client

    clients = [make(0)]
    assert turns.acquire(timeout=LIMIT)
    gc.collect()
    before = resident_kb()
    for number in range(1, count):
        clients.append(make(number))
        time.sleep(1 / RATE)
    for _ in range(1, count):
        assert turns.acquire(timeout=LIMIT)
    gc.collect()
    tell({"kb_each": (resident_kb() - before) / (count - 1)})
    sys.stdin.readline()


def os_threads() -> int:
    """Threads of this process, as the kernel counts them."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - no paths are wanted


def tell(facts: object) -> None:
    """One line of JSON."""
    print(json.dumps(facts), flush=True)


# What goes over the wire.


class Wire:
    """The times at which the kernel passed a CONNECT to *port* on the loopback interface; needs root.

    Neither a busy broker nor a busy client shifts these times, as it would shift what either of them notes.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.times: list[float] = []
        self.lost = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(ETH_P_IP))
        # Classic BPF on an IP header without options: load the half word at 22, the port; keep 256 bytes, or nothing.
        code = struct.pack("HBBI" * 4, 0x28, 0, 0, 22, 0x15, 0, 1, port, 6, 0, 0, 256, 6, 0, 0, 0)
        filter_code = ctypes.create_string_buffer(code)
        program = struct.pack("HL", 4, ctypes.addressof(filter_code))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        self._socket.bind(("lo", ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.settimeout(0.2)
        self._is_over = False
        self._thread = threading.Thread(target=self._read, name="wire", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._is_over = True
        self._thread.join()
        _, self.lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._socket.close()

    def _read(self) -> None:
        while not self._is_over:
            try:
                packet, extra, _, _ = self._socket.recvmsg(128, 64)
            except TimeoutError:
                continue
            tcp = packet[(packet[0] & 15) * 4 :]
            if packet[9] != socket.IPPROTO_TCP or int.from_bytes(tcp[2:4], "big") != self.port:
                continue
            if tcp[(tcp[12] >> 4) * 4 :][:1] == b"\x10":  # CONNECT, MQTT 3.1.1 section 3.1
                seconds, nanoseconds = struct.unpack("qq", extra[0][2])
                self.times.append(seconds + nanoseconds / 1e9)


# The measurement.


class Worker:
    """The process above."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str | None = None) -> Any:
        """Send *line*, if there is one, and return the next answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if line is not None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a process of the bench ended; it says why above")
        return json.loads(answer)

    def close(self) -> None:
        """End it: it sees the end of its input and has a while to close; then it is killed."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def most_in(times: Sequence[float], width: float) -> int:
    """The most of *times*, in order, within any *width* seconds."""
    most, first = 0, 0
    for last, moment in enumerate(times):
        while times[first] <= moment - width:
            first += 1
        most = max(most, last - first + 1)
    return most


def on_mosquitto(driver: str, count: int, tls: TlsFiles | None, folder: Path) -> dict[str, Any]:
    """Memory, threads, CPU and the return, with a real broker."""
    with Mosquitto(folder, tls=tls) as broker:
        arguments = [broker.uri, str(count)] + ([str(tls.ca_file)] if tls is not None else [])
        bare = {}
        if driver == "awscrt":
            worker = Worker("--hold", "bare", *arguments)
            bare = {"bare_kb_each": worker.ask()["kb_each"]}
            worker.close()
        wire = Wire(broker.port) if tls is None and os.geteuid() == 0 else None
        worker = Worker("--hold", driver, *arguments)
        try:
            facts = worker.ask()
            broker.kill()
            time.sleep(DOWN)
            broker.start()
            restarted = time.time()
            facts |= worker.ask("the broker has gone")
        finally:
            worker.close()
            if wire is not None:
                wire.close()
        logged = [entry.time for entry in broker.connects()][count if bare else 0 :]
    if wire is not None:
        facts |= {"peak": most_in(sorted(wire.times), 1.0), "counted": f"{len(wire.times)} on the wire"}
        if wire.lost:
            facts["counted"] += f", {wire.lost} packets not seen"
    else:
        facts |= {"peak": max(collections.Counter(logged).values()), "counted": f"{len(logged)} in the log"}
    facts["back_s"] = facts.pop("at") - restarted
    return {"driver": driver, "link": "TLS" if tls is not None else "TCP", "count": count, **facts, **bare}


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """One row for each driver over TCP, and one over TLS."""
    raise_limit()
    count = 200 if quick else COUNT
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = make_tls_files(folder / "tls")
        for driver, tls in itertools.product(("paho", "awscrt"), (None, files)):
            row = on_mosquitto(driver, count, tls, folder / f"{driver}-{'tcp' if tls is None else 'tls'}")
            row["budget"] = int(switchgear.fleet(clients=count, connects_per_second=RATE).budget)
            row["missed"] = missed(row)
            row["is_met"] = not row["missed"]
            rows.append(row)
    return rows


def missed(row: dict[str, Any]) -> list[str]:
    """The bounds that *row* does not keep."""
    kb = KILOBYTES[row["driver"], row["link"]]
    found = {
        "threads": max(row["threads"], row["threads_after"]) > NEEDED["threads"],
        "memory": row["kb_each"] > kb,
        "idle CPU": row["idle"] >= NEEDED["idle"],
        "all back": row["back"] < row["count"],
        "budget": row["peak"] > row["budget"],
    }
    return [name for name, is_missed in found.items() if is_missed]


def tables(rows: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """One table."""
    head = [
        "driver",
        "link",
        "threads",
        "KB each",
        "bare SDK, KB",
        "idle CPU",
        "back",
        "after, s",
        "most CONNECTs/s",
        "counted",
        "missed",
    ]
    cells = [
        [
            row["driver"],
            row["link"],
            str(max(row["threads"], row["threads_after"])),
            f"{row['kb_each']:.1f}",
            f"{row['bare_kb_each']:.1f}" if "bare_kb_each" in row else "",
            f"{row['idle']:.1%}",
            f"{row['back']} of {row['count']}",
            f"{row['back_s']:.1f}",
            f"{row['peak']} of {row['budget']}",
            row["counted"],
            ", ".join(row["missed"]) or "-",
        ]
        for row in rows
    ]
    title = (
        f"{rows[0]['count']} transports in one process, their broker down for {DOWN:g} s (needed: at most "
        f"{NEEDED['threads']} threads, {NEEDED['idle']:.0%} of one core, the budget, "
        f"{', '.join(f'{kb:g} KB with {driver} over {link}' for (driver, link), kb in KILOBYTES.items())})"
    )
    return [(title, head, cells)]


def what(row: dict[str, Any]) -> str:
    """Which row it is, and what it missed."""
    return f"{row['driver']}, {row['link']}: {', '.join(row['missed'])}"


def main() -> None:
    """The process of the transports; `run.py --only connections` measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hold", nargs="+", required=True)
    options = parser.parse_args()
    raise_limit()
    driver, uri, count, *rest = options.hold
    ca_file = rest[0] if rest else None
    if driver == "bare":
        hold_bare(uri, ca_file, int(count))
    else:
        asyncio.run(hold(driver, uri, ca_file, int(count), RATE))


if __name__ == "__main__":
    main()
