from __future__ import annotations

import asyncio
import socket

from switchgear.cause import Cause, Failure
from switchgear.drivers.base import DriverSettings
from switchgear.drivers.heartbeat import PING_ANSWER, SLOWEST, Heartbeat
from switchgear.drivers.link import StreamLink
from switchgear.testing import run_virtual

SETTINGS = DriverSettings(client_id="c", protocol="5", keepalive=60, connect_timeout=10.0, ack_timeout=10.0)


class Upload:
    """A large message on a link that carries *rate* bytes a second, then nothing more after *ends* seconds.

    *behind* is the size of a message that lies in the buffers of a proxy.
    """

    def __init__(self, size: int, rate: float, *, ends: float = 1e9, behind: int = 0) -> None:
        self.size, self.rate, self.ends = size, rate, ends
        self.began = asyncio.get_running_loop().time()
        self.failures: list[tuple[float, Failure]] = []
        self.reports = 0
        self.heart = Heartbeat(
            settings=SETTINGS,
            owed=lambda: 1,
            largest=lambda: behind,
            send=self.send,
            progress=lambda: (self.size, self.taken()),
            on_silent=self.silent,
            on_progress=self.moved,
        )
        self.heart.beat()

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return asyncio.get_running_loop().time() - self.began

    def taken(self) -> int:
        """Bytes that the peer has."""
        return min(self.size, int(self.rate * min(self.now, self.ends)))

    def send(self, packet: bytes) -> None:
        """It comes after all that was written before."""
        self.size += len(packet)

    def silent(self, failure: Failure) -> None:
        """The peer is taken for dead."""
        self.failures.append((self.now, failure))

    def moved(self) -> None:
        """The connection still does something."""
        self.reports += 1


def test_a_large_message_on_a_slow_link() -> None:
    """While bytes that were written before PINGREQ still move, no answer is missed; after the last it is missed as always."""

    async def main() -> None:
        upload = Upload(1_000_000, rate=10_000)
        await asyncio.sleep(99)
        assert upload.failures == []
        assert upload.reports > 10
        await asyncio.sleep(20)  # it has all now, and has not answered
        assert [failure.cause for _, failure in upload.failures] == [Cause.KEEPALIVE_TIMEOUT]

    run_virtual(main())


def test_a_large_message_on_a_link_that_is_cut() -> None:
    """Where nothing moves any more the peer is found dead as soon as always: at the first look after the cut."""

    async def main() -> None:
        upload = Upload(1_000_000, rate=10_000, ends=31)
        await asyncio.sleep(31 + 2 * PING_ANSWER)
        assert [failure.cause for _, failure in upload.failures] == [Cause.KEEPALIVE_TIMEOUT]

    run_virtual(main())


def test_a_large_message_in_the_buffers_of_a_proxy() -> None:
    """PINGRESP may take longer by what the message takes on the slowest link, up to one and a half keepalives, not more."""

    async def main() -> None:
        uploads = [Upload(0, rate=1e9, behind=size) for size in (10 * SLOWEST, 1000 * SLOWEST)]
        await asyncio.sleep(200)
        missed = [round(at - 10 - PING_ANSWER) for upload in uploads for at, _ in upload.failures]
        assert missed == [10, 1.5 * SETTINGS.keepalive]

    run_virtual(main())


def test_an_idle_link_is_no_slow_one() -> None:
    """That the peer's system takes PINGREQ itself proves nothing: the one look after it decides."""

    async def main() -> None:
        upload = Upload(0, rate=1e9)
        await asyncio.sleep(10 + PING_ANSWER + 0.1)
        assert [failure.cause for _, failure in upload.failures] == [Cause.KEEPALIVE_TIMEOUT]
        assert upload.reports == 0

    run_virtual(main())


async def test_progress_of_a_socket() -> None:
    """A link tells how much of what it was given the peer has not taken, in asyncio's buffer or in the kernel's."""
    listening = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listening.getsockname())
    theirs, _ = listening.accept()
    listening.close()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(StreamLink, sock=ours)
    size = 32_000_000
    link.write(bytes(size))
    written, taken = link.progress()
    assert written == size
    assert taken < size
    left = size
    while left:
        left -= len(await loop.sock_recv(theirs, 1_000_000))
    while link.progress() != (size, size):  # noqa: ASYNC110 - the kernel's acknowledgement has no event
        await asyncio.sleep(0.001)
    link.abort()
    theirs.close()
    await asyncio.sleep(0)
    assert link.progress()[0] == size
