"""A hundred connections in a row, ended in each way that there is, leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from switchgear.drivers.base import AttemptFailed
from switchgear.testing.broker import Broker
from switchgear_awscrt.connection import CrtConnection
from switchgear_awscrt.relay import Relay
from switchgear_awscrt.sdk import sdk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROUNDS = 100


def threads() -> int:
    """Threads of this process, as the kernel counts them."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Which folders of doors are there, of this process only; the path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="sg-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield lambda: [path.name for path in Path(folder).iterdir()]


def clients() -> int:
    """Connections and clients of the SDK that are still there."""
    return sum(1 for each in gc.get_objects() if isinstance(each, CrtConnection | Relay | sdk().mqtt5.Client))


async def settled(count: Callable[[], int], most: int) -> int:
    """What *count* says when it says *most* or less; the SDK ends its sockets in its own time."""
    for _ in range(2000):
        gc.collect()
        if count() <= most:
            break
        await asyncio.sleep(0.01)
    return count()


async def dropped(connection: Any, _broker: Broker) -> None:
    connection.abort()


async def politely(connection: Any, _broker: Broker) -> None:
    await connection.disconnect()


async def by_the_broker(_connection: Any, broker: Broker) -> None:
    broker.kick("c")


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
@pytest.mark.parametrize("end", [dropped, politely, by_the_broker])
async def test_nothing_is_left(
    crt: Any,
    party: Any,
    count_descriptors: Callable[[], int],
    doors: Callable[[], list[str]],
    *,
    scheme: str,
    end: Callable[[Any, Broker], Awaitable[None]],
) -> None:
    """After a hundred connections there are as many threads, descriptors and files as after the first, and no client."""
    held = clients()  # the SDK keeps one that refused a certificate for up to 30 s
    async with Broker() as broker:
        endpoint = crt.endpoint(scheme, await broker.start(ssl=party.server() if scheme == "mqtts" else None))
        before: tuple[int, int] | None = None
        for number in range(ROUNDS + 1):
            driver = crt.driver(tls=party.tls)
            ended = len(broker.ledger.ends())
            connection = await crt.connect(driver, endpoint)
            await end(connection, broker)
            await broker.ledger.until(lambda ended=ended: len(broker.ledger.ends()) > ended)  # type: ignore[misc]
            connection.abort()
            driver.close()
            del connection, driver
            if number == 0:
                await asyncio.sleep(0.1)
                gc.collect()
                before = threads(), count_descriptors()
        assert before is not None
        assert await settled(threads, before[0]) <= before[0]
        assert await settled(count_descriptors, before[1]) <= before[1]
        assert len(broker.ledger.connects()) == ROUNDS + 1
    assert doors() == []
    assert await settled(clients, held) <= held


async def test_refusals_leave_nothing(crt: Any, count_descriptors: Callable[[], int]) -> None:
    """A hundred attempts that end before CONNACK leave nothing either."""
    async with Broker() as broker:
        endpoint = crt.endpoint("mqtt", await broker.start())
        await (await crt.connect(crt.driver(), endpoint)).disconnect()
        broker.faults.refuse(0x88, times=ROUNDS)
        await asyncio.sleep(0.1)
        gc.collect()
        before = threads(), count_descriptors()
        for _ in range(ROUNDS):
            with pytest.raises(AttemptFailed):
                await crt.connect(crt.driver(), endpoint)
        assert await settled(threads, before[0]) <= before[0]
        assert await settled(count_descriptors, before[1]) <= before[1]
