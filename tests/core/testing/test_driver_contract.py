"""The suite for drivers, where a driver does not pass it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from switchgear.drivers.base import ConnectRequest, DeafListener, Driver, DriverSettings, Link, Listener
from switchgear.drivers.paho import PahoDriver
from switchgear.testing import driver_contract
from switchgear.testing.driver_contract import DriverContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchgear.drivers.flow import PahoConnection


def test_a_driver_that_hangs_on_random_bytes_is_tried_twice() -> None:
    """The first example that fails ends the test; no time is spent on looking for a shorter one that hangs as well."""

    class Hanging(DriverContract):
        seen = 0

        def _random_bytes(self, _data: bytes) -> None:
            self.seen += 1
            raise TimeoutError

    contract = Hanging()
    with pytest.raises(TimeoutError):
        contract.test_random_bytes()
    assert contract.seen <= 2


def notes_of(error: BaseException | None) -> Iterator[str]:
    """What was noted of *error*, and of what it comes from."""
    while error is not None:
        yield from getattr(error, "__notes__", ())
        error = error.__cause__ or error.__context__


def test_a_driver_that_takes_malformed_packets_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packet is named after which a driver did not end its connection, though only time ran out."""

    class Mute(PahoDriver):
        async def connect(self, link: Link, request: ConnectRequest, listener: Listener) -> PahoConnection:
            return await super().connect(link, request, DeafListener())

    class Taking(DriverContract):
        def make_driver(self, settings: DriverSettings) -> Driver:
            return Mute(settings)

    monkeypatch.setattr(driver_contract, "LONGEST", 0.5)
    with pytest.raises(TimeoutError) as caught:
        Taking().test_malformed()
    assert list(notes_of(caught.value)) == ["the driver did not end the connection after type 0"]
