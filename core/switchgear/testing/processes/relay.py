"""A TCP relay between a client and a broker, which a test can cut, stall or take away. Touches sockets and threads."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Final, Self

from attrs import define, field

from switchgear.testing.processes.ports import HOST, free_port

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: close() sends RST


class Relay:
    """Relays a loopback port of its own, the same for its whole life, to the loopback port *target*.

    As a context manager it is up from entry and down from exit. Nothing that it passes on is looked at.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._pipes: list[_Pipe] = []
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def __repr__(self) -> str:
        return f"<Relay {self.port} to {self.target} {'up' if self._listener else 'down'}>"

    @property
    def uri(self) -> str:
        """Where to connect in place of `mqtt://` and the target's address."""
        return f"mqtt://{HOST}:{self.port}"

    def up(self) -> None:
        """Take connections from now on."""
        if self._listener is None:
            self._listener = socket.create_server((HOST, self.port), backlog=64)
            self._acceptor = threading.Thread(
                target=self._accept, args=(self._listener,), name=f"relay-{self.port}", daemon=True
            )
            self._acceptor.start()

    def down(self) -> None:
        """End every connection and refuse new ones; no thread is left on return."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends accept()
            listener.close()
        if self._acceptor is not None:
            self._acceptor.join()
            self._acceptor = None
        self.cut()

    def cut(self) -> None:
        """End every connection on both sides, and with it what it was carrying; new ones are taken."""
        with self._lock:
            pipes, self._pipes = self._pipes, []
        for pipe in pipes:
            pipe.cut()
        self._flows.set()
        for pipe in pipes:
            pipe.join()

    def stall(self) -> None:
        """Pass nothing on in either direction, and end no connection: the cable is pulled."""
        self._flows.clear()

    def resume(self) -> None:
        """Pass on what `stall` held back, and what comes."""
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self.target))
            except OSError:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                near.close()
                continue
            pipe = _Pipe(near, far, self._flows)
            with self._lock:
                self._pipes = [each for each in self._pipes if each.is_alive] + [pipe]
            pipe.start()


@define(eq=False)
class _Pipe:
    """One connection: two threads, one for each direction; the last one to end closes both sockets."""

    near: socket.socket
    far: socket.socket
    flows: threading.Event
    _is_cut: bool = False
    _left: int = 2
    _lock: threading.Lock = field(factory=threading.Lock)
    _threads: list[threading.Thread] = field(factory=list)

    def start(self) -> None:
        for source, sink in ((self.near, self.far), (self.far, self.near)):
            self._threads.append(threading.Thread(target=self._pump, args=(source, sink), name="relay", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        return self._left > 0

    def cut(self) -> None:
        self._is_cut = True
        for each in (self.near, self.far):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RD)  # ends recv()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.flows.wait()
                if self._is_cut:
                    break
                sink.sendall(data)
            if not self._is_cut:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self.near.close()
            self.far.close()
