"""The suite for drivers, where a driver does not pass it."""

from __future__ import annotations

import pytest
from switchgear.testing.driver_contract import DriverContract


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
