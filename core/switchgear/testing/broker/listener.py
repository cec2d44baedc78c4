"""One listening address of a broker: it keeps its port from the first start on, also while it refuses connections.

Touches sockets. A port that is reserved is bound and does not listen, so that a connect is refused and nobody else
is given the port. Without that, a client that tries again and again to reach a dead broker on its own machine may be
given that very port as its source port, and connect to itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable


class Listener:
    """An address at which clients are served while it is open, and refused while it is reserved.

    `port` is 0 until the first `reserve` if the system is to choose it.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        *,
        host: str,
        port: int,
        ssl: tls.SSLContext | None,
        scheme: str,
    ) -> None:
        self.host = host
        self.port = port
        self.scheme = scheme
        self._factory = factory
        self._ssl = ssl
        self._reserved: int | None = None  # a descriptor: a socket object would complain when it is left behind
        self._server: asyncio.Server | None = None

    def __del__(self) -> None:
        self._give_back()

    @property
    def uri(self) -> str:
        """Where a client connects to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether clients are served."""
        return self._server is not None

    def reserve(self) -> None:
        """Take the port and refuse connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._reserved is None:
            self._reserved = self._bind().detach()

    def release(self) -> None:
        """Give the port back to the system; `port` still names it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._give_back()

    async def open(self) -> None:
        """Serve clients."""
        if self._server is not None:
            return
        self.reserve()
        bound = socket.socket(fileno=self._reserved)
        self._reserved = None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._factory, sock=bound, ssl=self._ssl, backlog=1024)

    def _give_back(self) -> None:
        if self._reserved is not None:
            os.close(self._reserved)
            self._reserved = None

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setblocking(False)
            bound.bind((self.host, self.port))
        except BaseException:
            bound.close()
            raise
        self.port = bound.getsockname()[1]
        return bound
