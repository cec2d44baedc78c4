"""The CONNECT budget leaves time for what lies between our decision and the packet."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from switchgear.backoff import fleet
from switchgear.connect_budget import FLUSH, LIBRARY, connect_turn
from switchgear.drivers.base import DriverFeatures
from switchgear.endpoint import parse_uri
from switchgear.testing import run_virtual

if TYPE_CHECKING:
    from switchgear.drivers.base import Driver


def a_driver(*, dials_tls: bool) -> Driver:
    return cast("Driver", SimpleNamespace(features=DriverFeatures(dials_tls=dials_tls)))


@pytest.mark.parametrize(
    ("drivers", "way"),
    [((True,), FLUSH), ((False,), LIBRARY), ((True, False), LIBRARY)],
)
def test_a_library_that_dials_on_widens_the_window(drivers: tuple[bool, ...], way: float) -> None:
    """Without time for it, a slow dial and a quick one put more CONNECTs into a second than are allowed."""
    policy = fleet(clients=100, connects_per_second=10)
    limit = int(policy.budget)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(limit):
            driver = a_driver(dials_tls=drivers[number % len(drivers)])
            await connect_turn(parse_uri("mqtts://b"), policy, driver)
        assert loop.time() == began
        await connect_turn(parse_uri("mqtts://b"), policy, a_driver(dials_tls=drivers[0]))
        assert loop.time() - began == pytest.approx(policy.window + way)

    run_virtual(main())


def test_a_library_s_packets_are_counted_on_the_wire() -> None:
    """However late a library's packets come, and in which order, no more of them go in any window than are allowed."""
    policy = fleet(clients=100, connects_per_second=10)
    limit = int(policy.budget)
    sent: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        rng = random.Random(7)

        async def connect() -> None:
            turn = await connect_turn(parse_uri("mqtts://b"), policy, a_driver(dials_tls=False))
            assert turn is not None
            await asyncio.sleep(rng.uniform(0, 3 * policy.window))  # on its way
            await turn()
            sent.append(loop.time())

        await asyncio.gather(*(connect() for _ in range(10 * limit)))

    run_virtual(main())
    assert len(sent) == 10 * limit
    assert all(later >= earlier + policy.window for earlier, later in zip(sent, sent[limit:], strict=False))


def test_others_wait_for_a_library_s_packets() -> None:
    """Transports that send at once, and some that do not, keep the budget of their broker together."""
    policy = fleet(clients=100, connects_per_second=10)
    limit = int(policy.budget)
    sent: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def connect(number: int) -> None:
            turn = await connect_turn(parse_uri("mqtts://b"), policy, a_driver(dials_tls=number % 2 == 0))
            assert turn is not None
            if number % 2:
                await asyncio.sleep(policy.window / 2)
                await turn()
            sent.append(loop.time())

        await asyncio.gather(*(connect(number) for number in range(6 * limit)))

    run_virtual(main())
    assert all(later >= earlier + policy.window for earlier, later in zip(sent, sent[limit:], strict=False))
