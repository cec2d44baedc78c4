"""Ask an HTTP proxy to connect us (RFC 9110, 9.3.6). Does I/O on its link."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

from switchgear.cause import Cause, Failure
from switchgear.drivers.base import AttemptFailed

if TYPE_CHECKING:
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint

    from switchgear_awscrt.options import Proxy

LONGEST_ANSWER: Final = 16_384
"""Bytes of a proxy's answer; a page of explanation may follow a refusal, and is not read."""


class _Answer:
    """The head of the proxy's answer."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Part of `switchgear.drivers.link_base.Sink`."""
        self._data += data
        head, end, _ = self._data.partition(b"\r\n\r\n")
        if not self.head.done() and (end or len(self._data) > LONGEST_ANSWER):
            self.head.set_result(head)

    def link_writable(self) -> None:
        """Part of `switchgear.drivers.link_base.Sink`."""

    def link_lost(self, _error: BaseException | None) -> None:
        """Part of `switchgear.drivers.link_base.Sink`."""
        if not self.head.done():
            self.head.set_result(b"")


async def ask_proxy(stream: ByteLink, proxy: Proxy, password: bytes, endpoint: Endpoint, timeout: float) -> None:
    """Have the proxy at the other end of *stream* connect to *endpoint*, within *timeout* seconds; *password* is its own.

    Raises:
        AttemptFailed: it refuses, says nothing, or does not speak HTTP.
    """
    where = f"proxy {proxy.host}:{proxy.port}"
    target = endpoint.authority if endpoint.address is None else _authority(endpoint.address, endpoint.port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username is not None:
        credentials = base64.b64encode(proxy.username.encode() + b":" + password).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    answer = _Answer()
    stream.attach(answer)
    stream.write("\r\n".join([*lines, "", ""]).encode())
    try:
        async with asyncio.timeout(timeout):
            head = await answer.head
    except TimeoutError as error:
        raise AttemptFailed(Failure(Cause.CONNECT_TIMEOUT, f"{where} did not answer in {timeout:g} s")) from error
    status = head.partition(b"\r\n")[0].decode("latin-1")[:80]
    words = status.split(" ", 2)
    if not words[0].startswith("HTTP/1.") or len(words) < 2:
        raise AttemptFailed(Failure(Cause.UNREACHABLE, f"{where} does not speak HTTP, or closed the connection"))
    if not words[1].startswith("2"):
        hint = "; check http_proxy.username and http_proxy.password" if words[1] == "407" else ""
        raise AttemptFailed(Failure(Cause.UNREACHABLE, f"{where} says {' '.join(words[1:])} for {target}{hint}"))


def _authority(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
